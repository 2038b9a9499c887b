//! The B-tree engine. Every call of redb in this project is in this module.

pub(crate) mod disk;

use std::path::Path;

use crate::{Batch, Durability, Engine, EngineStats, FaultDisk, KvError, Snapshot, VerifyReport};

/// How a B-tree engine is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedbOptions {
    /// Page cache in bytes. Default 16 MiB. The process may take up to twice as much while reading.
    pub cache_bytes: usize,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: crate::limits::CACHE_BYTES_DEFAULT,
        }
    }
}

/// A B-tree in one file.
#[derive(Debug)]
pub struct RedbEngine {}

#[expect(clippy::unimplemented, reason = "bodies follow")]
#[expect(unused_variables, reason = "bodies follow")]
impl RedbEngine {
    /// Opens the file at `path`, or creates it.
    ///
    /// # Errors
    ///
    /// [`KvError::Locked`], [`KvError::CorruptFile`], [`KvError::Io`].
    pub fn open(path: impl AsRef<Path>, options: &RedbOptions) -> Result<Self, KvError> {
        unimplemented!()
    }

    /// Opens the engine on a disk in memory that can fail.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_disk(disk: &FaultDisk, options: &RedbOptions) -> Result<Self, KvError> {
        unimplemented!()
    }
}

#[expect(clippy::unimplemented, reason = "bodies follow")]
#[expect(unused_variables, reason = "bodies follow")]
impl Engine for RedbEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError> {
        unimplemented!()
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        unimplemented!()
    }

    fn sync(&self) -> Result<(), KvError> {
        unimplemented!()
    }

    fn verify(&self) -> Result<VerifyReport, KvError> {
        unimplemented!()
    }

    fn compact(&self) -> Result<bool, KvError> {
        unimplemented!()
    }

    fn stats(&self) -> EngineStats {
        unimplemented!()
    }
}

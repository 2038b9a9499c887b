//! A multi-version table in memory in front of an engine.

use std::ops::ControlFlow;

use crate::{Batch, Engine, KvError, Snapshot, Table};

/// Commits in memory over an engine.
#[derive(Debug)]
pub struct Overlay {
    engine: Box<dyn Engine>,
}

/// A consistent view of an [`Overlay`]. Cheap to take and to clone.
#[derive(Debug, Clone)]
pub struct OverlaySnapshot {}

#[expect(clippy::unimplemented, reason = "bodies follow")]
#[expect(unused_variables, reason = "bodies follow")]
impl Overlay {
    /// Puts an empty overlay in front of `engine` and reads the position it has reached.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn open(engine: Box<dyn Engine>) -> Result<Self, KvError> {
        unimplemented!()
    }

    /// Makes `batch` visible to snapshots taken from now on. `position` is that of its log frame.
    ///
    /// # Panics
    ///
    /// If `position` is not above all positions before it.
    pub fn apply(&self, batch: &Batch, position: u64) {
        unimplemented!()
    }

    /// A view of everything applied so far. Takes well under a microsecond; it keeps what it sees
    /// from being freed, so drop it soon.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn snapshot(&self) -> Result<OverlaySnapshot, KvError> {
        unimplemented!()
    }

    /// Moves everything applied so far to the engine, in one durable commit with its position, and
    /// frees it here. Blocks neither readers nor writers. Returns the position reached, which is
    /// where a replay of the log has to begin; the log can be trimmed there.
    ///
    /// `barrier` is called first with the position that is about to be flushed: it must make the log
    /// durable up to there, or the engine would be ahead of the log after a loss of power.
    ///
    /// # Errors
    ///
    /// The error of `barrier` or of the engine. Nothing is lost from memory; a later flush tries
    /// again.
    pub fn flush(&self, barrier: impl FnOnce(u64) -> Result<(), KvError>) -> Result<u64, KvError> {
        unimplemented!()
    }

    /// Position up to which the engine holds everything, durably. 0 for an empty engine.
    #[must_use]
    pub fn flushed_position(&self) -> u64 {
        unimplemented!()
    }

    /// Position of the last batch applied.
    #[must_use]
    pub fn applied_position(&self) -> u64 {
        unimplemented!()
    }

    /// Memory taken by what was not flushed yet, in bytes: flush above 4 MiB, hold writers back
    /// above a multiple of it.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// The engine, for `verify`, `stats` and the like. Committing to it behind the overlay's back
    /// breaks the overlay's snapshots.
    #[must_use]
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Flushes nothing, but lets go of the engine's snapshot and compacts the engine.
    ///
    /// # Errors
    ///
    /// The engine's error.
    pub fn compact(&self) -> Result<bool, KvError> {
        unimplemented!()
    }
}

#[expect(clippy::unimplemented, reason = "bodies follow")]
#[expect(unused_variables, reason = "bodies follow")]
impl Snapshot for OverlaySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        unimplemented!()
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), KvError> {
        unimplemented!()
    }
}

//! A disk in memory for tests and the simulator.

use std::sync::atomic::{AtomicU64, Ordering};

use idem_kv::{FaultEngine, MemoryEngine};
use idem_log::{FaultStorage, MemoryStorage};

use crate::head::Identity;

/// A disk in memory that keeps its content between openings, loses power and fails on request.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    files: MemoryStorage,
    log: FaultStorage,
    tables: MemoryEngine,
    engine: FaultEngine,
    number: u64,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryStorage::default(), MemoryEngine::new())
    }

    fn with(files: MemoryStorage, tables: MemoryEngine) -> Self {
        // Copies within one process must differ; the number says nothing else.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            log: FaultStorage::wrap(files.clone()),
            engine: FaultEngine::wrap(tables.clone()),
            files,
            tables,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Power loss: of what was written to the log but not synced, `seed` decides what is kept, lost or
    /// torn. Drop every store on this disk before, without closing it. The engine commits atomically
    /// and only what was synced, so it keeps what it has.
    pub fn crash(&self, seed: u64) {
        self.files.crash(seed);
    }

    /// A copy of the disk as it is, without its faults: what a backup or a cloned device is.
    #[must_use]
    pub fn copy(&self) -> Self {
        let tables = self.tables.copy();
        Self::with(self.files.copy(), tables)
    }

    /// The log's files, to inject faults.
    #[must_use]
    pub fn log(&self) -> &FaultStorage {
        &self.log
    }

    /// The log's files, to damage what is stored.
    #[must_use]
    pub fn files(&self) -> &MemoryStorage {
        &self.files
    }

    /// The engine, to inject faults.
    #[must_use]
    pub fn engine(&self) -> &FaultEngine {
        &self.engine
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity([self.number, 0, 0, 2])
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

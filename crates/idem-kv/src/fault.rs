//! An engine that fails on demand.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    Batch, Durability, Engine, EngineStats, KvError, RekeyProgress, Snapshot, Table, VerifyReport,
    Visit,
};

/// What a [`FaultEngine`] does wrong. Counts begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineFault {
    /// The n-th commit fails, and nothing of it is applied.
    Commit(u64),
    /// The n-th commit is applied, but reported as failed: what a crash after the write looks like.
    CommitUnknown(u64),
    /// The n-th commit finds the disk full.
    Full(u64),
    /// The n-th explicit sync fails.
    Sync(u64),
    /// The n-th value read, by a get or inside a scan, turns out to be damaged.
    Read(u64),
}

/// Wraps another engine and injects faults. Clones share counters and faults.
#[derive(Debug, Clone)]
pub struct FaultEngine {
    inner: Arc<dyn Engine>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Mutex<Vec<EngineFault>>,
    commits: AtomicU64,
    syncs: AtomicU64,
    reads: AtomicU64,
}

impl Plan {
    fn hit(&self, fault: EngineFault) -> bool {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&fault)
    }

    fn read(&self, table: Table, key: &[u8]) -> Result<(), KvError> {
        let count = self.reads.fetch_add(1, SeqCst) + 1;
        if self.hit(EngineFault::Read(count)) {
            return Err(KvError::Corrupt {
                table,
                key: key.to_vec(),
            });
        }
        Ok(())
    }
}

impl FaultEngine {
    /// Wraps `inner` without any fault yet.
    #[must_use]
    pub fn wrap(inner: impl Engine + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
            plan: Arc::default(),
        }
    }

    /// Adds a fault. Counting began when the engine was wrapped.
    pub fn inject(&self, fault: EngineFault) {
        self.plan
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fault);
    }

    /// Removes all faults; the counters run on.
    pub fn heal(&self) {
        self.plan
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Commits so far, failed ones included.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.plan.commits.load(SeqCst)
    }
}

fn injected(operation: &'static str) -> KvError {
    KvError::Io {
        operation,
        source: Arc::new(io::Error::other("injected fault")),
    }
}

impl Engine for FaultEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError> {
        let inner = self.inner.snapshot()?;
        Ok(Box::new(FaultSnapshot {
            inner,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        let count = self.plan.commits.fetch_add(1, SeqCst) + 1;
        if self.plan.hit(EngineFault::Commit(count)) {
            return Err(injected("commit"));
        }
        if self.plan.hit(EngineFault::Full(count)) {
            let needed = batch.as_bytes().len() as u64;
            return Err(KvError::Full {
                needed,
                source: Arc::new(io::ErrorKind::StorageFull.into()),
            });
        }
        self.inner.commit(batch, durability)?;
        if self.plan.hit(EngineFault::CommitUnknown(count)) {
            return Err(injected("commit"));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        let count = self.plan.syncs.fetch_add(1, SeqCst) + 1;
        if self.plan.hit(EngineFault::Sync(count)) {
            return Err(injected("sync"));
        }
        self.inner.sync()
    }

    fn verify(&self) -> Result<VerifyReport, KvError> {
        self.inner.verify()
    }

    fn compact(&self) -> Result<bool, KvError> {
        self.inner.compact()
    }

    fn rekey(&self, from: u64) -> Result<RekeyProgress, KvError> {
        self.inner.rekey(from)
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

struct FaultSnapshot {
    inner: Box<dyn Snapshot>,
    plan: Arc<Plan>,
}

impl Snapshot for FaultSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let found = self.inner.get(table, key)?;
        if found.is_some() {
            self.plan.read(table, key)?;
        }
        Ok(found)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        let mut failed = None;
        self.inner
            .scan(
                table,
                from,
                to,
                reverse,
                &mut |key, value| match self.plan.read(table, key) {
                    Ok(()) => visit(key, value),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                },
            )?;
        failed.map_or(Ok(()), Err)
    }
}

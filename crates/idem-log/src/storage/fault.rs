//! A storage that fails on demand.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{LogStorage, Segment};

/// What a [`FaultStorage`] does wrong. Counts begin at 1 and run over all files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The n-th write fails, and none of it is written.
    Write(u64),
    /// The n-th write fails after `bytes` of its bytes.
    TornWrite {
        /// Which write.
        nth: u64,
        /// How many of its bytes are written all the same.
        bytes: usize,
    },
    /// The n-th sync fails.
    Sync(u64),
    /// Files may grow by no more than so many bytes in total.
    DiskBytes(u64),
    /// The n-th read returns its bytes with the lowest bit of the first one inverted.
    ReadFlip(u64),
}

/// Wraps another storage and injects faults. Clones share counters and faults.
#[derive(Debug, Clone)]
pub struct FaultStorage {
    inner: Arc<dyn LogStorage>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Mutex<Vec<Fault>>,
    writes: AtomicU64,
    syncs: AtomicU64,
    reads: AtomicU64,
    grown_bytes: AtomicU64,
}

impl FaultStorage {
    /// Wraps `inner` without any fault yet.
    #[must_use]
    pub fn wrap(inner: impl LogStorage + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
            plan: Arc::default(),
        }
    }

    /// Adds a fault. Counting began when the storage was wrapped.
    pub fn inject(&self, fault: Fault) {
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

    /// Writes so far, failed ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.plan.writes.load(SeqCst)
    }

    /// Syncs so far, failed ones included.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.plan.syncs.load(SeqCst)
    }
}

impl Plan {
    fn find<T>(&self, choose: impl FnMut(&Fault) -> Option<T>) -> Option<T> {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find_map(choose)
    }
}

impl LogStorage for FaultStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let inner = self.inner.create(name)?;
        Ok(Arc::new(FaultSegment {
            inner,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let inner = self.inner.open(name)?;
        Ok(Arc::new(FaultSegment {
            inner,
            plan: Arc::clone(&self.plan),
        }))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.inner.delete(name)
    }
}

#[derive(Debug)]
struct FaultSegment {
    inner: Arc<dyn Segment>,
    plan: Arc<Plan>,
}

impl Segment for FaultSegment {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let growth = len.saturating_sub(self.inner.len()?);
        let total = self.plan.grown_bytes.fetch_add(growth, SeqCst) + growth;
        let limit = self.plan.find(|fault| match fault {
            Fault::DiskBytes(bytes) => Some(*bytes),
            _ => None,
        });
        if limit.is_some_and(|limit| total > limit) {
            self.plan.grown_bytes.fetch_sub(growth, SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.allocate(len)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let count = self.plan.reads.fetch_add(1, SeqCst) + 1;
        self.inner.read_at(offset, into)?;
        if self
            .plan
            .find(|fault| (*fault == Fault::ReadFlip(count)).then_some(()))
            .is_some()
            && let Some(byte) = into.first_mut()
        {
            *byte ^= 1;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let count = self.plan.writes.fetch_add(1, SeqCst) + 1;
        let kept = self.plan.find(|fault| match fault {
            Fault::Write(nth) if *nth == count => Some(0),
            Fault::TornWrite { nth, bytes } if *nth == count => Some(*bytes),
            _ => None,
        });
        match kept {
            None => self.inner.write_at(offset, bytes),
            Some(kept) => {
                self.inner
                    .write_at(offset, &bytes[..kept.min(bytes.len())])?;
                Err(io::Error::other("injected write fault"))
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let count = self.plan.syncs.fetch_add(1, SeqCst) + 1;
        if self
            .plan
            .find(|fault| (*fault == Fault::Sync(count)).then_some(()))
            .is_some()
        {
            return Err(io::Error::other("injected sync fault"));
        }
        self.inner.sync_data()
    }
}

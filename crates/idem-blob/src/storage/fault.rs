//! A storage that fails on demand.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crate::storage::{BlobFile, BlobStorage, FileEntry};

/// What a [`FaultStorage`] does wrong. Counts begin at 1 and run over all files together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The n-th write fails after `bytes` of its bytes.
    Write {
        /// Which write.
        nth: u64,
        /// How many of its bytes are written all the same.
        bytes: usize,
    },
    /// The n-th sync fails.
    Sync(u64),
    /// The n-th creating or renaming of a file fails.
    Name(u64),
    /// So many bytes can be written from the start on, then the disk is full.
    DiskBytes(u64),
    /// The n-th read gives its bytes with the lowest bit of the first one inverted.
    ReadFlip(u64),
}

/// Wraps another storage and injects faults. Clones share counters and faults.
#[derive(Debug, Clone)]
pub struct FaultStorage {
    inner: Arc<dyn BlobStorage>,
    plan: Arc<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Mutex<Vec<Fault>>,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    names: AtomicU64,
    reads: AtomicU64,
}

impl FaultStorage {
    /// Wraps `inner` without any fault yet.
    pub fn wrap(inner: impl BlobStorage + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
            plan: Arc::default(),
        }
    }

    /// Adds a fault. Counting began when the storage was wrapped.
    pub fn inject(&self, fault: Fault) {
        let mut faults = self
            .plan
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        faults.push(fault);
    }

    /// Removes all faults; the counters run on.
    pub fn heal(&self) {
        let mut faults = self
            .plan
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        faults.clear();
    }

    /// Writes, syncs, creations or renamings, and reads so far, failed ones included.
    pub fn counts(&self) -> [u64; 4] {
        let Plan {
            writes,
            syncs,
            names,
            reads,
            ..
        } = &*self.plan;
        [writes, syncs, names, reads].map(|count| count.load(SeqCst))
    }

    fn wrap_file(&self, inner: Arc<dyn BlobFile>) -> Arc<dyn BlobFile> {
        Arc::new(FaultFile {
            inner,
            plan: Arc::clone(&self.plan),
        })
    }
}

impl Plan {
    fn find<T>(&self, choose: impl FnMut(&Fault) -> Option<T>) -> Option<T> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().find_map(choose)
    }

    fn fail_if(&self, fault: Fault) -> io::Result<()> {
        match self.find(|it| (*it == fault).then_some(())) {
            None => Ok(()),
            Some(()) => Err(io::Error::other("injected fault")),
        }
    }

    fn name(&self) -> io::Result<()> {
        self.fail_if(Fault::Name(self.names.fetch_add(1, SeqCst) + 1))
    }
}

impl BlobStorage for FaultStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.inner.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        self.plan.name()?;
        Ok(self.wrap_file(self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        Ok(self.wrap_file(self.inner.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.plan.name()?;
        self.inner.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.inner.delete(name)
    }

    fn touch(&self, name: &str, now_ms: u64) -> io::Result<()> {
        self.inner.touch(name, now_ms)
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn BlobFile>,
    plan: Arc<Plan>,
}

impl BlobFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let count = self.plan.reads.fetch_add(1, SeqCst) + 1;
        self.inner.read_at(offset, into)?;
        if self.plan.fail_if(Fault::ReadFlip(count)).is_err()
            && let Some(byte) = into.first_mut()
        {
            *byte ^= 1;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let count = self.plan.writes.fetch_add(1, SeqCst) + 1;
        let before = self
            .plan
            .written_bytes
            .fetch_add(bytes.len() as u64, SeqCst);
        let room = self.plan.find(|fault| match fault {
            Fault::DiskBytes(limit) => Some(limit.saturating_sub(before)),
            _ => None,
        });
        if let Some(room) = room.filter(|room| *room < bytes.len() as u64) {
            let fits = usize::try_from(room).unwrap_or(0);
            self.inner.write_at(offset, &bytes[..fits])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let kept = self.plan.find(|fault| match fault {
            Fault::Write { nth, bytes } if *nth == count => Some(*bytes),
            _ => None,
        });
        match kept {
            None => self.inner.write_at(offset, bytes),
            Some(kept) => {
                self.inner
                    .write_at(offset, &bytes[..kept.min(bytes.len())])?;
                Err(io::Error::other("injected fault"))
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let count = self.plan.syncs.fetch_add(1, SeqCst) + 1;
        self.plan.fail_if(Fault::Sync(count))?;
        self.inner.sync()
    }
}

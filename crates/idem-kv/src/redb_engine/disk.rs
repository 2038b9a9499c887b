//! A file in memory under the B-tree engine that loses unsynced writes and fails on demand.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a [`FaultDisk`] does wrong. Counts begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// The n-th write fails after so many of its bytes.
    Write {
        /// Which write.
        nth: u64,
        /// How many of its bytes are written all the same.
        bytes: usize,
    },
    /// The n-th sync fails.
    Sync(u64),
    /// The file cannot grow beyond so many bytes.
    DiskBytes(u64),
}

/// A disk in memory. Clones share it, so that an engine can be dropped and reopened.
///
/// A fault that struck stays: every later write and sync fails too, until [`heal`](Self::heal).
#[derive(Debug, Clone, Default)]
pub struct FaultDisk {
    images: Arc<Mutex<Images>>,
}

#[derive(Debug, Clone, Default)]
struct Images {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    faults: Vec<DiskFault>,
    struck: bool,
    writes: u64,
    syncs: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Length(length) => image.resize(*length, 0),
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl FaultDisk {
    /// Adds a fault. Counting began when the disk was made.
    pub fn inject(&self, fault: DiskFault) {
        self.images().faults.push(fault);
    }

    /// Removes all faults; the counters run on.
    pub fn heal(&self) {
        let mut images = self.images();
        images.faults.clear();
        images.struck = false;
    }

    /// Whether a write or a sync has failed since the disk was made or healed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.images().struck
    }

    /// Writes so far, failed ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.images().writes
    }

    /// Syncs so far, failed ones included.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.images().syncs
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.images().live.len() as u64
    }

    /// Loses power: each write since the last sync is kept, dropped, or cut at one of its bytes, in
    /// any combination that `seed` chooses.
    pub fn crash(&self, seed: u64) {
        let mut random = Random(seed);
        let mut images = self.images();
        for change in std::mem::take(&mut images.unsynced) {
            let kept = match (random.below(3), change) {
                (0, _) => continue,
                (1, change) | (_, change @ Change::Length(_)) => change,
                (_, Change::Write(offset, mut bytes)) => {
                    let cut = random.below(bytes.len() + 1);
                    if random.below(2) == 0 {
                        bytes.truncate(cut);
                        Change::Write(offset, bytes)
                    } else {
                        Change::Write(offset + cut, bytes.split_off(cut))
                    }
                }
            };
            kept.apply(&mut images.durable);
        }
        images.live = images.durable.clone();
    }

    /// Inverts one bit, as a failing medium does. Returns false if the file is shorter.
    #[must_use]
    pub fn flip_bit(&self, bit: u64) -> bool {
        let mut images = self.images();
        let byte = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        let Images { live, durable, .. } = &mut *images;
        for image in [live, durable] {
            let Some(byte) = image.get_mut(byte) else {
                return false;
            };
            *byte ^= 1 << (bit % 8);
        }
        true
    }

    /// Cuts the file off after so many bytes.
    pub fn truncate(&self, bytes: usize) {
        let mut images = self.images();
        images.live.truncate(bytes);
        images.durable.truncate(bytes);
    }

    /// The bytes of the file.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.images().live.clone()
    }

    /// Copies the file into a disk of its own without faults.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut images = self.images().clone();
        images.faults.clear();
        images.struck = false;
        Self {
            images: Arc::new(Mutex::new(images)),
        }
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn check(&self) -> io::Result<()> {
        if self.struck {
            Err(io::Error::other("injected fault"))
        } else {
            Ok(())
        }
    }

    fn grow(&mut self, length: u64) -> io::Result<()> {
        let full = self.faults.iter().any(|fault| match fault {
            DiskFault::DiskBytes(limit) => length > *limit,
            _ => false,
        });
        if full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl redb::StorageBackend for FaultDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let images = self.images();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = start
            .checked_add(out.len())
            .and_then(|end| images.live.get(start..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut images = self.images();
        images.check()?;
        if len > images.live.len() as u64 {
            images.grow(len)?;
        }
        let length = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
        images.change(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut images = self.images();
        images.check()?;
        images.syncs += 1;
        if images.faults.contains(&DiskFault::Sync(images.syncs)) {
            images.struck = true;
            return Err(io::Error::other("injected sync fault"));
        }
        let Images {
            durable, unsynced, ..
        } = &mut *images;
        unsynced.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut images = self.images();
        images.check()?;
        images.writes += 1;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        let writes = images.writes;
        let cut = images.faults.iter().find_map(|fault| match fault {
            DiskFault::Write { nth, bytes } if *nth == writes => Some(*bytes),
            _ => None,
        });
        if let Some(cut) = cut {
            images.struck = true;
            images.change(Change::Write(offset, data[..cut.min(data.len())].to_vec()));
            return Err(io::Error::other("injected write fault"));
        }
        images.grow((offset + data.len()) as u64)?;
        images.change(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// The splitmix64 generator: enough for choosing what a crash destroys, and no dependency.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        usize::try_from(z % bound as u64).expect("below a usize")
    }
}

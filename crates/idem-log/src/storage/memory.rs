//! Segments in memory, with a disk's habit of forgetting what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{LogStorage, Segment};

/// A set of files in memory. Clones share them, so that a log can be dropped and reopened.
///
/// Each file has two images: `live`, what reads see, and the writes since the last sync, which
/// [`crash`](Self::crash) drops.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Arc<MemorySegment>>>>,
}

impl MemoryStorage {
    /// Loses power: of the writes since each file's last sync only a part survives.
    ///
    /// `seed` decides which: each write may be kept, dropped, or cut at one of its bytes, in any
    /// combination, as a disk that reorders writes would do it.
    pub fn crash(&self, seed: u64) {
        let mut random = Random(seed);
        for file in lock(&self.files).values() {
            lock(&file.images).crash(&mut random);
        }
    }

    /// Takes all writes since the last sync for synced without syncing them, as operating systems do
    /// after a failed sync: they are still read, but a crash loses them.
    pub fn forget_unsynced(&self) {
        for file in lock(&self.files).values() {
            lock(&file.images).unsynced.clear();
        }
    }

    /// Names and sizes of all files.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let files = lock(&self.files);
        files
            .iter()
            .map(|(name, file)| (name.clone(), lock(&file.images).live.len() as u64))
            .collect()
    }

    /// Inverts one bit of a file, as a failing medium does. Returns false if there is no such bit.
    #[must_use]
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        let Some(file) = lock(&self.files).get(name).cloned() else {
            return false;
        };
        let mut images = lock(&file.images);
        let byte = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        if byte >= images.live.len() {
            return false;
        }
        let mask = 1 << (bit % 8);
        images.live[byte] ^= mask;
        if let Some(durable) = images.durable.get_mut(byte) {
            *durable ^= mask;
        }
        true
    }

    /// Copies all files, synced or not, into a storage of their own.
    #[must_use]
    pub fn copy(&self) -> Self {
        let files = lock(&self.files);
        let copies = files.iter().map(|(name, file)| {
            let images = lock(&file.images).clone();
            (
                name.clone(),
                Arc::new(MemorySegment {
                    images: Mutex::new(images),
                }),
            )
        });
        Self {
            files: Arc::new(Mutex::new(copies.collect())),
        }
    }
}

impl LogStorage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        let mut files = lock(&self.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemorySegment::default());
        files.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>> {
        match lock(&self.files).get(name) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn Segment>),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match lock(&self.files).remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[derive(Debug, Default)]
struct MemorySegment {
    images: Mutex<Images>,
}

#[derive(Debug, Clone, Default)]
struct Images {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Images {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.live, offset, bytes);
        self.unsynced.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (offset, bytes) in self.unsynced.drain(..) {
            put(&mut self.durable, offset, &bytes);
        }
    }

    fn crash(&mut self, random: &mut Random) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            let kept = match random.below(3) {
                0 => 0..0,
                1 => 0..bytes.len(),
                // A cut in either direction: pages of one write reach the medium in any order.
                _ => {
                    let cut = random.below(bytes.len() + 1);
                    if random.below(2) == 0 {
                        0..cut
                    } else {
                        cut..bytes.len()
                    }
                }
            };
            put(&mut self.durable, offset + kept.start, &bytes[kept]);
        }
        self.live.clone_from(&self.durable);
    }
}

impl Segment for MemorySegment {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.images).live.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::StorageFull)?;
        let mut images = lock(&self.images);
        images.sync();
        if images.live.len() < len {
            images.live.resize(len, 0);
            images.durable.resize(len, 0);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let images = lock(&self.images);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = start
            .checked_add(into.len())
            .and_then(|end| images.live.get(start..end));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        lock(&self.images).write(offset, bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        lock(&self.images).sync();
        Ok(())
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end && !bytes.is_empty() {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is a copy of bytes: a panic in one leaves nothing half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

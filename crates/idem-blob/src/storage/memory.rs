//! Files in memory, with a disk's habit of forgetting what was not synced.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::storage::{BlobFile, BlobStorage, FileEntry};

/// A set of files in memory. Clones share them, so that a store can be dropped and opened again.
///
/// Each file has two images: what reads see, and what survives [`crash`](Self::crash).
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Arc<MemoryFile>>>>,
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
}

impl BlobStorage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let files = lock(&self.files);
        let entry = |(name, file): (&String, &Arc<MemoryFile>)| {
            let images = lock(&file.images);
            FileEntry {
                name: name.clone(),
                bytes: images.live.len() as u64,
                used_ms: images.used_ms,
            }
        };
        Ok(files.iter().map(entry).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        let file = Arc::new(MemoryFile::default());
        lock(&self.files).insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn BlobFile>> {
        Ok(self.find(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let removed = lock(&self.files).remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn touch(&self, name: &str, now_ms: u64) -> io::Result<()> {
        lock(&self.find(name)?.images).used_ms = now_ms;
        Ok(())
    }
}

impl MemoryStorage {
    fn find(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        let file = lock(&self.files).get(name).cloned();
        file.ok_or(io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug, Default)]
struct MemoryFile {
    images: Mutex<Images>,
}

#[derive(Debug, Default)]
struct Images {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, usize)>,
    used_ms: u64,
}

impl Images {
    fn crash(&mut self, random: &mut Random) {
        for (start, end) in std::mem::take(&mut self.unsynced) {
            let kept = match random.below(3) {
                0 => start..start,
                1 => start..end,
                // A cut in either direction: pages of one write reach the medium in any order.
                _ => {
                    let cut = start + random.below(end - start + 1);
                    if random.below(2) == 0 {
                        start..cut
                    } else {
                        cut..end
                    }
                }
            };
            put(&mut self.durable, kept.start, &self.live[kept]);
        }
        self.live.clone_from(&self.durable);
    }
}

impl BlobFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.images).live.len() as u64)
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
        let mut images = lock(&self.images);
        put(&mut images.live, offset, bytes);
        images.unsynced.push((offset, offset + bytes.len()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let images = &mut *lock(&self.images);
        for (start, end) in images.unsynced.drain(..) {
            put(&mut images.durable, start, &images.live[start..end]);
        }
        Ok(())
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end && !bytes.is_empty() {
        image.resize(end, 0);
    }
    if !bytes.is_empty() {
        image[offset..end].copy_from_slice(bytes);
    }
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

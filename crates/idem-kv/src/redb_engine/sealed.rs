//! The engine's file under encryption: what redb takes for a file is one of sealed sectors.
//!
//! `docs/format/disk.md`, "Encryption", has the layout. redb never overwrites what a committed state needs, so a
//! sector that is torn by a crash is one that nobody reads. Its first page is the exception: there it switches
//! from one state to the next. So that page is kept in memory and goes to disk with each sync, in turn to
//! one of two places, of which the newer whole one counts.
//!
//! redb writes whole pages and reads none that it never wrote. Both is checked here: a write of part of a
//! sector, or reading one that is blank, is an error. So zeros are no way to take something out.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use idem_vault::{Cipher, FileId, SEAL_BYTES, SEALED_SECTOR_BYTES, SECTOR_BYTES};
use redb::{BackendError, StorageBackend};

use super::rekey::{self, Rekey};

pub(super) const MAGIC: &[u8; 8] = b"idemsect";
const VERSION: u8 = 1;
/// Magic, version, seven zeros, file id.
const HEAD_BYTES: usize = 32;

const SECTOR: u64 = SECTOR_BYTES as u64;
pub(super) const SEALED: u64 = SEALED_SECTOR_BYTES as u64;

/// Copies of the first sector: its version, then its sealed form. They share no sector of a disk with each
/// other or with anything else.
const COPY_AT: [u64; 2] = [4096, 3 * 4096];
const COPY_BYTES: usize = 8 + SEALED_SECTOR_BYTES;

/// Where the second sector lies.
const DATA_START: u64 = 5 * 4096;

/// A file of sealed sectors.
#[derive(Debug)]
pub(super) struct SealedFile<B> {
    pub(super) inner: B,
    pub(super) cipher: Cipher,
    pub(super) id: FileId,
    /// Bytes that redb sees.
    len: AtomicU64,
    first: Mutex<First>,
    /// Taken for reading by all reads and writes, for writing by whoever rewrites sectors in place.
    pub(super) gate: RwLock<()>,
}

/// The first sector.
#[derive(Debug)]
struct First {
    content: Box<[u8]>,
    version: u64,
    /// The copy that holds what was last synced.
    durable: usize,
    is_dirty: bool,
}

/// A file of sealed sectors, as redb holds it.
#[derive(Debug)]
pub(super) struct Handle<B>(pub(super) Arc<SealedFile<B>>);

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the encrypted engine file {what}"),
    )
}

fn end_of_file() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// Where a sector lies on disk, other than the first one.
pub(super) fn place(sector: u64) -> u64 {
    DATA_START + (sector - 1) * SEALED
}

fn disk_bytes(len: u64) -> u64 {
    match len.div_ceil(SECTOR) {
        0 => COPY_AT[0],
        sectors => place(sectors),
    }
}

impl<B: StorageBackend> SealedFile<B> {
    /// Opens what `inner` holds, or makes it if that is empty. What `rekey` says was being rewritten when the
    /// process ended is written first.
    pub(super) fn open(inner: B, cipher: Cipher, rekey: Option<&dyn Rekey>) -> io::Result<Self> {
        let found = inner.len()?;
        let (id, len) = if found == 0 {
            let id = FileId::random().map_err(io::Error::other)?;
            inner.set_len(disk_bytes(0))?;
            let mut head = [0; HEAD_BYTES];
            head[..8].copy_from_slice(MAGIC);
            head[8] = VERSION;
            head[16..].copy_from_slice(&id.0);
            inner.write(0, &head)?;
            (id, 0)
        } else {
            (read_head(&inner, found)?, logical_bytes(found)?)
        };
        if let Some(rekey) = rekey {
            rekey::finish(rekey, &inner, &cipher, id)?;
        }
        let first = First {
            content: vec![0; SECTOR_BYTES].into(),
            version: 0,
            durable: 1,
            is_dirty: false,
        };
        let file = Self {
            inner,
            cipher,
            id,
            len: AtomicU64::new(len),
            first: Mutex::new(first),
            gate: RwLock::new(()),
        };
        if len > 0 {
            file.read_first()?;
        }
        Ok(file)
    }

    pub(super) fn sectors(&self) -> u64 {
        self.len.load(Ordering::Acquire) / SECTOR
    }

    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the newer whole copy of the first sector.
    fn read_first(&self) -> io::Result<()> {
        let mut newest: Option<First> = None;
        for (copy, at) in COPY_AT.into_iter().enumerate() {
            let mut bytes = vec![0; COPY_BYTES];
            self.inner.read(at, &mut bytes)?;
            let (version, sealed) = bytes.split_first_chunk_mut().expect("longer");
            let version = u64::from_be_bytes(*version);
            let Ok(content) = self.cipher.open_sector(self.id, 0, version, sealed) else {
                continue;
            };
            if newest.as_ref().is_none_or(|known| known.version < version) {
                newest = Some(First {
                    content: content.to_vec().into(),
                    version,
                    durable: copy,
                    is_dirty: false,
                });
            }
        }
        *self.first() = newest.ok_or_else(|| damaged("has no readable first page"))?;
        Ok(())
    }

    /// Writes the first sector to the copy that is not the durable one, and makes all durable.
    fn sync(&self, is_forced: bool) -> io::Result<()> {
        let mut first = self.first();
        if !first.is_dirty && !is_forced {
            drop(first);
            return self.inner.sync_data();
        }
        let version = first.version + 1;
        let mut bytes = Vec::with_capacity(COPY_BYTES);
        bytes.extend_from_slice(&version.to_be_bytes());
        self.cipher
            .seal_sector(self.id, 0, version, &first.content, &mut bytes);
        let copy = 1 - first.durable;
        self.inner.write(COPY_AT[copy], &bytes)?;
        self.inner.sync_data()?;
        first.version = version;
        first.durable = copy;
        first.is_dirty = false;
        Ok(())
    }

    /// Writes both copies of the first sector under the key that seals now.
    pub(super) fn rekey_first(&self) -> io::Result<()> {
        if self.sectors() == 0 {
            return Ok(());
        }
        self.sync(true)?;
        self.sync(true)
    }

    /// How many sectors are under a key that does not seal any more, the copies of the first one not counted.
    pub(super) fn stale_sectors(&self) -> io::Result<u64> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut stale = 0;
        let mut seal = [0; SEAL_BYTES];
        for sector in 1..self.sectors() {
            self.inner.read(place(sector), &mut seal)?;
            stale += u64::from(!Cipher::is_blank(&seal) && !self.cipher.is_current(&seal));
        }
        Ok(stale)
    }

    /// Fills `into`, which is whole sectors behind the first.
    fn read_sectors(&self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        let mut bytes = vec![0; into.len() / SECTOR_BYTES * SEALED_SECTOR_BYTES];
        self.inner.read(place(sector), &mut bytes)?;
        let sealed = bytes.chunks_exact_mut(SEALED_SECTOR_BYTES);
        let pairs = (sector..).zip(sealed.zip(into.chunks_exact_mut(SECTOR_BYTES)));
        for (number, (sealed, into)) in pairs {
            let opened = self.cipher.open_sector(self.id, number, 0, sealed);
            let content = opened.map_err(|_| damaged(&format!("is damaged in sector {number}")))?;
            into.copy_from_slice(content);
        }
        Ok(())
    }
}

fn read_head(inner: &impl StorageBackend, bytes: u64) -> io::Result<FileId> {
    let mut head = [0; HEAD_BYTES];
    if bytes < DATA_START {
        return Err(damaged("is too short"));
    }
    inner.read(0, &mut head)?;
    if !head.starts_with(MAGIC) || head[9..16] != [0; 7] {
        return Err(damaged("does not begin as one"));
    }
    if head[8] != VERSION {
        let what = format!("has version {}, which this build does not know", head[8]);
        return Err(damaged(&what));
    }
    Ok(FileId(*head.last_chunk().expect("16 bytes")))
}

fn logical_bytes(bytes: u64) -> io::Result<u64> {
    let data = bytes
        .checked_sub(DATA_START)
        .ok_or_else(|| damaged("is too short"))?;
    if !data.is_multiple_of(SEALED) {
        return Err(damaged("was cut"));
    }
    Ok((data / SEALED + 1) * SECTOR)
}

impl<B: StorageBackend> StorageBackend for Handle<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = &*self.0;
        let _gate = file.gate.read().unwrap_or_else(PoisonError::into_inner);
        let end = offset
            .checked_add(out.len() as u64)
            .ok_or_else(end_of_file)?;
        if end > file.len.load(Ordering::Acquire) {
            return Err(end_of_file());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let (sector, within) = (at / SECTOR, usize::try_from(at % SECTOR).expect("below"));
            let rest = &mut out[done..];
            if sector == 0 {
                let count = rest.len().min(SECTOR_BYTES - within);
                rest[..count].copy_from_slice(&file.first().content[within..within + count]);
                done += count;
            } else if within == 0 && rest.len() >= SECTOR_BYTES {
                let count = rest.len() / SECTOR_BYTES * SECTOR_BYTES;
                file.read_sectors(sector, &mut rest[..count])?;
                done += count;
            } else {
                let mut content = [0; SECTOR_BYTES];
                file.read_sectors(sector, &mut content)?;
                let count = rest.len().min(SECTOR_BYTES - within);
                rest[..count].copy_from_slice(&content[within..within + count]);
                done += count;
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = &*self.0;
        let _gate = file.gate.read().unwrap_or_else(PoisonError::into_inner);
        if !len.is_multiple_of(SECTOR) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a file of whole sectors",
            ));
        }
        file.inner.set_len(disk_bytes(len))?;
        file.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let _gate = self.0.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.0.sync(false)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let file = &*self.0;
        let _gate = file.gate.read().unwrap_or_else(PoisonError::into_inner);
        let len = file.len.load(Ordering::Acquire);
        if offset
            .checked_add(data.len() as u64)
            .is_none_or(|end| end > len)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a write beyond the end",
            ));
        }
        let (sector, within) = (
            offset / SECTOR,
            usize::try_from(offset % SECTOR).expect("below"),
        );
        let mut rest = data;
        let mut sector = sector;
        if sector == 0 {
            let count = rest.len().min(SECTOR_BYTES - within);
            let mut first = file.first();
            first.content[within..within + count].copy_from_slice(&rest[..count]);
            first.is_dirty = true;
            rest = &rest[count..];
            sector = 1;
        } else if within != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a write within a sector",
            ));
        }
        if !rest.len().is_multiple_of(SECTOR_BYTES) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a write within a sector",
            ));
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(rest.len() / SECTOR_BYTES * SEALED_SECTOR_BYTES);
        for (number, content) in (sector..).zip(rest.chunks_exact(SECTOR_BYTES)) {
            file.cipher
                .seal_sector(file.id, number, 0, content, &mut bytes);
        }
        file.inner.write(place(sector), &bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.query_lock_range(start, end)
    }
}

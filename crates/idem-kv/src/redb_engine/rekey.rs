//! Sealing the sectors of an open engine anew, in place, under another key.
//!
//! A few sectors at a time, with readers and writers waiting: their new form is written to a file beside the
//! engine's and made durable, then in place, and then that file is emptied. A crash on the way leaves either
//! the sectors as they were, or the file from which the next opening writes them. This rewrites all of the
//! file, whatever the tree makes of it, and needs to note nothing: each sector says which key it is under.

use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use idem_vault::{Cipher, FileId, SEALED_SECTOR_BYTES};
use redb::StorageBackend;

use super::sealed::{SEALED, SealedFile, place};
use crate::FaultDisk;

/// Sectors that are rewritten at once: 1 MiB, during which nobody reads or writes the file.
const BATCH_SECTORS: u64 = 256;

/// Magic, version, count, file id.
const HEAD_BYTES: usize = 8 + 4 + 4 + 16;
const MAGIC: &[u8; 8] = b"idemrkey";
const VERSION: u32 = 1;

/// The file that a batch is written to first.
pub(super) trait Rekey: Debug + Send + Sync {
    /// Its content; empty if there is none.
    fn read(&self) -> io::Result<Vec<u8>>;
    /// Makes `bytes` its content, durably.
    fn replace(&self, bytes: &[u8]) -> io::Result<()>;
}

/// What is done of sealing everything under the present key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RekeyProgress {
    /// Sectors that were looked at.
    pub done: u64,
    /// All sectors.
    pub total: u64,
}

impl RekeyProgress {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.done >= self.total
    }
}

/// A sector is taken as `number | sealed`.
const ENTRY_BYTES: usize = 8 + SEALED_SECTOR_BYTES;

impl<B: StorageBackend> SealedFile<B> {
    /// Rewrites the next sectors from `from` on; 0 begins. Gives where to go on.
    pub(super) fn rekey_batch(
        &self,
        rekey: &dyn Rekey,
        from: u64,
    ) -> Result<RekeyProgress, RekeyFailure> {
        if from == 0 {
            let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.rekey_first().map_err(RekeyFailure::harmful)?;
        }
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let total = self.sectors();
        let first = from.max(1);
        let end = total.min(first + BATCH_SECTORS);
        let progress = RekeyProgress {
            done: end.max(first),
            total,
        };
        if first >= end {
            return Ok(progress);
        }
        let count = usize::try_from(end - first).expect("a batch");
        let mut sealed = vec![0; count * SEALED_SECTOR_BYTES];
        let read = self.inner.read(place(first), &mut sealed);
        read.map_err(RekeyFailure::harmless)?;
        let mut journal = head(self.id);
        for (number, sealed) in (first..end).zip(sealed.chunks_exact_mut(SEALED_SECTOR_BYTES)) {
            if Cipher::is_blank(sealed) || self.cipher.is_current(sealed) {
                continue;
            }
            // What does not open is torn, and of no state that is: redb would have read it before.
            if let Ok(content) = self.cipher.open_sector(self.id, number, 0, sealed) {
                journal.extend_from_slice(&number.to_be_bytes());
                self.cipher
                    .seal_sector(self.id, number, 0, content, &mut journal);
            }
        }
        if journal.len() == HEAD_BYTES {
            return Ok(progress);
        }
        finish_head(&mut journal);
        let check = check_of(&journal);
        journal.extend_from_slice(&check);
        if let Err(source) = rekey.replace(&journal) {
            // It must not be found by a later opening, which would take back what is written meanwhile.
            return Err(match rekey.replace(&[]) {
                Ok(()) => RekeyFailure::harmless(source),
                Err(_) => RekeyFailure::harmful(source),
            });
        }
        write(&self.inner, entries(&journal)).map_err(RekeyFailure::harmful)?;
        rekey.replace(&[]).map_err(RekeyFailure::harmful)?;
        Ok(progress)
    }
}

/// Why sectors were not rewritten.
#[derive(Debug)]
pub(super) struct RekeyFailure {
    pub(super) source: io::Error,
    /// The file can be used only after it was opened again, which writes what was begun.
    pub(super) is_harmful: bool,
}

impl RekeyFailure {
    fn harmful(source: io::Error) -> Self {
        Self {
            source,
            is_harmful: true,
        }
    }

    fn harmless(source: io::Error) -> Self {
        Self {
            source,
            is_harmful: false,
        }
    }
}

fn head(id: FileId) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    head.extend_from_slice(&id.0);
    head
}

fn finish_head(journal: &mut [u8]) {
    let count = u32::try_from((journal.len() - HEAD_BYTES) / ENTRY_BYTES).expect("a batch");
    journal[12..16].copy_from_slice(&count.to_be_bytes());
}

/// The sectors carry tags of their own; this tells a journal that was cut off.
fn check_of(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).to_be_bytes()
}

fn entries(journal: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let end = journal.len() - 4;
    journal[HEAD_BYTES..end]
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| {
            let (number, sealed) = entry.split_first_chunk().expect("longer");
            (u64::from_be_bytes(*number), sealed)
        })
}

fn write<'a>(
    inner: &impl StorageBackend,
    entries: impl Iterator<Item = (u64, &'a [u8])>,
) -> io::Result<()> {
    for (number, sealed) in entries {
        inner.write(place(number), sealed)?;
    }
    inner.sync_data()
}

/// Writes what a process that ended had begun to rewrite.
pub(super) fn finish(
    rekey: &dyn Rekey,
    inner: &impl StorageBackend,
    cipher: &Cipher,
    id: FileId,
) -> io::Result<()> {
    let journal = rekey.read()?;
    if journal.is_empty() {
        return Ok(());
    }
    if is_whole(&journal, id) {
        let bytes = inner.len()?;
        // Only what belongs there, so that a file that somebody put here does no more than his own writing could.
        let fits = entries(&journal).all(|(number, sealed)| {
            let mut copy = sealed.to_vec();
            number > 0
                && place(number)
                    .checked_add(SEALED)
                    .is_some_and(|end| end <= bytes)
                && cipher.open_sector(id, number, 0, &mut copy).is_ok()
        });
        if fits {
            write(inner, entries(&journal))?;
        }
    }
    rekey.replace(&[])
}

fn is_whole(journal: &[u8], id: FileId) -> bool {
    let Some((body, check)) = journal.split_last_chunk::<4>() else {
        return false;
    };
    let mut expected = head(id);
    if body.len() < HEAD_BYTES || !(body.len() - HEAD_BYTES).is_multiple_of(ENTRY_BYTES) {
        return false;
    }
    let count = (body.len() - HEAD_BYTES) / ENTRY_BYTES;
    expected[12..16].copy_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    body.starts_with(&expected) && check_of(body) == *check
}

/// The file beside the engine's on a file system.
#[derive(Debug)]
pub(super) struct RekeyPath(pub(super) PathBuf);

impl Rekey for RekeyPath {
    fn read(&self) -> io::Result<Vec<u8>> {
        match std::fs::read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            found => found,
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let is_fresh = !self.0.exists();
        if bytes.is_empty() {
            return if is_fresh { Ok(()) } else { self.remove() };
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.0)?;
        io::Write::write_all(&mut &file, bytes)?;
        file.sync_all()?;
        match is_fresh {
            true => self.sync_directory(),
            false => Ok(()),
        }
    }
}

impl RekeyPath {
    fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.0)?;
        self.sync_directory()
    }

    #[cfg(unix)]
    fn sync_directory(&self) -> io::Result<()> {
        match std::path::absolute(&self.0)?.parent() {
            Some(parent) => std::fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Other systems open no directories, and journal them by themselves.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "as on other systems")]
    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Rekey for FaultDisk {
    fn read(&self) -> io::Result<Vec<u8>> {
        Ok(self.content())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        StorageBackend::set_len(self, 0)?;
        if !bytes.is_empty() {
            StorageBackend::write(self, 0, bytes)?;
        }
        StorageBackend::sync_data(self)
    }
}

/// The sealed file of an engine, whatever it lies on.
pub(super) trait Rekeyed: Debug + Send + Sync {
    fn rekey_batch(&self, from: u64) -> Result<RekeyProgress, RekeyFailure>;
    fn stale_sectors(&self) -> io::Result<u64>;
}

#[derive(Debug)]
pub(super) struct Pair<B> {
    pub(super) file: Arc<SealedFile<B>>,
    pub(super) rekey: Box<dyn Rekey>,
}

impl<B: StorageBackend> Rekeyed for Pair<B> {
    fn rekey_batch(&self, from: u64) -> Result<RekeyProgress, RekeyFailure> {
        self.file.rekey_batch(&*self.rekey, from)
    }

    fn stale_sectors(&self) -> io::Result<u64> {
        self.file.stale_sectors()
    }
}

//! Reading a whole blob.

use std::io;

use idem_model::{BlobKey, limits};

use crate::{
    error::BlobError,
    store::{BlobStore, Pin},
};

/// Reads a whole blob, which cannot be collected meanwhile. Every byte was checked against the id.
///
/// Memory: one piece of 256 KiB. As [`io::Read`] and [`io::Seek`] its errors carry a [`BlobError`].
#[derive(Debug)]
pub struct BlobReader {
    store: BlobStore,
    key: BlobKey,
    now_ms: u64,
    position: u64,
    /// The content read last, and where it begins.
    kept: (u64, Vec<u8>),
    _pin: Pin,
}

impl BlobStore {
    /// Begins to read a blob.
    ///
    /// # Errors
    /// [`BlobError::Missing`].
    pub fn reader(&self, key: BlobKey, now_ms: u64) -> Result<BlobReader, BlobError> {
        let pin = self.pin(key.id);
        if !self.is_whole(key) {
            return Err(BlobError::Missing { id: key.id });
        }
        Ok(BlobReader {
            store: self.clone(),
            key,
            now_ms,
            position: 0,
            kept: (0, Vec::new()),
            _pin: pin,
        })
    }

    /// All of a blob.
    ///
    /// # Errors
    /// As [`piece`](Self::piece), and [`BlobError::Quota`] for what does not fit in memory.
    pub fn read(&self, key: BlobKey, now_ms: u64) -> Result<Vec<u8>, BlobError> {
        let mut reader = self.reader(key, now_ms)?;
        let len = usize::try_from(key.len).map_err(|_| BlobError::Quota {
            bytes: key.len,
            limit: usize::MAX as u64,
        })?;
        let mut content = Vec::with_capacity(len);
        while content.len() < len {
            content.extend_from_slice(reader.chunk(content.len() as u64)?);
        }
        Ok(content)
    }
}

impl BlobReader {
    /// Which blob.
    pub fn key(&self) -> BlobKey {
        self.key
    }

    /// Some bytes from `offset` on; none at the end.
    ///
    /// # Errors
    /// As [`BlobStore::piece`].
    pub fn chunk(&mut self, offset: u64) -> Result<&[u8], BlobError> {
        if offset >= self.key.len {
            return Ok(&[]);
        }
        let (start, kept) = &self.kept;
        if offset < *start || offset >= start + kept.len() as u64 {
            let group = offset / idem_model::blob::GROUP_BYTES;
            let node = self.key.part_around(group, limits::BLOB_PIECE_LEVEL_MAX);
            let mut piece = self.store.piece(self.key, node, self.now_ms)?;
            let proof = piece.len() as u64 - self.key.bytes_of(node);
            piece.drain(..usize::try_from(proof).expect("part of a piece"));
            self.kept = (self.key.offset_of(node), piece);
        }
        let (start, kept) = &self.kept;
        Ok(&kept[usize::try_from(offset - start).expect("within a piece")..])
    }
}

impl io::Read for BlobReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let position = self.position;
        let chunk = self.chunk(position).map_err(io::Error::other)?;
        let count = chunk.len().min(into.len());
        into[..count].copy_from_slice(&chunk[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for BlobReader {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            io::SeekFrom::Start(at) => (at, 0),
            io::SeekFrom::End(by) => (self.key.len, by),
            io::SeekFrom::Current(by) => (self.position, by),
        };
        let at = base.checked_add_signed(by);
        self.position = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

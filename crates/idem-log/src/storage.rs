//! Where the segments of a log live.

pub(crate) mod directory;
pub(crate) mod fault;
pub(crate) mod memory;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A flat set of named files. All methods can be called from any thread.
pub trait LogStorage: Send + Sync + Debug {
    /// Names of all files, in any order.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file whose name is durable when the call returns.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`], [`io::ErrorKind::StorageFull`] or the storage's error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn Segment>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Segment>>;

    /// Deletes a file.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn delete(&self, name: &str) -> io::Result<()>;
}

/// One file of a [`LogStorage`].
pub trait Segment: Send + Sync + Debug {
    /// Size in bytes.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether the file has no bytes.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Grows the file to `len` bytes by writing zeros, so that later writes find their blocks
    /// allocated, and makes them durable together with the size.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`] or the storage's error; the file may then have any size.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Fills `into` with the bytes at `offset`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] or the storage's error.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. The log only writes inside what it allocated.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes written bytes durable (`fdatasync`).
    ///
    /// # Errors
    ///
    /// The storage's error. What of the writes since the last sync is on disk is then unknown.
    fn sync_data(&self) -> io::Result<()>;
}

//! Where the files of a blob store live.

pub(crate) mod directory;
pub(crate) mod fault;
pub(crate) mod memory;
pub(crate) mod sealed;

use std::{fmt::Debug, io, sync::Arc};

/// A set of named files. Names are made of ASCII letters, digits, `.` and `-`, with at most one `/`. All
/// methods can be called from any thread.
pub trait BlobStorage: Send + Sync + Debug {
    /// All files, in any order.
    ///
    /// # Errors
    /// The storage's error.
    fn list(&self) -> io::Result<Vec<FileEntry>>;

    /// Creates an empty file, in place of one that has the name.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or the storage's error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn BlobFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn open(&self, name: &str) -> io::Result<Arc<dyn BlobFile>>;

    /// Gives a file another name, in place of one that has it. It has one name or the other after a crash,
    /// and the new one durably when the call returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Deletes a file. After a crash it may be there again.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Notes that the file was used at a time, in Unix milliseconds. Need not be durable.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] or the storage's error.
    fn touch(&self, name: &str, now_ms: u64) -> io::Result<()>;
}

/// One file of a [`BlobStorage`]. It can be read and written after it was renamed or deleted.
pub trait BlobFile: Send + Sync + Debug {
    /// Size in bytes.
    ///
    /// # Errors
    /// The storage's error.
    fn len(&self) -> io::Result<u64>;

    /// Whether nothing is in the file.
    ///
    /// # Errors
    /// The storage's error.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `into` from `offset` on. What was never written below the end reads as zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] or the storage's error.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file where needed.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] or the storage's error. An unknown part may be written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// The storage's error. What is durable is unknown then.
    fn sync(&self) -> io::Result<()>;
}

/// A file as [`BlobStorage::list`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last touched or written, in Unix milliseconds; 0 if that is not known.
    pub used_ms: u64,
}

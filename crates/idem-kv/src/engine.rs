//! The traits that every engine implements.

use std::fmt::Debug;
use std::ops::ControlFlow;

use crate::{Batch, KvError, RekeyProgress};

/// Number of a table, below [`TABLES_MAX`](crate::limits::TABLES_MAX). The store gives them names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

impl Table {
    /// The overlay's own table, outside of what a [`Batch`] can name from outside this crate.
    pub(crate) const OVERLAY: Self = Self(crate::limits::TABLES_MAX);
}

/// What a commit promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The batch survives the loss of power.
    #[default]
    Durable,
    /// The batch is visible. It survives nothing before the next durable commit or
    /// [`Engine::sync`]: the B-tree engine keeps such commits in the process, so that even its end
    /// loses them. A store that promises more keeps a log.
    Relaxed,
}

/// What [`Engine::verify`] counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Entries whose checksum was compared.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// Sizes of an engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Bytes of the file, or of the values and keys in memory.
    pub file_bytes: u64,
    /// Commits since the engine was opened.
    pub commits: u64,
}

/// An ordered store of tables with one writer at a time and any number of readers.
pub trait Engine: Send + Sync + Debug {
    /// A consistent view of all commits so far. It never blocks writers, but keeps the space of
    /// what it sees from being used again: drop it soon.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError>;

    /// Applies all operations of `batch` in their order, or none.
    ///
    /// # Errors
    ///
    /// [`KvError::Full`], [`KvError::Io`]; after a failed durable commit the engine may answer
    /// [`KvError::Poisoned`] until it is opened again.
    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), KvError>;

    /// Makes all commits so far durable.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn sync(&self) -> Result<(), KvError>;

    /// Reads everything and compares every checksum. Takes about 1 s per million documents.
    ///
    /// # Errors
    ///
    /// The first damage, as [`KvError::Corrupt`] or [`KvError::CorruptFile`].
    fn verify(&self) -> Result<VerifyReport, KvError>;

    /// Gives unused space back to the file system. Blocks writers while it runs, and does nothing
    /// while a snapshot is alive. Returns whether anything was gained.
    ///
    /// # Errors
    ///
    /// The storage's error.
    fn compact(&self) -> Result<bool, KvError>;

    /// Sizes and counters.
    fn stats(&self) -> EngineStats;

    /// Seals the next part of the file under the key that seals now: from the place that the last call
    /// gave, 0 at first. Others wait meanwhile, for some milliseconds. What is there when the first call
    /// begins is under that key when the last one returns, and so is what is written meanwhile. The process
    /// may end at any time; then it begins again at 0. Without encryption there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`KvError::Io`]; the engine goes on if nothing was rewritten, and is closed otherwise.
    fn rekey(&self, from: u64) -> Result<RekeyProgress, KvError> {
        let _ = from;
        Ok(RekeyProgress::default())
    }
}

/// What a scan calls with each key and value, until it breaks.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A consistent view of an engine.
pub trait Snapshot: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`KvError::Corrupt`] if the value is damaged, or the storage's error.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// Calls `read` with the value of a key, if there is one, without copying it. Whether there is one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    fn read(&self, table: Table, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        let value = self.get(table, key)?;
        if let Some(value) = &value {
            read(value);
        }
        Ok(value.is_some())
    }

    /// Visits the entries with `from <= key < to` in the order of their keys, or the opposite order
    /// if `reverse`, until `visit` breaks. No `to` means the end of the table.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); entries before a damaged one have been visited.
    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError>;
}

/// Keys up to this size, less the four bytes of their length, are checked in one go.
const HEAD_BYTES: usize = 64;

/// The checksum kept with every value: of the table, the key's length, the key and the value, so
/// that a value that turns up under another key is found as well.
pub(crate) fn checksum(table: Table, key: &[u8], value: &[u8]) -> u32 {
    let length = u32::try_from(key.len()).expect("keys are bounded");
    let length = length.to_be_bytes();
    // Each call has a price of its own: length and key, which are short, go together.
    let mut head = [0; HEAD_BYTES];
    let head = match head.get_mut(..length.len() + key.len()) {
        Some(head) => {
            head[..length.len()].copy_from_slice(&length);
            head[length.len()..].copy_from_slice(key);
            crc32c::crc32c_append(u32::from(table.0), head)
        }
        None => {
            let crc = crc32c::crc32c_append(u32::from(table.0), &length);
            crc32c::crc32c_append(crc, key)
        }
    };
    crc32c::crc32c_append(head, value)
}

//! A list of puts and deletes that is applied as one, kept in its encoded form.
//!
//! The encoding is described in `docs/format/disk.md`, section "Batches".

use crate::Table;
use crate::limits::{BATCH_BYTES_MAX, KEY_BYTES_MAX, TABLES_MAX};

/// First byte of every encoded batch.
const VERSION: u8 = 1;

/// Set in an operation's first byte, beside the table, if it is a delete.
const DELETE: u8 = 0x80;

/// Operations that are applied atomically, in order: a later one on the same key wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
}

/// One operation of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: &'a [u8],
    /// The value to put, or none to delete the key.
    pub value: Option<&'a [u8]>,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The first byte is not a version that this build knows.
    #[error("batch has unknown version {version}")]
    UnknownVersion {
        /// The byte that was found.
        version: u8,
    },
    /// The bytes end inside an operation, or a length is above its limit or not written in the
    /// shortest form, or a table does not exist.
    #[error("batch is malformed at byte {offset}")]
    Malformed {
        /// Where the operation begins.
        offset: u64,
    },
    /// The batch is larger than [`BATCH_BYTES_MAX`].
    #[error("batch of {bytes} bytes is larger than {BATCH_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// A batch without operations.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![VERSION],
            count: 0,
        }
    }

    /// A batch without operations, with room for so many bytes of its encoded form.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut batch = Self {
            bytes: Vec::with_capacity(1 + bytes),
            count: 0,
        };
        batch.bytes.push(VERSION);
        batch
    }

    /// Adds a put.
    ///
    /// # Panics
    ///
    /// If the table does not exist or the key is longer than [`KEY_BYTES_MAX`]: whoever builds keys
    /// has checked what went into them.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.put_parts(table, key, &[value]);
    }

    /// Adds a put of a value that consists of `parts`, one behind the other.
    ///
    /// # Panics
    ///
    /// As [`put`](Self::put).
    pub fn put_parts(&mut self, table: Table, key: &[u8], parts: &[&[u8]]) {
        assert!(table.0 < TABLES_MAX, "no table {}", table.0);
        self.push_parts(table, key, Some(parts));
    }

    /// Adds a delete. Deleting a key that does not exist is no error.
    ///
    /// # Panics
    ///
    /// As [`put`](Self::put).
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        assert!(table.0 < TABLES_MAX, "no table {}", table.0);
        self.push(table, key, None);
    }

    pub(crate) fn push(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.push_parts(table, key, value.as_ref().map(std::slice::from_ref));
    }

    fn push_parts(&mut self, table: Table, key: &[u8], value: Option<&[&[u8]]>) {
        assert!(key.len() <= KEY_BYTES_MAX, "key of {} bytes", key.len());
        self.bytes
            .push(table.0 | if value.is_none() { DELETE } else { 0 });
        push_length(&mut self.bytes, key.len());
        self.bytes.extend_from_slice(key);
        if let Some(parts) = value {
            push_length(&mut self.bytes, parts.iter().map(|part| part.len()).sum());
            for part in parts {
                self.bytes.extend_from_slice(part);
            }
        }
        self.count += 1;
    }

    /// The operations in order.
    #[must_use]
    pub fn iter(&self) -> Operations<'_> {
        Operations {
            bytes: &self.bytes,
            at: 1,
        }
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Returns whether there are no operations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all operations and keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.truncate(1);
        self.count = 0;
    }

    /// The encoded form. Costs nothing: a batch is kept encoded.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The encoded form, owned.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Reads what [`encode`](Self::encode) wrote. Whatever decodes encodes to the same bytes.
    ///
    /// # Errors
    ///
    /// [`BatchError`] for anything else; hostile bytes cost no more than their own length.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(BatchError::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(BatchError::UnknownVersion { version }),
            None => return Err(BatchError::Malformed { offset: 0 }),
        }
        let mut at = 1;
        let mut count = 0;
        while at < bytes.len() {
            let malformed = BatchError::Malformed { offset: at as u64 };
            let (operation, next) = parse(bytes, at).ok_or(malformed.clone())?;
            if operation.table.0 >= TABLES_MAX || operation.key.len() > KEY_BYTES_MAX {
                return Err(malformed);
            }
            at = next;
            count += 1;
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            count,
        })
    }
}

/// Iterator over the operations of a batch.
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Operation<'a>> {
        if self.at == self.bytes.len() {
            return None;
        }
        let (operation, next) = parse(self.bytes, self.at).expect("a batch holds what it encoded");
        self.at = next;
        Some(operation)
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Operation<'a>;
    type IntoIter = Operations<'a>;

    fn into_iter(self) -> Operations<'a> {
        self.iter()
    }
}

/// The operation at `at`, and where the next one begins.
fn parse(bytes: &[u8], at: usize) -> Option<(Operation<'_>, usize)> {
    let head = *bytes.get(at)?;
    let (key, at) = parse_slice(bytes, at + 1)?;
    let table = Table(head & !DELETE);
    if head & DELETE != 0 {
        return Some((
            Operation {
                table,
                key,
                value: None,
            },
            at,
        ));
    }
    let (value, at) = parse_slice(bytes, at)?;
    Some((
        Operation {
            table,
            key,
            value: Some(value),
        },
        at,
    ))
}

fn parse_slice(bytes: &[u8], mut at: usize) -> Option<(&[u8], usize)> {
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *bytes.get(at)?;
        at += 1;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            // The last byte of a longer form than needed would be zero.
            if byte == 0 && shift > 0 {
                return None;
            }
            let end = at.checked_add(length)?;
            return Some((bytes.get(at..end)?, end));
        }
    }
    None
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let mut rest = u32::try_from(length).expect("lengths are bounded far below 4 GiB");
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

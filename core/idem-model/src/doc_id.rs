//! The identity of a document inside its collection.

use std::fmt;

use crate::{codec::DecodeError, key, limits, value::Value};

/// A document's `_id`: a string, integer, boolean, binary, or an array or object of those.
///
/// The order is that of [`Value::compare`]. Two composite ids with the same fields are equal
/// whatever the order in which they were written.
#[derive(Clone, PartialEq, Eq)]
pub struct DocId {
    value: Value,
}

/// Why a value cannot be a document id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocIdError {
    /// `null` names nothing.
    #[error("Null document ID not allowed")]
    Null,
    /// A float has no exact identity.
    #[error("Float document ID not allowed; use an integer or a string")]
    Float,
    /// The id nests so deep that a document could not hold it as a field.
    #[error("document ID of {levels} levels is over the limit of {limit}")]
    TooDeep {
        /// Its levels.
        levels: usize,
        /// One less than [`limits::NESTING_LEVELS_MAX`].
        limit: usize,
    },
    /// The id does not fit a key.
    #[error("document ID of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// Encoded length.
        bytes: usize,
        /// [`limits::DOC_ID_BYTES_MAX`].
        limit: usize,
    },
}

impl DocId {
    /// Checks `value` and makes it an id.
    ///
    /// # Errors
    /// [`DocIdError`] for null or a float anywhere in it, or an id that is too long or too deep.
    pub fn new(value: Value) -> Result<Self, DocIdError> {
        check(&value)?;
        let (levels, limit) = (value.nesting_levels(), limits::NESTING_LEVELS_MAX - 1);
        if levels > limit {
            return Err(DocIdError::TooDeep { levels, limit });
        }
        let id = Self { value };
        let bytes = id.to_key().len();
        if bytes > limits::DOC_ID_BYTES_MAX {
            return Err(DocIdError::TooLong {
                bytes,
                limit: limits::DOC_ID_BYTES_MAX,
            });
        }
        Ok(id)
    }

    /// A generated id: a UUIDv7 string (RFC 9562 section 5.7) of the given Unix milliseconds and
    /// ten random bytes. Ids made later sort later, which nearly halves the disk of a B-tree.
    pub fn generate(unix_ms: u64, random: [u8; 10]) -> Self {
        let ms = unix_ms.to_be_bytes();
        let mut b = [0u8; 16];
        b[..6].copy_from_slice(&ms[2..]);
        b[6..].copy_from_slice(&random);
        b[6] = (b[6] & 0x0f) | 0x70;
        b[8] = (b[8] & 0x3f) | 0x80;
        let mut text = String::with_capacity(36);
        for (i, byte) in b.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for nibble in [byte >> 4, byte & 0x0f] {
                text.push(char::from_digit(nibble.into(), 16).expect("a nibble is a hex digit"));
            }
        }
        Self {
            value: Value::String(text),
        }
    }

    /// The id as a value.
    pub fn as_value(&self) -> &Value {
        &self.value
    }

    /// The id as a value, without copying.
    pub fn into_value(self) -> Value {
        self.value
    }

    /// The order-preserving bytes of the id ([`key`]).
    pub fn to_key(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        key::encode(&self.value, &mut out);
        out
    }

    /// Reads [`DocId::to_key`].
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not exactly one valid id.
    pub fn from_key(bytes: &[u8]) -> Result<Self, DecodeError> {
        let invalid = DecodeError::Invalid {
            what: "document id",
            at: 0,
        };
        let (value, len) = key::decode(bytes)?;
        if len != bytes.len() {
            return Err(DecodeError::TrailingBytes {
                count: bytes.len() - len,
            });
        }
        Self::new(value.ok_or(invalid.clone())?).map_err(|_| invalid)
    }
}

impl PartialOrd for DocId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DocId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.compare(&other.value)
    }
}

impl fmt::Debug for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocId({self})")
    }
}

/// Prints the id as JSON, so that `"1"` and `1` differ.
impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::json::to_string(&self.value))
    }
}

impl From<&str> for DocId {
    /// # Panics
    /// If the text is over [`limits::DOC_ID_BYTES_MAX`]; use [`DocId::new`] for text from outside.
    fn from(text: &str) -> Self {
        Self::new(text.into()).expect("short literal id")
    }
}

fn check(value: &Value) -> Result<(), DocIdError> {
    match value {
        Value::Null => Err(DocIdError::Null),
        Value::Float(_) => Err(DocIdError::Float),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(fields) => fields.values().try_for_each(check),
        _ => Ok(()),
    }
}

//! Names of peers, databases, links and collections.

use std::fmt;

use crate::limits;

/// A peer: its ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// What may sync together: a UUID that every peer of one database shares.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseId(pub [u8; 16]);

/// Names a link of this peer; its owner chooses it and never uses it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// A checked collection name: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CollectionName(String);

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct IdParseError {
    what: &'static str,
    text: String,
}

impl IdParseError {
    pub(crate) fn of(what: &'static str, text: &str) -> Self {
        Self {
            what,
            text: text.to_owned(),
        }
    }
}

/// Why a text cannot name a collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CollectionNameError {
    /// Nothing was given.
    #[error("a collection name cannot be empty")]
    Empty,
    /// Over the limit.
    #[error("collection name of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// [`limits::COLLECTION_NAME_BYTES_MAX`].
        limit: usize,
    },
    /// A control character, which no terminal shows.
    #[error("a collection name cannot hold control characters")]
    ControlCharacter,
}

impl CollectionName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`CollectionNameError`] if it is empty, too long or not printable.
    pub fn new(name: &str) -> Result<Self, CollectionNameError> {
        if name.is_empty() {
            return Err(CollectionNameError::Empty);
        }
        if name.len() > limits::COLLECTION_NAME_BYTES_MAX {
            return Err(CollectionNameError::TooLong {
                bytes: name.len(),
                limit: limits::COLLECTION_NAME_BYTES_MAX,
            });
        }
        if name.chars().any(char::is_control) {
            return Err(CollectionNameError::ControlCharacter);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is reserved for the system (it starts with `__`).
    pub fn is_system(&self) -> bool {
        self.0.starts_with("__")
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerId(")?;
        write_hex(&self.0[..4], f)?;
        f.write_str("..)")
    }
}

impl std::str::FromStr for PeerId {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        parse_hex(text).map(Self).ok_or_else(|| IdParseError {
            what: "peer id (64 hex digits)",
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.0;
        for (i, part) in [&b[..4], &b[4..6], &b[6..8], &b[8..10], &b[10..]]
            .iter()
            .enumerate()
        {
            if i > 0 {
                f.write_str("-")?;
            }
            write_hex(part, f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseId({self})")
    }
}

impl std::str::FromStr for DatabaseId {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let dashes_fit = text.len() == 36
            && [8, 13, 18, 23]
                .iter()
                .all(|&at| text.as_bytes()[at] == b'-');
        let digits = if dashes_fit {
            text.replace('-', "")
        } else {
            text.to_owned()
        };
        parse_hex(&digits).map(Self).ok_or_else(|| IdParseError {
            what: "database id (a UUID)",
            text: text.to_owned(),
        })
    }
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *slot = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

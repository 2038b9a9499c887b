//! Where a field is inside a document.

use std::fmt;

use crate::{
    codec::{DecodeError, Reader, put_bytes, put_varint},
    limits,
    value::{Object, Value},
};

/// Field names from the top of a document down. Never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

/// Why segments cannot be a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldPathError {
    /// There was no segment.
    #[error("a field path needs at least one segment")]
    Empty,
    /// It goes deeper than documents nest.
    #[error("field path of {segments} segments is over the limit of {limit}")]
    TooDeep {
        /// How many there were.
        segments: usize,
        /// [`limits::FIELD_PATH_SEGMENTS_MAX`].
        limit: usize,
    },
}

impl FieldPath {
    /// Makes a path of its segments.
    ///
    /// # Errors
    /// [`FieldPathError`] if there are none or too many.
    pub fn new(segments: Vec<String>) -> Result<Self, FieldPathError> {
        match segments.len() {
            0 => Err(FieldPathError::Empty),
            count if count > limits::FIELD_PATH_SEGMENTS_MAX => Err(FieldPathError::TooDeep {
                segments: count,
                limit: limits::FIELD_PATH_SEGMENTS_MAX,
            }),
            _ => Ok(Self(segments)),
        }
    }

    /// The path of a top-level field.
    pub fn field(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// The segments, at least one.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The path to a field below this one.
    ///
    /// # Errors
    /// [`FieldPathError::TooDeep`] over the limit.
    pub fn child(&self, name: &str) -> Result<Self, FieldPathError> {
        let mut segments = self.0.clone();
        segments.push(name.to_owned());
        Self::new(segments)
    }

    /// Whether `other` is this path or below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The value at this path, if every segment is there.
    pub fn find<'a>(&self, fields: &'a Object) -> Option<&'a Value> {
        let (last, parents) = self.0.split_last()?;
        let mut fields = fields;
        for name in parents {
            fields = fields.get(name)?.as_object()?;
        }
        fields.get(last)
    }

    /// Appends a count, then each segment.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for segment in &self.0 {
            put_bytes(out, segment.as_bytes());
        }
    }

    /// Reads [`FieldPath::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] on an empty or too deep path, or bytes that are not UTF-8.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let count = reader.count("field path", limits::FIELD_PATH_SEGMENTS_MAX, 1)?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            segments.push(
                reader
                    .text("path segment", limits::DOCUMENT_BYTES_MAX)?
                    .to_owned(),
            );
        }
        Self::new(segments).map_err(|_| DecodeError::Invalid {
            what: "field path",
            at,
        })
    }
}

/// Prints as DQL reads it: bare names where possible, else in backticks.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            let mut chars = segment.chars();
            let bare = chars
                .next()
                .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
            if bare {
                f.write_str(segment)?
            } else {
                write!(f, "`{segment}`")?
            }
        }
        Ok(())
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldPath({self})")
    }
}

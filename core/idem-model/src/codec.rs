//! Varints, length-prefixed bytes and a bounds-checked reader: the alphabet of every binary form.
//!
//! Writers append to a `Vec<u8>`; [`Reader`] never panics and never allocates more than the input
//! could justify, so it may be pointed at hostile bytes.

/// Why bytes could not be read. Positions count from the start of the reader's input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a value.
    #[error("input ends at byte {at}, {needed} more needed")]
    Truncated {
        /// Where the reader stood.
        at: usize,
        /// How many bytes were missing.
        needed: usize,
    },
    /// A value is outside its allowed range.
    #[error("invalid {what} at byte {at}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// Where it started.
        at: usize,
    },
    /// A count or length is over its limit.
    #[error("{what} of {value} is over the limit of {limit}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// What the input claims.
        value: u64,
        /// The bound it broke.
        limit: u64,
    },
    /// The version byte names a format that this build does not read.
    #[error("unknown {what} version {version}")]
    UnknownVersion {
        /// Which format.
        what: &'static str,
        /// The version byte found.
        version: u8,
    },
    /// Bytes were left after the value.
    #[error("{count} bytes left after the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
}

/// Appends `value` as a LEB128 varint (1 to 10 bytes).
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low seven bits are meant"
        )]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80 here")]
    out.push(value as u8);
}

/// Appends a signed integer as a zigzag varint, so that small negatives stay short.
pub fn put_varint_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Appends a length prefix and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// A cursor over bytes that may be hostile.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the reader stands, from the start of its input.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether everything was read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.at..];
        match rest.get(..count) {
            Some(slice) => {
                self.at += count;
                Ok(slice)
            }
            None => Err(DecodeError::Truncated {
                at: self.at,
                needed: count - rest.len(),
            }),
        }
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] at the end of the input.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// The next byte, which stays to be read; `None` at the end of the input.
    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Everything that is left, which stays to be read.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// As [`Reader::take`], without saying what was wrong.
    #[inline]
    pub(crate) fn take_short(&mut self, count: usize) -> Option<&'a [u8]> {
        let slice = self.rest().get(..count)?;
        self.at += count;
        Some(slice)
    }

    /// As [`Reader::bytes`] for fewer than 128 of them; `None`, and nothing is read, if there are more
    /// or the input ends.
    #[inline]
    pub(crate) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let (&len, rest) = self.rest().split_first()?;
        let len = usize::from(len);
        let bytes = rest.get(..len).filter(|_| len < 0x80)?;
        self.at += 1 + len;
        Some(bytes)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let slice = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(slice);
        Ok(out)
    }

    /// A varint of [`put_varint`]. Only the shortest form is accepted, so every value has one form.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], or [`DecodeError::Invalid`] over 64 bits or with padding.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        // Nearly all are lengths and counts below 128.
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(byte.into())
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let invalid = DecodeError::Invalid {
            what: "varint",
            at: start,
        };
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(invalid);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(invalid)
                } else {
                    Ok(value)
                };
            }
        }
        Err(invalid)
    }

    /// A signed varint of [`put_varint_signed`].
    ///
    /// # Errors
    /// As [`Reader::varint`].
    #[inline]
    pub fn varint_signed(&mut self) -> Result<i64, DecodeError> {
        Ok(unzigzag(self.varint()?))
    }

    /// A count of things that take at least `bytes_each_min` bytes each, at most `limit`.
    ///
    /// Use it before reserving memory: a count that the rest of the input cannot hold is refused.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] over `limit`, [`DecodeError::Truncated`] if the input is too short.
    #[inline]
    pub fn count(
        &mut self,
        what: &'static str,
        limit: usize,
        bytes_each_min: usize,
    ) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        if value > limit as u64 {
            return Err(DecodeError::TooLarge {
                what,
                value,
                limit: limit as u64,
            });
        }
        let count = usize::try_from(value).map_err(|_| DecodeError::TooLarge {
            what,
            value,
            limit: limit as u64,
        })?;
        let needed = count.saturating_mul(bytes_each_min);
        if needed > self.remaining() {
            return Err(DecodeError::Truncated {
                at: self.at,
                needed: needed - self.remaining(),
            });
        }
        Ok(count)
    }

    /// Length-prefixed bytes of [`put_bytes`], at most `limit` long.
    ///
    /// # Errors
    /// As [`Reader::count`].
    #[inline]
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], DecodeError> {
        let len = self.count(what, limit, 1)?;
        self.take(len)
    }

    /// Length-prefixed UTF-8, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`]; [`DecodeError::Invalid`] if it is not UTF-8.
    #[inline]
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let bytes = self.bytes(what, limit)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid { what, at })
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] if anything is left.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }
}

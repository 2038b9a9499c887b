//! The value of a document row: a short header, then the encoded document.

use idem_model::{DecodeError, codec::Reader};

use idem_model::codec::put_varint;

const ROW_VERSION: u8 = 1;
const FLAG_TOMBSTONE: u8 = 1;
const FLAG_GROUPED: u8 = 2;
const FLAG_OVERSIZED: u8 = 4;
const FLAG_QUARANTINED: u8 = 8;

/// What the store notes beside a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Header {
    /// The local commit that last changed it; its row in the order of arrival is there.
    pub(crate) commit: u64,
    /// Its group within that commit, if it has one (see [`crate::groups`]); from 1.
    pub(crate) group: Option<u32>,
    /// When it may go, in Unix milliseconds, if it is a tombstone.
    pub(crate) expiry_ms: Option<u64>,
    /// Whether a merge made it larger than a local write may.
    pub(crate) is_oversized: bool,
    /// Whether it does not travel (see [`crate::quarantine`]).
    pub(crate) is_quarantined: bool,
}

impl Header {
    /// Writes the header in place of what `out` holds.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(ROW_VERSION);
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        out.push(
            flag(self.expiry_ms.is_some(), FLAG_TOMBSTONE)
                | flag(self.group.is_some(), FLAG_GROUPED)
                | flag(self.is_oversized, FLAG_OVERSIZED)
                | flag(self.is_quarantined, FLAG_QUARANTINED),
        );
        put_varint(out, self.commit);
        if let Some(group) = self.group {
            put_varint(out, group.into());
        }
        if let Some(expiry_ms) = self.expiry_ms {
            put_varint(out, expiry_ms);
        }
    }

    /// Reads a header and gives the encoded document behind it.
    pub(crate) fn decode(row: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let mut reader = Reader::new(row);
        let invalid = |what| DecodeError::Invalid { what, at: 0 };
        if reader.byte()? != ROW_VERSION {
            return Err(invalid("row version"));
        }
        let flags = reader.byte()?;
        if flags & !(FLAG_TOMBSTONE | FLAG_GROUPED | FLAG_OVERSIZED | FLAG_QUARANTINED) != 0 {
            return Err(invalid("row flags"));
        }
        let commit = reader.varint()?;
        let group = if flags & FLAG_GROUPED == 0 {
            None
        } else {
            Some(u32::try_from(reader.varint()?).map_err(|_| invalid("group number"))?)
        };
        let expiry_ms = if flags & FLAG_TOMBSTONE == 0 {
            None
        } else {
            Some(reader.varint()?)
        };
        let header = Self {
            commit,
            group,
            expiry_ms,
            is_oversized: flags & FLAG_OVERSIZED != 0,
            is_quarantined: flags & FLAG_QUARANTINED != 0,
        };
        Ok((header, &row[reader.position()..]))
    }
}

/// A document row as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) header: Header,
    bytes: Vec<u8>,
    body_at: usize,
}

impl Row {
    pub(crate) fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        let (header, body) = Header::decode(&bytes)?;
        let body_at = bytes.len() - body.len();
        Ok(Self {
            header,
            bytes,
            body_at,
        })
    }

    /// The encoded document.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body_at..]
    }

    /// Bytes of the row, its header included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_body(mut self) -> Vec<u8> {
        self.bytes.drain(..self.body_at);
        self.bytes
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.header.expiry_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        for group in [None, Some(1), Some(u32::MAX)] {
            for expiry_ms in [None, Some(0), Some(u64::MAX)] {
                for is_oversized in [false, true] {
                    let header = Header {
                        commit: u64::MAX,
                        group,
                        expiry_ms,
                        is_oversized,
                        is_quarantined: !is_oversized,
                    };
                    let mut bytes = b"what was there".to_vec();
                    header.encode_into(&mut bytes);
                    bytes.extend_from_slice(b"body");
                    let row = Row::decode(bytes).unwrap();
                    assert_eq!((row.header, row.body()), (header, &b"body"[..]));
                    assert_eq!(row.into_body(), b"body");
                }
            }
        }
        assert!(Row::decode(vec![2, 0, 0]).is_err());
        assert!(Row::decode(vec![1, 64, 0]).is_err());
        assert!(Row::decode(vec![1]).is_err());
    }
}

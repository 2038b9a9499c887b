//! A walk through the metadata of a document that builds nothing.
//!
//! It follows the grammar that the decoder reads (docs/format/disk.md, "Documents") and looks at the
//! shape of fields only. What it skips is not checked: the decoder does that.

use idem_model::{
    DecodeError, Value,
    codec::Reader,
    limits::{DOCUMENT_MERGED_BYTES_MAX, NESTING_LEVELS_MAX},
};

use super::*;

/// Whether some field holds several kinds.
pub(crate) fn decode_has_several_kinds(bytes: &[u8]) -> Result<bool, DecodeError> {
    let (_, metadata) = decode::split(bytes)?;
    let mut reader = Reader::new(metadata);
    match reader.byte()? {
        FORM_PLAIN => return Ok(false),
        FORM_GENERAL => {}
        _ => return Err(invalid("document form")),
    }
    for _ in 0..count(&mut reader, "version vector", 16 + 1)? {
        reader.take(16)?;
        reader.varint()?;
    }
    reader.take(8)?;
    for _ in 0..count(&mut reader, "stamps", 3)? {
        // Actor, commit, time.
        reader.varint()?;
        reader.varint()?;
        let code = reader.varint()?;
        if code > 0 && (code - 1) & 1 == 1 {
            reader.varint()?;
        }
    }
    let lives = count(&mut reader, "lives", 3)?;
    if lives != 1 {
        // Each life may hold another kind of the same field. No life is a deleted document.
        return Ok(lives > 1);
    }
    reader.varint()?;
    let mut survey = Survey { reader };
    survey.map(true, 0)
}

struct Survey<'a> {
    reader: Reader<'a>,
}

impl Survey<'_> {
    /// `is_shown`: the map stands among the visible values, so its entries are listed by place.
    fn map(&mut self, is_shown: bool, level: usize) -> Result<bool, DecodeError> {
        if level >= NESTING_LEVELS_MAX {
            return Err(invalid("nesting"));
        }
        self.stamps()?;
        if is_shown {
            for _ in 0..count(&mut self.reader, "listed fields", 2)? {
                self.reader.varint()?;
                if self.reader.varint()? == CODE_GENERAL && self.node(level + 1)? {
                    return Ok(true);
                }
            }
        }
        for _ in 0..count(&mut self.reader, "hidden fields", 2)? {
            self.reader.text("field name", DOCUMENT_MERGED_BYTES_MAX)?;
            if self.node(level + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn node(&mut self, level: usize) -> Result<bool, DecodeError> {
        let shape = self.reader.byte()?;
        if (shape & (HAS_REGISTER | HAS_MAP | HAS_COUNTER)).count_ones() > 1 {
            return Ok(true);
        }
        if shape & HAS_REGISTER != 0 {
            for _ in 0..count(&mut self.reader, "versions", 1)? {
                if self.reader.varint()? & 1 == 1 {
                    Value::decode_nested(&mut self.reader, level)?;
                }
            }
        }
        if shape & HAS_MAP != 0 {
            self.stamps()?;
            return self.map(shape >> SHOWN_SHIFT == SHOWN_MAP, level);
        }
        if shape & HAS_COUNTER != 0 {
            self.counter()?;
        }
        Ok(false)
    }

    fn counter(&mut self) -> Result<(), DecodeError> {
        self.stamps()?;
        for _ in 0..count(&mut self.reader, "restarts", 1)? {
            if self.reader.varint()? & 1 == 1 {
                self.reader.varint_signed()?;
                for _ in 0..count(&mut self.reader, "sums", 2)? {
                    self.reader.varint()?;
                    self.reader.varint_signed()?;
                }
            }
        }
        for _ in 0..count(&mut self.reader, "sums", 3)? {
            // Actor, commit, total.
            self.reader.varint()?;
            self.reader.varint()?;
            self.reader.varint_signed()?;
        }
        Ok(())
    }

    fn stamps(&mut self) -> Result<(), DecodeError> {
        for _ in 0..count(&mut self.reader, "stamps", 1)? {
            self.reader.varint()?;
        }
        Ok(())
    }
}

fn count(
    reader: &mut Reader<'_>,
    what: &'static str,
    bytes_each_min: usize,
) -> Result<usize, DecodeError> {
    reader.count(what, DOCUMENT_MERGED_BYTES_MAX, bytes_each_min)
}

fn invalid(what: &'static str) -> DecodeError {
    DecodeError::Invalid { what, at: 0 }
}

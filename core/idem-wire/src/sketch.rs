//! What a sketch of a set of documents is on the wire: a summary, and blocks of symbols.
//!
//! The meaning of the bytes is in docs/format/wire.md, "Sketches"; here they are only carried.

use idem_model::{
    DecodeError,
    codec::{Reader, put_varint},
    limits,
};

/// All of a set in about 23 bytes: equal sets are known by it. It stands for symbol 0, which holds
/// every item, so blocks begin with symbol 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SketchSummary {
    /// How many items the set has.
    pub items: u64,
    /// The items, combined with exclusive or.
    pub xor: [u8; 12],
    /// The sum of the hashes of the items, little-endian.
    pub check: [u8; 8],
}

/// The items of a set that map to one index, combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SketchSymbol {
    /// The items, combined with exclusive or.
    pub xor: [u8; 12],
    /// The sum of the lower halves of the hashes of the items, little-endian.
    pub check: [u8; 4],
    /// How many items, modulo 256.
    pub count: u8,
}

/// Consecutive symbols of one sketch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SketchBlock {
    /// Index of the first one, at least 1.
    pub first: u32,
    /// At least one.
    pub symbols: Vec<SketchSymbol>,
}

impl SketchSummary {
    /// Appends the summary: 21 to 30 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.items);
        out.extend_from_slice(&self.xor);
        out.extend_from_slice(&self.check);
    }

    /// Reads [`SketchSummary::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes end too soon or the count is not a varint.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            items: reader.varint()?,
            xor: reader.array()?,
            check: reader.array()?,
        })
    }
}

impl SketchSymbol {
    /// Bytes of a symbol on the wire.
    pub const BYTES: usize = 12 + 4 + 1;
}

impl SketchBlock {
    /// Appends the block: two varints and [`SketchSymbol::BYTES`] for each symbol.
    ///
    /// # Panics
    /// If the block has no symbols or goes beyond what [`SketchBlock::decode`] accepts.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let end = self.first as usize + self.symbols.len();
        assert!(
            self.first > 0
                && !self.symbols.is_empty()
                && end <= limits::SKETCH_SYMBOLS_MAX as usize,
            "a block holds symbols of a sketch, without the summary"
        );
        out.reserve(self.symbols.len() * SketchSymbol::BYTES + 6);
        put_varint(out, u64::from(self.first));
        put_varint(out, self.symbols.len() as u64);
        for symbol in &self.symbols {
            out.extend_from_slice(&symbol.xor);
            out.extend_from_slice(&symbol.check);
            out.push(symbol.count);
        }
    }

    /// Reads [`SketchBlock::encode`].
    ///
    /// # Errors
    /// [`DecodeError`] if the block is empty, holds symbol 0, goes beyond
    /// [`limits::SKETCH_SYMBOLS_MAX`] or ends too soon.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.position();
        let first = reader.varint()?;
        let left = u64::from(limits::SKETCH_SYMBOLS_MAX).saturating_sub(first);
        let invalid = |what| DecodeError::Invalid { what, at };
        let first = u32::try_from(first).map_err(|_| invalid("index of a symbol"))?;
        if first == 0 || left == 0 {
            return Err(invalid("index of a symbol"));
        }
        let left = usize::try_from(left).expect("at most the limit, which is small");
        let count = reader.count("symbols of a sketch", left, SketchSymbol::BYTES)?;
        if count == 0 {
            return Err(invalid("block without symbols"));
        }
        let mut symbols = Vec::with_capacity(count);
        for _ in 0..count {
            symbols.push(SketchSymbol {
                xor: reader.array()?,
                check: reader.array()?,
                count: reader.byte()?,
            });
        }
        Ok(Self { first, symbols })
    }
}

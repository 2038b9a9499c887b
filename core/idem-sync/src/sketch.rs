//! Finding what two sets of documents differ in, at a cost that depends on the difference only.
//!
//! A sketch is a row of symbols. Each symbol combines the items that map to its index so that what is
//! put in can be taken out: the symbols of one set less those of another are the symbols of their
//! difference, for what both have cancels out. A symbol that holds one item alone shows it, and taking it out of the others leaves
//! more that are alone. The row has no end: a receiver that cannot solve the first symbols asks for
//! more, and none is wasted. 1.35 symbols per difference are enough where there are many (rateless
//! invertible Bloom lookup tables, arXiv 2402.02668). docs/format/wire.md, "Sketches", gives every
//! byte.
//!
//! ```text
//!     subscriber                                source
//!     Sketch of what it holds                   Sketch of what it has in the same scope
//!        |  summary, block 1..5   ---------->      Decoder (holds a copy of the sketch)
//!        |  block 5..9            <-- asks --      Verdict::NeedMore
//!        |                        ---------->      Verdict::Complete: what either lacks
//! ```
//!
//! A source keeps one [`Sketch`] per scope and calls [`Sketch::insert`] and [`Sketch::remove`] as
//! documents come and go: the decoder needs symbols, never the items. A decoder works on a copy,
//! because both sides must stay at one moment until the verdict.
//!
//! What a [`Difference`] is worth: it explains all that was received, and against an honest peer it
//! is wrong with a probability of about 2^-64 ([`Decoder`]). A peer may still claim to hold what it
//! does not, or that this side holds what it does not; who acts on an item looks the document up.
//!
//! ```
//! use idem_model::{ActorId, CollectionName, DocId, Dot, VersionVector};
//! use idem_sync::sketch::{Decoder, Item, Salt, Sketch, Verdict};
//!
//! let salt = Salt([7; 16]);
//! let airports = CollectionName::new("airports")?;
//! let item = |id: &str, n| {
//!     let version = VersionVector::from_iter([Dot { actor: ActorId([1; 16]), n }]);
//!     Item::of(&salt, &airports, &DocId::from(id), &version)
//! };
//! let both = [item("FRA", 1), item("MUC", 2)];
//! let mut source = Sketch::of(salt, both, 64);
//! let subscriber = source.clone();
//! source.insert(item("HAM", 3));
//!
//! let mut decoder = Decoder::new(source, &subscriber.summary());
//! while let &Verdict::NeedMore(count) = decoder.verdict() {
//!     decoder.push(&subscriber.block(decoder.received(), count))?;
//! }
//! let Verdict::Complete(difference) = decoder.verdict() else {
//!     panic!("the sets differ by one item")
//! };
//! assert_eq!(difference.local_only, [item("HAM", 3)]);
//! assert_eq!(difference.remote_only, []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decoder;
mod indices;
mod item;

pub use decoder::{BlockError, Decoder, Difference, Hopeless, Verdict};
pub use idem_wire::{SketchBlock, SketchSummary, SketchSymbol};
pub(crate) use item::tag_of;
pub use item::{Item, KeyedHash, Salt, key_hash};

use idem_model::limits;
use indices::Indices;

/// The first symbols of a set of items, kept up to date as items come and go.
///
/// Takes 17 bytes for each symbol, however large the set is. Adding an item touches about
/// `2 ln(symbols)` symbols: 10 of 256, 13 of 1,024.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sketch {
    salt: Salt,
    items: u64,
    /// The sum of all hashes, of which symbol 0 has the lower half.
    check: u64,
    /// Items in the lower 96 bits, half of their hashes in the upper 32, combined by [`joined`].
    sums: Vec<u128>,
    /// How many items, modulo 256. Counts are only ever looked at after those of another sketch were
    /// taken away, where 1 and -1 matter: a count that is 1 by chance, being 257, is found out by the
    /// hash beside it. The true size of the set is in `items`.
    counts: Vec<u8>,
}

/// The items given are not those that the sketch was made of, so that it cannot be extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the set has changed since the sketch was made")]
pub struct SetChanged;

impl Sketch {
    /// The sketch of no items, with this many symbols (the summary is one of them). Use
    /// [`limits::SKETCH_SYMBOLS_CACHED`] for one that is kept.
    ///
    /// # Panics
    /// If `symbols` is 0 or above [`limits::SKETCH_SYMBOLS_MAX`].
    pub fn new(salt: Salt, symbols: u32) -> Self {
        assert!(
            (1..=limits::SKETCH_SYMBOLS_MAX).contains(&symbols),
            "a sketch has a legal number of symbols"
        );
        Self {
            salt,
            items: 0,
            check: 0,
            sums: vec![0; symbols as usize],
            counts: vec![0; symbols as usize],
        }
    }

    /// The sketch of a set. No item may come twice.
    ///
    /// # Panics
    /// As [`Sketch::new`].
    pub fn of(salt: Salt, items: impl IntoIterator<Item = Item>, symbols: u32) -> Self {
        let mut sketch = Self::new(salt, symbols);
        items.into_iter().for_each(|item| sketch.insert(item));
        sketch
    }

    /// Adds an item, which is not in the set yet.
    pub fn insert(&mut self, item: Item) {
        self.items += 1;
        self.combine(item, true);
    }

    /// Takes out an item of the set.
    ///
    /// # Panics
    /// If the set is empty. Another item that is not in the set goes unnoticed and spoils the sketch.
    pub fn remove(&mut self, item: Item) {
        let left = self.items.checked_sub(1);
        self.items = left.expect("what is removed was inserted");
        self.combine(item, false);
    }

    /// Adds another set, which has no item in common with this one: the partitions of a collection
    /// each keep a sketch, and the sum is the sketch of the collection. The sketch gets as many
    /// symbols as the shorter one has.
    ///
    /// # Panics
    /// If the salts differ.
    pub fn add(&mut self, other: &Self) {
        assert!(self.salt == other.salt, "sketches of one salt add up");
        self.items += other.items;
        self.check = self.check.wrapping_add(other.check);
        self.sums.truncate(other.sums.len());
        self.counts.truncate(other.sums.len());
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum = joined(*sum, *more);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.wrapping_add(*more);
        }
    }

    /// Makes the sketch longer, given all items of the set once more. Nothing happens if it has that
    /// many symbols already.
    ///
    /// # Errors
    /// [`SetChanged`] if these are not the items of the sketch; it stays as it was.
    ///
    /// # Panics
    /// If `symbols` is above [`limits::SKETCH_SYMBOLS_MAX`].
    pub fn extend(
        &mut self,
        items: impl IntoIterator<Item = Item>,
        symbols: u32,
    ) -> Result<(), SetChanged> {
        if symbols <= self.symbols() {
            return Ok(());
        }
        let longer = Self::of(self.salt, items, symbols);
        if longer.summary() != self.summary() {
            return Err(SetChanged);
        }
        *self = longer;
        Ok(())
    }

    /// How many symbols there are, with the summary.
    pub fn symbols(&self) -> u32 {
        u32::try_from(self.sums.len()).expect("at most the limit, which is small")
    }

    /// How many items the set has.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// The whole set in brief.
    pub fn summary(&self) -> SketchSummary {
        let (xor, _) = split(self.sums[0]);
        SketchSummary {
            items: self.items,
            xor,
            check: self.check.to_le_bytes(),
        }
    }

    /// `count` symbols from index `first` on, for the wire.
    ///
    /// # Panics
    /// If there are none, or symbol 0 or symbols beyond the last are among them.
    pub fn block(&self, first: u32, count: u32) -> SketchBlock {
        let range = first as usize..(first + count) as usize;
        assert!(first > 0 && count > 0, "symbol 0 is the summary");
        let symbol = |(&sum, &count): (&u128, &u8)| {
            let (xor, check) = split(sum);
            SketchSymbol { xor, check, count }
        };
        let symbols = self.sums[range.clone()].iter().zip(&self.counts[range]);
        SketchBlock {
            first,
            symbols: symbols.map(symbol).collect(),
        }
    }

    fn combine(&mut self, item: Item, is_added: bool) {
        let hash = item.hash(&self.salt);
        let (mut sum, mut count) = (sum_of(item, hash), 1);
        if is_added {
            self.check = self.check.wrapping_add(hash);
        } else {
            self.check = self.check.wrapping_sub(hash);
            (sum, count) = (opposite(sum), u8::MAX);
        }
        let symbols = self.sums.len() as u64;
        let mut indices = Indices::new(hash);
        while indices.at() < symbols {
            #[expect(clippy::cast_possible_truncation, reason = "below the length")]
            let index = indices.at() as usize;
            self.sums[index] = joined(self.sums[index], sum);
            self.counts[index] = self.counts[index].wrapping_add(count);
            indices.advance();
        }
    }
}

/// The bits of a sum that hold the item; the hash is above.
const ITEM_BITS: u128 = (1 << 96) - 1;

/// Two sums in one: items are combined with exclusive or, so that they come out again, and hashes are
/// added, so that they tell an item of one side from the same item of the other.
#[inline]
fn joined(a: u128, b: u128) -> u128 {
    ((a ^ b) & ITEM_BITS) | (a & !ITEM_BITS).wrapping_add(b & !ITEM_BITS)
}

/// What takes a sum out when it is joined.
#[inline]
fn opposite(sum: u128) -> u128 {
    (sum & ITEM_BITS) | (sum & !ITEM_BITS).wrapping_neg()
}

/// What a symbol combines: twelve bytes of item, and half of its hash.
fn sum_of(item: Item, hash: u64) -> u128 {
    let mut bytes = [0; 16];
    bytes[..Item::BYTES].copy_from_slice(&item.to_bytes());
    bytes[Item::BYTES..].copy_from_slice(&hash.to_le_bytes()[..4]);
    u128::from_le_bytes(bytes)
}

fn split(sum: u128) -> ([u8; 12], [u8; 4]) {
    let bytes = sum.to_le_bytes();
    let (mut xor, mut check) = ([0; 12], [0; 4]);
    xor.copy_from_slice(&bytes[..12]);
    check.copy_from_slice(&bytes[12..]);
    (xor, check)
}

//! Finding the difference of two sets in the symbols of both.

use idem_model::limits;

use super::{
    Item, SetChanged, Sketch, SketchBlock, SketchSummary, indices::Indices, joined, opposite,
    split, sum_of,
};

/// The symbols from which on the estimated size of the difference is believed enough to give up.
const ESTIMATE_SYMBOLS_MIN: u32 = 64;

/// The items that only one of two sets has, each list in order. A document that changed is in both
/// lists, with the same tag.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Difference {
    /// Items that the remote side lacks.
    pub local_only: Vec<Item>,
    /// Items that this side lacks.
    pub remote_only: Vec<Item>,
}

/// What a [`Decoder`] knows by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The difference, whole.
    Complete(Difference),
    /// So many more symbols are likely to be enough, or to show how many are. At least 1.
    NeedMore(u32),
    /// Another way of catching up is cheaper, or the only one.
    Hopeless(Hopeless),
}

/// Why a sketch is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Hopeless {
    /// The sizes of the sets differ by more than [`limits::SKETCH_SIZE_GAP_PARTS`] allows.
    SizesApart,
    /// The difference is larger than what a sketch finds cheaply.
    TooDifferent,
    /// No two sets have these symbols. Between honest peers, chance causes it about once in a million
    /// of the largest sketches.
    Contradiction,
}

/// Why a block cannot be used. The decoder is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Symbols come in order: the remote is at fault.
    #[error("symbols from {found} on, expected from {expected} on")]
    OutOfOrder {
        /// [`Decoder::received`].
        expected: u32,
        /// What came.
        found: u32,
    },
    /// The sketch of this side is shorter: call [`Decoder::extend`], then push the block again.
    #[error("{needed} symbols of the local set are needed, there are {present}")]
    LocalTooShort {
        /// How many.
        needed: u32,
        /// How many there are.
        present: u32,
    },
}

/// Takes the symbols of a remote set from those of a local one, and solves what is left.
///
/// # What a verdict is worth
///
/// [`Verdict::Complete`] is given when nothing is left in any symbol, and what was found agrees with
/// both summaries: in number, in the exclusive or of all items, and in the sum of their hashes of 64
/// bits. If nothing was found, the summaries are equal, which those of two given sets are by chance
/// with a probability of 2^-128 at most (64 bits of versions and 64 of hashes; tags may cancel out). If a wrong item was found, it passed 32 bits of hash in its symbol by
/// chance, and the other 32 in the summary: 2^-64, as likely as two versions of a document with the
/// same item. A wrong item that fails the second test ends in [`Hopeless`], and costs time only.
///
/// # What a hostile remote can do
///
/// Claim other items than it has, which nobody can tell from a set that has them. Symbols that are
/// nobody's end in [`Hopeless`]. Each received symbol is paid for with at most
/// [`limits::SKETCH_PEELS_PER_SYMBOL`] items of at most [`limits::SKETCH_INDICES_PER_ITEM_MAX`]
/// steps, in the worst case that a crafted item can cause, and about 17 steps otherwise. Memory is
/// that of the local sketch and 40 bytes for each item found.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The local sketch; of the symbols received so far, what is left of the difference.
    left: Sketch,
    local_items: u64,
    remote_items: u64,
    /// Difference of the summaries' hashes of all items.
    check: u64,
    found: Vec<Found>,
    received: u32,
    /// Sum of the estimates of each symbol received but the first.
    estimates: u64,
    verdict: Verdict,
}

#[derive(Clone, Debug)]
struct Found {
    item: Item,
    hash: u64,
    is_local: bool,
    /// The first index that was not received yet.
    rest: Indices,
}

impl Decoder {
    /// Compares the summaries. Equal sets are known at once, and often a single difference is.
    pub fn new(local: Sketch, remote: &SketchSummary) -> Self {
        let remote_check = u64::from_le_bytes(remote.check);
        let mut decoder = Self {
            local_items: local.items,
            remote_items: remote.items,
            check: local.check.wrapping_sub(remote_check),
            left: local,
            found: Vec::new(),
            received: 1,
            estimates: 0,
            verdict: Verdict::NeedMore(limits::SKETCH_SYMBOLS_FIRST),
        };
        let [a, b, c, d, ..] = remote.check;
        #[expect(clippy::cast_possible_truncation, reason = "counts are modulo 256")]
        let count = remote.items as u8;
        decoder
            .left
            .subtract(0, sum_from(remote.xor, [a, b, c, d]), count);
        let larger = decoder.local_items.max(remote.items);
        let gap_max = (larger / limits::SKETCH_SIZE_GAP_PARTS).max(limits::SKETCH_SIZE_GAP_MIN);
        let gap = decoder.local_items.abs_diff(remote.items);
        if gap > gap_max {
            decoder.verdict = Verdict::Hopeless(Hopeless::SizesApart);
        } else if gap > u64::from(decoder.symbols_max()) {
            decoder.verdict = Verdict::Hopeless(Hopeless::TooDifferent);
        } else {
            decoder.solve(0);
        }
        decoder
    }

    /// Takes in the next symbols of the remote set. Any number may come, also without being asked
    /// for; what comes after the end is ignored.
    ///
    /// # Errors
    /// [`BlockError`] if they are not the next ones, or not comparable yet.
    pub fn push(&mut self, block: &SketchBlock) -> Result<&Verdict, BlockError> {
        if !matches!(self.verdict, Verdict::NeedMore(_)) {
            return Ok(&self.verdict);
        }
        if block.first != self.received {
            return Err(BlockError::OutOfOrder {
                expected: self.received,
                found: block.first,
            });
        }
        let count = u32::try_from(block.symbols.len()).unwrap_or(u32::MAX);
        let needed = self.received.saturating_add(count);
        let present = self.left.symbols();
        if needed > present {
            return Err(BlockError::LocalTooShort { needed, present });
        }
        let from = self.received;
        for (index, symbol) in (from..).zip(&block.symbols) {
            let sum = sum_from(symbol.xor, symbol.check);
            self.left.subtract(index as usize, sum, symbol.count);
            self.estimates += self.estimate_by(index);
        }
        self.received = needed;
        // What was found already is part of these symbols too.
        for found in &mut self.found {
            let sum = sum_of(found.item, found.hash);
            while found.rest.at() < u64::from(needed) {
                self.left.take_out(found.rest.at(), sum, found.is_local);
                found.rest.advance();
            }
        }
        self.solve(from as usize);
        Ok(&self.verdict)
    }

    /// Makes the local sketch longer, given the items that the local set had when the decoder was
    /// made.
    ///
    /// # Errors
    /// [`SetChanged`] if the items are others by now. Start over with a summary of today.
    pub fn extend(
        &mut self,
        items: impl IntoIterator<Item = Item>,
        symbols: u32,
    ) -> Result<(), SetChanged> {
        if symbols <= self.left.symbols() {
            return Ok(());
        }
        let longer = Sketch::of(self.left.salt, items, symbols);
        if longer.items != self.local_items || longer.check != self.left.check {
            return Err(SetChanged);
        }
        let from = self.left.sums.len();
        self.left.sums.extend_from_slice(&longer.sums[from..]);
        self.left.counts.extend_from_slice(&longer.counts[from..]);
        Ok(())
    }

    /// What is known by now.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// How many symbols were taken in, with the summary: the index of the next one.
    pub fn received(&self) -> u32 {
        self.received
    }

    /// How many symbols the local sketch has.
    pub fn local_symbols(&self) -> u32 {
        self.left.symbols()
    }

    /// Finds what can be found, given that symbols from index `from` on are fresh.
    fn solve(&mut self, from: usize) {
        let received = self.received as usize;
        let mut queued = vec![false; received];
        let mut queue: Vec<usize> = Vec::new();
        for index in from..received {
            self.enqueue(index, &mut queue, &mut queued);
        }
        while let Some(index) = queue.pop() {
            queued[index] = false;
            let Some((found, indices)) = self.alone(index) else {
                continue;
            };
            if self.found.len() as u64
                >= u64::from(self.received) * u64::from(limits::SKETCH_PEELS_PER_SYMBOL)
            {
                self.verdict = Verdict::Hopeless(Hopeless::Contradiction);
                return;
            }
            let sum = sum_of(found.item, found.hash);
            for at in indices {
                self.left.take_out(at, sum, found.is_local);
                #[expect(clippy::cast_possible_truncation, reason = "below the length")]
                self.enqueue(at as usize, &mut queue, &mut queued);
            }
            self.found.push(found);
        }
        self.verdict = self.judge();
    }

    fn enqueue(&self, index: usize, queue: &mut Vec<usize>, queued: &mut [bool]) {
        if matches!(self.left.counts[index], 1 | u8::MAX) && !queued[index] {
            queued[index] = true;
            queue.push(index);
        }
    }

    /// The item of a symbol that holds one alone, and the indices of it that were received.
    fn alone(&self, index: usize) -> Option<(Found, Vec<u64>)> {
        let is_local = match self.left.counts[index] {
            1 => true,
            u8::MAX => false,
            _ => return None,
        };
        let sum = self.left.sums[index];
        let (bytes, _) = split(sum);
        let item = Item::from_bytes(bytes);
        let hash = item.hash(&self.left.salt);
        let expected = match is_local {
            true => sum_of(item, hash),
            false => opposite(sum_of(item, hash)),
        };
        if sum != expected {
            return None;
        }
        let mut rest = Indices::new(hash);
        let mut indices = Vec::with_capacity(32);
        while rest.at() < u64::from(self.received) {
            if indices.len() == limits::SKETCH_INDICES_PER_ITEM_MAX {
                return None;
            }
            indices.push(rest.at());
            rest.advance();
        }
        // The other half of the hash decides where an item belongs, so this tells most of what passed
        // by chance.
        indices.contains(&(index as u64)).then_some((
            Found {
                item,
                hash,
                is_local,
                rest,
            },
            indices,
        ))
    }

    fn judge(&self) -> Verdict {
        let range = ..self.received as usize;
        let is_solved = self.left.sums[range].iter().all(|sum| *sum == 0)
            && self.left.counts[range].iter().all(|count| *count == 0);
        if is_solved {
            return match self.difference() {
                Some(difference) => Verdict::Complete(difference),
                None => Verdict::Hopeless(Hopeless::Contradiction),
            };
        }
        let symbols_max = self.symbols_max();
        let estimate = self.estimate();
        let is_too_large =
            self.received >= ESTIMATE_SYMBOLS_MIN && estimate > 2 * u64::from(symbols_max);
        if self.received >= symbols_max || is_too_large {
            return Verdict::Hopeless(Hopeless::TooDifferent);
        }
        // As many symbols as the estimate needs, 1.35 to 1.45 for each difference and more where there
        // are few. The estimate from k symbols is off by sqrt(2/k): at first it is worth no more than
        // doubling, with 100 symbols it may be followed anywhere.
        let target = estimate + estimate * 7 / 16 + 4;
        let more = target.saturating_sub(self.received.into());
        let first = u64::from(limits::SKETCH_SYMBOLS_FIRST);
        let received = u64::from(self.received);
        let most = received.max(received * received / 16).max(first);
        let more = more.clamp((received / 4).max(first), most);
        let left = u64::from(symbols_max - self.received);
        Verdict::NeedMore(u32::try_from(more.min(left)).expect("at most the limit"))
    }

    /// What was found, if it is the difference that the summaries have.
    fn difference(&self) -> Option<Difference> {
        let mut found: Vec<(Item, bool)> = self
            .found
            .iter()
            .map(|found| (found.item, found.is_local))
            .collect();
        found.sort_unstable();
        let check = self.found.iter().fold(0u64, |sum, found| {
            if found.is_local {
                sum.wrapping_add(found.hash)
            } else {
                sum.wrapping_sub(found.hash)
            }
        });
        let mut difference = Difference::default();
        let mut rest = found.iter().peekable();
        while let Some(&(item, is_local)) = rest.next() {
            let twin = rest.next_if(|next| next.0 == item);
            match (is_local, twin) {
                (true, None) => difference.local_only.push(item),
                (false, None) => difference.remote_only.push(item),
                // Found wrongly and taken back: it was never there.
                (false, Some((_, true))) if rest.peek().is_none_or(|next| next.0 != item) => {}
                _ => return None,
            }
        }
        let grown = self.remote_items + difference.local_only.len() as u64;
        let sizes_agree = grown == self.local_items + difference.remote_only.len() as u64;
        (sizes_agree && check == self.check).then_some(difference)
    }

    /// What the symbols say about the size of the difference, one standard deviation being
    /// `sqrt(2 / received)` of it.
    fn estimate(&self) -> u64 {
        let gap = self.local_items.abs_diff(self.remote_items);
        let symbols = u64::from(self.received - 1).max(1);
        (self.estimates / symbols).max(gap)
    }

    /// The size of the difference as one symbol tells it before anything was taken out.
    ///
    /// Of `d` differences symbol `i` has each with probability `p = 2 / (i + 2)`, counted up for one
    /// side and down for the other. If the sizes of the sets differ by `g`, the count is `p g` on the
    /// average, with a variance of `d p (1 - p)`; so the square of what it is off, divided by
    /// `p (1 - p)`, is `d` on the average.
    fn estimate_by(&self, index: u32) -> u64 {
        // At most 2^12, or the sketch was given up at once.
        let gap = self.local_items.wrapping_sub(self.remote_items);
        let (gap, scale) = (gap.cast_signed(), i64::from(index) + 2);
        // The count is known modulo 256: take the one nearest to the average.
        let average = 2 * gap / scale;
        #[expect(clippy::cast_possible_truncation, reason = "modulo 256 is meant")]
        let beyond = self.left.counts[index as usize].wrapping_sub(average as u8);
        let off = scale * (average + i64::from(beyond.cast_signed())) - 2 * gap;
        // At most 2^20, so that the sum of all symbols is below 2^52.
        (off * off).unsigned_abs() / u64::from(2 * index)
    }

    /// More symbols than this are not asked for.
    fn symbols_max(&self) -> u32 {
        let larger = self.local_items.max(self.remote_items);
        let larger = u32::try_from(larger).unwrap_or(u32::MAX);
        larger.clamp(limits::SKETCH_SYMBOLS_ASKED_MIN, limits::SKETCH_SYMBOLS_MAX)
    }
}

impl Sketch {
    /// Takes an item that was found out of one symbol.
    fn take_out(&mut self, index: u64, sum: u128, is_local: bool) {
        #[expect(clippy::cast_possible_truncation, reason = "below the length")]
        let index = index as usize;
        if is_local {
            self.subtract(index, sum, 1);
        } else {
            self.subtract(index, opposite(sum), u8::MAX);
        }
    }

    fn subtract(&mut self, index: usize, sum: u128, count: u8) {
        self.sums[index] = joined(self.sums[index], opposite(sum));
        self.counts[index] = self.counts[index].wrapping_sub(count);
    }
}

fn sum_from(xor: [u8; 12], check: [u8; 4]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..12].copy_from_slice(&xor);
    bytes[12..].copy_from_slice(&check);
    u128::from_le_bytes(bytes)
}

//! A hash table of rows that stays inside a budget of bytes.
//!
//! A row is found with two accesses to memory that is likely to be cold: the slot and the row. That
//! is why the table is one array with open addressing (the slot of a hash, or one of those behind
//! it), and why the eviction keeps no lists: a hand goes round the array and takes what was not read
//! since it last came by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::limits::ROW_CACHE_ROUNDS_MAX;

/// Slots of the first array.
const SLOTS_MIN: usize = 16;

/// What an allocation takes beside its bytes: the counters of the `Arc`, the allocator's size, and
/// what it rounds up by at most.
const ALLOCATION_BYTES: usize = 40;

/// A key with its value behind it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The first generation in which it is known to be true.
    pub(super) since: u64,
    key_bytes: u16,
    bytes: Arc<[u8]>,
}

impl Row {
    /// A row of `joined`: a key of so many bytes, and its value.
    pub(super) fn new(since: u64, key_bytes: usize, joined: &[u8]) -> Self {
        Self {
            since,
            key_bytes: u16::try_from(key_bytes).expect("a row is below 64 KiB"),
            bytes: joined.into(),
        }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.key_bytes)]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[usize::from(self.key_bytes)..]
    }
}

/// A row in the table: its fields side by side, which makes two slots a line of the processor's cache.
#[derive(Debug)]
struct Slot {
    bytes: Arc<[u8]>,
    since: u64,
    hash: u32,
    key_bytes: u16,
    /// How many rounds of the hand it outlives.
    rounds: AtomicU8,
}

const _: () = assert!(size_of::<Option<Slot>>() == 32 || size_of::<usize>() < 8);

impl Slot {
    fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.key_bytes)]
    }

    fn memory(&self) -> usize {
        ALLOCATION_BYTES + self.bytes.len()
    }
}

#[derive(Debug, Default)]
pub(super) struct RowTable {
    /// A power of two, or none; never more than three quarters full, so that a search ends.
    slots: Box<[Option<Slot>]>,
    len: usize,
    /// Memory of the rows.
    row_bytes: usize,
    hand: usize,
}

impl RowTable {
    /// Memory taken, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.row_bytes + size_of_val::<[Option<Slot>]>(&self.slots)
    }

    /// The row of a key.
    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<Row> {
        let slot = self.slots[self.find(hash, key)?].as_ref()?;
        let rounds = slot.rounds.load(Ordering::Relaxed);
        // Two readers may count as one, and what counts enough is not written to again.
        if rounds < ROW_CACHE_ROUNDS_MAX {
            slot.rounds.store(rounds + 1, Ordering::Relaxed);
        }
        Some(Row {
            since: slot.since,
            key_bytes: slot.key_bytes,
            bytes: Arc::clone(&slot.bytes),
        })
    }

    /// Adds or replaces a row, and makes room for it: the table never takes more than `bytes_max`.
    /// A row that is larger than that alone is not added.
    pub(super) fn insert(&mut self, hash: u32, row: Row, bytes_max: usize) {
        let rounds = self.remove(hash, row.key()).unwrap_or(0);
        let needed = ALLOCATION_BYTES + row.bytes.len();
        while self.row_bytes + needed + self.slots_for_next() * size_of::<Option<Slot>>()
            > bytes_max
        {
            if self.len == 0 {
                return;
            }
            self.evict();
        }
        if self.slots_for_next() != self.slots.len() {
            self.grow();
        }
        self.row_bytes += needed;
        self.place(Slot {
            bytes: row.bytes,
            since: row.since,
            hash,
            key_bytes: row.key_bytes,
            rounds: AtomicU8::new(rounds),
        });
    }

    /// Removes the row of a key; how many rounds it had left.
    pub(super) fn remove(&mut self, hash: u32, key: &[u8]) -> Option<u8> {
        let place = self.find(hash, key)?;
        let mut slot = self.take(place);
        Some(*slot.rounds.get_mut())
    }

    /// Slots that the table has with one more row in it.
    fn slots_for_next(&self) -> usize {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            (self.slots.len() * 2).max(SLOTS_MIN)
        } else {
            self.slots.len()
        }
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.slots.len() - 1)
    }

    fn first(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn find(&self, hash: u32, key: &[u8]) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut place = self.first(hash);
        loop {
            let slot = self.slots[place].as_ref()?;
            if slot.hash == hash && slot.key() == key {
                return Some(place);
            }
            place = self.next(place);
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut place = self.first(slot.hash);
        while self.slots[place].is_some() {
            place = self.next(place);
        }
        self.slots[place] = Some(slot);
        self.len += 1;
    }

    /// Empties a slot and closes the gap, so that a search that passed it goes on finding.
    fn take(&mut self, place: usize) -> Slot {
        let taken = self.slots[place].take().expect("what is taken was found");
        self.len -= 1;
        self.row_bytes -= taken.memory();
        let mask = self.slots.len() - 1;
        let (mut gap, mut place) = (place, place);
        loop {
            place = self.next(place);
            let Some(slot) = &self.slots[place] else {
                return taken;
            };
            // A row may move to the gap unless its search begins behind it.
            let from_first = place.wrapping_sub(self.first(slot.hash)) & mask;
            let from_gap = place.wrapping_sub(gap) & mask;
            if from_first >= from_gap {
                self.slots[gap] = self.slots[place].take();
                gap = place;
            }
        }
    }

    /// Removes one row. Ends, for each row outlives a few rounds only.
    fn evict(&mut self) {
        loop {
            let place = self.hand & (self.slots.len() - 1);
            if let Some(slot) = &mut self.slots[place] {
                let rounds = slot.rounds.get_mut();
                if *rounds == 0 {
                    // The hand stays: another row may come to this slot.
                    self.take(place);
                    return;
                }
                *rounds -= 1;
            }
            self.hand = place + 1;
        }
    }

    fn grow(&mut self) {
        let slots = self.slots_for_next();
        let before = std::mem::take(&mut self.slots);
        self.slots = std::iter::repeat_with(|| None).take(slots).collect();
        self.len = 0;
        for slot in before.into_iter().flatten() {
            self.place(slot);
        }
    }
}

#[cfg(test)]
mod tests;

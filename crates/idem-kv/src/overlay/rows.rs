//! Values of one table that were asked for by their keys, kept in memory before the engine.
//!
//! Finding a key in the engine costs a search in every level of a tree and the checksum of the value;
//! finding it here costs one search in a hash table.
//!
//! The engine's states are numbered: a *generation* ends with each commit to the engine. A row says
//! from which generation on it is true, and what a commit changes leaves the cache before anyone can
//! see the next generation. So a row that is here is true in each generation from its own to the
//! present one, and a snapshot may use it if the row is not younger.

mod table;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use self::table::{Row, RowTable};
use crate::limits::{ROW_CACHE_PARTS, ROW_CACHE_ROW_BYTES_MAX};
use crate::{Batch, Table};

pub(super) struct RowCache {
    table: Table,
    parts: [RwLock<RowTable>; ROW_CACHE_PARTS],
    part_bytes_max: usize,
    /// Seeded at random: nobody can choose ids that all fall into one slot.
    hasher: RandomState,
    /// The number of the engine's present state. Whoever adds a row holds it for reading.
    generation: RwLock<u64>,
}

impl std::fmt::Debug for RowCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowCache")
            .field("table", &self.table)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl RowCache {
    /// For rows of `table`, in at most `bytes` of memory.
    pub(super) fn new(table: Table, bytes: usize) -> Self {
        Self {
            table,
            parts: Default::default(),
            part_bytes_max: bytes / ROW_CACHE_PARTS,
            hasher: RandomState::new(),
            generation: RwLock::new(0),
        }
    }

    pub(super) fn table(&self) -> Table {
        self.table
    }

    pub(super) fn generation(&self) -> u64 {
        *self
            .generation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory taken, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let bytes =
            |part: &RwLock<RowTable>| part.read().unwrap_or_else(PoisonError::into_inner).bytes();
        self.parts.iter().map(bytes).sum()
    }

    /// The row of a key as a snapshot of `generation` sees it, if it is here; `read` gets its value.
    pub(super) fn read<R>(
        &self,
        generation: u64,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let (part, hash) = self.place(key);
        let row = part
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(hash, key)?;
        // Without the lock: `read` may do anything.
        (row.since <= generation).then(|| read(row.value()))
    }

    /// Keeps what a snapshot of `generation` found in the engine. A snapshot of the past cannot tell
    /// whether that is still true, and adds nothing.
    pub(super) fn keep(&self, generation: u64, key: &[u8], value: &[u8]) {
        // A reader does not wait for a flush: the next one can add the row.
        let present = match self.generation.try_read() {
            Ok(present) => present,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // Held until the row is in: one that came behind the end of its generation would stay.
        if *present == generation {
            self.insert(generation, key, value);
        }
    }

    /// Begins another generation: the engine has, or may have, what is in `batch`. Nobody may see the
    /// engine's next state before this returns.
    ///
    /// What is in the engine for certain is kept, for what was just written is often read next. What
    /// only may be there is forgotten.
    pub(super) fn advance(&self, batch: &Batch, is_committed: bool) {
        let generation = {
            let mut present = self
                .generation
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            *present += 1;
            *present
        };
        // Without the lock: nobody has this generation yet, and for those before nothing is added.
        for operation in batch {
            if operation.table != self.table {
                continue;
            }
            match operation.value {
                Some(value) if is_committed => self.insert(generation, operation.key, value),
                _ => self.remove(operation.key),
            }
        }
    }

    fn insert(&self, since: u64, key: &[u8], value: &[u8]) {
        thread_local! {
            // Key and value become one allocation, which takes a slice of both.
            static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let joined_bytes = key.len() + value.len();
        if joined_bytes > ROW_CACHE_ROW_BYTES_MAX {
            // There may be a smaller one of before.
            return self.remove(key);
        }
        let row = JOINED.with_borrow_mut(|joined| {
            joined.clear();
            joined.extend_from_slice(key);
            joined.extend_from_slice(value);
            Row::new(since, key.len(), joined)
        });
        let (part, hash) = self.place(key);
        writing(part).insert(hash, row, self.part_bytes_max);
    }

    fn remove(&self, key: &[u8]) {
        let (part, hash) = self.place(key);
        writing(part).remove(hash, key);
    }

    /// The part of a key, and its hash within.
    fn place(&self, key: &[u8]) -> (&RwLock<RowTable>, u32) {
        let hash = self.hasher.hash_one(key);
        let part = (hash >> 32) as usize % ROW_CACHE_PARTS;
        (&self.parts[part], hash as u32)
    }
}

fn writing(part: &RwLock<RowTable>) -> RwLockWriteGuard<'_, RowTable> {
    // A panic in the table would be one of its own arithmetic; rows carry their keys.
    part.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

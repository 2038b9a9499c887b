//! All versions of all keys of the commits since the last flush, in a skip list.
//!
//! One writer inserts while any number of readers walk the list, and nobody waits.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};

use crossbeam_skiplist::SkipSet;
use crossbeam_skiplist::set::Entry;

use crate::{Batch, Table};

/// What an entry takes beside its key and value: the list's node with a tower of two pointers on
/// average, and the record in it.
const ENTRY_BYTES: u64 = 112;

#[derive(Debug, Default)]
pub(super) struct Memtable {
    versions: SkipSet<Version>,
    bytes: AtomicU64,
}

/// One operation of one commit. It points into a copy of the commit's batch.
#[derive(Debug)]
struct Version {
    batch: Arc<[u8]>,
    table: Table,
    key: Range<u32>,
    /// None for a delete.
    value: Option<Range<u32>>,
    position: u64,
}

impl Version {
    fn key_bytes(&self) -> &[u8] {
        &self.batch[self.key.start as usize..self.key.end as usize]
    }

    fn same_key(&self, other: &Self) -> bool {
        self.table == other.table && self.key_bytes() == other.key_bytes()
    }

    fn value_bytes(&self) -> Option<&[u8]> {
        self.value
            .as_ref()
            .map(|range| &self.batch[range.start as usize..range.end as usize])
    }
}

/// The order of the list: by table, key, and newest first. As a trait, so that a search can compare
/// against a key it does not own.
trait Place {
    fn place(&self) -> (Table, &[u8], u64);
}

impl Place for Version {
    fn place(&self) -> (Table, &[u8], u64) {
        (self.table, self.key_bytes(), self.position)
    }
}

struct Probe<'a> {
    table: Table,
    key: &'a [u8],
    position: u64,
}

impl Place for Probe<'_> {
    fn place(&self) -> (Table, &[u8], u64) {
        (self.table, self.key, self.position)
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let (table, key, position) = self.place();
        let (other_table, other_key, other_position) = other.place();
        table
            .cmp(&other_table)
            .then_with(|| key.cmp(other_key))
            .then_with(|| other_position.cmp(&position))
    }
}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl<'a> Borrow<dyn Place + 'a> for Version {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        (self as &dyn Place).cmp(other as &dyn Place)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// What a table has to say about a key.
pub(super) enum Found<T> {
    /// Nothing: look further down.
    Absent,
    /// The key was deleted.
    Deleted,
    Value(T),
}

impl Memtable {
    /// Adds every operation of `batch` under `position`. Only one thread at a time may call it.
    pub(super) fn insert(&self, batch: &Batch, position: u64) {
        let copy: Arc<[u8]> = batch.as_bytes().into();
        let origin = batch.as_bytes().as_ptr() as usize;
        let range = |slice: &[u8]| {
            let start = slice.as_ptr() as usize - origin;
            let start = u32::try_from(start).expect("a batch is far below 4 GiB");
            let length = u32::try_from(slice.len()).expect("a batch is far below 4 GiB");
            start..start + length
        };
        for operation in batch {
            self.versions.insert(Version {
                batch: Arc::clone(&copy),
                table: operation.table,
                key: range(operation.key),
                value: operation.value.map(range),
                position,
            });
        }
        let bytes = copy.len() as u64 + batch.len() as u64 * ENTRY_BYTES;
        self.bytes.fetch_add(bytes, AtomicOrdering::Relaxed);
    }

    /// Memory taken, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(AtomicOrdering::Relaxed)
    }

    /// The newest version of a key at `position`; `read` gets its value.
    pub(super) fn read<R>(
        &self,
        table: Table,
        key: &[u8],
        position: u64,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Found<R> {
        // An empty list is common, and then the search need not even begin.
        if self.bytes() == 0 {
            return Found::Absent;
        }
        let probe = Probe {
            table,
            key,
            position,
        };
        match self
            .versions
            .lower_bound(Bound::Included(&probe as &dyn Place))
        {
            Some(entry) if entry.table == table && entry.key_bytes() == key => {
                match entry.value_bytes() {
                    Some(value) => Found::Value(read(value)),
                    None => Found::Deleted,
                }
            }
            _ => Found::Absent,
        }
    }

    /// The newest version of every key, in order: what the engine gets.
    pub(super) fn newest(&self) -> Batch {
        let mut batch = Batch::new();
        let mut before: Option<Entry<'_, Version>> = None;
        for entry in &self.versions {
            let repeated = before
                .as_ref()
                .is_some_and(|before| before.same_key(&entry));
            if !repeated {
                batch.push(entry.table, entry.key_bytes(), entry.value_bytes());
                before = Some(entry);
            }
        }
        batch
    }

    /// The keys of `table` in `from..to`, each with its newest version at `position`.
    pub(super) fn walk<'a>(
        &'a self,
        table: Table,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        reverse: bool,
        position: u64,
    ) -> Walk<'a> {
        let next = if self.bytes() == 0 {
            None
        } else if reverse {
            // The first of all versions of `to`, or what would be the first key of the next table.
            let end = match to {
                Some(key) => Probe {
                    table,
                    key,
                    position: u64::MAX,
                },
                None => Probe {
                    table: Table(table.0 + 1),
                    key: &[],
                    position: u64::MAX,
                },
            };
            self.versions
                .upper_bound(Bound::Excluded(&end as &dyn Place))
        } else {
            let start = Probe {
                table,
                key: from,
                position: u64::MAX,
            };
            self.versions
                .lower_bound(Bound::Included(&start as &dyn Place))
        };
        let mut walk = Walk {
            next,
            current: None,
            table,
            from,
            to,
            reverse,
            position,
        };
        walk.advance();
        walk
    }
}

/// A walk over the keys of one table, standing at one of them.
pub(super) struct Walk<'a> {
    next: Option<Entry<'a, Version>>,
    current: Option<Entry<'a, Version>>,
    table: Table,
    from: &'a [u8],
    to: Option<&'a [u8]>,
    reverse: bool,
    position: u64,
}

impl Walk<'_> {
    /// The key stood at and its value, or none if it was deleted.
    pub(super) fn current(&self) -> Option<(&[u8], Option<&[u8]>)> {
        self.current
            .as_ref()
            .map(|entry| (entry.key_bytes(), entry.value_bytes()))
    }

    /// Goes on to the next key that has a version at the position.
    pub(super) fn advance(&mut self) {
        self.current = None;
        if self.reverse {
            self.advance_down()
        } else {
            self.advance_up()
        }
    }

    fn advance_up(&mut self) {
        while let Some(version) = self.next.take().filter(|version| self.contains(version)) {
            let mut next = version.next();
            // Newest first: the first that is not too new is the one, and the rest is skipped.
            let visible = version.position <= self.position;
            if visible {
                while next.as_ref().is_some_and(|next| next.same_key(&version)) {
                    next = next.and_then(|next| next.next());
                }
                self.current = Some(version);
            }
            self.next = next;
            if visible {
                return;
            }
        }
    }

    fn advance_down(&mut self) {
        while let Some(oldest) = self.next.take().filter(|version| self.contains(version)) {
            let mut chosen = None;
            let mut version = Some(oldest.clone());
            // Oldest first: the last that is not too new is the one.
            while let Some(same) = version.take_if(|version| version.same_key(&oldest)) {
                version = same.prev();
                if same.position <= self.position {
                    chosen = Some(same);
                }
            }
            self.next = version;
            self.current = chosen;
            if self.current.is_some() {
                return;
            }
        }
    }

    fn contains(&self, version: &Version) -> bool {
        version.table == self.table
            && if self.reverse {
                version.key_bytes() >= self.from
            } else {
                self.to.is_none_or(|to| version.key_bytes() < to)
            }
    }
}

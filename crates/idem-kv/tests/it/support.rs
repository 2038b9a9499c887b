//! The twin of every engine, and a seeded generator of work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use idem_kv::{Batch, KvError, RedbOptions, Snapshot, Table};
use idem_vault::{Cipher, Purpose, Vault};

thread_local! {
    /// What the engines of this thread are encrypted with.
    static CIPHER: RefCell<Option<Cipher>> = const { RefCell::new(None) };
}

/// Runs a test on encrypted engines.
pub(crate) fn sealed(test: impl FnOnce()) {
    CIPHER.set(Some(
        Vault::in_memory().unwrap().cipher(Purpose::Engine).unwrap(),
    ));
    test();
    CIPHER.set(None);
}

/// Whether this thread's engines are encrypted.
pub(crate) fn is_sealed() -> bool {
    CIPHER.with_borrow(Option::is_some)
}

/// How this thread opens engines.
pub(crate) fn options() -> RedbOptions {
    let mut options = RedbOptions::default();
    options.cipher = CIPHER.with_borrow(Clone::clone);
    options
}

/// What every engine must agree with: one ordered map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Twin {
    entries: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
}

pub(crate) type Entries = Vec<(Vec<u8>, Vec<u8>)>;

impl Twin {
    pub(crate) fn commit(&mut self, batch: &Batch) {
        for operation in batch {
            let place = (operation.table.0, operation.key.to_vec());
            match operation.value {
                Some(value) => self.entries.insert(place, value.to_vec()),
                None => self.entries.remove(&place),
            };
        }
    }

    pub(crate) fn get(&self, table: u8, key: &[u8]) -> Option<Vec<u8>> {
        self.entries.get(&(table, key.to_vec())).cloned()
    }

    pub(crate) fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, reverse: bool) -> Entries {
        let mut found: Entries = self
            .entries
            .iter()
            .filter(|((in_table, key), _)| {
                *in_table == table
                    && key.as_slice() >= from
                    && to.is_none_or(|to| key.as_slice() < to)
            })
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        if reverse {
            found.reverse();
        }
        found
    }

    /// Compares everything.
    pub(crate) fn check(&self, snapshot: &dyn Snapshot, context: &str) {
        for table in 0..8 {
            let found = scan(snapshot, table, &[], None, false, usize::MAX).expect(context);
            assert_eq!(
                found,
                self.scan(table, &[], None, false),
                "{context}, table {table}"
            );
        }
    }
}

/// Scans until `limit` entries are visited.
pub(crate) fn scan(
    snapshot: &dyn Snapshot,
    table: u8,
    from: &[u8],
    to: Option<&[u8]>,
    reverse: bool,
    limit: usize,
) -> Result<Entries, KvError> {
    let mut found = Entries::new();
    snapshot.scan(Table(table), from, to, reverse, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() >= limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(found)
}

#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    /// One of some hundred keys, among them the empty one and prefixes of each other.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let bytes = [0, 1, 0x7f, 0xfe, 0xff];
        let length = self.below(5);
        let mut key: Vec<u8> = (0..length)
            .map(|_| bytes[self.below(bytes.len())])
            .collect();
        if self.below(20) == 0 {
            key.extend(std::iter::repeat_n(7, 1000));
        }
        key
    }

    /// A value, often of a size near that of a page, and different from all others.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let size = match self.below(24) {
            0 => 0,
            1 => 4096 - 8 + self.below(16),
            2 => 2048 - 8 + self.below(16),
            3 => 9000,
            4 => 65_000,
            _ => self.below(120),
        };
        let fill = self.next().to_be_bytes();
        (0..size).map(|at| fill[at % 8]).collect()
    }

    pub(crate) fn batch(&mut self) -> Batch {
        let mut batch = Batch::new();
        for _ in 0..1 + self.below(8) {
            let table = Table(u8::try_from(self.below(3) * 3).unwrap());
            if self.below(3) == 0 {
                batch.delete(table, &self.key());
            } else {
                batch.put(table, &self.key(), &self.value());
            }
        }
        batch
    }
}

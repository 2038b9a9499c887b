//! Rows found again by their values: what GROUP BY, DISTINCT, hash joins and IN over a subquery keep.

use std::collections::BTreeMap;

use idem_model::{Value, key};

use crate::plan::canonical;

/// Keys to the order in which they came, from 0.
///
/// A hash of the key picks one of many small trees. The hash is a fixed function, so whoever chooses
/// the values can make all keys pick one tree; a look-up then costs a logarithm as in any tree, and
/// no order that shows depends on the hash.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two.
    trees: Vec<BTreeMap<Box<[u8]>, usize>>,
    len: usize,
}

/// Keys per tree on average before there are more trees: a node of a tree holds 11.
const KEYS_PER_TREE: usize = 6;
const GROWTH: usize = 8;

/// About how many bytes an entry takes beside its key.
const ENTRY_BYTES: usize = 64;

impl Default for Table {
    fn default() -> Self {
        Self {
            trees: vec![BTreeMap::new()],
            len: 0,
        }
    }
}

impl Table {
    /// About how many bytes one more key takes.
    pub(super) fn bytes_of(key: &[u8]) -> usize {
        ENTRY_BYTES + key.len()
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.trees[self.tree(key)].get(key).copied()
    }

    /// The number of a key, and whether it was not there before.
    pub(super) fn insert(&mut self, key: &[u8]) -> (usize, bool) {
        let tree = self.tree(key);
        if let Some(known) = self.trees[tree].get(key) {
            return (*known, false);
        }
        self.trees[tree].insert(key.into(), self.len);
        self.len += 1;
        if self.len > self.trees.len() * KEYS_PER_TREE {
            self.grow();
        }
        (self.len - 1, true)
    }

    /// The numbers in the order of their keys.
    pub(super) fn into_sorted(self) -> Vec<usize> {
        let mut all: Vec<(Box<[u8]>, usize)> = self.trees.into_iter().flatten().collect();
        all.sort_unstable();
        all.into_iter().map(|(_, number)| number).collect()
    }

    fn tree(&self, key: &[u8]) -> usize {
        match self.trees.len() {
            1 => 0,
            trees => hash(key) & (trees - 1),
        }
    }

    fn grow(&mut self) {
        let trees = self.trees.len() * GROWTH;
        let known = std::mem::replace(&mut self.trees, vec![BTreeMap::new(); trees]);
        for (key, number) in known.into_iter().flatten() {
            let tree = self.tree(&key);
            self.trees[tree].insert(key, number);
        }
    }
}

fn hash(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut chunks = key.chunks_exact(8);
    let mut hash = key.len() as u64;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    let mut word = [0; 8];
    let rest = chunks.remainder();
    word[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(word));
    // The low bits of a product depend on the low bits of its factors alone.
    (hash >> 32) as usize
}

/// Appends a form of the value that is the same for equal values, `1` and `1.0` among them.
pub(super) fn encode(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        None => key::encode_missing(out),
        Some(value @ (Value::Float(_) | Value::Array(_) | Value::Object(_))) => {
            key::encode(&canonical(value.clone()), out);
        }
        Some(value) => key::encode(value, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_numbers_while_the_table_grows() {
        let mut table = Table::default();
        let key = |number: usize| format!("key {}", number % 1000).into_bytes();
        for number in 0..3000 {
            assert_eq!(table.insert(&key(number)), (number % 1000, number < 1000));
        }
        assert_eq!(table.len, 1000);
        assert!(table.trees.len() > 100, "{} trees", table.trees.len());
        for number in 0..1000 {
            assert_eq!(table.find(&key(number)), Some(number));
        }
        assert_eq!(table.find(b"another"), None);
        let mut sorted: Vec<usize> = (0..1000).collect();
        sorted.sort_by_key(|number| key(*number));
        assert_eq!(table.into_sorted(), sorted);
    }

    #[test]
    fn keys_spread_over_the_trees() {
        let mut table = Table::default();
        for number in 0..10_000_i64 {
            let mut key = Vec::new();
            encode(Some(&Value::Int(number)), &mut key);
            table.insert(&key);
        }
        let fullest = table.trees.iter().map(BTreeMap::len).max().unwrap();
        assert!(fullest < 40, "one tree holds {fullest} of 10,000 keys");
    }

    #[test]
    fn equal_values_have_one_form() {
        let form = |value: &Value| {
            let mut out = Vec::new();
            encode(Some(value), &mut out);
            out
        };
        let one = [Value::Int(1), Value::Float(1.0)];
        assert_eq!(form(&one[0]), form(&one[1]));
        assert_eq!(
            form(&Value::Array(vec![one[0].clone()])),
            form(&Value::Array(vec![one[1].clone()]))
        );
        assert_ne!(form(&Value::Int(1)), form(&Value::from("1")));
    }
}

//! What must hold, whatever happens.

use std::collections::BTreeMap;

use idem_crdt::Document;
use idem_model::{DocumentKey, Value};

use crate::{
    disk::Disk,
    options::Options,
    workload::{PAIR_FIELD, TALLY_FIELD, pair},
};

/// A promise of ARCHITECTURE.md, section "Promises", that was broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two peers hold different bytes after everything healed.
    #[error("P2: peers {a} and {b} hold different states of {key}")]
    Diverged {
        /// The first peer.
        a: usize,
        /// The second one.
        b: usize,
        /// The first document that differs.
        key: DocumentKey,
    },
    /// The peers agree on something else than the merge of all that was acknowledged.
    #[error("P3: peer {peer} does not hold what was acknowledged for {key}")]
    Lost {
        /// The peer looked at.
        peer: usize,
        /// The first document that differs.
        key: DocumentKey,
    },
    /// A counter is not the sum of what was added to it.
    #[error("P3: peer {peer} counts {found} in {key}, {expected} were added")]
    Miscounted {
        /// The peer looked at.
        peer: usize,
        /// The document.
        key: DocumentKey,
        /// What was added and acknowledged.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// A peer shows one half of a transaction.
    #[error("P4: peer {peer} shows {values} where both must be the same")]
    Torn {
        /// The peer.
        peer: usize,
        /// The two values.
        values: String,
    },
    /// A session gave its link up though nobody broke a rule.
    #[error("P5: peer {peer} gave its link up ({reason}: {detail})")]
    GaveUp {
        /// The peer.
        peer: usize,
        /// The stable reason.
        reason: &'static str,
        /// More words.
        detail: String,
    },
    /// The peers do not come to rest after everything healed.
    #[error("P7: no rest after {events} events and {seconds} simulated seconds")]
    Unrest {
        /// Events since it healed.
        events: u64,
        /// Seconds since it healed.
        seconds: u64,
    },
    /// Something grew over its limit.
    #[error("P7: peer {peer} remembers {count} versions")]
    Unbounded {
        /// The peer.
        peer: usize,
        /// How many.
        count: u64,
    },
    /// A deleted document is there.
    #[error("P8: {key} is back on peer {peer}")]
    Revived {
        /// The peer.
        peer: usize,
        /// The document.
        key: DocumentKey,
    },
}

/// What was acknowledged to whoever wrote it.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    documents: BTreeMap<DocumentKey, Document>,
    tallies: BTreeMap<DocumentKey, i64>,
}

/// A transaction that is not durable yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) commit: u64,
    pub(crate) states: Vec<(DocumentKey, Vec<u8>)>,
    pub(crate) tallied: Vec<(DocumentKey, i64)>,
}

impl Oracle {
    /// The writer was told that it is safe.
    pub(crate) fn acknowledge(&mut self, written: Written) {
        for (key, state) in written.states {
            let state = Document::decode(&state).expect("written by ourselves");
            self.documents.entry(key).or_default().merge(&state);
        }
        for (key, by) in written.tallied {
            *self.tallies.entry(key).or_insert(0) += by;
        }
    }

    /// Every peer holds the merge of everything acknowledged, and nothing else.
    pub(crate) fn check<'a>(&self, disks: impl Iterator<Item = &'a Disk>) -> Result<(), Violation> {
        let disks: Vec<&Disk> = disks.collect();
        let states: Vec<_> = disks.iter().map(|disk| disk.states()).collect();
        for (b, other) in states.iter().enumerate().skip(1) {
            if let Some(key) = first_difference(&states[0], other) {
                return Err(Violation::Diverged { a: 0, b, key });
            }
        }
        let documents = self.documents.iter();
        let expected: BTreeMap<_, _> = documents
            .map(|(key, document)| (key.clone(), document.to_bytes()))
            .collect();
        if let Some(key) = first_difference(&states[0], &expected) {
            return Err(Violation::Lost { peer: 0, key });
        }
        for (key, &expected) in &self.tallies {
            let fields = disks[0].fields(key).unwrap_or_default();
            let found = match fields.get(TALLY_FIELD) {
                Some(Value::Int(found)) => *found,
                _ => 0,
            };
            if found != expected {
                return Err(Violation::Miscounted {
                    peer: 0,
                    key: key.clone(),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// Both halves of each pair show the same.
pub(crate) fn check_pairs(peer: usize, disk: &Disk, options: &Options) -> Result<(), Violation> {
    for number in 0..options.pairs {
        let [a, b] = pair(number).map(|key| {
            let fields = disk.fields(&key)?;
            Some(fields.get(PAIR_FIELD).cloned())
        });
        if a != b {
            let values = format!("{a:?} and {b:?} in pair {number}");
            return Err(Violation::Torn { peer, values });
        }
    }
    Ok(())
}

fn first_difference(
    a: &BTreeMap<DocumentKey, Vec<u8>>,
    b: &BTreeMap<DocumentKey, Vec<u8>>,
) -> Option<DocumentKey> {
    let keys = a.keys().chain(b.keys());
    keys.filter(|key| a.get(key) != b.get(key)).min().cloned()
}

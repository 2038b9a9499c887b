//! How stores in memory take in what comes.

use std::collections::{BTreeMap, BTreeSet};

use idem_crdt::{Delta, Document};
use idem_model::{DocumentKey, HybridClock, Skew};

use crate::replica::{ApplyOutcome, Incoming, IncomingState};

/// What a batch comes to.
pub(crate) struct Merged {
    /// One for each document that came.
    pub(crate) outcomes: Vec<ApplyOutcome>,
    /// What is new, with the group that brought it.
    pub(crate) changed: BTreeMap<DocumentKey, (u32, Document)>,
    /// Those of them that stay in quarantine.
    pub(crate) doubtful: BTreeSet<DocumentKey>,
    /// The clock, which has seen all of them.
    pub(crate) clock: HybridClock,
}

/// Merges a batch with what is held. `is_in_doubt` says of a document that is new, present, and came as a tombstone
/// or not, whether it stays in quarantine.
pub(crate) fn merge_all(
    incoming: Vec<Incoming>,
    (mut clock, now_ms): (HybridClock, u64),
    state_of: impl Fn(&DocumentKey) -> Document,
    is_in_doubt: impl Fn(&DocumentKey, &Document, bool) -> bool,
) -> Merged {
    let mut changed: BTreeMap<DocumentKey, (u32, Document)> = BTreeMap::new();
    let mut doubtful = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(incoming.len());
    for Incoming { key, group, state } in incoming {
        let mut document = match changed.get(&key) {
            Some((_, document)) => document.clone(),
            None => state_of(&key),
        };
        let (outcome, is_tombstone) = merge(&mut document, &state);
        let skew = clock.observe(document.time(), now_ms);
        if outcome != ApplyOutcome::Changed {
            outcomes.push(outcome);
            continue;
        }
        if matches!(skew, Skew::FarAhead { .. }) {
            outcomes.push(ApplyOutcome::TooFarAhead);
            continue;
        }
        if document.is_present() && is_in_doubt(&key, &document, is_tombstone) {
            doubtful.insert(key.clone());
        } else {
            doubtful.remove(&key);
        }
        changed.insert(key, (group, document));
        outcomes.push(outcome);
    }
    Merged {
        outcomes,
        changed,
        doubtful,
        clock,
    }
}

/// Merges, and tells whether what came is a tombstone.
fn merge(document: &mut Document, state: &IncomingState) -> (ApplyOutcome, bool) {
    let (changed, is_tombstone) = match state {
        IncomingState::Whole(bytes) => match Document::decode(bytes) {
            Ok(other) => (document.merge(&other), !other.is_present()),
            Err(_) => return (ApplyOutcome::Refused, false),
        },
        IncomingState::Delta(bytes) => match Delta::decode(bytes) {
            Ok(delta) => match document.merge_delta(&delta) {
                Ok(changed) => (changed, !delta.is_present()),
                Err(_) => return (ApplyOutcome::Gap(document.version().clone()), false),
            },
            Err(_) => return (ApplyOutcome::Refused, false),
        },
    };
    let outcome = match changed {
        true => ApplyOutcome::Changed,
        false => ApplyOutcome::Unchanged,
    };
    (outcome, is_tombstone)
}

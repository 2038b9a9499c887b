//! What must hold, whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use idem_crdt::Document;
use idem_model::{DocumentKey, Value, VersionVector};

use crate::{
    afterlife::History,
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
    /// A peer confirmed to another one that it holds a document, and a crash showed that it does not.
    #[error("P3: peer {peer} confirmed {key} to peer {neighbour} and does not hold it")]
    NotHeld {
        /// The peer.
        peer: usize,
        /// To whom it said so.
        neighbour: usize,
        /// The document.
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
    #[error("P7: peer {peer} has {count} {what}, {limit} are the limit")]
    Unbounded {
        /// The peer.
        peer: usize,
        /// What of.
        what: &'static str,
        /// How many.
        count: u64,
        /// And how many it may have.
        limit: u64,
    },
    /// An attachment is not what was put in, or a fetch of it does not end as it should.
    #[error("attachments: at peer {peer}, {what}")]
    Attachment {
        /// The peer.
        peer: usize,
        /// What is wrong.
        what: String,
    },
    /// Something is gone that nobody deleted, and nothing says why.
    #[error("P8: the field {field} of {key} is gone from peer {peer}, and nobody deleted it")]
    Vanished {
        /// The peer.
        peer: usize,
        /// The document.
        key: DocumentKey,
        /// What is missing.
        field: String,
    },
    /// A peer sent what its sync scope keeps from the receiver.
    #[error("scope: peer {from} gave {key} to peer {to}, which its sync scope leaves out")]
    Leaked {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// The document.
        key: DocumentKey,
    },
    /// A peer took in what its sync scope keeps from it.
    #[error("scope: peer {peer} took {key} from peer {from}, which its sync scope leaves out")]
    TookIn {
        /// The receiver.
        peer: usize,
        /// The sender.
        from: usize,
        /// The document.
        key: DocumentKey,
    },
    /// A peer that wants the first documents of an order has others.
    #[error("window: number {place} is {found} on peer {peer}, and {expected} is there elsewhere")]
    WrongWindow {
        /// The peer.
        peer: usize,
        /// At which place of the order, from 1.
        place: usize,
        /// What the peer has there.
        found: String,
        /// What is to be there. The document may be the same one, in another state.
        expected: String,
    },
    /// A mesh keeps more links than it may.
    #[error("mesh: peer {peer} has {count} links over {medium}, {limit} are the limit")]
    TooManyLinks {
        /// The peer.
        peer: usize,
        /// Over which medium.
        medium: String,
        /// How many.
        count: usize,
        /// And how many it may have.
        limit: usize,
    },
    /// There are islands that could be joined, and are not.
    #[error("mesh: there are {found} islands, and could be {could_be}")]
    Islands {
        /// How many there are.
        found: usize,
        /// How many there would be if all linked that could.
        could_be: usize,
    },
    /// A peer shows others who is there, and it is not so.
    #[error("mesh: peer {peer} shows {what}")]
    WrongPicture {
        /// The peer.
        peer: usize,
        /// What it shows.
        what: String,
    },
    /// An honest peer was taken for one that breaks rules.
    #[error("mesh: peer {by} takes peer {peer} for hostile: {what}")]
    Slandered {
        /// The peer.
        peer: usize,
        /// Who says so.
        by: usize,
        /// What it is said to have done.
        what: String,
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
    acknowledged: Vec<Acknowledged>,
}

#[derive(Debug)]
struct Acknowledged {
    written: Written,
    /// A backup took the place of the disk that held it, and perhaps nobody else did.
    is_doubtful: bool,
    /// Who has had all of it since its disk was last replaced, and did not evict it.
    holders: BTreeSet<usize>,
}

/// A transaction that is not durable yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) commit: u64,
    pub(crate) states: Vec<(DocumentKey, Vec<u8>)>,
    pub(crate) tallied: Vec<(DocumentKey, i64)>,
}

/// What all peers must agree on.
#[derive(Default)]
struct Expected {
    documents: BTreeMap<DocumentKey, Document>,
    tallies: BTreeMap<DocumentKey, i64>,
    /// Documents and sums that may hold more than that.
    open: BTreeSet<DocumentKey>,
}

impl Oracle {
    /// The writer was told that it is safe.
    pub(crate) fn acknowledge(&mut self, written: Written) {
        self.acknowledged.push(Acknowledged {
            written,
            is_doubtful: false,
            holders: BTreeSet::new(),
        });
    }

    /// A backup took the place of a disk. What `is_held` does not find may be lost, which is what
    /// backups do.
    pub(crate) fn doubt(&mut self, is_held: impl Fn(&DocumentKey, &VersionVector) -> bool) {
        for it in &mut self.acknowledged {
            let mut states = it.written.states.iter();
            let is_surely_held = states.all(|(key, state)| is_held(key, &version(state)));
            it.is_doubtful |= !is_surely_held;
        }
    }

    /// Notes who has what, where stores forget what was deleted and [`Oracle::doubt`] cannot tell.
    pub(crate) fn note_holders<'a>(&mut self, disks: impl Iterator<Item = (usize, &'a Disk)>) {
        for (peer, disk) in disks {
            let states = disk.states();
            for it in &mut self.acknowledged {
                let mut written = it.written.states.iter();
                let holds_all = written.all(|(key, state)| {
                    let held = states.get(key);
                    held.is_some_and(|held| version(held).covers_all(&version(state)))
                });
                if holds_all {
                    it.holders.insert(peer);
                }
            }
        }
    }

    /// A peer has lost what is known of some documents, or of all of them. What nobody else had may be
    /// lost for good.
    pub(crate) fn lose(&mut self, peer: usize, keys: Option<&[DocumentKey]>) {
        for it in &mut self.acknowledged {
            let mut written = it.written.states.iter();
            if keys.is_none_or(|keys| written.any(|(key, _)| keys.contains(key))) {
                it.holders.remove(&peer);
                it.is_doubtful |= it.holders.is_empty();
            }
        }
    }

    /// Every peer holds the merge of everything acknowledged, and nothing else. Documents of `beside`
    /// are left out.
    pub(crate) fn check<'a>(
        &self,
        disks: impl Iterator<Item = (usize, &'a Disk)>,
        beside: Option<&str>,
    ) -> Result<(), Violation> {
        let Some((a, disk, first)) = agree(disks, beside)? else {
            return Ok(());
        };
        let expected = self.expected();
        let documents = expected.documents.iter();
        let surely: BTreeMap<_, _> = documents
            .map(|(key, document)| (key.clone(), document.to_bytes()))
            .collect();
        let keys: BTreeSet<&DocumentKey> = first.keys().chain(surely.keys()).collect();
        for key in keys {
            let (found, surely) = (first.get(key), surely.get(key));
            let is_right = found == surely
                || expected.open.contains(key) && is_above(found, expected.documents.get(key));
            if !is_right {
                let key = key.clone();
                return Err(Violation::Lost { peer: a, key });
            }
        }
        for (key, &sum) in &expected.tallies {
            let fields = disk.fields(key).unwrap_or_default();
            let found = match fields.get(TALLY_FIELD) {
                Some(Value::Int(found)) => *found,
                _ => 0,
            };
            // Tallies only ever rise.
            if found != sum && !(expected.open.contains(key) && found > sum) {
                return Err(Violation::Miscounted {
                    peer: a,
                    key: key.clone(),
                    expected: sum,
                    found,
                });
            }
        }
        Ok(())
    }

    /// What was done to each document.
    pub(crate) fn histories(&self) -> BTreeMap<DocumentKey, History> {
        let mut histories: BTreeMap<DocumentKey, History> = BTreeMap::new();
        for it in &self.acknowledged {
            for (key, state) in &it.written.states {
                let history = histories.entry(key.clone()).or_default();
                history.is_open |= it.is_doubtful;
                let state = Document::decode(state).expect("written by ourselves");
                match state.is_present() {
                    true => history.written.push(state.version().clone()),
                    false => {
                        let deletion = (state.version().clone(), it.is_doubtful);
                        history.deletions.push(deletion);
                    }
                }
                history.merged.merge(&state);
            }
        }
        histories
    }

    fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        for it in &self.acknowledged {
            let keys = it.written.states.iter().map(|(key, _)| key.clone());
            if it.is_doubtful {
                expected.open.extend(keys);
                continue;
            }
            for (key, state) in &it.written.states {
                let state = Document::decode(state).expect("written by ourselves");
                let document = expected.documents.entry(key.clone());
                document.or_default().merge(&state);
            }
            for (key, by) in &it.written.tallied {
                *expected.tallies.entry(key.clone()).or_insert(0) += by;
            }
        }
        expected
    }
}

/// The encoded documents of a store.
type States = BTreeMap<DocumentKey, Vec<u8>>;

/// All disks hold the same, documents of `beside` left out; returns the first of them and what it holds.
pub(crate) fn agree<'a>(
    mut disks: impl Iterator<Item = (usize, &'a Disk)>,
    beside: Option<&str>,
) -> Result<Option<(usize, &'a Disk, States)>, Violation> {
    let states = |disk: &Disk| {
        let mut states = disk.states();
        states.retain(|key, _| Some(key.collection.as_str()) != beside);
        states
    };
    let Some((a, disk)) = disks.next() else {
        return Ok(None);
    };
    let first = states(disk);
    for (b, other) in disks {
        if let Some(key) = first_difference(&first, &states(other)) {
            return Err(Violation::Diverged { a, b, key });
        }
    }
    Ok(Some((a, disk, first)))
}

/// The version of an encoded document.
pub(crate) fn version(state: &[u8]) -> VersionVector {
    idem_crdt::encoded_version(state).expect("written by ourselves")
}

/// Whether a state holds everything that another one holds.
fn is_above(found: Option<&Vec<u8>>, surely: Option<&Document>) -> bool {
    let Some(surely) = surely else {
        return true;
    };
    let Some(found) = found else {
        return false;
    };
    let mut found = Document::decode(found).expect("written by ourselves");
    !found.merge(surely)
}

/// Both halves of each pair show the same.
pub(crate) fn check_pairs(peer: usize, disk: &Disk, options: &Options) -> Result<(), Violation> {
    if !options.keeps_groups() {
        return Ok(());
    }
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

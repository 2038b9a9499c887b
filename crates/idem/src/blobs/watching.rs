//! Whether documents still refer to what is being fetched.
//!
//! Looking reads all documents, on a thread of its own; so it is done only while something is fetched, after
//! something was committed, and for a tenth of the time at most.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use idem_model::{BlobId, BlobKey};

use super::{Input, Shared, marking};

/// How long to wait at least after a look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How much longer than it took to wait after a look.
const PAUSES_PER_LOOK: u32 = 10;

/// What a look found.
pub(super) struct Looked {
    referenced: BTreeSet<BlobId>,
    /// The last commit before it.
    commit: u64,
    /// Nothing was committed meanwhile, so that no token was missed that moved.
    is_steady: bool,
    took: Duration,
}

/// What is fetched, and whether documents refer to it.
#[derive(Default)]
pub(super) struct Watch {
    fetched: BTreeMap<BlobKey, Known>,
    is_looking: bool,
    /// Up to which commit documents were looked at.
    seen: Option<u64>,
    at: Duration,
}

#[derive(Default)]
struct Known {
    was_referenced: bool,
    /// How often in a row it was not found.
    missed: u8,
}

impl Watch {
    pub(super) fn begin(&mut self, key: BlobKey) {
        self.fetched.entry(key).or_insert_with(|| {
            self.seen = None;
            Known::default()
        });
    }

    pub(super) fn end(&mut self, key: BlobKey) {
        self.fetched.remove(&key);
    }

    /// When to call [`look`](Self::look).
    pub(super) fn next(&self) -> Option<Duration> {
        (!self.is_looking && !self.fetched.is_empty()).then_some(self.at)
    }

    /// Looks at the documents if there is reason to.
    pub(super) fn look(&mut self, now: Duration, shared: &Arc<Shared>) {
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        self.at = now + LOOK_EVERY;
        let commit = shared.documents.last_commit();
        if self.seen == Some(commit) {
            return;
        }
        let shared = Arc::clone(shared);
        let spawned = thread::Builder::new()
            .name("idem-look".to_owned())
            .spawn(move || {
                let start = Instant::now();
                let found = marking::referenced(&shared.documents);
                let looked = found.ok().map(|referenced| Looked {
                    referenced,
                    commit,
                    is_steady: shared.documents.last_commit() == commit,
                    took: start.elapsed(),
                });
                shared.push(Input::Looked { looked });
            });
        self.is_looking = spawned.is_ok();
    }

    /// Takes in what a look found. Gives what documents referred to before and do not any more.
    pub(super) fn looked(&mut self, now: Duration, looked: Option<Looked>) -> Vec<BlobKey> {
        self.is_looking = false;
        let Some(looked) = looked else {
            return Vec::new();
        };
        self.at = now + LOOK_EVERY.max(looked.took * PAUSES_PER_LOOK);
        let mut lost = Vec::new();
        let mut is_doubtful = false;
        for (key, known) in &mut self.fetched {
            if looked.referenced.contains(&key.id) {
                known.was_referenced = true;
                known.missed = 0;
                continue;
            }
            known.missed = known.missed.saturating_add(1 + u8::from(looked.is_steady));
            if known.was_referenced && known.missed >= 2 {
                lost.push(*key);
            }
            is_doubtful |= known.was_referenced && known.missed < 2;
        }
        self.seen = (!is_doubtful).then_some(looked.commit);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(ids: &[BlobKey], commit: u64, is_steady: bool) -> Option<Looked> {
        Some(Looked {
            referenced: ids.iter().map(|key| key.id).collect(),
            commit,
            is_steady,
            took: Duration::ZERO,
        })
    }

    #[test]
    fn only_what_was_referred_to_can_be_lost() {
        let [a, b] = [1, 2].map(|number| BlobKey {
            id: BlobId([number; 32]),
            len: 5,
        });
        let now = Duration::ZERO;
        let mut watch = Watch::default();
        watch.begin(a);
        watch.begin(b);
        assert!(watch.looked(now, looked(&[a], 1, true)).is_empty());
        assert!(watch.looked(now, looked(&[a], 2, true)).is_empty());
        // While documents change, a token that moves may be seen in neither place.
        assert!(watch.looked(now, looked(&[], 3, false)).is_empty());
        assert!(watch.looked(now, looked(&[a], 4, false)).is_empty());
        assert!(watch.looked(now, looked(&[], 5, false)).is_empty());
        assert_eq!(watch.looked(now, looked(&[], 6, false)), [a]);
        watch.end(a);
        assert!(watch.looked(now, looked(&[], 7, true)).is_empty());
        watch.begin(a);
        assert!(
            watch.looked(now, looked(&[], 7, true)).is_empty(),
            "a fetch of its own"
        );
        assert!(watch.looked(now, looked(&[a, b], 8, true)).is_empty());
        assert_eq!(watch.looked(now, looked(&[], 9, true)), [a, b]);
    }
}

//! What the sessions of a peer gather together: who has the same, what came in, and who was asked for what.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{PeerId, VersionVector, limits};
use idem_wire::AnnouncedItem;

use crate::known::KeyHash;

/// So long one source has to send what it was asked for, before another one is asked that announced the same.
pub(crate) const PULL_PATIENCE: Duration = Duration::from_secs(3);

/// What all sessions of a peer share, so that a change which several neighbours announce is asked of one of
/// them. Its owner keeps it beside the store and hands it out with [`Replica::gathering`].
///
/// It belongs to a process: who starts anew, or whose store goes back to an earlier state, starts with an
/// empty one. What it says to have come in must be in the store.
///
/// [`Replica::gathering`]: crate::Replica::gathering
#[derive(Clone, Default, Debug)]
pub struct Gathering {
    /// The remotes from which all that is wanted comes live.
    sources: Vec<PeerId>,
    arrivals: Recent,
    /// Rises with each that comes in, and when one that was asked will not send.
    changes: u64,
    /// The last local commit that brought one.
    commit: u64,
    /// Whom a change was asked of that has not come, and when.
    asked: BTreeMap<AnnouncedItem, (PeerId, Duration)>,
}

/// What to do about a change that was announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It is here.
    Held,
    /// To be asked for.
    Ask,
    /// Somebody else was asked; look again at this time.
    Wait(Duration),
}

impl Gathering {
    /// Whether more than one remote has the same, so that announcements are of use.
    pub(crate) fn is_shared(&self) -> bool {
        self.sources.len() > 1
    }

    /// All that is wanted comes live from this remote, or does not any more. Who does not will not answer
    /// either.
    pub(crate) fn set_source(&mut self, remote: PeerId, is_source: bool) {
        self.sources.retain(|source| *source != remote);
        if is_source {
            self.sources.push(remote);
        } else {
            let before = self.asked.len();
            self.asked.retain(|_, (asked, _)| *asked != remote);
            self.changes += u64::from(self.asked.len() < before);
        }
    }

    /// A change is in the store.
    pub(crate) fn arrived(&mut self, item: AnnouncedItem) {
        self.arrivals.insert(item, limits::ARRIVALS_MAX);
        self.changes += 1;
        self.asked.remove(&item);
    }

    /// All that came in so far is in the store with this commit.
    pub(crate) fn reached(&mut self, commit: u64) {
        self.commit = self.commit.max(commit);
    }

    /// A number that rises when there is something to look at, and the commit that must be durable for all
    /// that came in so far.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.changes, self.commit)
    }

    /// Whether a change has come in lately.
    pub(crate) fn has(&self, item: &AnnouncedItem) -> bool {
        self.arrivals.contains(item)
    }

    /// What to do about a change that `remote` announced. If that is to ask, it counts as asked.
    pub(crate) fn step(&mut self, now: Duration, item: AnnouncedItem, remote: PeerId) -> Step {
        if self.has(&item) {
            return Step::Held;
        }
        if let Some((asked, at)) = self.asked.get(&item) {
            let until = *at + PULL_PATIENCE;
            if *asked != remote && now < until {
                return Step::Wait(until);
            }
        } else if self.asked.len() >= limits::ANNOUNCED_OPEN_MAX {
            let is_fresh = |at: &Duration| now < *at + PULL_PATIENCE;
            self.asked.retain(|_, (_, at)| is_fresh(at));
            if self.asked.len() >= limits::ANNOUNCED_OPEN_MAX {
                // The worst is that another one is asked too.
                return Step::Ask;
            }
        }
        self.asked.insert(item, (remote, now));
        Step::Ask
    }
}

/// A bounded memory of items that may forget: two generations, of which the older one goes when the younger
/// is full.
#[derive(Clone, Default, Debug)]
pub(crate) struct Recent {
    young: BTreeSet<AnnouncedItem>,
    old: BTreeSet<AnnouncedItem>,
}

impl Recent {
    /// Remembers one among at most so many.
    pub(crate) fn insert(&mut self, item: AnnouncedItem, count_max: usize) {
        if self.young.len() >= count_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(item);
    }

    pub(crate) fn contains(&self, item: &AnnouncedItem) -> bool {
        self.young.contains(item) || self.old.contains(item)
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, item: &AnnouncedItem) -> bool {
        let was_there = self.young.remove(item) || self.old.remove(item);
        if self.young.is_empty() {
            // An empty tree keeps its memory.
            self.young = BTreeSet::new();
        }
        was_there
    }
}

/// The item of a document at a version.
pub(crate) fn item_of(key: KeyHash, version: &VersionVector) -> AnnouncedItem {
    let mut bytes = Vec::with_capacity(17 + version.len() * 19);
    bytes.extend_from_slice(key.as_bytes());
    version.encode(&mut bytes);
    let hash = blake3::hash(&bytes);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

//! Announcing changes that came from others to a remote that others feed as well, and sending what it asks
//! for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{DocumentKey, Lane, VersionVector, limits};
use idem_wire::AnnouncedItem;

use super::{
    Filling, Source,
    offer::{Draft, Offering},
};
use crate::{
    event::CloseReason,
    failure::Failure,
    gathering::{Recent, item_of},
    known::{KeyHash, Known},
    outlet::Outlet,
    replica::Replica,
};

/// Announcements wait so long for others, and for word that the remote has the same.
const ANNOUNCE_DELAY: Duration = Duration::from_millis(5);

/// A change that takes fewer bytes on the link is sent: an announcement, its answer and the time that they
/// take would cost more than the copies that they save.
const ANNOUNCE_BYTES_MIN: usize = 128;

/// What is announced instead of being sent.
#[derive(Debug, Default)]
pub(super) struct Announcing {
    /// Whether the remote said that others have the same.
    is_fed_by_others: bool,
    /// What is not announced yet.
    waiting: Vec<Waiting>,
    due_at: Option<Duration>,
    is_due: bool,
    /// What was announced in batches that are not acknowledged, but for what was asked for.
    announced: BTreeMap<u64, Vec<Option<DocumentKey>>>,
    /// How many that were.
    open: usize,
    pulls: VecDeque<Pulled>,
    /// What the remote announced and this side has not come to.
    heard: Option<Box<Recent>>,
    /// The last commit of this peer's own that the feed has passed.
    own_last: u64,
}

#[derive(Debug)]
struct Waiting {
    item: AnnouncedItem,
    key: DocumentKey,
    hash: KeyHash,
    version: VersionVector,
}

/// What the remote asked for in one PULL.
#[derive(Debug)]
struct Pulled {
    keys: Vec<DocumentKey>,
    is_lacking: bool,
}

impl Announcing {
    /// What is left when the remote starts again.
    pub(super) fn restarted(&self) -> Self {
        Self {
            is_fed_by_others: self.is_fed_by_others,
            ..Self::default()
        }
    }

    /// Has a change announced soon.
    pub(super) fn wait(
        &mut self,
        now: Duration,
        key: &DocumentKey,
        hash: KeyHash,
        version: VersionVector,
    ) {
        // It says all that an earlier one of the same document would.
        self.waiting.retain(|waiting| waiting.hash != hash);
        self.waiting.push(Waiting {
            item: item_of(hash, &version),
            key: key.clone(),
            hash,
            version,
        });
        if self.waiting.len() >= limits::ANNOUNCED_PER_BATCH_MAX {
            self.is_due = true;
        } else if !self.is_due {
            self.due_at.get_or_insert(now + ANNOUNCE_DELAY);
        }
    }

    /// Whether the remote announced this.
    fn heard(&mut self, hash: KeyHash, version: &VersionVector) -> bool {
        let heard = self.heard.as_mut();
        heard.is_some_and(|heard| heard.remove(&item_of(hash, version)))
    }

    /// Whether a change, in the order of the feed, was made here: then it is nowhere else.
    fn is_own(&mut self, own: u64) -> bool {
        let before = self.own_last;
        self.own_last = before.max(own);
        own > before
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.is_due |= self.due_at.take_if(|at| *at <= now).is_some();
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.due_at
    }

    /// Whether something that the feed has passed was not announced yet, or has to be sent.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_due(&self) -> bool {
        self.is_due
    }

    /// The remote holds what was announced in batches up to this one.
    pub(super) fn settled(&mut self, batches: u64) {
        let later = self.announced.split_off(&(batches + 1));
        let settled = std::mem::replace(&mut self.announced, later);
        if self.announced.is_empty() {
            // An empty tree keeps its memory.
            self.announced = BTreeMap::new();
        }
        self.open -= settled.values().map(Vec::len).sum::<usize>();
    }

    /// Adds to a draft what waits to be announced, but for what the remote turned out to have.
    pub(super) fn flush<R>(&mut self, draft: &mut Draft, filling: &mut Filling<'_, R>) {
        self.due_at = None;
        self.is_due = false;
        let known = &mut *filling.known;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|it| {
            let held = known.version(it.hash, Lane::Interactive);
            !held.is_some_and(|held| held.covers_all(&it.version))
        });
        if waiting.is_empty() {
            return;
        }
        let batch = filling.outlet.next_batch();
        let items: Vec<_> = waiting.iter().map(|it| it.item).collect();
        draft.writer.announced(&items);
        for it in &waiting {
            known.announcing(it.hash, Lane::Interactive, batch, &it.version);
            draft.hashes.push(it.hash);
        }
        self.open += waiting.len();
        filling.stats.documents_announced += waiting.len() as u64;
        let keys = waiting.into_iter().map(|it| Some(it.key));
        self.announced.insert(batch, keys.collect());
    }
}

impl Source {
    /// Others have what the remote wants as well, or nobody does.
    pub(crate) fn set_fed_by_others(&mut self, is_fed_by_others: bool) {
        if is_fed_by_others || self.announcing.is_some() {
            let announcing = self.announcing.get_or_insert_default();
            announcing.is_fed_by_others = is_fed_by_others;
        }
    }

    /// The remote announced these.
    pub(crate) fn hear(&mut self, items: &[AnnouncedItem], known: &mut Known) {
        if items.is_empty() {
            return;
        }
        let announcing = self.announcing.get_or_insert_default();
        for item in items {
            let mut waiting = announcing.waiting.iter();
            match waiting.position(|it| it.item == *item) {
                Some(at) => {
                    let it = announcing.waiting.remove(at);
                    known.received(it.hash, &it.version);
                    known.passed(it.hash);
                }
                None => {
                    let heard = announcing.heard.get_or_insert_default();
                    heard.insert(*item, limits::HEARD_MAX);
                }
            }
        }
    }

    /// The live feed comes to a change, which the remote may have announced. `own` is the last commit in it that
    /// was made here; gives whether that is new.
    pub(super) fn pass(
        &mut self,
        hash: KeyHash,
        version: &VersionVector,
        own: u64,
        known: &mut Known,
    ) -> bool {
        let Some(announcing) = &mut self.announcing else {
            return false;
        };
        if announcing.heard(hash, version) {
            known.received(hash, version);
        }
        announcing.is_own(own)
    }

    /// The remote asks for what was announced in a batch.
    pub(crate) fn pull(&mut self, batch: u64, places: &[u32]) -> Result<(), Failure> {
        let announcing = self.announcing.as_mut().ok_or_else(false_pull)?;
        let announced = announcing.announced.get_mut(&batch);
        let announced = announced.ok_or_else(false_pull)?;
        let mut keys = Vec::with_capacity(places.len());
        for place in places {
            let slot = announced.get_mut(*place as usize);
            keys.push(slot.and_then(Option::take).ok_or_else(false_pull)?);
        }
        keys.sort_unstable();
        keys.dedup();
        announcing.pulls.push_back(Pulled {
            keys,
            is_lacking: false,
        });
        Ok(())
    }

    /// Whether a change is announced rather than sent, in so many bytes.
    pub(super) fn is_announced(&self, bytes: usize, outlet: &Outlet) -> bool {
        let announcing = self.announcing.as_ref();
        let is_bounded = announcing.is_some_and(|it| it.open < limits::ANNOUNCED_OPEN_MAX / 2);
        is_bounded && outlet.shrunk(bytes) >= ANNOUNCE_BYTES_MIN
    }

    /// Whether live changes may be announced at all.
    pub(super) fn may_announce(&self) -> bool {
        self.announcing
            .as_ref()
            .is_some_and(|it| it.is_fed_by_others)
            && self.held_to().is_none()
    }

    /// Queues what the remote asked for first, if it did.
    pub(super) fn fill_pull<R: Replica>(
        &mut self,
        filling: &mut Filling<'_, R>,
    ) -> Result<(), Failure> {
        let pull = self.announcing.as_ref().and_then(|it| it.pulls.front());
        let Some(pull) = pull else {
            return Ok(());
        };
        let keys = pull.keys.clone();
        // What else is in a group with them was read in the order of the feed, and sent or announced alone.
        let at = self.live.values().map(|live| live.at).min().unwrap_or(0);
        let held_to = self.held_to().map_or(at, |held_to| held_to.min(at));
        let (groups, consumed) = self.read_documents(filling.replica, &keys, held_to)?;
        let found: BTreeSet<&DocumentKey> = groups.iter().flatten().map(|it| &it.key).collect();
        let is_lacking = keys[..consumed].iter().any(|key| !found.contains(key));
        // Who asks for it has said enough.
        let hashes = keys[..consumed].iter().map(KeyHash::of);
        self.answers
            .extend(hashes.map(|hash| (Lane::Interactive, hash)));
        let Some(mut draft) = self.offer(&Offering::live(&groups), filling)? else {
            return Ok(());
        };
        filling.stats.documents_pulled += consumed as u64;
        let announcing = self.announcing.as_mut().expect("looked up above");
        let pull = announcing.pulls.front_mut().expect("looked up above");
        pull.is_lacking |= is_lacking;
        pull.keys.drain(..consumed);
        if pull.keys.is_empty() {
            draft.writer.answered(pull.is_lacking);
            announcing.pulls.pop_front();
        }
        draft.finish(filling.outlet);
        Ok(())
    }
}

fn false_pull() -> Failure {
    let detail = "question for what was not announced";
    Failure::new(CloseReason::Malformed, detail)
}

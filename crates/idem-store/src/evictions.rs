//! What is kept of a document that was evicted (docs/format/disk.md, "Evictions").
//!
//! Two things must be known of it. Which commits of this store's actor were in it, for whoever writes
//! to it again must not claim them ([`crate::actor`]). And in which subscriptions it counts as held,
//! at which version, so that a comparison with another peer does not bring it back: that is its
//! *marker*. A marker ends when the document comes back or the subscription ends.
//!
//! A marker names subscriptions by small numbers, which are given at the first eviction from each and
//! never again. So a subscription ends by forgetting its number, and what markers still say of it
//! means nothing until [`sweep`] has removed it.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use idem_crdt::{encoded_version, encoded_version_bytes, visible_fields_declared};
use idem_kv::Snapshot;
use idem_model::{
    ActorId, DecodeError, DocId, DocumentKey, VersionVector,
    codec::{Reader, put_varint},
    limits,
};
use idem_query::Warning;

use crate::{
    core::Core,
    edit::{Change, Prior},
    error::StoreError,
    gone::Going,
    merge,
    patience::{Cancellation, Patience},
    subscriptions::{Numbered, Subscription, SubscriptionHash, rows_in},
    tables::{self, SYSTEM},
    tombstones::Removed,
    work::{Work, insert_id},
};

/// What is kept of an evicted document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// The actor of this store at that time.
    pub(crate) actor: ActorId,
    /// Its last commit in the document; 0 if there is none.
    pub(crate) n: u64,
    /// Numbers of the subscriptions in which the document counts as held, rising.
    pub(crate) subscriptions: Vec<u64>,
    /// The encoded version vector; empty without subscriptions.
    pub(crate) version: Vec<u8>,
    /// Whether a peer knew nothing of it, which may have forgotten that it was deleted. Never without
    /// subscriptions.
    pub(crate) is_doubtful: bool,
}

/// In a list of numbers of subscriptions it stands for doubt: no subscription has it.
const DOUBT: u64 = 0;

impl Eviction {
    fn encode(&self) -> Vec<u8> {
        let mut out = self.actor.0.to_vec();
        put_varint(&mut out, self.n);
        let doubt = self.is_doubtful.then_some(DOUBT);
        let count = self.subscriptions.len() + usize::from(self.is_doubtful);
        put_varint(&mut out, count as u64);
        for number in doubt.into_iter().chain(self.subscriptions.iter().copied()) {
            put_varint(&mut out, number);
        }
        out.extend_from_slice(&self.version);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (actor, n) = (ActorId(reader.array()?), reader.varint()?);
        let count_max = limits::EVICT_MARKER_SUBSCRIPTIONS_MAX + 1;
        let count = reader.count("subscriptions", count_max, 1)?;
        let mut subscriptions = Vec::with_capacity(count);
        for _ in 0..count {
            subscriptions.push(reader.varint()?);
        }
        let is_doubtful = subscriptions.first() == Some(&DOUBT);
        if is_doubtful {
            subscriptions.remove(0);
        }
        Ok(Self {
            actor,
            n,
            subscriptions,
            version: bytes[reader.position()..].to_vec(),
            is_doubtful,
        })
    }

    pub(crate) fn is_marker(&self) -> bool {
        !self.subscriptions.is_empty()
    }
}

/// What is counted of notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Evicted documents that count as held somewhere.
    pub(crate) markers: u64,
    /// The last number that was given to a subscription.
    pub(crate) last_number: u64,
    /// The actor that was counted for below.
    pub(crate) actor: ActorId,
    /// Documents that are not here and have commits of that actor.
    pub(crate) claims: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            markers: 0,
            last_number: 0,
            actor: ActorId([0; 16]),
            claims: 0,
        }
    }
}

impl Marks {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.markers);
        put_varint(&mut out, self.last_number);
        out.extend_from_slice(&self.actor.0);
        put_varint(&mut out, self.claims);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let marks = Self {
            markers: reader.varint()?,
            last_number: reader.varint()?,
            actor: ActorId(reader.array()?),
            claims: reader.varint()?,
        };
        reader.finish()?;
        Ok(marks)
    }

    /// How many documents are noted in which writing would claim commits of `actor`.
    pub(crate) fn claims_of(&self, actor: ActorId) -> u64 {
        match self.actor == actor {
            true => self.claims,
            false => 0,
        }
    }

    pub(crate) fn stored(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        read(snapshot.get(SYSTEM, tables::SYSTEM_MARKS)?)
    }
}

fn read(row: Option<Vec<u8>>) -> Result<Marks, StoreError> {
    row.map_or(Ok(Marks::default()), |row| Marks::decode(&row))
        .map_err(|error| StoreError::corrupt("count of markers", &error))
}

impl Work {
    pub(crate) fn system_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending.small.system.get(key) {
            Some(pending) => Ok(pending.clone()),
            None => Ok(self.view.snapshot.get(SYSTEM, key)?),
        }
    }

    fn marks(&self) -> Result<Marks, StoreError> {
        read(self.system_row(tables::SYSTEM_MARKS)?)
    }

    fn set_marks(&mut self, marks: Marks) {
        let system = &mut self.pending.small.system;
        system.insert(tables::SYSTEM_MARKS.to_vec(), Some(marks.encode()));
    }

    /// Before a note that says which commits of this actor were in a document: counts it, and gives
    /// what it has to say. With too many of them a new actor comes, of which nothing need be noted.
    fn count_claim(
        &mut self,
        collection: u32,
        version: &VersionVector,
    ) -> Result<(ActorId, u64), StoreError> {
        let actor = self.writing()?.head.actor;
        let n = version.get(actor);
        // Nobody writes to what a projection brought.
        if n == 0 || self.is_projection(collection) {
            return Ok((actor, 0));
        }
        let mut marks = self.marks()?;
        let claims = marks.claims_of(actor);
        if claims >= limits::ACTOR_CLAIMS_MAX {
            self.renew_actor("it wrote to too many documents that are not here any more")?;
            return Ok((self.writing()?.head.actor, 0));
        }
        (marks.actor, marks.claims) = (actor, claims + 1);
        self.set_marks(marks);
        Ok((actor, n))
    }

    /// Has the notes removed that tell of commits of an actor before.
    pub(crate) fn void_claims(&mut self) {
        if self.core.has_evictions.load(Ordering::Acquire) {
            let system = &mut self.pending.small.system;
            system.insert(tables::SYSTEM_SWEEP.to_vec(), Some(Vec::new()));
        }
    }

    /// Before an eviction: notes what must be known of the document, if there is anything. With
    /// `is_marked` it counts as held in the subscriptions that select it.
    pub(crate) fn note_eviction(
        &mut self,
        key: &[u8],
        id: &DocId,
        prior: &Prior,
        is_marked: bool,
    ) -> Result<(), StoreError> {
        let corrupt = |error| StoreError::corrupt("version vector", &error);
        let body = prior.body.as_deref().unwrap_or_default();
        let version = encoded_version_bytes(body).map_err(corrupt)?;
        let (collection, _) = tables::split_document(key).map_err(corrupt)?;
        let claimed = encoded_version(body).map_err(corrupt)?;
        let (actor, n) = self.count_claim(collection, &claimed)?;
        let subscriptions = match is_marked {
            true => self.numbers_of(key, id, body)?,
            false => Vec::new(),
        };
        if subscriptions.is_empty() {
            self.note_gone_document(collection, body, Going::Evicted)?;
            if n == 0 {
                return Ok(());
            }
        }
        let version = match subscriptions.is_empty() {
            true => Vec::new(),
            false => version.to_vec(),
        };
        let eviction = Eviction {
            actor,
            n,
            subscriptions,
            version,
            is_doubtful: false,
        };
        self.core.has_evictions.store(true, Ordering::Release);
        let note = Some(eviction.encode());
        self.pending.put_eviction(tables::evicted(key), note);
        Ok(())
    }

    /// Removes a tombstone whose life is over, or a document that was found to be deleted elsewhere,
    /// where that is forgotten. Either is then a deleted document whose tombstone is gone.
    pub(crate) fn bury(
        &mut self,
        key: Vec<u8>,
        collection: u32,
        id: &DocId,
        prior: Prior,
        version: &VersionVector,
    ) -> Result<(), StoreError> {
        self.note_gone(collection, version, Going::Deleted)?;
        let (actor, n) = self.count_claim(collection, version)?;
        if n > 0 {
            let eviction = Eviction {
                actor,
                n,
                subscriptions: Vec::new(),
                version: Vec::new(),
                is_doubtful: false,
            };
            self.core.has_evictions.store(true, Ordering::Release);
            let note = Some(eviction.encode());
            self.pending.put_eviction(tables::evicted(&key), note);
        }
        self.put(key, Change::gone(collection, id.clone()), prior)
    }

    /// Raises the floor to a new reading of the clock, so that no peer counts as having heard of what
    /// was just buried.
    pub(crate) fn raise_floor(&mut self) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let clock = &mut self.writing()?.clock;
        clock.tick(now_ms)?;
        let floor = clock.last();
        let mut removed = Removed::stored(&self.view.snapshot)?;
        removed.floor = removed.floor.max(floor);
        let system = &mut self.pending.small.system;
        system.insert(tables::SYSTEM_REMOVED.to_vec(), Some(removed.encode()));
        self.core.raise_learned_floor(removed.floor);
        Ok(())
    }

    /// The numbers of the subscriptions that select a document, which gets a marker.
    fn numbers_of(&mut self, key: &[u8], id: &DocId, body: &[u8]) -> Result<Vec<u64>, StoreError> {
        let selecting = self.selecting(key, id, body)?;
        if selecting.is_empty() {
            return Ok(Vec::new());
        }
        let mut marks = self.marks()?;
        if marks.markers >= limits::EVICT_MARKERS_MAX {
            let limit = limits::EVICT_MARKERS_MAX;
            let message = format!(
                "{limit} evicted documents are remembered already; peers may send more again"
            );
            let warnings = &mut self.pending.small.warnings;
            if warnings.iter().all(|warning| warning.message != message) {
                warnings.push(Warning {
                    message,
                    position: None,
                });
            }
            return Ok(Vec::new());
        }
        marks.markers += 1;
        let mut numbers = Vec::with_capacity(selecting.len());
        for subscription in selecting {
            let row = tables::subscription(&subscription);
            let stored = self.system_row(&row)?;
            let number = match stored {
                Some(stored) => Numbered::decode(&stored)?.number,
                None => {
                    marks.last_number += 1;
                    let numbered = Numbered {
                        number: marks.last_number,
                        active_ms: self.now_ms,
                    };
                    let system = &mut self.pending.small.system;
                    system.insert(row, Some(numbered.encode()));
                    numbered.number
                }
            };
            numbers.push(number);
        }
        self.set_marks(marks);
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The subscriptions of this peer that select a document, as many as a marker may name.
    pub(crate) fn selecting(
        &self,
        key: &[u8],
        id: &DocId,
        body: &[u8],
    ) -> Result<Vec<SubscriptionHash>, StoreError> {
        let active = self.core.subscriptions.active();
        let corrupt = |error| StoreError::corrupt("document", &error);
        let (collection, id_key) = tables::split_document(key).map_err(corrupt)?;
        let mut fields = None;
        let mut selecting = Vec::new();
        for Subscription { id: hash, selector } in active.iter() {
            // It may go by the name under which its documents travel.
            let is_here = self.catalog().ordinal(selector.collection()) == Some(collection);
            if !is_here || !selector.may_match_id(id_key) {
                continue;
            }
            if !selector.is_unfiltered() {
                if fields.is_none() {
                    let kinds = self.catalog().kinds(collection);
                    let visible = visible_fields_declared(body, kinds).map_err(corrupt)?;
                    let visible = visible.unwrap_or_default();
                    fields = Some(insert_id(visible, id.as_value().clone()));
                }
                if !fields
                    .as_ref()
                    .is_some_and(|fields| selector.matches(fields))
                {
                    continue;
                }
            }
            selecting.push(*hash);
            if selecting.len() == limits::EVICT_MARKER_SUBSCRIPTIONS_MAX {
                break;
            }
        }
        Ok(selecting)
    }

    /// What is kept of a document that is not here.
    pub(crate) fn eviction(&self, key: &[u8]) -> Result<Option<Eviction>, StoreError> {
        if !self.core.has_evictions.load(Ordering::Acquire) {
            return Ok(None);
        }
        let key = tables::evicted(key);
        let row = match self.pending.evictions.get(&key) {
            Some(pending) => pending.clone(),
            None => self.view.snapshot.get(SYSTEM, &key)?,
        };
        row.map(|row| Eviction::decode(&row))
            .transpose()
            .map_err(|error| StoreError::corrupt("note of an eviction", &error))
    }

    /// The document comes back, in this version. If that is not the one that was evicted, or a later
    /// one, then that one is gone without a trace from now on.
    pub(crate) fn forget_eviction(
        &mut self,
        key: &[u8],
        eviction: &Eviction,
        returning: &VersionVector,
    ) -> Result<(), StoreError> {
        if eviction.is_marker() {
            let version = VersionVector::decode(&mut Reader::new(&eviction.version))
                .map_err(|error| StoreError::corrupt("version vector", &error))?;
            if !returning.covers_all(&version) {
                let (collection, _) = tables::split_document(key)
                    .map_err(|error| StoreError::corrupt("note of an eviction", &error))?;
                self.note_gone(collection, &version, Going::Evicted)?;
            }
            let mut marks = self.marks()?;
            marks.markers = marks.markers.saturating_sub(1);
            self.set_marks(marks);
        }
        let mut marks = self.marks()?;
        if eviction.n > 0 && marks.claims_of(eviction.actor) > 0 {
            marks.claims -= 1;
            self.set_marks(marks);
        }
        self.pending.put_eviction(tables::evicted(key), None);
        Ok(())
    }
}

/// Why [`Store::evict`](crate::Store::evict) removes documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvictReason {
    /// They left the subscriptions that brought them. Those that a subscription of this peer still
    /// selects stay. The cursors of subscriptions that rest are forgotten: such a one may select what
    /// goes, and would not get it again.
    Left,
    /// They were deleted elsewhere, where that is forgotten by now.
    Deleted,
}

/// Removes documents here and only here, and gives how many. One stays if more of it is here than in
/// the version beside it.
pub(crate) fn evict(
    core: &Arc<Core>,
    documents: &[(DocumentKey, VersionVector)],
    reason: EvictReason,
    cancellation: &Cancellation,
) -> Result<u64, StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core), &merge::for_as_long_as(cancellation))?;
    let mut evicted = 0;
    for (document, known) in documents {
        let Some(collection) = work.catalog().ordinal(&document.collection) else {
            continue;
        };
        let key = tables::document(collection, &document.id.to_key());
        let prior = work.prior(&key)?;
        let Some(body) = prior.body.as_deref().filter(|_| prior.is_present) else {
            continue;
        };
        let held =
            encoded_version(body).map_err(|error| StoreError::corrupt("version vector", &error))?;
        // What a subscription selects of which only some fields are here, its sources alone can tell.
        let is_wanted = reason == EvictReason::Left
            && !work.is_projection(collection)
            && !work.selecting(&key, &document.id, body)?.is_empty();
        if !known.covers_all(&held) || is_wanted {
            continue;
        }
        match reason {
            EvictReason::Left => {
                work.evict(key, collection, &document.id, prior, false)?;
            }
            EvictReason::Deleted => work.bury(key, collection, &document.id, prior, &held)?,
        }
        evicted += 1;
    }
    match reason {
        _ if evicted == 0 => {}
        EvictReason::Left => work.forget_resting_cursors()?,
        EvictReason::Deleted => work.raise_floor()?,
    }
    work.hand_over()?;
    Ok(evicted)
}

/// Notes that another peer knows nothing of documents that were evicted and count as held, and gives how
/// many they are that were not in doubt before.
pub(crate) fn doubt(
    core: &Arc<Core>,
    documents: &[DocumentKey],
    cancellation: &Cancellation,
) -> Result<u64, StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core), &merge::for_as_long_as(cancellation))?;
    let mut doubted = 0;
    for document in documents {
        let Some(collection) = work.catalog().ordinal(&document.collection) else {
            continue;
        };
        let key = tables::document(collection, &document.id.to_key());
        let eviction = work.eviction(&key)?;
        let Some(mut eviction) = eviction.filter(|it| it.is_marker() && !it.is_doubtful) else {
            continue;
        };
        eviction.is_doubtful = true;
        let note = Some(eviction.encode());
        work.pending.put_eviction(tables::evicted(&key), note);
        doubted += 1;
    }
    if doubted > 0 {
        // So that whoever was told that they are known asks again.
        work.raise_floor()?;
    }
    work.hand_over()?;
    Ok(doubted)
}

/// Removes from the next notes what they say of subscriptions that are gone, and of actors before this
/// one. Returns whether there are more.
pub(crate) fn sweep(core: &Arc<Core>, patience: &Patience) -> Result<bool, StoreError> {
    if (core.view()?.snapshot)
        .get(SYSTEM, tables::SYSTEM_SWEEP)?
        .is_none()
    {
        return Ok(false);
    }
    let mut work = Work::write(Arc::clone(core), patience)?;
    let Some(after) = work.system_row(tables::SYSTEM_SWEEP)? else {
        return Ok(false);
    };
    let snapshot = &work.view.snapshot;
    let mut numbers = BTreeSet::new();
    for (_, value) in rows_in(snapshot, tables::SUBSCRIPTION_RANGE, &|_, _| true)? {
        numbers.insert(Numbered::decode(&value)?.number);
    }
    let [first, to] = tables::EVICTED_RANGE;
    let from = match &after[..] {
        [] => vec![first],
        after => [after, &[0]].concat(),
    };
    let mut rows = Vec::new();
    snapshot.scan(SYSTEM, &from, Some(&[to]), false, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        match rows.len() < limits::UPKEEP_ROWS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    let is_more = rows.len() == limits::UPKEEP_ROWS;
    let next = is_more.then(|| rows.last().map(|(key, _)| key.clone()));
    let mut marks = work.marks()?;
    let actor = work.writing()?.head.actor;
    for (key, value) in rows {
        let eviction = Eviction::decode(&value)
            .map_err(|error| StoreError::corrupt("note of an eviction", &error))?;
        let mut left = eviction.clone();
        left.subscriptions.retain(|number| numbers.contains(number));
        if left.actor != actor {
            left.n = 0;
        }
        if left == eviction {
            continue;
        }
        if eviction.is_marker() && !left.is_marker() {
            let (collection, _) = tables::split_document(&key[1..])
                .map_err(|error| StoreError::corrupt("note of an eviction", &error))?;
            let version = VersionVector::decode(&mut Reader::new(&left.version))
                .map_err(|error| StoreError::corrupt("version vector", &error))?;
            work.note_gone(collection, &version, Going::Evicted)?;
            left.version.clear();
            left.is_doubtful = false;
            marks.markers = marks.markers.saturating_sub(1);
        }
        let value = (left.is_marker() || left.n > 0).then(|| left.encode());
        work.pending.put_eviction(key, value);
    }
    work.set_marks(marks);
    let system = &mut work.pending.small.system;
    system.insert(tables::SYSTEM_SWEEP.to_vec(), next.flatten());
    work.hand_over()?;
    Ok(is_more)
}

#[cfg(test)]
mod tests {
    use idem_model::Object;

    use super::*;
    use crate::{Store, StoreConfig};

    #[test]
    fn with_too_many_notes_of_its_commits_the_store_takes_a_new_actor() {
        let store = Store::open(StoreConfig::memory().background_threads(false)).unwrap();
        let run = |text: &str| drop(store.execute(text, Object::new()).unwrap());
        run("INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2})");
        let actor = store.actor();
        let core = store.core().unwrap();
        let mut work = Work::write(Arc::clone(&core), &core.patience()).unwrap();
        let claims = limits::ACTOR_CLAIMS_MAX - 1;
        let marks = Marks {
            actor,
            claims,
            ..work.marks().unwrap()
        };
        work.set_marks(marks);
        work.hand_over().unwrap();
        run("EVICT FROM t WHERE _id = 1");
        assert_eq!(store.actor(), actor, "there is room for one");
        run("EVICT FROM t WHERE _id = 2");
        assert_ne!(store.actor(), actor);
        let work = Work::read(Arc::clone(&core)).unwrap();
        assert_eq!(work.marks().unwrap().claims_of(store.actor()), 0);
        // The note of the actor before goes.
        store.upkeep().unwrap();
        let work = Work::read(core).unwrap();
        let [from, to] = tables::EVICTED_RANGE;
        let mut notes = 0;
        let snapshot = &work.view.snapshot;
        snapshot
            .scan(SYSTEM, &[from], Some(&[to]), false, &mut |_, _| {
                notes += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(notes, 0);
        assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
    }

    #[test]
    fn rows_read_back_as_they_were_written() {
        let mut eviction = Eviction {
            actor: ActorId([7; 16]),
            n: 300,
            subscriptions: vec![1, 2, 500],
            version: vec![1, 2, 3],
            is_doubtful: false,
        };
        assert_eq!(Eviction::decode(&eviction.encode()).unwrap(), eviction);
        eviction.is_doubtful = true;
        assert_eq!(Eviction::decode(&eviction.encode()).unwrap(), eviction);
        eviction.is_doubtful = false;
        eviction.subscriptions.clear();
        eviction.version.clear();
        assert_eq!(Eviction::decode(&eviction.encode()).unwrap(), eviction);
        assert!(Eviction::decode(&[0; 16]).is_err());
        let marks = Marks {
            markers: 1 << 20,
            last_number: 3,
            actor: ActorId([8; 16]),
            claims: 300,
        };
        assert_eq!(Marks::decode(&marks.encode()).unwrap(), marks);
    }
}

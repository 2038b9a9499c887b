//! What a relay holds for others: documents in memory, bounded in bytes.

mod feed;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ops::ControlFlow,
    sync::Arc,
};

use idem_crdt::{Document, encoded_version_bytes, visible_fields_declared};
use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, FieldKind, FieldPath, HybridClock, PeerId,
    Timestamp, VersionVector, limits,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use crate::{
    merging::{Merged, merge_all},
    replica::{
        ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gone, Incoming,
        Replica, ScopeFilter, ScopeItem, ScopeState, Synced,
    },
};

/// Cursors, and times up to which a collection was taken in: those of more neighbours and subscriptions
/// than there can be at a time. Who loses one compares.
const CURSORS_MAX: usize = limits::SESSIONS_SUSPENDED_MAX * limits::INTERESTS_CARRIED_MAX;

/// A group of a commit.
type GroupId = (u64, u32);

/// What a relay holds for others.
///
/// It is a store of its own kind, not the twin of a disk that tests use: there is one state and not two,
/// documents are kept in their encoded form only, what shared transactions is forgotten when a later one
/// covers it, and all of it is counted. It is never durable for anybody, and nothing is written here.
///
/// When half of its room is taken, the documents go that changed the longest ago, as long as everybody has
/// them, and each with all that it shares transactions with. They leave no marker: who brought them believes
/// them to be here, and whoever comes later and wants them makes the relay begin anew.
///
/// When three quarters are taken, neighbours that brought more than their share hear no more that what they
/// send is held, until others have it; so they stop. What does not help makes the relay begin anew as well,
/// at the latest when all of its room is taken. Nothing else may be forgotten: who brings a document leaves
/// out what shared transactions with it and was here, and others would get half of a transaction.
#[derive(Debug)]
pub(super) struct RelayCache {
    actor: ActorId,
    now_ms: u64,
    clock: HybridClock,
    commit: u64,
    /// Rises with everything that is written.
    serial: u64,
    rows: BTreeMap<Arc<DocumentKey>, Row>,
    feeds: BTreeMap<CollectionName, BTreeMap<(u64, u64), Arc<DocumentKey>>>,
    groups: BTreeMap<GroupId, BTreeSet<Arc<DocumentKey>>>,
    shares: BTreeMap<PeerId, Share>,
    /// Whose documents come in now.
    source: PeerId,
    bytes: usize,
    bytes_max: usize,
    cursors: BTreeMap<(PeerId, SubscriptionId), Cursor>,
    synced: BTreeMap<(PeerId, CollectionName), Timestamp>,
    quarantined: BTreeSet<Arc<DocumentKey>>,
    declared: BTreeMap<CollectionName, Arc<[(FieldPath, FieldKind)]>>,
    /// Up to which commit everybody has everything.
    confirmed: u64,
    evicted: u64,
    /// What each neighbour was told to be held.
    acknowledged: BTreeMap<PeerId, u64>,
}

#[derive(Debug)]
struct Row {
    bytes: Box<[u8]>,
    is_present: bool,
    commit: u64,
    serial: u64,
    groups: Vec<GroupId>,
    source: PeerId,
}

/// What one neighbour brought last.
#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    /// By when it was written.
    order: BTreeMap<u64, Arc<DocumentKey>>,
}

impl RelayCache {
    pub(super) fn new(actor: ActorId, bytes_max: usize) -> Self {
        Self {
            actor,
            now_ms: 0,
            clock: HybridClock::default(),
            commit: 0,
            serial: 0,
            rows: BTreeMap::new(),
            feeds: BTreeMap::new(),
            groups: BTreeMap::new(),
            shares: BTreeMap::new(),
            source: PeerId([0; 32]),
            bytes: 0,
            bytes_max,
            cursors: BTreeMap::new(),
            synced: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            declared: BTreeMap::new(),
            confirmed: 0,
            evicted: 0,
            acknowledged: BTreeMap::new(),
        }
    }

    pub(super) fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Forgets everything but what these collections declare: it is another store from now on.
    pub(super) fn renew(&mut self, collections: &BTreeSet<CollectionName>) {
        self.declared.retain(|name, _| collections.contains(name));
        let hash = blake3::derive_key("idem relay life, version 1", &self.actor.0);
        let actor = ActorId(*hash.first_chunk().expect("a hash has 32 bytes"));
        *self = Self {
            now_ms: self.now_ms,
            clock: self.clock,
            declared: std::mem::take(&mut self.declared),
            ..Self::new(actor, self.bytes_max)
        };
    }

    /// With whom the next frames are exchanged. Gives whether that neighbour has to wait.
    pub(super) fn set_source(&mut self, source: PeerId) -> bool {
        self.source = source;
        let share = self.shares.get(&source).map_or(0, |share| share.bytes);
        let waits = self.is_full() && share > self.bytes_max / 4 / self.shares.len().max(1);
        if !waits {
            self.acknowledged.insert(source, self.commit);
        }
        waits
    }

    /// Whether there is so much that neighbours have to wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max / 4 * 3
    }

    /// Whether there is more than may be.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Up to which commit all that are served hold what they want of it.
    pub(super) fn set_confirmed(&mut self, commit: u64) {
        self.confirmed = commit;
        self.fit();
    }

    /// Whether so much is held that what everybody has is to go.
    pub(super) fn is_filling(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    /// What kinds a collection declares. Gives whether that is anything else than before.
    pub(super) fn declare(
        &mut self,
        collection: &CollectionName,
        kinds: Arc<[(FieldPath, FieldKind)]>,
    ) {
        self.declared.insert(collection.clone(), kinds);
    }

    pub(super) fn commit(&self) -> u64 {
        self.commit
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn documents(&self) -> usize {
        self.rows.len()
    }

    /// Documents evicted in this life.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    fn state_of(&self, key: &DocumentKey) -> Document {
        let row = self.rows.get(key);
        row.map_or_else(Document::new, |row| {
            Document::decode(&row.bytes).expect("encoded by ourselves")
        })
    }

    fn tick(&self) -> HybridClock {
        let mut clock = self.clock;
        // A clock at its end stays there.
        let _ = clock.tick(self.now_ms);
        clock
    }

    fn visit_row(
        &self,
        key: &DocumentKey,
        row: &Row,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        visit(&ScopeItem {
            id: &key.id.to_key(),
            version: encoded_version_bytes(&row.bytes).expect("encoded by ourselves"),
            state: match row.is_present {
                false => ScopeState::Tombstone,
                true if self.quarantined.contains(key) => ScopeState::Quarantined,
                true => ScopeState::Live,
            },
        })
    }

    fn rows_of(&self, collection: &CollectionName) -> impl Iterator<Item = (&DocumentKey, &Row)> {
        let feed = self.feeds.get(collection).into_iter().flatten();
        feed.map(|(_, key)| (&**key, &self.rows[key]))
    }
}

impl Replica for RelayCache {
    type Error = Infallible;

    fn actor(&self) -> ActorId {
        self.actor
    }

    fn timestamp(&self) -> Timestamp {
        self.clock.last()
    }

    fn durable_commit(&self) -> u64 {
        self.commit
    }

    fn acknowledged_commit(&self) -> u64 {
        self.acknowledged.get(&self.source).copied().unwrap_or(0)
    }

    fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, Infallible> {
        Ok(self.read_feed(collection, after, held_to, bytes_max))
    }

    fn scan_scope(
        &self,
        _subscription: SubscriptionId,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, Infallible> {
        let kinds = self.declared(selector.collection())?;
        for (key, row) in self.rows_of(selector.collection()) {
            if self.quarantined.contains(key) {
                continue;
            }
            if row.is_present && filter == ScopeFilter::Selected {
                let fields = visible_fields_declared(&row.bytes, &kinds);
                let mut fields = fields.expect("encoded by ourselves").unwrap_or_default();
                fields.insert("_id".to_owned(), key.id.as_value().clone());
                if !selector.matches(&fields) {
                    continue;
                }
            }
            if self.visit_row(key, row, visit).is_break() {
                break;
            }
        }
        Ok(self.commit)
    }

    fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), Infallible> {
        Ok(self.read_documents(keys, held_to, bytes_max))
    }

    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.rows.get(key).map(|row| row.bytes.to_vec()))
    }

    fn declared(
        &self,
        collection: &CollectionName,
    ) -> Result<Arc<[(FieldPath, FieldKind)]>, Infallible> {
        Ok(self.declared.get(collection).cloned().unwrap_or_default())
    }

    fn apply_synced(
        &mut self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
        synced: &[Synced],
    ) -> Result<ApplyReport, Infallible> {
        // A tombstone does not show that the document lives anywhere.
        let is_in_doubt = |key: &DocumentKey, _: &Document, is_tombstone| {
            is_tombstone && self.quarantined.contains(key)
        };
        let clock = (self.clock, self.now_ms);
        let merged = merge_all(incoming, clock, |key| self.state_of(key), is_in_doubt);
        let Merged {
            outcomes,
            changed,
            doubtful,
            clock,
        } = merged;
        let mut report = ApplyReport {
            outcomes,
            commit: self.commit,
        };
        if !report.is_applied() {
            return Ok(report);
        }
        self.clock = clock;
        if !changed.is_empty() {
            if changed.values().any(|(_, it)| !it.is_present()) {
                // So that peers can say up to which tombstone they have heard of all.
                self.clock = self.tick();
            }
            self.write(changed, &doubtful);
            report.commit = self.commit;
        }
        self.store_cursors(cursors, synced);
        Ok(report)
    }

    fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, Infallible> {
        let key = (peer, collection.clone());
        Ok(self.synced.get(&key).copied())
    }

    /// What is forgotten here says nothing: whoever asked would ask somebody who holds little for others.
    /// Those that bring something ask those that get it, and a peer takes nothing from a relay that may have
    /// been deleted.
    fn gc_floor(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let mut rows = self.rows_of(collection);
        let _ = rows.try_for_each(|(key, row)| self.visit_row(key, row, visit));
        Ok(())
    }

    fn gone(&self, _: &CollectionName) -> Result<Option<Gone>, Infallible> {
        Ok(Some(Gone::default()))
    }

    fn deleted_days(&self, _: &CollectionName) -> Result<Vec<DeletedDay>, Infallible> {
        Ok(Vec::new())
    }

    fn learn_gone(
        &mut self,
        _: &CollectionName,
        _: &VersionVector,
        _: &[DeletedDay],
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn learned_floor(&self) -> Timestamp {
        Timestamp::ZERO
    }

    fn quarantine(&mut self, keys: &[DocumentKey], _from: PeerId) -> Result<u64, Infallible> {
        let mut written = BTreeMap::new();
        for key in keys {
            let is_there = self.rows.get(key).is_some_and(|row| row.is_present);
            if is_there && !self.quarantined.contains(key) {
                written.insert(key.clone(), (0, self.state_of(key)));
            }
        }
        let keys = written.keys().cloned().collect();
        let count = written.len() as u64;
        self.write(written, &keys);
        Ok(count)
    }

    fn doubt_evicted(&mut self, _: &[DocumentKey]) -> Result<u64, Infallible> {
        Ok(0)
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, Infallible> {
        let mut written = BTreeMap::new();
        for key in keys {
            if self.quarantined.contains(key) {
                written.insert(key.clone(), (0, self.state_of(key)));
            }
        }
        let count = written.len() as u64;
        self.write(written, &BTreeSet::new());
        Ok(count)
    }

    fn evict(
        &mut self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
    ) -> Result<u64, Infallible> {
        // A relay keeps what leaves, because it has to tell of it.
        if reason != EvictReason::Deleted {
            return Ok(0);
        }
        let mut count = 0;
        for (key, known) in documents {
            let document = self.state_of(key);
            if document.is_present() && known.covers_all(document.version()) {
                self.remove(key);
                count += 1;
            }
        }
        Ok(count)
    }

    fn cursor(
        &self,
        peer: PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, Infallible> {
        Ok(self.cursors.get(&(peer, subscription)).copied())
    }
}

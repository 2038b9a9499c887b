//! A replica in memory that forgets what was not made durable: the double for tests and simulation.

mod commons;
mod keys;
mod replica;
mod state;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use idem_crdt::{Applied, ApplyError, Document, visible_fields_declared};
use idem_model::{
    ActorId, CollectionName, DocumentKey, DocumentOp, Dot, FieldKind, FieldPath, HybridClock,
    PeerId, Stamp, SyncScope, Timestamp, limits,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

pub use self::commons::Commons;
use self::{
    commons::Content,
    state::{Commit, Evicted, Row, State, Write},
};
use crate::{
    few::Few, gathering::Gathering, projection::is_projection, replica::CursorUpdate,
    wanted::subscription_id_of,
};

/// A replica in memory with the durability of a disk: [`MemoryReplica::crash`] takes back what was
/// committed since [`MemoryReplica::make_durable`].
#[derive(Clone, Debug)]
pub struct MemoryReplica {
    now_ms: u64,
    visible: State,
    durable: State,
    undurable: Vec<Commit>,
    declared: BTreeMap<CollectionName, Arc<[(FieldPath, FieldKind)]>>,
    sync_scopes: BTreeMap<CollectionName, SyncScope>,
    /// A collection that closes as soon as it is read, and whether it was.
    closing: Option<(CollectionName, Cell<bool>)>,
    subscriptions: BTreeMap<SubscriptionId, Selector>,
    tombstone_ttl_ms: u64,
    gathering: Gathering,
}

impl MemoryReplica {
    /// An empty replica at a wall-clock time.
    pub fn new(actor: ActorId, now_ms: u64) -> Self {
        let state = State {
            actor,
            clock: HybridClock::default(),
            n: 0,
            commit: 0,
            rows: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            groups: BTreeMap::new(),
            cursors: Few::default(),
            evicted: BTreeMap::new(),
            synced: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            gc_floor: Timestamp::ZERO,
            learned_floor: Timestamp::ZERO,
            gone: BTreeMap::new(),
            days: BTreeMap::new(),
        };
        Self {
            now_ms,
            visible: state.clone(),
            durable: state,
            undurable: Vec::new(),
            declared: BTreeMap::new(),
            sync_scopes: BTreeMap::new(),
            closing: None,
            subscriptions: BTreeMap::new(),
            tombstone_ttl_ms: limits::TOMBSTONE_TTL_SMALL_PEER_MS,
            gathering: Gathering::default(),
        }
    }

    /// Sets the life of tombstones, in milliseconds. Default: that of a Small Peer. It outlives a
    /// crash.
    pub fn set_tombstone_ttl_ms(&mut self, ttl_ms: u64) {
        self.tombstone_ttl_ms = ttl_ms;
    }

    /// Declares the kinds of a collection, strictly rising by path. They outlive a crash.
    pub fn declare(&mut self, collection: CollectionName, kinds: &[(FieldPath, FieldKind)]) {
        self.declared.insert(collection, kinds.into());
    }

    /// Sets with which peers a collection syncs. It outlives a crash.
    pub fn set_sync_scope(&mut self, collection: CollectionName, scope: SyncScope) {
        self.closing = None;
        self.sync_scopes.insert(collection, scope);
    }

    /// Closes a collection, to all peers, right after its changes are read the next time: as another
    /// thread may do.
    pub fn close_once_read(&mut self, collection: CollectionName) {
        self.closing = Some((collection, Cell::new(false)));
    }

    /// Sets the subscriptions of this peer: what is evicted counts as held in those that select it.
    pub fn set_subscriptions(&mut self, selectors: impl IntoIterator<Item = Selector>) {
        let named = |selector| (subscription_id_of(&selector), selector);
        self.subscriptions = selectors.into_iter().map(named).collect();
    }

    /// Removes documents here and only here, as EVICT does. `None` if none of them was there.
    pub fn evict_documents(&mut self, keys: &[DocumentKey]) -> Option<u64> {
        let writes: BTreeMap<DocumentKey, Write> = keys
            .iter()
            .filter(|key| self.state_of(key).is_present())
            .map(|key| {
                // What is in quarantine counts as held nowhere.
                let subscriptions = match self.visible.quarantined.contains(key) {
                    true => BTreeSet::new(),
                    false => self.selecting(key),
                };
                (key.clone(), self.eviction_of(key, subscriptions))
            })
            .collect();
        if writes.is_empty() {
            return None;
        }
        let (n, clock) = (self.visible.n, self.visible.clock);
        Some(self.write(n, clock, writes.into_iter().collect(), Vec::new()))
    }

    /// Removes the tombstones whose life is over, those of the day of the oldest of them.
    pub fn remove_tombstones(&mut self) {
        let expiry_ms = |row: &Row| row.time.unix_ms().saturating_add(self.tombstone_ttl_ms);
        let rows = self.visible.rows.iter();
        // In parts of documents a deletion is never forgotten.
        let rows = rows.filter(|(key, _)| !is_projection(&key.collection));
        let rows = rows.filter(|(_, row)| !row.document().is_present());
        let Some(oldest) = rows.clone().map(|(_, row)| expiry_ms(row)).min() else {
            return;
        };
        let end_ms = oldest.saturating_add(limits::TOMBSTONE_ROUND_MS);
        let end_ms = end_ms.min(self.now_ms.saturating_add(1));
        let rows = rows.filter(|(_, row)| expiry_ms(row) < end_ms);
        let writes = rows.map(|(key, _)| (DocumentKey::clone(key), Write::Forget));
        let writes = writes.collect();
        self.write_some(writes);
    }

    /// Sets the wall clock.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Commits operations as one transaction. `None` if nothing changed.
    ///
    /// # Errors
    /// [`ApplyError`] of the first operation that cannot be done; then nothing is done.
    pub fn commit(
        &mut self,
        operations: &[(DocumentKey, DocumentOp)],
    ) -> Result<Option<u64>, ApplyError> {
        for (key, operation) in operations {
            let is_insert = matches!(
                operation,
                DocumentOp::Insert { .. } | DocumentOp::InsertInitial { .. }
            );
            if is_insert && !self.visible.rows.contains_key(key) {
                self.claim(key, 0);
            }
        }
        let mut clock = self.visible.clock;
        let time = clock
            .tick(self.now_ms)
            .expect("simulated time stays far below the year 10889");
        let dot = Dot {
            actor: self.visible.actor,
            n: self.visible.n + 1,
        };
        let stamp = Stamp { dot, time };
        let mut changed: BTreeMap<DocumentKey, Document> = BTreeMap::new();
        for (key, operation) in operations {
            let mut document = match changed.get(key) {
                Some(document) => document.clone(),
                None => self.state_of(key),
            };
            if document.apply(operation, stamp)? == Applied::Changed {
                changed.insert(key.clone(), document);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let write = |(key, document)| {
            let content = Content::new(document);
            (key, Write::Document { group: 0, content })
        };
        let writes = changed.into_iter().map(write).collect();
        Ok(Some(self.write(dot.n, clock, writes, Vec::new())))
    }

    /// Makes everything committed so far survive a crash.
    pub fn make_durable(&mut self) {
        for commit in std::mem::take(&mut self.undurable) {
            self.durable.write(&commit);
        }
    }

    /// [`MemoryReplica::make_durable`], and keeps what others hold as well together with them.
    pub fn make_durable_in(&mut self, commons: &mut Commons) {
        for commit in &mut self.undurable {
            for (key, write) in &mut commit.writes {
                let Write::Document { content, .. } = write else {
                    continue;
                };
                let shared = commons.share(content);
                if let Some(row) = self.visible.rows.get_mut(key)
                    && Arc::ptr_eq(&row.content, content)
                {
                    row.content = Arc::clone(&shared);
                }
                *content = shared;
            }
        }
        self.make_durable();
    }

    /// Makes the oldest `count` commits survive a crash, as a disk that was interrupted.
    pub fn make_durable_in_part(&mut self, count: usize) {
        let count = count.min(self.undurable.len());
        for commit in self.undurable.drain(..count) {
            self.durable.write(&commit);
        }
    }

    /// Forgets what is not durable.
    pub fn crash(&mut self) {
        self.undurable.clear();
        self.visible = self.durable.clone();
        self.gathering = Gathering::default();
    }

    /// Takes a new actor, as a store does that was copied or restored.
    pub fn renew_actor(&mut self, actor: ActorId) {
        self.make_durable();
        for state in [&mut self.visible, &mut self.durable] {
            state.actor = actor;
            state.n = 0;
        }
    }

    /// Everything that is known, tombstones included.
    pub fn documents(&self) -> impl Iterator<Item = (&DocumentKey, &Document)> {
        self.visible
            .rows
            .iter()
            .map(|(key, row)| (&**key, row.document()))
    }

    /// The encoded state of a document, durable or not.
    pub fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        self.visible.rows.get(key).map(|row| row.bytes().to_vec())
    }

    /// The last commit, durable or not.
    pub fn last_commit(&self) -> u64 {
        self.visible.commit
    }

    fn state_of(&self, key: &DocumentKey) -> Document {
        let row = self.visible.rows.get(key);
        row.map_or_else(Document::new, |row| row.document().clone())
    }

    /// The subscriptions of this peer that select a document as it is.
    fn selecting(&self, key: &DocumentKey) -> BTreeSet<SubscriptionId> {
        let kinds = self.declared.get(&key.collection).cloned();
        let bytes = self.state_of(key).to_bytes();
        let fields = visible_fields_declared(&bytes, &kinds.unwrap_or_default());
        let mut fields = fields.expect("written by ourselves").unwrap_or_default();
        fields.insert("_id".to_owned(), key.id.as_value().clone());
        let selecting = self.subscriptions.iter().filter(|(_, selector)| {
            *selector.collection() == key.collection && selector.matches(&fields)
        });
        selecting.map(|(id, _)| *id).collect()
    }

    /// Cursors of subscriptions that rest say that something is held which was evicted meanwhile.
    fn forget_resting_cursors(&mut self) {
        let active = &self.subscriptions;
        for state in [&mut self.visible, &mut self.durable] {
            let is_active = |(_, id): &(PeerId, SubscriptionId), _: &_| active.contains_key(id);
            state.cursors.retain(is_active);
        }
        for commit in &mut self.undurable {
            let cursors = &mut commit.cursors;
            cursors.retain(|update| active.contains_key(&update.subscription));
        }
    }

    fn eviction_of(&self, key: &DocumentKey, subscriptions: BTreeSet<SubscriptionId>) -> Write {
        Write::Evict(Evicted {
            version: self.state_of(key).version().clone(),
            subscriptions,
            is_buried: false,
            is_doubtful: false,
        })
    }

    /// Takes a new actor where this one would claim commits that were evicted or forgotten.
    fn claim(&mut self, key: &DocumentKey, held: u64) {
        let State { actor, n, .. } = self.visible;
        let evicted = self.visible.evicted.get(key);
        let evicted = evicted.map_or(0, |evicted| evicted.version.get(actor));
        if held < evicted {
            let hash = blake3::hash(&[&actor.0[..], &n.to_be_bytes()].concat());
            let mut fresh = [0; 16];
            fresh.copy_from_slice(&hash.as_bytes()[..16]);
            self.visible.actor = ActorId(fresh);
            self.visible.n = 0;
        }
    }

    /// Commits what is no write of the actor, if there is any, and gives how much.
    fn write_some(&mut self, writes: Vec<(DocumentKey, Write)>) -> u64 {
        let count = writes.len() as u64;
        if count > 0 {
            let (n, clock) = (self.visible.n, self.visible.clock);
            self.write(n, clock, writes, Vec::new());
        }
        count
    }

    fn write(
        &mut self,
        n: u64,
        clock: HybridClock,
        writes: Vec<(DocumentKey, Write)>,
        cursors: Vec<CursorUpdate>,
    ) -> u64 {
        // Cursors alone are no change of the feed.
        let number = self.visible.commit + u64::from(!writes.is_empty());
        let commit = Commit {
            number,
            actor: self.visible.actor,
            n,
            clock,
            writes: self.with_keys(writes),
            cursors,
            synced: Vec::new(),
            learned: None,
            doubted: Vec::new(),
        };
        self.visible.write(&commit);
        self.undurable.push(commit);
        number
    }

    /// The keys of rows that are there are taken from them.
    fn with_keys(&self, writes: Vec<(DocumentKey, Write)>) -> Vec<(Arc<DocumentKey>, Write)> {
        let shared = |key: DocumentKey| match self.visible.rows.get_key_value(&key) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(key),
        };
        let writes = writes.into_iter();
        writes.map(|(key, write)| (shared(key), write)).collect()
    }
}

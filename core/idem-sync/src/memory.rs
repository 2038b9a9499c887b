//! A replica in memory that forgets what was not made durable: the double for tests and simulation.

mod keys;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ops::ControlFlow,
    sync::Arc,
};

use idem_crdt::{
    Applied, ApplyError, Delta, Document, encoded_version_bytes, visible_fields_declared,
};
use idem_model::{
    ActorId, CollectionName, DocumentKey, DocumentOp, Dot, FieldKind, FieldPath, HybridClock,
    PeerId, Skew, Stamp, SyncScope, Timestamp, VersionVector, limits,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use self::keys::Keys;
use crate::{
    replica::{
        ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gone,
        Incoming, IncomingState, Replica, ScopeFilter, ScopeItem, ScopeState, Synced,
    },
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
}

#[derive(Clone, Debug)]
struct State {
    actor: ActorId,
    clock: HybridClock,
    /// Commits of this actor.
    n: u64,
    /// Commits and merges.
    commit: u64,
    rows: BTreeMap<DocumentKey, Row>,
    by_seq: BTreeMap<u64, Keys>,
    groups: BTreeMap<GroupId, Keys>,
    cursors: BTreeMap<(PeerId, SubscriptionId), Cursor>,
    evicted: BTreeMap<DocumentKey, Evicted>,
    synced: BTreeMap<(PeerId, CollectionName), Timestamp>,
    quarantined: BTreeSet<DocumentKey>,
    gc_floor: Timestamp,
    /// Up to where it rose because of what no feed told.
    learned_floor: Timestamp,
    gone: BTreeMap<CollectionName, Gone>,
}

/// What is kept of an evicted document.
#[derive(Clone, Debug)]
struct Evicted {
    version: VersionVector,
    /// In which subscriptions it counts as held.
    subscriptions: BTreeSet<SubscriptionId>,
    /// Whether it was deleted, which nothing else tells any more.
    is_buried: bool,
}

/// What a commit makes of a document.
#[derive(Clone, Debug)]
enum Write {
    Document {
        group: u32,
        document: Document,
    },
    /// It is not here any more, but may count as held.
    Evict(Evicted),
    /// It stays as it is, but does not travel.
    Quarantine,
    /// That it was deleted is forgotten.
    Forget,
}

/// A group of a commit.
type GroupId = (u64, u32);

#[derive(Clone, Debug)]
struct Row {
    document: Document,
    bytes: Vec<u8>,
    commit: u64,
    /// The clock at that commit.
    time: Timestamp,
    groups: BTreeSet<GroupId>,
}

/// What one commit or merge wrote.
#[derive(Clone, Debug)]
struct Commit {
    number: u64,
    actor: ActorId,
    n: u64,
    clock: HybridClock,
    writes: Vec<(DocumentKey, Write)>,
    cursors: Vec<CursorUpdate>,
    synced: Vec<Synced>,
    /// What is gone elsewhere.
    learned: Option<(CollectionName, VersionVector)>,
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
            cursors: BTreeMap::new(),
            evicted: BTreeMap::new(),
            synced: BTreeMap::new(),
            quarantined: BTreeSet::new(),
            gc_floor: Timestamp::ZERO,
            learned_floor: Timestamp::ZERO,
            gone: BTreeMap::new(),
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
        let rows = rows.filter(|(_, row)| !row.document.is_present());
        let Some(oldest) = rows.clone().map(|(_, row)| expiry_ms(row)).min() else {
            return;
        };
        let end_ms = oldest.saturating_add(limits::TOMBSTONE_ROUND_MS);
        let end_ms = end_ms.min(self.now_ms.saturating_add(1));
        let rows = rows.filter(|(_, row)| expiry_ms(row) < end_ms);
        let writes = rows.map(|(key, _)| (key.clone(), Write::Forget)).collect();
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
        let write = |(key, document)| (key, Write::Document { group: 0, document });
        let writes = changed.into_iter().map(write).collect();
        Ok(Some(self.write(dot.n, clock, writes, Vec::new())))
    }

    /// Makes everything committed so far survive a crash.
    pub fn make_durable(&mut self) {
        for commit in std::mem::take(&mut self.undurable) {
            self.durable.write(&commit);
        }
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
            .map(|(key, row)| (key, &row.document))
    }

    /// The encoded state of a document, durable or not.
    pub fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        self.visible.rows.get(key).map(|row| row.bytes.clone())
    }

    /// The last commit, durable or not.
    pub fn last_commit(&self) -> u64 {
        self.visible.commit
    }

    fn state_of(&self, key: &DocumentKey) -> Document {
        let row = self.visible.rows.get(key);
        row.map_or_else(Document::new, |row| row.document.clone())
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
            let is_active = |(_, id): &(PeerId, SubscriptionId)| active.contains_key(id);
            state.cursors.retain(|key, _| is_active(key));
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
            writes,
            cursors,
            synced: Vec::new(),
            learned: None,
        };
        self.visible.write(&commit);
        self.undurable.push(commit);
        number
    }
}

impl State {
    fn write(&mut self, commit: &Commit) {
        self.commit = commit.number;
        self.actor = commit.actor;
        self.n = commit.n;
        self.clock = commit.clock;
        for (key, write) in &commit.writes {
            let earlier = self.rows.get(key).map(|row| row.commit);
            if let Some(earlier) = earlier
                && let Some(keys) = self.by_seq.get_mut(&earlier)
            {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_seq.remove(&earlier);
                }
            }
            match write {
                Write::Document { group, document } => {
                    self.write_document(key, (commit.number, *group), document);
                }
                Write::Quarantine => {
                    let document = self.rows[key].document.clone();
                    self.write_document(key, (commit.number, 0), &document);
                    self.quarantined.insert(key.clone());
                }
                Write::Forget => {
                    if let Some(row) = self.rows.remove(key) {
                        self.gc_floor = self.gc_floor.max(row.time);
                        let version = row.document.version();
                        let gone = self.gone.entry(key.collection.clone()).or_default();
                        gone.deleted.join(version);
                        if version.get(self.actor) > 0 {
                            let buried = Evicted {
                                version: version.clone(),
                                subscriptions: BTreeSet::new(),
                                is_buried: true,
                            };
                            self.evicted.insert(key.clone(), buried);
                        }
                    }
                }
                Write::Evict(evicted) => {
                    self.rows.remove(key);
                    self.quarantined.remove(key);
                    let gone = self.gone.entry(key.collection.clone()).or_default();
                    let is_remembered =
                        !evicted.subscriptions.is_empty() || evicted.version.get(self.actor) > 0;
                    if evicted.is_buried {
                        gone.deleted.join(&evicted.version);
                        self.raise_floor();
                    } else if evicted.subscriptions.is_empty() {
                        gone.evicted.join(&evicted.version);
                    }
                    if is_remembered {
                        self.evicted.insert(key.clone(), evicted.clone());
                    }
                }
            }
        }
        for update in &commit.cursors {
            self.cursors
                .insert((update.peer, update.subscription), update.cursor);
        }
        self.write_synced(&commit.synced);
        if let Some((collection, deleted)) = &commit.learned {
            self.write_learned(collection, deleted);
        }
    }

    fn write_learned(&mut self, collection: &CollectionName, deleted: &VersionVector) {
        let gone = self.gone.entry(collection.clone()).or_default();
        gone.deleted.join(deleted);
        self.raise_floor();
    }

    /// To now, because of what no feed told.
    fn raise_floor(&mut self) {
        self.gc_floor = self.gc_floor.max(self.clock.last());
        self.learned_floor = self.gc_floor;
    }

    fn write_synced(&mut self, synced: &[Synced]) {
        for synced in synced {
            let key = (synced.peer, synced.collection.clone());
            self.synced.insert(key, synced.time);
        }
    }

    fn write_document(&mut self, key: &DocumentKey, group: GroupId, document: &Document) {
        let row = self.rows.entry(key.clone()).or_insert_with(|| Row {
            document: Document::new(),
            bytes: Vec::new(),
            commit: 0,
            time: Timestamp::ZERO,
            groups: BTreeSet::new(),
        });
        row.bytes = document.to_bytes();
        row.document = document.clone();
        row.commit = group.0;
        row.time = self.clock.last();
        row.groups.insert(group);
        self.by_seq.entry(group.0).or_default().insert(key);
        self.groups.entry(group).or_default().insert(key);
        if let Some(evicted) = self.evicted.remove(key)
            && !evicted.subscriptions.is_empty()
            && !document.version().covers_all(&evicted.version)
        {
            // Another version of it came back, and of that one nothing is kept any more.
            let gone = self.gone.entry(key.collection.clone()).or_default();
            gone.evicted.join(&evicted.version);
        }
        self.quarantined.remove(key);
    }

    /// All documents that must travel with `key`, but those that are held.
    fn closure(
        &self,
        key: &DocumentKey,
        held_to: u64,
        is_held: &dyn Fn(&DocumentKey, &Row) -> bool,
    ) -> BTreeSet<DocumentKey> {
        let mut found = BTreeSet::from([key.clone()]);
        let mut open = vec![key.clone()];
        while let Some(key) = open.pop() {
            for group in self.rows[&key].groups.range((held_to + 1, 0)..) {
                // What was evicted since, or does not travel, does not hold up the others.
                let members = self.groups[group].into_iter();
                let members = members.filter_map(|member| self.rows.get_key_value(member));
                let members = members.filter(|(member, _)| !self.quarantined.contains(*member));
                // One that is held says nothing of the others: it may have come another way.
                let members = members.filter(|(member, row)| !is_held(member, row));
                for (member, _) in members {
                    if found.insert(member.clone()) {
                        open.push(member.clone());
                    }
                }
            }
        }
        found
    }

    fn group_of(&self, members: &BTreeSet<DocumentKey>) -> Vec<Changed> {
        let changed = members.iter().map(|key| {
            let row = &self.rows[key];
            Changed {
                key: key.clone(),
                commit: row.commit,
                document: row.bytes.clone(),
            }
        });
        changed.collect()
    }
}

fn bytes_of(group: &[Changed]) -> usize {
    group.iter().map(|it| it.document.len()).sum()
}

impl Replica for MemoryReplica {
    type Error = Infallible;

    fn actor(&self) -> ActorId {
        self.visible.actor
    }

    fn timestamp(&self) -> Timestamp {
        self.visible.clock.last()
    }

    fn durable_timestamp(&self) -> Option<Timestamp> {
        let is_durable = self.durable.commit >= self.visible.commit;
        is_durable.then(|| self.visible.clock.last())
    }

    fn durable_commit(&self) -> u64 {
        self.durable.commit
    }

    fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, Infallible> {
        if let Some((_, is_read)) = self.closing.iter().find(|(name, _)| name == collection) {
            is_read.set(true);
        }
        let state = &self.durable;
        let mut batch = ChangeBatch {
            up_to: state.commit.max(after),
            ..ChangeBatch::default()
        };
        let mut given = BTreeSet::new();
        let mut bytes = 0;
        let mut last = after;
        for (&commit, keys) in state.by_seq.range(after + 1..) {
            if bytes >= bytes_max {
                batch.up_to = last;
                batch.more = true;
                break;
            }
            last = commit;
            for key in keys {
                let is_hidden = state.quarantined.contains(key);
                if key.collection != *collection || given.contains(key) || is_hidden {
                    continue;
                }
                let members = state.closure(key, held_to, &|_, _| false);
                let group = state.group_of(&members);
                bytes += bytes_of(&group);
                batch.groups.push(group);
                given.extend(members);
            }
        }
        Ok(batch)
    }

    fn scan_scope(
        &self,
        subscription: SubscriptionId,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, Infallible> {
        let kinds = self.declared(selector.collection())?;
        let rows = self.durable.rows.iter();
        for (key, row) in rows.filter(|(key, _)| key.collection == *selector.collection()) {
            if self.durable.quarantined.contains(key) {
                continue;
            }
            let fields = visible_fields_declared(&row.bytes, &kinds).expect("written by ourselves");
            let state = match fields {
                None => ScopeState::Tombstone,
                Some(mut fields) => {
                    fields.insert("_id".to_owned(), key.id.as_value().clone());
                    if filter == ScopeFilter::Selected && !selector.matches(&fields) {
                        continue;
                    }
                    ScopeState::Live
                }
            };
            let item = ScopeItem {
                id: &key.id.to_key(),
                version: encoded_version_bytes(&row.bytes).expect("written by ourselves"),
                state,
            };
            if visit(&item).is_break() {
                return Ok(self.durable.commit);
            }
        }
        for (key, evicted) in &self.durable.evicted {
            let is_here = key.collection == *selector.collection();
            if !is_here || !evicted.subscriptions.contains(&subscription) {
                continue;
            }
            let mut version = Vec::new();
            evicted.version.encode(&mut version);
            let item = ScopeItem {
                id: &key.id.to_key(),
                version: &version,
                state: ScopeState::Evicted,
            };
            if visit(&item).is_break() {
                break;
            }
        }
        Ok(self.durable.commit)
    }

    fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), Infallible> {
        let state = &self.durable;
        let wanted: BTreeSet<&DocumentKey> = keys.iter().collect();
        let collections: BTreeSet<&CollectionName> =
            keys.iter().map(|key| &key.collection).collect();
        let is_held = |key: &DocumentKey, row: &Row| {
            row.commit <= held_to && collections.contains(&key.collection) && !wanted.contains(key)
        };
        let mut groups = Vec::new();
        let mut given = BTreeSet::new();
        let mut bytes = 0;
        for (consumed, key) in keys.iter().enumerate() {
            if bytes >= bytes_max && !groups.is_empty() {
                return Ok((groups, consumed));
            }
            let is_there = state.rows.contains_key(key) && !state.quarantined.contains(key);
            if given.contains(key) || !is_there {
                continue;
            }
            let members: BTreeSet<DocumentKey> = state
                .closure(key, 0, &is_held)
                .into_iter()
                .filter(|member| given.insert(member.clone()))
                .collect();
            let group = state.group_of(&members);
            bytes += bytes_of(&group);
            groups.push(group);
        }
        Ok((groups, keys.len()))
    }

    fn sync_scope(&self, collection: &CollectionName) -> SyncScope {
        if let Some((name, is_read)) = &self.closing
            && name == collection
            && is_read.get()
        {
            return SyncScope::LocalPeerOnly;
        }
        let scope = self.sync_scopes.get(collection);
        scope.copied().unwrap_or_default()
    }

    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.durable.rows.get(key).map(|row| row.bytes.clone()))
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
        let mut clock = self.visible.clock;
        let mut changed: BTreeMap<DocumentKey, (u32, Document)> = BTreeMap::new();
        let mut doubtful = BTreeSet::new();
        let mut outcomes = Vec::new();
        for incoming in incoming {
            let mut document = match changed.get(&incoming.key) {
                Some((_, document)) => document.clone(),
                None => self.state_of(&incoming.key),
            };
            let outcome = merge(&mut document, &incoming.state);
            let is_far = matches!(
                clock.observe(document.time(), self.now_ms),
                Skew::FarAhead { .. }
            );
            outcomes.push(match outcome {
                ApplyOutcome::Changed if is_far => ApplyOutcome::TooFarAhead,
                ApplyOutcome::Changed => {
                    // A tombstone does not show that the document lives anywhere.
                    let is_in_doubt = is_tombstone(&incoming.state)
                        && document.is_present()
                        && self.visible.quarantined.contains(&incoming.key);
                    if is_in_doubt {
                        doubtful.insert(incoming.key.clone());
                    } else {
                        doubtful.remove(&incoming.key);
                    }
                    changed.insert(incoming.key, (incoming.group, document));
                    ApplyOutcome::Changed
                }
                other => other,
            });
        }
        let mut report = ApplyReport {
            outcomes,
            commit: self.visible.commit,
        };
        if report.is_applied() {
            for (key, (_, document)) in &changed {
                let held = document.version().get(self.visible.actor);
                self.claim(key, held);
            }
            let writes = changed.into_iter();
            let writes =
                writes.map(|(key, (group, document))| (key, Write::Document { group, document }));
            let mut writes: Vec<_> = writes.collect();
            let is_buried = |(_, write): &(DocumentKey, Write)| matches!(write, Write::Document { document, .. } if !document.is_present());
            let doubtful = doubtful.into_iter();
            if writes.iter().any(is_buried) {
                // So that peers can say up to which tombstone they have heard of all.
                clock
                    .tick(self.now_ms)
                    .expect("simulated time stays far below the year 10889");
            }
            writes.extend(doubtful.map(|key| (key, Write::Quarantine)));
            let n = self.visible.n;
            report.commit = self.write(n, clock, writes, cursors.to_vec());
            self.visible.write_synced(synced);
            if let Some(commit) = self.undurable.last_mut() {
                commit.synced = synced.to_vec();
            }
        }
        Ok(report)
    }

    fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, Infallible> {
        let key = (peer, collection.clone());
        Ok(self.visible.synced.get(&key).copied())
    }

    fn gc_floor(&self) -> Timestamp {
        self.visible.gc_floor
    }

    fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let rows = self.visible.rows.iter();
        for (key, row) in rows.filter(|(key, _)| key.collection == *collection) {
            let item = ScopeItem {
                id: &key.id.to_key(),
                version: encoded_version_bytes(&row.bytes).expect("written by ourselves"),
                state: if !row.document.is_present() {
                    ScopeState::Tombstone
                } else if self.visible.quarantined.contains(key) {
                    ScopeState::Quarantined
                } else {
                    ScopeState::Live
                },
            };
            if visit(&item).is_break() {
                return Ok(());
            }
        }
        let evicted = self.visible.evicted.iter();
        let evicted = evicted
            .filter(|(key, it)| key.collection == *collection && !it.subscriptions.is_empty());
        for (key, evicted) in evicted {
            let mut version = Vec::new();
            evicted.version.encode(&mut version);
            let item = ScopeItem {
                id: &key.id.to_key(),
                version: &version,
                state: ScopeState::Evicted,
            };
            if visit(&item).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn gone(&self, collection: &CollectionName) -> Result<Option<Gone>, Infallible> {
        Ok(Some(
            self.visible
                .gone
                .get(collection)
                .cloned()
                .unwrap_or_default(),
        ))
    }

    fn learn_gone(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
    ) -> Result<(), Infallible> {
        let known = self.visible.gone.get(collection);
        if known.map_or(deleted.is_empty(), |known| {
            known.deleted.covers_all(deleted)
        }) {
            return Ok(());
        }
        let (n, mut clock) = (self.visible.n, self.visible.clock);
        clock
            .tick(self.now_ms)
            .expect("simulated time stays far below the year 10889");
        self.write(n, clock, Vec::new(), Vec::new());
        self.visible.write_learned(collection, deleted);
        if let Some(commit) = self.undurable.last_mut() {
            commit.learned = Some((collection.clone(), deleted.clone()));
        }
        Ok(())
    }

    fn learned_floor(&self) -> Timestamp {
        self.visible.learned_floor
    }

    fn quarantine(&mut self, keys: &[DocumentKey], _from: PeerId) -> Result<u64, Infallible> {
        let keys: BTreeSet<&DocumentKey> = keys.iter().collect();
        let keys = keys.into_iter().filter(|key| {
            self.state_of(key).is_present() && !self.visible.quarantined.contains(*key)
        });
        let writes = keys.map(|key| (key.clone(), Write::Quarantine)).collect();
        Ok(self.write_some(writes))
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, Infallible> {
        let keys: BTreeSet<&DocumentKey> = keys.iter().collect();
        let keys = keys.into_iter();
        let keys = keys.filter(|key| self.visible.quarantined.contains(*key));
        let written = |key: &DocumentKey| Write::Document {
            group: 0,
            document: self.state_of(key),
        };
        let writes = keys.map(|key| (key.clone(), written(key))).collect();
        Ok(self.write_some(writes))
    }

    fn evict(
        &mut self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
    ) -> Result<u64, Infallible> {
        let mut writes = Vec::new();
        for (key, known) in documents {
            let document = self.state_of(key);
            let is_wanted = reason == EvictReason::Left && !self.selecting(key).is_empty();
            if document.is_present() && known.covers_all(document.version()) && !is_wanted {
                let evicted = Evicted {
                    version: document.version().clone(),
                    subscriptions: BTreeSet::new(),
                    is_buried: reason == EvictReason::Deleted,
                };
                writes.push((key.clone(), Write::Evict(evicted)));
            }
        }
        let count = writes.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        if reason == EvictReason::Left {
            self.forget_resting_cursors();
        }
        let (n, mut clock) = (self.visible.n, self.visible.clock);
        if reason == EvictReason::Deleted {
            // So that no peer counts as having heard of it.
            clock
                .tick(self.now_ms)
                .expect("simulated time stays far below the year 10889");
        }
        self.write(n, clock, writes, Vec::new());
        Ok(count)
    }

    fn cursor(
        &self,
        peer: PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, Infallible> {
        Ok(self.durable.cursors.get(&(peer, subscription)).copied())
    }
}

/// Whether the sender does not have the document any more.
fn is_tombstone(state: &IncomingState) -> bool {
    match state {
        IncomingState::Whole(bytes) => {
            Document::decode(bytes).is_ok_and(|document| !document.is_present())
        }
        IncomingState::Delta(bytes) => Delta::decode(bytes).is_ok_and(|delta| !delta.is_present()),
    }
}

fn merge(document: &mut Document, state: &IncomingState) -> ApplyOutcome {
    let changed = match state {
        IncomingState::Whole(bytes) => match Document::decode(bytes) {
            Ok(other) => document.merge(&other),
            Err(_) => return ApplyOutcome::Refused,
        },
        IncomingState::Delta(bytes) => match Delta::decode(bytes) {
            Ok(delta) => match document.merge_delta(&delta) {
                Ok(changed) => changed,
                Err(_) => return ApplyOutcome::Gap(document.version().clone()),
            },
            Err(_) => return ApplyOutcome::Refused,
        },
    };
    if changed {
        ApplyOutcome::Changed
    } else {
        ApplyOutcome::Unchanged
    }
}

//! The real store on a simulated disk.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, DocumentOp, FieldKind, FieldOp, FieldPath,
    InsertConflict, Object, PeerId, SyncScope, Timestamp, Value, VersionVector,
};
use idem_query::Selector;
use idem_store::{
    Cancellation, Durability, SimulatedDisk, Store, StoreConfig, StoreError, Subscription,
    TransactionOptions,
};
use idem_sync::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gone,
    Incoming, IncomingState, Replica, ScopeFilter, ScopeItem, ScopeState, SubscriptionId, Synced,
    subscription_id_of,
};

/// The real store on a simulated disk. Commits are acknowledged when [`Engine::make_durable`] was
/// called, as with a slow fsync.
#[derive(Debug)]
pub(crate) struct Engine {
    disk: SimulatedDisk,
    store: Store,
    clock_ms: Arc<AtomicU64>,
    seed: u64,
    crashes: u64,
    /// Those that peers subscribe to.
    collections: Vec<CollectionName>,
}

impl Engine {
    pub(crate) fn new(seed: u64, collections: Vec<CollectionName>) -> Self {
        let disk = SimulatedDisk::new();
        let clock_ms = Arc::new(AtomicU64::new(1));
        Self {
            store: open(&disk, &clock_ms, seed),
            disk,
            clock_ms,
            seed,
            crashes: 0,
            collections,
        }
    }

    pub(crate) fn set_now_ms(&mut self, now_ms: u64) {
        self.clock_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Runs a transaction in DQL; `None` if it changed nothing or could not be done.
    pub(crate) fn commit(&mut self, operations: &[(DocumentKey, DocumentOp)]) -> Option<u64> {
        let mut transaction = self
            .store
            .begin(TransactionOptions::new())
            .expect("no other transaction is open");
        for (key, operation) in operations {
            for (text, args) in statements(key, operation) {
                transaction.execute(&text, args).ok()?;
            }
        }
        transaction.commit().expect("the simulated disk works")
    }

    /// Removes documents here and only here; `None` if none was there.
    pub(crate) fn evict_documents(&mut self, keys: &[DocumentKey]) -> Option<u64> {
        let mut transaction = self
            .store
            .begin(TransactionOptions::new())
            .expect("no other transaction is open");
        for key in keys {
            let text = format!("EVICT FROM {} WHERE _id = :id", key.collection);
            let args = Object::from([("id".to_owned(), key.id.as_value().clone())]);
            transaction.execute(&text, args).expect("a valid statement");
        }
        transaction.commit().expect("the simulated disk works")
    }

    /// Sets the subscriptions of this peer.
    pub(crate) fn set_subscriptions(&mut self, selectors: impl IntoIterator<Item = Selector>) {
        let named = |selector| Subscription {
            id: subscription_id_of(&selector).0,
            selector,
        };
        let interest = self.store.interest().expect("the store is open");
        interest.set(selectors.into_iter().map(named));
    }

    /// Sets with which peers a collection syncs.
    pub(crate) fn set_sync_scope(&mut self, collection: CollectionName, scope: SyncScope) {
        let others = self.collections.iter().filter(|name| **name != collection);
        let others = others.map(|name| (name, self.store.sync_scope(name)));
        let all = others.chain([(&collection, scope)]);
        let all: Vec<_> = all.map(|(name, it)| format!("'{name}': '{it}'")).collect();
        let all = all.join(", ");
        let text = format!("ALTER SYSTEM SET user_collection_sync_scopes = {{{all}}}");
        let done = self.store.execute(&text, Object::new());
        done.expect("a valid statement");
    }

    /// Removes the tombstones whose life is over, those of one day at most.
    pub(crate) fn remove_tombstones(&mut self) {
        self.store
            .forget_tombstones()
            .expect("the simulated disk works");
    }

    pub(crate) fn make_durable(&mut self) {
        self.store
            .wait_durable(self.store.last_commit())
            .expect("the simulated disk works");
    }

    /// The encoded state of a document, durable or not.
    pub(crate) fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        self.store.document(key).expect("the simulated disk works")
    }

    /// The process dies and the power fails: some of what was not synced is lost, or torn.
    pub(crate) fn crash(&mut self) {
        self.crashes += 1;
        let seed = self.seed ^ (self.crashes << 32);
        let nowhere = SimulatedDisk::new();
        // The store has to go before the power does, without closing.
        self.store = open(&nowhere, &self.clock_ms, seed);
        self.disk.crash(seed);
        self.store = open(&self.disk, &self.clock_ms, seed);
    }

    /// The disk as it is. The store is closed as by a crash meanwhile.
    pub(crate) fn copy(&mut self) -> SimulatedDisk {
        let nowhere = SimulatedDisk::new();
        self.store = open(&nowhere, &self.clock_ms, self.seed);
        let copy = self.disk.copy();
        self.reopen();
        copy
    }

    /// Goes on from a copy of this or another disk.
    pub(crate) fn restore(&mut self, copy: &SimulatedDisk) {
        self.disk = copy.copy();
        self.reopen();
    }

    fn reopen(&mut self) {
        // Each opening has entropy of its own, or two copies would draw the same actor.
        self.crashes += 1;
        let seed = self.seed ^ (self.crashes << 32);
        self.store = open(&self.disk, &self.clock_ms, seed);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn last_commit(&self) -> u64 {
        self.store.last_commit()
    }

    pub(crate) fn states(&self) -> BTreeMap<DocumentKey, Vec<u8>> {
        let mut states = BTreeMap::new();
        for name in &self.collections {
            let batch = self
                .store
                .changed_since(name, 0, 0, usize::MAX)
                .expect("the simulated disk works");
            for changed in batch.groups.into_iter().flatten() {
                states.insert(changed.key, changed.document);
            }
        }
        states
    }
}

fn open(disk: &SimulatedDisk, clock_ms: &Arc<AtomicU64>, seed: u64) -> Store {
    let clock_ms = Arc::clone(clock_ms);
    let config = StoreConfig::simulated(disk.clone())
        .durability(Durability::Relaxed)
        .clock(Arc::new(move || clock_ms.load(Ordering::Relaxed)))
        .entropy_seed(seed);
    Store::open(config).expect("a crash leaves a store that opens")
}

/// The statements that do what an operation says.
fn statements(key: &DocumentKey, operation: &DocumentOp) -> Vec<(String, Object)> {
    let collection = key.collection.as_str();
    let id = key.id.as_value().clone();
    let with_id = |fields: &Object| {
        let mut document = fields.clone();
        document.insert("_id".to_owned(), id.clone());
        Object::from([("d".to_owned(), Value::Object(document))])
    };
    match operation {
        DocumentOp::Insert {
            fields, conflict, ..
        } => {
            let conflict = match conflict {
                InsertConflict::DoUpdate => "DO UPDATE",
                InsertConflict::DoNothing => "DO NOTHING",
                other => unreachable!("the workload does not draw {other:?}"),
            };
            let text = format!("INSERT INTO {collection} DOCUMENTS (:d) ON ID CONFLICT {conflict}");
            vec![(text, with_id(fields))]
        }
        DocumentOp::InsertInitial { fields, .. } => {
            let text = format!("INSERT INTO {collection} INITIAL DOCUMENTS (:d)");
            vec![(text, with_id(fields))]
        }
        DocumentOp::Update(edits) => {
            let edits = edits.iter();
            edits.map(|edit| update(collection, &id, edit)).collect()
        }
        DocumentOp::Delete => {
            let text = format!("DELETE FROM {collection} WHERE _id = :id");
            vec![(text, Object::from([("id".to_owned(), id)]))]
        }
        other => unreachable!("the workload does not draw {other:?}"),
    }
}

fn update(collection: &str, id: &Value, edit: &FieldOp) -> (String, Object) {
    let mut args = Object::from([("id".to_owned(), id.clone())]);
    let change = match edit {
        FieldOp::Set { path, value, .. } => {
            args.insert("v".to_owned(), value.clone());
            format!("SET {path} = :v")
        }
        FieldOp::Unset { path } => format!("UNSET {path}"),
        FieldOp::Increment { path, by } => {
            args.insert("v".to_owned(), Value::from(*by));
            format!("APPLY {path} INCREMENT BY :v")
        }
        FieldOp::Restart { path, to } => {
            args.insert("v".to_owned(), Value::from(*to));
            format!("APPLY {path} RESTART WITH :v")
        }
        other => unreachable!("the workload does not draw {other:?}"),
    };
    let text = format!("UPDATE {collection} {change} WHERE _id = :id");
    (text, args)
}

impl Replica for Engine {
    type Error = StoreError;

    fn actor(&self) -> ActorId {
        self.store.actor()
    }

    fn timestamp(&self) -> Timestamp {
        self.store.timestamp()
    }

    fn durable_timestamp(&self) -> Option<Timestamp> {
        self.store.durable_timestamp()
    }

    fn durable_commit(&self) -> u64 {
        self.store.durable_commit()
    }

    fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, StoreError> {
        let batch = self
            .store
            .changed_since(collection, after, held_to, bytes_max)?;
        let groups = batch.groups.into_iter();
        Ok(ChangeBatch {
            groups: groups
                .map(|group| group.into_iter().map(changed).collect())
                .collect(),
            up_to: batch.up_to,
            more: batch.more,
        })
    }

    fn scan_scope(
        &self,
        subscription: SubscriptionId,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let filter = match filter {
            ScopeFilter::Selected => idem_store::ScopeFilter::Selected,
            ScopeFilter::All => idem_store::ScopeFilter::All,
        };
        self.store
            .scan_scope(&subscription.0, selector, filter, &mut |item| {
                visit(&ScopeItem {
                    id: item.id,
                    version: item.version,
                    state: state(item.state),
                })
            })
    }

    fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), StoreError> {
        let (groups, consumed) = self.store.changed_documents(keys, held_to, bytes_max)?;
        let groups = groups.into_iter();
        let groups = groups.map(|group| group.into_iter().map(changed).collect());
        Ok((groups.collect(), consumed))
    }

    fn sync_scope(&self, collection: &CollectionName) -> SyncScope {
        self.store.sync_scope(collection)
    }

    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        let document = self.store.document(key)?;
        self.store.wait_durable(self.store.last_commit())?;
        Ok(document)
    }

    fn declared(
        &self,
        collection: &CollectionName,
    ) -> Result<Arc<[(FieldPath, FieldKind)]>, StoreError> {
        self.store.declared(collection)
    }

    fn apply_synced(
        &mut self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
        synced: &[Synced],
    ) -> Result<ApplyReport, StoreError> {
        let incoming = incoming.into_iter().map(|document| idem_store::Incoming {
            key: document.key,
            group: document.group,
            state: match document.state {
                IncomingState::Whole(bytes) => idem_store::IncomingState::Whole(bytes),
                IncomingState::Delta(bytes) => idem_store::IncomingState::Delta(bytes),
            },
        });
        let cursors = cursors.iter().map(|update| idem_store::CursorUpdate {
            peer: update.peer,
            subscription: update.subscription.0.to_vec(),
            cursor: Some(idem_store::Cursor {
                actor: update.cursor.actor,
                commit: update.cursor.commit,
            }),
        });
        let cursors: Vec<_> = cursors.collect();
        let synced = synced.iter().map(|synced| idem_store::Synced {
            peer: synced.peer,
            collection: synced.collection.clone(),
            time: synced.time,
        });
        let synced: Vec<_> = synced.collect();
        let never = Cancellation::new();
        let incoming = incoming.collect();
        let report = (self.store).apply_visible(incoming, &cursors, &synced, &never)?;
        Ok(ApplyReport {
            outcomes: report.outcomes.into_iter().map(outcome).collect(),
            commit: report.commit,
        })
    }

    fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.store.last_synced(peer, collection)
    }

    fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.store.scan_known(collection, &mut |item| {
            visit(&ScopeItem {
                id: item.id,
                version: item.version,
                state: state(item.state),
            })
        })
    }

    fn gone(&self, collection: &CollectionName) -> Result<Option<Gone>, StoreError> {
        let gone = self.store.gone(collection)?;
        Ok(gone.map(|gone| Gone {
            deleted: gone.deleted,
            evicted: gone.evicted,
        }))
    }

    fn gc_floor(&self) -> Timestamp {
        self.store.gc_floor()
    }

    fn deleted_days(&self, collection: &CollectionName) -> Result<Vec<DeletedDay>, StoreError> {
        self.store.deleted_days(collection)
    }

    fn learn_gone(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
    ) -> Result<(), StoreError> {
        self.store
            .learn_gone(collection, deleted, days, &Cancellation::new())
    }

    fn learned_floor(&self) -> Timestamp {
        self.store.learned_floor()
    }

    fn quarantine(&mut self, keys: &[DocumentKey], from: PeerId) -> Result<u64, StoreError> {
        self.store.quarantine(keys, from, &Cancellation::new())
    }

    fn doubt_evicted(&mut self, keys: &[DocumentKey]) -> Result<u64, StoreError> {
        self.store.doubt_evicted(keys, &Cancellation::new())
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, StoreError> {
        self.store.leave_quarantine(keys, &Cancellation::new())
    }

    fn evict(
        &mut self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
    ) -> Result<u64, StoreError> {
        let reason = match reason {
            EvictReason::Left => idem_store::EvictReason::Left,
            EvictReason::Deleted => idem_store::EvictReason::Deleted,
        };
        self.store.evict(documents, reason, &Cancellation::new())
    }

    fn cursor(
        &self,
        peer: PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, StoreError> {
        let cursor = self.store.cursor(peer, &subscription.0)?;
        self.store.wait_durable(self.store.last_commit())?;
        Ok(cursor.map(|cursor| Cursor {
            actor: cursor.actor,
            commit: cursor.commit,
        }))
    }
}

fn changed(changed: idem_store::Changed) -> Changed {
    Changed {
        key: changed.key,
        commit: changed.commit,
        document: changed.document,
    }
}

fn outcome(outcome: idem_store::ApplyOutcome) -> ApplyOutcome {
    match outcome {
        idem_store::ApplyOutcome::Changed => ApplyOutcome::Changed,
        idem_store::ApplyOutcome::Unchanged => ApplyOutcome::Unchanged,
        idem_store::ApplyOutcome::Gap(version) => ApplyOutcome::Gap(version),
        idem_store::ApplyOutcome::TooFarAhead { .. } => ApplyOutcome::TooFarAhead,
        _ => ApplyOutcome::Refused,
    }
}

fn state(state: idem_store::ScopeState) -> ScopeState {
    match state {
        idem_store::ScopeState::Live => ScopeState::Live,
        idem_store::ScopeState::Tombstone => ScopeState::Tombstone,
        idem_store::ScopeState::Evicted => ScopeState::Evicted,
        idem_store::ScopeState::Doubtful => ScopeState::Doubtful,
        idem_store::ScopeState::Quarantined => ScopeState::Quarantined,
    }
}

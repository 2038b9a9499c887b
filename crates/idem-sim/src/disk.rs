//! A peer's store, as the simulator needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, DocumentOp, Object, PeerId, SyncScope,
    Timestamp, VersionVector,
};
use idem_query::Selector;
use idem_store::{SimulatedDisk, Store, StoreError};
use idem_sync::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gathering,
    Gone, Incoming, IncomingState, MemoryReplica, Replica, ScopeFilter, ScopeItem, ScopeState,
    SubscriptionId, Synced,
};

use crate::{canary::Canary, check, engine::Engine, workload::COLLECTIONS};

/// A peer's store: what is committed is visible at once, durable later, and lost in between if the
/// process dies.
#[derive(Debug)]
pub(crate) struct Disk {
    inner: Inner,
    canary: Option<Canary>,
    applied: u64,
    /// Documents that came from other peers and told something, since they were last taken.
    changed: Vec<DocumentKey>,
    /// What was held of each document that came since this was last taken, if it is wanted.
    earlier: Option<Vec<(DocumentKey, VersionVector)>>,
    gathering: Gathering,
    /// Whether something was written since the last fsync.
    is_dirty: bool,
}

/// A disk as it was once.
#[derive(Debug)]
pub(crate) enum DiskCopy {
    Memory(Box<MemoryReplica>),
    Engine(SimulatedDisk),
}

#[derive(Debug)]
enum Inner {
    /// The double, which is fast.
    Memory(Box<MemoryReplica>),
    /// The real thing.
    Engine(Box<Engine>),
}

/// Calls the same method on either.
macro_rules! either {
    ($self:ident, $inner:ident => $call:expr) => {
        match &$self.inner {
            Inner::Memory($inner) => $call,
            Inner::Engine($inner) => $call,
        }
    };
    (mut $self:ident, $inner:ident => $call:expr) => {
        match &mut $self.inner {
            Inner::Memory($inner) => $call,
            Inner::Engine($inner) => $call,
        }
    };
}

impl Disk {
    pub(crate) fn memory(replica: MemoryReplica, canary: Option<Canary>) -> Self {
        Self::new(Inner::Memory(Box::new(replica)), canary)
    }

    pub(crate) fn engine(engine: Engine, canary: Option<Canary>) -> Self {
        Self::new(Inner::Engine(Box::new(engine)), canary)
    }

    fn new(inner: Inner, canary: Option<Canary>) -> Self {
        Self {
            inner,
            canary,
            applied: 0,
            changed: Vec::new(),
            earlier: None,
            gathering: Gathering::default(),
            is_dirty: false,
        }
    }

    pub(crate) fn set_now_ms(&mut self, now_ms: u64) {
        either!(mut self, inner => inner.set_now_ms(now_ms));
    }

    /// Commits a transaction; `None` if it changed nothing or could not be done.
    pub(crate) fn commit(&mut self, operations: &[(DocumentKey, DocumentOp)]) -> Option<u64> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => inner.commit(operations).ok().flatten(),
            Inner::Engine(inner) => inner.commit(operations),
        }
    }

    /// The real store, if that is what it is.
    pub(crate) fn store(&mut self) -> Option<&Store> {
        self.is_dirty = true;
        match &self.inner {
            Inner::Memory(_) => None,
            Inner::Engine(inner) => Some(inner.store()),
        }
    }

    /// Removes documents here and only here; `None` if none was there.
    pub(crate) fn evict_documents(&mut self, keys: &[DocumentKey]) -> Option<u64> {
        self.is_dirty = true;
        either!(mut self, inner => inner.evict_documents(keys))
    }

    /// Sets the subscriptions of this peer: what is evicted counts as held in those that select it.
    pub(crate) fn set_subscriptions(&mut self, selectors: impl IntoIterator<Item = Selector>) {
        either!(mut self, inner => inner.set_subscriptions(selectors));
    }

    /// Removes the tombstones whose life is over, those of one day at most.
    pub(crate) fn remove_tombstones(&mut self) {
        self.is_dirty = true;
        either!(mut self, inner => inner.remove_tombstones());
    }

    /// The fsync of everything up to now is done.
    pub(crate) fn make_durable(&mut self) {
        self.is_dirty = false;
        either!(mut self, inner => inner.make_durable());
    }

    pub(crate) fn crash(&mut self) {
        self.is_dirty = false;
        self.changed.clear();
        self.gathering = Gathering::default();
        either!(mut self, inner => inner.crash());
    }

    /// Whether something was written that no fsync covers.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// The documents that other peers changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<DocumentKey> {
        std::mem::take(&mut self.changed)
    }

    /// What was held of each document that came since the last call. The first call begins to note that.
    pub(crate) fn take_earlier(&mut self) -> Vec<(DocumentKey, VersionVector)> {
        self.earlier.replace(Vec::new()).unwrap_or_default()
    }

    /// Sets with which peers a collection syncs from now on.
    pub(crate) fn set_sync_scope(&mut self, collection: CollectionName, scope: SyncScope) {
        self.is_dirty = true;
        either!(mut self, inner => inner.set_sync_scope(collection, scope));
    }

    /// With which peers a collection is to sync.
    pub(crate) fn scope_as_set(&self, collection: &CollectionName) -> SyncScope {
        either!(self, inner => inner.sync_scope(collection))
    }

    /// A copy of what survived the last crash; no session may be open.
    pub(crate) fn copy(&mut self) -> DiskCopy {
        match &mut self.inner {
            Inner::Memory(inner) => DiskCopy::Memory(inner.clone()),
            Inner::Engine(inner) => DiskCopy::Engine(inner.copy()),
        }
    }

    /// Goes on from a copy, which may be of another peer's disk. The real store finds out by itself
    /// that it is one, and takes a new actor; its double is told.
    pub(crate) fn restore(&mut self, copy: &DiskCopy, actor: ActorId) {
        self.crash();
        match (&mut self.inner, copy) {
            (Inner::Memory(inner), DiskCopy::Memory(copy)) => {
                inner.clone_from(copy);
                if self.canary != Some(Canary::KeepActor) {
                    inner.renew_actor(actor);
                }
            }
            (Inner::Engine(inner), DiskCopy::Engine(copy)) => inner.restore(copy),
            _ => unreachable!("all peers of a run have the same kind of disk"),
        }
    }

    pub(crate) fn last_commit(&self) -> u64 {
        either!(self, inner => inner.last_commit())
    }

    /// The encoded state of everything known.
    pub(crate) fn states(&self) -> BTreeMap<DocumentKey, Vec<u8>> {
        match &self.inner {
            Inner::Memory(inner) => {
                let documents = inner.documents();
                documents
                    .map(|(key, document)| (key.clone(), document.to_bytes()))
                    .collect()
            }
            Inner::Engine(inner) => inner.states(),
        }
    }

    /// The documents that do not travel.
    pub(crate) fn quarantined(&self) -> BTreeSet<DocumentKey> {
        let mut keys = BTreeSet::new();
        for name in COLLECTIONS {
            let name = CollectionName::new(name).expect("a valid name");
            let scanned = self.scan_known(&name, &mut |item| {
                if item.state == ScopeState::Quarantined {
                    keys.insert(item.key(&name).expect("written by ourselves"));
                }
                ControlFlow::Continue(())
            });
            scanned.expect("the simulated disk works");
        }
        keys
    }

    /// The visible fields of a document.
    pub(crate) fn fields(&self, key: &DocumentKey) -> Option<Object> {
        let bytes = self.state(key)?;
        idem_crdt::visible_fields(&bytes).expect("written by ourselves")
    }

    /// The encoded state of a document.
    pub(crate) fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        match &self.inner {
            Inner::Memory(inner) => inner.state(key),
            Inner::Engine(inner) => inner.state(key),
        }
    }
}

impl Replica for Disk {
    type Error = StoreError;

    fn gathering(&mut self) -> Option<&mut Gathering> {
        Some(&mut self.gathering)
    }

    fn actor(&self) -> ActorId {
        either!(self, inner => inner.actor())
    }

    fn timestamp(&self) -> Timestamp {
        either!(self, inner => inner.timestamp())
    }

    fn durable_timestamp(&self) -> Option<Timestamp> {
        either!(self, inner => inner.durable_timestamp())
    }

    fn durable_commit(&self) -> u64 {
        match self.canary {
            Some(Canary::AcknowledgeTooEarly) => self.last_commit(),
            _ => either!(self, inner => inner.durable_commit()),
        }
    }

    fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, Self::Error> {
        let mut batch = match &self.inner {
            Inner::Memory(inner) => {
                let Ok(batch) = inner.changed_since(collection, after, held_to, bytes_max);
                batch
            }
            Inner::Engine(inner) => inner.changed_since(collection, after, held_to, bytes_max)?,
        };
        if self.canary == Some(Canary::BreakGroups) {
            let documents = std::mem::take(&mut batch.groups).into_iter().flatten();
            batch.groups = documents.map(|document| vec![document]).collect();
            batch
                .groups
                .retain(|group| group[0].key.collection == *collection);
        }
        Ok(batch)
    }

    fn scan_scope(
        &self,
        subscription: SubscriptionId,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(commit) = inner.scan_scope(subscription, selector, filter, visit);
                Ok(commit)
            }
            Inner::Engine(inner) => inner.scan_scope(subscription, selector, filter, visit),
        }
    }

    fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(changed) = inner.changed_documents(keys, held_to, bytes_max);
                Ok(changed)
            }
            Inner::Engine(inner) => inner.changed_documents(keys, held_to, bytes_max),
        }
    }

    fn sync_scope(&self, collection: &CollectionName) -> SyncScope {
        match self.canary {
            Some(Canary::IgnoreScopes) => SyncScope::AllPeers,
            _ => self.scope_as_set(collection),
        }
    }

    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(document) = inner.document(key);
                Ok(document)
            }
            Inner::Engine(inner) => inner.document(key),
        }
    }

    fn declared(
        &self,
        collection: &CollectionName,
    ) -> Result<std::sync::Arc<[(idem_model::FieldPath, idem_model::FieldKind)]>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(kinds) = inner.declared(collection);
                Ok(kinds)
            }
            Inner::Engine(inner) => inner.declared(collection),
        }
    }

    fn apply_synced(
        &mut self,
        mut incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
        synced: &[Synced],
    ) -> Result<ApplyReport, Self::Error> {
        self.applied += 1;
        self.is_dirty = true;
        let count = incoming.len();
        let keys: Vec<DocumentKey> = incoming.iter().map(|it| it.key.clone()).collect();
        if self.earlier.is_some() {
            let versions = keys.iter().map(|key| {
                let state = self.state(key);
                let version = state.map(|state| check::version(&state));
                (key.clone(), version.unwrap_or_default())
            });
            let versions: Vec<_> = versions.collect();
            self.earlier.get_or_insert_default().extend(versions);
        }
        match self.canary {
            Some(Canary::DropDocument) if self.applied % 7 == 3 => {
                incoming.pop();
            }
            Some(Canary::IgnoreDeletion) => incoming.retain(|it| !is_deletion(it)),
            Some(Canary::KeepFirstState) => incoming.retain(|it| self.state(&it.key).is_none()),
            Some(Canary::NeverApply) => {
                let outcomes = vec![ApplyOutcome::Gap(Default::default()); count];
                return Ok(ApplyReport {
                    outcomes,
                    commit: 0,
                });
            }
            _ => {}
        }
        let mut report = match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(report) = inner.apply_synced(incoming, cursors, synced);
                report
            }
            Inner::Engine(inner) => inner.apply_synced(incoming, cursors, synced)?,
        };
        report.outcomes.resize(count, ApplyOutcome::Unchanged);
        if report.is_applied() {
            let outcomes = report.outcomes.iter();
            let told = keys.into_iter().zip(outcomes);
            let told = told.filter(|(_, outcome)| **outcome == ApplyOutcome::Changed);
            self.changed.extend(told.map(|(key, _)| key));
        }
        Ok(report)
    }

    fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(time) = inner.last_synced(peer, collection);
                Ok(time)
            }
            Inner::Engine(inner) => inner.last_synced(peer, collection),
        }
    }

    fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(()) = inner.scan_known(collection, visit);
                Ok(())
            }
            Inner::Engine(inner) => inner.scan_known(collection, visit),
        }
    }

    fn gone(&self, collection: &CollectionName) -> Result<Option<Gone>, Self::Error> {
        let mut gone = match &self.inner {
            Inner::Memory(inner) => {
                let Ok(gone) = inner.gone(collection);
                gone
            }
            Inner::Engine(inner) => inner.gone(collection)?,
        };
        if let Some(gone) = &mut gone
            && self.canary == Some(Canary::ForgetEvictions)
        {
            gone.evicted = VersionVector::new();
        }
        Ok(gone)
    }

    fn gc_floor(&self) -> Timestamp {
        match self.canary {
            Some(Canary::HideFloor) => Timestamp::ZERO,
            _ => either!(self, inner => inner.gc_floor()),
        }
    }

    fn deleted_days(&self, collection: &CollectionName) -> Result<Vec<DeletedDay>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(days) = inner.deleted_days(collection);
                Ok(days)
            }
            Inner::Engine(inner) => inner.deleted_days(collection),
        }
    }

    fn learn_gone(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
    ) -> Result<(), Self::Error> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(()) = inner.learn_gone(collection, deleted, days);
                Ok(())
            }
            Inner::Engine(inner) => inner.learn_gone(collection, deleted, days),
        }
    }

    fn learned_floor(&self) -> Timestamp {
        either!(self, inner => inner.learned_floor())
    }

    fn quarantine(&mut self, keys: &[DocumentKey], from: PeerId) -> Result<u64, Self::Error> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(count) = inner.quarantine(keys, from);
                Ok(count)
            }
            Inner::Engine(inner) => inner.quarantine(keys, from),
        }
    }

    fn doubt_evicted(&mut self, keys: &[DocumentKey]) -> Result<u64, Self::Error> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(count) = inner.doubt_evicted(keys);
                Ok(count)
            }
            Inner::Engine(inner) => inner.doubt_evicted(keys),
        }
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, Self::Error> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(count) = inner.leave_quarantine(keys);
                Ok(count)
            }
            Inner::Engine(inner) => inner.leave_quarantine(keys),
        }
    }

    fn evict(
        &mut self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
    ) -> Result<u64, Self::Error> {
        self.is_dirty = true;
        match &mut self.inner {
            Inner::Memory(inner) => {
                let Ok(evicted) = inner.evict(documents, reason);
                Ok(evicted)
            }
            Inner::Engine(inner) => inner.evict(documents, reason),
        }
    }

    fn cursor(
        &self,
        peer: PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(cursor) = inner.cursor(peer, subscription);
                Ok(cursor)
            }
            Inner::Engine(inner) => inner.cursor(peer, subscription),
        }
    }
}

fn is_deletion(incoming: &Incoming) -> bool {
    match &incoming.state {
        IncomingState::Whole(bytes) => {
            matches!(idem_crdt::visible_fields(bytes), Ok(None))
        }
        IncomingState::Delta(_) => false,
    }
}

#[cfg(test)]
mod tests;

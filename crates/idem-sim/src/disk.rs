//! A peer's store, as the simulator needs it.

use std::{collections::BTreeMap, ops::ControlFlow};

use idem_model::{DocumentKey, DocumentOp, Object, SyncScope};
use idem_query::Selector;
use idem_store::StoreError;
use idem_sync::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, Incoming, IncomingState,
    MemoryReplica, Replica, ScopeFilter, ScopeItem, SubscriptionId,
};

use crate::{canary::Canary, engine::Engine};

/// A peer's store: what is committed is visible at once, durable later, and lost in between if the
/// process dies.
#[derive(Debug)]
pub(crate) struct Disk {
    inner: Inner,
    canary: Option<Canary>,
    applied: u64,
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
        Self {
            inner: Inner::Memory(Box::new(replica)),
            canary,
            applied: 0,
        }
    }

    pub(crate) fn engine(engine: Engine, canary: Option<Canary>) -> Self {
        Self {
            inner: Inner::Engine(Box::new(engine)),
            canary,
            applied: 0,
        }
    }

    pub(crate) fn set_now_ms(&mut self, now_ms: u64) {
        either!(mut self, inner => inner.set_now_ms(now_ms));
    }

    /// Commits a transaction; `None` if it changed nothing or could not be done.
    pub(crate) fn commit(&mut self, operations: &[(DocumentKey, DocumentOp)]) -> Option<u64> {
        match &mut self.inner {
            Inner::Memory(inner) => inner.commit(operations).ok().flatten(),
            Inner::Engine(inner) => inner.commit(operations),
        }
    }

    /// The fsync of everything up to now is done.
    pub(crate) fn make_durable(&mut self) {
        either!(mut self, inner => inner.make_durable());
    }

    pub(crate) fn crash(&mut self) {
        either!(mut self, inner => inner.crash());
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

    /// The visible fields of a document.
    pub(crate) fn fields(&self, key: &DocumentKey) -> Option<Object> {
        let bytes = self.state(key)?;
        idem_crdt::visible_fields(&bytes).expect("written by ourselves")
    }

    /// The encoded state of a document.
    pub(crate) fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        self.document(key).expect("the simulated disk works")
    }
}

impl Replica for Disk {
    type Error = StoreError;

    fn actor(&self) -> idem_model::ActorId {
        either!(self, inner => inner.actor())
    }

    fn timestamp(&self) -> idem_model::Timestamp {
        either!(self, inner => inner.timestamp())
    }

    fn durable_commit(&self) -> u64 {
        match self.canary {
            Some(Canary::AcknowledgeTooEarly) => self.last_commit(),
            _ => either!(self, inner => inner.durable_commit()),
        }
    }

    fn changed_since(
        &self,
        collection: &idem_model::CollectionName,
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

    fn sync_scope(&self, collection: &idem_model::CollectionName) -> SyncScope {
        either!(self, inner => inner.sync_scope(collection))
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
        collection: &idem_model::CollectionName,
    ) -> Result<std::sync::Arc<[(idem_model::FieldPath, idem_model::FieldKind)]>, Self::Error> {
        match &self.inner {
            Inner::Memory(inner) => {
                let Ok(kinds) = inner.declared(collection);
                Ok(kinds)
            }
            Inner::Engine(inner) => inner.declared(collection),
        }
    }

    fn apply(
        &mut self,
        mut incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
    ) -> Result<ApplyReport, Self::Error> {
        self.applied += 1;
        let count = incoming.len();
        match self.canary {
            Some(Canary::DropDocument) if self.applied % 7 == 3 => {
                incoming.pop();
            }
            Some(Canary::IgnoreDeletion) => incoming.retain(|it| !is_deletion(it)),
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
                let Ok(report) = inner.apply(incoming, cursors);
                report
            }
            Inner::Engine(inner) => inner.apply(incoming, cursors)?,
        };
        report.outcomes.resize(count, ApplyOutcome::Unchanged);
        Ok(report)
    }

    fn cursor(
        &self,
        peer: idem_model::PeerId,
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

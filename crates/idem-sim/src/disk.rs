//! A peer's store, as the simulator needs it.

use std::collections::BTreeMap;

use idem_model::{DocumentKey, DocumentOp, Object};
use idem_sync::{
    ApplyReport, ChangeBatch, Cursor, CursorUpdate, Incoming, MemoryReplica, Replica,
    SubscriptionId,
};

use crate::canary::Canary;

/// A peer's store: what is committed is visible at once, durable later, and lost in between if the
/// process dies.
#[derive(Debug)]
pub(crate) struct Disk {
    inner: MemoryReplica,
    canary: Option<Canary>,
    applied: u64,
}

impl Disk {
    pub(crate) fn new(inner: MemoryReplica, canary: Option<Canary>) -> Self {
        Self {
            inner,
            canary,
            applied: 0,
        }
    }

    pub(crate) fn set_now_ms(&mut self, now_ms: u64) {
        self.inner.set_now_ms(now_ms);
    }

    /// Commits a transaction; `None` if it changed nothing or could not be done.
    pub(crate) fn commit(&mut self, operations: &[(DocumentKey, DocumentOp)]) -> Option<u64> {
        self.inner.commit(operations).ok().flatten()
    }

    /// The fsync of everything up to now is done.
    pub(crate) fn make_durable(&mut self) {
        self.inner.make_durable();
    }

    pub(crate) fn crash(&mut self) {
        self.inner.crash();
    }

    pub(crate) fn last_commit(&self) -> u64 {
        self.inner.last_commit()
    }

    /// The encoded state of everything known.
    pub(crate) fn states(&self) -> BTreeMap<DocumentKey, Vec<u8>> {
        let documents = self.inner.documents();
        documents
            .map(|(key, document)| (key.clone(), document.to_bytes()))
            .collect()
    }

    /// The visible fields of a document.
    pub(crate) fn fields(&self, key: &DocumentKey) -> Option<Object> {
        let bytes = self.state(key)?;
        idem_crdt::visible_fields(&bytes).expect("written by ourselves")
    }

    /// The encoded state of a document.
    pub(crate) fn state(&self, key: &DocumentKey) -> Option<Vec<u8>> {
        let Ok(state) = self.inner.document(key);
        state
    }
}

impl Replica for Disk {
    type Error = std::convert::Infallible;

    fn actor(&self) -> idem_model::ActorId {
        self.inner.actor()
    }

    fn timestamp(&self) -> idem_model::Timestamp {
        self.inner.timestamp()
    }

    fn durable_commit(&self) -> u64 {
        match self.canary {
            Some(Canary::AcknowledgeTooEarly) => self.inner.last_commit(),
            _ => self.inner.durable_commit(),
        }
    }

    fn changed_since(
        &self,
        collection: &idem_model::CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, Self::Error> {
        let mut batch = self
            .inner
            .changed_since(collection, after, held_to, bytes_max)?;
        if self.canary == Some(Canary::BreakGroups) {
            let documents = std::mem::take(&mut batch.groups).into_iter().flatten();
            batch.groups = documents.map(|document| vec![document]).collect();
            batch
                .groups
                .retain(|group| group[0].key.collection == *collection);
        }
        Ok(batch)
    }

    fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, Self::Error> {
        self.inner.document(key)
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
                let outcomes = vec![idem_sync::ApplyOutcome::Gap(Default::default()); count];
                return Ok(ApplyReport {
                    outcomes,
                    commit: 0,
                });
            }
            _ => {}
        }
        let mut report = self.inner.apply(incoming, cursors)?;
        report
            .outcomes
            .resize(count, idem_sync::ApplyOutcome::Unchanged);
        Ok(report)
    }

    fn cursor(
        &self,
        peer: idem_model::PeerId,
        subscription: SubscriptionId,
    ) -> Result<Option<Cursor>, Self::Error> {
        self.inner.cursor(peer, subscription)
    }
}

fn is_deletion(incoming: &Incoming) -> bool {
    match &incoming.state {
        idem_sync::IncomingState::Whole(bytes) => {
            matches!(idem_crdt::visible_fields(bytes), Ok(None))
        }
        idem_sync::IncomingState::Delta(_) => false,
    }
}

//! The store, as replication sees it.

use std::{ops::ControlFlow, sync::Arc};

use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, FieldKind, FieldPath, PeerId, SyncScope,
    Timestamp, VersionVector,
};
use idem_query::Selector;
use idem_store::{Cancellation, Store, StoreError};
use idem_sync::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gathering,
    Gone, Incoming, IncomingState, Replica, ScopeFilter, ScopeItem, ScopeState, SubscriptionId,
    Synced,
};

/// Neither crate knows the other; this is where they meet.
pub(crate) struct StoreReplica {
    store: Store,
    /// Ends a wait for the writer's turn.
    applying: Cancellation,
    gathering: Gathering,
}

impl StoreReplica {
    pub(crate) fn new(store: Store, applying: Cancellation) -> Self {
        Self {
            store,
            applying,
            gathering: Gathering::default(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

impl Replica for StoreReplica {
    type Error = StoreError;

    fn gathering(&mut self) -> Option<&mut Gathering> {
        Some(&mut self.gathering)
    }

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
        Ok(ChangeBatch {
            groups: batch
                .groups
                .into_iter()
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
        let incoming = incoming
            .into_iter()
            .map(|document| idem_store::Incoming {
                key: document.key,
                group: document.group,
                state: match document.state {
                    IncomingState::Whole(bytes) => idem_store::IncomingState::Whole(bytes),
                    IncomingState::Delta(bytes) => idem_store::IncomingState::Delta(bytes),
                },
            })
            .collect();
        let cursors: Vec<_> = cursors
            .iter()
            .map(|update| idem_store::CursorUpdate {
                peer: update.peer,
                subscription: update.subscription.0.to_vec(),
                cursor: Some(idem_store::Cursor {
                    actor: update.cursor.actor,
                    commit: update.cursor.commit,
                }),
            })
            .collect();
        let synced: Vec<_> = synced.iter().map(stored).collect();
        let report = self
            .store
            .apply_visible(incoming, &cursors, &synced, &self.applying)?;
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
            .learn_gone(collection, deleted, days, &self.applying)
    }

    fn learned_floor(&self) -> Timestamp {
        self.store.learned_floor()
    }

    fn quarantine(&mut self, keys: &[DocumentKey], from: PeerId) -> Result<u64, StoreError> {
        self.store.quarantine(keys, from, &self.applying)
    }

    fn doubt_evicted(&mut self, keys: &[DocumentKey]) -> Result<u64, StoreError> {
        self.store.doubt_evicted(keys, &self.applying)
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, StoreError> {
        self.store.leave_quarantine(keys, &self.applying)
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
        self.store.evict(documents, reason, &self.applying)
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

fn stored(synced: &Synced) -> idem_store::Synced {
    idem_store::Synced {
        peer: synced.peer,
        collection: synced.collection.clone(),
        time: synced.time,
    }
}

fn outcome(outcome: idem_store::ApplyOutcome) -> ApplyOutcome {
    match outcome {
        idem_store::ApplyOutcome::Changed => ApplyOutcome::Changed,
        idem_store::ApplyOutcome::Unchanged => ApplyOutcome::Unchanged,
        idem_store::ApplyOutcome::Gap(version) => ApplyOutcome::Gap(version),
        idem_store::ApplyOutcome::TooFarAhead { .. } => ApplyOutcome::TooFarAhead,
        idem_store::ApplyOutcome::Refused { reason } => {
            tracing::warn!(reason, "a document from another peer was refused");
            ApplyOutcome::Refused
        }
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

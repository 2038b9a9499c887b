//! The store in memory, as replication sees it.

use std::{collections::BTreeSet, convert::Infallible, ops::ControlFlow, sync::Arc};

use idem_crdt::{Document, encoded_version_bytes, visible_fields_declared};
use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, FieldKind, FieldPath, PeerId, SyncScope,
    Timestamp, VersionVector,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use super::{
    MemoryReplica,
    commons::Content,
    state::{Evicted, Row, Write},
};
use crate::{
    gathering::Gathering,
    grouping,
    merging::{Merged, merge_all},
    replica::{
        ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gone, Incoming,
        Replica, ScopeFilter, ScopeItem, ScopeState, Synced,
    },
};

impl Replica for MemoryReplica {
    type Error = Infallible;

    fn gathering(&mut self) -> Option<&mut Gathering> {
        Some(&mut self.gathering)
    }

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
        let feed = state.by_seq.range(after + 1..);
        let is_hidden =
            |key: &DocumentKey| key.collection != *collection || state.quarantined.contains(key);
        Ok(grouping::read_feed(
            feed.flat_map(|(commit, keys)| keys.iter().map(|key| (*commit, key))),
            (after, state.commit),
            bytes_max,
            |key| match is_hidden(key) {
                true => BTreeSet::new(),
                false => state.closure(key, held_to, &|_, _| false),
            },
            |members| state.group_of(members),
        ))
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
            if self.durable.quarantined.contains(&**key) {
                continue;
            }
            let fields =
                visible_fields_declared(row.bytes(), &kinds).expect("written by ourselves");
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
                version: encoded_version_bytes(row.bytes()).expect("written by ourselves"),
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
        let is_held = grouping::held_beside(keys, held_to);
        let is_held = |key: &DocumentKey, row: &Row| is_held(key, row.commit);
        let travels = |key: &_| state.rows.contains_key(key) && !state.quarantined.contains(key);
        Ok(grouping::read_documents(
            keys,
            bytes_max,
            |key| match travels(key) {
                true => state.closure(key, 0, &is_held),
                false => BTreeSet::new(),
            },
            |members| state.group_of(members),
        ))
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
        Ok(self.durable.rows.get(key).map(|row| row.bytes().to_vec()))
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
        let is_in_doubt = |key: &DocumentKey, document: &Document, is_tombstone| {
            self.visible.quarantined.contains(key)
                && (is_tombstone || self.may_be_deleted(&key.collection, document))
        };
        let clock = (self.visible.clock, self.now_ms);
        let merged = merge_all(incoming, clock, |key| self.state_of(key), is_in_doubt);
        let Merged {
            outcomes,
            changed,
            doubtful,
            mut clock,
        } = merged;
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
            let writes = writes.map(|(key, (group, document))| {
                let content = Content::new(document);
                (key, Write::Document { group, content })
            });
            let mut writes: Vec<_> = writes.collect();
            let is_buried = |(_, write): &(DocumentKey, Write)| matches!(write, Write::Document { content, .. } if !content.document().is_present());
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
                version: encoded_version_bytes(row.bytes()).expect("written by ourselves"),
                state: if !row.document().is_present() {
                    ScopeState::Tombstone
                } else if self.visible.quarantined.contains(&**key) {
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
                state: match evicted.is_doubtful {
                    true => ScopeState::Doubtful,
                    false => ScopeState::Evicted,
                },
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

    fn deleted_days(&self, collection: &CollectionName) -> Result<Vec<DeletedDay>, Infallible> {
        let days = self.visible.days.get(collection);
        let kept = || self.visible.kept_days(collection);
        Ok(days.map_or_else(Vec::new, |days| days.tell(&kept())))
    }

    fn learn_gone(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
    ) -> Result<(), Infallible> {
        let known = self.visible.gone.get(collection);
        let is_covered = known.map_or(deleted.is_empty(), |known| {
            known.deleted.covers_all(deleted)
        });
        let mut heard = self.visible.days.get(collection).cloned();
        let heard = heard.get_or_insert_default();
        if !heard.learn(&self.visible.kept_days(collection), days) && is_covered {
            return Ok(());
        }
        let (n, mut clock) = (self.visible.n, self.visible.clock);
        clock
            .tick(self.now_ms)
            .expect("simulated time stays far below the year 10889");
        self.write(n, clock, Vec::new(), Vec::new());
        self.visible.write_learned(collection, deleted, days);
        if let Some(commit) = self.undurable.last_mut() {
            commit.learned = Some((collection.clone(), deleted.clone(), days.to_vec()));
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

    fn doubt_evicted(&mut self, keys: &[DocumentKey]) -> Result<u64, Infallible> {
        let keys: BTreeSet<&DocumentKey> = keys.iter().collect();
        let keys = keys.into_iter().filter(|key| {
            let evicted = self.visible.evicted.get(key);
            evicted.is_some_and(|it| !it.subscriptions.is_empty() && !it.is_doubtful)
        });
        let keys: Vec<DocumentKey> = keys.cloned().collect();
        if keys.is_empty() {
            return Ok(0);
        }
        let (n, mut clock) = (self.visible.n, self.visible.clock);
        clock
            .tick(self.now_ms)
            .expect("simulated time stays far below the year 10889");
        self.write(n, clock, Vec::new(), Vec::new());
        self.visible.write_doubted(&keys);
        let count = keys.len() as u64;
        if let Some(commit) = self.undurable.last_mut() {
            commit.doubted = keys;
        }
        Ok(count)
    }

    fn leave_quarantine(&mut self, keys: &[DocumentKey]) -> Result<u64, Infallible> {
        let keys: BTreeSet<&DocumentKey> = keys.iter().collect();
        let keys = keys.into_iter();
        let keys = keys.filter(|key| self.visible.quarantined.contains(*key));
        let written = |key: &DocumentKey| Write::Document {
            group: 0,
            content: Content::new(self.state_of(key)),
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
                    is_doubtful: false,
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

impl MemoryReplica {
    /// Whether tombstones that went may have been of all that is left in a document. A tombstone does not
    /// show that it lives anywhere, and neither does who has only what was deleted.
    fn may_be_deleted(&self, collection: &CollectionName, document: &Document) -> bool {
        let gone = self.visible.gone.get(collection);
        let traces = document.traces();
        gone.is_some_and(|gone| traces.iter().all(|dot| gone.deleted.covers(*dot)))
    }
}

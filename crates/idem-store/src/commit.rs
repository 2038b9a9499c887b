//! From the changes of a transaction to one batch, and what follows when it is visible.

use std::{collections::BTreeSet, sync::Arc};

use idem_kv::Batch;
use idem_log::Position;
use idem_model::limits;

use crate::{
    core::Core,
    edit::check_limit,
    error::StoreError,
    gone::Gone,
    groups::{self, Grouping, Move},
    head::Head,
    observers::Images,
    pending::PendingDocument,
    row::Header,
    tables::{self, BY_SEQ, DOCUMENTS, INDEX, SYSTEM, TOMBSTONES},
    tombstones,
    work::Work,
};

/// What a changed document takes in a batch beside its body: three keys of some 30 bytes and the
/// header of its row.
const ROW_BYTES: usize = 128;

/// What a commit became.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed {
    /// Its number, if it changed a document.
    pub(crate) commit: Option<u64>,
    position: Position,
}

impl Work {
    /// Commits, and returns when the commit is as durable as the store is configured.
    pub(crate) fn commit(self) -> Result<Option<u64>, StoreError> {
        let core = Arc::clone(&self.core);
        let Some(committed) = self.commit_visible()? else {
            return Ok(None);
        };
        committed.acknowledge(&core)?;
        Ok(committed.commit)
    }

    /// Makes the changes visible and lets the next writer in; `None` if there are no changes.
    pub(crate) fn commit_visible(mut self) -> Result<Option<Committed>, StoreError> {
        if self.pending.is_empty() {
            return Ok(None);
        }
        let Some(mut writing) = self.writing.take() else {
            return Err(StoreError::ReadOnly);
        };
        let is_tombstone = |it: &PendingDocument| !it.is_present && it.body.is_some();
        if writing.stamp.is_none() && self.pending.documents.values().any(is_tombstone) {
            // So that peers can say up to which tombstone they have heard of all.
            writing.clock.tick(self.now_ms)?;
        }
        assert!(
            !self.pending.small.is_declaration_due,
            "declarations take effect in the transaction that brings them"
        );
        let is_numbered = !self.pending.documents.is_empty();
        let mut head = Head {
            actor: writing.head.actor,
            n: writing.head.n + u64::from(self.pending.small.is_stamped),
            commit: writing.head.commit + u64::from(is_numbered),
            time: writing.clock.last(),
            groups: writing.head.groups,
        };
        let batch = self.batch(&mut head)?;
        let catalog = self.pending.small.catalog.take();
        let position = self.core.publish(&batch, head, catalog.clone())?;
        // Before the next writer comes, so that observers hear of commits in their order.
        let has_news = self.tell_observers(head.commit);
        drop(writing.turn);
        if has_news {
            self.core.observers.wake();
        }
        self.core.indexing.committed(
            catalog.as_deref().unwrap_or(&self.view.catalog),
            catalog.is_some(),
            self.pending.index_entries.keys().map(Vec::as_slice),
        );
        Ok(Some(Committed {
            commit: is_numbered.then_some(head.commit),
            position,
        }))
    }

    fn batch(&self, head: &mut Head) -> Result<Batch, StoreError> {
        let pending = &self.pending;
        // Beside what is counted a document has two rows in the order of arrival.
        let rows = pending.documents.len() + pending.index_entries.len();
        let mut batch = Batch::with_capacity(pending.small.bytes + ROW_BYTES * rows);
        self.put_documents(head, &mut batch)?;
        for (key, value) in &self.pending.index_entries {
            put_or_delete(&mut batch, INDEX, key, value.as_deref());
        }
        for (&collection, &delta) in &self.pending.small.counts {
            if delta != 0 {
                let count = self.documents_in(collection)?;
                batch.put(SYSTEM, &tables::count(collection), &count.to_be_bytes());
            }
        }
        let system = self.pending.evictions.iter();
        for (key, value) in system.chain(&self.pending.small.system) {
            put_or_delete(&mut batch, SYSTEM, key, value.as_deref());
        }
        for (&collection, gone) in &pending.small.gone {
            let row = Gone::encode(gone.as_ref());
            batch.put(SYSTEM, &tables::gone(collection), &row);
        }
        batch.put(SYSTEM, tables::SYSTEM_HEAD, &head.encode());
        let bytes = batch.as_bytes().len();
        check_limit("bytes", bytes, limits::TRANSACTION_BYTES_MAX)?;
        Ok(batch)
    }

    fn put_documents(&self, head: &mut Head, batch: &mut Batch) -> Result<(), StoreError> {
        let documents = &self.pending.documents;
        let kept_groups = self.join_groups(head, batch)?;
        // One after the other is written into the same memory.
        let (mut arrival, mut encoded) = (Vec::new(), Vec::new());
        let mut number = (None, Vec::new());
        for (key, document) in documents {
            let (collection, id) = tables::split_document(key).expect("a key of our own making");
            if let Some(before) = &document.before {
                tables::by_seq_into(collection, before.commit, id, &mut arrival);
                batch.delete(BY_SEQ, &arrival);
                if let Some(expiry_ms) = before.expiry_ms {
                    batch.delete(TOMBSTONES, &tables::tombstone(expiry_ms, collection, id));
                }
            }
            let was_oversized = document.before.is_some_and(|before| before.is_oversized);
            match (was_oversized, document.is_oversized) {
                (false, true) => batch.put(SYSTEM, &tables::oversized(key), &[]),
                (true, false) => batch.delete(SYSTEM, &tables::oversized(key)),
                _ => {}
            }
            if document.before.is_some_and(|before| before.is_quarantined)
                && !document.is_quarantined
            {
                batch.delete(SYSTEM, &tables::quarantined(key));
            }
            let Some(body) = &document.body else {
                batch.delete(DOCUMENTS, key);
                continue;
            };
            let header = self.header_of((collection, document), head, &kept_groups);
            header.encode_into(&mut encoded);
            batch.put_parts(DOCUMENTS, key, &[&encoded, body]);
            if number.0 != header.group {
                number = (header.group, groups::encode_group_number(header.group));
            }
            tables::by_seq_into(collection, head.commit, id, &mut arrival);
            batch.put(BY_SEQ, &arrival, &number.1);
            if let Some(expiry_ms) = header.expiry_ms {
                batch.put(
                    TOMBSTONES,
                    &tables::tombstone(expiry_ms, collection, id),
                    &tombstones::encode_arrival(head.time),
                );
            }
        }
        Ok(())
    }

    fn header_of(
        &self,
        (collection, document): (u32, &PendingDocument),
        head: &Head,
        kept_groups: &KeptGroups,
    ) -> Header {
        let set = self.catalog().tuning.tombstone_ttl_ms;
        let ttl_ms = set.unwrap_or(self.core.settings.tombstone_ttl_ms);
        // The hybrid clock has what the wall clock says, and is not set back with it.
        let expiry_ms = match self.is_projection(collection) {
            // It is never forgotten.
            true => u64::MAX,
            false => head.time.unix_ms().saturating_add(ttl_ms),
        };
        Header {
            commit: head.commit,
            group: kept_groups
                .contains(&document.group)
                .then_some(document.group),
            expiry_ms: (!document.is_present).then_some(expiry_ms),
            is_oversized: document.is_oversized,
            is_quarantined: document.is_quarantined,
        }
    }

    fn join_groups(&self, head: &mut Head, batch: &mut Batch) -> Result<KeptGroups, StoreError> {
        let documents = &self.pending.documents;
        // The common case of one document without a past costs nothing.
        let is_alone = documents.len() == 1
            && documents
                .values()
                .all(|document| document.before.is_none_or(|before| before.group.is_none()));
        if is_alone {
            return Ok(KeptGroups::new());
        }
        let moves: Vec<Move<'_>> = documents
            .iter()
            .filter(|(_, document)| document.body.is_some() || document.before.is_some())
            .map(|(key, document)| Move {
                key,
                from: document
                    .before
                    .and_then(|before| Some((before.commit, before.group?))),
                to: document.body.as_ref().map(|_| document.group),
            })
            .collect();
        let mut grouping = Grouping::new(&self.view.snapshot, head.commit, head.groups);
        let kept = grouping.join(&moves)?;
        head.groups = grouping.groups;
        grouping.write(batch);
        Ok(kept)
    }

    fn tell_observers(&mut self, commit: u64) -> bool {
        let observers = &self.core.observers;
        if observers.len() == 0 {
            return false;
        }
        let catalog = Arc::clone(
            &self
                .core
                .catalog
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let documents = self.pending.documents.iter_mut();
        let documents = documents.filter_map(|(key, document)| {
            let (collection, _) = tables::split_document(key).ok()?;
            let images = document.watched.take().map(|watched| Images {
                id: document.id.clone(),
                before: watched.before,
                now: document.body.take().filter(|_| document.is_present),
            });
            Some((catalog.name(collection)?, images))
        });
        let restated = self.pending.small.restated.iter();
        let restated = restated.map(|name| (name, None));
        observers.committed(commit, &catalog, documents.chain(restated))
    }
}

impl Committed {
    /// Waits until the commit is as durable as the store is configured.
    pub(crate) fn acknowledge(self, core: &Arc<Core>) -> Result<(), StoreError> {
        let result = core.acknowledge(self.position);
        if !core.settings.has_threads {
            core.observers.deliver(core);
        }
        result
    }

    /// Hands the commit to the operating system, without waiting until it is on disk.
    pub(crate) fn hand_over(self, core: &Arc<Core>) -> Result<(), StoreError> {
        let result = core.hand_over(self.position);
        if !core.settings.has_threads {
            core.observers.deliver(core);
        }
        result
    }
}

type KeptGroups = BTreeSet<u32>;

fn put_or_delete(batch: &mut Batch, table: idem_kv::Table, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => batch.put(table, key, value),
        None => batch.delete(table, key),
    }
}

//! What replication reads: documents in the order in which they last changed here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use idem_kv::Snapshot;
use idem_model::{CollectionName, DocId, DocumentKey, limits};

use crate::{
    core::Core,
    error::StoreError,
    groups::{self, GroupHead, GroupId},
    head::Head,
    row::Row,
    tables::{self, BY_SEQ},
    work::{View, stored_row},
};

/// Some documents that changed after a commit, see [`Store::changed_since`](crate::Store::changed_since).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeBatch {
    /// Documents that must be applied together, oldest group first. A group is closed: it holds the
    /// current state of every document that shared a transaction with one in it, transitively, unless
    /// the receiver holds that whole transaction. Where more than 4096 documents of different commits or
    /// 64 MiB (`limits::TX_GROUP_BYTES_MAX`) hang together, only documents of one commit are grouped,
    /// and transactions before it are whole again at the end of the feed.
    pub groups: Vec<Vec<Changed>>,
    /// Where to ask next: everything up to and including this commit is in `groups` or before.
    pub up_to: u64,
    /// Whether there is more after `up_to`.
    pub more: bool,
}

/// One document of a [`ChangeBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which document.
    pub key: DocumentKey,
    /// The local commit that last changed it.
    pub commit: u64,
    /// Its encoded `idem_crdt::Document`, tombstones included.
    pub document: Vec<u8>,
}

/// Rows of the order of arrival that are read at a time. Documents are then looked up one by one, so
/// a scan is not held open meanwhile.
const ROWS_PER_SCAN: usize = 1000;

/// Documents of different commits that travel together because transactions join them. Following them
/// costs some microseconds each, so this bounds a call to tens of milliseconds; transactions between
/// random documents soon join them all.
const LINKED_DOCUMENTS_MAX: usize = 4096;

pub(crate) fn changed_since(
    core: &Arc<Core>,
    collection: &CollectionName,
    after: u64,
    held_to: u64,
    bytes_max: usize,
) -> Result<ChangeBatch, StoreError> {
    let view = core.view()?;
    let last = durable_head(core, &view)?.commit;
    let mut batch = ChangeBatch {
        groups: Vec::new(),
        up_to: last,
        more: false,
    };
    let Some(ordinal) = view.catalog.ordinal(collection) else {
        return Ok(batch);
    };
    let mut reading = Reading::new(&view, held_to, None);
    let mut from = tables::by_seq(ordinal, after.saturating_add(1), &[]);
    let mut up_to = after;
    loop {
        let rows = reading.next_rows(ordinal, &from)?;
        let Some((last_key, ..)) = rows.last() else {
            return Ok(batch);
        };
        from.clone_from(last_key);
        from.push(0);
        for (_, commit, document) in rows {
            let is_taken = reading.taken.contains(&document);
            // Only between commits: the next call continues behind a whole one.
            let is_full = !batch.groups.is_empty() && reading.is_full(bytes_max);
            if commit > up_to && !is_taken && is_full {
                batch.up_to = commit - 1;
                batch.more = true;
                return Ok(batch);
            }
            up_to = commit;
            if !is_taken {
                let group = reading.take_group(&document)?;
                // Empty where all of it is in quarantine.
                if !group.is_empty() {
                    batch.groups.push(group);
                }
            }
        }
    }
}

pub(crate) fn changed_documents(
    core: &Arc<Core>,
    keys: &[DocumentKey],
    held_to: u64,
    bytes_max: usize,
) -> Result<(Vec<Vec<Changed>>, usize), StoreError> {
    let view = core.view()?;
    durable_head(core, &view)?;
    let ordinal = |key: &DocumentKey| view.catalog.ordinal(&key.collection);
    let row_key = |key| Some(tables::document(ordinal(key)?, &key.id.to_key()));
    let lacking = Lacking {
        documents: keys.iter().filter_map(row_key).collect(),
        collections: keys.iter().filter_map(ordinal).collect(),
    };
    let mut reading = Reading::new(&view, held_to, Some(lacking));
    let mut groups: Vec<Vec<Changed>> = Vec::new();
    for (consumed, key) in keys.iter().enumerate() {
        if !groups.is_empty() && reading.is_full(bytes_max) {
            return Ok((groups, consumed));
        }
        let Some(row_key) = row_key(key) else {
            continue;
        };
        if !reading.taken.contains(&row_key) {
            let group = reading.take_group(&row_key)?;
            if !group.is_empty() {
                groups.push(group);
            }
        }
    }
    Ok((groups, keys.len()))
}

/// The head as of a view, of which everything is on disk when this returns. Nothing may leave this
/// peer before it is safe: a number that is lost is given again, and would then name two different
/// commits.
pub(crate) fn durable_head(core: &Core, view: &View) -> Result<Head, StoreError> {
    // The commit of the view, not of the store: a later one may be visible by now.
    let head = view_head(view)?;
    core.progress.shown(head.commit);
    if head.commit > core.progress.durable_commit()
        && let Some(position) = core.progress.position_of(head.commit)
    {
        core.sync_to(position)?;
    }
    Ok(head)
}

/// The head as of a view.
pub(crate) fn view_head(view: &View) -> Result<Head, StoreError> {
    let bytes = view
        .snapshot
        .get(tables::SYSTEM, tables::SYSTEM_HEAD)?
        .ok_or_else(|| StoreError::Corrupt {
            what: "the head is missing".to_owned(),
        })?;
    Head::decode(&bytes).map_err(|error| StoreError::corrupt("head", &error))
}

struct Reading<'a> {
    view: &'a View,
    /// The receiver holds everything up to this commit, or if `lacking` is there, of the collections
    /// in that everything but what it lacks.
    held_to: u64,
    lacking: Option<Lacking>,
    /// Documents-table keys of what is in the batch.
    taken: BTreeSet<Vec<u8>>,
    /// Keys of documents that hang together with too many others.
    unbounded: BTreeSet<Vec<u8>>,
    bytes: usize,
    group_bytes_max: usize,
}

/// What a receiver lacks of some collections.
struct Lacking {
    /// Documents-table keys.
    documents: BTreeSet<Vec<u8>>,
    collections: BTreeSet<u32>,
}

type SeqRow = (Vec<u8>, u64, Vec<u8>);

impl<'a> Reading<'a> {
    fn new(view: &'a View, held_to: u64, lacking: Option<Lacking>) -> Self {
        Self {
            view,
            held_to,
            lacking,
            taken: BTreeSet::new(),
            unbounded: BTreeSet::new(),
            bytes: 0,
            group_bytes_max: 0,
        }
    }

    /// Whether the receiver holds a document that last changed with this commit.
    fn is_held(&self, key: &[u8], commit: u64) -> bool {
        let is_lacking = |lacking: &Lacking| {
            let is_among = tables::split_document(key)
                .is_ok_and(|(collection, _)| lacking.collections.contains(&collection));
            !is_among || lacking.documents.contains(key)
        };
        commit <= self.held_to && !self.lacking.as_ref().is_some_and(is_lacking)
    }

    /// Key, commit and documents-table key of the next rows in the order of arrival.
    fn next_rows(&self, collection: u32, from: &[u8]) -> Result<Vec<SeqRow>, StoreError> {
        let to = (collection + 1).to_be_bytes();
        let mut rows = Vec::new();
        let mut failure = None;
        self.view
            .snapshot
            .scan(BY_SEQ, from, Some(&to), false, &mut |key, _| {
                match tables::split_by_seq(key) {
                    Ok((commit, id)) => {
                        rows.push((key.to_vec(), commit, tables::document(collection, id)));
                    }
                    Err(error) => failure = Some(StoreError::corrupt("order of arrival", &error)),
                }
                if failure.is_some() || rows.len() == ROWS_PER_SCAN {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })?;
        failure.map_or(Ok(rows), Err)
    }

    /// A large group may be followed by as much again: what belongs to it and comes later in the order
    /// of arrival would otherwise travel once more in the next batch.
    fn is_full(&self, bytes_max: usize) -> bool {
        let is_large = self.group_bytes_max >= bytes_max;
        let limit = if is_large {
            2 * self.group_bytes_max
        } else {
            bytes_max
        };
        self.bytes >= limit
    }

    /// The document and all that must travel with it, as far as the limits allow.
    fn take_group(&mut self, first: &[u8]) -> Result<Vec<Changed>, StoreError> {
        let mut closure = Closure::default();
        let is_closed = !self.unbounded.contains(first) && closure.follow(self, first)?;
        if !is_closed {
            // Too many documents hang together. Each goes with those of its own commit; the others
            // follow at their own place, and all are right again once the whole feed was read.
            self.unbounded.extend(closure.rows.into_keys());
            closure = self.own_commit_of(first)?;
        }
        let mut group = Vec::with_capacity(closure.rows.len());
        let mut bytes = 0;
        for (key, row) in closure.rows {
            bytes += row.body().len();
            group.push(self.changed(&key, row)?);
            self.taken.insert(key);
        }
        self.bytes += bytes;
        self.group_bytes_max = self.group_bytes_max.max(bytes);
        Ok(group)
    }

    /// The document with those that the same commit put into the same group and none has left since.
    fn own_commit_of(&self, first: &[u8]) -> Result<Closure, StoreError> {
        let mut closure = Closure::default();
        let Some(row) = self.row(first)?.filter(|row| !row.header.is_quarantined) else {
            return Ok(closure);
        };
        if let Some(number) = row.header.group {
            let id = (row.header.commit, number);
            for key in self.members(id, &self.head(id, first)?)? {
                let row = self.row(&key)?;
                if let Some(row) = row
                    && row.header.commit == id.0
                    && !row.header.is_quarantined
                    && !self.taken.contains(&key)
                    && !self.is_held(&key, id.0)
                {
                    closure.rows.insert(key, row);
                }
            }
        }
        closure.rows.insert(first.to_vec(), row);
        Ok(closure)
    }

    fn row(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        stored_row(&self.view.snapshot, key)
    }

    /// The head of a group that some document led to. Of one that is forgotten, those members are known
    /// that nobody has changed since, in the collection of the document.
    fn head(&self, id: GroupId, document: &[u8]) -> Result<GroupHead, StoreError> {
        Ok(match groups::stored_head(&self.view.snapshot, id)? {
            Some(head) => head,
            None => {
                let collection = tables::split_document(document)
                    .map_err(|error| StoreError::corrupt("document key", &error))?
                    .0;
                GroupHead {
                    collections: BTreeSet::from([collection]),
                    ..GroupHead::default()
                }
            }
        })
    }

    fn members(&self, id: GroupId, head: &GroupHead) -> Result<Vec<Vec<u8>>, StoreError> {
        groups::members_of(&self.view.snapshot, id, head)
    }

    /// Whether the receiver holds a member of a group.
    fn holds_member(&self, id: GroupId, head: &GroupHead) -> Result<bool, StoreError> {
        groups::any_member(&self.view.snapshot, id, head, &|member| {
            let row = self.row(member)?;
            Ok(row.is_some_and(|row| self.is_held(member, row.header.commit)))
        })
    }

    fn changed(&self, key: &[u8], row: Row) -> Result<Changed, StoreError> {
        let corrupt = |error| StoreError::corrupt("document key", &error);
        let (collection, id) = tables::split_document(key).map_err(corrupt)?;
        let collection = self
            .view
            .catalog
            .name(collection)
            .ok_or_else(|| StoreError::Corrupt {
                what: format!("collection {collection} has no name"),
            })?;
        Ok(Changed {
            key: DocumentKey {
                collection: collection.clone(),
                id: DocId::from_key(id).map_err(corrupt)?,
            },
            commit: row.header.commit,
            document: row.into_body(),
        })
    }
}

/// Documents that must travel together.
#[derive(Default)]
struct Closure {
    rows: BTreeMap<Vec<u8>, Row>,
    bytes: usize,
    groups: BTreeSet<GroupId>,
}

impl Closure {
    /// Collects what hangs together with `first`; false if that is too much.
    fn follow(&mut self, reading: &Reading<'_>, first: &[u8]) -> Result<bool, StoreError> {
        let mut documents = vec![first.to_vec()];
        while let Some(key) = documents.pop() {
            if reading.taken.contains(&key) || self.rows.contains_key(&key) {
                continue;
            }
            // None if it was evicted since it shared a transaction.
            let Some(row) = reading.row(&key)? else {
                continue;
            };
            if row.header.is_quarantined || reading.is_held(&key, row.header.commit) {
                continue;
            }
            if let Some(number) = row.header.group {
                self.expand(reading, (row.header.commit, number), &key, &mut documents)?;
            }
            self.bytes += row.body().len();
            self.rows.insert(key, row);
            let is_single_commit = self.groups.len() <= 1;
            if self.bytes > limits::TX_GROUP_BYTES_MAX
                || (self.rows.len() > LINKED_DOCUMENTS_MAX && !is_single_commit)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the members of a group and of those that it links to.
    fn expand(
        &mut self,
        reading: &Reading<'_>,
        id: GroupId,
        document: &[u8],
        documents: &mut Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            if !self.groups.insert(id) {
                continue;
            }
            let head = reading.head(id, document)?;
            // A member that has not changed since was sent with all that hung together with it then,
            // and so this group is held, and those before it. But a group of which every member has
            // changed since may not have been sent at all, though its commit lies before `held_to`.
            // Of single documents that are held this does not follow: they may have come another way.
            let is_feed = reading.lacking.is_none();
            if is_feed && id.0 <= reading.held_to && reading.holds_member(id, &head)? {
                continue;
            }
            documents.extend(reading.members(id, &head)?);
            todo.extend(head.links);
        }
        Ok(())
    }
}

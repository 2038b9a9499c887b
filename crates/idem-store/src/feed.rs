//! What replication reads: documents in the order in which they last changed here.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::{CollectionName, DocId, DocumentKey, limits};

use crate::{
    core::Core,
    error::StoreError,
    groups::{self, GroupId},
    row::Row,
    tables::{self, BY_SEQ},
    work::{View, Work, stored_row},
};

/// Some documents that changed after a commit, see [`Store::changed_since`](crate::Store::changed_since).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeBatch {
    /// Documents that must be applied together, oldest group first. A group is closed: it holds the
    /// current state of every document that shared a transaction after `held_to`, transitively, with
    /// one in it, as far as 64 MiB reach (`limits::TX_GROUP_BYTES_MAX`).
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

pub(crate) fn changed_since(
    core: &Arc<Core>,
    collection: &CollectionName,
    after: u64,
    held_to: u64,
    bytes_max: usize,
) -> Result<ChangeBatch, StoreError> {
    let work = Work::read(Arc::clone(core))?;
    // The commit of the view, not of the store: a later one may be visible by now.
    let last = view_commit(&work.view)?;
    // Nothing may leave this peer before it is safe: a number that is lost is given again, and would
    // then name two different commits.
    if last > core.progress.durable_commit()
        && let Some(position) = core.progress.position_of(last)
    {
        core.sync_to(position)?;
    }
    let mut batch = ChangeBatch {
        groups: Vec::new(),
        up_to: last,
        more: false,
    };
    let Some(ordinal) = work.catalog().ordinal(collection) else {
        return Ok(batch);
    };
    let mut reading = Reading {
        view: &work.view,
        held_to,
        taken: BTreeSet::new(),
        bytes: 0,
        group_bytes_max: 0,
    };
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
                batch.groups.push(reading.group_of(document)?);
            }
        }
    }
}

fn view_commit(view: &View) -> Result<u64, StoreError> {
    let bytes = view
        .snapshot
        .get(tables::SYSTEM, tables::SYSTEM_HEAD)?
        .ok_or_else(|| StoreError::Corrupt {
            what: "the head is missing".to_owned(),
        })?;
    crate::head::Head::decode(&bytes)
        .map(|head| head.commit)
        .map_err(|error| StoreError::corrupt("head", &error))
}

struct Reading<'a> {
    view: &'a View,
    /// The receiver holds everything up to this commit.
    held_to: u64,
    /// Documents-table keys of what is in the batch.
    taken: BTreeSet<Vec<u8>>,
    bytes: usize,
    group_bytes_max: usize,
}

type SeqRow = (Vec<u8>, u64, Vec<u8>);

impl Reading<'_> {
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
    /// of arrival would otherwise bring the whole group along once more in the next batch.
    fn is_full(&self, bytes_max: usize) -> bool {
        let is_large = self.group_bytes_max >= bytes_max;
        let limit = if is_large {
            2 * self.group_bytes_max
        } else {
            bytes_max
        };
        self.bytes >= limit
    }

    /// The document and all that must travel with it.
    fn group_of(&mut self, first: Vec<u8>) -> Result<Vec<Changed>, StoreError> {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut groups_seen = BTreeSet::new();
        let mut documents = vec![first];
        while let Some(key) = documents.pop() {
            if self.taken.contains(&key) {
                continue;
            }
            let Some(row) = stored_row(&self.view.snapshot, &key)? else {
                // Evicted since it shared the transaction.
                continue;
            };
            if bytes > limits::TX_GROUP_BYTES_MAX {
                tracing::warn!(
                    bytes,
                    "documents that shared transactions are too many to travel together"
                );
                break;
            }
            if let Some(number) = row.header.group {
                self.expand(
                    (row.header.commit, number),
                    &mut groups_seen,
                    &mut documents,
                )?;
            }
            bytes += row.body().len();
            group.push(self.changed(&key, row)?);
            self.taken.insert(key);
        }
        self.bytes += bytes;
        self.group_bytes_max = self.group_bytes_max.max(bytes);
        Ok(group)
    }

    /// Adds the members of a group and of those that it links to.
    fn expand(
        &self,
        id: GroupId,
        seen: &mut BTreeSet<GroupId>,
        documents: &mut Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            // What the receiver has of earlier commits is whole.
            if id.0 <= self.held_to || !seen.insert(id) {
                continue;
            }
            let snapshot = &self.view.snapshot;
            let Some(head) = groups::stored_head(snapshot, id)? else {
                return Err(StoreError::Corrupt {
                    what: format!("group {}.{} is referred to but not there", id.0, id.1),
                });
            };
            documents.extend(groups::members(snapshot, id, &head)?);
            todo.extend(head.links);
        }
        Ok(())
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

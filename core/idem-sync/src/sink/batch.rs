//! What a batch holds.

use std::collections::BTreeSet;

use idem_crdt::{Delta, Document, encoded_version, visible_fields_declared};
use idem_model::{DocumentKey, VersionVector};
use idem_wire::{AnnouncedItem, BatchDocument, BatchItem, BatchReader};

use super::Taking;
use crate::{
    failure::Failure,
    gathering::item_of,
    known::KeyHash,
    projection::is_projection,
    replica::{Incoming, IncomingState, Replica},
};

/// A batch, read.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) incoming: Vec<Incoming>,
    /// The place of each of these among all documents of the batch.
    pub(super) places: Vec<u32>,
    pub(super) versions: Vec<(KeyHash, VersionVector)>,
    /// Documents that left the subscriptions of this side, with their versions at the remote.
    pub(super) left: Vec<(DocumentKey, VersionVector)>,
    /// Documents that nobody here asks for any more.
    pub(super) unwanted: Vec<DocumentKey>,
    /// The items of what is to be merged, if there are others who may announce it.
    pub(super) items: Vec<AnnouncedItem>,
    /// Whether the oldest PULL is answered, and if so, whether something of it is lacking.
    pub(super) answered: Option<bool>,
    pub(super) announced: Vec<AnnouncedItem>,
    pub(super) cursors: Vec<(u32, u64, bool)>,
    pub(super) bytes: u64,
}

/// Those of the documents that left which are to be evicted.
pub(super) fn leaving<R: Replica>(
    left: &[(DocumentKey, VersionVector)],
    taking: &Taking<'_, R>,
) -> Result<Vec<(DocumentKey, VersionVector)>, Failure> {
    let mut leaving = Vec::new();
    for (key, version) in left {
        if !taking.wanted.evicts(&key.collection) {
            continue;
        }
        let store = |error| Failure::store(&error);
        let Some(held) = taking.replica.document(key).map_err(store)? else {
            continue;
        };
        let kinds = taking.replica.declared(&key.collection).map_err(store)?;
        let fields = visible_fields_declared(&held, &kinds);
        let Some(mut fields) = fields.map_err(|error| Failure::stored_bytes(&error))? else {
            continue;
        };
        fields.insert("_id".to_owned(), key.id.as_value().clone());
        if taking.wanted.evicts_what_was(&key.collection, &fields) {
            leaving.push((key.clone(), version.clone()));
        }
    }
    Ok(leaving)
}

/// The groups with documents that may have been deleted, as their sender could not know when the link
/// came up: nothing is known of them here, and it was learned since what is gone elsewhere. They wait for
/// the next link, on which the sender asks first.
pub(super) fn suspects<R: Replica>(
    body: &[u8],
    taking: &mut Taking<'_, R>,
) -> Result<BTreeSet<u32>, Failure> {
    let mut suspects = BTreeSet::new();
    // A relay never asks on behalf of those whose documents it brings.
    let is_trusted = !taking.wanted.ends.is_remote_relay;
    if is_trusted && taking.replica.learned_floor() <= taking.floor_told {
        return Ok(suspects);
    }
    let batch = read_batch(body, &BTreeSet::new(), taking)?;
    for incoming in &batch.incoming {
        // A delta onto nothing is asked for again.
        let IncomingState::Whole(bytes) = &incoming.state else {
            continue;
        };
        let held = taking.replica.document(&incoming.key);
        if held.map_err(|error| Failure::store(&error))?.is_some() {
            continue;
        }
        let gone = taking.replica.gone(&incoming.key.collection);
        let gone = gone.map_err(|error| Failure::store(&error))?;
        if gone.is_some_and(|gone| may_be_deleted(bytes, &gone.deleted)) {
            suspects.insert(incoming.group);
        }
    }
    Ok(suspects)
}

/// Whether tombstones that went, which `deleted` covers, may have been of all that is left in a document.
fn may_be_deleted(bytes: &[u8], deleted: &VersionVector) -> bool {
    // The store refuses what is no document.
    let Ok(document) = Document::decode(bytes) else {
        return false;
    };
    match document.is_present() {
        true => document.traces().iter().all(|dot| deleted.covers(*dot)),
        false => deleted.covers_all(document.version()),
    }
}

/// Reads a batch, without the groups in `left_out`, without what nobody here asked for, and without
/// what left and is not here.
pub(super) fn read_batch<R: Replica>(
    body: &[u8],
    left_out: &BTreeSet<u32>,
    taking: &mut Taking<'_, R>,
) -> Result<Batch, Failure> {
    let mut batch = Batch::default();
    let gathering = taking.replica.gathering();
    let is_shared = gathering.is_some_and(|it| it.is_shared());
    let mut reader = BatchReader::new(body);
    let mut group = 0;
    let mut place = 0..;
    while let Some(item) = reader.next_item()? {
        match item {
            BatchItem::Document(document) => {
                let place = place.next().expect("a batch has fewer documents");
                let number = group;
                group += u32::from(document.ends_group);
                // Documents may still come for a subscription that just ended.
                if left_out.contains(&number) {
                    continue;
                }
                let name = &document.key.collection;
                if !taking.wanted.has(name) || taking.closed.contains(name) {
                    batch.unwanted.push(document.key);
                    continue;
                }
                let version = version_of(&document)?;
                let state = document.state.to_vec();
                let state = match document.delta {
                    true => IncomingState::Delta(state),
                    false => IncomingState::Whole(state),
                };
                batch.bytes += document.state.len() as u64;
                let hash = KeyHash::of(&document.key);
                // That the remote sent a part of a document says nothing of the parts that it holds itself.
                let is_whole = !is_projection(&document.key.collection);
                if is_whole {
                    batch.versions.push((hash, version.clone()));
                }
                let item = (is_shared && is_whole).then(|| item_of(hash, &version));
                if document.has_left {
                    let held = taking.replica.document(&document.key);
                    if held.map_err(|error| Failure::store(&error))?.is_none() {
                        continue;
                    }
                    batch.left.push((document.key.clone(), version));
                }
                batch.items.extend(item);
                batch.places.push(place);
                batch.incoming.push(Incoming {
                    key: document.key,
                    group: number,
                    state,
                });
            }
            BatchItem::Answered { is_lacking } => batch.answered = Some(is_lacking),
            BatchItem::Announced(items) => batch.announced = items.to_vec(),
            BatchItem::Cursor {
                alias,
                commit,
                caught_up,
            } => batch.cursors.push((alias, commit, caught_up)),
        }
    }
    Ok(batch)
}

/// The documents at some places of a batch, with their versions.
///
/// Their keys went to the store, so the batch is read again, which is rare but where peers come
/// together that hold the same.
pub(super) fn documents_at(
    body: &[u8],
    places: &BTreeSet<u32>,
) -> Result<Vec<(DocumentKey, VersionVector)>, Failure> {
    let mut documents = Vec::with_capacity(places.len());
    let mut reader = BatchReader::new(body);
    let mut place = 0;
    while documents.len() < places.len()
        && let Some(item) = reader.next_item()?
    {
        let BatchItem::Document(document) = item else {
            continue;
        };
        if places.contains(&place) && !is_projection(&document.key.collection) {
            let version = version_of(&document)?;
            documents.push((document.key, version));
        }
        place += 1;
    }
    Ok(documents)
}

/// The version that a document of a batch brings.
fn version_of(document: &BatchDocument<'_>) -> Result<VersionVector, Failure> {
    Ok(match document.delta {
        true => Delta::decode(document.state)?.version().clone(),
        false => encoded_version(document.state)?,
    })
}

//! Which entries a document has in an index.

use std::ops::ControlFlow;

use idem_model::{Object, codec::put_varint, limits};

use crate::{
    catalog::Index,
    error::StoreError,
    pending::PendingDocument,
    source::UNINDEXED,
    tables::{self, DOCUMENTS},
    work::{Entry, Shown, Span, Work, merge_scan},
};

/// Bytes of the fields in an index entry. With the longest id it stays well under the key limit of
/// the engine, and a page of the B-tree still holds several.
const INDEX_FIELDS_BYTES_MAX: usize = 2048;

/// Keys of the entries of a document in an index, rising. `id` is its id key, and `fields` are the
/// visible ones with `_id`.
pub(crate) fn keys_of(index: &Index, id: &[u8], fields: &Object) -> Vec<Vec<u8>> {
    let prefix = tables::index_prefix(index.id);
    let mut is_whole = true;
    let mut keys = index.info.keys_of(fields);
    if keys.len() > limits::INDEX_ENTRIES_PER_DOCUMENT_MAX {
        keys.clear();
        is_whole = false;
    }
    keys.retain(|key| {
        let fits = key.len() <= INDEX_FIELDS_BYTES_MAX;
        is_whole &= fits;
        fits
    });
    let mut keys: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| [&prefix[..], key, id].concat())
        .collect();
    if !is_whole {
        keys.push([&prefix[..], &[UNINDEXED], id].concat());
    }
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The value of every index entry of the document with this id key.
pub(crate) fn value_of(id: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(2);
    put_varint(&mut value, id.len() as u64);
    value
}

/// The documents of a collection behind one id key, up to and including another if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) collection: u32,
    pub(crate) after: &'a [u8],
    pub(crate) end: Option<&'a [u8]>,
}

/// How much to read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) documents: usize,
    /// Bytes of rows and entries. The first row is read whatever its size.
    pub(crate) bytes: usize,
}

/// Entries of the first documents of a [`Stretch`].
#[derive(Debug, Default)]
pub(crate) struct Portion {
    /// Keys and values.
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Id key of the last row that was read; empty if there was none.
    pub(crate) after: Vec<u8>,
    /// Documents among the rows.
    pub(crate) documents: u64,
    /// Whether nothing comes behind.
    pub(crate) is_end: bool,
}

/// Reads what fits into `room`, and makes its entries. What it takes is bounded by `room` and the
/// entries of one document.
pub(crate) fn read(
    work: &Work,
    index: &Index,
    stretch: Stretch<'_>,
    room: Room,
) -> Result<Portion, StoreError> {
    // No key lies between one and the same with a zero behind it.
    let from = match stretch.after {
        [] => tables::document(stretch.collection, &[]),
        after => [&tables::document(stretch.collection, after)[..], &[0]].concat(),
    };
    let to = match stretch.end {
        Some(end) => [&tables::document(stretch.collection, end)[..], &[0]].concat(),
        None => (stretch.collection + 1).to_be_bytes().to_vec(),
    };
    let span = Span {
        table: DOCUMENTS,
        from: &from,
        to: Some(&to),
        reverse: false,
    };
    let mut portion = Portion {
        is_end: true,
        ..Portion::default()
    };
    if from >= to {
        return Ok(portion);
    }
    let pending = work
        .pending
        .documents
        .range(from.clone()..to.clone())
        .map(|(key, document)| (key.as_slice(), document));
    let fields = index.info.looks_at();
    let kinds = work.catalog().kinds(stretch.collection);
    let shown = Shown {
        fields: &fields,
        kinds,
    };
    let (mut rows, mut bytes) = (0, 0);
    merge_scan(&work.view.snapshot, span, pending, &mut |key, found| {
        if rows >= room.documents || bytes >= room.bytes {
            portion.is_end = false;
            return Ok(ControlFlow::Break(()));
        }
        let (_, id) = tables::split_document(key)
            .map_err(|error| StoreError::corrupt("document key", &error))?;
        rows += 1;
        portion.after = id.to_vec();
        bytes += match &found {
            Entry::Stored(row) => row.len(),
            Entry::Pending(document) => document.body.as_ref().map_or(0, Vec::len),
        };
        if let Some(fields) = fields_in(shown, key, found)? {
            portion.documents += 1;
            for key in keys_of(index, id, &fields) {
                bytes += key.len();
                portion.entries.push((key, value_of(id)));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(portion)
}

fn fields_in(
    shown: Shown<'_>,
    key: &[u8],
    found: Entry<'_, &PendingDocument>,
) -> Result<Option<Object>, StoreError> {
    match found {
        Entry::Stored(row) => shown.row(key, row),
        Entry::Pending(document) => match &document.body {
            Some(body) if document.is_present => shown.body(&document.id, body),
            _ => Ok(None),
        },
    }
}

/// Id key of the last document of a collection, tombstones included; empty if there is none.
pub(crate) fn last_id(work: &Work, collection: u32) -> Result<Vec<u8>, StoreError> {
    let (from, to) = (collection.to_be_bytes(), (collection + 1).to_be_bytes());
    let span = Span {
        table: DOCUMENTS,
        from: &from,
        to: Some(&to),
        reverse: true,
    };
    let pending = work
        .pending
        .documents
        .range(from.to_vec()..to.to_vec())
        .map(|(key, _)| (key.as_slice(), ()));
    let mut last = Vec::new();
    merge_scan(&work.view.snapshot, span, pending.rev(), &mut |key,
                                                               _: Entry<
        '_,
        (),
    >| {
        last = key[4..].to_vec();
        Ok(ControlFlow::Break(()))
    })?;
    Ok(last)
}

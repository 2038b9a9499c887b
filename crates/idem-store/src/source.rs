//! A transaction as the query layer reads it.

use std::{collections::BTreeMap, mem, ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot as _;
use idem_model::{
    CollectionName, DecodeError, DocId, DocumentKey, FieldPath, Object, Value, codec,
};
use idem_query::{Fields, IndexInfo, IndexStatistics, KeySpan, Source, Tested};

use crate::{
    catalog::Catalog,
    declared::Kinds,
    error::StoreError,
    facts::Facts,
    pending::IndexEntries,
    system,
    tables::{self, DOCUMENTS, INDEX},
    work::{Entry, Shown, Sieve, Span, Work, merge_scan},
};

/// First byte of an entry, behind the index number, for a document whose fields do not fit a key.
/// No encoded field starts with it, ascending or descending.
pub(crate) const UNINDEXED: u8 = 0xff;

impl Source for Work {
    type Error = StoreError;

    fn get(
        &self,
        collection: &CollectionName,
        id: &DocId,
        fields: &Fields,
    ) -> Result<Option<Object>, StoreError> {
        let Some(ordinal) = self.catalog().ordinal(collection) else {
            return Ok(None);
        };
        let kinds = self.kinds_under(ordinal, fields);
        let shown = Shown {
            fields,
            kinds: &kinds,
        };
        let key = tables::document(ordinal, &id.to_key());
        let mut row = Object::new();
        Ok(self.row_at(&key, shown, &mut row)?.then_some(row))
    }

    fn scan(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.scan_in_place(collection, fields, &mut |row| visit(mem::take(row)))
    }

    fn scan_in_place(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        match self.catalog().ordinal(collection) {
            Some(ordinal) => self.scan_documents(ordinal, fields, None, visit),
            None => Ok(()),
        }
    }

    fn scan_passing(
        &self,
        collection: &CollectionName,
        tested: Tested<'_>,
        fields: &Fields,
        passes: &mut dyn FnMut(Option<&Object>) -> ControlFlow<(), bool>,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        match self.catalog().ordinal(collection) {
            Some(ordinal) => {
                let sieve = Some(Sieve::new(tested, passes));
                self.scan_documents(ordinal, fields, sieve, visit)
            }
            None => Ok(()),
        }
    }

    fn scan_index(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.each_entry(index, span, reverse, &mut |fields, id| {
            Ok(visit(fields, DocId::from_key(id).map_err(corrupt_entry)?))
        })
    }

    fn scan_index_rows(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        fields: &Fields,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Some(ordinal) = self.catalog().ordinal(index.collection()) else {
            return Ok(());
        };
        let kinds = self.kinds_under(ordinal, fields);
        let shown = Shown {
            fields,
            kinds: &kinds,
        };
        // One key and one row for all: the next is read into the memory of the one before.
        let mut key = tables::document(ordinal, &[]);
        let prefix_len = key.len();
        let mut row = Object::new();
        self.each_entry(index, span, false, &mut |_, id| {
            key.truncate(prefix_len);
            key.extend_from_slice(id);
            Ok(match self.row_at(&key, shown, &mut row)? {
                true => visit(&mut row),
                false => ControlFlow::Continue(()),
            })
        })
    }

    fn count(&self, collection: &CollectionName) -> Result<u64, StoreError> {
        match self.catalog().ordinal(collection) {
            Some(ordinal) => self.known_documents(ordinal),
            None => Ok(0),
        }
    }

    fn indexes(&self, collection: &CollectionName) -> Result<Vec<IndexInfo>, StoreError> {
        let catalog = self.catalog();
        let Some(ordinal) = catalog.ordinal(collection) else {
            return Ok(Vec::new());
        };
        let is_as_stored =
            self.pending.index_entries.is_empty() && self.pending.small.catalog.is_none();
        match is_as_stored {
            true => Ok(self.facts(ordinal)?.complete.clone()),
            false => self.complete(catalog, ordinal, &self.pending.index_entries),
        }
    }

    fn declared(&self, collection: &CollectionName) -> Result<Kinds, StoreError> {
        Ok(self.catalog().kinds_of(collection))
    }

    fn conflicts(
        &self,
        collection: &CollectionName,
        id: &DocId,
        path: &FieldPath,
    ) -> Result<Option<Vec<Value>>, StoreError> {
        let key = DocumentKey {
            collection: collection.clone(),
            id: id.clone(),
        };
        let Some(document) = self.state(&key)? else {
            return Ok(None);
        };
        let kinds = self.catalog().kinds_of(collection);
        let shown = document.fields_declared(&kinds);
        let is_id = path.segments() == ["_id"];
        Ok(match shown {
            Some(_) if is_id => Some(Vec::new()),
            Some(fields) if path.find(&fields).is_some() => {
                let values = document.conflicts_declared(path, &kinds);
                Some(if values.len() > 1 { values } else { Vec::new() })
            }
            _ => None,
        })
    }

    fn version(
        &self,
        collection: &CollectionName,
        id: &DocId,
    ) -> Result<Option<Object>, StoreError> {
        let key = DocumentKey {
            collection: collection.clone(),
            id: id.clone(),
        };
        let is_present = self.get(collection, id, &Fields::Named(Box::default()))?;
        if is_present.is_none() {
            return Ok(None);
        }
        let version = Self::version(self, &key)?;
        let count = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
        let entries = version.iter();
        Ok(Some(
            entries
                .map(|dot| (dot.actor.to_string(), count(dot.n)))
                .collect(),
        ))
    }

    fn statistics(&self, index: &IndexInfo) -> Result<IndexStatistics, StoreError> {
        let catalog = self.catalog();
        let Some(ordinal) = catalog.ordinal(index.collection()) else {
            return Ok(IndexStatistics::default());
        };
        let Some(known) = catalog.index_named(ordinal, index.name()) else {
            return Ok(IndexStatistics::default());
        };
        Ok(IndexStatistics {
            entries: known.entries(self.known_documents(ordinal)?),
            distinct: known.tally.distinct.clone(),
        })
    }

    fn system(&self, name: &str) -> Result<Option<Vec<Object>>, StoreError> {
        system::rows(self, name)
    }

    fn system_names(&self) -> &'static [&'static str] {
        &system::NAMES
    }

    fn forget(&self, name: &str, row: &Object) -> Result<bool, StoreError> {
        Ok(system::forget(self, name, row))
    }
}

/// What a scan of an index calls with the key of the fields and that of the document.
type VisitKeys<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a;

fn corrupt_entry(error: DecodeError) -> StoreError {
    StoreError::corrupt("index entry", &error)
}

impl Work {
    /// Visits the entries of an index inside a span until `visit` breaks or fails.
    fn each_entry(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        visit: &mut VisitKeys<'_>,
    ) -> Result<(), StoreError> {
        let catalog = self.catalog();
        let known = catalog
            .ordinal(index.collection())
            .and_then(|ordinal| catalog.index_named(ordinal, index.name()));
        // The executor asked for the indexes of this very view.
        let known = known.expect("an index that the catalog gave is in the catalog");
        let prefix = tables::index_prefix(known.id);
        let from = [&prefix[..], &span.from].concat();
        let to = match &span.to {
            Some(to) => [&prefix[..], to].concat(),
            None => [&prefix[..], &[UNINDEXED]].concat(),
        };
        if from >= to {
            return Ok(());
        }
        let changed = self
            .pending
            .index_entries
            .range(from.clone()..to.clone())
            .map(|(key, value)| (key.as_slice(), value.as_deref()));
        let span = Span {
            table: INDEX,
            from: &from,
            to: Some(&to),
            reverse,
        };
        let mut visit_entry = |key: &[u8], entry: Entry<'_, Option<&[u8]>>| {
            let value = match entry {
                Entry::Stored(value) | Entry::Pending(Some(value)) => value,
                Entry::Pending(None) => return Ok(ControlFlow::Continue(())),
            };
            let (fields, id) = split_entry(key, value).map_err(corrupt_entry)?;
            visit(fields, id)
        };
        if reverse {
            merge_scan(&self.view.snapshot, span, changed.rev(), &mut visit_entry)
        } else {
            merge_scan(&self.view.snapshot, span, changed, &mut visit_entry)
        }
    }

    /// Reads what is shown of the document under a key of the documents table into a row; whether it
    /// is there.
    fn row_at(&self, key: &[u8], shown: Shown<'_>, row: &mut Object) -> Result<bool, StoreError> {
        if !self.pending.documents.is_empty()
            && let Some(document) = self.pending.documents.get(key)
        {
            let found = match &document.body {
                Some(body) if document.is_present => shown.body(&document.id, body)?,
                _ => None,
            };
            return Ok(match found {
                Some(found) => {
                    *row = found;
                    true
                }
                None => false,
            });
        }
        let mut is_there = Ok(false);
        self.view.snapshot.read(DOCUMENTS, key, &mut |stored| {
            is_there = shown.row_into(key, stored, row);
        })?;
        is_there
    }

    /// What is stored of a collection, without the changes of this transaction.
    pub(crate) fn facts(&self, collection: u32) -> Result<Arc<Facts>, StoreError> {
        let position = self.view.snapshot.position();
        self.core.facts.at(position, collection, || {
            Ok(Facts {
                documents: self.stored_count(collection)?,
                complete: self.complete(&self.view.catalog, collection, &BTreeMap::new())?,
            })
        })
    }

    /// [`Work::documents_in`] for statements, which ask again and again.
    fn known_documents(&self, collection: u32) -> Result<u64, StoreError> {
        let stored = self.facts(collection)?.documents;
        Ok(self.documents_with(collection, stored))
    }

    /// The indexes of a collection that can answer for all of its documents, with `changed` on top of
    /// what is stored.
    fn complete(
        &self,
        catalog: &Catalog,
        collection: u32,
        changed: &IndexEntries,
    ) -> Result<Vec<IndexInfo>, StoreError> {
        let mut complete = Vec::new();
        for index in catalog.indexes(collection) {
            if index.build.is_none() && self.is_whole_with(index.id, changed)? {
                complete.push(index.info.clone());
            }
        }
        Ok(complete)
    }

    /// Whether the index holds every document that it should. One whose field is too large for a
    /// key is only noted in it, and while there is such a one the index cannot answer for all.
    pub(crate) fn is_whole(&self, index: u32) -> Result<bool, StoreError> {
        self.is_whole_with(index, &self.pending.index_entries)
    }

    fn is_whole_with(&self, index: u32, changed: &IndexEntries) -> Result<bool, StoreError> {
        let prefix = tables::index_prefix(index);
        let from = [&prefix[..], &[UNINDEXED]].concat();
        let to = (index + 1).to_be_bytes();
        let changed = changed
            .range(from.clone()..to.to_vec())
            .map(|(key, value)| (key.as_slice(), value.is_some()));
        let mut is_whole = true;
        let span = Span {
            table: INDEX,
            from: &from,
            to: Some(&to),
            reverse: false,
        };
        merge_scan(&self.view.snapshot, span, changed, &mut |_, entry| {
            if matches!(entry, Entry::Pending(false)) {
                return Ok(ControlFlow::Continue(()));
            }
            is_whole = false;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(is_whole)
    }
}

/// Splits an index entry into the key of the fields and that of the document.
pub(crate) fn split_entry<'a>(
    key: &'a [u8],
    value: &[u8],
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    let mut reader = codec::Reader::new(value);
    let id_len = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    reader.finish()?;
    let entry = key.get(4..).unwrap_or_default();
    let fields_len = entry
        .len()
        .checked_sub(id_len)
        .ok_or(DecodeError::Truncated {
            at: key.len(),
            needed: id_len,
        })?;
    Ok(entry.split_at(fields_len))
}

//! A transaction as the query layer changes it: one operation on one document at a time.

use idem_crdt::{Applied, ApplyError, Document, apply_encoded};
use idem_model::{
    CollectionName, DocId, DocumentKey, DocumentOp, Dot, FieldKind, FieldOp, FieldPath, Object,
    Stamp, Value, limits,
};
use idem_query::{ErrorKind, Fields, IndexSpec, Outcome, QueryError, Target, Warning};

use crate::{
    calls,
    catalog::Catalog,
    entries,
    error::StoreError,
    pending::{Awaited, Found, PendingDocument, Watched},
    row::{Header, Row},
    tables,
    work::{Shown, Work},
};
use std::sync::Arc;

/// The new state of a document, on its way into [`Work::put`].
pub(crate) struct Change {
    pub(crate) collection: u32,
    pub(crate) id: DocId,
    /// The encoded state; `None` evicts.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) is_present: bool,
    pub(crate) is_oversized: bool,
    pub(crate) is_quarantined: bool,
    pub(crate) group: u32,
    /// Whether it is known that no index looks at what is different.
    pub(crate) keeps_keys: bool,
}

impl Change {
    /// That nothing of a document is kept here.
    pub(crate) fn gone(collection: u32, id: DocId) -> Self {
        Self {
            collection,
            id,
            body: None,
            is_present: false,
            is_oversized: false,
            is_quarantined: false,
            group: 1,
            keeps_keys: false,
        }
    }
}

/// What was known of a document before a change.
pub(crate) struct Prior {
    pub(crate) stored: Option<Header>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) is_present: bool,
    pub(crate) is_quarantined: bool,
    /// Kept from an earlier change in this transaction.
    watched: Option<Watched>,
    is_pending: bool,
}

impl Target for Work {
    fn apply(
        &mut self,
        collection: &CollectionName,
        id: &DocId,
        op: DocumentOp,
    ) -> Result<Outcome, StoreError> {
        if collection.is_system() {
            return Err(StoreError::ReservedCollection {
                name: collection.clone(),
            });
        }
        if !matches!(op, DocumentOp::Evict) {
            self.check_writable(collection)?;
        }
        self.apply_to(collection, id, op)
    }

    fn will_change(&self) {
        self.kept.want();
    }

    fn generate_id(&mut self) -> DocId {
        let random = self
            .core
            .entropy
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .bytes();
        DocId::generate(self.now_ms, random)
    }

    fn create_index(&mut self, spec: IndexSpec) -> Result<bool, StoreError> {
        self.writing()?;
        let collection = match self.catalog().ordinal(&spec.collection) {
            Some(ordinal) => ordinal,
            None => self.intern(&spec.collection.clone()),
        };
        if let Some(index) = self.catalog().index_named(collection, &spec.name) {
            if index.build.is_some() {
                let awaited = Awaited {
                    index: index.id,
                    info: index.info.clone(),
                };
                self.pending.small.awaited = Some(awaited);
            }
            return Ok(false);
        }
        self.add_index(collection, spec)?;
        Ok(true)
    }

    fn drop_index(&mut self, collection: &CollectionName, name: &str) -> Result<bool, StoreError> {
        self.writing()?;
        match self.catalog().ordinal(collection) {
            Some(ordinal) => self.remove_index(ordinal, name),
            None => Ok(false),
        }
    }

    fn declare(
        &mut self,
        collection: &CollectionName,
        kinds: &[(FieldPath, FieldKind)],
    ) -> Result<(), StoreError> {
        self.declare_kinds(collection, kinds)
    }

    fn call(&mut self, name: &str, args: &[Value]) -> Result<Option<Vec<Object>>, StoreError> {
        calls::call(self, name, args)
    }

    fn functions(&self) -> &'static [&'static str] {
        &calls::NAMES
    }

    fn set_parameter(&mut self, name: &str, value: Option<Value>) -> Result<(), StoreError> {
        self.writing()?;
        // It becomes a key, and keys have a limit.
        if name.len() > limits::COLLECTION_NAME_BYTES_MAX {
            let limit = limits::COLLECTION_NAME_BYTES_MAX;
            let message = format!("the name of a parameter has at most {limit} bytes");
            return Err(QueryError::new(ErrorKind::Execution, message).into());
        }
        let row = value.as_ref().map(Value::to_bytes);
        self.pending
            .small
            .system
            .insert(tables::parameter(name), row);
        self.change_catalog(|catalog| catalog.set_parameter(name, value));
        Ok(())
    }
}

impl Work {
    /// [`Target::apply`], also for the collections of the system.
    pub(crate) fn apply_to(
        &mut self,
        collection: &CollectionName,
        id: &DocId,
        op: DocumentOp,
    ) -> Result<Outcome, StoreError> {
        let stamp = self.stamp()?;
        let is_insert = matches!(
            op,
            DocumentOp::Insert { .. } | DocumentOp::InsertInitial { .. }
        );
        let ordinal = match self.catalog().ordinal(collection) {
            Some(ordinal) => ordinal,
            None if is_insert => self.intern(collection),
            None => return Ok(Outcome::Unchanged),
        };
        let key = tables::document_of(ordinal, id);
        let prior = self.prior(&key)?;
        if matches!(op, DocumentOp::Evict) {
            return self.evict(key, ordinal, id, prior, true);
        }
        let stamp = if is_insert && prior.body.is_none() {
            self.return_from_eviction(&key)?;
            self.stamp()?
        } else {
            stamp
        };
        let kinds = self.catalog().kinds_of(collection);
        let (body, document) = match apply_encoded(prior.body.as_deref(), &op, stamp, &kinds) {
            Some(body) => (body, None),
            None => {
                let mut document = decode(prior.body.as_deref())?;
                match document.apply_declared(&op, stamp, &kinds) {
                    Ok(Applied::Changed) => {}
                    Ok(Applied::Unchanged) => return Ok(Outcome::Unchanged),
                    Err(ApplyError::AlreadyExists) => return Ok(Outcome::AlreadyExists),
                    Err(source) => {
                        let key = Box::new(DocumentKey {
                            collection: collection.clone(),
                            id: id.clone(),
                        });
                        return Err(StoreError::Operation { key, source });
                    }
                }
                (document.to_bytes(), Some(document))
            }
        };
        self.check_size(collection, id, prior.body.as_deref(), &body)?;
        self.pending.small.is_stamped = true;
        let change = Change {
            collection: ordinal,
            id: id.clone(),
            // What is edited without decoding it is there afterwards.
            is_present: document.as_ref().is_none_or(Document::is_present),
            // A local write either fits or shrinks what a merge had made too large.
            is_oversized: body.len() > self.core.settings.document_bytes_max,
            // It is new work.
            is_quarantined: false,
            body: Some(body),
            group: 1,
            keeps_keys: self.keeps_keys(ordinal, &op),
        };
        self.put(key, change, prior)?;
        Ok(Outcome::Changed)
    }

    /// Whether an operation writes none of the fields that the indexes of a collection look at. What is
    /// seen of a field depends on the writes of that field alone.
    fn keeps_keys(&self, collection: u32, op: &DocumentOp) -> bool {
        let (DocumentOp::Update(ops), Fields::Named(indexed)) =
            (op, self.catalog().indexed(collection))
        else {
            return false;
        };
        ops.iter().all(|op| match op {
            FieldOp::Set { path, .. }
            | FieldOp::Unset { path }
            | FieldOp::Increment { path, .. }
            | FieldOp::Restart { path, .. } => {
                (path.segments().first()).is_some_and(|name| indexed.binary_search(name).is_err())
            }
            _ => false,
        })
    }

    /// The stamp of this transaction. It is used up only if the commit carries it.
    fn stamp(&mut self) -> Result<Stamp, StoreError> {
        let now_ms = self.now_ms;
        let writing = self.writing()?;
        if let Some(stamp) = writing.stamp {
            return Ok(stamp);
        }
        let dot = Dot {
            actor: writing.head.actor,
            n: writing.head.n + 1,
        };
        let time = writing.clock.tick(now_ms)?;
        Ok(*writing.stamp.insert(Stamp { dot, time }))
    }

    /// The ordinal of a collection that is not there yet.
    pub(crate) fn intern(&mut self, name: &CollectionName) -> u32 {
        let ordinal = self.catalog().next_collection();
        self.pending.small.system.insert(
            tables::collection(ordinal),
            Some(name.as_str().as_bytes().to_vec()),
        );
        self.change_catalog(|catalog| catalog.insert_collection(name.clone(), ordinal));
        ordinal
    }

    pub(crate) fn change_catalog<R>(&mut self, change: impl FnOnce(&mut Catalog) -> R) -> R {
        let mut catalog = self.catalog().clone();
        let result = change(&mut catalog);
        self.pending.small.catalog = Some(Arc::new(catalog));
        result
    }

    pub(crate) fn prior(&self, key: &[u8]) -> Result<Prior, StoreError> {
        Ok(match self.find(key)? {
            Found::Nothing => Prior {
                stored: None,
                body: None,
                is_present: false,
                is_quarantined: false,
                watched: None,
                is_pending: false,
            },
            Found::Stored(row) => Prior {
                stored: Some(row.header),
                is_present: !row.is_tombstone(),
                is_quarantined: row.header.is_quarantined,
                body: Some(row.into_body()),
                watched: None,
                is_pending: false,
            },
            Found::Pending(document) => Prior {
                stored: document.before,
                body: document.body.clone(),
                is_present: document.is_present,
                is_quarantined: document.is_quarantined,
                watched: document.watched.clone(),
                is_pending: true,
            },
        })
    }

    /// Removes a document here and only here. With `is_marked` it goes on counting as held in the
    /// subscriptions that select it.
    pub(crate) fn evict(
        &mut self,
        key: Vec<u8>,
        collection: u32,
        id: &DocId,
        prior: Prior,
        is_marked: bool,
    ) -> Result<Outcome, StoreError> {
        if !prior.is_present {
            return Ok(Outcome::Unchanged);
        }
        // What is in quarantine counts as held nowhere.
        self.note_eviction(&key, id, &prior, is_marked && !prior.is_quarantined)?;
        let change = Change::gone(collection, id.clone());
        self.put(key, change, prior)?;
        Ok(Outcome::Changed)
    }

    /// Takes a changed document into the transaction, with its index entries and counts.
    pub(crate) fn put(
        &mut self,
        key: Vec<u8>,
        change: Change,
        prior: Prior,
    ) -> Result<(), StoreError> {
        self.note_declaration(change.collection);
        let is_observed = self.core.observers.len() > 0
            && (self.catalog().name(change.collection))
                .is_some_and(|name| self.core.observers.watches(name));
        self.check_room(&change, &prior)?;
        if !change.keeps_keys && !self.catalog().indexes(change.collection).is_empty() {
            let shown = Shown {
                fields: self.catalog().indexed(change.collection),
                kinds: self.catalog().kinds(change.collection),
            };
            let latest = match &prior.body {
                Some(body) if prior.is_present => shown.body(&change.id, body)?,
                _ => None,
            };
            let now = match &change.body {
                Some(body) if change.is_present => shown.body(&change.id, body)?,
                _ => None,
            };
            if latest != now {
                self.index(change.collection, &key[4..], latest.as_ref(), now.as_ref())?;
            }
        }
        match (prior.is_present, change.is_present) {
            (false, true) => *self.count_of(change.collection) += 1,
            (true, false) => *self.count_of(change.collection) -= 1,
            _ => {}
        }
        let before = if !is_observed {
            None
        } else if let Some(watched) = prior.watched {
            Some(watched.before)
        } else if prior.is_pending {
            Some(self.stored_body(&key)?)
        } else {
            Some(prior.body.filter(|_| prior.is_present))
        };
        let document = PendingDocument {
            id: change.id,
            before: prior.stored,
            body: change.body,
            is_present: change.is_present,
            is_oversized: change.is_oversized,
            is_quarantined: change.is_quarantined,
            group: change.group,
            watched: before.map(|before| Watched { before }),
        };
        self.pending.put_document(key, document);
        Ok(())
    }

    /// Holds the transaction to its limits while it grows, and not only when it commits.
    fn check_room(&mut self, change: &Change, prior: &Prior) -> Result<(), StoreError> {
        let len = |body: &Option<Vec<u8>>| body.as_ref().map_or(0, Vec::len);
        let bytes = &mut self.pending.small.bytes;
        *bytes += len(&change.body);
        if prior.is_pending {
            *bytes -= len(&prior.body);
        }
        check_limit("bytes", *bytes, limits::TRANSACTION_BYTES_MAX)?;
        let documents = self.pending.documents.len() + usize::from(!prior.is_pending);
        check_limit("documents", documents, limits::TRANSACTION_DOCUMENTS_MAX)
    }

    fn count_of(&mut self, collection: u32) -> &mut i64 {
        self.pending.small.counts.entry(collection).or_insert(0)
    }

    /// The document as it was before the transaction, for an observer that was registered after the
    /// transaction had changed it.
    fn stored_body(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = crate::work::stored_row(&self.view.snapshot, key)?;
        let row = row.filter(|row| !row.is_tombstone());
        Ok(row.map(Row::into_body))
    }

    /// Brings the entries of a document from its latest fields to those of now.
    pub(crate) fn index(
        &mut self,
        collection: u32,
        id: &[u8],
        latest: Option<&Object>,
        now: Option<&Object>,
    ) -> Result<(), StoreError> {
        let catalog = match &self.pending.small.catalog {
            Some(changed) => Arc::clone(changed),
            None => Arc::clone(&self.view.catalog),
        };
        for index in catalog.indexes(collection) {
            // Whoever builds the index comes to this document later.
            if !index.holds(id) {
                continue;
            }
            let keys = |fields: &Object| entries::keys_of(index, id, fields);
            let before = latest.map(keys).unwrap_or_default();
            let after = now.map(keys).unwrap_or_default();
            for key in &before {
                if after.binary_search(key).is_err() {
                    self.pending.put_index_entry(key.clone(), None);
                }
            }
            for key in after {
                if before.binary_search(&key).is_err() {
                    let value = entries::value_of(id);
                    self.pending.put_index_entry(key, Some(value));
                }
            }
        }
        check_limit(
            "bytes",
            self.pending.small.bytes,
            limits::TRANSACTION_BYTES_MAX,
        )
    }

    fn check_size(
        &mut self,
        collection: &CollectionName,
        id: &DocId,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<(), StoreError> {
        let settings = self.core.settings;
        if new.len() <= settings.document_bytes_soft {
            return Ok(());
        }
        let is_shrunk = old.is_some_and(|old| new.len() < old.len());
        if new.len() > settings.document_bytes_max && !is_shrunk {
            return Err(StoreError::DocumentTooLarge {
                key: Box::new(DocumentKey {
                    collection: collection.clone(),
                    id: id.clone(),
                }),
                bytes: new.len(),
                limit: settings.document_bytes_max,
            });
        }
        self.pending.small.warnings.push(Warning {
            message: format!(
                "document {collection}/{id} has {} bytes, over the soft limit of {}",
                new.len(),
                settings.document_bytes_soft
            ),
            position: None,
        });
        Ok(())
    }
}

pub(crate) fn check_limit(
    unit: &'static str,
    amount: usize,
    limit: usize,
) -> Result<(), StoreError> {
    if amount > limit {
        return Err(StoreError::TransactionTooLarge {
            amount,
            unit,
            limit,
        });
    }
    Ok(())
}

pub(crate) fn decode(body: Option<&[u8]>) -> Result<Document, StoreError> {
    body.map_or(Ok(Document::new()), Document::decode)
        .map_err(|error| StoreError::corrupt("document", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, StoreConfig, patience::Patience};

    fn path(dotted: &str) -> FieldPath {
        FieldPath::new(dotted.split('.').map(str::to_owned).collect()).unwrap()
    }

    fn set(dotted: &str) -> FieldOp {
        FieldOp::Set {
            path: path(dotted),
            value: Value::Int(7),
            kind: None,
        }
    }

    /// Both directions: an edit that is wrongly skipped leaves an index wrong, and one that is not
    /// skipped where it could be costs every update of a collection with indexes.
    #[test]
    fn keys_are_kept_by_edits_of_other_fields_only() {
        let store = Store::open(StoreConfig::memory()).unwrap();
        let run = |text: &str| store.execute(text, Object::new()).unwrap();
        run("CREATE INDEX by_a ON c (a)");
        run("CREATE INDEX by_deep ON c (m.x.y, lower(n))");
        run("CREATE INDEX by_tag ON c (DISTINCT ARRAY t.sku FOR t IN items END)");
        run("CREATE COLLECTION bare (k COUNTER)");
        let work = Work::write(store.core().unwrap(), &Patience::default()).unwrap();
        let ordinal = |name: &str| {
            let name = CollectionName::new(name).unwrap();
            work.catalog().ordinal(&name).unwrap()
        };
        let check = |ops: Vec<FieldOp>, expected: bool| {
            let op = DocumentOp::Update(ops);
            assert_eq!(work.keeps_keys(ordinal("c"), &op), expected, "{op:?}");
            // Nothing is known of a collection without indexes, and nothing has to be.
            assert!(!work.keeps_keys(ordinal("bare"), &op));
        };
        let all = |dotted: &str| {
            let path = || path(dotted);
            [
                set(dotted),
                FieldOp::Unset { path: path() },
                FieldOp::Increment {
                    path: path(),
                    by: 1,
                },
                FieldOp::Restart {
                    path: path(),
                    to: 1,
                },
            ]
        };
        for other in [
            "b", "", "aa", "item", "items2", "x", "x.y", "o.a", "o.m.x.y",
        ] {
            for op in all(other) {
                check(vec![op], true);
            }
            check(vec![set("b"), set(other)], true);
        }
        for looked_at in [
            "a",
            "a.b",
            "m",
            "m.x",
            "m.x.y",
            "m.z",
            "n",
            "items",
            "items.sku",
        ] {
            for op in all(looked_at) {
                check(vec![op], false);
            }
            check(vec![set("b"), set(looked_at)], false);
            check(vec![set(looked_at), set("b")], false);
        }
        // An INSERT that meets the document writes whatever it holds.
        let insert = DocumentOp::Insert {
            fields: Object::new(),
            kinds: Vec::new(),
            conflict: idem_model::InsertConflict::DoUpdate,
        };
        assert!(!work.keeps_keys(ordinal("c"), &insert));
        assert!(!work.keeps_keys(ordinal("c"), &DocumentOp::Delete));
    }
}

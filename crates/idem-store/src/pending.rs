//! What an open transaction has changed, in memory, until the commit turns it into a batch.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use idem_model::{CollectionName, DocId};
use idem_query::{IndexInfo, Warning};

use crate::{
    catalog::Catalog,
    gone::Gone,
    row::{Header, Row},
};

/// Index entries to put, with their value, or to delete.
pub(crate) type IndexEntries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The changes of one transaction. Keys of documents are those of the documents table.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) documents: BTreeMap<Vec<u8>, PendingDocument>,
    pub(crate) index_entries: IndexEntries,
    /// What is noted in the system table of documents that are evicted or come back: as many as
    /// documents, and so not with the other rows of it.
    pub(crate) evictions: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) small: Small,
    undo: Option<Vec<Undo>>,
}

/// The part that is small enough to be copied at the start of a statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Small {
    /// By how much the number of documents of a collection changed.
    pub(crate) counts: BTreeMap<u32, i64>,
    /// The catalog with the changes of this transaction, if there are any.
    pub(crate) catalog: Option<Arc<Catalog>>,
    /// Rows of the system table to put or to delete.
    pub(crate) system: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// What is known of documents of which nothing is kept, by collection, where that changed; `None`
    /// if nothing can be told.
    pub(crate) gone: BTreeMap<u32, Option<Gone>>,
    /// Bytes of all documents and keys of index entries.
    pub(crate) bytes: usize,
    /// Whether the transaction's stamp is on a document.
    pub(crate) is_stamped: bool,
    /// Whether a declaration changed that the catalog does not know yet.
    pub(crate) is_declaration_due: bool,
    /// Collections of which stored documents show something else because of a declaration.
    pub(crate) restated: BTreeSet<CollectionName>,
    /// The index that CREATE INDEX asked for, if it is not complete with this transaction.
    pub(crate) awaited: Option<Awaited>,
    /// Whether the statement asked for the engine to be compacted when it is over.
    pub(crate) compacts: bool,
    /// What to tell with the result of the statement.
    pub(crate) warnings: Vec<Warning>,
}

/// An index that a statement waits for.
#[derive(Debug, Clone)]
pub(crate) struct Awaited {
    pub(crate) index: u32,
    pub(crate) info: IndexInfo,
}

/// A document as the transaction sees it.
#[derive(Debug, Clone)]
pub(crate) struct PendingDocument {
    pub(crate) id: DocId,
    /// The header of the stored row; `None` if there is none.
    pub(crate) before: Option<Header>,
    /// The encoded document; `None` after an eviction.
    pub(crate) body: Option<Vec<u8>>,
    /// Whether it is visible.
    pub(crate) is_present: bool,
    /// Whether a merge made it larger than a local write may.
    pub(crate) is_oversized: bool,
    /// Whether it does not travel.
    pub(crate) is_quarantined: bool,
    /// Documents of one number share a group of the change feed.
    pub(crate) group: u32,
    /// What it was before the transaction, where observers watch it.
    pub(crate) watched: Option<Watched>,
}

/// A document that observers watch, as it was before the transaction.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// Encoded; `None` where the document was not visible.
    pub(crate) before: Option<Vec<u8>>,
}

/// A document as it was found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Nothing,
    Stored(Row),
    Pending(&'a PendingDocument),
}

#[derive(Debug)]
enum Undo {
    Document(Vec<u8>, Option<PendingDocument>),
    IndexEntry(Vec<u8>, Option<Option<Vec<u8>>>),
    Eviction(Vec<u8>, Option<Option<Vec<u8>>>),
}

/// What a failed statement goes back to.
#[derive(Debug)]
pub(crate) struct Savepoint(Small);

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.documents.is_empty()
            && self.index_entries.is_empty()
            && self.evictions.is_empty()
            && self.small.system.is_empty()
            && self.small.catalog.is_none()
    }

    /// The changed document under a key. Behind all others nothing is searched: most statements change
    /// documents in the order of their keys.
    pub(crate) fn document(&self, key: &[u8]) -> Option<&PendingDocument> {
        let (last, document) = self.documents.last_key_value()?;
        match last.as_slice().cmp(key) {
            Ordering::Less => None,
            Ordering::Equal => Some(document),
            Ordering::Greater => self.documents.get(key),
        }
    }

    /// Whether a statement runs that can fail without its transaction.
    pub(crate) fn has_savepoint(&self) -> bool {
        self.undo.is_some()
    }

    pub(crate) fn put_document(&mut self, key: Vec<u8>, document: PendingDocument) {
        match &mut self.undo {
            Some(undo) => {
                let previous = self.documents.insert(key.clone(), document);
                undo.push(Undo::Document(key, previous));
            }
            None => {
                self.documents.insert(key, document);
            }
        }
    }

    pub(crate) fn put_index_entry(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if !self.index_entries.contains_key(&key) {
            self.small.bytes += key.len();
        }
        match &mut self.undo {
            Some(undo) => {
                let previous = self.index_entries.insert(key.clone(), value);
                undo.push(Undo::IndexEntry(key, previous));
            }
            None => {
                self.index_entries.insert(key, value);
            }
        }
    }

    /// Notes what is kept of an evicted document; `None` forgets it.
    pub(crate) fn put_eviction(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match &mut self.undo {
            Some(undo) => {
                let previous = self.evictions.insert(key.clone(), value);
                undo.push(Undo::Eviction(key, previous));
            }
            None => {
                self.evictions.insert(key, value);
            }
        }
    }

    /// Begins a statement whose changes can be undone.
    pub(crate) fn savepoint(&mut self) -> Savepoint {
        self.undo = Some(Vec::new());
        Savepoint(self.small.clone())
    }

    /// Keeps what the statement did.
    pub(crate) fn release(&mut self) {
        self.undo = None;
    }

    /// Takes back what the statement did.
    pub(crate) fn undo(&mut self, savepoint: Savepoint) {
        self.small = savepoint.0;
        let steps = mem::take(&mut self.undo).unwrap_or_default();
        for step in steps.into_iter().rev() {
            match step {
                Undo::Document(key, previous) => restore(&mut self.documents, key, previous),
                Undo::IndexEntry(key, previous) => {
                    restore(&mut self.index_entries, key, previous);
                }
                Undo::Eviction(key, previous) => restore(&mut self.evictions, key, previous),
            }
        }
    }
}

fn restore<V>(map: &mut BTreeMap<Vec<u8>, V>, key: Vec<u8>, previous: Option<V>) {
    match previous {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

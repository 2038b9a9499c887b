//! One transaction at work: a view of what is stored, and what was changed on top of it.

use std::{borrow::Cow, ops::ControlFlow, sync::Arc};

use idem_crdt::{
    Document, encoded_version, is_visible_text, visible_fields_declared, visible_fields_into,
    visible_fields_of,
};
use idem_kv::{OverlaySnapshot, Snapshot, Table};
use idem_model::{
    DecodeError, DocId, DocumentKey, FieldKind, FieldPath, HybridClock, Object, Stamp, Value,
    VersionVector, key,
};
use idem_query::{Fields, Tested};

use crate::{
    catalog::Catalog,
    core::{Core, Turn},
    error::StoreError,
    head::Head,
    kept::Kept,
    patience::Patience,
    pending::{Found, Pending},
    row::Row,
    tables::{self, DOCUMENTS, SYSTEM},
};

/// What is stored, at one moment.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: OverlaySnapshot,
    pub(crate) catalog: Arc<Catalog>,
}

/// A transaction, read-only unless it holds the writer's turn.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) core: Arc<Core>,
    pub(crate) view: View,
    pub(crate) pending: Pending,
    /// Stored rows that a statement has read and is about to change.
    pub(crate) kept: Kept,
    pub(crate) writing: Option<Writing>,
    /// Wall-clock time, read once per transaction.
    pub(crate) now_ms: u64,
}

/// What a transaction that writes has besides.
#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) turn: Turn,
    /// The head as it was at the beginning.
    pub(crate) head: Head,
    pub(crate) clock: HybridClock,
    /// The stamp of this transaction, once it was needed.
    pub(crate) stamp: Option<Stamp>,
}

impl Work {
    pub(crate) fn read(core: Arc<Core>) -> Result<Self, StoreError> {
        let view = core.view()?;
        let now_ms = (core.clock)();
        Ok(Self {
            core,
            view,
            pending: Pending::default(),
            kept: Kept::default(),
            writing: None,
            now_ms,
        })
    }

    /// Waits for the writer's turn.
    pub(crate) fn write(core: Arc<Core>, patience: &Patience) -> Result<Self, StoreError> {
        let turn = Turn::take(&core, patience)?;
        let view = core.view()?;
        let now_ms = (core.clock)();
        let head = core.head();
        Ok(Self {
            core,
            view,
            pending: Pending::default(),
            kept: Kept::default(),
            writing: Some(Writing {
                turn,
                head,
                clock: HybridClock::new(head.time),
                stamp: None,
            }),
            now_ms,
        })
    }

    /// The number of the last commit that this view has.
    pub(crate) fn last_commit(&self) -> Result<u64, StoreError> {
        let head = self.view.snapshot.get(SYSTEM, tables::SYSTEM_HEAD)?;
        head.map_or(Ok(0), |bytes| Head::decode(&bytes).map(|head| head.commit))
            .map_err(|error| StoreError::corrupt("head", &error))
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        self.pending
            .small
            .catalog
            .as_deref()
            .unwrap_or(&self.view.catalog)
    }

    pub(crate) fn writing(&mut self) -> Result<&mut Writing, StoreError> {
        self.writing.as_mut().ok_or(StoreError::ReadOnly)
    }

    /// The document under a key of the documents table.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Found<'_>, StoreError> {
        if let Some(document) = self.pending.document(key) {
            return Ok(Found::Pending(document));
        }
        if let Some(row) = self.kept.take(key) {
            return Ok(Found::Stored(row));
        }
        Ok(match stored_row(&self.view.snapshot, key)? {
            Some(row) => Found::Stored(row),
            None => Found::Nothing,
        })
    }

    /// The encoded document, tombstones included.
    pub(crate) fn encoded(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(ordinal) = self.catalog().ordinal(&key.collection) else {
            return Ok(None);
        };
        Ok(
            match self.find(&tables::document(ordinal, &key.id.to_key()))? {
                Found::Nothing => None,
                Found::Stored(row) => Some(row.into_body()),
                Found::Pending(document) => document.body.clone(),
            },
        )
    }

    /// The decoded document, tombstones included.
    pub(crate) fn state(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        self.encoded(key)?
            .map(|body| Document::decode(&body))
            .transpose()
            .map_err(|error| StoreError::corrupt("document", &error))
    }

    pub(crate) fn version(&self, key: &DocumentKey) -> Result<VersionVector, StoreError> {
        self.encoded(key)?
            .map_or(Ok(VersionVector::new()), |body| encoded_version(&body))
            .map_err(|error| StoreError::corrupt("version vector", &error))
    }

    pub(crate) fn stored_count(&self, collection: u32) -> Result<u64, StoreError> {
        match self.view.snapshot.get(SYSTEM, &tables::count(collection))? {
            None => Ok(0),
            Some(bytes) => Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| {
                StoreError::Corrupt {
                    what: "count of a collection".to_owned(),
                }
            })?)),
        }
    }

    pub(crate) fn documents_in(&self, collection: u32) -> Result<u64, StoreError> {
        let stored = self.stored_count(collection)?;
        Ok(self.documents_with(collection, stored))
    }

    /// How many documents there are with the changes of this transaction to `stored` ones.
    pub(crate) fn documents_with(&self, collection: u32, stored: u64) -> u64 {
        let delta = self.pending.small.counts.get(&collection).copied();
        stored
            .checked_add_signed(delta.unwrap_or(0))
            .expect("a count follows each document that comes and goes")
    }

    /// Visits the stored and the changed documents of a collection, in the order of their ids, with at
    /// least the fields that are asked for. With a sieve, only those that it lets through.
    pub(crate) fn scan_documents(
        &self,
        collection: u32,
        fields: &Fields,
        mut sieve: Option<Sieve<'_>>,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = collection.to_be_bytes();
        let to = (collection + 1).to_be_bytes();
        let kinds = self.kinds_under(collection, fields);
        let shown = Shown {
            fields,
            kinds: &kinds,
        };
        let pending = self
            .pending
            .documents
            .range(from.to_vec()..to.to_vec())
            .map(|(key, document)| (key.as_slice(), document));
        let mut row = Object::new();
        merge_scan(
            &self.view.snapshot,
            Span {
                table: DOCUMENTS,
                from: &from,
                to: Some(&to),
                reverse: false,
            },
            pending,
            &mut |key, found| {
                let mut changed = match found {
                    Entry::Stored(stored) => {
                        if let Some(sieve) = &mut sieve {
                            match sieve.lets_through(shown.kinds, key, stored)? {
                                ControlFlow::Continue(true) => {}
                                ControlFlow::Continue(false) => {
                                    return Ok(ControlFlow::Continue(()));
                                }
                                ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                            }
                        }
                        return Ok(match shown.row_into(key, stored, &mut row)? {
                            true => {
                                self.kept.next();
                                let flow = visit(&mut row);
                                self.kept.offer(key, stored);
                                flow
                            }
                            false => ControlFlow::Continue(()),
                        });
                    }
                    Entry::Pending(document) => match &document.body {
                        Some(body) if document.is_present => shown.body(&document.id, body)?,
                        _ => None,
                    },
                };
                let Some(changed) = &mut changed else {
                    return Ok(ControlFlow::Continue(()));
                };
                let passes = match &mut sieve {
                    Some(sieve) => (sieve.passes)(Some(changed)),
                    None => ControlFlow::Continue(true),
                };
                Ok(match passes {
                    ControlFlow::Continue(true) => visit(changed),
                    ControlFlow::Continue(false) => ControlFlow::Continue(()),
                    ControlFlow::Break(()) => ControlFlow::Break(()),
                })
            },
        )
    }

    /// The kinds that a statement reads a collection as: those that it declares, and the statement's own.
    pub(crate) fn kinds_under(
        &self,
        collection: u32,
        fields: &Fields,
    ) -> Cow<'_, [(FieldPath, FieldKind)]> {
        let declared = self.catalog().kinds(collection);
        let Fields::Typed(own) = fields else {
            return Cow::Borrowed(declared);
        };
        let mut kinds = [declared, own].concat();
        kinds.sort_unstable();
        kinds.dedup_by(|(a, _), (b, _)| a == b);
        Cow::Owned(kinds)
    }
}

/// Which rows of a scan are read whole.
pub(crate) struct Sieve<'a> {
    /// What `passes` looks at.
    tested: Tested<'a>,
    passes: &'a mut dyn FnMut(Option<&Object>) -> ControlFlow<(), bool>,
    /// The tested fields of the row before.
    probe: Object,
}

impl<'a> Sieve<'a> {
    pub(crate) fn new(
        tested: Tested<'a>,
        passes: &'a mut dyn FnMut(Option<&Object>) -> ControlFlow<(), bool>,
    ) -> Self {
        Self {
            tested,
            passes,
            probe: Object::new(),
        }
    }

    fn lets_through(
        &mut self,
        kinds: &[(FieldPath, FieldKind)],
        key: &[u8],
        row: &[u8],
    ) -> Result<ControlFlow<(), bool>, StoreError> {
        let Some(body) = visible_body(row)? else {
            return Ok(ControlFlow::Continue(false));
        };
        let corrupt = |error: DecodeError| StoreError::corrupt("document row", &error);
        // Declared kinds may show another value than the first.
        if let Some((name, text)) = self.tested.text
            && kinds.is_empty()
        {
            match is_visible_text(body, name, text).map_err(corrupt)? {
                Some(true) => {}
                Some(false) => return Ok((self.passes)(None)),
                None => return Ok(ControlFlow::Continue(false)),
            }
        }
        let names = self.tested.names;
        let is_there = visible_fields_into(body, names, kinds, ID, &mut self.probe);
        if !is_there.map_err(corrupt)? {
            return Ok(ControlFlow::Continue(false));
        }
        if names.iter().any(|name| name == ID) {
            put_id(key, &mut self.probe).map_err(corrupt)?;
        }
        Ok((self.passes)(Some(&self.probe)))
    }
}

/// The encoded document of a row, unless that is a tombstone.
fn visible_body(row: &[u8]) -> Result<Option<&[u8]>, StoreError> {
    let (header, body) = crate::row::Header::decode(row)
        .map_err(|error| StoreError::corrupt("document row", &error))?;
    Ok(header.expiry_ms.is_none().then_some(body))
}

/// Puts the id that is in the key of a row of the documents table into its fields.
pub(crate) fn put_id(key: &[u8], into: &mut Object) -> Result<(), DecodeError> {
    let (_, id) = tables::split_document(key)?;
    match into.get_mut(ID) {
        Some(value) => key::decode_into(id, value),
        None => {
            let mut value = Value::Null;
            key::decode_into(id, &mut value)?;
            into.insert(ID.to_owned(), value);
            Ok(())
        }
    }
}

/// The stored row under a key of the documents table.
pub(crate) fn stored_row(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Row>, StoreError> {
    snapshot
        .get(DOCUMENTS, key)?
        .map(Row::decode)
        .transpose()
        .map_err(|error| StoreError::corrupt("document row", &error))
}

/// The name under which rows have the id of their document.
pub(crate) const ID: &str = "_id";

/// What of a document is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// The fields that are looked at; others need not be there.
    pub(crate) fields: &'a Fields,
    /// The kinds that the collection declares.
    pub(crate) kinds: &'a [(FieldPath, FieldKind)],
}

impl Shown<'_> {
    /// Of an encoded document, with its `_id`.
    pub(crate) fn body(self, id: &DocId, body: &[u8]) -> Result<Option<Object>, StoreError> {
        let fields = self
            .visible(body)
            .map_err(|error| StoreError::corrupt("document", &error))?;
        Ok(fields.map(|fields| insert_id(fields, id.as_value().clone())))
    }

    /// Of a row of the documents table and its key.
    pub(crate) fn row(self, key: &[u8], row: &[u8]) -> Result<Option<Object>, StoreError> {
        let mut fields = Object::new();
        Ok(self.row_into(key, row, &mut fields)?.then_some(fields))
    }

    /// Of a row of the documents table and its key, into the object that the row before was read into;
    /// whether there is a document.
    pub(crate) fn row_into(
        self,
        key: &[u8],
        row: &[u8],
        into: &mut Object,
    ) -> Result<bool, StoreError> {
        let corrupt = |error: DecodeError| StoreError::corrupt("document row", &error);
        let Some(body) = visible_body(row)? else {
            return Ok(false);
        };
        match self.fields {
            Fields::All | Fields::Typed(_) => {
                match visible_fields_declared(body, self.kinds).map_err(corrupt)? {
                    Some(fields) => *into = fields,
                    None => return Ok(false),
                }
            }
            Fields::Named(names) => {
                // First, for it is mostly the first by name, and what grows at its end moves nothing.
                put_id(key, into).map_err(corrupt)?;
                let is_there = visible_fields_into(body, names, self.kinds, ID, into);
                return is_there.map_err(corrupt);
            }
        }
        put_id(key, into).map_err(corrupt)?;
        Ok(true)
    }

    fn visible(self, body: &[u8]) -> Result<Option<Object>, DecodeError> {
        match self.fields {
            Fields::All | Fields::Typed(_) => visible_fields_declared(body, self.kinds),
            Fields::Named(names) => visible_fields_of(body, names, self.kinds),
        }
    }
}

/// All visible fields of an encoded document with its `_id`.
pub(crate) fn with_id(
    id: &DocId,
    body: &[u8],
    kinds: &[(FieldPath, FieldKind)],
) -> Result<Option<Object>, StoreError> {
    let fields = &Fields::All;
    Shown { fields, kinds }.body(id, body)
}

/// Adds `_id` to visible fields. A field of that name cannot be written, but may be merged in.
pub(crate) fn insert_id(mut fields: Object, id: Value) -> Object {
    fields.insert(ID.to_owned(), id);
    fields
}

/// A range of a table.
pub(crate) struct Span<'a> {
    pub(crate) table: Table,
    pub(crate) from: &'a [u8],
    pub(crate) to: Option<&'a [u8]>,
    pub(crate) reverse: bool,
}

/// An entry of a merged scan.
pub(crate) enum Entry<'a, P> {
    Stored(&'a [u8]),
    Pending(P),
}

type VisitEntry<'a, P> = dyn FnMut(&[u8], Entry<'_, P>) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Visits the stored entries of `span` and the pending ones, which come in the order of the scan and
/// hide stored entries of the same key, until `visit` breaks or fails.
pub(crate) fn merge_scan<'p, P>(
    snapshot: &dyn Snapshot,
    span: Span<'_>,
    pending: impl Iterator<Item = (&'p [u8], P)>,
    visit: &mut VisitEntry<'_, P>,
) -> Result<(), StoreError> {
    let mut pending = pending.peekable();
    let mut failure = None;
    // Most transactions have nothing of their own here, and then no key need be compared.
    if pending.peek().is_none() {
        let mut step = |key: &[u8], value: &[u8]| match visit(key, Entry::Stored(value)) {
            Ok(flow) => flow,
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        };
        snapshot.scan(span.table, span.from, span.to, span.reverse, &mut step)?;
        return failure.map_or(Ok(()), Err);
    }
    let mut is_broken = false;
    let mut step = |key: &[u8], entry: Entry<'_, P>| match visit(key, entry) {
        Ok(ControlFlow::Continue(())) => ControlFlow::Continue(()),
        Ok(ControlFlow::Break(())) => {
            is_broken = true;
            ControlFlow::Break(())
        }
        Err(error) => {
            failure = Some(error);
            is_broken = true;
            ControlFlow::Break(())
        }
    };
    snapshot.scan(
        span.table,
        span.from,
        span.to,
        span.reverse,
        &mut |key, value| {
            let is_before = |other: &[u8]| {
                if span.reverse {
                    other > key
                } else {
                    other < key
                }
            };
            while let Some((other, entry)) = pending.next_if(|(other, _)| is_before(other)) {
                step(other, Entry::Pending(entry))?;
            }
            match pending.next_if(|(other, _)| *other == key) {
                Some((_, entry)) => step(key, Entry::Pending(entry)),
                None => step(key, Entry::Stored(value)),
            }
        },
    )?;
    // The closure above is done with `step`; what is left comes after the last stored entry.
    if !is_broken {
        for (key, entry) in pending {
            match visit(key, Entry::Pending(entry))? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(()) => break,
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;

//! The kinds that CREATE COLLECTION declares.
//!
//! A declaration is a document of the collection `__collections`, one for each path of each collection:
//! its id names both, its field `kind` the kind. It syncs and merges like any other document. It is
//! inserted as an initial value, so that peers that declare the same make one and the same document,
//! however many they are and whatever their clocks say; of two kinds that peers declare without
//! knowing of each other, the greater value shows on every peer.
//!
//! The catalog holds what the documents say, so that a declaration and what follows from it become
//! visible together, and a transaction that fails takes both back.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use idem_crdt::{has_several_kinds, visible_fields, visible_fields_declared};
use idem_kv::Snapshot;
use idem_model::{CollectionName, DocId, DocumentOp, FieldKind, FieldPath, Object, Value, limits};
use idem_query::{ErrorKind, Outcome, QueryError};

use crate::{
    catalog::Catalog,
    error::StoreError,
    pending::PendingDocument,
    tables::{self, DOCUMENTS},
    work::{Entry, Span, Work, insert_id, merge_scan},
};

/// Kinds by path, strictly rising.
pub(crate) type Kinds = Arc<[(FieldPath, FieldKind)]>;

/// Kinds by collection.
pub(crate) type Declared = BTreeMap<CollectionName, Kinds>;

/// The collection that holds the declarations.
pub(crate) const COLLECTION: &str = "__collections";

const ID_COLLECTION: &str = "collection";
const ID_PATH: &str = "path";
const KIND: &str = "kind";

fn collection() -> CollectionName {
    CollectionName::new(COLLECTION).expect("a short name")
}

/// The id of a declaration. The path is an array of its names: as text it would be ambiguous.
fn id_of(collection: &CollectionName, path: &FieldPath) -> Result<DocId, QueryError> {
    let names = path.segments().iter().map(|name| name.as_str().into());
    let id = Object::from([
        (ID_COLLECTION.to_owned(), collection.as_str().into()),
        (ID_PATH.to_owned(), Value::Array(names.collect())),
    ]);
    DocId::new(Value::Object(id)).map_err(|_| {
        let message = format!("the path `{path}` is too long to be declared");
        QueryError::new(ErrorKind::Execution, message)
    })
}

/// What a declaration says. `None` for anything that this version does not understand: it may come
/// from a newer one.
fn read_one(id: &Value, fields: &Object) -> Option<(CollectionName, FieldPath, FieldKind)> {
    let id = id.as_object()?;
    let (Value::String(name), Value::Array(names)) = (id.get(ID_COLLECTION)?, id.get(ID_PATH)?)
    else {
        return None;
    };
    let name = CollectionName::new(name).ok()?;
    let segments = names.iter().map(|name| match name {
        Value::String(name) => Some(name.clone()),
        _ => None,
    });
    let path = FieldPath::new(segments.collect::<Option<_>>()?).ok()?;
    let Value::String(kind) = fields.get(KIND)? else {
        return None;
    };
    Some((name, path, FieldKind::find(kind)?))
}

/// Reads all declarations, as far as the limits go: the first in the order of collection and path.
pub(crate) fn read<'p>(
    catalog: &Catalog,
    snapshot: &dyn Snapshot,
    pending: impl Iterator<Item = (&'p [u8], &'p PendingDocument)>,
) -> Result<Declared, StoreError> {
    let mut found: BTreeMap<CollectionName, Vec<(FieldPath, FieldKind)>> = BTreeMap::new();
    let Some(ordinal) = catalog.ordinal(&collection()) else {
        return Ok(Declared::new());
    };
    let mut count = 0;
    each_body(ordinal, snapshot, pending, &mut |id, body| {
        let fields =
            visible_fields(body).map_err(|error| StoreError::corrupt(COLLECTION, &error))?;
        let declaration = fields.and_then(|fields| read_one(id.as_value(), &fields));
        if let Some((name, path, kind)) = declaration {
            let kinds = found.entry(name).or_default();
            if kinds.len() < limits::DECLARED_KINDS_MAX {
                kinds.push((path, kind));
                count += 1;
            }
        }
        Ok(match count < limits::DECLARED_KINDS_TOTAL_MAX {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    let found = found.into_iter().map(|(name, mut kinds)| {
        kinds.sort_unstable();
        kinds.dedup_by(|(a, _), (b, _)| a == b);
        (name, kinds.into())
    });
    Ok(found.collect())
}

type VisitBody<'a> = dyn FnMut(DocId, &[u8]) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Visits the encoded documents of a collection that are there.
fn each_body<'p>(
    collection: u32,
    snapshot: &dyn Snapshot,
    pending: impl Iterator<Item = (&'p [u8], &'p PendingDocument)>,
    visit: &mut VisitBody<'_>,
) -> Result<(), StoreError> {
    let (from, to) = (collection.to_be_bytes(), (collection + 1).to_be_bytes());
    let span = Span {
        table: DOCUMENTS,
        from: &from,
        to: Some(&to),
        reverse: false,
    };
    merge_scan(snapshot, span, pending, &mut |key, entry| {
        let corrupt = |error| StoreError::corrupt("document row", &error);
        match entry {
            Entry::Stored(row) => {
                let (header, body) = crate::row::Header::decode(row).map_err(corrupt)?;
                if header.expiry_ms.is_some() {
                    return Ok(ControlFlow::Continue(()));
                }
                let (_, id) = tables::split_document(key).map_err(corrupt)?;
                visit(DocId::from_key(id).map_err(corrupt)?, body)
            }
            Entry::Pending(document) => match &document.body {
                Some(body) if document.is_present => visit(document.id.clone(), body),
                _ => Ok(ControlFlow::Continue(())),
            },
        }
    })
}

impl Work {
    /// Declares the kinds of paths that are not declared yet.
    pub(crate) fn declare_kinds(
        &mut self,
        name: &CollectionName,
        kinds: &[(FieldPath, FieldKind)],
    ) -> Result<(), StoreError> {
        self.writing()?;
        if name.is_system() {
            return Err(StoreError::ReservedCollection { name: name.clone() });
        }
        self.check_writable(name)?;
        if self.catalog().ordinal(name).is_none() {
            self.intern(name);
        }
        let mut known: BTreeMap<FieldPath, FieldKind> =
            self.catalog().kinds_of(name).iter().cloned().collect();
        for (path, kind) in kinds {
            if known.get(path) == Some(kind) {
                continue;
            }
            check(name, path, *kind, &known)?;
            known.insert(path.clone(), *kind);
            if known.len() > limits::DECLARED_KINDS_MAX {
                let limit = limits::DECLARED_KINDS_MAX;
                let message = format!("a collection declares at most {limit} paths");
                return Err(QueryError::new(ErrorKind::Execution, message).into());
            }
            let op = DocumentOp::InsertInitial {
                fields: Object::from([(KIND.to_owned(), kind.name().into())]),
                kinds: Vec::new(),
            };
            let id = id_of(name, path)?;
            if self.apply_to(&collection(), &id, op)? == Outcome::Unchanged {
                let message = format!(
                    "`{path}` of `{name}` is declared as a kind that this version does not know"
                );
                return Err(QueryError::new(ErrorKind::Execution, message).into());
            }
        }
        self.settle_declarations()
    }

    /// Notes that a document changed which may be a declaration.
    pub(crate) fn note_declaration(&mut self, collection: u32) {
        let name = self.catalog().name(collection);
        if name.is_some_and(|name| name.as_str() == COLLECTION) {
            self.pending.small.is_declaration_due = true;
        }
    }

    /// Brings the catalog, and what follows from declared kinds, up to the declarations of this
    /// transaction. Costs a scan of each collection that declares otherwise now and has indexes or
    /// observers.
    pub(crate) fn settle_declarations(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.pending.small.is_declaration_due) {
            return Ok(());
        }
        let from = self.catalog().ordinal(&collection()).unwrap_or_default();
        let declared = read(self.catalog(), &self.view.snapshot, self.pending_of(from))?;
        let before = Arc::clone(&self.catalog().declared);
        if declared == *before {
            return Ok(());
        }
        let nothing = Kinds::default();
        for name in before.keys().chain(declared.keys()) {
            let old = before.get(name).unwrap_or(&nothing);
            let new = declared.get(name).unwrap_or(&nothing);
            // A name in both comes twice, and the second time changes nothing again.
            if old != new {
                self.restate(name, old, new)?;
                let projections: Vec<_> = self.catalog().projections_of(name).cloned().collect();
                for name in projections {
                    self.restate(&name, old, new)?;
                }
            }
        }
        self.change_catalog(|catalog| catalog.declared = Arc::new(declared));
        Ok(())
    }

    /// Moves the index entries of documents that show something else under `new` kinds.
    fn restate(
        &mut self,
        name: &CollectionName,
        old: &[(FieldPath, FieldKind)],
        new: &[(FieldPath, FieldKind)],
    ) -> Result<(), StoreError> {
        let Some(collection) = self.catalog().ordinal(name) else {
            return Ok(());
        };
        let is_observed = self.core.observers.watches(name);
        if self.catalog().indexes(collection).is_empty() && !is_observed {
            return Ok(());
        }
        let mut changed = Vec::new();
        let pending = self.pending_of(collection);
        each_body(collection, &self.view.snapshot, pending, &mut |id, body| {
            let corrupt = |error| StoreError::corrupt("document", &error);
            if has_several_kinds(body).map_err(corrupt)? {
                let before = visible_fields_declared(body, old).map_err(corrupt)?;
                let now = visible_fields_declared(body, new).map_err(corrupt)?;
                if let (Some(before), Some(now)) = (before, now)
                    && before != now
                {
                    changed.push((id, before, now));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if is_observed && !changed.is_empty() {
            self.pending.small.restated.insert(name.clone());
        }
        for (id, before, now) in changed {
            let before = insert_id(before, id.as_value().clone());
            let now = insert_id(now, id.as_value().clone());
            let key = tables::document(collection, &id.to_key());
            self.index(collection, &key[4..], Some(&before), Some(&now))?;
        }
        Ok(())
    }

    /// The changed documents of a collection.
    fn pending_of(&self, collection: u32) -> impl Iterator<Item = (&[u8], &PendingDocument)> {
        let (from, to) = (collection.to_be_bytes(), (collection + 1).to_be_bytes());
        let range = self.pending.documents.range(from.to_vec()..to.to_vec());
        range.map(|(key, document)| (key.as_slice(), document))
    }
}

/// Whether `path` can be declared beside what is known.
fn check(
    name: &CollectionName,
    path: &FieldPath,
    kind: FieldKind,
    known: &BTreeMap<FieldPath, FieldKind>,
) -> Result<(), QueryError> {
    let is_map = |kind: FieldKind| kind == FieldKind::Map;
    let other = known.iter().find(|(other, other_kind)| {
        *other == path
            || (other.contains(path) && !is_map(**other_kind))
            || (path.contains(other) && !is_map(kind))
    });
    let Some((other, other_kind)) = other else {
        return Ok(());
    };
    let message = if other == path {
        format!("`{path}` of `{name}` is declared {other_kind} and cannot become a {kind}")
    } else {
        format!(
            "`{path}` of `{name}` cannot be a {kind} while `{other}` is declared {other_kind}: \
             only a MAP has fields below it"
        )
    };
    Err(QueryError::new(ErrorKind::Execution, message))
}

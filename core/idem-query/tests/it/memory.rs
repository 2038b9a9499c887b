//! A store double: documents in a map, no history, one writer. It keeps what the lattice would show
//! of the writes of one peer, and nothing of how it merges.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    ops::ControlFlow,
    rc::Rc,
};

use idem_model::{
    CollectionName, DocId, DocumentOp, FieldKind, FieldOp, FieldPath, InsertConflict, Object,
    Value, key,
};
use idem_query::{
    Context, ExecuteError, Fields, IndexInfo, IndexSpec, IndexStatistics, KeySpan, Outcome,
    QueryError, QueryOutput, Source, Target, Tested, execute_mut, parse,
};

#[derive(Debug, Default, Clone)]
struct Stored {
    fields: Object,
    counters: BTreeSet<FieldPath>,
}

/// Documents to go back to.
pub(crate) struct Snapshot(BTreeMap<CollectionName, BTreeMap<DocId, Stored>>);

/// A key with that of the document, the length of the first, and the document.
type Entry = (Vec<u8>, usize, DocId);

/// The double. Reads count what they touch.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    collections: BTreeMap<CollectionName, BTreeMap<DocId, Stored>>,
    indexes: Vec<IndexInfo>,
    parameters: BTreeMap<String, Value>,
    ids: u64,
    /// The entries of indexes that were read since the last change.
    entries: RefCell<BTreeMap<String, Rc<Vec<Entry>>>>,
    /// Documents given to the executor since the last reset.
    pub(crate) rows_read: Cell<usize>,
    /// Entries of indexes given to the executor since the last reset.
    pub(crate) entries_read: Cell<usize>,
    /// Whether it tells what it knows about its indexes.
    pub(crate) tells_statistics: bool,
    /// How many documents it says a collection has, instead of how many it has.
    pub(crate) pretends: Option<u64>,
}

impl Memory {
    /// Runs a statement, as a store would: a failed one leaves nothing behind.
    pub(crate) fn run(&mut self, text: &str, args: &Object) -> Result<QueryOutput, QueryError> {
        let statement = parse(text)?;
        let before = self.collections.clone();
        let result = execute_mut(&statement, &Context::new(args, NOW_MS), self);
        result.map_err(|error| {
            self.collections = before;
            self.entries.borrow_mut().clear();
            match error {
                ExecuteError::Query(error) => error,
                other => panic!("the double never fails: {other}"),
            }
        })
    }

    /// The documents as they are.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot(self.collections.clone())
    }

    /// Puts back what [`Memory::snapshot`] gave.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        self.collections = snapshot.0;
        self.entries.borrow_mut().clear();
    }

    /// Runs a statement that must succeed and gives its rows.
    pub(crate) fn rows(&mut self, text: &str) -> Vec<Object> {
        match self.run(text, &Object::new()) {
            Ok(output) => output.items,
            Err(error) => panic!("{}", error.render(text)),
        }
    }

    /// The entries of an index, in order.
    fn entries(&self, index: &IndexInfo) -> Rc<Vec<Entry>> {
        let name = format!("{} {}", index.collection(), index.name());
        if let Some(known) = self.entries.borrow().get(&name) {
            return Rc::clone(known);
        }
        let mut entries: Vec<Entry> = self
            .documents(index.collection())
            .flat_map(|(id, stored)| {
                keys_of(index, id, stored).into_iter().map(|mut key| {
                    let fields_len = key.len();
                    key.extend(id.to_key());
                    (key, fields_len, id.clone())
                })
            })
            .collect();
        entries.sort();
        let entries = Rc::new(entries);
        self.entries.borrow_mut().insert(name, Rc::clone(&entries));
        entries
    }

    fn row(&self, id: &DocId, stored: &Stored, fields: &Fields) -> Object {
        self.rows_read.set(self.rows_read.get() + 1);
        let mut row = stored.fields.clone();
        // Exactly what was asked for, so that a statement which needs more is found out.
        row.retain(|name, _| fields.contains(name));
        row.insert("_id".to_owned(), id.as_value().clone());
        row
    }

    fn documents<'a>(
        &'a self,
        collection: &CollectionName,
    ) -> impl Iterator<Item = (&'a DocId, &'a Stored)> {
        self.collections.get(collection).into_iter().flatten()
    }
}

/// 2026-03-15T10:30:45Z
pub(crate) const NOW_MS: u64 = 1_773_570_645_000;

impl Source for Memory {
    type Error = Infallible;

    fn get(
        &self,
        collection: &CollectionName,
        id: &DocId,
        fields: &Fields,
    ) -> Result<Option<Object>, Infallible> {
        let stored = self.collections.get(collection).and_then(|all| all.get(id));
        Ok(stored.map(|stored| self.row(id, stored, fields)))
    }

    fn scan(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        for (id, stored) in self.documents(collection) {
            if visit(self.row(id, stored, fields)).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_passing(
        &self,
        collection: &CollectionName,
        tested: Tested<'_>,
        fields: &Fields,
        passes: &mut dyn FnMut(Option<&Object>) -> ControlFlow<(), bool>,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        assert!(tested.names.is_sorted_by(|a, b| a < b), "{tested:?}");
        for (id, stored) in self.documents(collection) {
            let mut row = self.row(id, stored, fields);
            let mut probe = row.clone();
            probe.retain(|name, _| tested.names.contains(name));
            let is_out = tested.text.is_some_and(|(name, text)| {
                assert!(name != "_id" && tested.names.iter().any(|tested| tested == name));
                probe.get(name) != Some(&Value::from(text))
            });
            let flow = match passes((!is_out).then_some(&probe)) {
                ControlFlow::Continue(true) => visit(&mut row),
                ControlFlow::Continue(false) => ControlFlow::Continue(()),
                ControlFlow::Break(()) => ControlFlow::Break(()),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_index(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let entries = self.entries(index);
        let from = entries.partition_point(|(key, ..)| key < &span.from);
        let to = match &span.to {
            Some(to) => entries.partition_point(|(key, ..)| key < to),
            None => entries.len(),
        };
        let mut inside: Vec<&Entry> = entries[from..to.max(from)].iter().collect();
        if reverse {
            inside.reverse();
        }
        for (key, fields_len, id) in inside {
            self.entries_read.set(self.entries_read.get() + 1);
            if visit(&key[..*fields_len], id.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn count(&self, collection: &CollectionName) -> Result<u64, Infallible> {
        let count = self.documents(collection).count() as u64;
        Ok(self.pretends.unwrap_or(count))
    }

    fn indexes(&self, collection: &CollectionName) -> Result<Vec<IndexInfo>, Infallible> {
        let of_collection = |index: &&IndexInfo| index.collection() == collection;
        Ok(self.indexes.iter().filter(of_collection).cloned().collect())
    }

    fn statistics(&self, index: &IndexInfo) -> Result<IndexStatistics, Infallible> {
        let mut statistics = IndexStatistics::default();
        if self.tells_statistics {
            let fields = index.fields().len();
            let mut distinct = vec![BTreeSet::new(); fields];
            for (id, stored) in self.documents(index.collection()) {
                for key in keys_of(index, id, stored) {
                    statistics.entries += 1;
                    let mut at = 0;
                    for (seen, field) in distinct.iter_mut().zip(index.fields()) {
                        at += key::element_len(&key[at..], field.descending)
                            .expect("the index made the key");
                        seen.insert(key[..at].to_vec());
                    }
                }
            }
            statistics.distinct = distinct.iter().map(|seen| seen.len() as u64).collect();
        }
        Ok(statistics)
    }

    fn system_names(&self) -> &'static [&'static str] {
        &["dual", "indexes", "system_parameters"]
    }

    fn system(&self, name: &str) -> Result<Option<Vec<Object>>, Infallible> {
        Ok((name == "system_parameters").then(|| {
            self.parameters
                .iter()
                .map(|(name, value)| {
                    Object::from([
                        ("name".to_owned(), name.as_str().into()),
                        ("value".to_owned(), value.clone()),
                    ])
                })
                .collect()
        }))
    }
}

impl Target for Memory {
    fn apply(
        &mut self,
        collection: &CollectionName,
        id: &DocId,
        op: DocumentOp,
    ) -> Result<Outcome, Infallible> {
        self.entries.borrow_mut().clear();
        let documents = self.collections.entry(collection.clone()).or_default();
        let before = documents.get(id).cloned();
        match op {
            DocumentOp::Insert {
                fields,
                kinds,
                conflict,
            } => {
                match (&before, conflict) {
                    (Some(_), InsertConflict::Fail) => return Ok(Outcome::AlreadyExists),
                    (Some(_), InsertConflict::DoNothing) => return Ok(Outcome::Unchanged),
                    _ => {}
                }
                insert(documents.entry(id.clone()).or_default(), fields, &kinds);
            }
            DocumentOp::InsertInitial { fields, kinds } => {
                if before.is_some() {
                    return Ok(Outcome::Unchanged);
                }
                insert(documents.entry(id.clone()).or_default(), fields, &kinds);
            }
            DocumentOp::Update(ops) => {
                if let Some(stored) = documents.get_mut(id) {
                    ops.into_iter().for_each(|op| edit(stored, op));
                }
            }
            DocumentOp::Delete | DocumentOp::Evict => {
                documents.remove(id);
            }
            other => panic!("an operation that the double does not know: {other:?}"),
        }
        let changed = before.map(|stored| stored.fields)
            != documents.get(id).map(|stored| stored.fields.clone());
        Ok(if changed {
            Outcome::Changed
        } else {
            Outcome::Unchanged
        })
    }

    fn generate_id(&mut self) -> DocId {
        self.ids += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.to_be_bytes());
        DocId::generate(NOW_MS, random)
    }

    fn create_index(&mut self, spec: IndexSpec) -> Result<bool, Infallible> {
        let is_free = !self
            .indexes
            .iter()
            .any(|index| index.collection() == &spec.collection && index.name() == spec.name);
        if is_free {
            self.indexes.push(IndexInfo::new(spec));
        }
        Ok(is_free)
    }

    fn drop_index(&mut self, collection: &CollectionName, name: &str) -> Result<bool, Infallible> {
        let before = self.indexes.len();
        self.entries.borrow_mut().clear();
        self.indexes
            .retain(|index| index.collection() != collection || index.name() != name);
        Ok(self.indexes.len() < before)
    }

    fn declare(
        &mut self,
        _collection: &CollectionName,
        _kinds: &[(FieldPath, FieldKind)],
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn call(&mut self, _name: &str, _args: &[Value]) -> Result<Option<Vec<Object>>, Infallible> {
        Ok(None)
    }

    fn set_parameter(&mut self, name: &str, value: Option<Value>) -> Result<(), Infallible> {
        match value {
            Some(value) => self.parameters.insert(name.to_owned(), value),
            None => self.parameters.remove(name),
        };
        Ok(())
    }
}

/// The keys of a document, of which `_id` is a field as any other.
fn keys_of(index: &IndexInfo, id: &DocId, stored: &Stored) -> Vec<Vec<u8>> {
    let mut fields = stored.fields.clone();
    fields.insert("_id".to_owned(), id.as_value().clone());
    index.keys_of(&fields)
}

fn insert(stored: &mut Stored, fields: Object, kinds: &[(FieldPath, FieldKind)]) {
    for (name, value) in fields {
        let path = FieldPath::field(&name);
        let kind = kinds
            .iter()
            .find(|(declared, _)| *declared == path)
            .map(|(_, kind)| *kind);
        edit(stored, FieldOp::Set { path, value, kind });
    }
}

fn edit(stored: &mut Stored, op: FieldOp) {
    match op {
        FieldOp::Set { path, value, kind } => {
            match kind {
                Some(FieldKind::Counter) => stored.counters.insert(path.clone()),
                _ => stored.counters.remove(&path),
            };
            let slot = slot(&mut stored.fields, path.segments());
            match (slot, value, kind) {
                (Value::Object(known), Value::Object(more), None | Some(FieldKind::Map)) => {
                    merge(known, more);
                }
                (slot, value, _) => *slot = value,
            }
        }
        FieldOp::Unset { path } => {
            stored.counters.retain(|counter| !path.contains(counter));
            unset(&mut stored.fields, path.segments());
        }
        FieldOp::Increment { path, by } => {
            let known = stored.counters.contains(&path);
            stored.counters.insert(path.clone());
            let slot = slot(&mut stored.fields, path.segments());
            let base = slot.as_int().filter(|_| known).unwrap_or(0);
            *slot = Value::Int(base + by);
        }
        FieldOp::Restart { path, to } => {
            stored.counters.insert(path.clone());
            *slot(&mut stored.fields, path.segments()) = Value::Int(to);
        }
        other => panic!("an edit that the double does not know: {other:?}"),
    }
}

fn merge(known: &mut Object, more: Object) {
    for (name, value) in more {
        match (known.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            (_, value) => {
                known.insert(name, value);
            }
        }
    }
}

fn slot<'a>(fields: &'a mut Object, path: &[String]) -> &'a mut Value {
    let (first, rest) = path.split_first().expect("a path is never empty");
    let slot = fields.entry(first.clone()).or_insert(Value::Null);
    if rest.is_empty() {
        return slot;
    }
    if !matches!(slot, Value::Object(_)) {
        *slot = Value::Object(Object::new());
    }
    match slot {
        Value::Object(inner) => self::slot(inner, rest),
        _ => unreachable!("made an object above"),
    }
}

fn unset(fields: &mut Object, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            fields.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = fields.get_mut(first) {
                unset(inner, rest);
            }
        }
    }
}

//! What the executor reads from and writes to.

use std::{ops::ControlFlow, sync::Arc};

use idem_model::{CollectionName, DocId, DocumentOp, FieldKind, FieldPath, Object, Value};

use crate::{
    error::QueryError,
    eval::{Env, Row, Slot, eval},
    expr::Expr,
};

/// A consistent view of documents and indexes. Rows are visible fields with `_id` among them.
pub trait Source {
    /// How reading fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One document, if it is there.
    ///
    /// # Errors
    /// What the source reports.
    fn get(
        &self,
        collection: &CollectionName,
        id: &DocId,
        fields: &Fields,
    ) -> Result<Option<Object>, Self::Error>;

    /// All documents in the order of their ids, until `visit` breaks. An unknown collection is empty.
    ///
    /// # Errors
    /// What the source reports.
    fn scan(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// As [`Source::scan`], with each row in place: a source may use the memory of one row for the next.
    /// `visit` leaves the row as it was, or takes it (`std::mem::take`).
    ///
    /// # Errors
    /// What the source reports.
    fn scan_in_place(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        self.scan(collection, fields, &mut |mut row| visit(&mut row))
    }

    /// As [`Source::scan_in_place`], for rows that mostly do not pass: `passes` gets each with at least
    /// the fields that are `tested`, and only of those that pass need `fields` be read. It gets `None`,
    /// and says no, for a row that the source knows not to pass by [`Tested::text`].
    ///
    /// # Errors
    /// What the source reports.
    fn scan_passing(
        &self,
        collection: &CollectionName,
        _tested: Tested<'_>,
        fields: &Fields,
        passes: &mut dyn FnMut(Option<&Object>) -> ControlFlow<(), bool>,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        self.scan_in_place(collection, fields, &mut |row| match passes(Some(row))? {
            true => visit(row),
            false => ControlFlow::Continue(()),
        })
    }

    /// The entries of an index inside `span` in key order, or backwards, until `visit` breaks.
    ///
    /// An index key is `key::encode_optional` of each field, its bytes inverted where the field is
    /// descending, then the key of the document id. `visit` gets the key without that last part.
    /// The executor stops a scan to fetch documents and goes on behind the entry it saw last, so a
    /// span may begin inside the entries of one key.
    ///
    /// # Errors
    /// What the source reports.
    fn scan_index(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

    /// The documents of the entries of an index inside `span`, in the order of the entries, each in
    /// place as in [`Source::scan_in_place`], until `visit` breaks. A document with several entries is
    /// given for each. Without its own way a source scans and fetches by turns.
    ///
    /// # Errors
    /// What the source reports.
    fn scan_index_rows(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        fields: &Fields,
        visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        fetch_by_turns(self, index, span, fields, visit)
    }

    /// How many documents the collection holds.
    ///
    /// # Errors
    /// What the source reports.
    fn count(&self, collection: &CollectionName) -> Result<u64, Self::Error>;

    /// The indexes of a collection that are ready to use. Called once per statement that could use
    /// one, so it must be cheap.
    ///
    /// # Errors
    /// What the source reports.
    fn indexes(&self, collection: &CollectionName) -> Result<Vec<IndexInfo>, Self::Error>;

    /// What is known about the entries of an index, to choose between indexes. Must be cheap.
    ///
    /// # Errors
    /// What the source reports.
    fn statistics(&self, _index: &IndexInfo) -> Result<IndexStatistics, Self::Error> {
        Ok(IndexStatistics::default())
    }

    /// The kinds that were declared for a collection by CREATE COLLECTION, by path. Must be cheap.
    ///
    /// # Errors
    /// What the source reports.
    fn declared(
        &self,
        _collection: &CollectionName,
    ) -> Result<Arc<[(FieldPath, FieldKind)]>, Self::Error> {
        Ok(Arc::default())
    }

    /// The concurrent values of a field, newest first: none where there is no conflict. `None` if the
    /// document has no such field.
    ///
    /// # Errors
    /// What the source reports.
    fn conflicts(
        &self,
        _collection: &CollectionName,
        _id: &DocId,
        _path: &FieldPath,
    ) -> Result<Option<Vec<Value>>, Self::Error> {
        Ok(None)
    }

    /// The version vector of a document: the number of the newest commit by the actor in hexadecimal.
    ///
    /// # Errors
    /// What the source reports.
    fn version(
        &self,
        _collection: &CollectionName,
        _id: &DocId,
    ) -> Result<Option<Object>, Self::Error> {
        Ok(None)
    }

    /// The rows of `system:NAME`; `None` if there is no such collection. `dual` need not be known:
    /// the executor makes its one row. `system_parameters` gives the parameters that differ from
    /// their default as `{"name": .., "value": ..}`; it is what SHOW reads.
    ///
    /// # Errors
    /// What the source reports.
    fn system(&self, name: &str) -> Result<Option<Vec<Object>>, Self::Error>;

    /// The names that [`system`](Self::system) knows, to be named in errors. Default: none.
    fn system_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// DELETE FROM system:NAME: ends what a row of it is about; `false` if such rows stay as they are.
    ///
    /// # Errors
    /// What the source reports.
    fn forget(&self, _name: &str, _row: &Object) -> Result<bool, Self::Error> {
        Ok(false)
    }
}

/// Entries of an index that are read before their documents are fetched; doubles up to the second.
pub(crate) const FETCH_ENTRIES_MIN: usize = 64;
pub(crate) const FETCH_ENTRIES_MAX: usize = 4096;

/// [`Source::scan_index_rows`] for a source that may hold a lock while it scans: fetching happens
/// between index scans and never inside one.
fn fetch_by_turns<S: Source + ?Sized>(
    source: &S,
    index: &IndexInfo,
    span: &KeySpan,
    fields: &Fields,
    visit: &mut dyn FnMut(&mut Object) -> ControlFlow<()>,
) -> Result<(), S::Error> {
    let mut max = FETCH_ENTRIES_MIN;
    let mut rest = Some(span.clone());
    while let Some(span) = rest.take() {
        let mut ids = Vec::new();
        source.scan_index(index, &span, false, &mut |key, id| {
            ids.push(id);
            if ids.len() < max {
                return ControlFlow::Continue(());
            }
            // No key lies between one and the same with a zero behind it.
            let last = ids.last().map_or(Vec::new(), DocId::to_key);
            let from = [key, &last, &[0]].concat();
            let to = span.to.clone();
            rest = Some(KeySpan { from, to });
            ControlFlow::Break(())
        })?;
        max = (max * 2).min(FETCH_ENTRIES_MAX);
        for id in ids {
            if let Some(mut row) = source.get(index.collection(), &id, fields)?
                && visit(&mut row).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A [`Source`] that can be changed. When a statement fails, the caller must discard what it had
/// already changed: a statement happens wholly or not at all.
pub trait Target: Source {
    /// Applies one operation to one document.
    ///
    /// # Errors
    /// What the target reports.
    fn apply(
        &mut self,
        collection: &CollectionName,
        id: &DocId,
        op: DocumentOp,
    ) -> Result<Outcome, Self::Error>;

    /// Says, while a scan visits a row, that the statement will change its document, which a target may
    /// use to keep what it has at hand until [`apply`](Self::apply). No document is changed before the
    /// last one was chosen. Default: does nothing.
    fn will_change(&self) {}

    /// An id for a document that was inserted without one.
    fn generate_id(&mut self) -> DocId;

    /// Makes an index; returns false, and changes nothing, if the collection has one of that name,
    /// ready to use or not. The target may go on making it after the transaction.
    ///
    /// # Errors
    /// What the target reports.
    fn create_index(&mut self, spec: IndexSpec) -> Result<bool, Self::Error>;

    /// Removes an index; returns whether it was there.
    ///
    /// # Errors
    /// What the target reports.
    fn drop_index(&mut self, collection: &CollectionName, name: &str) -> Result<bool, Self::Error>;

    /// CREATE COLLECTION: declares the kinds of paths, on every peer. The paths are not empty.
    ///
    /// # Errors
    /// What the target reports; also when a path is declared as another kind.
    fn declare(
        &mut self,
        collection: &CollectionName,
        kinds: &[(FieldPath, FieldKind)],
    ) -> Result<(), Self::Error>;

    /// EXECUTE FUNCTION: does something to the database and gives rows about it; `None` if there is no
    /// function of this name, which is in lower case.
    ///
    /// # Errors
    /// What the target reports.
    fn call(&mut self, name: &str, args: &[Value]) -> Result<Option<Vec<Object>>, Self::Error>;

    /// The names that [`call`](Self::call) knows, to be named in errors. Default: none.
    fn functions(&self) -> &'static [&'static str] {
        &[]
    }

    /// ALTER SYSTEM: sets a parameter, or its default for `None`. The name is in lower case and the
    /// value was checked against the parameter's type and bounds.
    ///
    /// # Errors
    /// What the target reports.
    fn set_parameter(&mut self, name: &str, value: Option<Value>) -> Result<(), Self::Error>;
}

/// What a statement looks at of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fields {
    /// Everything.
    #[default]
    All,
    /// The fields of these names at its top, and `_id`. A source may give more, and nothing is missed
    /// of what lies under a name. Sorted, each once, without `_id`.
    Named(Box<[String]>),
    /// Everything, read as these kinds besides those that the collection declares. They rise strictly
    /// by path and agree with the collection.
    Typed(Arc<[(FieldPath, FieldKind)]>),
}

impl Fields {
    /// Whether the field of this name at the top of a document is looked at.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All | Self::Typed(_) => true,
            Self::Named(names) => {
                name == "_id"
                    || names
                        .binary_search_by(|known| known.as_str().cmp(name))
                        .is_ok()
            }
        }
    }
}

/// What a scan looks at of a document to tell whether it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tested<'a> {
    /// Names at the top of the document, which rise strictly; `_id` is among them if it is looked at.
    pub names: &'a [String],
    /// One of the names, never `_id`, and a text: a document passes only if it has the text there.
    pub text: Option<(&'a str, &'a str)>,
}

/// What is known about the entries of an index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexStatistics {
    /// How many there are; 0 also where it is not known.
    pub entries: u64,
    /// About how many different values the first field has, the first two together, and so on. Empty
    /// where it is not known.
    pub distinct: Vec<u64>,
}

/// What [`Target::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The document is different now.
    Changed,
    /// Nothing had to change.
    Unchanged,
    /// An INSERT with [`idem_model::InsertConflict::Fail`] found the document; nothing changed.
    AlreadyExists,
}

/// One field of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexField {
    /// What of a document is in the key.
    pub key: IndexKey,
    /// Whether the key bytes are inverted.
    pub descending: bool,
}

/// What of a document a field of an index holds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum IndexKey {
    /// The value of a field.
    Path(FieldPath),
    /// The value of an expression.
    Expression(IndexExpression),
    /// Each different element of the array that an expression gives: a document has an entry for
    /// every one, and one for MISSING where there is none. At most one field of an index is of this
    /// kind.
    Elements(IndexExpression),
}

/// An expression over one document, known by its text. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct IndexExpression {
    inner: Arc<(String, Expr)>,
}

impl IndexExpression {
    pub(crate) fn new(text: String, expr: Expr) -> Self {
        Self {
            inner: Arc::new((text, expr)),
        }
    }

    /// Parses the text that [`text`](Self::text) gave.
    ///
    /// # Errors
    /// [`QueryError`] if the text is not an expression over the fields of one document.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        crate::bind::index_expression(text)
    }

    /// The expression in the form that is the same for the same meaning.
    pub fn text(&self) -> &str {
        &self.inner.0
    }

    pub(crate) fn expr(&self) -> &Expr {
        &self.inner.1
    }

    /// The value on a document; `None` is MISSING.
    fn value(&self, fields: &Object) -> Option<Value> {
        let env = Env::new("", Vec::new(), 0);
        let slots = [Slot::Document(fields)];
        eval(self.expr(), &env, &Row::of(&slots)).get().cloned()
    }
}

impl PartialEq for IndexExpression {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl IndexKey {
    /// What of a document is in the key; of elements the array of all.
    pub(crate) fn value(&self, fields: &Object) -> Option<Value> {
        match self {
            Self::Path(path) => path.find(fields).cloned(),
            Self::Expression(expression) | Self::Elements(expression) => expression.value(fields),
        }
    }

    /// As it is written in CREATE INDEX.
    pub fn text(&self) -> String {
        match self {
            Self::Path(path) => path.to_string(),
            Self::Expression(expression) => expression.text().to_owned(),
            Self::Elements(expression) => format!("DISTINCT {}", expression.text()),
        }
    }
}

/// What CREATE INDEX asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSpec {
    /// Its name, unique in the collection.
    pub name: String,
    /// Whose documents it holds; all of them, also those without the fields.
    pub collection: CollectionName,
    /// At least one field, most significant first.
    pub fields: Vec<IndexField>,
}

/// An index that can be scanned. Cloning is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexInfo {
    spec: Arc<IndexSpec>,
}

impl IndexInfo {
    /// Describes an index.
    pub fn new(spec: IndexSpec) -> Self {
        Self {
            spec: Arc::new(spec),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Whose documents it holds.
    pub fn collection(&self) -> &CollectionName {
        &self.spec.collection
    }

    /// Its fields, most significant first.
    pub fn fields(&self) -> &[IndexField] {
        &self.spec.fields
    }

    /// What of a document its keys are made of.
    pub fn looks_at(&self) -> Fields {
        crate::plan::fields_of_index(self.fields())
    }

    /// What it was made from.
    pub fn spec(&self) -> &IndexSpec {
        &self.spec
    }

    /// The keys of a document in this index, each once, without the document id that the store
    /// appends: one, unless a field holds elements.
    pub fn keys_of(&self, fields: &Object) -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::with_capacity(32)];
        for field in self.fields() {
            match &field.key {
                IndexKey::Path(path) => append(&mut keys, path.find(fields), field.descending),
                IndexKey::Expression(expression) => {
                    append(
                        &mut keys,
                        expression.value(fields).as_ref(),
                        field.descending,
                    );
                }
                IndexKey::Elements(expression) => {
                    let elements = match expression.value(fields) {
                        Some(Value::Array(elements)) if !elements.is_empty() => {
                            elements.into_iter().map(Some).collect()
                        }
                        _ => vec![None],
                    };
                    let mut all = Vec::with_capacity(elements.len());
                    for element in &elements {
                        let mut some = keys.clone();
                        append(&mut some, element.as_ref(), field.descending);
                        all.append(&mut some);
                    }
                    keys = all;
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn append(keys: &mut [Vec<u8>], value: Option<&Value>, descending: bool) {
    for key in keys {
        let start = key.len();
        idem_model::key::encode_optional(value, key);
        if descending {
            key[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

/// A range of index keys by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySpan {
    /// The first key inside.
    pub from: Vec<u8>,
    /// The first key behind the range; `None` is the end of the index.
    pub to: Option<Vec<u8>>,
}

impl KeySpan {
    /// Whether `key` is inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_deref().is_none_or(|to| key < to)
    }
}

//! What the executor reads from and writes to.

use std::{ops::ControlFlow, sync::Arc};

use idem_model::{CollectionName, DocId, DocumentOp, FieldPath, Object, Value};

/// A consistent view of documents and indexes. Rows are visible fields with `_id` among them.
pub trait Source {
    /// How reading fails.
    type Error: std::error::Error + Send + Sync + 'static;

    /// One document, if it is there.
    ///
    /// # Errors
    /// What the source reports.
    fn get(&self, collection: &CollectionName, id: &DocId) -> Result<Option<Object>, Self::Error>;

    /// All documents in the order of their ids, until `visit` breaks. An unknown collection is empty.
    ///
    /// # Errors
    /// What the source reports.
    fn scan(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Self::Error>;

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

    /// The rows of `system:NAME`; `None` if there is no such collection. `dual` need not be known:
    /// the executor makes its one row. `system_parameters` gives the parameters that differ from
    /// their default as `{"name": .., "value": ..}`; it is what SHOW reads.
    ///
    /// # Errors
    /// What the source reports.
    fn system(&self, name: &str) -> Result<Option<Vec<Object>>, Self::Error>;
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

    /// An id for a document that was inserted without one.
    fn generate_id(&mut self) -> DocId;

    /// Makes an index. The executor has checked that its name is free in the collection.
    ///
    /// # Errors
    /// What the target reports.
    fn create_index(&mut self, spec: IndexSpec) -> Result<(), Self::Error>;

    /// Removes an index; returns whether it was there.
    ///
    /// # Errors
    /// What the target reports.
    fn drop_index(&mut self, collection: &CollectionName, name: &str) -> Result<bool, Self::Error>;

    /// ALTER SYSTEM: sets a parameter, or its default for `None`. The name is in lower case and the
    /// value was checked against the parameter's type and bounds.
    ///
    /// # Errors
    /// What the target reports.
    fn set_parameter(&mut self, name: &str, value: Option<Value>) -> Result<(), Self::Error>;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexField {
    /// Where the value is in a document.
    pub path: FieldPath,
    /// Whether the key bytes are inverted.
    pub descending: bool,
}

/// What CREATE INDEX asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    /// Its name, unique in the collection.
    pub name: String,
    /// Whose documents it holds; all of them, also those without the fields.
    pub collection: CollectionName,
    /// At least one field, most significant first.
    pub fields: Vec<IndexField>,
}

/// An index that can be scanned. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// What it was made from.
    pub fn spec(&self) -> &IndexSpec {
        &self.spec
    }

    /// The key of a document in this index, without the document id that the store appends.
    pub fn key_of(&self, fields: &Object) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        for field in self.fields() {
            let start = out.len();
            idem_model::key::encode_optional(field.path.find(fields), &mut out);
            if field.descending {
                out[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        out
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

//! The documents of one transaction.

use idem::{ErrorKind, Object};

use crate::args::OnConflict;

/// Bytes of text after which a batch is stored whatever its number of documents, so that a batch of
/// large documents stays far below the limits of a transaction (256 MiB).
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A document that waits for its commit.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// Its line in the file.
    pub(super) line: u64,
    /// Its fields with `_id`, if the file gives one.
    pub(super) fields: Object,
}

/// Documents that become one commit.
#[derive(Debug, Default)]
pub(super) struct Batch {
    documents: Vec<Pending>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, document: Pending) {
        self.bytes += size(&document.fields);
        self.documents.push(document);
    }

    pub(super) fn is_full(&self, documents_max: usize) -> bool {
        self.documents.len() >= documents_max || self.bytes >= BATCH_BYTES_MAX
    }

    pub(super) fn take(&mut self) -> Vec<Pending> {
        self.bytes = 0;
        std::mem::take(&mut self.documents)
    }
}

fn size(fields: &Object) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

/// About what a value takes in memory; exact enough to bound a batch.
fn value_size(value: &idem::Value) -> usize {
    use idem::Value;
    match value {
        Value::String(text) => 8 + text.len(),
        Value::Binary(bytes) => 8 + bytes.len(),
        Value::Array(items) => 8 + items.iter().map(value_size).sum::<usize>(),
        Value::Object(fields) => 8 + size(fields),
        _ => 8,
    }
}

/// Whether an error may be about a document. Those of the store itself are not: trying the documents
/// one by one would only fail again.
pub(super) fn blames_document(kind: ErrorKind) -> bool {
    !matches!(
        kind,
        ErrorKind::StoreCorrupt
            | ErrorKind::StoreDiskFull
            | ErrorKind::StorePoisoned
            | ErrorKind::StoreBackend
            | ErrorKind::Io
            | ErrorKind::Closed
            | ErrorKind::Internal
    )
}

/// The INSERT that does to one document what a batch does to many.
pub(super) fn insert_statement(collection: &str, conflict: OnConflict) -> String {
    let name = quoted(collection);
    let clause = match conflict {
        OnConflict::Fail => "FAIL",
        OnConflict::Nothing => "DO NOTHING",
        OnConflict::Update => "DO UPDATE",
        OnConflict::UpdateLocalDiff => "DO UPDATE_LOCAL_DIFF",
    };
    format!("INSERT INTO {name} DOCUMENTS (:document) ON ID CONFLICT {clause}")
}

/// A name as DQL takes any name: between backticks, with those inside doubled.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

//! Statements: the cache of parsed ones, and what running one gives.

use idem_model::{DocId, Object};
use idem_query::Warning;

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueryResult {
    /// The rows of a SELECT.
    pub items: Vec<Object>,
    /// The documents that a mutating statement wrote, in the order of writing.
    pub mutated_document_ids: Vec<DocId>,
    /// The local commit, for a mutating statement that changed something outside of a longer
    /// transaction; within one, [`Transaction::commit`](crate::Transaction::commit) gives it.
    pub commit_id: Option<u64>,
    /// What ran but probably not as meant, oversized documents included.
    pub warnings: Vec<Warning>,
}

/// What [`Store::insert_many`](crate::Store::insert_many) did.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Documents that were inserted or changed.
    pub changed: u64,
    /// Documents that were there and stayed as they were.
    pub unchanged: u64,
    /// The local commit, if anything changed.
    pub commit_id: Option<u64>,
    /// Documents over the soft size limit.
    pub warnings: Vec<Warning>,
}

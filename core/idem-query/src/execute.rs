//! Running statements.

use idem_model::{DocId, Object};

use crate::{
    error::{ExecuteError, Warning},
    source::{Source, Target},
    statement::Statement,
};

/// What a statement needs besides its text and the data.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The values of `:name` parameters. More than the statement names are allowed.
    pub args: &'a Object,
    /// Unix time in milliseconds: what `clock()` gives.
    pub now_ms: u64,
}

impl<'a> Context<'a> {
    /// A context with these arguments at this time.
    pub fn new(args: &'a Object, now_ms: u64) -> Self {
        Self { args, now_ms }
    }
}

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueryOutput {
    /// The rows of SELECT, RETURNING, SHOW or EXPLAIN.
    pub items: Vec<Object>,
    /// The documents that a mutating statement wrote, in the order of writing.
    pub mutated_ids: Vec<DocId>,
    /// At most [`idem_model::limits::QUERY_WARNINGS_MAX`].
    pub warnings: Vec<Warning>,
}

/// Runs a statement that only reads.
///
/// # Errors
/// [`ExecuteError::Query`] for a mutating statement, a missing argument or an expression over its
/// bounds; [`ExecuteError::Source`] if reading failed.
pub fn execute<S: Source>(
    _statement: &Statement,
    _context: &Context<'_>,
    _source: &S,
) -> Result<QueryOutput, ExecuteError<S::Error>> {
    unimplemented!()
}

/// Runs any statement.
///
/// # Errors
/// As [`execute`]; also when the data do not allow the change. The caller must then discard what
/// the statement had already applied to `target`.
pub fn execute_mut<T: Target>(
    _statement: &Statement,
    _context: &Context<'_>,
    _target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    unimplemented!()
}

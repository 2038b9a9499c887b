//! Running statements.

use std::{sync::Arc, time::Instant};

use idem_model::{CollectionName, DocId, DocumentOp, InsertConflict, Object, limits};
use idem_query::{
    Context, ErrorKind, Outcome, QueryError, QueryOutput, Statement, Target, Warning, execute,
    execute_mut,
};

use crate::{
    core::Core,
    error::StoreError,
    indexing::{self, Driver},
    work::Work,
};

/// What a statement gave.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueryResult {
    /// The rows of a SELECT.
    pub items: Vec<Object>,
    /// The documents that a mutating statement wrote, in the order of writing.
    pub mutated_document_ids: Vec<DocId>,
    /// The local commit, for a mutating statement that changed a document outside of a longer
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

/// Runs a statement as a transaction of its own.
pub(crate) fn execute_alone(
    core: &Arc<Core>,
    text: &str,
    args: &Object,
) -> Result<QueryResult, StoreError> {
    core.open_transactions.check()?;
    let parsed = core.statements.parse(text)?;
    let started = Instant::now();
    let unix_ms = (core.clock)();
    let result = if parsed.statement.is_mutating() {
        mutate_alone(core, &parsed.statement, args)
    } else {
        Work::read(Arc::clone(core)).and_then(|work| work.run_read(&parsed.statement, args))
    };
    let items = result.as_ref().ok().map(|result| result.items.len());
    let history = &core.history;
    history.record(Arc::clone(&parsed.text), unix_ms, started.elapsed(), items);
    result
}

fn mutate_alone(
    core: &Arc<Core>,
    statement: &Statement,
    args: &Object,
) -> Result<QueryResult, StoreError> {
    let mut work = Work::write(Arc::clone(core))?;
    // No savepoint: a failure discards the transaction whole.
    let output = work.run_changes(statement, args)?;
    let mut result = result_of(output, &mut work);
    let awaited = work.pending.small.awaited.take();
    // Before the commit, so that the thread of the store does not begin with what this one does.
    let awaited = awaited.map(|awaited| (Driver::new(core), awaited));
    result.commit_id = work.commit()?;
    if let Some((driver, awaited)) = awaited {
        indexing::finish(&driver, &awaited, None)?;
    }
    Ok(result)
}

impl Work {
    pub(crate) fn run_read(
        &self,
        statement: &Statement,
        args: &Object,
    ) -> Result<QueryResult, StoreError> {
        let output = execute(statement, &Context::new(args, self.now_ms), self)?;
        Ok(QueryResult {
            items: output.items,
            mutated_document_ids: output.mutated_ids,
            commit_id: None,
            warnings: output.warnings,
        })
    }

    /// Runs a statement of a longer transaction: wholly or not at all.
    pub(crate) fn run_mutation(
        &mut self,
        statement: &Statement,
        args: &Object,
    ) -> Result<QueryResult, StoreError> {
        let savepoint = self.pending.savepoint();
        match self.run_changes(statement, args) {
            Ok(output) => {
                self.pending.release();
                Ok(result_of(output, self))
            }
            Err(error) => {
                self.pending.undo(savepoint);
                Err(error)
            }
        }
    }

    fn run_changes(
        &mut self,
        statement: &Statement,
        args: &Object,
    ) -> Result<QueryOutput, StoreError> {
        let now_ms = self.now_ms;
        Ok(execute_mut(statement, &Context::new(args, now_ms), self)?)
    }
}

fn result_of(output: QueryOutput, work: &mut Work) -> QueryResult {
    let mut warnings = output.warnings;
    let room = limits::QUERY_WARNINGS_MAX.saturating_sub(warnings.len());
    warnings.extend(work.pending.small.warnings.drain(..).take(room));
    QueryResult {
        items: output.items,
        mutated_document_ids: output.mutated_ids,
        commit_id: None,
        warnings,
    }
}

/// Inserts documents as one commit.
pub(crate) fn insert_many(
    core: &Arc<Core>,
    collection: &CollectionName,
    documents: Vec<Object>,
    conflict: InsertConflict,
) -> Result<ImportReport, StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core))?;
    let mut report = ImportReport::default();
    for mut fields in documents {
        let id = match fields.remove("_id") {
            Some(value) => DocId::new(value)
                .map_err(|error| QueryError::new(ErrorKind::ArgumentsInvalid, error.to_string()))?,
            None => work.generate_id(),
        };
        let op = DocumentOp::Insert {
            fields,
            kinds: Vec::new(),
            conflict,
        };
        match work.apply(collection, &id, op)? {
            Outcome::Changed => report.changed += 1,
            Outcome::Unchanged => report.unchanged += 1,
            Outcome::AlreadyExists => {
                let message = format!("document {id} already exists in `{collection}`");
                return Err(QueryError::new(ErrorKind::Execution, message).into());
            }
        }
    }
    let mut warnings = std::mem::take(&mut work.pending.small.warnings);
    warnings.truncate(limits::QUERY_WARNINGS_MAX);
    report.warnings = warnings;
    report.commit_id = work.commit()?;
    Ok(report)
}

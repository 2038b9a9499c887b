//! Running statements.

use std::{cell::RefCell, mem, ops::ControlFlow, sync::Arc, time::Instant};

use idem_model::{CollectionName, DocId, DocumentOp, InsertConflict, Object, limits};
use idem_query::{
    Context, ErrorKind, Outcome, QueryError, QueryOutput, StatementKind, Target, Warning, execute,
    execute_each, execute_mut,
};

use crate::{
    calls,
    core::Core,
    error::StoreError,
    indexing::{self, Driver},
    requests::{Beginning, ExecuteOptions, Request, Running, Summary},
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
    args: Object,
    options: &ExecuteOptions,
) -> Result<QueryResult, StoreError> {
    core.open_transactions.check()?;
    let running = begin(core, text, options)?;
    let result = run_alone(core, running.request(), args);
    running.finish(Summary::of(&result));
    result
}

/// Runs a statement that reads, row by row.
pub(crate) fn stream(
    core: &Arc<Core>,
    text: &str,
    args: &Object,
    options: &ExecuteOptions,
    visit: &mut dyn FnMut(Object) -> bool,
) -> Result<Vec<Warning>, StoreError> {
    core.open_transactions.check()?;
    let running = begin(core, text, options)?;
    let mut items = 0;
    let result = stream_rows(core, running.request(), args, &mut |row| {
        items += 1;
        match visit(row) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    let summary = Summary {
        items,
        changed: 0,
        warnings: result.as_ref().map_or(0, Vec::len),
        error: result.as_ref().err().map(StoreError::code),
    };
    running.finish(summary);
    result
}

fn stream_rows(
    core: &Arc<Core>,
    request: &Request,
    args: &Object,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<Vec<Warning>, StoreError> {
    request.check()?;
    if request.statement().is_mutating() {
        return Err(StoreError::ReadOnly);
    }
    let work = Work::read(Arc::clone(core))?;
    let look = || request.look();
    let clock = || request.nanos();
    let context = Context::new(args, work.now_ms)
        .with_limits(request.limits)
        .with_interrupt(&look)
        .with_clock(&clock, request.parse_nanos());
    Ok(execute_each(request.statement(), &context, &work, visit)?)
}

/// Parses a statement and notes that it runs.
pub(crate) fn begin<'a>(
    core: &'a Core,
    text: &str,
    options: &ExecuteOptions,
) -> Result<Running<'a>, StoreError> {
    let started = Instant::now();
    let unix_ms = (core.clock)();
    match core.parse(text, unix_ms) {
        Ok(parsed) => Ok(core.requests.begin(
            core,
            Beginning {
                parsed,
                options,
                unix_ms,
                started,
            },
        )),
        Err(error) => {
            let error = StoreError::from(error);
            let requests = &core.requests;
            requests.record_unparsed(core, text, unix_ms, started, &error);
            Err(error)
        }
    }
}

fn run_alone(core: &Arc<Core>, request: &Request, args: Object) -> Result<QueryResult, StoreError> {
    request.check()?;
    if !request.statement().is_mutating() {
        return Work::read(Arc::clone(core))?.run_request(request, &args);
    }
    let mut work = match request.statement().kind() {
        // Functions change no documents, and have to work while a writer does not come to its end.
        StatementKind::ExecuteFunction => Work::read(Arc::clone(core))?,
        _ => Work::write(Arc::clone(core), &request.patience)?,
    };
    request.has_turn();
    // No savepoint: a failure discards the transaction whole.
    let output = work.run_changes(request, args)?;
    let mut result = result_of(output, &mut work);
    let awaited = work.pending.small.awaited.take();
    let compacts = mem::take(&mut work.pending.small.compacts);
    // Before the commit, so that the thread of the store does not begin with what this one does.
    let awaited = awaited.map(|awaited| (Driver::new(core), awaited));
    result.commit_id = work.commit()?;
    if let Some((driver, awaited)) = awaited {
        indexing::finish(&driver, &awaited, &request.patience)?;
    }
    if compacts {
        // Not before: the snapshot of this statement would keep the engine from it.
        result.items.insert(0, calls::compact(core)?);
    }
    Ok(result)
}

impl Work {
    pub(crate) fn run_request(
        &self,
        request: &Request,
        args: &Object,
    ) -> Result<QueryResult, StoreError> {
        let look = || request.look();
        let clock = || request.nanos();
        let context = Context::new(args, self.now_ms)
            .with_limits(request.limits)
            .with_interrupt(&look)
            .with_clock(&clock, request.parse_nanos());
        let output = execute(request.statement(), &context, self)?;
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
        request: &Request,
        args: Object,
    ) -> Result<QueryResult, StoreError> {
        let savepoint = self.pending.savepoint();
        match self.run_changes(request, args) {
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
        request: &Request,
        mut args: Object,
    ) -> Result<QueryOutput, StoreError> {
        let look = || request.look();
        let clock = || request.nanos();
        let documents = request.statement().documents_parameter();
        let documents = RefCell::new(documents.and_then(|name| args.get_mut(name).map(mem::take)));
        let context = Context::new(&args, self.now_ms)
            .with_limits(request.limits)
            .with_interrupt(&look)
            .with_clock(&clock, request.parse_nanos())
            .with_documents(&documents);
        let output = execute_mut(request.statement(), &context, self);
        self.kept.clear();
        Ok(output?)
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
    let mut work = Work::write(Arc::clone(core), &core.patience())?;
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
    let mut warnings = mem::take(&mut work.pending.small.warnings);
    warnings.truncate(limits::QUERY_WARNINGS_MAX);
    report.warnings = warnings;
    report.commit_id = work.commit()?;
    Ok(report)
}

//! Running statements.

mod advise;
mod aggregate;
mod change;
mod collect;
mod explain;
mod hold;
mod host;
mod join;
mod kinds;
mod profile;
mod query;
mod rows;
mod sort;
mod strict;
mod system;
mod table;

use std::{cell::RefCell, fmt, ops::ControlFlow};

#[cfg(feature = "__oracle")]
pub(crate) use self::explain::detailed;
pub use self::profile::Clock;
pub(crate) use self::{
    aggregate::counts,
    collect::project,
    profile::{Part, Profile},
    rows::Window,
};

use idem_model::{DocId, Object, Value};

use self::{host::Reader, profile::Finished};
use crate::{
    bound::{Body, FromItem},
    error::{ErrorKind, ExecuteError, QueryError, Warning},
    eval::{Env, Row},
    interrupt::{Gauge, InterruptCheck, StatementLimits},
    source::{Source, Target},
    statement::Statement,
};

/// What a statement needs besides its text and the data.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The values of `:name` parameters. More than the statement names are allowed.
    pub args: &'a Object,
    /// Unix time in milliseconds: what `clock()` gives.
    pub now_ms: u64,
    /// What the run may take.
    pub limits: StatementLimits,
    /// Whether the run is to stop; `None` lets it run to its end.
    pub interrupt: Option<&'a InterruptCheck<'a>>,
    /// What PROFILE measures time with; without it all times are 0.
    pub clock: Option<&'a Clock<'a>>,
    /// Nanoseconds that parsing took, to be shown by PROFILE.
    pub parse_nanos: u64,
    /// The argument of [`Statement::documents_parameter`], to be taken and not copied.
    pub documents: Option<&'a RefCell<Option<Value>>>,
}

impl<'a> Context<'a> {
    /// A context with these arguments at this time, with the default limits.
    pub fn new(args: &'a Object, now_ms: u64) -> Self {
        Self {
            args,
            now_ms,
            limits: StatementLimits::default(),
            interrupt: None,
            clock: None,
            parse_nanos: 0,
            documents: None,
        }
    }

    /// The same context with the argument of [`Statement::documents_parameter`] to be taken from
    /// `documents`. Another value has its place in the arguments meanwhile, which nobody looks at.
    #[must_use]
    pub fn with_documents(mut self, documents: &'a RefCell<Option<Value>>) -> Self {
        self.documents = Some(documents);
        self
    }

    /// The same context with a clock for PROFILE, and how long parsing took by it.
    #[must_use]
    pub fn with_clock(mut self, clock: &'a Clock<'a>, parse_nanos: u64) -> Self {
        self.clock = Some(clock);
        self.parse_nanos = parse_nanos;
        self
    }

    /// The same context with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: StatementLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same context for a run that `check` can stop. A mutating statement then fails like any
    /// other, and the caller discards what it had changed.
    #[must_use]
    pub fn with_interrupt(mut self, check: &'a InterruptCheck<'a>) -> Self {
        self.interrupt = Some(check);
        self
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("args", &self.args)
            .field("now_ms", &self.now_ms)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
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
    statement: &Statement,
    context: &Context<'_>,
    source: &S,
) -> Result<QueryOutput, ExecuteError<S::Error>> {
    let mut items = Vec::new();
    let warnings = execute_each(statement, context, source, &mut |item| {
        items.push(item);
        ControlFlow::Continue(())
    })?;
    Ok(QueryOutput {
        items,
        mutated_ids: Vec::new(),
        warnings,
    })
}

/// Runs a statement that only reads, and gives its rows one by one until `visit` breaks. Returns the
/// warnings.
///
/// Rows are not collected: without ORDER BY, GROUP BY, DISTINCT and joins the memory is that of a few
/// documents, however many there are. A row that was given may be followed by an error.
///
/// # Errors
/// As [`execute`].
pub fn execute_each<S: Source>(
    statement: &Statement,
    context: &Context<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<Vec<Warning>, ExecuteError<S::Error>> {
    if let Body::Explain(inner) = statement.body() {
        // It needs no arguments.
        let plan = explain::plan(inner, statement, source, None)?;
        let _flow = visit(Object::from([("plan".to_owned(), plan)]));
        return Ok(Vec::new());
    }
    let env = environment(statement, context)?;
    match statement.body() {
        Body::Profile(inner) => {
            let profile = Profile::new(context.clock);
            let env = env.with_profile(&profile);
            let mut run = Finished::starts(&profile, context);
            let mut flow = ControlFlow::Continue(());
            each(inner, &env, source, &mut |item| {
                run.rows += 1;
                flow = visit(item);
                flow
            })?;
            env.finish()?;
            if flow.is_continue() {
                let plan = explain::plan(inner, statement, source, Some(&profile))?;
                let _flow = visit(profile.row(inner, plan, &run));
            }
            Ok(env.warnings())
        }
        body => {
            each(body, &env, source, visit)?;
            env.finish()?;
            Ok(env.warnings())
        }
    }
}

fn each<S: Source>(
    body: &Body,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let items = match body {
        Body::Select(query) => {
            let reader = Reader::new(source);
            query::each(query, &Row::default(), env, &reader, visit)?;
            return reader.finish();
        }
        Body::Show { name, span } => system::show(name, *span, env, source)?,
        Body::ShowAll(pattern) => system::show_all(pattern.as_ref(), env, source)?,
        Body::Delete(delete) if delete.collection.is_none() => change::forget(delete, env, source)?,
        Body::Advise { inner, .. } => {
            vec![advise::advise(inner, env.text, source)?.into_row(inner_text(env.text))]
        }
        _ => {
            let error = QueryError::new(
                ErrorKind::Unsupported,
                "a statement that changes data cannot run on a read-only source",
            );
            return Err(error.into());
        }
    };
    let _flow = items.into_iter().try_for_each(visit);
    Ok(())
}

/// Runs any statement.
///
/// # Errors
/// As [`execute`]; also when the data do not allow the change. The caller must then discard what
/// the statement had already applied to `target`.
pub fn execute_mut<T: Target>(
    statement: &Statement,
    context: &Context<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    if !statement.is_mutating() {
        return execute(statement, context, target);
    }
    let env = environment(statement, context)?;
    let Body::Profile(inner) = statement.body() else {
        return change(statement.body(), &env, target);
    };
    let profile = Profile::new(context.clock);
    let env = env.with_profile(&profile);
    let mut run = Finished::starts(&profile, context);
    let mut output = change(inner, &env, target)?;
    run.rows = output.items.len() as u64;
    let plan = explain::plan(inner, statement, target, Some(&profile))?;
    output.items.push(profile.row(inner, plan, &run));
    Ok(output)
}

fn change<T: Target>(
    body: &Body,
    env: &Env<'_>,
    target: &mut T,
) -> Result<QueryOutput, ExecuteError<T::Error>> {
    let mut output = match body {
        Body::Insert(insert) => change::insert(insert, env, target)?,
        Body::Update(update) => change::update(update, env, target)?,
        Body::Delete(delete) => change::delete(delete, env, target)?,
        Body::Call { name, args, span } => system::call(name, args, *span, env, target)?,
        Body::Advise { inner, .. } => {
            let mut advice = advise::advise(inner, env.text, target)?;
            advice.provision(target)?;
            QueryOutput {
                items: vec![advice.into_row(inner_text(env.text))],
                ..QueryOutput::default()
            }
        }
        body => {
            system::change(body, env, target)?;
            QueryOutput::default()
        }
    };
    env.finish()?;
    output.warnings = env.warnings();
    Ok(output)
}

/// Calls `visit` with every document of a query's only source that passes the source's filter.
pub(crate) fn each_document<S: Source>(
    item: &FromItem,
    env: &Env<'_>,
    source: &S,
    visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
) -> Result<(), ExecuteError<S::Error>> {
    let path = rows::Path::choose(item, env.text, source)?;
    rows::each(item, &path, &Row::default(), env, source, &mut |document| {
        visit(std::mem::take(document))
    })
}

fn environment<'a>(statement: &'a Statement, context: &Context<'a>) -> Result<Env<'a>, QueryError> {
    let args = statement.arguments(context.args)?;
    let gauge = Gauge::new(context.limits, context.interrupt);
    let mut env = Env::new(statement.text(), args, context.now_ms).with_gauge(gauge);
    if let Some(name) = statement.documents_parameter() {
        // It is not among the arguments, where it would have been checked.
        let is_finite = |cell: &RefCell<Option<Value>>| {
            let documents = cell.borrow();
            documents.as_ref().is_none_or(Value::is_finite)
        };
        if !context.documents.is_none_or(is_finite) {
            let message = crate::statement::not_finite(name);
            return Err(QueryError::new(ErrorKind::ArgumentsInvalid, message));
        }
        env = env.with_documents(context.documents);
    }
    env.warn_of(statement.warnings());
    Ok(env)
}

/// The statement that ADVISE is about.
fn inner_text(text: &str) -> &str {
    let mut rest = text.trim_start();
    for word in ["ADVISE", "AND", "PROVISION"] {
        match rest.get(..word.len()) {
            Some(first) if first.eq_ignore_ascii_case(word) => {
                rest = rest[word.len()..].trim_start();
            }
            _ => break,
        }
    }
    rest
}

//! A second evaluator of queries, slow and plain, to compare the planned execution with.
//!
//! It shares the binder and the evaluation of expressions with the executor and nothing else: the
//! statement is bound without what the planner does to it, sources are joined by nested loops in the
//! order in which they are written, groups and equal rows are found by looking at all of them, rows
//! are sorted whole, and subqueries run again for every row.

mod rows;
mod values;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use idem_model::{DocId, Object, Value};

use self::rows::Sorted;
use crate::{
    ast,
    bind::Directives,
    bound::Body,
    error::{ErrorKind, ExecuteError, QueryError, Warning},
    eval::{Env, Row},
    execute::{Context, Window, detailed},
    parser::parse_statement,
    source::Source,
    statement::{parse, parse_for},
};

/// What a query may give: rows in places that are fixed by ORDER BY, or in any order.
#[derive(Debug, Clone, PartialEq)]
pub struct NaiveOutput {
    /// All rows before OFFSET and LIMIT. Those of one group sort equally and may stand in any order;
    /// without ORDER BY there is one group.
    pub groups: Vec<Vec<Object>>,
    /// Rows to leave out at the start.
    pub offset: usize,
    /// Rows to give at most.
    pub limit: usize,
    /// What was legal and probably not meant.
    pub warnings: Vec<Warning>,
}

/// Why there is no [`NaiveOutput`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NaiveError<E: std::error::Error + Send + Sync + 'static> {
    /// The statement would look at more rows than it may.
    #[error("the statement is too large to be evaluated naively")]
    TooLarge,
    /// The statement fails.
    #[error("the statement fails")]
    Failed(#[from] ExecuteError<E>),
}

/// Runs a SELECT, or finds the `_id` of each document that an UPDATE, DELETE or EVICT is about. It
/// looks at `steps_max` rows and pairs of rows at most.
///
/// # Errors
/// [`NaiveError`], also for other statements.
pub fn evaluate_naively<S: Source>(
    text: &str,
    context: &Context<'_>,
    source: &S,
    steps_max: usize,
) -> Result<NaiveOutput, NaiveError<S::Error>> {
    let failed = |error: QueryError| NaiveError::Failed(error.into());
    let statement = parse_for(text, &Directives::default(), false).map_err(failed)?;
    let args = statement.arguments(context.args).map_err(failed)?;
    let env = Env::new(statement.text(), args, context.now_ms);
    env.warn_of(statement.warnings());
    let naive = Naive {
        source,
        env: &env,
        steps: Cell::new(steps_max),
        error: RefCell::new(None),
    };
    let result = match statement.body() {
        Body::Select(query) => naive.query(query, &Row::default()),
        Body::Update(update) => naive.targets(&update.scan),
        Body::Delete(delete) => naive.targets(&delete.scan),
        _ => Err(unsupported().into()),
    };
    let stopped = naive.steps.get() == 0;
    let kept = naive.error.take();
    if stopped {
        return Err(NaiveError::TooLarge);
    }
    if let Some(error) = kept {
        return Err(error.into());
    }
    let sorted = result?;
    env.finish().map_err(failed)?;
    Ok(sorted.into_output(env.warnings()))
}

/// A statement as the parser understood it, as text that means the same.
///
/// # Errors
/// [`QueryError`] if the text is not a statement.
pub fn printed_again(text: &str) -> Result<String, QueryError> {
    let parsed = parse_statement(text)?;
    Ok(ast::print::statement(&parsed.statement))
}

/// The plan of a statement as EXPLAIN gives it, but every method of joining has a name of its own.
///
/// # Errors
/// As EXPLAIN.
pub fn detailed_plan<S: Source>(text: &str, source: &S) -> Result<Value, ExecuteError<S::Error>> {
    detailed(&parse(text)?, source)
}

/// The operators in a plan, each with what makes it a way of its own: what its scan does besides, and
/// the kind of its join.
pub fn operators_of(plan: &Value) -> BTreeSet<String> {
    let mut operators = BTreeSet::new();
    add_operators(plan, "", &mut operators);
    operators
}

fn add_operators(node: &Value, above: &str, operators: &mut BTreeSet<String>) {
    let Some(fields) = node.as_object() else {
        return;
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let operator = text("#operator").unwrap_or_default();
    let desc = fields.get("desc").and_then(Value::as_object);
    let order = desc.and_then(|desc| desc.get("order"));
    let mut name = operator.to_owned();
    let mut add = |applies: bool, word: &str| {
        if applies {
            name.push(' ');
            name.push_str(word);
        }
    };
    add(operator == "countScan" && desc.is_some(), "of index");
    add(fields.contains_key("covering"), "covering");
    add(order.is_some(), "ordered");
    add(
        operator == "indexScan" && fields.contains_key("limit"),
        "end",
    );
    add(operator == "indexScan" && above.ends_with("Scan"), "inside");
    add(text("kind").is_some(), text("kind").unwrap_or_default());
    let correlated = fields.get("correlated") == Some(&Value::Bool(true));
    add(correlated, "correlated");
    operators.insert(name);
    let children = fields.get("children").and_then(Value::as_array);
    for child in children.unwrap_or_default() {
        add_operators(child, operator, operators);
    }
}

fn unsupported() -> QueryError {
    QueryError::new(ErrorKind::Unsupported, "this statement has no naive twin")
}

type Outcome<T, E> = Result<T, ExecuteError<E>>;

struct Naive<'n, S: Source> {
    source: &'n S,
    env: &'n Env<'n>,
    /// Rows and pairs that may still be looked at.
    steps: Cell<usize>,
    /// The first error inside of an expression.
    error: RefCell<Option<ExecuteError<S::Error>>>,
}

impl<S: Source> Naive<'_, S> {
    /// Begins a row; `false` if the run has to end.
    fn step(&self) -> bool {
        self.env.next_row();
        let left = self.steps.get().saturating_sub(1);
        self.steps.set(left);
        left > 0 && self.error.borrow().is_none()
    }

    fn fail(&self, error: ExecuteError<S::Error>) {
        self.error.borrow_mut().get_or_insert(error);
    }
}

impl Sorted {
    fn into_output(self, warnings: Vec<Warning>) -> NaiveOutput {
        let Window { offset, limit } = self.window;
        let mut groups: Vec<Vec<Object>> = Vec::new();
        let mut before: Option<Vec<Option<Value>>> = None;
        for (keys, row) in self.rows {
            match groups.last_mut() {
                Some(group)
                    if before
                        .as_ref()
                        .is_some_and(|one| self.order.same(one, &keys)) =>
                {
                    group.push(row);
                }
                _ => groups.push(vec![row]),
            }
            before = Some(keys);
        }
        NaiveOutput {
            groups,
            offset,
            limit,
            warnings,
        }
    }
}

/// The id of a document.
fn id_of(fields: &Object) -> Option<DocId> {
    DocId::new(fields.get("_id")?.clone()).ok()
}

/// Whether two values, either of which may be MISSING, are one to GROUP BY and DISTINCT.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.kind() == b.kind() && a.compare(b).is_eq(),
        (None, None) => true,
        _ => false,
    }
}

//! Results that follow the data, a changed document at a time.
//!
//! A [`LiveQuery`] holds the result of a SELECT. [`LiveQuery::load`] runs it once; from then on
//! [`LiveQuery::apply`] takes what a commit did to a document and says whether the result is
//! different. Filters, projections, ORDER BY with LIMIT, and groups of COUNT, SUM, AVG, MIN and MAX
//! follow without reading anything; every other statement asks to be loaded again whenever a document
//! changes that it reads.
//!
//! The result is the one that running the statement gives, with one freedom that the language leaves:
//! rows that sort equally, and rows without ORDER BY, come in the order of their ids.

mod groups;
mod interests;
mod table;

use std::collections::BTreeSet;

use idem_model::{CollectionName, Object, Value, key, limits};

pub use self::interests::Interests;
use self::{groups::Groups, table::Table};
use crate::{
    bound::{Body, FromItem, Items, Place, Query, Select},
    error::{ExecuteError, QueryError, Warning},
    eval::{Env, Row, Slot, eval, holds, weight},
    execute::{Context, QueryOutput, Window, each_document, execute},
    expr::Expr,
    interrupt::Gauge,
    plan::canonical,
    source::Source,
    statement::Statement,
};

/// A SELECT with its arguments, whose result is kept up to date: loaded once, it follows changes.
#[derive(Debug)]
pub struct LiveQuery {
    statement: Statement,
    args: Object,
    state: State,
    warnings: Vec<Warning>,
}

/// What is kept of the result.
#[derive(Debug)]
enum State {
    /// Nothing: it was not loaded yet, or a change cannot be followed.
    Unloaded,
    /// The whole result, which no change is followed into, until it is given out.
    Whole(Vec<Object>),
    Rows(Follower<Table>),
    Groups(Follower<Groups>),
}

/// What is followed, with what decides which documents count.
#[derive(Debug)]
struct Follower<T> {
    /// The ids that the condition names, as keys.
    ids: Option<BTreeSet<Vec<u8>>>,
    window: Window,
    kept: T,
}

/// What a commit did to one document. The images hold all visible fields with
/// `_id`; `None` where the document is not there.
#[derive(Debug, Clone, Copy)]
pub struct DocumentChange<'a> {
    /// The collection of the document.
    pub collection: &'a CollectionName,
    /// As it was.
    pub before: Option<&'a Object>,
    /// As it is.
    pub after: Option<&'a Object>,
}

/// What a change does to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It stays as it was.
    Nothing,
    /// It may be different; [`LiveQuery::output`] gives it.
    Changed,
    /// It is not known any more: it must be loaded again.
    Reload,
}

impl LiveQuery {
    /// A query that was not loaded yet.
    ///
    /// # Errors
    /// [`QueryError`] if the statement is no SELECT or an argument is missing.
    pub fn new(statement: Statement, args: Object) -> Result<Self, QueryError> {
        statement.observable()?;
        statement.arguments(&args)?;
        Ok(Self {
            statement,
            args,
            state: State::Unloaded,
            warnings: Vec::new(),
        })
    }

    /// The statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Its arguments.
    pub fn args(&self) -> &Object {
        &self.args
    }

    /// Whether changes are followed, now that it is loaded. A statement whose shape would allow it is
    /// not followed while its result takes more than [`limits::LIVE_RESULT_BYTES_MAX`].
    pub fn is_incremental(&self) -> bool {
        matches!(self.state, State::Rows(_) | State::Groups(_))
    }

    /// Runs the query on a source. `context` gives the time; its arguments are ignored in favour of
    /// those of the query.
    ///
    /// # Errors
    /// As [`execute`]. The query is then not loaded.
    pub fn load<S: Source>(
        &mut self,
        context: &Context<'_>,
        source: &S,
    ) -> Result<(), ExecuteError<S::Error>> {
        self.state = State::Unloaded;
        self.warnings.clear();
        let context = Context {
            args: &self.args,
            ..*context
        };
        if let Some((query, branch, item)) = followable(&self.statement) {
            let env = Env::new(
                self.statement.text(),
                self.statement.arguments(&self.args)?,
                context.now_ms,
            )
            .with_gauge(Gauge::new(context.limits, context.interrupt));
            let state = load(query, branch, item, &env, source)?;
            env.finish()?;
            self.warnings = env.warnings();
            if let Some(state) = state {
                self.state = state;
                return Ok(());
            }
        }
        let output = execute(&self.statement, &context, source)?;
        self.warnings = output.warnings;
        self.state = State::Whole(output.items);
        Ok(())
    }

    /// Takes a change that was made after the load, in the order of the commits.
    pub fn apply(&mut self, change: DocumentChange<'_>, now_ms: u64) -> Effect {
        if !self.statement.collections().contains(change.collection) {
            return Effect::Nothing;
        }
        let Some((query, branch, item)) = followable(&self.statement) else {
            return self.forget();
        };
        let Ok(args) = self.statement.arguments(&self.args) else {
            return Effect::Nothing;
        };
        let env = Env::new(self.statement.text(), args, now_ms);
        let effect = match &mut self.state {
            State::Unloaded => return Effect::Reload,
            State::Whole(_) => Effect::Reload,
            State::Rows(rows) => {
                let [before, after] = [change.before, change.after]
                    .map(|image| rows.passing(image, branch, item, &env));
                rows.kept.change(before, after, query, rows.window, &env)
            }
            State::Groups(groups) => {
                let [before, after] = [change.before, change.after]
                    .map(|image| groups.passing(image, branch, item, &env));
                groups.kept.change(before, after, branch, &env)
            }
        };
        match (effect, env.finish()) {
            (Effect::Reload, _) | (_, Err(_)) => self.forget(),
            (effect, Ok(())) => effect,
        }
    }

    /// Drops what is kept of the result, so that it must be loaded again.
    pub fn forget(&mut self) -> Effect {
        self.state = State::Unloaded;
        Effect::Reload
    }

    /// The result; `None` if it must be loaded first. The result of a query that does not follow changes
    /// is not kept: it is given once for a load.
    pub fn output(&mut self, now_ms: u64) -> Option<QueryOutput> {
        let items = match &mut self.state {
            State::Unloaded => return None,
            State::Whole(items) => {
                let items = std::mem::take(items);
                self.state = State::Unloaded;
                items
            }
            State::Rows(rows) => rows.kept.shown(rows.window),
            State::Groups(groups) => {
                let (query, branch, _) = followable(&self.statement)?;
                let args = self.statement.arguments(&self.args).ok()?;
                let env = Env::new(self.statement.text(), args, now_ms);
                let items = groups.kept.shown(query, branch, groups.window, &env);
                env.finish().ok()?;
                items
            }
        };
        Some(QueryOutput {
            items,
            warnings: self.warnings.clone(),
            ..QueryOutput::default()
        })
    }
}

/// The parts of a statement whose result can follow changes: one stored collection, and nothing that
/// reads more than the document.
fn followable(statement: &Statement) -> Option<(&Query, &Select, &FromItem)> {
    let Body::Select(query) = statement.body() else {
        return None;
    };
    let [branch] = query.branches.as_slice() else {
        return None;
    };
    let [item] = branch.from.as_slice() else {
        return None;
    };
    let is_followed = matches!(item.place, Place::Stored(_))
        && item.kinds.is_empty()
        && !branch.distinct
        && groups::can_follow(branch.output.grouping.as_ref())
        && exprs(query, branch, item).all(follows_from_the_document);
    is_followed.then_some((query, branch, item))
}

/// All expressions of a query over one source.
fn exprs<'q>(
    query: &'q Query,
    branch: &'q Select,
    item: &'q FromItem,
) -> impl Iterator<Item = &'q Expr> {
    let items = match &branch.output.items {
        Items::All => &[][..],
        Items::Each(items) => items,
    };
    let grouping = branch.output.grouping.iter().flat_map(|grouping| {
        let arguments = grouping.aggregates.iter();
        let arguments = arguments.filter_map(|aggregate| aggregate.argument.as_ref());
        grouping.keys.iter().chain(arguments)
    });
    [
        &item.filter,
        &item.access.ids,
        &branch.filter,
        &branch.having,
    ]
    .into_iter()
    .flatten()
    .chain(items.iter().map(crate::bound::Item::expr))
    .chain(query.window.order.iter().map(|order| &order.key))
    .chain(grouping)
}

fn follows_from_the_document(expr: &Expr) -> bool {
    let follows = match expr {
        Expr::Subquery(..) | Expr::Conflicts(..) | Expr::Version(_) => false,
        Expr::Call(function, ..) => !function.varies,
        _ => true,
    };
    let mut all = follows;
    expr.each_child(&mut |child, _| all = all && follows_from_the_document(child));
    all
}

/// Runs a query that can be followed; `None` if its result is too large to be kept.
fn load<S: Source>(
    query: &Query,
    branch: &Select,
    item: &FromItem,
    env: &Env<'_>,
    source: &S,
) -> Result<Option<State>, ExecuteError<S::Error>> {
    let window = Window::new(&query.window, env)?;
    let ids = item.access.ids.as_ref().map(|ids| id_keys(ids, env));
    let mut table = Table::new(query, window);
    let mut groups = branch.output.grouping.as_ref().map(|_| Groups::default());
    let mut is_small = true;
    each_document(item, env, source, &mut |document: Object| {
        let slots = [Slot::Document(&document)];
        let row = Row::of(&slots);
        if branch
            .filter
            .as_ref()
            .is_none_or(|filter| holds(filter, env, &row))
        {
            is_small = match &mut groups {
                Some(groups) => groups.add(&document, branch, env),
                None => table.add(&document, query, env),
            };
        }
        match is_small {
            true => std::ops::ControlFlow::Continue(()),
            false => std::ops::ControlFlow::Break(()),
        }
    })?;
    Ok(is_small.then_some(match groups {
        Some(kept) => State::Groups(Follower { ids, window, kept }),
        None => State::Rows(Follower {
            ids,
            window,
            kept: table,
        }),
    }))
}

impl<T> Follower<T> {
    /// The image, if the query's condition holds for it.
    fn passing<'i>(
        &self,
        image: Option<&'i Object>,
        branch: &Select,
        item: &FromItem,
        env: &Env<'_>,
    ) -> Option<&'i Object> {
        let image = image?;
        if let Some(ids) = &self.ids
            && !image.get("_id").is_some_and(|id| ids.contains(&key_of(id)))
        {
            return None;
        }
        env.next_row();
        let slots = [Slot::Document(image)];
        let row = Row::of(&slots);
        [&item.filter, &branch.filter]
            .into_iter()
            .flatten()
            .all(|filter| holds(filter, env, &row))
            .then_some(image)
    }
}

fn id_keys(ids: &Expr, env: &Env<'_>) -> BTreeSet<Vec<u8>> {
    match eval(ids, env, &Row::default()).get() {
        Some(Value::Array(items)) => items.iter().map(key_of).collect(),
        _ => BTreeSet::new(),
    }
}

/// A value so that equal ones are the same bytes, in the order of values.
fn key_of(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(&canonical(value.clone()), &mut out);
    out
}

/// Appends a sort key.
fn append_key(value: Option<Value>, descending: bool, out: &mut Vec<u8>) {
    let start = out.len();
    key::encode_optional(value.map(canonical).as_ref(), out);
    if descending {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Bytes of memory, about, of a row that is kept.
fn row_weight(key: &[u8], item: &Object) -> usize {
    const NODE: usize = 64;
    let fields = item.iter();
    NODE + key.len()
        + fields
            .map(|(name, value)| name.len() + weight(value))
            .sum::<usize>()
}

/// Whether so much may be kept.
fn fits(bytes: usize) -> bool {
    bytes <= limits::LIVE_RESULT_BYTES_MAX
}

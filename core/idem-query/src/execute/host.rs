//! What is shared by all parts of one run: the source, the answers of subqueries, and the first error
//! inside of an expression.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::ControlFlow,
    rc::Rc,
};

use idem_model::{CollectionName, DocId, FieldPath, Object, Value, limits};

use super::{
    hold::Holding,
    join::Plan,
    query,
    table::{self, Table},
};
use crate::{
    bound::{FromItem, Item, Items, Place, Query, Select},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Found, Host, Row, equal, weight},
    expr::SubqueryKind,
    source::Source,
    span::{Site, Span},
};

/// Reads the source for one run of a statement.
pub(super) struct Reader<'s, S: Source> {
    pub(super) source: &'s S,
    error: RefCell<Option<ExecuteError<S::Error>>>,
    /// How each branch finds its rows. The address of a part of a statement is its name: a statement
    /// does not move while it runs.
    plans: RefCell<BTreeMap<usize, Rc<Plan>>>,
    /// What subqueries gave that use nothing around them, as a value and as a set.
    answers: RefCell<BTreeMap<(usize, bool), Rc<Answer>>>,
    /// How deep the subqueries are that run.
    levels: Cell<usize>,
}

/// What a subquery gave.
enum Answer {
    Value(Option<Value>),
    /// The values other than null, and whether null is there too.
    Set(Table, bool),
}

impl<'s, S: Source> Reader<'s, S> {
    pub(super) fn new(source: &'s S) -> Self {
        Self {
            source,
            error: RefCell::new(None),
            plans: RefCell::default(),
            answers: RefCell::default(),
            levels: Cell::new(0),
        }
    }

    /// The first error that expressions ran into.
    pub(super) fn finish(&self) -> Result<(), ExecuteError<S::Error>> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Keeps an error until the run ends, and ends it.
    pub(super) fn fail(&self, error: ExecuteError<S::Error>, env: &Env<'_>) {
        env.fail();
        self.error.borrow_mut().get_or_insert(error);
    }

    /// How a branch finds its rows, decided once.
    pub(super) fn plan(
        &self,
        branch: &Select,
        make: impl FnOnce() -> Result<Plan, ExecuteError<S::Error>>,
    ) -> Result<Rc<Plan>, ExecuteError<S::Error>> {
        let name = std::ptr::from_ref(branch).addr();
        if let Some(known) = self.plans.borrow().get(&name) {
            return Ok(Rc::clone(known));
        }
        let made = Rc::new(make()?);
        self.plans.borrow_mut().insert(name, Rc::clone(&made));
        Ok(made)
    }

    /// Runs a subquery, one level deeper; an error is kept.
    fn run(
        &self,
        query: &Query,
        env: &Env<'_>,
        row: &Row<'_>,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) {
        let level = self.levels.get();
        if level >= limits::SUBQUERY_LEVELS_MAX {
            let limit = limits::SUBQUERY_LEVELS_MAX;
            let message = format!("subqueries are nested more than {limit} levels deep");
            self.fail(QueryError::new(ErrorKind::Execution, message).into(), env);
            return;
        }
        self.levels.set(level + 1);
        // The rows of the subquery have budgets of their own.
        let (budget, rows) = (env.budget(), env.rows());
        let result = query::each(query, row, env, self, visit);
        env.set_budget(budget);
        env.set_rows(rows);
        self.levels.set(level);
        if let Err(error) = result {
            self.fail(error, env);
        }
    }

    fn answer(
        &self,
        query: &Query,
        is_set: bool,
        env: &Env<'_>,
        make: impl FnOnce() -> Answer,
    ) -> Rc<Answer> {
        let name = (std::ptr::from_ref(query).addr(), is_set);
        if let Some(known) = self.answers.borrow().get(&name) {
            return Rc::clone(known);
        }
        let made = Rc::new(make());
        if let Answer::Value(Some(value)) = &*made {
            // It is kept until the run ends, so it is never given back; a set was counted as it grew.
            env.charge("a subquery", weight(value));
        }
        if !env.interrupted() {
            self.answers.borrow_mut().insert(name, Rc::clone(&made));
        }
        made
    }

    fn value(
        &self,
        kind: SubqueryKind,
        query: &Query,
        span: Span,
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> Option<Value> {
        let mut held = Holding::new(env, "a subquery");
        let mut values = Vec::new();
        let mut rows = 0;
        self.run(query, env, row, &mut |item| {
            rows += 1;
            match kind {
                SubqueryKind::Exists => return ControlFlow::Break(()),
                SubqueryKind::Scalar if rows > 1 => return ControlFlow::Break(()),
                SubqueryKind::Scalar | SubqueryKind::Values => {}
            }
            let Some(value) = column(query, item) else {
                return ControlFlow::Continue(());
            };
            let goes_on = held.add(weight(&value));
            values.push(value);
            match goes_on {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match kind {
            SubqueryKind::Exists => Some(Value::Bool(rows > 0)),
            SubqueryKind::Values => Some(Value::Array(values)),
            SubqueryKind::Scalar if rows > 1 => {
                let message = "a subquery that stands for one value gave more than one row";
                let error = QueryError::new(ErrorKind::Execution, message)
                    .at(span.position(env.text))
                    .with_hint("LIMIT 1 takes the first row; IN and EXISTS take any number");
                self.fail(error.into(), env);
                None
            }
            SubqueryKind::Scalar => values.pop(),
        }
    }

    fn set(&self, query: &Query, env: &Env<'_>, row: &Row<'_>) -> Answer {
        let mut table = Table::default();
        let mut null = false;
        let mut form = Vec::new();
        self.run(query, env, row, &mut |item| {
            match column(query, item) {
                None => {}
                Some(Value::Null) => null = true,
                Some(value) => {
                    form.clear();
                    table::encode(Some(&value), &mut form);
                    // It is kept until the run ends, so it is never given back.
                    if table.insert(&form).1 && !env.charge("a subquery", Table::bytes_of(&form)) {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        Answer::Set(table, null)
    }
}

/// What a subquery makes of a row: the value of its only column, else the row.
fn column(query: &Query, item: Object) -> Option<Value> {
    let has_one = query
        .branches
        .iter()
        .all(|branch| match &branch.output.items {
            Items::Each(items) => matches!(items.as_slice(), [Item::Value(..)]),
            Items::All => false,
        });
    match has_one {
        true => item.into_values().next(),
        false => Some(Value::Object(item)),
    }
}

/// What the slots of a scope are about.
pub(super) enum Places<'b> {
    From(&'b [FromItem]),
    /// Slot 0 holds documents of this collection.
    Collection(&'b CollectionName),
}

/// The host of the rows of one branch: it knows which collections their slots belong to.
pub(super) struct Scope<'b, S: Source> {
    pub(super) reader: &'b Reader<'b, S>,
    pub(super) places: Places<'b>,
    /// The first slot of the branch.
    pub(super) first: usize,
    /// The host of the slots before.
    pub(super) outer: Option<&'b dyn Host>,
}

impl<'b, S: Source> Scope<'b, S> {
    /// The scope of a statement that changes a collection.
    pub(super) fn of(reader: &'b Reader<'b, S>, collection: &'b CollectionName) -> Self {
        Self {
            reader,
            places: Places::Collection(collection),
            first: 0,
            outer: None,
        }
    }

    /// A row without slots.
    pub(super) fn row(&self) -> Row<'_> {
        Row {
            host: Some(self),
            ..Row::default()
        }
    }

    fn collection(&self, slot: usize) -> Option<&CollectionName> {
        match &self.places {
            Places::Collection(name) => (slot == 0).then_some(*name),
            Places::From(items) => match &items.get(slot.checked_sub(self.first)?)?.place {
                Place::Stored(name) => Some(name),
                _ => None,
            },
        }
    }
}

fn id_of(slot: usize, row: &Row<'_>) -> Option<DocId> {
    DocId::new(row.document(slot)?.get("_id")?.clone()).ok()
}

impl<S: Source> Host for Scope<'_, S> {
    fn subquery(
        &self,
        kind: SubqueryKind,
        query: &Query,
        site: Site,
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> Option<Value> {
        if query.is_correlated {
            return self.reader.value(kind, query, site.0, env, row);
        }
        let answer = self.reader.answer(query, false, env, || {
            Answer::Value(self.reader.value(kind, query, site.0, env, row))
        });
        match &*answer {
            Answer::Value(value) => value.clone(),
            Answer::Set(..) => None,
        }
    }

    fn find(&self, wanted: &Value, query: &Query, env: &Env<'_>, row: &Row<'_>) -> Found {
        let mut found = Found::default();
        if query.is_correlated {
            self.reader.run(query, env, row, &mut |item| {
                match column(query, item) {
                    Some(Value::Null) => found.null = true,
                    Some(value) => found.equal = equal(&value, wanted),
                    None => {}
                }
                match found.equal {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            return found;
        }
        let answer = self
            .reader
            .answer(query, true, env, || self.reader.set(query, env, row));
        if let Answer::Set(table, null) = &*answer {
            let mut form = Vec::new();
            table::encode(Some(wanted), &mut form);
            found.equal = !matches!(wanted, Value::Null) && table.find(&form).is_some();
            found.null = *null;
        }
        found
    }

    fn conflicts(
        &self,
        slot: usize,
        path: &FieldPath,
        env: &Env<'_>,
        row: &Row<'_>,
    ) -> Option<Value> {
        if slot < self.first {
            return self.outer?.conflicts(slot, path, env, row);
        }
        let id = id_of(slot, row)?;
        match self
            .reader
            .source
            .conflicts(self.collection(slot)?, &id, path)
        {
            Ok(values) => values.map(Value::Array),
            Err(error) => {
                self.reader.fail(ExecuteError::Source(error), env);
                None
            }
        }
    }

    fn version(&self, slot: usize, env: &Env<'_>, row: &Row<'_>) -> Option<Value> {
        if slot < self.first {
            return self.outer?.version(slot, env, row);
        }
        let id = id_of(slot, row)?;
        match self.reader.source.version(self.collection(slot)?, &id) {
            Ok(version) => version.map(Value::Object),
            Err(error) => {
                self.reader.fail(ExecuteError::Source(error), env);
                None
            }
        }
    }
}

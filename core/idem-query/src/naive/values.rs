//! Aggregates over the values of a group, and what subqueries are in an expression.

use std::cmp::Ordering;

use idem_model::{FieldPath, Object, Value, key};

use super::{Naive, id_of, rows::Given, same};
use crate::{
    bound::{Aggregate, AggregateKind, FromItem, Item, Items, Place, Query},
    error::{ErrorKind, ExecuteError, QueryError},
    eval::{Env, Found, Host, Row, equal, eval},
    exact::{ExactSum, sum_or_average},
    expr::SubqueryKind,
    source::Source,
    span::Site,
};

/// Answers for the rows of one select.
pub(super) struct Scope<'b, S: Source> {
    pub(super) naive: &'b Naive<'b, S>,
    pub(super) from: &'b [FromItem],
    /// The first slot of the select.
    pub(super) first: usize,
    pub(super) outer: Option<&'b dyn Host>,
}

impl<S: Source> Scope<'_, S> {
    /// All rows of a subquery; none after an error, which is kept.
    fn rows(&self, query: &Query, row: &Row<'_>) -> Vec<Object> {
        let env = self.naive.env;
        let budget = env.budget();
        let rows = self.naive.query(query, row);
        env.set_budget(budget);
        match rows {
            Ok(sorted) => sorted.into_window(),
            Err(error) => {
                self.naive.fail(error);
                Vec::new()
            }
        }
    }
}

/// What a row of a subquery is worth: its only column, MISSING or not, or else the row.
fn column(query: &Query, row: Object) -> Option<Value> {
    let one = |items: &Items| matches!(items, Items::Each(each) if matches!(each.as_slice(), [Item::Value(..)]));
    let mut branches = query.branches.iter();
    match branches.all(|branch| one(&branch.output.items)) {
        true => row.into_iter().next().map(|(_, value)| value),
        false => Some(Value::Object(row)),
    }
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
        let rows = self.rows(query, row);
        match kind {
            SubqueryKind::Exists => Some(Value::Bool(!rows.is_empty())),
            SubqueryKind::Values => Some(Value::Array(
                rows.into_iter()
                    .filter_map(|row| column(query, row))
                    .collect(),
            )),
            SubqueryKind::Scalar if rows.len() > 1 => {
                let error = QueryError::new(ErrorKind::Execution, "more than one row")
                    .at(site.0.position(env.text));
                self.naive.fail(error.into());
                None
            }
            SubqueryKind::Scalar => rows.into_iter().next().and_then(|row| column(query, row)),
        }
    }

    fn find(&self, wanted: &Value, query: &Query, _env: &Env<'_>, row: &Row<'_>) -> Found {
        let mut found = Found::default();
        for value in self.rows(query, row) {
            match column(query, value) {
                Some(Value::Null) => found.null = true,
                Some(value) => found.equal |= equal(&value, wanted),
                None => {}
            }
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
        let Some(at) = slot.checked_sub(self.first) else {
            return self.outer?.conflicts(slot, path, env, row);
        };
        let Place::Stored(collection) = &self.from.get(at)?.place else {
            return None;
        };
        let id = id_of(row.document(slot)?)?;
        match self.naive.source.conflicts(collection, &id, path) {
            Ok(values) => values.map(Value::Array),
            Err(error) => {
                self.naive.fail(ExecuteError::Source(error));
                None
            }
        }
    }

    fn version(&self, slot: usize, env: &Env<'_>, row: &Row<'_>) -> Option<Value> {
        let Some(at) = slot.checked_sub(self.first) else {
            return self.outer?.version(slot, env, row);
        };
        let Place::Stored(collection) = &self.from.get(at)?.place else {
            return None;
        };
        let id = id_of(row.document(slot)?)?;
        match self.naive.source.version(collection, &id) {
            Ok(version) => version.map(Value::Object),
            Err(error) => {
                self.naive.fail(ExecuteError::Source(error));
                None
            }
        }
    }
}

impl<S: Source> Naive<'_, S> {
    /// The result of an aggregate over rows of sources.
    pub(super) fn aggregate(
        &self,
        aggregate: &Aggregate,
        rows: &[Vec<Given>],
        outer: &Row<'_>,
    ) -> Option<Value> {
        let Some(argument) = &aggregate.argument else {
            return Some(Value::Int(i64::try_from(rows.len()).unwrap_or(i64::MAX)));
        };
        let mut values: Vec<Value> = Vec::new();
        for row in rows {
            self.step();
            let value = Given::with_row(row, outer, |row| {
                eval(argument, self.env, row).get().cloned()
            });
            let Some(value) = value.filter(|value| takes_part(aggregate.kind, value)) else {
                continue;
            };
            if !aggregate.distinct || !values.iter().any(|one| same(Some(one), Some(&value))) {
                values.push(value);
            }
        }
        result(aggregate.kind, values)
    }
}

fn takes_part(kind: AggregateKind, value: &Value) -> bool {
    match (kind, value) {
        (_, Value::Null) | (AggregateKind::Count, Value::Bool(false)) => false,
        (AggregateKind::Count | AggregateKind::Min | AggregateKind::Max, _) => true,
        (_, Value::Int(_) | Value::Float(_)) => true,
        _ => false,
    }
}

/// The order of values in which also `1` and `1.0` have their places.
fn exact_order(a: &Value, b: &Value) -> Ordering {
    let form = |value: &Value| {
        let mut out = Vec::new();
        key::encode(value, &mut out);
        out
    };
    a.compare(b).then_with(|| form(a).cmp(&form(b)))
}

fn result(kind: AggregateKind, mut values: Vec<Value>) -> Option<Value> {
    values.sort_by(exact_order);
    match kind {
        AggregateKind::Count => Some(Value::Int(i64::try_from(values.len()).unwrap_or(i64::MAX))),
        AggregateKind::Min => values.into_iter().next(),
        AggregateKind::Max => values.pop(),
        AggregateKind::Median => {
            let middle = values.len().checked_sub(1)? / 2;
            values.into_iter().nth(middle)
        }
        AggregateKind::Mid => match (values.first()?, values.last()?) {
            (Value::Int(a), Value::Int(b)) if (i128::from(*a) + i128::from(*b)) % 2 == 0 => {
                i64::try_from((i128::from(*a) + i128::from(*b)) / 2)
                    .ok()
                    .map(Value::Int)
            }
            (a, b) => Value::float(a.as_f64()? / 2.0 + b.as_f64()? / 2.0),
        },
        AggregateKind::Sum | AggregateKind::Avg => {
            let mut whole = 0;
            let mut floats: Option<ExactSum> = None;
            for value in &values {
                match value {
                    Value::Int(number) => whole += i128::from(*number),
                    other => floats
                        .get_or_insert_default()
                        .add(other.as_f64().unwrap_or(0.0)),
                }
            }
            sum_or_average(kind, whole, floats, values.len() as u64)
        }
    }
}

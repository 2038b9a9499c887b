//! FROM, WHERE, GROUP BY, HAVING, projection, DISTINCT, ORDER BY, UNION, each done on all rows at once.

use std::{cmp::Ordering, ops::ControlFlow, rc::Rc};

use idem_model::{Object, Value};

use super::{Naive, Outcome, same, unsupported, values::Scope};
use crate::{
    bound::{FromItem, Grouping, Item, Items, JoinKind, Order, Output, Place, Query, Scan, Select},
    error::ExecuteError,
    eval::{Host, Row, Slot, eval, holds},
    execute::Window,
    expr::Expr,
    plan::canonical,
    source::{Fields, Source},
};

/// What a source gives to a row.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Absent,
    Document(Rc<Object>),
    Value(Rc<Value>),
}

impl Given {
    fn slot(&self) -> Slot<'_> {
        match self {
            Self::Absent => Slot::Absent,
            Self::Document(fields) => Slot::Document(fields),
            Self::Value(value) => Slot::Value(value),
        }
    }

    /// Calls `body` with the slots of `outer` and one more for each part.
    pub(super) fn with_row<T>(
        parts: &[Self],
        outer: &Row<'_>,
        body: impl FnOnce(&Row<'_>) -> T,
    ) -> T {
        let mut slots = outer.slots.to_vec();
        slots.extend(parts.iter().map(Self::slot));
        body(&Row {
            slots: &slots,
            keys: &[],
            aggregates: &[],
            ..*outer
        })
    }
}

/// The directions of the keys that rows are sorted by.
#[derive(Debug)]
pub(super) struct Direction(Vec<bool>);

impl Direction {
    fn compare(&self, a: &[Option<Value>], b: &[Option<Value>]) -> Ordering {
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            let ascending = match (a, b) {
                (Some(a), Some(b)) => a.compare(b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            };
            if ascending.is_ne() {
                return match self.0.get(at) {
                    Some(true) => ascending.reverse(),
                    _ => ascending,
                };
            }
        }
        Ordering::Equal
    }

    pub(super) fn same(&self, a: &[Option<Value>], b: &[Option<Value>]) -> bool {
        self.compare(a, b).is_eq()
    }
}

/// The rows of a query in their order, each with what it is sorted by, and the window over them.
#[derive(Debug)]
pub(super) struct Sorted {
    pub(super) rows: Vec<Keyed>,
    pub(super) order: Direction,
    pub(super) window: Window,
}

type Keyed = (Vec<Option<Value>>, Object);

/// The keys of a group, and the parts of each of its rows.
type Group = (Vec<Option<Value>>, Vec<Vec<Given>>);

impl Sorted {
    pub(super) fn into_window(self) -> Vec<Object> {
        let rows = self.rows.into_iter().map(|(_, row)| row);
        rows.skip(self.window.offset)
            .take(self.window.limit)
            .collect()
    }
}

impl<S: Source> Naive<'_, S> {
    /// All rows of a query. `around` is the row around it.
    pub(super) fn query(&self, query: &Query, around: &Row<'_>) -> Outcome<Sorted, S::Error> {
        let window = Window::new(&query.window, self.env)?;
        let mut slots = around.slots.to_vec();
        slots.resize(query.outer_slots, Slot::Absent);
        let outer = Row {
            slots: &slots,
            keys: &[],
            aggregates: &[],
            ..*around
        };
        let order = &query.window.order;
        let mut rows;
        let mut directions: Vec<bool> = order.iter().map(|one| one.descending).collect();
        if let ([only], false) = (query.branches.as_slice(), query.distinct) {
            rows = self.select(only, order, &outer)?;
            if order.is_empty() {
                // Groups come in the order of their keys.
                let groups = only.output.grouping.iter();
                directions = groups
                    .flat_map(|group| &group.keys)
                    .map(|_| false)
                    .collect();
            }
        } else {
            let mut all: Vec<Object> = Vec::new();
            for branch in &query.branches {
                let branch = self.select(branch, &[], &outer)?;
                all.extend(branch.into_iter().map(|(_, row)| row));
            }
            if query.distinct {
                all = distinct(all.into_iter().map(|row| (Vec::new(), row)))
                    .map(|(_, row)| row)
                    .collect();
            }
            rows = Vec::with_capacity(all.len());
            for row in all {
                self.step();
                let part = [Given::Document(Rc::new(row.clone()))];
                let only = Row {
                    slots: &[],
                    ..outer
                };
                let keys = Given::with_row(&part, &only, |row| self.keys(order, row));
                rows.push((keys, row));
            }
        }
        let order = Direction(directions);
        rows.sort_by(|(a, _), (b, _)| order.compare(a, b));
        Ok(Sorted {
            rows,
            order,
            window,
        })
    }

    /// The ids of the documents that a change is about.
    pub(super) fn targets(&self, scan: &Scan) -> Outcome<Sorted, S::Error> {
        let window = Window::new(&scan.window, self.env)?;
        let from = std::slice::from_ref(&scan.item);
        let scope = Scope {
            naive: self,
            from,
            first: 0,
            outer: None,
        };
        let outer = Row {
            host: Some(&scope),
            ..Row::default()
        };
        let mut rows = Vec::new();
        for parts in self.from(from, &outer)? {
            let keys = Given::with_row(&parts, &outer, |row| self.keys(&scan.window.order, row));
            if let Some(Given::Document(fields)) = parts.first()
                && let Some(id) = fields.get("_id")
            {
                rows.push((keys, Object::from([("_id".to_owned(), id.clone())])));
            }
        }
        let order = scan.window.order.iter().map(|one| one.descending);
        let order = Direction(order.collect());
        rows.sort_by(|(a, _), (b, _)| order.compare(a, b));
        Ok(Sorted {
            rows,
            order,
            window,
        })
    }

    fn keys(&self, order: &[Order], row: &Row<'_>) -> Vec<Option<Value>> {
        order.iter().map(|one| self.value(&one.key, row)).collect()
    }

    fn value(&self, expr: &Expr, row: &Row<'_>) -> Option<Value> {
        eval(expr, self.env, row).get().cloned()
    }

    /// The rows of a branch, with the keys of `order` or, where there is none, of the groups.
    fn select(
        &self,
        select: &Select,
        order: &[Order],
        around: &Row<'_>,
    ) -> Outcome<Vec<Keyed>, S::Error> {
        let scope = Scope {
            naive: self,
            from: &select.from,
            first: around.slots.len(),
            outer: around.host,
        };
        let outer = Row {
            host: Some(&scope as &dyn Host),
            ..*around
        };
        let mut joined = self.from(&select.from, &outer)?;
        joined.retain(|parts| {
            self.step();
            Given::with_row(parts, &outer, |row| {
                select
                    .filter
                    .as_ref()
                    .is_none_or(|filter| holds(filter, self.env, row))
            })
        });
        let rows: Vec<Keyed> = match &select.output.grouping {
            Some(grouping) => self.groups(select, grouping, &joined, order, &outer),
            None => joined
                .iter()
                .map(|parts| {
                    self.step();
                    Given::with_row(parts, &outer, |row| {
                        let output = match &select.output.items {
                            Items::All => whole(&select.from, parts),
                            Items::Each(items) => self.project(items, &select.output, row),
                        };
                        (self.keys(order, row), output)
                    })
                })
                .collect(),
        };
        Ok(match select.distinct {
            true => distinct(rows.into_iter()).collect(),
            false => rows,
        })
    }

    /// The joined rows of all sources, those that the filters of sources keep.
    fn from(&self, from: &[FromItem], outer: &Row<'_>) -> Outcome<Vec<Vec<Given>>, S::Error> {
        let mut rows: Vec<Vec<Given>> = vec![Vec::new()];
        for item in from {
            rows = self.join(item, rows, outer)?;
        }
        Ok(rows)
    }

    fn join(
        &self,
        item: &FromItem,
        before: Vec<Vec<Given>>,
        outer: &Row<'_>,
    ) -> Outcome<Vec<Vec<Given>>, S::Error> {
        let kind = item.join.as_ref().map_or(JoinKind::Inner, |join| join.kind);
        let on = item.join.as_ref().and_then(|join| join.on.as_ref());
        let width = item.slot - outer.slots.len();
        let unnested = matches!(item.place, Place::Unnest(_));
        let all = match unnested {
            true => Vec::new(),
            false => self.source(item, outer)?,
        };
        let mut matched = vec![false; all.len()];
        let mut rows = Vec::new();
        for parts in &before {
            let own = match &item.place {
                Place::Unnest(array) => self.elements(array, parts, outer),
                _ => Vec::new(),
            };
            let mut has_partner = false;
            for (at, given) in (if unnested { &own } else { &all }).iter().enumerate() {
                if !self.step() {
                    return Ok(Vec::new());
                }
                let mut both = parts.clone();
                both.push(given.clone());
                let fits = Given::with_row(&both, outer, |row| {
                    let mut conditions = on.into_iter().chain(&item.filter);
                    conditions.all(|condition| holds(condition, self.env, row))
                });
                if fits {
                    has_partner = true;
                    if let Some(flag) = matched.get_mut(at) {
                        *flag = true;
                    }
                    rows.push(both);
                }
            }
            if !has_partner && kind == JoinKind::Left {
                let mut alone = parts.clone();
                alone.push(Given::Absent);
                rows.push(alone);
            }
        }
        if kind == JoinKind::Right {
            for (given, _) in all.into_iter().zip(matched).filter(|(_, found)| !found) {
                let mut alone = vec![Given::Absent; width];
                alone.push(given);
                rows.push(alone);
            }
        }
        Ok(rows)
    }

    /// All rows of a source that is not made of the sources before it.
    fn source(&self, item: &FromItem, outer: &Row<'_>) -> Outcome<Vec<Given>, S::Error> {
        let documents = match &item.place {
            Place::Unnest(_) => Vec::new(),
            Place::Derived(query) => self.query(query, outer)?.into_window(),
            Place::System(name, _) if name == "dual" => vec![Object::new()],
            Place::System(name, _) => {
                let rows = self.source.system(name).map_err(ExecuteError::Source)?;
                rows.ok_or_else(unsupported)?
            }
            Place::Stored(collection) => {
                let mut documents = Vec::new();
                self.source
                    .scan(collection, &Fields::All, &mut |document| {
                        documents.push(document);
                        ControlFlow::Continue(())
                    })
                    .map_err(ExecuteError::Source)?;
                documents
            }
        };
        let documents = documents.into_iter().map(Rc::new);
        let mut given: Vec<Given> = documents.map(Given::Document).collect();
        if let Some(ids) = &item.ids {
            let ids = self.value(ids, outer);
            let ids = ids.as_ref().and_then(Value::as_array).unwrap_or_default();
            given.retain(|one| match one {
                Given::Document(fields) => ids.iter().any(|id| same(fields.get("_id"), Some(id))),
                _ => false,
            });
        }
        Ok(given)
    }

    fn elements(&self, array: &Expr, parts: &[Given], outer: &Row<'_>) -> Vec<Given> {
        self.step();
        match Given::with_row(parts, outer, |row| self.value(array, row)) {
            Some(Value::Array(elements)) => {
                let elements = elements.into_iter().map(Rc::new);
                elements.map(Given::Value).collect()
            }
            _ => Vec::new(),
        }
    }

    fn groups(
        &self,
        select: &Select,
        grouping: &Grouping,
        joined: &[Vec<Given>],
        order: &[Order],
        outer: &Row<'_>,
    ) -> Vec<Keyed> {
        let mut groups: Vec<Group> = Vec::new();
        if grouping.keys.is_empty() {
            groups.push((Vec::new(), Vec::new()));
        }
        for parts in joined {
            self.step();
            let keys: Vec<Option<Value>> = Given::with_row(parts, outer, |row| {
                let keys = grouping.keys.iter();
                keys.map(|key| self.value(key, row).map(canonical))
                    .collect()
            });
            let known = groups.iter_mut().find(|(known, _)| {
                let mut pairs = known.iter().zip(&keys);
                pairs.all(|(a, b)| same(a.as_ref(), b.as_ref()))
            });
            match known {
                Some((_, rows)) => rows.push(parts.clone()),
                None => groups.push((keys, vec![parts.clone()])),
            }
        }
        let mut rows = Vec::new();
        for (keys, members) in groups {
            let aggregates: Vec<Option<Value>> = grouping
                .aggregates
                .iter()
                .map(|aggregate| self.aggregate(aggregate, &members, outer))
                .collect();
            self.step();
            let row = Row {
                keys: &keys,
                aggregates: &aggregates,
                ..*outer
            };
            let having = select.having.as_ref();
            if !having.is_none_or(|having| holds(having, self.env, &row)) {
                continue;
            }
            if let Items::Each(items) = &select.output.items {
                let sort_keys = match order {
                    [] => keys.clone(),
                    order => self.keys(order, &row),
                };
                rows.push((sort_keys, self.project(items, &select.output, &row)));
            }
        }
        rows
    }

    fn project(&self, items: &[Item], output: &Output, row: &Row<'_>) -> Object {
        let mut fields = Object::new();
        for item in items {
            match item {
                Item::Splice(expr) => {
                    if let Some(Value::Object(more)) = self.value(expr, row) {
                        fields.extend(more);
                    }
                }
                Item::Value(name, expr) => {
                    if let Some(value) = self.value(expr, row) {
                        fields.insert(name.clone(), value);
                    }
                }
            }
        }
        for path in &output.without {
            fields = without(fields, path.segments());
        }
        fields
    }
}

/// What `*` gives of the sources of a row.
fn whole(from: &[FromItem], parts: &[Given]) -> Object {
    let named: Vec<(&String, Value)> = from
        .iter()
        .zip(parts)
        .filter_map(|(item, given)| match given {
            Given::Absent => None,
            Given::Document(fields) => Some((&item.alias, Value::Object((**fields).clone()))),
            Given::Value(value) => Some((&item.alias, (**value).clone())),
        })
        .collect();
    if from.len() == 1 {
        return match named.into_iter().next() {
            Some((_, Value::Object(fields))) => fields,
            _ => Object::new(),
        };
    }
    let ids: Object = named
        .iter()
        .filter_map(|(alias, value)| {
            let id = value.as_object()?.get("_id")?;
            Some(((*alias).clone(), id.clone()))
        })
        .collect();
    let mut whole: Object = named
        .into_iter()
        .map(|(alias, value)| (alias.clone(), value))
        .collect();
    if !ids.is_empty() {
        whole.insert("_id".to_owned(), Value::Object(ids));
    }
    whole
}

fn without(fields: Object, path: &[String]) -> Object {
    let Some((first, rest)) = path.split_first() else {
        return fields;
    };
    fields
        .into_iter()
        .filter_map(|(name, value)| match (name == *first, rest, value) {
            (true, [], _) => None,
            (true, rest, Value::Object(inner)) => Some((name, without(inner, rest).into())),
            (_, _, value) => Some((name, value)),
        })
        .collect()
}

/// The first of each set of equal rows.
fn distinct(rows: impl Iterator<Item = Keyed>) -> impl Iterator<Item = Keyed> {
    let mut kept: Vec<Keyed> = Vec::new();
    for (keys, row) in rows {
        let equal = |known: &Object| {
            known.len() == row.len()
                && known
                    .iter()
                    .all(|(name, value)| same(Some(value), row.get(name)))
        };
        if !kept.iter().any(|(_, known)| equal(known)) {
            kept.push((keys, row));
        }
    }
    kept.into_iter()
}

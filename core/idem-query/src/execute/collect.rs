//! Rows to results: grouping, HAVING, projection, DISTINCT, ORDER BY, OFFSET and LIMIT, in this order.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_model::{Object, Value, key};

use super::{aggregate::State, rows::Window};
use crate::{
    bound::{Grouping, Item, Items, Order, Output, Query},
    eval::{Env, Row, Slot, eval, holds, weight},
    expr::Expr,
    plan::canonical,
};

/// Takes rows and makes the result of a query or of RETURNING.
pub(super) struct Collector<'q, 'e> {
    env: &'e Env<'q>,
    output: &'q Output,
    having: Option<&'q Expr>,
    groups: BTreeMap<Vec<u8>, Group<'q>>,
    /// The projected rows seen, for DISTINCT.
    distinct: Option<BTreeSet<Vec<u8>>>,
    sorter: Sorter<'q>,
}

/// About how many bytes a group takes beside its keys.
const GROUP_BYTES: usize = 256;

#[derive(Debug)]
struct Group<'q> {
    keys: Vec<Option<Value>>,
    states: Vec<State<'q>>,
}

impl<'q, 'e> Collector<'q, 'e> {
    pub(super) fn of_query(query: &'q Query, env: &'e Env<'q>, window: Window) -> Self {
        let branch = &query.branches[0];
        Self {
            env,
            output: &branch.output,
            having: branch.having.as_ref(),
            groups: BTreeMap::new(),
            distinct: branch.distinct.then(BTreeSet::new),
            sorter: Sorter::new(&query.window.order, window),
        }
    }

    pub(super) fn of_returning(output: &'q Output, env: &'e Env<'q>) -> Self {
        Self {
            env,
            output,
            having: None,
            groups: BTreeMap::new(),
            distinct: None,
            sorter: Sorter::new(&[], Window::ALL),
        }
    }

    /// Adds a document; breaks when no further one can matter.
    pub(super) fn add(&mut self, document: Object) -> ControlFlow<()> {
        match &self.output.grouping {
            Some(grouping) => {
                self.add_to_group(grouping, &document);
                ControlFlow::Continue(())
            }
            None => self.add_row(document),
        }
    }

    fn add_row(&mut self, document: Object) -> ControlFlow<()> {
        let slots = [Slot::Document(&document)];
        let row = Row::of(&slots);
        let keys = self.sorter.keys(self.env, &row);
        if !self.sorter.wants(&keys) {
            return ControlFlow::Continue(());
        }
        let item = match &self.output.items {
            Items::All => document,
            Items::Each(items) => project(items, self.output, self.env, &row),
        };
        self.add_item(keys, item)
    }

    fn add_item(&mut self, keys: Vec<Option<Value>>, item: Object) -> ControlFlow<()> {
        let mut item = item;
        if let Some(seen) = &mut self.distinct {
            let whole = Value::Object(item);
            let mut encoded = Vec::new();
            key::encode(&canonical(whole.clone()), &mut encoded);
            let bytes = weight(&whole) + encoded.len();
            if !seen.insert(encoded) {
                return ControlFlow::Continue(());
            }
            if !self.env.charge("DISTINCT", bytes) {
                return ControlFlow::Break(());
            }
            let Value::Object(back) = whole else {
                unreachable!("it was made an object above");
            };
            item = back;
        }
        self.sorter.push(keys, item)
    }

    fn add_to_group(&mut self, grouping: &'q Grouping, document: &Object) {
        let slots = [Slot::Document(document)];
        let row = Row::of(&slots);
        let mut name = Vec::new();
        let keys: Vec<Option<Value>> = grouping
            .keys
            .iter()
            .map(|key| eval(key, self.env, &row).get().cloned().map(canonical))
            .collect();
        for value in &keys {
            key::encode_optional(value.as_ref(), &mut name);
        }
        let bytes = GROUP_BYTES + 2 * name.len();
        let known = self.groups.len();
        let group = self.groups.entry(name).or_insert_with(|| Group {
            keys,
            states: grouping.aggregates.iter().map(State::new).collect(),
        });
        for state in &mut group.states {
            add(state, self.env, &row);
        }
        if self.groups.len() > known {
            // Where it is too much, whoever gives the rows sees that the run has to end.
            let _goes_on = self.env.charge("GROUP BY", bytes);
        }
    }

    /// Adds as many rows as a collection has to a query that only counts them.
    pub(super) fn count(&mut self, rows: u64) {
        if let Some(grouping) = &self.output.grouping {
            let group = self.groups.entry(Vec::new()).or_insert_with(|| Group {
                keys: Vec::new(),
                states: grouping.aggregates.iter().map(State::new).collect(),
            });
            for state in &mut group.states {
                state.add_count(rows);
            }
        }
    }

    /// The result.
    pub(super) fn finish(mut self) -> Vec<Object> {
        if let Some(grouping) = &self.output.grouping {
            // Without keys there is one group, also over no rows.
            if grouping.keys.is_empty() {
                self.count(0);
            }
            for (_, group) in std::mem::take(&mut self.groups) {
                if self.add_group(group).is_break() {
                    break;
                }
            }
        }
        self.sorter.finish()
    }

    fn add_group(&mut self, group: Group<'_>) -> ControlFlow<()> {
        self.env.next_row();
        let keys = group.keys;
        let aggregates: Vec<Option<Value>> = group.states.into_iter().map(State::finish).collect();
        let row = Row {
            keys: &keys,
            aggregates: &aggregates,
            ..Row::default()
        };
        if self
            .having
            .is_some_and(|having| !holds(having, self.env, &row))
        {
            return ControlFlow::Continue(());
        }
        let Items::Each(items) = &self.output.items else {
            return ControlFlow::Continue(());
        };
        let sort_keys = self.sorter.keys(self.env, &row);
        let item = project(items, self.output, self.env, &row);
        self.add_item(sort_keys, item)
    }
}

/// Shortens the lifetimes to those of the row.
fn add<'a, 'q: 'a>(state: &mut State<'q>, env: &Env<'a>, row: &Row<'a>) {
    state.add(env, row);
}

pub(crate) fn project<'a>(
    items: &'a [Item],
    output: &Output,
    env: &Env<'a>,
    row: &Row<'a>,
) -> Object {
    let mut fields = Object::new();
    for item in items {
        match item {
            Item::Splice(Expr::Row(source)) => {
                if let Some(document) = row.document(*source) {
                    fields.extend(document.clone());
                }
            }
            Item::Splice(expr) => {
                if let Some(Value::Object(more)) = env.own(eval(expr, env, row)) {
                    fields.extend(more);
                }
            }
            Item::Value(name, expr) => {
                if let Some(value) = env.own(eval(expr, env, row)) {
                    fields.insert(name.clone(), value);
                }
            }
        }
    }
    for path in &output.without {
        remove(&mut fields, path.segments());
    }
    fields
}

fn remove(fields: &mut Object, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            fields.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Value::Object(inner)) = fields.get_mut(first) {
                remove(inner, rest);
            }
        }
    }
}

/// Keeps the rows that the window can show. With ORDER BY and LIMIT it holds at most twice as many
/// as it will give: when it is full, the worse half goes, and rows that are worse than the rest are
/// not taken any more.
pub(super) struct Sorter<'q> {
    order: &'q [Order],
    window: Window,
    entries: Vec<Entry>,
    /// Rows taken so far; breaks ties by arrival.
    taken: u64,
    /// Whether the entry at the end of the window is the worst one that still matters.
    full: bool,
}

struct Entry {
    keys: Vec<Option<Value>>,
    arrival: u64,
    item: Object,
}

/// A buffer below this is not worth cutting.
const ENTRIES_MIN: usize = 256;

impl<'q> Sorter<'q> {
    pub(super) fn new(order: &'q [Order], window: Window) -> Self {
        Self {
            order,
            window,
            entries: Vec::new(),
            taken: 0,
            full: false,
        }
    }

    /// What the row is sorted by.
    pub(super) fn keys<'a>(&self, env: &Env<'a>, row: &Row<'a>) -> Vec<Option<Value>>
    where
        'q: 'a,
    {
        self.order
            .iter()
            .map(|order| env.own(eval(&order.key, env, row)))
            .collect()
    }

    /// Whether a row with these keys can still be in the result.
    pub(super) fn wants(&self, keys: &[Option<Value>]) -> bool {
        !self.full
            || self
                .entries
                .get(self.window.end() - 1)
                .is_none_or(|worst| compare(self.order, keys, &worst.keys).is_lt())
    }

    pub(super) fn push(&mut self, keys: Vec<Option<Value>>, item: Object) -> ControlFlow<()> {
        let end = self.window.end();
        self.entries.push(Entry {
            keys,
            arrival: self.taken,
            item,
        });
        self.taken += 1;
        if self.order.is_empty() {
            return match self.entries.len() >= end {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        if self.entries.len() >= end.saturating_mul(2).max(ENTRIES_MIN) {
            self.sort();
            self.entries.truncate(end);
            self.full = self.entries.len() == end && end > 0;
        }
        ControlFlow::Continue(())
    }

    fn sort(&mut self) {
        let order = self.order;
        self.entries.sort_unstable_by(|a, b| {
            compare(order, &a.keys, &b.keys).then(a.arrival.cmp(&b.arrival))
        });
    }

    pub(super) fn finish(mut self) -> Vec<Object> {
        if !self.order.is_empty() {
            self.sort();
        }
        self.entries
            .into_iter()
            .skip(self.window.offset)
            .take(self.window.limit)
            .map(|entry| entry.item)
            .collect()
    }
}

fn compare(order: &[Order], a: &[Option<Value>], b: &[Option<Value>]) -> Ordering {
    for ((a, b), order) in a.iter().zip(b).zip(order) {
        let ordering = match (a, b) {
            (Some(a), Some(b)) => a.compare(b),
            // MISSING comes after every value.
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        if ordering.is_ne() {
            return match order.descending {
                true => ordering.reverse(),
                false => ordering,
            };
        }
    }
    Ordering::Equal
}

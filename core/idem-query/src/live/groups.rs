//! Groups whose aggregates can forget a row again.

use std::collections::BTreeMap;

use idem_model::{Object, Value, key};

use super::{Effect, append_key, fits, key_of, row_weight};
use crate::{
    bound::{Aggregate, AggregateKind, Grouping, Items, Query, Select},
    eval::{Env, Row, Slot, eval, holds, weight},
    exact::{ExactSum, sum_or_average},
    execute::{Window, counts, project},
    plan::canonical,
};

/// Whether the aggregates of a query can follow changes.
pub(super) fn can_follow(grouping: Option<&Grouping>) -> bool {
    grouping.is_none_or(|grouping| {
        grouping.aggregates.iter().all(|aggregate| {
            !aggregate.distinct
                && !matches!(aggregate.kind, AggregateKind::Median | AggregateKind::Mid)
        })
    })
}

/// The groups of a query by their keys.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<Vec<u8>, Group>,
    bytes: usize,
}

#[derive(Debug)]
struct Group {
    keys: Vec<Option<Value>>,
    rows: u64,
    totals: Vec<Total>,
    /// What the group shows, with what it is sorted by, since its last change; the inner `None` is
    /// for a group that HAVING leaves out.
    shown: Option<Option<(Vec<u8>, Object)>>,
}

/// An aggregate from which a row can be taken away again.
#[derive(Debug)]
enum Total {
    Count(u64),
    Sum {
        whole: i128,
        floats: ExactSum,
        /// How many of the numbers are floats.
        float_count: u64,
        count: u64,
    },
    /// Every value, with how often it is there, by its key and then by its exact form.
    Extreme(BTreeMap<Vec<u8>, (Value, u64)>),
}

impl Groups {
    /// Adds a document of the first run; `false` if the groups became too large.
    pub(super) fn add(&mut self, document: &Object, branch: &Select, env: &Env<'_>) -> bool {
        self.count(document, branch, env, true);
        fits(self.bytes)
    }

    /// Takes a change of a document; the images are those that pass the condition.
    pub(super) fn change(
        &mut self,
        before: Option<&Object>,
        after: Option<&Object>,
        branch: &Select,
        env: &Env<'_>,
    ) -> Effect {
        if before.is_none() && after.is_none() {
            return Effect::Nothing;
        }
        if let Some(document) = before {
            self.count(document, branch, env, false);
        }
        if let Some(document) = after {
            self.count(document, branch, env, true);
        }
        match fits(self.bytes) {
            true => Effect::Changed,
            false => Effect::Reload,
        }
    }

    fn count(&mut self, document: &Object, branch: &Select, env: &Env<'_>, is_added: bool) {
        let Some(grouping) = &branch.output.grouping else {
            return;
        };
        let slots = [Slot::Document(document)];
        let row = Row::of(&slots);
        let mut name = Vec::new();
        let keys: Vec<Option<Value>> = grouping
            .keys
            .iter()
            .map(|key| eval(key, env, &row).get().cloned().map(canonical))
            .collect();
        for value in &keys {
            key::encode_optional(value.as_ref(), &mut name);
        }
        if !self.groups.contains_key(&name) {
            let values = keys.iter().flatten();
            self.bytes += 256 + name.len() + values.map(weight).sum::<usize>();
            self.groups.insert(name.clone(), Group::new(keys, grouping));
        }
        let Some(group) = self.groups.get_mut(&name) else {
            return;
        };
        group.shown = None;
        match is_added {
            true => group.rows += 1,
            false => group.rows = group.rows.saturating_sub(1),
        }
        for (total, aggregate) in group.totals.iter_mut().zip(&grouping.aggregates) {
            let grown = total.count(aggregate, env, &row, is_added);
            self.bytes = self.bytes.saturating_add_signed(grown);
        }
        if group.rows == 0 && !grouping.keys.is_empty() {
            self.groups.remove(&name);
        }
    }

    /// What the window shows.
    pub(super) fn shown(
        &mut self,
        query: &Query,
        branch: &Select,
        window: Window,
        env: &Env<'_>,
    ) -> Vec<Object> {
        if let Some(grouping) = branch
            .output
            .grouping
            .as_ref()
            .filter(|all| all.keys.is_empty())
        {
            // Without keys there is one group, also over no rows.
            self.groups
                .entry(Vec::new())
                .or_insert_with(|| Group::new(Vec::new(), grouping));
        }
        let mut shown: Vec<(&[u8], &Object)> = Vec::with_capacity(self.groups.len());
        for group in self.groups.values_mut() {
            let shown_now = group.shown.take();
            let line = shown_now.unwrap_or_else(|| group.line(query, branch, env));
            if let Some((key, item)) = group.shown.insert(line) {
                shown.push((key, item));
            }
        }
        // The sort is stable: groups that sort equally stay in the order of their keys.
        shown.sort_by(|a, b| a.0.cmp(b.0));
        let shown = shown.into_iter().skip(window.offset).take(window.limit);
        shown.map(|(_, item)| item.clone()).collect()
    }
}

impl Group {
    fn new(keys: Vec<Option<Value>>, grouping: &Grouping) -> Self {
        Self {
            keys,
            rows: 0,
            totals: grouping.aggregates.iter().map(Total::new).collect(),
            shown: None,
        }
    }

    fn line(&self, query: &Query, branch: &Select, env: &Env<'_>) -> Option<(Vec<u8>, Object)> {
        env.next_row();
        let grouping = branch.output.grouping.as_ref()?;
        let aggregates: Vec<Option<Value>> = self
            .totals
            .iter()
            .zip(&grouping.aggregates)
            .map(|(total, aggregate)| total.value(aggregate.kind))
            .collect();
        let row = Row {
            keys: &self.keys,
            aggregates: &aggregates,
            ..Row::default()
        };
        if branch
            .having
            .as_ref()
            .is_some_and(|having| !holds(having, env, &row))
        {
            return None;
        }
        let mut key = Vec::new();
        for order in &query.window.order {
            append_key(
                env.own(eval(&order.key, env, &row)),
                order.descending,
                &mut key,
            );
        }
        let Items::Each(items) = &branch.output.items else {
            return None;
        };
        let item = project(items, &branch.output, env, &row);
        Some((key, item))
    }
}

impl Total {
    fn new(aggregate: &Aggregate) -> Self {
        match aggregate.kind {
            AggregateKind::Count => Self::Count(0),
            AggregateKind::Sum | AggregateKind::Avg => Self::Sum {
                whole: 0,
                floats: ExactSum::default(),
                float_count: 0,
                count: 0,
            },
            _ => Self::Extreme(BTreeMap::new()),
        }
    }

    /// Adds what a row gives, or takes it away; returns by how much the memory for it grew.
    fn count(
        &mut self,
        aggregate: &Aggregate,
        env: &Env<'_>,
        row: &Row<'_>,
        is_added: bool,
    ) -> isize {
        let Some(argument) = &aggregate.argument else {
            if let Self::Count(count) = self {
                step(count, is_added);
            }
            return 0;
        };
        let value = eval(argument, env, row);
        let Some(value) = value.get().filter(|value| counts(aggregate.kind, value)) else {
            return 0;
        };
        match self {
            Self::Count(count) => step(count, is_added),
            Self::Sum {
                whole,
                floats,
                float_count,
                count,
            } => {
                step(count, is_added);
                match (value, is_added) {
                    (Value::Int(number), true) => *whole += i128::from(*number),
                    (Value::Int(number), false) => *whole -= i128::from(*number),
                    (other, true) => {
                        *float_count += 1;
                        floats.add(other.as_f64().unwrap_or(0.0));
                    }
                    (other, false) => {
                        *float_count = float_count.saturating_sub(1);
                        floats.subtract(other.as_f64().unwrap_or(0.0));
                    }
                }
            }
            Self::Extreme(values) => return step_value(values, value, is_added),
        }
        0
    }

    /// The result; `None` is MISSING.
    fn value(&self, kind: AggregateKind) -> Option<Value> {
        match self {
            Self::Count(count) => Some(Value::Int(i64::try_from(*count).unwrap_or(i64::MAX))),
            Self::Sum {
                whole,
                floats,
                float_count,
                count,
            } => {
                let floats = (*float_count > 0).then(|| floats.clone());
                sum_or_average(kind, *whole, floats, *count)
            }
            Self::Extreme(values) => {
                let found = match kind {
                    AggregateKind::Min => values.first_key_value(),
                    _ => values.last_key_value(),
                };
                found.map(|(_, (value, _))| value.clone())
            }
        }
    }
}

fn step(count: &mut u64, is_added: bool) {
    *count = match is_added {
        true => *count + 1,
        false => count.saturating_sub(1),
    };
}

fn step_value(
    values: &mut BTreeMap<Vec<u8>, (Value, u64)>,
    value: &Value,
    is_added: bool,
) -> isize {
    let mut name = key_of(value);
    key::encode(value, &mut name);
    let bytes = row_weight(&name, &Object::new()) + weight(value);
    let bytes = isize::try_from(bytes).unwrap_or(isize::MAX);
    let known = values.get(&name).map_or(0, |(_, count)| *count);
    match (known, is_added) {
        (0, false) => 0,
        (0, true) => {
            values.insert(name, (value.clone(), 1));
            bytes
        }
        (1, false) => {
            values.remove(&name);
            -bytes
        }
        (_, is_added) => {
            if let Some((_, count)) = values.get_mut(&name) {
                step(count, is_added);
            }
            0
        }
    }
}

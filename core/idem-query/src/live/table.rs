//! Rows in the order in which they are shown.

use std::collections::BTreeMap;

use idem_model::{Object, Value};

use super::{Effect, append_key, fits, key_of, row_weight};
use crate::{
    bound::{Items, Query},
    eval::{Env, Row, Slot, eval},
    execute::{Window, project},
};

/// The first rows of a result, and some behind them: when a row leaves, the next moves up.
#[derive(Debug)]
pub(super) struct Table {
    /// By what they are sorted by and, behind it, their ids.
    rows: BTreeMap<Vec<u8>, Object>,
    /// Rows to keep at most.
    capacity: usize,
    /// Whether there are rows behind the last one that were not kept.
    is_cut: bool,
    bytes: usize,
}

/// Rows kept beyond twice the window.
const SPARE_ROWS: usize = 64;

impl Table {
    pub(super) fn new(query: &Query, window: Window) -> Self {
        let is_bounded = query.window.limit.is_some();
        Self {
            rows: BTreeMap::new(),
            capacity: match is_bounded {
                true => window.end().saturating_mul(2).saturating_add(SPARE_ROWS),
                false => usize::MAX,
            },
            is_cut: false,
            bytes: 0,
        }
    }

    /// Adds a row of the first run; `false` if the table became too large.
    pub(super) fn add(&mut self, document: &Object, query: &Query, env: &Env<'_>) -> bool {
        let key = sort_key(document, query, env);
        self.insert(key, document, query, env);
        fits(self.bytes)
    }

    /// Puts a row in its place, unless it is behind what is kept.
    fn insert(&mut self, key: Vec<u8>, document: &Object, query: &Query, env: &Env<'_>) {
        let is_full = self.is_cut || self.rows.len() >= self.capacity;
        if is_full
            && self
                .rows
                .last_key_value()
                .is_none_or(|(last, _)| *last < key)
        {
            self.is_cut = true;
            return;
        }
        let item = shown(document, query, env);
        self.bytes += row_weight(&key, &item);
        self.rows.insert(key, item);
        if self.rows.len() > self.capacity
            && let Some((key, item)) = self.rows.pop_last()
        {
            self.bytes -= row_weight(&key, &item);
            self.is_cut = true;
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Object> {
        let (key, item) = self.rows.remove_entry(key)?;
        self.bytes -= row_weight(&key, &item);
        Some(item)
    }

    /// Takes a change of a document; the images are those that pass the condition.
    pub(super) fn change(
        &mut self,
        before: Option<&Object>,
        after: Option<&Object>,
        query: &Query,
        window: Window,
        env: &Env<'_>,
    ) -> Effect {
        let old_key = before.map(|document| sort_key(document, query, env));
        let new_key = after.map(|document| sort_key(document, query, env));
        if old_key.is_none() && new_key.is_none() {
            return Effect::Nothing;
        }
        // Nothing in front of the first of the two places moves.
        let first = old_key.iter().chain(&new_key).min();
        let is_seen = first.is_some_and(|first| self.is_seen(first, window));
        let old = old_key.as_ref().and_then(|key| self.remove(key));
        if let (Some(key), Some(document)) = (&new_key, after) {
            self.insert(key.clone(), document, query, env);
        }
        if self.is_cut && self.rows.len() < window.end() || !fits(self.bytes) {
            return Effect::Reload;
        }
        let is_same = old_key == new_key
            && old.is_some()
            && new_key.is_some_and(|key| self.rows.get(&key) == old.as_ref());
        match is_seen && !is_same {
            true => Effect::Changed,
            false => Effect::Nothing,
        }
    }

    /// Whether a row at this place is shown or moves rows that are.
    fn is_seen(&self, key: &[u8], window: Window) -> bool {
        let end = window.end();
        if self.rows.len() < end {
            return true;
        }
        // Walking is cheap as long as windows are small; for others a change is worth a look.
        const WALK_MAX: usize = 1024;
        end > WALK_MAX
            || end > 0
                && self
                    .rows
                    .keys()
                    .nth(end - 1)
                    .is_none_or(|last| key <= last.as_slice())
    }

    /// What the window shows.
    pub(super) fn shown(&self, window: Window) -> Vec<Object> {
        let rows = self.rows.values();
        rows.skip(window.offset)
            .take(window.limit)
            .cloned()
            .collect()
    }
}

fn sort_key(document: &Object, query: &Query, env: &Env<'_>) -> Vec<u8> {
    let slots = [Slot::Document(document)];
    let row = Row::of(&slots);
    let mut key = Vec::new();
    for order in &query.window.order {
        append_key(
            env.own(eval(&order.key, env, &row)),
            order.descending,
            &mut key,
        );
    }
    key.extend(key_of(document.get("_id").unwrap_or(&Value::Null)));
    key
}

fn shown(document: &Object, query: &Query, env: &Env<'_>) -> Object {
    let output = &query.branches[0].output;
    match &output.items {
        Items::All => document.clone(),
        Items::Each(items) => {
            let slots = [Slot::Document(document)];
            project(items, output, env, &Row::of(&slots))
        }
    }
}

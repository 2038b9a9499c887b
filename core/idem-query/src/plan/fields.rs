//! Which fields of its documents a statement looks at.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::FieldPath;

use crate::{
    bound::{Action, Delete, FromItem, Item, Items, Output, Place, Query, Select, Update, Window},
    expr::Expr,
    source::{Fields, IndexField, IndexKey},
};

/// What is looked at in each slot; `None` is everything.
type Seen = BTreeMap<usize, Option<BTreeSet<FieldPath>>>;

/// Notes in every source of a query what the query looks at of its rows. Subqueries were prepared
/// before, but what they see of the slots around them counts here.
pub(super) fn of_query(query: &mut Query) {
    let several = query.branches.len() > 1;
    let window = if several { None } else { Some(&query.window) };
    for branch in &mut query.branches {
        let mut seen = in_branch(branch, window);
        for item in &mut branch.from {
            set(item, &mut seen);
        }
        for at in 0..branch.from.len() {
            branch.from[at].passed = passed(branch, at, window);
        }
    }
}

fn in_branch(branch: &Select, window: Option<&Window>) -> Seen {
    let mut seen = Seen::new();
    select(branch, &mut seen);
    window.iter().for_each(|window| ordered(window, &mut seen));
    seen
}

/// What is looked at of the documents of a source that pass its filter, if that is less. An index may
/// know that they pass.
fn passed(branch: &mut Select, at: usize, window: Option<&Window>) -> Option<Fields> {
    let item = &mut branch.from[at];
    let Fields::Named(all) = &item.fields else {
        return None;
    };
    if item.access.tests.is_empty() {
        return None;
    }
    let count = all.len();
    let slot = item.slot;
    let filter = item.filter.take()?;
    let mut seen = in_branch(branch, window);
    branch.from[at].filter = Some(filter);
    // None of them, or all of a document.
    let paths = seen.remove(&slot).unwrap_or(Some(BTreeSet::new()))?;
    let names = top_names(paths.iter());
    (names.len() < count).then_some(Fields::Named(names))
}

/// The names at the top of these paths, which rise, without `_id`.
fn top_names<'p>(paths: impl Iterator<Item = &'p FieldPath>) -> Box<[String]> {
    let mut names = names(paths);
    names.retain(|name| name != "_id");
    names.into()
}

fn set(item: &mut FromItem, seen: &mut Seen) {
    item.access.needs = match seen.remove(&item.slot) {
        None => Some(Box::default()),
        Some(None) => None,
        Some(Some(paths)) => Some(paths.into_iter().collect()),
    };
    item.fields = match &item.access.needs {
        None => Fields::All,
        Some(paths) => Fields::Named(top_names(paths.iter())),
    };
    item.tested = tested(item);
    if !item.kinds.is_empty() {
        let mut kinds = item.kinds.clone();
        kinds.sort_unstable();
        item.fields = Fields::Typed(kinds.into());
        item.tested = None;
    }
}

/// What the filter of a source looks at of its rows, if that is less than the statement does.
fn tested(item: &FromItem) -> Option<Box<[String]>> {
    let mut seen = Seen::new();
    expr(item.filter.as_ref()?, &mut seen);
    let paths = seen.remove(&item.slot)??;
    let tested = names(paths.iter());
    let is_all = match &item.fields {
        Fields::Named(names) => names.iter().all(|name| tested.contains(name)),
        Fields::All | Fields::Typed(_) => false,
    };
    (!is_all).then(|| tested.into())
}

/// The names at the top of these paths, which rise.
fn names<'p>(paths: impl Iterator<Item = &'p FieldPath>) -> Vec<String> {
    let mut names: Vec<String> = paths
        .filter_map(|path| path.segments().first().cloned())
        .collect();
    // Paths are sorted, so equal names are neighbours.
    names.dedup();
    names
}

/// The names at the top of a document that an expression looks at, rising; `None` is everything.
pub(crate) fn of_expression(of: &Expr) -> Option<Vec<String>> {
    let mut seen = Seen::new();
    expr(of, &mut seen);
    let mut all = BTreeSet::new();
    for paths in seen.into_values() {
        all.extend(names(paths?.iter()));
    }
    Some(all.into_iter().collect())
}

/// What the keys of an index look at.
pub(crate) fn of_index(keys: &[IndexField]) -> Fields {
    let mut seen = Seen::new();
    let mut names = BTreeSet::new();
    for field in keys {
        match &field.key {
            IndexKey::Path(path) => names.extend(path.segments().first().cloned()),
            IndexKey::Expression(expression) | IndexKey::Elements(expression) => {
                expr(expression.expr(), &mut seen);
            }
        }
    }
    for paths in seen.into_values() {
        let Some(paths) = paths else {
            return Fields::All;
        };
        names.extend(
            paths
                .iter()
                .filter_map(|path| path.segments().first().cloned()),
        );
    }
    names.remove("_id");
    Fields::Named(names.into_iter().collect())
}

/// As [`of_query`]: what its conditions and its new values look at. RETURNING reads the documents
/// again.
pub(super) fn of_update(update: &mut Update) {
    let mut seen = Seen::new();
    conditions(&update.scan.item, &mut seen);
    ordered(&update.scan.window, &mut seen);
    for edit in &update.edits {
        match &edit.action {
            Action::Set(value, _) | Action::Increment(value) | Action::Restart(Some(value)) => {
                expr(value, &mut seen);
            }
            Action::Unset | Action::Restart(None) => {}
        }
    }
    set(&mut update.scan.item, &mut seen);
}

/// As [`of_query`]: what its conditions look at, and RETURNING, which gives what was removed.
pub(super) fn of_delete(delete: &mut Delete) {
    let mut seen = Seen::new();
    conditions(&delete.scan.item, &mut seen);
    ordered(&delete.scan.window, &mut seen);
    if let Some(returning) = &delete.returning {
        output(
            returning,
            std::slice::from_ref(&delete.scan.item),
            &mut seen,
        );
    }
    set(&mut delete.scan.item, &mut seen);
}

fn conditions(item: &FromItem, seen: &mut Seen) {
    let on = item.join.as_ref().and_then(|join| join.on.as_ref());
    for condition in [&item.filter, &item.access.ids]
        .into_iter()
        .flatten()
        .chain(on)
    {
        expr(condition, seen);
    }
    for (before, here) in item.join.iter().flat_map(|join| &join.keys) {
        expr(before, seen);
        expr(here, seen);
    }
}

fn select(branch: &Select, seen: &mut Seen) {
    for item in &branch.from {
        if let Place::Unnest(source) = &item.place {
            expr(source, seen);
        }
        if let Place::Derived(query) = &item.place {
            inner(query, seen);
        }
        conditions(item, seen);
    }
    branch.filter.iter().for_each(|filter| expr(filter, seen));
    branch.having.iter().for_each(|having| expr(having, seen));
    output(&branch.output, &branch.from, seen);
}

fn output(output: &Output, from: &[FromItem], seen: &mut Seen) {
    match &output.items {
        Items::All => {
            for item in from {
                seen.insert(item.slot, None);
            }
        }
        Items::Each(items) => {
            for item in items {
                match item {
                    Item::Splice(value) | Item::Value(_, value) => expr(value, seen),
                }
            }
        }
    }
    if let Some(grouping) = &output.grouping {
        grouping.keys.iter().for_each(|key| expr(key, seen));
        let arguments = grouping.aggregates.iter();
        for argument in arguments.filter_map(|aggregate| aggregate.argument.as_ref()) {
            expr(argument, seen);
        }
    }
}

fn ordered(window: &Window, seen: &mut Seen) {
    window.order.iter().for_each(|order| expr(&order.key, seen));
}

/// A query inside: what it sees of its own slots, which begin behind the outer ones, is left out.
fn inner(query: &Query, seen: &mut Seen) {
    let mut under = Seen::new();
    for branch in &query.branches {
        select(branch, &mut under);
    }
    if query.branches.len() == 1 {
        ordered(&query.window, &mut under);
    }
    for (slot, paths) in under {
        if slot >= query.outer_slots {
            continue;
        }
        match (seen.entry(slot).or_insert(Some(BTreeSet::new())), paths) {
            (Some(known), Some(paths)) => known.extend(paths),
            (known, _) => *known = None,
        }
    }
}

fn expr(of: &Expr, seen: &mut Seen) {
    match of {
        Expr::Row(slot) => {
            seen.insert(*slot, None);
        }
        Expr::Field(slot, path) => {
            if let Some(paths) = seen.entry(*slot).or_insert(Some(BTreeSet::new())) {
                paths.insert(path.clone());
            }
        }
        // The source is asked about the document by its id.
        Expr::Conflicts(slot, _) | Expr::Version(slot) => {
            if let Some(paths) = seen.entry(*slot).or_insert(Some(BTreeSet::new())) {
                paths.insert(FieldPath::field("_id"));
            }
        }
        Expr::Subquery(_, query, _) => inner(query, seen),
        _ => {}
    }
    of.each_child(&mut |child, _| expr(child, seen));
}

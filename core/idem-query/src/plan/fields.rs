//! Which fields of its documents a statement looks at.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bound::{Item, Items, Output, Place, Query, Select, Window},
    expr::Expr,
    source::Fields,
};

/// What is looked at in each slot; `None` is everything.
type Seen = BTreeMap<usize, Option<BTreeSet<String>>>;

/// Notes in every source of a query what the query looks at of its rows. Subqueries were prepared
/// before, but what they see of the slots around them counts here.
pub(super) fn of_query(query: &mut Query) {
    let several = query.branches.len() > 1;
    let window = if several { None } else { Some(&query.window) };
    for branch in &mut query.branches {
        let mut seen = Seen::new();
        select(branch, &mut seen);
        window.iter().for_each(|window| ordered(window, &mut seen));
        for item in &mut branch.from {
            item.fields = match seen.remove(&item.slot) {
                None => Fields::Named(Box::default()),
                Some(None) => Fields::All,
                Some(Some(names)) => Fields::Named(names.into_iter().collect()),
            };
        }
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
        let on = item.join.as_ref().and_then(|join| join.on.as_ref());
        for condition in [&item.filter, &item.access.ids]
            .into_iter()
            .flatten()
            .chain(on)
        {
            expr(condition, seen);
        }
    }
    branch.filter.iter().for_each(|filter| expr(filter, seen));
    branch.having.iter().for_each(|having| expr(having, seen));
    output(&branch.output, branch, seen);
}

fn output(output: &Output, branch: &Select, seen: &mut Seen) {
    match &output.items {
        Items::All => {
            for item in &branch.from {
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
    for (slot, names) in under {
        if slot >= query.outer_slots {
            continue;
        }
        match (seen.entry(slot).or_insert(Some(BTreeSet::new())), names) {
            (Some(known), Some(names)) => known.extend(names),
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
            if let Some(names) = seen.entry(*slot).or_insert(Some(BTreeSet::new()))
                && let Some(first) = path.segments().first().filter(|first| *first != "_id")
            {
                names.insert(first.clone());
            }
        }
        Expr::Subquery(_, query, _) => inner(query, seen),
        _ => {}
    }
    of.each_child(&mut |child, _| expr(child, seen));
}

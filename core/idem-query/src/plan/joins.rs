//! Which parts of ON say that two values are equal, so that rows can be found by a hash of them.

use crate::{
    ast::CompareOp,
    bound::{Join, Select},
    expr::Expr,
    span::{Site, Span},
};

/// Moves the equalities between a source and the sources before it from its ON to its keys.
pub(super) fn take_keys(branch: &mut Select, outer_slots: usize) {
    for item in &mut branch.from {
        let slot = item.slot;
        let Some(join) = &mut item.join else {
            continue;
        };
        let (conditions, site) = match join.on.take() {
            None => continue,
            Some(Expr::And(items, site)) => (items.into_vec(), site),
            Some(only) => (vec![only], Site(Span::default())),
        };
        let mut rest = Vec::new();
        for condition in conditions {
            match key_of(&condition, slot, outer_slots) {
                Some(key) => join.keys.push(key),
                None => rest.push(condition),
            }
        }
        set_on(join, rest, site);
    }
}

fn set_on(join: &mut Join, mut conditions: Vec<Expr>, site: Site) {
    join.on = match conditions.len() {
        0 | 1 => conditions.pop(),
        _ => Some(Expr::And(conditions.into(), site)),
    };
}

/// The sides of an equality: one made of the slots before `slot`, one of that slot.
fn key_of(condition: &Expr, slot: usize, outer_slots: usize) -> Option<(Expr, Expr)> {
    let Expr::Compare(CompareOp::Equal, left, right) = condition else {
        return None;
    };
    let is_before = |expr: &Expr| {
        expr.is_fixed_before(slot) && expr.slots().last().is_some_and(|last| *last >= outer_slots)
    };
    let is_own = |expr: &Expr| {
        let slots = expr.slots();
        expr.is_fixed_before(slot + 1)
            && slots.contains(&slot)
            && slots.range(outer_slots..).next() == Some(&slot)
    };
    if is_before(left) && is_own(right) {
        return Some((left.as_ref().clone(), right.as_ref().clone()));
    }
    (is_own(left) && is_before(right)).then(|| (right.as_ref().clone(), left.as_ref().clone()))
}

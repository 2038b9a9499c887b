//! WHERE and ON given to the sources that can check them first.
//!
//! After this, a source's filter holds what needs only its own rows and the slots around the query.
//! A row that does not pass is as though it did not exist, for every kind of join. ON keeps what needs
//! the sources before too, and what decides about partners only; WHERE keeps what an outer join must
//! not see before it.

use super::{
    access::{Access, Origin, View},
    fields, joins,
};
use crate::{
    ast::IsTest,
    bound::{Body, FromItem, Join, JoinKind, Place, Query, Scan, Select},
    expr::Expr,
    span::Site,
};

/// Slots as bits. Those at or above the last bit share it, and conditions on them are not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slots(u64);

const LAST: usize = 63;

impl Slots {
    pub(super) fn insert(&mut self, slot: usize) {
        self.0 |= 1 << slot.min(LAST);
    }

    /// Whether all are before this one, as far as the bits tell.
    pub(super) fn all_below(self, slot: usize) -> bool {
        self.0 >> slot.min(LAST) == 0
    }

    /// Whether it is this slot and no other.
    pub(super) fn is_only(self, slot: usize) -> bool {
        slot < LAST && self.0 == 1 << slot
    }

    /// Whether there is no other slot than this.
    pub(super) fn is_at_most(self, slot: usize) -> bool {
        self.0 == 0 || self.is_only(slot)
    }

    fn greatest(self) -> Option<usize> {
        self.0.checked_ilog2().map(|bit| bit as usize)
    }
}

/// What an expression is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Uses {
    pub(super) slots: Slots,
    /// Whether it uses a variable from outside of it, or a group.
    pub(super) is_open: bool,
    has_query: bool,
    /// Whether it uses more than values: a parameter, a subquery, or what a document keeps beside
    /// its values.
    pub(super) has_more: bool,
}

/// What an expression is made of, also inside of subqueries.
pub(super) fn uses(expr: &Expr) -> Uses {
    let mut found = Uses::default();
    note(expr, 0, &mut found);
    found
}

fn note(expr: &Expr, variables: usize, found: &mut Uses) {
    match expr {
        Expr::Row(slot) | Expr::Field(slot, _) | Expr::Conflicts(slot, _) | Expr::Version(slot) => {
            found.slots.insert(*slot)
        }
        Expr::Local(index) => found.is_open |= *index >= variables,
        Expr::Outside(fewer, inner) => {
            return note(inner, variables.saturating_sub(*fewer), found);
        }
        Expr::Key(_) | Expr::Aggregate(_) => found.is_open = true,
        Expr::Subquery(_, query, _) => {
            found.has_query = true;
            found.has_more = true;
            let used = query.outer_used.iter();
            used.for_each(|slot| found.slots.insert(*slot));
        }
        _ => {}
    }
    expr.each_child(&mut |child, more| note(child, variables + more, found));
}

/// Gives every source of a query what it needs to find its rows, and what it can check early.
pub(crate) fn prepare_query(query: &mut Query) {
    for branch in &mut query.branches {
        distribute(branch, query.outer_slots);
    }
    fields::of_query(query);
}

/// As [`prepare_query`], for UPDATE, DELETE and EVICT.
pub(crate) fn prepare_scan(scan: &mut Scan) {
    let filter = conjuncts(scan.item.filter.take());
    prepare_item(&mut scan.item, filter, 0);
}

/// Notes what a statement looks at of the documents that it changes.
pub(crate) fn prepare_body(body: &mut Body) {
    match body {
        Body::Update(update) => fields::of_update(update),
        Body::Delete(delete) => fields::of_delete(delete),
        Body::Explain(inner) | Body::Profile(inner) => prepare_body(inner),
        _ => {}
    }
}

/// An operand of AND, with the place of the AND.
type Conjunct = (Expr, Option<Site>);

fn conjuncts(filter: Option<Expr>) -> Vec<Conjunct> {
    match filter {
        None => Vec::new(),
        Some(Expr::And(items, site)) => items
            .into_vec()
            .into_iter()
            .map(|item| (item, Some(site)))
            .collect(),
        Some(other) => vec![(other, None)],
    }
}

/// Puts what asks the data behind what does not.
fn sort(conjuncts: &mut [Conjunct]) {
    if conjuncts.len() > 1 {
        conjuncts.sort_by_key(|(condition, _)| uses(condition).has_query);
    }
}

fn joined(mut conjuncts: Vec<Conjunct>) -> Option<Expr> {
    match conjuncts.len() {
        0 => None,
        1 => conjuncts.pop().map(|(only, _)| only),
        _ => {
            let site = conjuncts.iter().find_map(|(_, site)| *site);
            let items = conjuncts.into_iter().map(|(item, _)| item).collect();
            Some(Expr::And(items, site.unwrap_or(Site(Default::default()))))
        }
    }
}

fn distribute(branch: &mut Select, outer_slots: usize) {
    // The usual statement has one source, and all of its conditions are that source's.
    if let [item] = branch.from.as_mut_slice() {
        let mut filter = conjuncts(item.filter.take());
        filter.append(&mut conjuncts(branch.filter.take()));
        prepare_item(item, filter, outer_slots);
        return;
    }
    let mut filters: Vec<Vec<Conjunct>> = Vec::with_capacity(branch.from.len());
    let mut ons: Vec<Vec<Conjunct>> = Vec::with_capacity(branch.from.len());
    for item in &mut branch.from {
        filters.push(conjuncts(item.filter.take()));
        let on = item.join.as_mut().and_then(|join| join.on.take());
        ons.push(conjuncts(on));
    }
    let mut rest = conjuncts(branch.filter.take());
    drop_outer_joins(branch, &ons, &rest);
    let last = branch.from.len() - 1;
    for (level, on) in ons.iter_mut().enumerate() {
        let from = std::mem::take(on);
        match branch.from[level].join.as_ref().map(|join| join.kind) {
            // Before a RIGHT join finds no partner, its rows must all be there.
            Some(JoinKind::Right) => *on = from,
            Some(JoinKind::Left) => {
                let slot = branch.from[level].slot;
                for conjunct in from {
                    match is_own(&conjunct.0, slot, outer_slots) {
                        true => filters[level].push(conjunct),
                        false => on.push(conjunct),
                    }
                }
            }
            Some(JoinKind::Inner) | None => on.extend(from),
        }
    }
    for level in 1..=last {
        if kind(&branch.from[level]) == Some(JoinKind::Inner) {
            for conjunct in std::mem::take(&mut ons[level]) {
                match home(&branch.from, &conjunct.0, level, outer_slots) {
                    Some(Home::Filter(at)) => filters[at].push(conjunct),
                    Some(Home::On(at)) => ons[at].push(conjunct),
                    None => ons[level].push(conjunct),
                }
            }
        }
    }
    for conjunct in std::mem::take(&mut rest) {
        match home(&branch.from, &conjunct.0, last, outer_slots) {
            Some(Home::Filter(at)) => filters[at].push(conjunct),
            Some(Home::On(at)) => ons[at].push(conjunct),
            None => rest.push(conjunct),
        }
    }
    sort(&mut rest);
    branch.filter = joined(rest);
    for ((item, filter), mut on) in branch.from.iter_mut().zip(filters).zip(ons) {
        prepare_item(item, filter, outer_slots);
        sort(&mut on);
        let view = View {
            slot: item.slot,
            known: item.slot,
        };
        if matches!(item.place, Place::Stored(_)) {
            item.access.joined_ids = on.iter().find_map(|(one, _)| view.ids_of(one));
            for (at, (one, _)) in on.iter().enumerate() {
                view.add_tests(one, Origin::On(at), &mut item.access.tests);
            }
        }
        if let Some(Join { on: slot, .. }) = &mut item.join {
            *slot = joined(on);
        }
    }
    joins::take_keys(branch, outer_slots);
}

fn kind(item: &FromItem) -> Option<JoinKind> {
    item.join.as_ref().map(|join| join.kind)
}

/// Whether a condition needs no other source of the same FROM than that of `slot`.
fn is_own(condition: &Expr, slot: usize, outer_slots: usize) -> bool {
    let mut other = uses(condition).slots;
    if slot < LAST {
        other.0 &= !(1 << slot);
    }
    other.all_below(outer_slots)
}

enum Home {
    Filter(usize),
    On(usize),
}

/// Where a condition that must hold behind the join at `level` can be checked; `None` is there.
fn home(from: &[FromItem], condition: &Expr, level: usize, outer_slots: usize) -> Option<Home> {
    let slots = uses(condition).slots;
    let at = match slots.greatest() {
        Some(LAST..) => return None,
        Some(slot) if slot >= outer_slots => from.iter().position(|item| item.slot == slot)?,
        _ => 0,
    };
    // What a RIGHT join adds lacks the sources before, and must not be missed by the condition.
    let added_later = from.get(at + 1..=level)?.iter();
    if added_later
        .map(kind)
        .any(|kind| kind == Some(JoinKind::Right))
    {
        return None;
    }
    let own = is_own(condition, from[at].slot, outer_slots);
    match kind(&from[at]) {
        Some(JoinKind::Left) => None,
        Some(JoinKind::Right) => own.then_some(Home::Filter(at)),
        _ if own => Some(Home::Filter(at)),
        Some(JoinKind::Inner) => Some(Home::On(at)),
        None => None,
    }
}

/// Makes an outer join an inner one where a condition drops all rows that the outer one adds.
fn drop_outer_joins(branch: &mut Select, ons: &[Vec<Conjunct>], rest: &[Conjunct]) {
    let is_outer = |item: &FromItem| matches!(kind(item), Some(JoinKind::Left | JoinKind::Right));
    for _ in 0..branch.from.len() {
        let mut changed = false;
        for at in 0..branch.from.len() {
            if !is_outer(&branch.from[at]) {
                continue;
            }
            let absent = match kind(&branch.from[at]) {
                Some(JoinKind::Left) => &branch.from[at..=at],
                _ => &branch.from[..at],
            };
            let inner = branch
                .from
                .iter()
                .zip(ons)
                .enumerate()
                .filter(|(level, (item, _))| *level > at && kind(item) == Some(JoinKind::Inner));
            let mut conditions = inner.flat_map(|(_, (_, on))| on).chain(rest);
            let rejected = conditions
                .any(|(condition, _)| absent.iter().any(|item| rejects(condition, item.slot)));
            if rejected && let Some(join) = &mut branch.from[at].join {
                join.kind = JoinKind::Inner;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Whether a condition never holds where the slot is absent.
fn rejects(condition: &Expr, slot: usize) -> bool {
    let strict = |expr: &Expr| matches!(expr, Expr::Field(one, _) if *one == slot);
    match condition {
        Expr::Compare(_, left, right) => strict(left) || strict(right),
        Expr::Between(parts, false) => strict(&parts[0]),
        Expr::In(parts, ..) => strict(&parts[0]),
        Expr::Like(like) => strict(&like.value),
        Expr::Is(value, IsTest::Missing, negated) => *negated && strict(value),
        Expr::Is(value, _, negated) => !negated && strict(value),
        Expr::And(items, _) => items.iter().any(|item| rejects(item, slot)),
        Expr::Or(items, _) => items.iter().all(|item| rejects(item, slot)),
        _ => false,
    }
}

fn prepare_item(item: &mut FromItem, mut filter: Vec<Conjunct>, outer_slots: usize) {
    item.access = Access::default();
    sort(&mut filter);
    if matches!(item.place, Place::Stored(_)) {
        let view = View {
            slot: item.slot,
            known: outer_slots,
        };
        if let Some(ids) = &item.ids {
            item.access.ids = Some(ids.clone());
        } else if let Some(at) = filter
            .iter()
            .position(|(one, _)| view.ids_of(one).is_some())
        {
            // Every row found by its id passes this condition.
            item.access.ids = view.ids_of(&filter.remove(at).0);
        } else {
            for (at, (one, _)) in filter.iter().enumerate() {
                view.add_tests(one, Origin::Filter(at), &mut item.access.tests);
                item.access.any_of.extend(view.any_of(one));
            }
        }
    }
    item.filter = joined(filter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_without_a_bit_of_their_own_are_never_known_to_be_below() {
        for slot in [0, 1, LAST - 1, LAST, LAST + 1, 200] {
            let mut slots = Slots::default();
            assert!(slots.all_below(slot));
            slots.insert(slot);
            assert!(!slots.all_below(slot), "{slot}");
            assert_eq!(slots.all_below(slot + 1), slot < LAST, "{slot}");
        }
    }
}

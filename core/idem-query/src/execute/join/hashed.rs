//! Joins that find partners by a hash of their keys. Null and MISSING are equal to nothing.

use std::ops::ControlFlow;

use idem_model::Value;

use super::{Flow, Joins, Visit};
use crate::{
    bound::{Join, JoinKind},
    eval::{Env, Row, Slot, eval},
    execute::{
        hold::{Held, Holding},
        table::{self, Table},
    },
    expr::Expr,
    source::Source,
};

/// Rows by their keys. Those of one key are a chain in the order in which they came.
struct Partners<R> {
    table: Table,
    /// First and last row of each key.
    chains: Vec<(usize, usize)>,
    rows: Vec<Partner<R>>,
}

struct Partner<R> {
    row: R,
    /// The next row of the same key.
    next: Option<usize>,
    matched: bool,
}

impl<R> Partners<R> {
    fn new() -> Self {
        Self {
            table: Table::default(),
            chains: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; without key it has no partner. Returns the bytes that it takes beside the row.
    fn add(&mut self, key: Option<&[u8]>, row: R) -> usize {
        let number = self.rows.len();
        self.rows.push(Partner {
            row,
            next: None,
            matched: false,
        });
        let entry = size_of::<Partner<R>>();
        let Some(key) = key else {
            return entry;
        };
        match self.table.insert(key) {
            (_, true) => {
                self.chains.push((number, number));
                entry + Table::bytes_of(key)
            }
            (chain, false) => {
                let last = std::mem::replace(&mut self.chains[chain].1, number);
                self.rows[last].next = Some(number);
                entry
            }
        }
    }

    fn first(&self, key: &[u8]) -> Option<usize> {
        self.table.find(key).map(|chain| self.chains[chain].0)
    }
}

impl<S: Source> Joins<'_, S> {
    /// Holds the rows of this source and finds them for each row before it.
    pub(super) fn hash_here(
        &self,
        last: usize,
        join: &Join,
        visit: &mut Visit<'_>,
    ) -> Flow<S::Error> {
        let item = &self.from[last];
        let mut held = Holding::new(self.env, "JOIN");
        let mut partners = Partners::new();
        let mut form = Vec::new();
        let path = &self.steps[last].path;
        self.source(item, path, &self.outer, &mut |given| {
            let has_key = self.outer.with_slot(item.slot, given.slot(), |row| {
                encode(
                    join.keys.iter().map(|(_, here)| here),
                    self.env,
                    row,
                    &mut form,
                )
            });
            if !has_key && join.kind != JoinKind::Right {
                return ControlFlow::Continue(());
            }
            let one = given.hold();
            let bytes = one.bytes() + partners.add(has_key.then_some(form.as_slice()), one);
            go_on(held.add(bytes))
        })?;
        if partners.rows.is_empty() && join.kind != JoinKind::Left {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = self.upto(last - 1, &mut |before| {
            if !self.goes_on() {
                return ControlFlow::Break(());
            }
            let mut next = None;
            if encode(
                join.keys.iter().map(|(before, _)| before),
                self.env,
                before,
                &mut form,
            ) {
                next = partners.first(&form);
            }
            let mut matched = false;
            while let Some(number) = next {
                self.env.next_row();
                if !self.goes_on() {
                    return ControlFlow::Break(());
                }
                let partner = &mut partners.rows[number];
                next = partner.next;
                let marked = &mut partner.matched;
                before.with_slot(item.slot, partner.row.slot(), |row| {
                    if self.on_holds(join, row) {
                        matched = true;
                        *marked = true;
                        return visit(row);
                    }
                    ControlFlow::Continue(())
                })?;
            }
            if !matched && join.kind == JoinKind::Left {
                return before.with_slot(item.slot, Slot::Absent, |row| visit(row));
            }
            ControlFlow::Continue(())
        })?;
        if flow.is_break() || join.kind != JoinKind::Right {
            return Ok(flow);
        }
        let rows = partners.rows.iter().map(|one| (&one.row, one.matched));
        Ok(self.without_partner(item, rows, visit))
    }

    /// Holds the rows before this source and finds them for each of its rows.
    pub(super) fn hash_before(
        &self,
        last: usize,
        join: &Join,
        visit: &mut Visit<'_>,
    ) -> Flow<S::Error> {
        let item = &self.from[last];
        let first = self.from[0].slot;
        let mut held = Holding::new(self.env, "JOIN");
        let mut partners: Partners<Box<[Held]>> = Partners::new();
        let mut form = Vec::new();
        let _held_to_the_end = self.upto(last - 1, &mut |before| {
            let has_key = encode(
                join.keys.iter().map(|(key, _)| key),
                self.env,
                before,
                &mut form,
            );
            if !has_key && join.kind != JoinKind::Left {
                return ControlFlow::Continue(());
            }
            let slots = before.slots.get(first..).unwrap_or_default();
            let one: Box<[Held]> = slots.iter().map(|slot| Held::of(*slot)).collect();
            let bytes: usize = one.iter().map(Held::bytes).sum();
            let entry = partners.add(has_key.then_some(form.as_slice()), one);
            go_on(held.add(bytes + entry))
        })?;
        if partners.rows.is_empty() && join.kind != JoinKind::Right {
            return Ok(ControlFlow::Continue(()));
        }
        let mut flow = ControlFlow::Continue(());
        let path = &self.steps[last].path;
        self.source(item, path, &self.outer, &mut |given| {
            flow = self.probe(last, join, &mut partners, given.slot(), &mut form, visit);
            flow
        })?;
        if flow.is_break() || join.kind != JoinKind::Left {
            return Ok(flow);
        }
        for partner in partners.rows.iter().filter(|partner| !partner.matched) {
            if !self.goes_on() {
                break;
            }
            let flow = self.with_held(&partner.row, |before| {
                before.with_slot(item.slot, Slot::Absent, |row| visit(row))
            });
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Finds the rows before for one row of the source.
    fn probe(
        &self,
        last: usize,
        join: &Join,
        partners: &mut Partners<Box<[Held]>>,
        slot: Slot<'_>,
        form: &mut Vec<u8>,
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        let item = &self.from[last];
        let has_key = self.outer.with_slot(item.slot, slot, |row| {
            encode(join.keys.iter().map(|(_, here)| here), self.env, row, form)
        });
        let mut next = match has_key {
            true => partners.first(form),
            false => None,
        };
        let mut matched = false;
        while let Some(number) = next {
            self.env.next_row();
            if !self.goes_on() {
                return ControlFlow::Break(());
            }
            let partner = &mut partners.rows[number];
            next = partner.next;
            let marked = &mut partner.matched;
            self.with_held(&partner.row, |before| {
                before.with_slot(item.slot, slot, |row| {
                    if self.on_holds(join, row) {
                        matched = true;
                        *marked = true;
                        return visit(row);
                    }
                    ControlFlow::Continue(())
                })
            })?;
        }
        if !matched && join.kind == JoinKind::Right {
            return self.outer.with_slot(item.slot, slot, |row| visit(row));
        }
        ControlFlow::Continue(())
    }

    /// Calls `f` with a row that was held.
    fn with_held<R>(&self, held: &[Held], f: impl FnOnce(&Row<'_>) -> R) -> R {
        let first = self.from[0].slot;
        let mut slots = Vec::with_capacity(first + held.len() + 1);
        slots.extend_from_slice(self.outer.slots);
        slots.resize(first, Slot::Absent);
        slots.extend(held.iter().map(Held::slot));
        f(&Row {
            slots: &slots,
            ..self.outer
        })
    }
}

fn go_on(flag: bool) -> ControlFlow<()> {
    match flag {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

/// Writes the form of the keys; `false` if one of them is equal to nothing.
fn encode<'a>(
    keys: impl Iterator<Item = &'a Expr>,
    env: &Env<'a>,
    row: &Row<'a>,
    form: &mut Vec<u8>,
) -> bool {
    form.clear();
    for key in keys {
        let value = eval(key, env, row);
        match value.get() {
            None | Some(Value::Null) => return false,
            Some(value) => table::encode(Some(value), form),
        }
    }
    true
}

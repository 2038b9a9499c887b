//! Reading the layers of a view as one.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::View;
use super::memtable::{Found, Walk};
use super::rows::RowCache;
use crate::{KvError, Snapshot, Table, Visit};

/// A consistent view of an [`Overlay`](super::Overlay). Cheap to take and to clone.
#[derive(Debug, Clone)]
pub struct OverlaySnapshot {
    view: Arc<View>,
    position: u64,
}

impl OverlaySnapshot {
    pub(super) fn new(view: Arc<View>, position: u64) -> Self {
        Self { view, position }
    }

    /// Position of the last batch that this snapshot sees.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the layers in memory know of a key; `read` gets its value, if it has one.
    fn in_memory<R>(&self, table: Table, key: &[u8], mut read: impl FnMut(&[u8]) -> R) -> Found<R> {
        let frozen = self.view.frozen.as_ref().map(|frozen| &frozen.table);
        for layer in [Some(&self.view.active), frozen].into_iter().flatten() {
            match layer.read(table, key, self.position, &mut read) {
                Found::Absent => {}
                found => return found,
            }
        }
        Found::Absent
    }

    /// The row cache and the generation of this snapshot, if `table` has one.
    fn rows(&self, table: Table) -> Option<(&RowCache, u64)> {
        let (rows, generation) = self.view.engine.rows.as_ref()?;
        (rows.table() == table).then_some((&**rows, *generation))
    }

    fn engine(&self) -> &dyn Snapshot {
        &**self
            .view
            .engine
            .snapshot
            .get()
            .expect("taken when this snapshot was")
    }
}

impl Snapshot for OverlaySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        match self.in_memory(table, key, <[u8]>::to_vec) {
            // Whoever wants a copy is mostly about to change it: it is not kept.
            Found::Absent => match self.rows(table) {
                Some((rows, generation)) => match rows.read(generation, key, <[u8]>::to_vec) {
                    Some(value) => Ok(Some(value)),
                    None => self.engine().get(table, key),
                },
                None => self.engine().get(table, key),
            },
            Found::Deleted => Ok(None),
            Found::Value(value) => Ok(Some(value)),
        }
    }

    fn read(&self, table: Table, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        match self.in_memory(table, key, &mut *read) {
            Found::Absent => {
                let Some((rows, generation)) = self.rows(table) else {
                    return self.engine().read(table, key, read);
                };
                if rows.read(generation, key, &mut *read).is_some() {
                    return Ok(true);
                }
                self.engine().read(table, key, &mut |value| {
                    rows.keep(generation, key, value);
                    read(value);
                })
            }
            Found::Deleted => Ok(false),
            Found::Value(()) => Ok(true),
        }
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let frozen = self.view.frozen.as_ref().map(|frozen| &frozen.table);
        let walk = |layer| Memory::walk(layer, table, from, to, reverse, self.position);
        let mut memory = Memory {
            active: walk(Some(&self.view.active)),
            frozen: walk(frozen),
            reverse,
        };
        // What comes into memory later is not of this snapshot.
        if memory.current().is_none() {
            return self.engine().scan(table, from, to, reverse, visit);
        }
        let mut stopped = false;
        self.engine()
            .scan(table, from, to, reverse, &mut |key, value| {
                // First what comes before the engine's entry, then the entry, unless memory knows better.
                let mut hidden = false;
                while let Some((memory_key, memory_value)) = memory.current() {
                    match memory.order(memory_key, key) {
                        Ordering::Greater => break,
                        order => hidden |= order.is_eq(),
                    }
                    let flow =
                        memory_value.map_or(ControlFlow::Continue(()), |v| visit(memory_key, v));
                    memory.advance();
                    if flow.is_break() {
                        stopped = true;
                        return flow;
                    }
                }
                let flow = if hidden {
                    ControlFlow::Continue(())
                } else {
                    visit(key, value)
                };
                stopped = flow.is_break();
                flow
            })?;
        while !stopped && let Some((key, value)) = memory.current() {
            stopped = value.is_some_and(|value| visit(key, value).is_break());
            memory.advance();
        }
        Ok(())
    }
}

/// A key, and its value unless it was deleted.
type Head<'a> = (&'a [u8], Option<&'a [u8]>);

/// The tables in memory as one: where both know a key, the active one counts.
struct Memory<'a> {
    active: Option<Walk<'a>>,
    frozen: Option<Walk<'a>>,
    reverse: bool,
}

impl<'a> Memory<'a> {
    fn walk(
        layer: Option<&'a Arc<super::Memtable>>,
        table: Table,
        from: &'a [u8],
        to: Option<&'a [u8]>,
        reverse: bool,
        position: u64,
    ) -> Option<Walk<'a>> {
        layer.map(|layer| layer.walk(table, from, to, reverse, position))
    }

    /// How keys follow each other in the direction of the scan.
    fn order(&self, left: &[u8], right: &[u8]) -> Ordering {
        if self.reverse {
            right.cmp(left)
        } else {
            left.cmp(right)
        }
    }

    fn heads(&self) -> (Option<Head<'_>>, Option<Head<'_>>) {
        let active = self.active.as_ref().and_then(Walk::current);
        let frozen = self.frozen.as_ref().and_then(Walk::current);
        (active, frozen)
    }

    fn current(&self) -> Option<Head<'_>> {
        match self.heads() {
            (Some(active), Some(frozen)) if self.order(active.0, frozen.0).is_gt() => Some(frozen),
            (None, frozen) => frozen,
            (active, _) => active,
        }
    }

    fn advance(&mut self) {
        let (active, frozen) = match self.heads() {
            (Some(active), Some(frozen)) => match self.order(active.0, frozen.0) {
                Ordering::Less => (true, false),
                Ordering::Equal => (true, true),
                Ordering::Greater => (false, true),
            },
            (active, frozen) => (active.is_some(), frozen.is_some()),
        };
        if let (true, Some(walk)) = (active, &mut self.active) {
            walk.advance();
        }
        if let (true, Some(walk)) = (frozen, &mut self.frozen) {
            walk.advance();
        }
    }
}

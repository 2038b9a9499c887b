//! Local edits: what each operation does to the lives of a document.
//!
//! An edit replaces what its writer sees. Several edits of one transaction have one stamp; nothing
//! between them is published, so a later one also takes back what an earlier one of the same stamp
//! put in its place ([`retract`]).

use idem_model::{Declared, FieldKind, FieldOp, FieldPath, Object, Stamp, Value};

use crate::{
    edit::check::{check_fields, check_op},
    format, initial,
    kinds::Kinds,
    state::{Counter, Life, Map, MapPart, Node, Sum, Version},
};

mod check;

pub use check::ApplyError;

/// What [`crate::Document::apply`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Nothing: the stamp was not used.
    Unchanged,
    /// The document changed. Its version covers the stamp, except after INSERT INITIAL, whose stamp
    /// is its own.
    Changed,
}

impl Applied {
    fn from_changed(changed: bool) -> Self {
        if changed {
            Self::Changed
        } else {
            Self::Unchanged
        }
    }
}

/// Begins a life with `fields`.
pub(crate) fn begin_life(
    lives: &mut Vec<Life>,
    fields: &Object,
    kinds: Kinds<'_>,
    stamp: Stamp,
) -> Result<Applied, ApplyError> {
    assert!(
        lives.is_empty(),
        "a document that is there is updated, not inserted"
    );
    check_fields(fields, kinds)?;
    let fields = plant_map(fields, &mut Vec::new(), kinds, stamp);
    lives.push(Life { stamp, fields });
    Ok(Applied::Changed)
}

/// Begins the life that INSERT INITIAL of these fields has on every peer; returns the stamps of it.
pub(crate) fn begin_initial_life(
    lives: &mut Vec<Life>,
    fields: &Object,
    kinds: Kinds<'_>,
) -> Result<Vec<Stamp>, ApplyError> {
    check_fields(fields, kinds)?;
    let life = initial::life_stamp();
    let mut stamps = vec![life];
    let mut map = Map::default();
    for (name, value) in fields {
        let stamp = initial::field_stamp(name, value, kinds);
        let node = plant(value, &mut vec![name], kinds, stamp);
        stamps.push(stamp);
        map.entries.push((name.clone(), node));
    }
    lives.push(Life {
        stamp: life,
        fields: map,
    });
    Ok(stamps)
}

fn plant_map<'a>(
    fields: &'a Object,
    path: &mut Vec<&'a str>,
    kinds: Kinds<'_>,
    stamp: Stamp,
) -> Map {
    let mut map = Map::default();
    map.entries.reserve_exact(fields.len());
    for (name, value) in fields {
        path.push(name);
        map.entries
            .push((name.clone(), plant(value, path, kinds, stamp)));
        path.pop();
    }
    map
}

/// A node as INSERT makes it: unlike SET, it also says of a map with entries that it exists.
fn plant<'a>(value: &'a Value, path: &mut Vec<&'a str>, kinds: Kinds<'_>, stamp: Stamp) -> Node {
    match (kinds.at(path), value) {
        (Some(FieldKind::Counter), Value::Int(number)) => Node::counter(stamp, *number),
        (None | Some(FieldKind::Map), Value::Object(fields)) => {
            Node::map(stamp, plant_map(fields, path, kinds, stamp))
        }
        _ => Node::register(stamp, value.clone()),
    }
}

/// The document that an INSERT makes of which nothing is known, if it does not take a tree of nodes.
pub(crate) fn inserted(fields: &Object, kinds: Kinds<'_>, stamp: Stamp) -> Option<Vec<u8>> {
    if !kinds.statement().is_empty() || !kinds.declared().is_empty() {
        return None;
    }
    check_fields(fields, kinds).ok()?;
    Some(format::encode_inserted(fields, stamp))
}

/// An encoded document after an UPDATE, if that does not take a tree of nodes.
pub(crate) fn updated(
    bytes: &[u8],
    ops: &[FieldOp],
    stamp: Stamp,
    declared: &[(FieldPath, FieldKind)],
) -> Option<Vec<u8>> {
    let mut sets = Vec::with_capacity(ops.len());
    for op in ops {
        let FieldOp::Set { path, value, kind } = op else {
            return None;
        };
        let [name] = path.segments() else {
            return None;
        };
        check_op(op, declared).ok()?;
        let kind = kind.or_else(|| Declared::new(declared).below(name).own());
        if kind == Some(FieldKind::Counter) || matches!(value, Value::Object(_)) {
            return None;
        }
        sets.push((name.as_str(), value));
    }
    sets.sort_by_key(|(name, _)| *name);
    // Of two writes to one field the later one counts, which the general way knows.
    let is_once = sets.windows(2).all(|pair| pair[0].0 < pair[1].0);
    (is_once && !sets.is_empty())
        .then(|| format::encode_with(bytes, &sets, stamp))
        .flatten()
}

/// The lives of a document under one stamp.
pub(crate) struct Editor<'a> {
    lives: &'a mut Vec<Life>,
    stamp: Stamp,
    /// Where writes go: the latest life. What they replace goes in all lives.
    main: usize,
}

impl<'a> Editor<'a> {
    /// An editor of a document that is there.
    pub(crate) fn new(lives: &'a mut Vec<Life>, stamp: Stamp) -> Self {
        let latest = lives.iter().enumerate().max_by_key(|(_, life)| life.stamp);
        let (main, _) = latest.expect("only a document that is there is edited");
        Self { lives, stamp, main }
    }

    /// Applies the edits in order, or none of them.
    pub(crate) fn apply_all(
        &mut self,
        ops: &[FieldOp],
        declared: &[(FieldPath, FieldKind)],
    ) -> Result<Applied, ApplyError> {
        ops.iter().try_for_each(|op| check_op(op, declared))?;
        // Only a counter can fail once the operands are known to be right.
        let may_fail = |op: &FieldOp| matches!(op, FieldOp::Increment { .. });
        let before = (ops.len() > 1 && ops.iter().any(may_fail)).then(|| self.lives.clone());
        let mut changed = false;
        for op in ops {
            match self.apply(op, declared) {
                Ok(did) => changed |= did,
                Err(error) => {
                    if let Some(before) = before {
                        *self.lives = before;
                    }
                    return Err(error);
                }
            }
        }
        Ok(Applied::from_changed(changed))
    }

    fn apply(
        &mut self,
        op: &FieldOp,
        declared: &[(FieldPath, FieldKind)],
    ) -> Result<bool, ApplyError> {
        match op {
            FieldOp::Set { path, value, kind } => {
                let own = kind.map(|kind| (path.clone(), kind));
                let kinds = Kinds::new(own.as_slice(), declared);
                self.set(&mut segments(path), value, kinds);
                Ok(true)
            }
            FieldOp::Unset { path } => Ok(self.unset(&segments(path))),
            FieldOp::Increment { path, by } => self.increment(path, *by).map(|()| true),
            FieldOp::Restart { path, to } => {
                self.restart(&segments(path), *to);
                Ok(true)
            }
            other => unreachable!("field operation {other:?} is not known to the lattice"),
        }
    }

    /// Sets all fields, as INSERT does where the document is there.
    pub(crate) fn set_all(
        &mut self,
        fields: &Object,
        kinds: Kinds<'_>,
    ) -> Result<Applied, ApplyError> {
        check_fields(fields, kinds)?;
        for (name, value) in fields {
            self.set(&mut vec![name], value, kinds);
        }
        Ok(Applied::from_changed(!fields.is_empty()))
    }

    /// Sets the fields that differ from what is `visible`.
    pub(crate) fn set_differing(
        &mut self,
        fields: &Object,
        kinds: Kinds<'_>,
        visible: &Object,
    ) -> Result<Applied, ApplyError> {
        check_fields(fields, kinds)?;
        let mut changed = false;
        for (name, value) in fields {
            let old = visible.get(name);
            changed |= self.set_if_differing(&mut vec![name], value, kinds, old);
        }
        Ok(Applied::from_changed(changed))
    }

    fn set_if_differing<'v>(
        &mut self,
        path: &mut Vec<&'v str>,
        value: &'v Value,
        kinds: Kinds<'_>,
        visible: Option<&Value>,
    ) -> bool {
        let as_map = matches!(kinds.at(path), None | Some(FieldKind::Map));
        match (value, visible) {
            (Value::Object(fields), Some(Value::Object(old))) if as_map => {
                let mut changed = false;
                for (name, value) in fields {
                    path.push(name);
                    changed |= self.set_if_differing(path, value, kinds, old.get(name));
                    path.pop();
                }
                changed
            }
            (value, Some(old)) if value == old => false,
            _ => {
                self.set(path, value, kinds);
                true
            }
        }
    }

    fn set<'v>(&mut self, path: &mut Vec<&'v str>, value: &'v Value, kinds: Kinds<'_>) {
        match (kinds.at(path), value) {
            (Some(FieldKind::Counter), Value::Int(number)) => self.restart(path, *number),
            (None | Some(FieldKind::Map), Value::Object(fields)) if fields.is_empty() => {
                let stamp = self.stamp;
                let node = self.node_for_write(path);
                retract_from_register_and_counter(node, stamp);
                node.map.get_or_insert_default().stamps = vec![stamp];
            }
            (None | Some(FieldKind::Map), Value::Object(fields)) => {
                for (name, value) in fields {
                    path.push(name);
                    self.set(path, value, kinds);
                    path.pop();
                }
            }
            _ => self.set_register(path, value.clone()),
        }
    }

    fn set_register(&mut self, path: &[&str], value: Value) {
        let stamp = self.stamp;
        for (at, life) in self.lives.iter_mut().enumerate() {
            if at != self.main {
                supersede_register(&mut life.fields, path, stamp);
            }
        }
        let node = self.node_for_write(path);
        node.register = vec![Version { stamp, value }];
        retract_from_map(node, stamp);
        retract_from_counter(node, stamp);
        node.normalize();
    }

    fn unset(&mut self, path: &[&str]) -> bool {
        let stamp = self.stamp;
        let mut found = false;
        for life in self.lives.iter_mut() {
            found |= unset_in_map(&mut life.fields, path, stamp);
        }
        found
    }

    fn increment(&mut self, path: &FieldPath, by: i64) -> Result<(), ApplyError> {
        let overflow = || ApplyError::CounterOverflow { path: path.clone() };
        let actor = self.stamp.dot.actor;
        let counter = counter_at(&self.lives[self.main], path.segments());
        let total = counter.and_then(|counter| counter.sums.get(&actor));
        let total = total.map_or(0, |sum| sum.total).checked_add(by);
        let total = total.ok_or_else(overflow)?;
        let value = self.counter_value(path.segments()) + i128::from(by);
        i64::try_from(value).map_err(|_| overflow())?;

        let stamp = self.stamp;
        let node = self.node_for_write(&segments(path));
        retract_from_map(node, stamp);
        node.register
            .retain(|version| version.stamp.dot != stamp.dot);
        let counter = node.counter.get_or_insert_default();
        counter.stamps = vec![stamp];
        let n = stamp.dot.n;
        counter.sums.insert(actor, Sum { n, total });
        node.normalize();
        Ok(())
    }

    /// What the counter at `path` counts over all lives.
    fn counter_value(&self, path: &[String]) -> i128 {
        if let [only] = &self.lives[..] {
            return counter_at(only, path).map_or(0, Counter::exact_value);
        }
        let mut all = Counter::default();
        for life in self.lives.iter() {
            if let Some(counter) = counter_at(life, path) {
                all.add(counter);
            }
        }
        all.exact_value()
    }

    fn restart(&mut self, path: &[&str], to: i64) {
        let stamp = self.stamp;
        for (at, life) in self.lives.iter_mut().enumerate() {
            if at != self.main
                && let Some(node) = life.fields.find_mut(path)
                && let Some(counter) = &mut node.counter
            {
                counter.rebase(stamp, to);
            }
        }
        let node = self.node_for_write(path);
        retract_from_map(node, stamp);
        node.register
            .retain(|version| version.stamp.dot != stamp.dot);
        node.counter.get_or_insert_default().restart(stamp, to);
        node.normalize();
    }

    /// The node at `path` in the main life, with all the maps above it.
    fn node_for_write(&mut self, path: &[&str]) -> &mut Node {
        let (last, parents) = path.split_last().expect("a path has a segment");
        let mut map = &mut self.lives[self.main].fields;
        for name in parents {
            let node = map.entry(name);
            retract_from_register_and_counter(node, self.stamp);
            map = &mut node.map.get_or_insert_default().map;
        }
        map.entry(last)
    }
}

fn counter_at<'a>(life: &'a Life, path: &[String]) -> Option<&'a Counter> {
    life.fields.find(path)?.counter.as_deref()
}

fn segments(path: &FieldPath) -> Vec<&str> {
    path.segments().iter().map(String::as_str).collect()
}

/// Removes the register at `path` from a life that the new value is not written to.
fn supersede_register(map: &mut Map, path: &[&str], stamp: Stamp) {
    remove_in_map(map, path, stamp, &|node| {
        let found = !node.register.is_empty();
        node.register.clear();
        found
    });
}

/// Removes what is at `path`; false if there is nothing.
fn unset_in_map(map: &mut Map, path: &[&str], stamp: Stamp) -> bool {
    remove_in_map(map, path, stamp, &|node| {
        clear(node, stamp);
        true
    })
}

/// Runs `remove` on the node at `path`; where it did something, notes the removal in the map of the
/// node, or in the nearest one above that something keeps there.
fn remove_in_map(
    map: &mut Map,
    path: &[&str],
    stamp: Stamp,
    remove: &dyn Fn(&mut Node) -> bool,
) -> bool {
    let Some((name, below)) = path.split_first() else {
        return false;
    };
    let Ok(at) = map.position(name) else {
        return false;
    };
    let node = &mut map.entries[at].1;
    if below.is_empty() {
        if !remove(node) {
            return false;
        }
        map.removals = vec![stamp];
    } else {
        let Some(part) = &mut node.map else {
            return false;
        };
        if !remove_in_map(&mut part.map, below, stamp, remove) {
            return false;
        }
        // A map without entries would be kept for the note alone.
        if part.stamps.is_empty() && part.map.entries.is_empty() {
            node.map = None;
            map.removals = vec![stamp];
        }
    }
    node.normalize();
    if node.is_void() {
        map.entries.remove(at);
    }
    true
}

/// Removes all that a node shows. A counter leaves its sums, so that increments that this removal
/// does not see still count alone. Notes of removals go too: that of this one is above them.
fn clear(node: &mut Node, stamp: Stamp) {
    node.register.clear();
    if let Some(part) = &mut node.map {
        part.stamps.clear();
        part.map.removals.clear();
        part.map.entries.retain_mut(|(_, node)| {
            clear(node, stamp);
            !node.is_void()
        });
    }
    if let Some(counter) = &mut node.counter {
        counter.remove(stamp);
    }
    node.normalize();
}

fn retract_from_register_and_counter(node: &mut Node, stamp: Stamp) {
    node.register
        .retain(|version| version.stamp.dot != stamp.dot);
    retract_from_counter(node, stamp);
}

fn retract_from_counter(node: &mut Node, stamp: Stamp) {
    if let Some(counter) = &mut node.counter {
        counter.stamps.retain(|other| other.dot != stamp.dot);
    }
}

fn retract_from_map(node: &mut Node, stamp: Stamp) {
    if let Some(part) = &mut node.map {
        retract_from_part(part, stamp);
    }
}

/// Takes back what the same transaction wrote into a map that it now replaces. What those writes had
/// replaced stays replaced, so the removal is noted.
fn retract_from_part(part: &mut MapPart, stamp: Stamp) {
    part.stamps.retain(|other| other.dot != stamp.dot);
    let mut removed = false;
    part.map.entries.retain_mut(|(_, node)| {
        let versions = node.register.len();
        node.register
            .retain(|version| version.stamp.dot != stamp.dot);
        removed |= node.register.len() < versions;
        retract_from_map(node, stamp);
        retract_from_counter(node, stamp);
        node.normalize();
        removed |= node.is_void();
        !node.is_void()
    });
    if removed {
        part.map.removals = vec![stamp];
    }
}

//! The parts of a document's state: lives, maps, nodes, registers and counters.
//!
//! Everything except the sums of a counter is a set of *dotted* items under the document's version
//! vector: an item that the vector covers and that is not there was removed, so removed items leave
//! nothing behind (docs/merging.md). Lists of items rise strictly by their dot, entries of a map
//! by their name, and nothing void is kept; so a state has one representation.

use std::collections::BTreeMap;

use idem_model::{ActorId, Dot, Stamp, Value};

/// One life of a document: it began with an INSERT and ends with a DELETE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// The INSERT that began it.
    pub(crate) stamp: Stamp,
    pub(crate) fields: Map,
}

/// Nodes by name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Map {
    pub(crate) entries: Vec<(String, Node)>,
    /// The latest removals of something at or below an entry: usually one, several if they were
    /// concurrent. They tell a delta whether it must list what survived.
    pub(crate) removals: Vec<Stamp>,
}

/// What one name of a map holds. Usually one of the three; all of them after concurrent writes of
/// different kinds, and then the newest is visible.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Node {
    /// The concurrent values of the register.
    pub(crate) register: Vec<Version>,
    pub(crate) map: Option<Box<MapPart>>,
    pub(crate) counter: Option<Box<Counter>>,
}

/// One value of a register and the write that it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Version {
    pub(crate) stamp: Stamp,
    pub(crate) value: Value,
}

/// A nested map, and the writes that say that it exists even without entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MapPart {
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) map: Map,
}

/// A running sum for each actor, and the restarts, of one life.
///
/// A counter is one at its path over all lives: what each life counts adds up ([`Counter::add`]). So
/// the end of a life takes away what was counted in it, and nothing else refers to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counter {
    /// The writes that say that the counter exists; none once it was removed.
    pub(crate) stamps: Vec<Stamp>,
    pub(crate) bases: Vec<Base>,
    /// Never removed inside a life: increments that a removal did not see must still count alone.
    pub(crate) sums: BTreeMap<ActorId, Sum>,
}

/// A restart: counting goes on from `value` with what `seen` does not contain.
///
/// A restart or removal puts one base into each life that has the counter, all with the same stamp
/// and value, each with what was seen in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    pub(crate) stamp: Stamp,
    pub(crate) value: i64,
    pub(crate) seen: BTreeMap<ActorId, i64>,
}

/// All increments of one actor up to its commit `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sum {
    pub(crate) n: u64,
    pub(crate) total: i64,
}

/// An item that a commit put there.
pub(crate) trait Dotted {
    fn dot(&self) -> Dot;
}

impl Dotted for Stamp {
    fn dot(&self) -> Dot {
        self.dot
    }
}

impl Dotted for Version {
    fn dot(&self) -> Dot {
        self.stamp.dot
    }
}

impl Dotted for Base {
    fn dot(&self) -> Dot {
        self.stamp.dot
    }
}

impl Map {
    /// Where `name` is, or where it would be.
    pub(crate) fn position(&self, name: &str) -> Result<usize, usize> {
        // Fields mostly arrive in name order, and then the place is the end.
        if self
            .entries
            .last()
            .is_none_or(|(last, _)| last.as_str() < name)
        {
            return Err(self.entries.len());
        }
        self.entries
            .binary_search_by(|(entry, _)| entry.as_str().cmp(name))
    }

    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        Some(&self.entries[self.position(name).ok()?].1)
    }

    /// The node at `path` below this map.
    pub(crate) fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<&Node> {
        let (last, parents) = path.split_last()?;
        let mut map = self;
        for name in parents {
            map = &map.node(name.as_ref())?.map.as_deref()?.map;
        }
        map.node(last.as_ref())
    }

    /// [`Map::find`], to change it.
    pub(crate) fn find_mut(&mut self, path: &[&str]) -> Option<&mut Node> {
        let (last, parents) = path.split_last()?;
        let mut map = self;
        for name in parents {
            let at = map.position(name).ok()?;
            map = &mut map.entries[at].1.map.as_deref_mut()?.map;
        }
        let at = map.position(last).ok()?;
        Some(&mut map.entries[at].1)
    }

    /// The node of `name`, made if it is not there.
    pub(crate) fn entry(&mut self, name: &str) -> &mut Node {
        let at = match self.position(name) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (name.to_owned(), Node::default()));
                at
            }
        };
        &mut self.entries[at].1
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_void(&self) -> bool {
        self.entries.is_empty() && self.removals.is_empty()
    }
}

impl Node {
    /// A register with one value.
    pub(crate) fn register(stamp: Stamp, value: Value) -> Self {
        Self {
            register: vec![Version { stamp, value }],
            ..Self::default()
        }
    }

    /// A map that `stamp` says to exist.
    pub(crate) fn map(stamp: Stamp, map: Map) -> Self {
        Self {
            map: Some(Box::new(MapPart {
                stamps: vec![stamp],
                map,
            })),
            ..Self::default()
        }
    }

    /// A counter that starts at `value`.
    pub(crate) fn counter(stamp: Stamp, value: i64) -> Self {
        let mut counter = Counter::default();
        counter.restart(stamp, value);
        Self {
            counter: Some(Box::new(counter)),
            ..Self::default()
        }
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_void(&self) -> bool {
        self.register.is_empty() && self.map.is_none() && self.counter.is_none()
    }

    /// Drops parts that hold nothing.
    pub(crate) fn normalize(&mut self) {
        if self.map.as_deref().is_some_and(MapPart::is_void) {
            self.map = None;
        }
        if self.counter.as_deref().is_some_and(Counter::is_void) {
            self.counter = None;
        }
    }
}

impl MapPart {
    pub(crate) fn is_void(&self) -> bool {
        self.stamps.is_empty() && self.map.is_void()
    }
}

impl Counter {
    pub(crate) fn is_void(&self) -> bool {
        self.stamps.is_empty() && self.bases.is_empty() && self.sums.is_empty()
    }

    /// Counts from `value` on; increments that are not known here still count.
    pub(crate) fn restart(&mut self, stamp: Stamp, value: i64) {
        self.stamps = vec![stamp];
        self.rebase(stamp, value);
    }

    /// Takes what was counted out of sight, and leaves what was not seen to count alone.
    pub(crate) fn remove(&mut self, stamp: Stamp) {
        self.stamps.clear();
        self.rebase(stamp, 0);
    }

    /// Adds the counter at the same path in another life.
    ///
    /// Sums that leave the 64-bit range stay at its end, for every reader alike.
    pub(crate) fn add(&mut self, other: &Self) {
        for &stamp in &other.stamps {
            if let Err(at) = self.stamps.binary_search_by_key(&stamp.dot, Dotted::dot) {
                self.stamps.insert(at, stamp);
            }
        }
        for base in &other.bases {
            match self.bases.binary_search_by_key(&base.dot(), Dotted::dot) {
                Ok(at) => {
                    let seen = &mut self.bases[at].seen;
                    for (&actor, &total) in &base.seen {
                        let known = seen.entry(actor).or_default();
                        *known = known.saturating_add(total);
                    }
                }
                Err(at) => self.bases.insert(at, base.clone()),
            }
        }
        for (&actor, &sum) in &other.sums {
            let known = self.sums.entry(actor).or_insert(Sum { n: 0, total: 0 });
            known.n = known.n.max(sum.n);
            known.total = known.total.saturating_add(sum.total);
        }
    }

    /// Sets where counting goes on from, without a word on whether the counter is there.
    pub(crate) fn rebase(&mut self, stamp: Stamp, value: i64) {
        let seen = self.sums.iter().map(|(&actor, sum)| (actor, sum.total));
        self.bases = vec![Base {
            stamp,
            value,
            seen: seen.collect(),
        }];
    }
}

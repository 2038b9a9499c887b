//! The join of two states.
//!
//! What both sides have stays. What only one side has stays if the other's version vector does not
//! cover its dot, and goes if it does: the other side had it and removed it.
//!
//! The union of the lives of one document, for its reader, is the same with nothing covered, except
//! that the sums of a counter add up ([`union_of_lives`]).

use std::{borrow::Cow, cmp::Ordering};

use idem_model::{Dot, VersionVector};

use crate::state::{Counter, Dotted, Life, Map, MapPart, Node, Sum};

/// What the two sides of a join know.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) mine: &'a VersionVector,
    pub(crate) theirs: &'a VersionVector,
    /// What `theirs` leaves out because it was there at that version; empty for a whole state.
    pub(crate) since: &'a VersionVector,
    /// Whether the two sides are different lives. In states of one life, the newer sum of an actor
    /// contains the older one; sums of different lives never contain each other.
    are_lives: bool,
}

impl<'a> Context<'a> {
    /// What the two states of one document know.
    pub(crate) fn of_states(
        mine: &'a VersionVector,
        theirs: &'a VersionVector,
        since: &'a VersionVector,
    ) -> Self {
        Self {
            mine,
            theirs,
            since,
            are_lives: false,
        }
    }

    /// Whether the other side had `dot`, which it does not list.
    fn removed(&self, dot: Dot) -> bool {
        self.theirs.covers(dot)
    }

    /// Whether this side has never had `dot`.
    fn unseen(&self, dot: Dot) -> bool {
        !self.mine.covers(dot)
    }
}

/// Joins the lives of another state, or of a delta, into `mine`.
pub(crate) fn join_lives(mine: &mut Vec<Life>, theirs: &[Life], cx: Context<'_>) {
    let listed = |dot| theirs.binary_search_by_key(&dot, |life| life.stamp.dot);
    mine.retain(|life| listed(life.stamp.dot).is_ok() || !cx.removed(life.stamp.dot));
    for their in theirs {
        match mine.binary_search_by_key(&their.stamp.dot, |life| life.stamp.dot) {
            Ok(at) => join_map(&mut mine[at].fields, &their.fields, cx, cx.since.is_empty()),
            Err(at) if cx.unseen(their.stamp.dot) => mine.insert(
                at,
                Life {
                    stamp: their.stamp,
                    fields: unseen_of_map(&their.fields, cx),
                },
            ),
            Err(_) => {}
        }
    }
}

/// All lives seen as one map: a union, since their dots differ.
pub(crate) fn union_of_lives(lives: &[Life]) -> Cow<'_, Map> {
    let nothing = VersionVector::new();
    let cx = Context {
        mine: &nothing,
        theirs: &nothing,
        since: &nothing,
        are_lives: true,
    };
    match lives {
        [] => Cow::Owned(Map::default()),
        [only] => Cow::Borrowed(&only.fields),
        [first, rest @ ..] => {
            let mut union = first.fields.clone();
            for life in rest {
                join_map(&mut union, &life.fields, cx, false);
            }
            Cow::Owned(union)
        }
    }
}

/// Joins `theirs` into `mine`. `whole` says that `theirs` lists all that it has; otherwise what it
/// does not list is as it was at `cx.since`.
fn join_map(mine: &mut Map, theirs: &Map, cx: Context<'_>, whole: bool) {
    let whole = whole || lists_all(theirs, cx.since);
    if whole {
        join_dotted(&mut mine.removals, &theirs.removals, cx);
    }
    let mut entries = Vec::with_capacity(mine.entries.len().max(theirs.entries.len()));
    let mut rest = theirs.entries.iter().peekable();
    for (name, mut node) in std::mem::take(&mut mine.entries) {
        let mut listed = None;
        while let Some((their_name, their_node)) = rest.peek() {
            match their_name.cmp(&name) {
                Ordering::Less => {
                    push(
                        &mut entries,
                        their_name.clone(),
                        unseen_of_node(their_node, cx),
                    );
                }
                Ordering::Equal => listed = Some(their_node),
                Ordering::Greater => break,
            }
            rest.next();
        }
        match listed {
            Some(their_node) => join_node(&mut node, their_node, cx, whole),
            None if whole => drop_removed(&mut node, cx),
            None => {}
        }
        push(&mut entries, name, node);
    }
    for (name, node) in rest {
        push(&mut entries, name.clone(), unseen_of_node(node, cx));
    }
    mine.entries = entries;
}

/// Whether a delta's map lists its survivors: something was removed from it after `since`.
pub(crate) fn lists_all(map: &Map, since: &VersionVector) -> bool {
    map.removals.iter().any(|stamp| !since.covers(stamp.dot))
}

fn push(entries: &mut Vec<(String, Node)>, name: String, mut node: Node) {
    node.normalize();
    if !node.is_void() {
        entries.push((name, node));
    }
}

fn join_node(mine: &mut Node, theirs: &Node, cx: Context<'_>, whole: bool) {
    join_dotted(&mut mine.register, &theirs.register, cx);
    match (&mut mine.map, &theirs.map) {
        (Some(mine), Some(theirs)) => {
            join_dotted(&mut mine.stamps, &theirs.stamps, cx);
            join_map(&mut mine.map, &theirs.map, cx, whole);
        }
        (Some(mine), None) if whole => drop_removed_of_part(mine, cx),
        (None, Some(theirs)) => mine.map = Some(Box::new(unseen_of_part(theirs, cx))),
        (_, None) => {}
    }
    match (&mut mine.counter, &theirs.counter) {
        (Some(mine), Some(theirs)) => join_counter(mine, theirs, cx),
        (Some(mine), None) => join_counter(mine, &Counter::default(), cx),
        (None, Some(theirs)) => {
            let mut counter = Counter::default();
            join_counter(&mut counter, theirs, cx);
            mine.counter = Some(Box::new(counter));
        }
        (None, None) => {}
    }
}

fn join_counter(mine: &mut Counter, theirs: &Counter, cx: Context<'_>) {
    if cx.are_lives {
        mine.add(theirs);
        return;
    }
    join_dotted(&mut mine.stamps, &theirs.stamps, cx);
    join_dotted(&mut mine.bases, &theirs.bases, cx);
    for (&actor, &sum) in &theirs.sums {
        let known = mine.sums.entry(actor).or_insert(Sum { n: 0, total: 0 });
        if sum.n > known.n {
            *known = sum;
        }
    }
}

fn join_dotted<T: Dotted + Clone>(mine: &mut Vec<T>, theirs: &[T], cx: Context<'_>) {
    let listed = |dot| theirs.binary_search_by_key(&dot, Dotted::dot);
    mine.retain(|item| listed(item.dot()).is_ok() || !cx.removed(item.dot()));
    for item in theirs {
        if let Err(at) = mine.binary_search_by_key(&item.dot(), Dotted::dot)
            && cx.unseen(item.dot())
        {
            mine.insert(at, item.clone());
        }
    }
}

/// Takes out what the other side had and does not list.
fn drop_removed(node: &mut Node, cx: Context<'_>) {
    node.register.retain(|version| !cx.removed(version.dot()));
    if let Some(part) = &mut node.map {
        drop_removed_of_part(part, cx);
    }
    if let Some(counter) = &mut node.counter {
        join_counter(counter, &Counter::default(), cx);
    }
}

fn drop_removed_of_part(part: &mut MapPart, cx: Context<'_>) {
    part.stamps.retain(|stamp| !cx.removed(stamp.dot));
    part.map.removals.retain(|stamp| !cx.removed(stamp.dot));
    part.map.entries.retain_mut(|(_, node)| {
        drop_removed(node, cx);
        node.normalize();
        !node.is_void()
    });
}

/// Copies what this side has never had. A delta's placeholders are not among it, because this side
/// covers the version that they stand for.
fn unseen_of_node(theirs: &Node, cx: Context<'_>) -> Node {
    let mut node = Node::default();
    join_node(&mut node, theirs, cx, true);
    node
}

fn unseen_of_part(theirs: &MapPart, cx: Context<'_>) -> MapPart {
    let mut part = MapPart::default();
    join_dotted(&mut part.stamps, &theirs.stamps, cx);
    part.map = unseen_of_map(&theirs.map, cx);
    part
}

fn unseen_of_map(theirs: &Map, cx: Context<'_>) -> Map {
    let mut map = Map::default();
    join_map(&mut map, theirs, cx, true);
    map
}

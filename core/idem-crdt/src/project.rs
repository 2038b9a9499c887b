//! The part of a state that some paths name.
//!
//! Everything in a state but its version, its time and its lives belongs to one path, and a join treats
//! each path by itself. So what is left of a join when the other paths are left out is the join of
//! what is left of both sides, and a projected state is what its version makes of its paths. Projected
//! states of the same paths therefore merge among each other, and are converged when their versions are
//! equal; with whole states they do not merge, since a field that was left out looks like one that was
//! removed.
//!
//! Deltas are different: what a delta lists at a place follows from what changed below it, and a
//! projected state does not tell any more what did. So a delta is made of whole states and then projected,
//! with everything that it lists on the way to a path.

use idem_model::{FieldPath, Object, Value};

use crate::{
    delta::Delta,
    document::Document,
    state::{Life, Map, MapPart, Node, Version},
};

/// What is left of the paths below some place.
type Tails<'a> = Vec<&'a [String]>;

impl Document {
    /// The state that is left where only `paths` are kept: the fields that they name with all below them,
    /// and the objects on the way to them. A field on the way that holds something other than an object
    /// shows null in its place. Version, time and lives stay, so a tombstone stays as it is.
    ///
    /// For all states `a` and `b` of a document, merging the projections of both is the projection of the
    /// merged state. Where a field on the way holds values of several kinds at once, another one of them
    /// may show than in the whole document. For what one projection lacks of another, project the delta
    /// ([`Delta::project`]): [`Document::delta`] of a projection does not tell all of it.
    ///
    /// Costs a copy of what is kept, and a look at the names of the rest.
    #[must_use]
    pub fn project(&self, paths: &[FieldPath]) -> Self {
        Self {
            version: self.version.clone(),
            time: self.time,
            lives: project_lives(&self.lives, paths, false),
        }
    }
}

impl Delta {
    /// What this delta tells of `paths`: merged into the projection of a state that it fits, it makes the
    /// projection of what it makes of that state.
    #[must_use]
    pub fn project(&self, paths: &[FieldPath]) -> Self {
        Self {
            since: self.since.clone(),
            version: self.version.clone(),
            time: self.time,
            // That a field is listed tells what of it is gone, even if nothing is left. A delta since
            // nothing is a state, which lists no such field.
            lives: project_lives(&self.lives, paths, !self.since.is_empty()),
        }
    }
}

fn project_lives(lives: &[Life], paths: &[FieldPath], keeps_void: bool) -> Vec<Life> {
    let tails: Tails<'_> = paths.iter().map(FieldPath::segments).collect();
    let lives = lives.iter().map(|life| Life {
        stamp: life.stamp,
        fields: project_map(&life.fields, &tails, keeps_void),
    });
    lives.collect()
}

/// The removals stay, whatever they removed: they tell a delta to list what is left, which is right where
/// there is less of it.
fn project_map(map: &Map, paths: &Tails<'_>, keeps_void: bool) -> Map {
    let mut kept = Map {
        entries: Vec::new(),
        removals: map.removals.clone(),
    };
    for (name, node) in &map.entries {
        let Some(tails) = below(name, paths) else {
            continue;
        };
        let node = match is_whole(&tails) {
            true => node.clone(),
            false => project_node(node, &tails, keeps_void),
        };
        if keeps_void || !node.is_void() {
            kept.entries.push((name.clone(), node));
        }
    }
    kept
}

fn project_node(node: &Node, paths: &Tails<'_>, keeps_void: bool) -> Node {
    let register = node.register.iter().map(|version| Version {
        stamp: version.stamp,
        value: project_value(&version.value, paths),
    });
    let map = node.map.as_deref().map(|part| {
        Box::new(MapPart {
            stamps: part.stamps.clone(),
            map: project_map(&part.map, paths, keeps_void),
        })
    });
    let mut kept = Node {
        register: register.collect(),
        map,
        counter: node.counter.clone(),
    };
    if !keeps_void {
        kept.normalize();
    }
    kept
}

fn project_value(value: &Value, paths: &Tails<'_>) -> Value {
    let Value::Object(fields) = value else {
        return Value::Null;
    };
    let mut kept = Object::new();
    for (name, value) in fields {
        let Some(tails) = below(name, paths) else {
            continue;
        };
        let value = match is_whole(&tails) {
            true => value.clone(),
            false => project_value(value, &tails),
        };
        kept.insert(name.clone(), value);
    }
    Value::Object(kept)
}

/// What the paths name below a field; `None` if none of them goes there.
fn below<'a>(name: &str, paths: &Tails<'a>) -> Option<Tails<'a>> {
    let tails = paths.iter().filter_map(|path| match path.split_first() {
        Some((first, tail)) if first == name => Some(tail),
        _ => None,
    });
    let tails: Tails<'_> = tails.collect();
    (!tails.is_empty()).then_some(tails)
}

/// Whether one of the paths ends here.
fn is_whole(tails: &Tails<'_>) -> bool {
    tails.iter().any(|tail| tail.is_empty())
}

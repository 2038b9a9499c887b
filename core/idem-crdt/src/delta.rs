//! What one state of a document has and another lacks.
//!
//! A delta has the shape of a state, less what was there at [`Delta::since`]:
//!
//! - all lives are listed, because they are few; a life that is not listed was ended;
//! - a map lists the entries in which something is newer than `since`. Where something was removed
//!   from it after `since` it lists all that survives in it instead, and what it does not list is gone;
//! - an entry that is listed names all its items. Those that the receiver knows stand without their
//!   values, because it either has them or has removed them.

use idem_model::{DecodeError, Dot, Timestamp, Value, VersionVector};

use crate::{
    format,
    merge::lists_all,
    state::{Base, Counter, Life, Map, MapPart, Node, Version},
};

/// What a state of version [`Delta::since`] lacks of a newer one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    pub(crate) since: VersionVector,
    pub(crate) version: VersionVector,
    pub(crate) time: Timestamp,
    pub(crate) lives: Vec<Life>,
}

/// A delta was merged into a state that does not cover the version that it builds on.
///
/// The receiver asks again with its own version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the delta builds on a version that this document has not reached")]
#[non_exhaustive]
pub struct DeltaGap {}

impl Delta {
    /// What the receiving state must cover: what was asked for, as far as the sender had it.
    pub fn since(&self) -> &VersionVector {
        &self.since
    }

    /// What the receiving state covers afterwards, at least.
    pub fn version(&self) -> &VersionVector {
        &self.version
    }

    /// The time of the latest commit in the sender's state.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether the document is there in the sender's state.
    pub fn is_present(&self) -> bool {
        !self.lives.is_empty()
    }

    /// The canonical binary form (docs/format/disk.md, "Deltas").
    pub fn to_bytes(&self) -> Vec<u8> {
        format::encode_delta(self)
    }

    /// Reads [`Delta::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] on anything that `to_bytes` does not produce.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        format::decode_delta(bytes)
    }

    /// The difference between a state with these parts and one of version `since`.
    pub(crate) fn between(
        version: &VersionVector,
        time: Timestamp,
        lives: &[Life],
        since: &VersionVector,
    ) -> Self {
        // What the sender does not know itself it cannot build on.
        let since: VersionVector = version
            .iter()
            .map(|dot| Dot {
                actor: dot.actor,
                n: dot.n.min(since.get(dot.actor)),
            })
            .filter(|dot| dot.n > 0)
            .collect();
        let lives = lives.iter().map(|life| Life {
            stamp: life.stamp,
            fields: newer_in_map(&life.fields, &since, false).unwrap_or_default(),
        });
        Self {
            lives: lives.collect(),
            version: version.clone(),
            since,
            time,
        }
    }
}

/// What the delta lists of a map; `None` if nothing. `whole` says that it lists all of it because
/// something was removed further up.
fn newer_in_map(map: &Map, since: &VersionVector, whole: bool) -> Option<Map> {
    let whole = whole || lists_all(map, since);
    let mut listed = Map::default();
    for (name, node) in &map.entries {
        if let Some(node) = newer_in_node(node, since, whole) {
            listed.entries.push((name.clone(), node));
        }
    }
    if whole {
        listed.removals = map.removals.clone();
    }
    (whole || !listed.entries.is_empty()).then_some(listed)
}

fn newer_in_node(node: &Node, since: &VersionVector, whole: bool) -> Option<Node> {
    let inside = node
        .map
        .as_deref()
        .and_then(|part| newer_in_map(&part.map, since, whole));
    let is_newer = whole || inside.is_some() || has_newer_items(node, since);
    is_newer.then(|| Node {
        register: node
            .register
            .iter()
            .map(|version| without_known_values(version, since))
            .collect(),
        map: node.map.as_deref().map(|part| {
            Box::new(MapPart {
                stamps: part.stamps.clone(),
                map: inside.unwrap_or_default(),
            })
        }),
        counter: node
            .counter
            .as_deref()
            .map(|counter| Box::new(newer_in_counter(counter, since))),
    })
}

/// Whether an item of the node itself, not of what is in its map, is newer than `since`.
fn has_newer_items(node: &Node, since: &VersionVector) -> bool {
    let mut stamps = node.register.iter().map(|version| &version.stamp);
    let mut part = node.map.iter().flat_map(|part| &part.stamps);
    stamps.any(|stamp| !since.covers(stamp.dot))
        || part.any(|stamp| !since.covers(stamp.dot))
        || node.counter.as_deref().is_some_and(|counter| {
            let mut bases = counter.bases.iter().map(|base| base.stamp.dot);
            let mut sums = counter.sums.iter();
            counter.stamps.iter().any(|stamp| !since.covers(stamp.dot))
                || bases.any(|dot| !since.covers(dot))
                || sums.any(|(&actor, sum)| sum.n > since.get(actor))
        })
}

fn without_known_values(version: &Version, since: &VersionVector) -> Version {
    Version {
        stamp: version.stamp,
        value: if since.covers(version.stamp.dot) {
            Value::Null
        } else {
            version.value.clone()
        },
    }
}

fn newer_in_counter(counter: &Counter, since: &VersionVector) -> Counter {
    let bases = counter.bases.iter().map(|base| {
        if since.covers(base.stamp.dot) {
            Base {
                stamp: base.stamp,
                value: 0,
                seen: Default::default(),
            }
        } else {
            base.clone()
        }
    });
    let sums = counter.sums.iter().map(|(&actor, &sum)| (actor, sum));
    Counter {
        stamps: counter.stamps.clone(),
        bases: bases.collect(),
        sums: sums
            .filter(|(actor, sum)| sum.n > since.get(*actor))
            .collect(),
    }
}

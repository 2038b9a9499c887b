//! What a user sees of a state: the newest kind of each node, the newest value of each register.

use std::cmp::Ordering;

use idem_model::{Object, Stamp, Timestamp, Value, ValueKind};

use crate::state::{Counter, Map, MapPart, Node, Version};

/// What is visible of a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown<'a> {
    /// This version of its register.
    Register(&'a Version),
    /// Its map, with the visible entries.
    Map(Vec<(&'a str, Self)>),
    /// Its counter, with its value.
    Counter(i64),
}

impl Shown<'_> {
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Register(version) => version.value.clone(),
            Self::Map(entries) => Value::Object(to_object(entries)),
            Self::Counter(value) => Value::Int(*value),
        }
    }
}

pub(crate) fn to_object(entries: &[(&str, Shown<'_>)]) -> Object {
    entries
        .iter()
        .map(|(name, shown)| ((*name).to_owned(), shown.to_value()))
        .collect()
}

/// The visible entries of a map.
pub(crate) fn show_map(map: &Map) -> Vec<(&str, Shown<'_>)> {
    let mut shown = Vec::with_capacity(map.entries.len());
    for (name, node) in &map.entries {
        if let Some(node) = show_node(node) {
            shown.push((name.as_str(), node));
        }
    }
    shown
}

/// What is visible of a node; `None` if it holds only what must be remembered.
pub(crate) fn show_node(node: &Node) -> Option<Shown<'_>> {
    match (
        &node.register[..],
        node.map.as_deref(),
        node.counter.as_deref(),
    ) {
        ([], None, None) => None,
        ([only], None, None) => Some(Shown::Register(only)),
        (versions, None, None) => newest_version(versions).map(Shown::Register),
        ([], Some(part), None) => show_part(part),
        ([], None, Some(counter)) => show_counter(counter),
        _ => candidates(node)
            .into_iter()
            .max_by(|(a, _), (b, _)| a.compare(b))
            .map(|(_, shown)| shown),
    }
}

/// All concurrent values of a node, newest first: those of its register, and its map and counter
/// where a register took their place or they took its.
pub(crate) fn show_conflicts(node: &Node) -> Vec<Value> {
    let mut values: Vec<(Recency, Value)> = candidates(node)
        .into_iter()
        .filter(|(_, shown)| !matches!(shown, Shown::Register(_)))
        .map(|(recency, shown)| (recency, shown.to_value()))
        .chain(
            node.register
                .iter()
                .map(|version| (Recency::of_version(version), version.value.clone())),
        )
        .collect();
    values.sort_by(|(a, x), (b, y)| later((a, x), (b, y)).reverse());
    values.into_iter().map(|(_, value)| value).collect()
}

fn later((a, x): (&Recency, &Value), (b, y): (&Recency, &Value)) -> Ordering {
    let by_value = || match a.stamp.time {
        Timestamp::ZERO => x.compare(y),
        _ => Ordering::Equal,
    };
    (a.stamp.time.cmp(&b.stamp.time))
        .then_with(by_value)
        .then_with(|| a.compare(b))
}

fn show_part(part: &MapPart) -> Option<Shown<'_>> {
    let entries = show_map(&part.map);
    (!entries.is_empty() || !part.stamps.is_empty()).then_some(Shown::Map(entries))
}

fn show_counter(counter: &Counter) -> Option<Shown<'_>> {
    (!counter.stamps.is_empty()).then(|| Shown::Counter(counter.value()))
}

/// Each kind that a node has, with its newest write.
fn candidates(node: &Node) -> Vec<(Recency, Shown<'_>)> {
    let mut kinds = Vec::with_capacity(3);
    if let Some(version) = newest_version(&node.register) {
        kinds.push((Recency::of_version(version), Shown::Register(version)));
    }
    if let Some((part, stamp)) = node
        .map
        .as_deref()
        .and_then(|part| Some((part, newest_in_part(part)?)))
    {
        let recency = Recency {
            stamp,
            kind: ValueKind::Object,
            rank: 1,
        };
        kinds.extend(show_part(part).map(|shown| (recency, shown)));
    }
    if let Some((counter, &stamp)) = node
        .counter
        .as_deref()
        .and_then(|counter| Some((counter, counter.stamps.iter().max()?)))
    {
        let recency = Recency {
            stamp,
            kind: ValueKind::Number,
            rank: 0,
        };
        kinds.extend(show_counter(counter).map(|shown| (recency, shown)));
    }
    kinds
}

/// How new the newest write of a kind is.
struct Recency {
    stamp: Stamp,
    kind: ValueKind,
    /// Between two kinds that one commit wrote; such a state is never published.
    rank: u8,
}

impl Recency {
    fn of_version(version: &Version) -> Self {
        Self {
            stamp: version.stamp,
            kind: version.value.kind(),
            rank: 2,
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        // The dot of INSERT INITIAL is a hash, so between two of them what was written decides.
        let by_kind = || match self.stamp.time {
            Timestamp::ZERO => self.kind.cmp(&other.kind),
            _ => Ordering::Equal,
        };
        (self.stamp.time.cmp(&other.stamp.time))
            .then_with(by_kind)
            .then_with(|| self.stamp.cmp(&other.stamp))
            .then_with(|| self.rank.cmp(&other.rank))
    }
}

/// The version that is visible: the newest, and among INITIAL ones the greatest value.
fn newest_version(versions: &[Version]) -> Option<&Version> {
    versions.iter().max_by(|a, b| {
        let by_value = || match a.stamp.time {
            Timestamp::ZERO => a.value.compare(&b.value),
            _ => Ordering::Equal,
        };
        (a.stamp.time.cmp(&b.stamp.time))
            .then_with(by_value)
            .then_with(|| a.stamp.cmp(&b.stamp))
    })
}

/// The newest write at or below a node that still says something is there.
fn newest_in_node(node: &Node) -> Option<Stamp> {
    let register = node.register.iter().map(|version| version.stamp).max();
    let map = node.map.as_deref().and_then(newest_in_part);
    let counter = node
        .counter
        .as_deref()
        .and_then(|c| c.stamps.iter().copied().max());
    register.max(map).max(counter)
}

fn newest_in_part(part: &MapPart) -> Option<Stamp> {
    let inside = part
        .map
        .entries
        .iter()
        .filter_map(|(_, node)| newest_in_node(node));
    inside.chain(part.stamps.iter().copied()).max()
}

impl Counter {
    /// What is counted: the latest restart and what it had not seen. Stays at the end of the 64-bit
    /// range if concurrent increments go beyond it.
    pub(crate) fn value(&self) -> i64 {
        let total = self.exact_value();
        i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX })
    }

    /// The value without a range. Each part is 64 bits wide and there are far fewer than 2^63.
    pub(crate) fn exact_value(&self) -> i128 {
        let base = self.bases.iter().max_by(|a, b| {
            let by_value = || match a.stamp.time {
                Timestamp::ZERO => a.value.cmp(&b.value),
                _ => Ordering::Equal,
            };
            (a.stamp.time.cmp(&b.stamp.time))
                .then_with(by_value)
                .then_with(|| a.stamp.cmp(&b.stamp))
        });
        let seen = |actor| base.and_then(|base| base.seen.get(actor)).copied();
        let since: i128 = self
            .sums
            .iter()
            .map(|(actor, sum)| i128::from(sum.total) - i128::from(seen(actor).unwrap_or(0)))
            .sum();
        since + base.map_or(0, |base| i128::from(base.value))
    }
}

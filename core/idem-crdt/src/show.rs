//! What a user sees of a state: the declared kind of each node, or else the newest one, and the newest
//! value of each register.

use std::cmp::Ordering;

use idem_model::{Declared, FieldKind, Object, Stamp, Timestamp, Value, ValueKind};

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
pub(crate) fn show_map<'a>(map: &'a Map, declared: Declared<'_>) -> Vec<(&'a str, Shown<'a>)> {
    let mut shown = Vec::with_capacity(map.entries.len());
    for (name, node) in &map.entries {
        if let Some(node) = show_node(node, declared.below(name)) {
            shown.push((name.as_str(), node));
        }
    }
    shown
}

/// What is visible of a node; `None` if it holds only what must be remembered.
pub(crate) fn show_node<'a>(node: &'a Node, declared: Declared<'_>) -> Option<Shown<'a>> {
    match (
        &node.register[..],
        node.map.as_deref(),
        node.counter.as_deref(),
    ) {
        ([], None, None) => None,
        ([only], None, None) => Some(Shown::Register(only)),
        (versions, None, None) => newest_version(versions).map(Shown::Register),
        ([], Some(part), None) => show_part(part, declared),
        ([], None, Some(counter)) => show_counter(counter),
        _ => {
            let mut kinds = candidates(node, declared);
            let at = visible_among(&kinds, declared.own())?;
            Some(kinds.swap_remove(at).1)
        }
    }
}

/// All concurrent values of a node, the visible one first and the others newest first: those of its
/// register, and its map and counter where a register took their place or they took its.
pub(crate) fn show_conflicts(node: &Node, declared: Declared<'_>) -> Vec<Value> {
    let mut kinds = candidates(node, declared);
    let visible = visible_among(&kinds, declared.own()).map(|at| kinds.swap_remove(at));
    let visible_version = match &visible {
        Some((_, Shown::Register(version))) => Some(version.stamp.dot),
        _ => None,
    };
    let mut others: Vec<(Recency, Value)> = kinds
        .into_iter()
        .filter(|(_, shown)| !matches!(shown, Shown::Register(_)))
        .map(|(recency, shown)| (recency, shown.to_value()))
        .chain(
            node.register
                .iter()
                .filter(|version| Some(version.stamp.dot) != visible_version)
                .map(|version| (Recency::of_version(version), version.value.clone())),
        )
        .collect();
    others.sort_by(|(a, x), (b, y)| later((a, x), (b, y)).reverse());
    let visible = visible.map(|(_, shown)| shown.to_value());
    let others = others.into_iter().map(|(_, value)| value);
    visible.into_iter().chain(others).collect()
}

/// Which of the kinds of a node is visible: the declared one if it is there, else the newest.
fn visible_among(kinds: &[(Recency, Shown<'_>)], declared: Option<FieldKind>) -> Option<usize> {
    let is_declared = |(_, shown): &(Recency, Shown<'_>)| {
        declared.is_some_and(|kind| match shown {
            Shown::Map(_) => kind == FieldKind::Map,
            Shown::Counter(_) => kind == FieldKind::Counter,
            // Register, and Attachment, which merges like one.
            Shown::Register(_) => !matches!(kind, FieldKind::Map | FieldKind::Counter),
        })
    };
    let newest = || {
        let kinds = kinds.iter().enumerate();
        let newest = kinds.max_by(|(_, (a, _)), (_, (b, _))| a.compare(b));
        newest.map(|(at, _)| at)
    };
    kinds.iter().position(is_declared).or_else(newest)
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

fn show_part<'a>(part: &'a MapPart, declared: Declared<'_>) -> Option<Shown<'a>> {
    let entries = show_map(&part.map, declared);
    (!entries.is_empty() || !part.stamps.is_empty()).then_some(Shown::Map(entries))
}

fn show_counter(counter: &Counter) -> Option<Shown<'_>> {
    (!counter.stamps.is_empty()).then(|| Shown::Counter(counter.value()))
}

/// Each kind that a node has, with its newest write.
fn candidates<'a>(node: &'a Node, declared: Declared<'_>) -> Vec<(Recency, Shown<'a>)> {
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
        kinds.extend(show_part(part, declared).map(|shown| (recency, shown)));
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

//! Tests of fields to ranges of index keys.
//!
//! A range may hold more than the matching keys, never fewer. Keys tell `1` from `1.0` in their last
//! byte, and so do numbers inside arrays and objects: a bound made of such a value is cut before it.

use idem_model::{Value, key, limits};

use super::{FieldTest, IndexPath, Test, access::Origin};
use crate::{
    ast::{CompareOp, IsTest},
    eval::{Env, Row, eval, pattern},
    expr::Expr,
    source::{IndexField, IndexKey, KeySpan},
};

/// From the first bytes, inclusive, to the second, exclusive; both may be prefixes of keys.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// The keys of one field that tests let through.
struct Keys {
    shape: Shape,
    /// Whether the tests hold for every one of these keys.
    is_exact: bool,
}

enum Shape {
    /// Whole encodings; more fields may follow.
    Points(Vec<Vec<u8>>),
    /// Sorted and disjoint.
    Ranges(Vec<Range>),
}

fn points(points: Vec<Vec<u8>>) -> Keys {
    Keys {
        shape: Shape::Points(points),
        is_exact: true,
    }
}

fn ranges(ranges: Vec<Range>) -> Keys {
    Keys {
        shape: Shape::Ranges(ranges),
        is_exact: true,
    }
}

/// The ranges of an index that hold every row which passes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Spans {
    /// By what the keys start with.
    pub(crate) groups: Vec<SpanGroup>,
    /// The conditions of the source's filter that hold for every row in the ranges, as bits.
    pub(crate) covered: u64,
    /// Whether every key of a group starts with its prefix, which is that of as many fields as the
    /// order asked for. Not so if there were too many prefixes, or if values had no single key.
    pub(crate) is_grouped: bool,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SpanGroup {
    pub(crate) prefix: Vec<u8>,
    /// In key order and disjoint.
    pub(crate) spans: Vec<KeySpan>,
}

/// The ranges of an index that hold every row which passes the tests. `outer` has the slots before
/// the source. The spans are in one group, unless the path has an order: then there is a group for
/// each value of the fields before those of the order.
pub(crate) fn index_spans(
    tests: &[FieldTest],
    path: &IndexPath,
    outer: &Row<'_>,
    env: &Env<'_>,
) -> Spans {
    let fixed = path.order.as_ref().map_or(0, |order| order.fixed_fields);
    let mut builder = Builder {
        groups: vec![Vec::new()],
        prefixes: vec![(0, Vec::new())],
        ..Builder::default()
    };
    let mut covered = 0;
    for (at, field) in path.index.fields().iter().enumerate() {
        if at == fixed {
            builder.regroup();
        }
        let Some((keys, conditions)) = keys_of(tests, path, field, outer, env) else {
            break;
        };
        let is_exact = keys.is_exact;
        let Some(is_last) = builder.add(keys, field.descending) else {
            break;
        };
        if is_exact {
            covered |= conditions;
        }
        if is_last {
            break;
        }
    }
    if fixed == path.index.fields().len() {
        builder.regroup();
    }
    builder.finish(covered, fixed)
}

#[derive(Default)]
struct Builder {
    /// The prefix of each group.
    groups: Vec<Vec<u8>>,
    /// Whole fields so far, with their group.
    prefixes: Vec<(usize, Vec<u8>)>,
    fields: usize,
    grouped_at: usize,
    ranges: Option<Vec<(usize, KeySpan)>>,
}

impl Builder {
    fn regroup(&mut self) {
        self.groups = self
            .prefixes
            .iter()
            .map(|(_, prefix)| prefix.clone())
            .collect();
        for (at, prefix) in self.prefixes.iter_mut().enumerate() {
            prefix.0 = at;
        }
        self.grouped_at = self.fields;
    }

    /// Adds the keys of the next field; whether it is the last one, `None` if there would be too many
    /// ranges.
    fn add(&mut self, keys: Keys, descending: bool) -> Option<bool> {
        let count = match &keys.shape {
            Shape::Points(points) => points.len(),
            Shape::Ranges(ranges) => ranges.len(),
        };
        // One list is as long as who wrote it made it; several multiply.
        if self.prefixes.len() > 1
            && count > 1
            && self.prefixes.len().saturating_mul(count) > limits::INDEX_SPANS_MAX
        {
            return None;
        }
        match keys.shape {
            Shape::Points(points) => {
                let mut all = Vec::with_capacity(self.prefixes.len() * points.len());
                for (group, prefix) in &self.prefixes {
                    for point in &points {
                        let mut key = Vec::with_capacity(prefix.len() + point.len());
                        key.extend_from_slice(prefix);
                        match descending {
                            true => key.extend(point.iter().map(|byte| !byte)),
                            false => key.extend_from_slice(point),
                        }
                        all.push((*group, key));
                    }
                }
                self.prefixes = all;
                self.fields += 1;
                Some(false)
            }
            Shape::Ranges(ranges) => {
                let mut all = Vec::new();
                for (group, prefix) in &self.prefixes {
                    for range in &ranges {
                        let span = with_prefix(prefix, range, descending);
                        all.extend(span.map(|span| (*group, span)));
                    }
                }
                self.ranges = Some(all);
                Some(true)
            }
        }
    }

    fn finish(self, covered: u64, fixed: usize) -> Spans {
        let spans = self.ranges.unwrap_or_else(|| {
            let prefixes = self.prefixes.into_iter();
            prefixes
                .map(|(group, prefix)| {
                    let to = key::prefix_end(&prefix);
                    (group, KeySpan { from: prefix, to })
                })
                .collect()
        });
        let mut groups: Vec<SpanGroup> = self
            .groups
            .into_iter()
            .map(|prefix| SpanGroup {
                prefix,
                spans: Vec::new(),
            })
            .collect();
        for (group, span) in spans {
            groups[group].spans.push(span);
        }
        for group in &mut groups {
            group.spans.sort_unstable_by(|a, b| a.from.cmp(&b.from));
            group.spans = merge(std::mem::take(&mut group.spans));
        }
        groups.retain(|group| !group.spans.is_empty());
        Spans {
            groups,
            covered,
            is_grouped: self.grouped_at == fixed,
        }
    }
}

/// Joins ranges that overlap, so that no row is seen twice.
fn merge(sorted: Vec<KeySpan>) -> Vec<KeySpan> {
    let mut merged: Vec<KeySpan> = Vec::with_capacity(sorted.len());
    for span in sorted {
        match merged.last_mut() {
            Some(last) if last.to.as_ref().is_none_or(|to| *to >= span.from) => {
                if last
                    .to
                    .as_ref()
                    .is_some_and(|to| span.to.as_ref().is_none_or(|end| end > to))
                {
                    last.to = span.to;
                }
            }
            _ => merged.push(span),
        }
    }
    merged
}

fn inverted(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// A range of one field behind the keys of the fields before it. `None` if it is empty.
fn with_prefix(prefix: &[u8], range: &Range, descending: bool) -> Option<KeySpan> {
    let (from, to) = match descending {
        false => range.clone(),
        true => {
            // A key at or above `from` inverts to one below everything that starts with the
            // inverted `from` is passed, and a key below `to` to one above all that start with it.
            let (from, to) = range;
            let start = match to {
                None => Vec::new(),
                Some(to) => key::prefix_end(&inverted(to))?,
            };
            (start, key::prefix_end(&inverted(from)))
        }
    };
    let from = [prefix, &from].concat();
    let to = match to {
        Some(to) => Some([prefix, &to].concat()),
        None => key::prefix_end(prefix),
    };
    to.as_ref()
        .is_none_or(|to| from < *to)
        .then_some(KeySpan { from, to })
}

/// What all tests of a field of the index together let through, and the conditions of the filter that
/// they are; `None` if there is no test.
fn keys_of(
    tests: &[FieldTest],
    path: &IndexPath,
    field: &IndexField,
    outer: &Row<'_>,
    env: &Env<'_>,
) -> Option<(Keys, u64)> {
    let mut result: Option<(Keys, u64)> = None;
    for test in usable(tests, path.joined, field) {
        let keys = keys(&test.test, outer, env);
        let condition = match test.origin {
            Origin::Filter(at) if test.is_whole && at < 64 => 1 << at,
            _ => 0,
        };
        result = Some(match result {
            None => (keys, condition),
            Some((known, conditions)) => (both(known, keys), conditions | condition),
        });
    }
    result
}

/// The tests of a field of an index that may be used together.
pub(super) fn usable<'t>(
    tests: &'t [FieldTest],
    joined: bool,
    field: &'t IndexField,
) -> impl Iterator<Item = &'t FieldTest> + Clone {
    let tests = tests.iter().filter(move |test| {
        (joined || !matches!(test.origin, Origin::On(_))) && test.of.is(&field.key)
    });
    // Two conditions may hold for two elements, and an entry is about one.
    let only = match &field.key {
        IndexKey::Elements(_) => tests
            .clone()
            .max_by_key(|test| test.test.strength())
            .map(|test| test.origin),
        _ => None,
    };
    tests.filter(move |test| only.is_none_or(|only| test.origin == only))
}

fn both(a: Keys, b: Keys) -> Keys {
    let is_exact = a.is_exact && b.is_exact;
    let shape = match (a.shape, b.shape) {
        (Shape::Ranges(a), Shape::Ranges(b)) => Shape::Ranges(intersect(&a, &b)),
        (Shape::Points(mut points), Shape::Ranges(ranges))
        | (Shape::Ranges(ranges), Shape::Points(mut points)) => {
            points.retain(|point| {
                let mut inside = ranges.iter();
                inside.any(|(from, to)| from <= point && to.as_ref().is_none_or(|to| point < to))
            });
            Shape::Points(points)
        }
        (Shape::Points(mut a), Shape::Points(b)) => {
            a.retain(|point| b.contains(point));
            Shape::Points(a)
        }
    };
    Keys { shape, is_exact }
}

fn intersect(a: &[Range], b: &[Range]) -> Vec<Range> {
    let mut out = Vec::new();
    for (from_a, to_a) in a {
        for (from_b, to_b) in b {
            let from = from_a.max(from_b).clone();
            let to = match (to_a, to_b) {
                (Some(a), Some(b)) => Some(a.min(b).clone()),
                (a, b) => a.clone().or_else(|| b.clone()),
            };
            if to.as_ref().is_none_or(|to| from < *to) {
                out.push((from, to));
            }
        }
    }
    out
}

fn keys(test: &Test, outer: &Row<'_>, env: &Env<'_>) -> Keys {
    let known = |expr: &Expr| eval(expr, env, outer).get().cloned();
    match test {
        Test::Compare(op, value) => compare(*op, known(value).as_ref()),
        Test::Between(low, high) => both(
            compare(CompareOp::GreaterEqual, known(low).as_ref()),
            compare(CompareOp::LessEqual, known(high).as_ref()),
        ),
        Test::In(list) => match known(list) {
            Some(Value::Array(items)) => in_list(&items),
            _ => points(Vec::new()),
        },
        Test::Like(shape, escape) => like(known(shape).as_ref(), escape.as_ref().map(known)),
        Test::Is(test, negated) => is(*test, *negated),
        Test::Present => ranges(vec![(Vec::new(), Some(encoded(&Value::Null)))]),
    }
}

fn is(test: IsTest, negated: bool) -> Keys {
    let mut missing = Vec::new();
    key::encode_missing(&mut missing);
    let point = match test {
        IsTest::Missing if negated => return ranges(vec![(Vec::new(), Some(missing))]),
        IsTest::Missing => missing,
        IsTest::Null => encoded(&Value::Null),
        IsTest::True => encoded(&Value::Bool(true)),
        IsTest::False => encoded(&Value::Bool(false)),
    };
    points(vec![point])
}

fn in_list(items: &[Value]) -> Keys {
    let mut all_points = Vec::new();
    let mut all_ranges = Vec::new();
    for item in items {
        match equal_to(item).shape {
            Shape::Points(more) => all_points.extend(more),
            Shape::Ranges(more) => all_ranges.extend(more),
        }
    }
    if all_ranges.is_empty() {
        all_points.sort_unstable();
        all_points.dedup();
        return points(all_points);
    }
    all_ranges.extend(all_points.into_iter().map(prefix_range));
    all_ranges.sort_unstable();
    // They may overlap: `[1]` and `[1, 2]` are both found behind the same bytes.
    let mut disjoint: Vec<Range> = Vec::with_capacity(all_ranges.len());
    for (from, to) in all_ranges {
        match disjoint.last_mut() {
            Some((_, last)) if last.as_ref().is_none_or(|last| *last >= from) => {
                if last.is_some() && to.as_ref().is_none_or(|to| Some(to) > last.as_ref()) {
                    *last = to;
                }
            }
            _ => disjoint.push((from, to)),
        }
    }
    Keys {
        shape: Shape::Ranges(disjoint),
        is_exact: false,
    }
}

fn prefix_range(prefix: Vec<u8>) -> Range {
    let to = key::prefix_end(&prefix);
    (prefix, to)
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    key::encode(value, &mut out);
    out
}

/// The key form up to where equal values may differ; the flag tells that all keys which start with
/// it are of equal values.
fn bound(value: &Value) -> (Vec<u8>, bool) {
    let whole = encoded(value);
    match value {
        Value::Array(_) | Value::Object(_) => match first_number(value, &whole) {
            Some(cut) => (whole[..cut].to_vec(), false),
            None => (whole, true),
        },
        Value::Int(_) | Value::Float(_) => (whole[..key::number_prefix_len()].to_vec(), true),
        _ => (whole, true),
    }
}

/// Where the first number inside an array or object has its last byte.
fn first_number(value: &Value, whole: &[u8]) -> Option<usize> {
    /// Returns the length of the form of `value`, or where the number is.
    fn walk(value: &Value, at: usize) -> Result<usize, usize> {
        match value {
            Value::Int(_) | Value::Float(_) => Err(at + key::number_prefix_len()),
            Value::Array(items) => {
                let end = items.iter().try_fold(at + 1, |at, item| walk(item, at))?;
                Ok(end + 1)
            }
            Value::Object(fields) => {
                let end = fields.iter().try_fold(at + 1, |at, (name, value)| {
                    let name = encoded(&Value::String(name.clone())).len();
                    walk(value, at + name)
                })?;
                Ok(end + 1)
            }
            scalar => Ok(at + encoded(scalar).len()),
        }
    }
    walk(value, 0).err().filter(|cut| *cut <= whole.len())
}

fn equal_to(value: &Value) -> Keys {
    match value {
        Value::Null => points(Vec::new()),
        Value::Int(_) | Value::Float(_) => {
            // The integer and the float of this number; one that does not exist has no keys.
            let mut last = encoded(value);
            last.truncate(key::number_prefix_len());
            let both = [0, 1].map(|kind| [last.as_slice(), &[kind]].concat());
            points(both.into())
        }
        _ => match bound(value) {
            (whole, true) => points(vec![whole]),
            (prefix, false) => Keys {
                shape: Shape::Ranges(vec![prefix_range(prefix)]),
                is_exact: false,
            },
        },
    }
}

fn compare(op: CompareOp, value: Option<&Value>) -> Keys {
    // Nothing compares with null or MISSING.
    let Some(value) = value.filter(|value| !matches!(value, Value::Null)) else {
        return points(Vec::new());
    };
    let (kind_from, kind_to) = kind_range(value);
    let (prefix, is_exact) = bound(value);
    let behind = key::prefix_end(&prefix);
    let all = match op {
        CompareOp::Equal => return equal_to(value),
        CompareOp::Less if is_exact => vec![(kind_from, Some(prefix))],
        CompareOp::Less | CompareOp::LessEqual => vec![(kind_from, behind)],
        CompareOp::Greater if is_exact => vec![(behind.unwrap_or(prefix), kind_to)],
        CompareOp::Greater | CompareOp::GreaterEqual => vec![(prefix, kind_to)],
        CompareOp::NotEqual if is_exact => {
            vec![
                (kind_from, Some(prefix.clone())),
                (behind.unwrap_or(prefix), kind_to),
            ]
        }
        CompareOp::NotEqual => vec![(kind_from, kind_to)],
    };
    let all = all.into_iter();
    let all = all.filter(|(from, to)| to.as_ref().is_none_or(|to| from < to));
    Keys {
        shape: Shape::Ranges(all.collect()),
        is_exact,
    }
}

/// All keys of the value's kind: only values of one kind compare.
fn kind_range(value: &Value) -> Range {
    match value {
        Value::Bool(_) => (
            encoded(&Value::Bool(false)),
            key::prefix_end(&encoded(&Value::Bool(true))),
        ),
        _ => prefix_range(encoded(value)[..1].to_vec()),
    }
}

/// The texts that start with what a pattern has before its first wildcard.
fn like(shape: Option<&Value>, escape: Option<Option<Value>>) -> Keys {
    let Some(Value::String(shape)) = shape else {
        return points(Vec::new());
    };
    let escape = match escape {
        None => Some(pattern::DEFAULT_ESCAPE),
        Some(Some(Value::String(text))) if text.chars().count() <= 1 => text.chars().next(),
        Some(_) => return points(Vec::new()),
    };
    let mut prefix = String::new();
    let mut wildcards = 0;
    let mut is_only_many = false;
    for part in pattern::parts(shape, escape) {
        match part {
            pattern::Part::Char(c) if wildcards == 0 => prefix.push(c),
            pattern::Part::Any if wildcards == 0 => {
                wildcards = 1;
                is_only_many = true;
            }
            _ => {
                wildcards += 1;
                is_only_many = false;
                break;
            }
        }
    }
    let mut from = encoded(&Value::String(prefix));
    if wildcards == 0 {
        return points(vec![from]);
    }
    // Without the end mark the encoding is a prefix of that of every longer text.
    from.truncate(from.len() - 2);
    Keys {
        shape: Shape::Ranges(vec![prefix_range(from)]),
        is_exact: is_only_many,
    }
}

/// The value with every float that is a whole number as an integer, so that equal values are the
/// same value.
pub(crate) fn canonical(value: Value) -> Value {
    match value {
        Value::Float(number) if number.fract() == 0.0 => match crate::eval::whole(number) {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, canonical(value)))
                .collect(),
        ),
        other => other,
    }
}

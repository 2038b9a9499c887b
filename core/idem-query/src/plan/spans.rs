//! Tests of fields to ranges of index keys.
//!
//! A range may hold more than the matching keys, never fewer. Keys tell `1` from `1.0` in their last
//! byte, and so do numbers inside arrays and objects: a bound made of such a value is cut before it.

use idem_model::{FieldPath, Value, key, limits};

use super::{IndexPath, Test};
use crate::{
    ast::{CompareOp, IsTest},
    bound::FromItem,
    eval::{Env, Row, eval, pattern},
    expr::Expr,
    source::{IndexKey, KeySpan},
};

/// From the first bytes, inclusive, to the second, exclusive; both may be prefixes of keys.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// The keys of one field that a test lets through.
enum Keys {
    /// Whole encodings; more fields may follow.
    Points(Vec<Vec<u8>>),
    /// Sorted and disjoint.
    Ranges(Vec<Range>),
}

/// The ranges of an index that hold every row which passes the tests, in key order. `outer` has the
/// slots before the source.
pub(crate) fn index_spans(
    item: &FromItem,
    path: &IndexPath,
    outer: &Row<'_>,
    env: &Env<'_>,
) -> Vec<KeySpan> {
    let mut prefixes: Vec<Vec<u8>> = vec![Vec::new()];
    let mut spans = None;
    for field in path.index.fields() {
        let keys = match &field.key {
            IndexKey::Path(field) => keys_of(item, field, path.joined, outer, env),
            IndexKey::Expression(_) | IndexKey::Elements(_) => None,
        };
        match keys {
            Some(Keys::Points(points))
                if prefixes.len().saturating_mul(points.len()) <= limits::INDEX_SPANS_MAX =>
            {
                let invert = |point: &[u8]| match field.descending {
                    true => inverted(point),
                    false => point.to_vec(),
                };
                prefixes = prefixes
                    .iter()
                    .flat_map(|prefix| {
                        points
                            .iter()
                            .map(move |point| [prefix.as_slice(), &invert(point)].concat())
                    })
                    .collect();
            }
            Some(Keys::Ranges(ranges))
                if prefixes.len().saturating_mul(ranges.len()) <= limits::INDEX_SPANS_MAX =>
            {
                let mut all = Vec::new();
                for prefix in &prefixes {
                    for range in &ranges {
                        all.extend(with_prefix(prefix, range, field.descending));
                    }
                }
                spans = Some(all);
                break;
            }
            _ => break,
        }
    }
    let mut spans = spans.unwrap_or_else(|| {
        prefixes
            .into_iter()
            .map(|prefix| KeySpan {
                to: key::prefix_end(&prefix),
                from: prefix,
            })
            .collect()
    });
    spans.sort_by(|a, b| a.from.cmp(&b.from));
    merge(spans)
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

/// What all tests of a field together let through; `None` if there is no test.
fn keys_of(
    item: &FromItem,
    path: &FieldPath,
    joined: bool,
    outer: &Row<'_>,
    env: &Env<'_>,
) -> Option<Keys> {
    let mut result: Option<Keys> = None;
    let tests = item.access.tests.iter();
    let tests = tests.filter(|test| test.path == *path && (joined || !test.joined));
    for test in tests {
        let keys = keys(&test.test, outer, env);
        result = Some(match (result, keys) {
            (None, keys) => keys,
            // The filter checks what is left out here.
            (Some(Keys::Points(points)), _) | (_, Keys::Points(points)) => Keys::Points(points),
            (Some(Keys::Ranges(a)), Keys::Ranges(b)) => Keys::Ranges(intersect(&a, &b)),
        });
    }
    result
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
    match test {
        Test::Compare(op, value) => compare(*op, known(value, outer, env).as_ref()),
        Test::Between(low, high) => {
            let low = compare(CompareOp::GreaterEqual, known(low, outer, env).as_ref());
            let high = compare(CompareOp::LessEqual, known(high, outer, env).as_ref());
            match (low, high) {
                (Keys::Ranges(low), Keys::Ranges(high)) => Keys::Ranges(intersect(&low, &high)),
                _ => Keys::Points(Vec::new()),
            }
        }
        Test::In(list) => match known(list, outer, env) {
            Some(Value::Array(items)) => in_list(&items),
            _ => Keys::Points(Vec::new()),
        },
        Test::Like(shape, escape) => like(
            known(shape, outer, env).as_ref(),
            escape.as_ref().map(|escape| known(escape, outer, env)),
        ),
        Test::Is(test, negated) => is(*test, *negated),
    }
}

fn known(expr: &Expr, outer: &Row<'_>, env: &Env<'_>) -> Option<Value> {
    eval(expr, env, outer).get().cloned()
}

fn is(test: IsTest, negated: bool) -> Keys {
    let mut missing = Vec::new();
    key::encode_missing(&mut missing);
    let point = match test {
        IsTest::Missing if negated => return Keys::Ranges(vec![(Vec::new(), Some(missing))]),
        IsTest::Missing => missing,
        IsTest::Null => encoded(&Value::Null),
        IsTest::True => encoded(&Value::Bool(true)),
        IsTest::False => encoded(&Value::Bool(false)),
    };
    Keys::Points(vec![point])
}

fn in_list(items: &[Value]) -> Keys {
    let mut points = Vec::new();
    let mut ranges = Vec::new();
    for item in items {
        match equal_to(item) {
            Keys::Points(more) => points.extend(more),
            Keys::Ranges(more) => ranges.extend(more),
        }
    }
    if ranges.is_empty() {
        points.sort_unstable();
        points.dedup();
        return Keys::Points(points);
    }
    ranges.extend(points.into_iter().map(prefix_range));
    ranges.sort_unstable();
    Keys::Ranges(ranges)
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
        Value::Null => Keys::Points(Vec::new()),
        Value::Int(_) | Value::Float(_) => {
            // The integer and the float of this number; one that does not exist has no keys.
            let mut last = encoded(value);
            last.truncate(key::number_prefix_len());
            let both = [0, 1].map(|kind| [last.as_slice(), &[kind]].concat());
            Keys::Points(both.into())
        }
        _ => match bound(value) {
            (whole, true) => Keys::Points(vec![whole]),
            (prefix, false) => Keys::Ranges(vec![prefix_range(prefix)]),
        },
    }
}

fn compare(op: CompareOp, value: Option<&Value>) -> Keys {
    // Nothing compares with null or MISSING.
    let Some(value) = value.filter(|value| !matches!(value, Value::Null)) else {
        return match op {
            CompareOp::Equal => Keys::Points(Vec::new()),
            _ => Keys::Ranges(Vec::new()),
        };
    };
    let (kind_from, kind_to) = kind_range(value);
    let (prefix, exact) = bound(value);
    let behind = key::prefix_end(&prefix);
    let ranges = match op {
        CompareOp::Equal => return equal_to(value),
        CompareOp::Less if exact => vec![(kind_from, Some(prefix))],
        CompareOp::Less | CompareOp::LessEqual => vec![(kind_from, behind)],
        CompareOp::Greater if exact => vec![(behind.unwrap_or(prefix), kind_to)],
        CompareOp::Greater | CompareOp::GreaterEqual => vec![(prefix, kind_to)],
        CompareOp::NotEqual if exact => {
            vec![
                (kind_from, Some(prefix.clone())),
                (behind.unwrap_or(prefix), kind_to),
            ]
        }
        CompareOp::NotEqual => vec![(kind_from, kind_to)],
    };
    Keys::Ranges(
        ranges
            .into_iter()
            .filter(|(from, to)| to.as_ref().is_none_or(|to| from < to))
            .collect(),
    )
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
        return Keys::Ranges(Vec::new());
    };
    let escape = match escape {
        None => Some(pattern::DEFAULT_ESCAPE),
        Some(Some(Value::String(text))) if text.chars().count() <= 1 => text.chars().next(),
        Some(_) => return Keys::Ranges(Vec::new()),
    };
    let prefix: String = pattern::parts(shape, escape)
        .map_while(|part| match part {
            pattern::Part::Char(c) => Some(c),
            _ => None,
        })
        .collect();
    let mut from = encoded(&Value::String(prefix));
    // Without the end mark the encoding is a prefix of that of every longer text.
    from.truncate(from.len() - 2);
    Keys::Ranges(vec![prefix_range(from)])
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

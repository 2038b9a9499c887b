//! The key form of values: keys compare as their values do.

use std::cmp::Ordering;

use idem_model::{Value, codec::Reader, key};

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "key_compare",
    run,
    seeds,
};

/// Every two neighbours of the sample values.
fn seeds() -> Vec<Vec<u8>> {
    let values = samples::values();
    values
        .windows(2)
        .map(|pair| [pair[0].to_bytes(), pair[1].to_bytes()].concat())
        .collect()
}

fn run(data: &[u8]) -> Verdict {
    let mut reader = Reader::new(data);
    let (Ok(one), Ok(other)) = (Value::decode(&mut reader), Value::decode(&mut reader)) else {
        return Verdict::Rejected;
    };
    let form = |value: &Value| {
        let mut bytes = Vec::new();
        key::encode(value, &mut bytes);
        bytes
    };
    let by_key = form(&one).cmp(&form(&other));
    let by_value = one.compare(&other);
    // 1 and 1.0 are equal as values and neighbours as keys.
    let agree = by_key == by_value || (by_value == Ordering::Equal && one != other);
    assert!(agree, "{one:?} and {other:?}: {by_key:?} and {by_value:?}");
    Verdict::Accepted
}

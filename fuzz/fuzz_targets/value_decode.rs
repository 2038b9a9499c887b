//! The compact form of values: what decodes, encodes to the same bytes.

use idem_model::Value;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "value_decode",
    run,
    seeds: || samples::values().iter().map(Value::to_bytes).collect(),
};

fn run(data: &[u8]) -> Verdict {
    let Ok(value) = Value::from_bytes(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(value.to_bytes(), data, "one value has one form");
    Verdict::Accepted
}

//! The key form of values: what decodes, encodes to the same bytes.

use idem_model::key;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "key_decode",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let form = |value: Option<&_>| {
        let mut bytes = Vec::new();
        key::encode_optional(value, &mut bytes);
        bytes
    };
    let values = samples::values();
    let values = values.iter().map(Some);
    values.chain([None]).map(form).collect()
}

fn run(data: &[u8]) -> Verdict {
    let Ok((value, len)) = key::decode(data) else {
        return Verdict::Rejected;
    };
    let mut bytes = Vec::new();
    key::encode_optional(value.as_ref(), &mut bytes);
    assert_eq!(bytes, data[..len], "one value has one key");
    Verdict::Accepted
}

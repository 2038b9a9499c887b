//! JSON text: what parses survives being written and read again.

use idem_model::json;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "json_parse",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let values = samples::values();
    values
        .iter()
        .map(|value| json::to_string(value).into_bytes())
        .collect()
}

fn run(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else {
        return Verdict::Rejected;
    };
    let Ok(value) = json::parse(text) else {
        return Verdict::Rejected;
    };
    for written in [json::to_string(&value), json::to_string_pretty(&value)] {
        let read = json::parse(&written);
        assert_eq!(read.as_ref().ok(), Some(&value), "{written}");
    }
    Verdict::Accepted
}

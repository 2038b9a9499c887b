//! Deltas: what decodes has one form, and never panics where it is merged.

use idem_crdt::{Delta, Document};
use idem_model::VersionVector;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "delta_decode",
    run,
    seeds,
};

/// From nothing and from the document before.
fn seeds() -> Vec<Vec<u8>> {
    let documents = samples::documents();
    let whole = documents
        .iter()
        .map(|document| document.delta(&VersionVector::new()));
    let step = documents
        .windows(2)
        .map(|pair| pair[1].delta(pair[0].version()));
    whole.chain(step).map(|delta| delta.to_bytes()).collect()
}

fn run(data: &[u8]) -> Verdict {
    let Ok(delta) = Delta::decode(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(delta.to_bytes(), data, "one delta has one form");
    for mut document in samples::documents() {
        let before = document.clone();
        match document.merge_delta(&delta) {
            Ok(changed) => assert_eq!(changed, document != before, "told whether it changed"),
            Err(_) => assert_eq!(document, before, "a gap changes nothing"),
        }
        let read = Document::decode(&document.to_bytes());
        assert_eq!(read.as_ref(), Ok(&document), "what merged can be stored");
    }
    Verdict::Accepted
}

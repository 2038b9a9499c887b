//! Document ids from keys: what decodes is a legal id with one key.

use idem_model::DocId;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "doc_id_decode",
    run,
    seeds: || samples::ids().iter().map(DocId::to_key).collect(),
};

fn run(data: &[u8]) -> Verdict {
    let Ok(id) = DocId::from_key(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(id.to_key(), data, "one id has one key");
    let checked = DocId::new(id.as_value().clone());
    assert_eq!(checked.as_ref(), Ok(&id), "a decoded id is a legal one");
    Verdict::Accepted
}

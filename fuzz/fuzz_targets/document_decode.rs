//! Documents: what decodes has one form, and the short ways to read it agree with the long one.

use idem_crdt::{Delta, Document, encoded_version, has_several_kinds, visible_fields};
use idem_model::VersionVector;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "document_decode",
    run,
    seeds: || {
        samples::documents()
            .iter()
            .map(Document::to_bytes)
            .collect()
    },
};

fn run(data: &[u8]) -> Verdict {
    // The short ways see bytes that nothing checked before, too.
    let fields = visible_fields(data);
    let version = encoded_version(data);
    let several = has_several_kinds(data);
    let Ok(document) = Document::decode(data) else {
        return Verdict::Rejected;
    };
    assert_eq!(document.to_bytes(), data, "one document has one form");
    assert_eq!(fields.ok(), Some(document.fields()), "visible_fields");
    let version = version.expect("a whole document has a version");
    assert_eq!(&version, document.version(), "encoded_version");

    assert!(several.is_ok(), "has_several_kinds");

    let mut merged = document.clone();
    assert!(!merged.merge(&document), "merging itself changes nothing");
    assert_eq!(merged, document);

    let whole = document.delta(&VersionVector::new());
    let bytes = whole.to_bytes();
    let read = Delta::decode(&bytes).expect("a delta that we wrote");
    assert_eq!(read.to_bytes(), bytes, "one delta has one form");
    let mut copy = Document::new();
    let merged = copy.merge_delta(&read);
    assert!(merged.is_ok(), "a delta since nothing fits nothing");
    assert_eq!(copy, document, "the delta since nothing is everything");
    Verdict::Accepted
}

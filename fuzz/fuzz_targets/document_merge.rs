//! Two documents of a peer that may lie: merging them never panics, and is idempotent.

use idem_crdt::Document;

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "document_merge",
    run,
    seeds,
};

/// Every two neighbours of the sample documents: the length of the first, then both.
fn seeds() -> Vec<Vec<u8>> {
    let documents: Vec<_> = samples::documents();
    let forms: Vec<_> = documents.iter().map(Document::to_bytes).collect();
    forms
        .windows(2)
        .map(|pair| {
            let len = u16::try_from(pair[0].len()).expect("samples are short");
            [&len.to_le_bytes()[..], &pair[0], &pair[1]].concat()
        })
        .collect()
}

fn run(data: &[u8]) -> Verdict {
    let Some((len, rest)) = data.split_first_chunk() else {
        return Verdict::Rejected;
    };
    let Some((one, other)) = rest.split_at_checked(u16::from_le_bytes(*len).into()) else {
        return Verdict::Rejected;
    };
    let (Ok(one), Ok(other)) = (Document::decode(one), Document::decode(other)) else {
        return Verdict::Rejected;
    };
    // Liars can give one dot two contents, so the two orders need not agree; but each must end.
    for (mut into, from) in [(one.clone(), &other), (other.clone(), &one)] {
        into.merge(from);
        let once = into.clone();
        into.merge(from);
        assert_eq!(into, once, "merging twice is merging once");
        let read = Document::decode(&into.to_bytes());
        assert_eq!(read.as_ref(), Ok(&into), "what merged can be stored");

        let delta = from.delta(once.version());
        let _ = into.merge_delta(&delta);
    }
    Verdict::Accepted
}

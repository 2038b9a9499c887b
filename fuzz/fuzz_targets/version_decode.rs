//! Version vectors: what decodes, encodes to the same bytes.

use idem_model::{VersionVector, codec::Reader};

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "version_decode",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let form = |version: VersionVector| {
        let mut bytes = Vec::new();
        version.encode(&mut bytes);
        bytes
    };
    vec![form(VersionVector::new()), form(samples::version())]
}

fn run(data: &[u8]) -> Verdict {
    let mut reader = Reader::new(data);
    let Ok(version) = VersionVector::decode(&mut reader) else {
        return Verdict::Rejected;
    };
    let mut bytes = Vec::new();
    version.encode(&mut bytes);
    assert_eq!(bytes, data[..reader.position()], "one version has one form");
    Verdict::Accepted
}

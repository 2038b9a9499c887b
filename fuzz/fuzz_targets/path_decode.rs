//! Field paths: what decodes, encodes to the same bytes.

use idem_model::{FieldPath, codec::Reader};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "path_decode",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let path = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let mut bytes = Vec::new();
        let path = FieldPath::new(names).expect("a path");
        path.encode(&mut bytes);
        bytes
    };
    vec![path(&["name"]), path(&["at", "lat"]), path(&["", "\u{e9}"])]
}

fn run(data: &[u8]) -> Verdict {
    let mut reader = Reader::new(data);
    let Ok(path) = FieldPath::decode(&mut reader) else {
        return Verdict::Rejected;
    };
    let mut bytes = Vec::new();
    path.encode(&mut bytes);
    assert_eq!(bytes, data[..reader.position()], "one path has one form");
    Verdict::Accepted
}

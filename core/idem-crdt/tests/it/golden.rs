//! Golden files in `vectors/disk/`: what a released version wrote, every later build reads.
//!
//! `document-NAME.hex` holds the bytes of a document and `document-NAME.json` what it shows (`null`
//! for a tombstone); `delta-NAME.hex` changes what `document-plain.hex` shows to `delta-NAME.json`.
//! Files are added and never edited. One that this build should write and that is not there fails
//! the test with its content.

use std::{fs, path::PathBuf};

use idem_crdt::{Delta, Document, visible_fields};
use idem_model::{DocumentOp, FieldKind, InsertConflict, Value, VersionVector, json};

use crate::history::{
    Peer, increment, initial, insert, object, path, restart, set, set_kind, unset,
};

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/disk"))
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<_> = digits.chunks(32).map(|line| line.concat()).collect();
    lines.join("\n") + "\n"
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn shown(document: &Document) -> Value {
    document.fields().map_or(Value::Null, Value::Object)
}

const PLAIN: &str = r#"{"text":"gr\u00fcn","int":-7,"big":9007199254740993,"float":2.5,"yes":true,"no":false,"null":null,"bytes":{"$binary":"AAH/"},"array":[1,[2.0,"x"],{"k":null}],"object":{"a":{},"b":{"c":1}}}"#;

/// A document of each shape, made by commits.
#[expect(clippy::too_many_lines, reason = "a list")]
fn documents() -> Vec<(&'static str, Document)> {
    let peer = |ops: &[DocumentOp]| {
        let mut peer = Peer::new('A');
        for (n, op) in (0..).zip(ops) {
            peer.commit(op, (1_790_000_000_000 << 16) + (n << 20) + n);
        }
        peer
    };
    let start = insert(PLAIN, InsertConflict::Fail);
    let plain = peer(std::slice::from_ref(&start));
    // Both begin with the same document; B edits later than A.
    let pair = |a: &[DocumentOp], b: &[DocumentOp]| {
        let (mut left, mut right) = (plain.clone(), Peer::new('B'));
        right.receive(&left);
        for op in a {
            left.commit(op, 0);
        }
        for op in b {
            right.commit(op, (1_790_000_000_009 << 16) + 3);
        }
        left.receive(&right);
        left.document
    };
    let kinds = DocumentOp::Insert {
        fields: object(r#"{"whole":{"a":1},"n":5,"token":{"id":"x"}}"#),
        kinds: vec![
            (path("whole"), FieldKind::Register),
            (path("n"), FieldKind::Counter),
            (path("token"), FieldKind::Attachment),
        ],
        conflict: InsertConflict::Fail,
    };
    let mut lives = peer(&[insert(r#"{"a":1,"m":{"x":1}}"#, InsertConflict::Fail)]);
    let mut other = Peer::new('B');
    other.commit(&insert(r#"{"b":2,"m":{"x":2}}"#, InsertConflict::Fail), 5);
    lives.receive(&other);
    vec![
        ("nothing", Document::new()),
        (
            "no-fields",
            peer(&[insert("{}", InsertConflict::Fail)]).document,
        ),
        ("plain", plain.document.clone()),
        (
            "updated",
            pair(
                &[set("int", "8")],
                &[set("object.b.c", "2"), set("fresh", "{}")],
            ),
        ),
        (
            "conflict",
            pair(&[set("text", r#""a""#)], &[set("text", r#""b""#)]),
        ),
        (
            "two-kinds",
            pair(&[set("text.inner", "1")], &[set("text", "2")]),
        ),
        (
            "removed",
            pair(&[unset("object.a"), unset("int")], &[set("int", "3")]),
        ),
        (
            "kinds",
            peer(&[
                kinds,
                set_kind("whole", r#"{"b":2}"#, Some(FieldKind::Register)),
            ])
            .document,
        ),
        (
            "counter",
            pair(
                &[restart("n", 100), increment("n", -3)],
                &[increment("n", 5), increment("object.n", 1)],
            ),
        ),
        (
            "counter-removed",
            pair(&[increment("n", 5), unset("n")], &[]),
        ),
        ("lives", lives.document),
        ("deleted", pair(&[DocumentOp::Delete], &[set("int", "3")])),
        (
            "initial",
            peer(&[initial(r#"{"a":1,"m":{"x":[]}}"#)]).document,
        ),
        (
            "initial-edited",
            peer(&[initial(r#"{"a":1,"m":{"x":[]}}"#), set("a", "2")]).document,
        ),
    ]
}

fn deltas() -> Vec<(&'static str, Delta, Document)> {
    let documents = documents();
    let plain = documents.iter().find(|(name, _)| *name == "plain").unwrap();
    documents
        .iter()
        .filter(|(name, _)| ["updated", "removed", "counter", "deleted"].contains(name))
        .map(|(name, document)| (*name, document.delta(plain.1.version()), document.clone()))
        .collect()
}

/// What the file of that name holds; fails with what it should hold if it is not there.
fn read(name: &str, expected: Option<&str>) -> String {
    let path = directory().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| {
        let expected = expected.unwrap_or_default();
        panic!("vectors/disk/{name}: {error}; this build writes\n{expected}")
    })
}

#[test]
fn this_build_writes_the_golden_files() {
    let check = |name: &str, bytes: &[u8], shown: &Value| {
        let (hex_name, json_name) = (format!("{name}.hex"), format!("{name}.json"));
        let json = json::to_string(shown) + "\n";
        assert_eq!(read(&json_name, Some(&json)), json, "{json_name}");
        let hex = hex(bytes);
        assert_eq!(read(&hex_name, Some(&hex)), hex, "{hex_name}");
    };
    for (name, document) in documents() {
        check(
            &format!("document-{name}"),
            &document.to_bytes(),
            &shown(&document),
        );
    }
    for (name, delta, document) in deltas() {
        check(
            &format!("delta-{name}"),
            &delta.to_bytes(),
            &shown(&document),
        );
    }
}

#[test]
fn every_golden_file_still_reads() {
    let plain = unhex(&read("document-plain.hex", None));
    let mut count = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".hex") else {
            continue;
        };
        // What else lies on a disk is for the tests of other crates.
        if !stem.starts_with("document-") && !stem.starts_with("delta-") {
            continue;
        }
        let bytes = unhex(&read(&name, None));
        let expected = json::parse(&read(&format!("{stem}.json"), None)).unwrap();
        let document = if stem.starts_with("document-") {
            let fields = visible_fields(&bytes).unwrap();
            assert_eq!(
                fields.map_or(Value::Null, Value::Object),
                expected,
                "{name}"
            );
            Document::decode(&bytes).unwrap()
        } else {
            let mut document = Document::decode(&plain).unwrap();
            document
                .merge_delta(&Delta::decode(&bytes).unwrap())
                .unwrap();
            document
        };
        assert_eq!(shown(&document), expected, "{name}");
        assert_eq!(
            document.is_empty(),
            *document.version() == VersionVector::new()
        );
        count += 1;
    }
    assert!(count >= 18, "{count}");
}

//! What documents and deltas weigh, in exact bounds on bytes.

use idem_crdt::Document;
use idem_model::{
    ActorId, DocumentOp, Dot, FieldOp, FieldPath, InsertConflict, Object, Stamp, Timestamp, Value,
    encode_object,
};

use crate::history::{increment, initial, object, path, set, unset};

/// A stamp of today's size: the clock runs at a few milliseconds a commit.
fn stamp(actor: u8, n: u64) -> Stamp {
    Stamp {
        dot: Dot {
            actor: ActorId([actor; 16]),
            n,
        },
        time: Timestamp::new(1_790_000_000_000 + 7 * n, 0),
    }
}

fn inserted(fields: Object, stamp: Stamp) -> Document {
    let mut document = Document::new();
    let op = DocumentOp::Insert {
        fields,
        kinds: Vec::new(),
        conflict: InsertConflict::Fail,
    };
    document.apply(&op, stamp).unwrap();
    document
}

/// Bytes of a document over those of its values.
fn metadata_bytes(document: &Document) -> usize {
    let mut values = Vec::new();
    encode_object(&document.fields().unwrap(), &mut values);
    document.to_bytes().len() - values.len()
}

fn numbered(count: usize) -> Object {
    let field = |at| (format!("field{at:04}"), Value::from(format!("value {at}")));
    (0..count).map(field).collect()
}

#[test]
fn a_document_written_once_carries_at_most_40_bytes() {
    let nested = object(r#"{"a":{"b":{"c":[{"d":1}]},"e":{}},"f":null,"g":1.5}"#);
    for fields in [
        numbered(0),
        numbered(1),
        numbered(14),
        numbered(1_000),
        nested,
    ] {
        for n in [1, 1_000_000, u64::from(u32::MAX)] {
            let document = inserted(fields.clone(), stamp(1, n));
            assert!(
                metadata_bytes(&document) <= 40,
                "{}",
                metadata_bytes(&document)
            );
        }
        let bytes = metadata_bytes(&inserted(fields.clone(), stamp(1, 1)));
        assert_eq!(
            bytes, 31,
            "the least: version, length, form, actor, number, time"
        );
    }
}

#[test]
fn ten_thousand_alternating_sets_of_two_actors_end_under_6000_bytes() {
    let (mut a, mut b) = (inserted(Object::new(), stamp(1, 1)), Document::new());
    b.merge(&a);
    for at in 0..10_000u64 {
        let op = set(&format!("key{}", at % 100), &at.to_string());
        if at % 2 == 0 {
            a.apply(&op, stamp(1, 2 + at)).unwrap();
            b.merge_delta(&a.delta(b.version())).unwrap();
        } else {
            b.apply(&op, stamp(2, 2 + at)).unwrap();
            a.merge_delta(&b.delta(a.version())).unwrap();
        }
    }
    assert_eq!(a, b);
    assert_eq!(a.fields().unwrap().len(), 100);
    let bytes = a.to_bytes().len();
    assert!(bytes <= 2_000, "{bytes}, of 6,000 allowed");
}

#[test]
fn bytes_stay_flat_under_repeated_overwrites() {
    let mut document = inserted(numbered(20), stamp(1, 1));
    let mut sizes = Vec::new();
    for n in 2..20_000 {
        let actor = if n % 2 == 0 { 1 } else { 2 };
        let op = set(&format!("field{:04}", n % 20), "12345");
        document.apply(&op, stamp(actor, n)).unwrap();
        if n % 1_000 == 0 {
            sizes.push(document.to_bytes().len());
        }
    }
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(
        most - least <= 40,
        "varints may grow, nothing else: {sizes:?}"
    );
}

#[test]
fn removed_fields_leave_nothing() {
    let mut document = inserted(numbered(1), stamp(1, 1));
    for n in 0..1_000 {
        let at = format!("m.key{n}.deep");
        document.apply(&set(&at, "1"), stamp(1, 2 + 2 * n)).unwrap();
        document.apply(&unset(&at), stamp(1, 3 + 2 * n)).unwrap();
    }
    assert_eq!(document.fields().unwrap(), numbered(1));
    assert!(
        metadata_bytes(&document) <= 60,
        "{}",
        metadata_bytes(&document)
    );
}

#[test]
fn a_tombstone_forgets_the_fields() {
    let mut document = inserted(numbered(100), stamp(1, 1));
    document.apply(&DocumentOp::Delete, stamp(2, 2)).unwrap();
    let bytes = document.to_bytes().len();
    assert!(bytes <= 60, "{bytes}");
}

#[test]
fn a_counter_grows_with_its_actors_only() {
    let mut document = inserted(Object::new(), stamp(1, 1));
    let mut n = 1;
    let mut run = |document: &mut Document| {
        for _ in 0..1_000 {
            n += 1;
            let actor = if n % 2 == 0 { 1 } else { 2 };
            document.apply(&increment("n", 1), stamp(actor, n)).unwrap();
        }
        document.to_bytes().len()
    };
    let (first, second) = (run(&mut document), run(&mut document));
    assert!(first <= 100, "{first}");
    assert!(second <= first + 4, "{second} after {first}");
}

#[test]
fn the_delta_of_one_field_of_20_kilobytes_is_small() {
    let mut fields = numbered(950);
    fields.insert("deep".to_owned(), Value::Object(numbered(20)));
    let before = inserted(fields, stamp(1, 1));
    let whole = before.to_bytes().len();
    assert!(whole >= 20_000, "{whole}");
    let edits = [
        (set("field0500", r#""changed""#), "a register"),
        (set("deep.field0007", r#""changed""#), "a nested register"),
        (set("added", "1"), "a new field"),
        (increment("count", 1), "a counter"),
    ];
    for (op, what) in edits {
        let mut after = before.clone();
        after.apply(&op, stamp(2, 1_000_000)).unwrap();
        let delta = after.delta(before.version());
        let bytes = delta.to_bytes().len();
        assert!(bytes <= 110, "{what}: {bytes}, of 200 allowed");
        let mut merged = before.clone();
        merged.merge_delta(&delta).unwrap();
        assert_eq!(merged, after, "{what}");
    }
    // A removal lists what survives in its map, and in no other one.
    let mut after = before.clone();
    after.apply(&unset("deep.field0007"), stamp(2, 2)).unwrap();
    let bytes = after.delta(before.version()).to_bytes().len();
    assert!(bytes <= 400, "a nested removal: {bytes}");
    // Nothing to say costs the head only.
    let bytes = before.delta(before.version()).to_bytes().len();
    assert!(bytes <= 60, "nothing: {bytes}");
}

#[test]
fn defaults_cost_one_version_entry_a_field() {
    let mut document = Document::new();
    document
        .apply(&initial(r#"{"a":1,"b":2,"c":3}"#), stamp(1, 1))
        .unwrap();
    let bytes = metadata_bytes(&document);
    assert!(bytes <= 40 + 4 * 24, "{bytes}");
}

#[test]
fn a_conflict_is_kept_once_and_goes_with_the_next_write() {
    let mut a = inserted(numbered(10), stamp(1, 1));
    let mut b = a.clone();
    let field = |value: &str| {
        DocumentOp::Update(vec![FieldOp::Set {
            path: FieldPath::field("field0003"),
            value: value.into(),
            kind: None,
        }])
    };
    a.apply(&field(&"a".repeat(100)), stamp(1, 2)).unwrap();
    b.apply(&field(&"b".repeat(100)), stamp(2, 2)).unwrap();
    let alone = a.to_bytes().len();
    a.merge(&b);
    let both = a.to_bytes().len();
    assert_eq!(a.conflicts(&path("field0003")).len(), 2);
    assert!(
        (alone + 100..alone + 140).contains(&both),
        "{alone}, {both}"
    );
    a.apply(&field(&"c".repeat(100)), stamp(1, 3)).unwrap();
    assert!(a.to_bytes().len() < alone + 40);
}

//! What single operations do, and refuse.

use idem_crdt::{Applied, ApplyError, Document};
use idem_model::{
    ActorId, DocumentOp, Dot, FieldKind, FieldOp, FieldPath, InsertConflict, Stamp, Timestamp,
    Value, limits,
};

use crate::history::{
    Peer, increment, initial, insert, object, path, restart, set, set_kind, unset, value,
};

fn stamp(n: u64) -> Stamp {
    Stamp {
        dot: Dot {
            actor: ActorId([7; 16]),
            n,
        },
        time: Timestamp::new(n, 0),
    }
}

/// Runs operations, each its own commit, and checks what the document then shows.
fn check(ops: &[DocumentOp], expected: &str) -> Document {
    let mut document = Document::new();
    for (n, op) in (1..).zip(ops) {
        document.apply(op, stamp(n)).unwrap();
    }
    let shown = document.fields().map_or(Value::Null, Value::Object);
    assert_eq!(shown, value(expected), "{ops:?}");
    document
}

/// Runs operations as one transaction after an INSERT of `before`.
fn check_together(before: &str, ops: &[DocumentOp], expected: &str) -> Document {
    let mut document = Document::new();
    document.apply(&inserted(before), stamp(1)).unwrap();
    for op in ops {
        document.apply(op, stamp(2)).unwrap();
    }
    let shown = document.fields().map_or(Value::Null, Value::Object);
    assert_eq!(shown, value(expected), "{ops:?}");
    document
}

fn inserted(fields: &str) -> DocumentOp {
    insert(fields, InsertConflict::Fail)
}

fn declared(fields: &str, kinds: &[(&str, FieldKind)], conflict: InsertConflict) -> DocumentOp {
    DocumentOp::Insert {
        fields: object(fields),
        kinds: kinds.iter().map(|(at, kind)| (path(at), *kind)).collect(),
        conflict,
    }
}

#[test]
fn declared_kinds_decide_how_a_field_merges() {
    let register = Some(FieldKind::Register);
    check(
        &[
            inserted(r#"{"o":{"a":1}}"#),
            set_kind("o", r#"{"b":2}"#, register),
            set_kind("o", r#"{"c":3}"#, register),
        ],
        r#"{"o":{"c":3}}"#,
    );
    check(
        &[
            inserted("{}"),
            set_kind("n", "40", Some(FieldKind::Counter)),
            increment("n", 2),
        ],
        r#"{"n":42}"#,
    );
    let kinds = [
        ("o", FieldKind::Register),
        ("deep.n", FieldKind::Counter),
        ("deep.token", FieldKind::Attachment),
    ];
    let fields = r#"{"o":{"a":1},"deep":{"n":5,"token":{"id":"x"},"m":{"y":1}}}"#;
    let document = check(
        &[
            declared(fields, &kinds, InsertConflict::Fail),
            increment("deep.n", 1),
            set_kind("o", r#"{"b":1}"#, register),
            set("deep.m.z", "2"),
        ],
        r#"{"o":{"b":1},"deep":{"n":6,"token":{"id":"x"},"m":{"y":1,"z":2}}}"#,
    );
    assert_eq!(Document::decode(&document.to_bytes()).unwrap(), document);
    // A later INSERT with DO UPDATE restarts the counter and replaces the object.
    check(
        &[
            declared(fields, &kinds, InsertConflict::Fail),
            declared(
                r#"{"o":{"b":1},"deep":{"n":9}}"#,
                &kinds,
                InsertConflict::DoUpdate,
            ),
        ],
        r#"{"o":{"b":1},"deep":{"n":9,"token":{"id":"x"},"m":{"y":1}}}"#,
    );
}

#[test]
fn initial_fields_of_another_kind_do_not_replace_each_other() {
    let as_counter = DocumentOp::InsertInitial {
        fields: object(r#"{"n":5}"#),
        kinds: vec![(FieldPath::field("n"), FieldKind::Counter)],
    };
    let as_register = DocumentOp::InsertInitial {
        fields: object(r#"{"n":5}"#),
        kinds: vec![(FieldPath::field("n"), FieldKind::Register)],
    };
    for other in [initial(r#"{"n":5}"#), as_register] {
        let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
        a.commit(&as_counter, 1);
        b.commit(&other, 1);
        a.receive(&b);
        let both = [Value::Int(5), Value::Int(5)];
        assert_eq!(a.document.conflicts(&path("n")), both);
    }
    let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
    a.commit(&as_counter, 1);
    b.commit(&as_counter, 1);
    a.commit(&increment("n", 1), 2);
    assert_eq!(a.document.fields(), Some(object(r#"{"n":6}"#)));
}

#[test]
fn insert_where_the_document_is_there_follows_the_conflict_clause() {
    let run = |conflict| {
        let mut document = Document::new();
        document
            .apply(&inserted(r#"{"a":1,"o":{"x":1,"y":1}}"#), stamp(1))
            .unwrap();
        let op = insert(r#"{"a":1,"o":{"x":2},"z":{}}"#, conflict);
        let applied = document.apply(&op, stamp(2));
        (applied, document)
    };
    let updated = Some(object(r#"{"a":1,"o":{"x":2,"y":1},"z":{}}"#));
    let (applied, document) = run(InsertConflict::Fail);
    assert_eq!(applied, Err(ApplyError::AlreadyExists));
    assert_eq!(document.version().get(ActorId([7; 16])), 1);
    assert_eq!(run(InsertConflict::DoNothing).0, Ok(Applied::Unchanged));
    for conflict in [InsertConflict::DoUpdate, InsertConflict::DoUpdateLocalDiff] {
        let (applied, document) = run(conflict);
        assert_eq!(
            (applied, document.fields()),
            (Ok(Applied::Changed), updated.clone())
        );
    }
    // The local difference leaves `a` with its first writer, so a concurrent write of it survives.
    let mut diff = run(InsertConflict::DoUpdateLocalDiff).1;
    let again = insert(
        r#"{"a":1,"o":{"x":2},"z":{}}"#,
        InsertConflict::DoUpdateLocalDiff,
    );
    assert_eq!(diff.apply(&again, stamp(3)), Ok(Applied::Unchanged));
    assert_eq!(diff.version().get(ActorId([7; 16])), 2);
    let all = insert(r#"{"a":1}"#, InsertConflict::DoUpdate);
    assert_eq!(diff.apply(&all, stamp(3)), Ok(Applied::Changed));
}

#[test]
fn nothing_done_takes_no_stamp() {
    let nothing = [
        set("a", "1"),
        unset("a"),
        increment("a", 1),
        restart("a", 1),
        DocumentOp::Delete,
        DocumentOp::Update(Vec::new()),
    ];
    for op in &nothing {
        let mut document = Document::new();
        assert_eq!(
            document.apply(op, stamp(1)),
            Ok(Applied::Unchanged),
            "{op:?}"
        );
        assert!(document.is_empty() && !document.is_present());
    }
    let mut document = check(&[inserted(r#"{"k":1}"#)], r#"{"k":1}"#);
    for op in [
        unset("gone"),
        unset("k.deeper"),
        DocumentOp::Update(Vec::new()),
    ] {
        let before = document.clone();
        assert_eq!(
            document.apply(&op, stamp(2)),
            Ok(Applied::Unchanged),
            "{op:?}"
        );
        assert_eq!(document, before);
    }
    document.apply(&DocumentOp::Delete, stamp(2)).unwrap();
    assert!(!document.is_empty() && !document.is_present());
    assert_eq!(document.time(), Timestamp::new(2, 0));
}

#[test]
fn within_a_transaction_the_later_edit_wins() {
    let start = r#"{"a":1,"m":{"x":1,"y":1}}"#;
    check_together(
        start,
        &[set("a", "2"), set("a", "3")],
        r#"{"a":3,"m":{"x":1,"y":1}}"#,
    );
    check_together(
        start,
        &[unset("m"), set("m.x", "5")],
        r#"{"a":1,"m":{"x":5}}"#,
    );
    check_together(start, &[set("m.x", "5"), unset("m")], r#"{"a":1}"#);
    check_together(
        start,
        &[set("a", "2"), set("a.b", "3")],
        r#"{"a":{"b":3},"m":{"x":1,"y":1}}"#,
    );
    check_together(start, &[set("m.x", "9"), set("m", "3")], r#"{"a":1,"m":3}"#);
    check_together(
        start,
        &[set("a", r#"{"b":1}"#), increment("a", 4)],
        r#"{"a":4,"m":{"x":1,"y":1}}"#,
    );
    check_together(
        start,
        &[
            increment("n", 4),
            increment("n", 4),
            restart("n", 1),
            increment("n", 1),
        ],
        r#"{"a":1,"m":{"x":1,"y":1},"n":2}"#,
    );
    check_together(
        start,
        &[DocumentOp::Delete, inserted(r#"{"b":1}"#)],
        r#"{"b":1}"#,
    );
    check_together(
        start,
        &[
            DocumentOp::Delete,
            inserted(r#"{"b":1}"#),
            DocumentOp::Delete,
            inserted(r#"{"c":1}"#),
        ],
        r#"{"c":1}"#,
    );
    check_together(start, &[set("z", "1"), DocumentOp::Delete], "null");
    // What an edit of the transaction replaced does not come back with the edit gone.
    let document = check_together(
        start,
        &[set("a", "2"), unset("a")],
        r#"{"m":{"x":1,"y":1}}"#,
    );
    assert!(document.conflicts(&path("a")).is_empty());
    let document = check_together(
        start,
        &[set("a", "2"), set("a.b", "3")],
        r#"{"a":{"b":3},"m":{"x":1,"y":1}}"#,
    );
    assert_eq!(document.conflicts(&path("a")).len(), 1);
}

#[test]
fn an_edit_is_no_conflict_of_a_later_one_of_its_transaction() {
    let start = r#"{"k":1}"#;
    for earlier in [set("f.x", "9"), set("f", "{}"), increment("f", 2)] {
        let document = check_together(start, &[earlier, set("f", "3")], r#"{"k":1,"f":3}"#);
        assert_eq!(document.conflicts(&path("f")), [Value::Int(3)]);
    }
    for later in [set("f.x", "9"), set("f", "{}"), increment("f", 2)] {
        let mut document = Document::new();
        document.apply(&inserted(start), stamp(1)).unwrap();
        document.apply(&set("f", "3"), stamp(2)).unwrap();
        document.apply(&later, stamp(2)).unwrap();
        assert_eq!(document.conflicts(&path("f")).len(), 1, "{later:?}");
    }
}

#[test]
fn wrong_operands_are_refused_and_change_nothing() {
    let mut document = check(
        &[inserted(r#"{"n":1}"#), restart("c", i64::MAX - 1)],
        &format!(r#"{{"n":1,"c":{}}}"#, i64::MAX - 1),
    );
    let before = document.clone();
    let mut check = |op: &DocumentOp, expected: &str| {
        let error = document.apply(op, stamp(3)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(document, before);
    };
    let counter = Some(FieldKind::Counter);
    check(
        &set_kind("n", "1.5", counter),
        "n is a counter and takes an integer, not a value of type float",
    );
    check(
        &set_kind("n", "[]", Some(FieldKind::Map)),
        "n is a map and takes an object, not a value of type array",
    );
    check(
        &increment("c", 2),
        "the counter c would leave the range of 64-bit integers",
    );
    let twice = |by| FieldOp::Increment {
        path: path("c"),
        by,
    };
    check(
        &DocumentOp::Update(vec![twice(1), twice(1)]),
        "the counter c would leave the range of 64-bit integers",
    );
    check(
        &declared(
            r#"{"x":{"y":true}}"#,
            &[("x.y", FieldKind::Counter)],
            InsertConflict::DoUpdate,
        ),
        "x.y is a counter and takes an integer, not a value of type boolean",
    );
    check(
        &DocumentOp::Evict,
        "evicting is not an edit of the document",
    );
    let deep = |levels: usize| {
        DocumentOp::Update(vec![FieldOp::Set {
            path: path("d.e"),
            value: (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner])),
            kind: None,
        }])
    };
    check(
        &deep(limits::NESTING_LEVELS_MAX - 1),
        "d.e would nest 65 levels deep, over the limit of 64",
    );
    document
        .apply(&deep(limits::NESTING_LEVELS_MAX - 2), stamp(3))
        .unwrap();
    assert_eq!(Document::decode(&document.to_bytes()).unwrap(), document);
}

#[test]
fn paths_may_go_as_deep_as_documents_nest() {
    let names = vec!["n".to_owned(); limits::FIELD_PATH_SEGMENTS_MAX];
    let path = FieldPath::new(names).unwrap();
    let mut document = check(&[inserted("{}")], "{}");
    for (n, op) in [
        FieldOp::Set {
            path: path.clone(),
            value: Value::Int(1),
            kind: None,
        },
        FieldOp::Increment {
            path: path.clone(),
            by: 2,
        },
    ]
    .into_iter()
    .enumerate()
    {
        document
            .apply(&DocumentOp::Update(vec![op]), stamp(2 + n as u64))
            .unwrap();
        let bytes = document.to_bytes();
        assert_eq!(Document::decode(&bytes).unwrap(), document);
        assert_eq!(
            idem_crdt::visible_fields(&bytes).unwrap(),
            document.fields()
        );
    }
    assert_eq!(path.find(&document.fields().unwrap()), Some(&Value::Int(2)));
}

#[test]
fn concurrent_increments_beyond_the_range_stay_at_its_end() {
    let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
    a.commit(&inserted("{}"), 1);
    b.receive(&a);
    a.commit(&increment("n", i64::MAX), 2);
    b.commit(&increment("n", i64::MAX), 2);
    a.receive(&b);
    assert_eq!(a.document.fields().unwrap()["n"], Value::Int(i64::MAX));
    assert_eq!(
        Document::decode(&a.document.to_bytes()).unwrap(),
        a.document
    );
    a.commit(&increment("n", -i64::MAX), 3);
    assert_eq!(a.document.fields().unwrap()["n"], Value::Int(i64::MAX));
}

#[test]
#[should_panic(expected = "was used before")]
fn a_commit_of_the_past_is_a_bug() {
    let mut document = check(&[inserted("{}"), set("a", "1")], r#"{"a":1}"#);
    let _ = document.apply(&set("a", "2"), stamp(1));
}

#[test]
#[should_panic(expected = "is reserved for INSERT INITIAL")]
fn the_time_zero_is_reserved() {
    let at_zero = Stamp {
        time: Timestamp::ZERO,
        ..stamp(1)
    };
    let _ = Document::new().apply(&inserted("{}"), at_zero);
}

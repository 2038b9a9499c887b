//! The table of docs/merging.md, row by row, whichever side is later.

use idem_crdt::{Applied, Document};
use idem_model::{DocumentOp, FieldKind, InsertConflict, Value};

use crate::history::{
    Peer, increment, initial, insert, path, restart, set, set_kind, unset, value,
};

/// Which side's clock is ahead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Later {
    A,
    B,
}

/// A row: what A does before B receives it, what each then does alone, what both show afterwards.
struct Row {
    case: &'static str,
    setup: Vec<DocumentOp>,
    a: Vec<DocumentOp>,
    b: Vec<DocumentOp>,
    /// `$later` stands for the name of the later side, `null` for no document.
    expected: &'static str,
}

fn start(fields: &str) -> Vec<DocumentOp> {
    vec![insert(fields, InsertConflict::Fail)]
}

/// Runs a row; both peers end with the state that is returned.
fn run(row: &Row, later: Later) -> Document {
    let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
    let (mut at_a, mut at_b) = match later {
        Later::A => (200, 100),
        Later::B => (100, 200),
    };
    for (at, op) in (1..).zip(&row.setup) {
        a.commit(op, at);
    }
    b.receive(&a);
    for op in &row.a {
        a.commit(op, at_a);
        at_a += 1;
    }
    for op in &row.b {
        b.commit(op, at_b);
        at_b += 1;
    }
    let (before_a, before_b) = (a.clone(), b.clone());
    a.receive(&before_b);
    b.receive(&before_a);
    assert_eq!(a.document, b.document, "{}", row.case);
    assert_eq!(a.document.to_bytes(), b.document.to_bytes(), "{}", row.case);
    a.document
}

fn rows() -> Vec<Row> {
    let mut rows = object_rows();
    rows.extend(counter_rows());
    rows.extend(life_rows());
    rows
}

fn object_rows() -> Vec<Row> {
    vec![
        Row {
            case: "SET f || SET f: the later wins",
            setup: start(r#"{"s":"x"}"#),
            a: vec![set("s", r#""A""#)],
            b: vec![set("s", r#""B""#)],
            expected: r#"{"s":"$later"}"#,
        },
        Row {
            case: "SET o.a || SET o.b: both",
            setup: start(r#"{"o":{"a":1,"b":1}}"#),
            a: vec![set("o.a", "2")],
            b: vec![set("o.b", "3")],
            expected: r#"{"o":{"a":2,"b":3}}"#,
        },
        Row {
            case: "SET o = {a} || SET o.b: merged",
            setup: start(r#"{"o":{"a":1}}"#),
            a: vec![set("o", r#"{"a":10}"#)],
            b: vec![set("o.b", "20")],
            expected: r#"{"o":{"a":10,"b":20}}"#,
        },
        Row {
            case: "UNSET o || SET o.c: what was not seen stays",
            setup: start(r#"{"o":{"a":1,"b":2}}"#),
            a: vec![unset("o")],
            b: vec![set("o.c", "5")],
            expected: r#"{"o":{"c":5}}"#,
        },
        Row {
            case: "UNSET m.i || SET m.i.q: no husk",
            setup: start(r#"{"m":{"i":{"n":"p","q":2}}}"#),
            a: vec![unset("m.i")],
            b: vec![set("m.i.q", "5")],
            expected: r#"{"m":{"i":{"q":5}}}"#,
        },
        Row {
            case: "UNSET f || SET f: the write was not seen",
            setup: start(r#"{"f":1,"k":1}"#),
            a: vec![unset("f")],
            b: vec![set("f", "2")],
            expected: r#"{"f":2,"k":1}"#,
        },
        Row {
            case: "arrays: one register",
            setup: start(r#"{"l":[1]}"#),
            a: vec![set("l", r#"[1,"A"]"#)],
            b: vec![set("l", r#"[1,"B"]"#)],
            expected: r#"{"l":[1,"$later"]}"#,
        },
    ]
}

fn counter_rows() -> Vec<Row> {
    let counter = || {
        let mut setup = start(r#"{"k":1}"#);
        setup.push(restart("n", 10));
        setup
    };
    vec![
        Row {
            case: "INCREMENT || INCREMENT: the sum",
            setup: counter(),
            a: vec![increment("n", 5)],
            b: vec![increment("n", 7)],
            expected: r#"{"k":1,"n":22}"#,
        },
        Row {
            case: "INCREMENT || INCREMENT of a counter that nobody began",
            setup: start(r#"{"k":1}"#),
            a: vec![increment("n", 5), increment("n", -1)],
            b: vec![increment("n", 7)],
            expected: r#"{"k":1,"n":11}"#,
        },
        Row {
            case: "RESTART WITH v || INCREMENT d: v + d",
            setup: counter(),
            a: vec![restart("n", 100)],
            b: vec![increment("n", 5)],
            expected: r#"{"k":1,"n":105}"#,
        },
        Row {
            case: "UNSET counter || INCREMENT d: d",
            setup: counter(),
            a: vec![unset("n")],
            b: vec![increment("n", 5)],
            expected: r#"{"k":1,"n":5}"#,
        },
    ]
}

fn life_rows() -> Vec<Row> {
    vec![
        Row {
            case: "DELETE || UPDATE: deleted",
            setup: start(r#"{"c":"red","k":1}"#),
            a: vec![DocumentOp::Delete],
            b: vec![set("c", r#""blue""#)],
            expected: "null",
        },
        Row {
            case: "DELETE || upsert by a peer that has it: deleted",
            setup: start(r#"{"c":"red","k":1}"#),
            a: vec![DocumentOp::Delete],
            b: vec![insert(r#"{"c":"blue"}"#, InsertConflict::DoUpdate)],
            expected: "null",
        },
        Row {
            case: "DELETE || DELETE, INSERT: the inserted document, with exactly its fields",
            setup: start(r#"{"c":"red","k":1}"#),
            a: vec![DocumentOp::Delete],
            b: vec![
                DocumentOp::Delete,
                insert(r#"{"c":"new"}"#, InsertConflict::Fail),
            ],
            expected: r#"{"c":"new"}"#,
        },
        Row {
            case: "INSERT, DELETE || INSERT by a peer that did not have it",
            setup: vec![],
            a: vec![
                insert(r#"{"x":1}"#, InsertConflict::Fail),
                DocumentOp::Delete,
            ],
            b: vec![insert(r#"{"y":2}"#, InsertConflict::Fail)],
            expected: r#"{"y":2}"#,
        },
        Row {
            case: "INSERT || INSERT: merged as with SET",
            setup: vec![],
            a: vec![insert(r#"{"a":1,"x":"A"}"#, InsertConflict::Fail)],
            b: vec![insert(r#"{"b":2,"x":"B"}"#, InsertConflict::Fail)],
            expected: r#"{"a":1,"b":2,"x":"$later"}"#,
        },
        Row {
            case: "INITIAL || INITIAL: ties by value",
            setup: vec![],
            a: vec![initial(r#"{"v":"A","p":1}"#)],
            b: vec![initial(r#"{"v":"B","q":1}"#)],
            expected: r#"{"v":"B","p":1,"q":1}"#,
        },
        Row {
            case: "INITIAL || INSERT: loses to any real write",
            setup: vec![],
            a: vec![initial(r#"{"v":"Z"}"#)],
            b: vec![insert(r#"{"v":"B"}"#, InsertConflict::Fail)],
            expected: r#"{"v":"B"}"#,
        },
        Row {
            case: "INITIAL, DELETE || INITIAL of something else: the tombstone wins",
            setup: vec![],
            a: vec![initial(r#"{"v":"A"}"#), DocumentOp::Delete],
            b: vec![initial(r#"{"v":"B"}"#)],
            expected: "null",
        },
    ]
}

#[test]
fn the_table_of_the_design_holds() {
    for row in rows() {
        for later in [Later::A, Later::B] {
            let document = run(&row, later);
            let expected = row.expected.replace("$later", &format!("{later:?}"));
            let shown = document.fields().map_or(Value::Null, Value::Object);
            assert_eq!(shown, value(&expected), "{}, {later:?} is later", row.case);
        }
    }
}

#[test]
fn conflicts_are_kept_until_the_next_write() {
    let row = &object_rows()[0];
    for (later, expected) in [(Later::A, ["A", "B"]), (Later::B, ["B", "A"])] {
        let mut peer = Peer::new('C');
        peer.document = run(row, later);
        let conflicts = peer.document.conflicts(&path("s"));
        assert_eq!(conflicts, expected.map(Value::from), "newest first");
        peer.commit(&set("s", r#""C""#), 300);
        assert_eq!(peer.document.conflicts(&path("s")), ["C".into()]);
        assert_eq!(peer.document.conflicts(&path("nowhere.at.all")), []);
    }
}

#[test]
fn of_two_kinds_the_newest_is_visible_and_the_other_a_conflict() {
    let row = Row {
        case: "SET f = 1 || SET f.x = 2",
        setup: start(r#"{"k":1}"#),
        a: vec![set("f", "1")],
        b: vec![set("f.x", "2")],
        expected: "",
    };
    let (scalar, map) = (value("1"), value(r#"{"x":2}"#));
    for (later, expected) in [
        (Later::A, [scalar.clone(), map.clone()]),
        (Later::B, [map, scalar]),
    ] {
        let document = run(&row, later);
        assert_eq!(document.fields().unwrap()["f"], expected[0], "{later:?}");
        assert_eq!(document.conflicts(&path("f")), expected, "{later:?}");
    }
}

#[test]
fn equal_defaults_are_one_version() {
    let defaults = initial(r#"{"v":1,"deep":{"x":[1,2]}}"#);
    let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
    assert_eq!(a.commit(&defaults, 5), Applied::Changed);
    assert_eq!(a.commit(&defaults, 6), Applied::Unchanged);
    b.commit(&defaults, 700);
    assert_eq!(a.document, b.document);
    assert!(!a.document.merge(&b.document));
    assert_eq!(a.document.conflicts(&path("v")), [Value::Int(1)]);
    assert_eq!(a.document.time(), idem_model::Timestamp::ZERO);
}

/// Two peers that insert the document, count 3 and 5, and meet.
fn counting_apart() -> (Peer, Peer) {
    let (mut a, mut b) = (Peer::new('A'), Peer::new('B'));
    for (peer, by, now) in [(&mut a, 3, 1), (&mut b, 5, 10)] {
        peer.commit(&insert(r#"{"k":1}"#, InsertConflict::Fail), now);
        peer.commit(&increment("n", by), now);
    }
    a.receive(&b);
    (a, b)
}

fn count_of(peer: &Peer) -> Option<Value> {
    peer.document.fields()?.get("n").cloned()
}

#[test]
fn the_counters_of_several_lives_are_one() {
    let edits = [
        (increment("n", 6), Some(14)),
        (restart("n", 100), Some(100)),
        (set_kind("n", "100", Some(FieldKind::Counter)), Some(100)),
        (unset("n"), None),
    ];
    for (edit, expected) in edits {
        let (mut a, mut b) = counting_apart();
        a.commit(&edit, 20);
        assert_eq!(count_of(&a), expected.map(Value::Int), "{edit:?}");
        // One that has not seen the other life counts 7 more in its own.
        b.commit(&increment("n", 7), 20);
        a.commit(&increment("n", 2), 21);
        a.receive(&b);
        let expected = expected.unwrap_or_default() + 2 + 7;
        assert_eq!(count_of(&a), Some(Value::Int(expected)), "{edit:?}");
    }
}

#[test]
fn the_end_of_a_life_takes_what_was_counted_in_it() {
    for (edit, left) in [
        (increment("n", 6), 5 + 6),
        (restart("n", 100), 100),
        (unset("n"), 0),
    ] {
        let (mut a, _) = counting_apart();
        // One that knew the first life only deletes it.
        let mut other = Peer::new('C');
        let mut early = Peer::new('A');
        early.commit(&insert(r#"{"k":1}"#, InsertConflict::Fail), 1);
        early.commit(&increment("n", 3), 1);
        other.receive(&early);
        other.commit(&DocumentOp::Delete, 30);
        a.commit(&edit, 20);
        a.receive(&other);
        a.commit(&increment("n", 2), 40);
        assert_eq!(count_of(&a), Some(Value::Int(left + 2)), "{edit:?}");
    }
}

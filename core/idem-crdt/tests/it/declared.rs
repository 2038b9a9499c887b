//! Kinds that a collection declares: how they are written, and what they show.

use idem_crdt::{ApplyError, Document, has_several_kinds, visible_fields_declared};
use idem_model::{
    ActorId, DocumentOp, Dot, FieldKind, FieldPath, InsertConflict, Object, Stamp, Timestamp, Value,
};

use crate::history::{
    PATHS, Random, increment, initial, insert, new_peers, path, random_transaction, restart, run,
    set, set_kind, unset, value,
};

type Kinds = Vec<(FieldPath, FieldKind)>;

fn kinds(declared: &[(&str, FieldKind)]) -> Kinds {
    let mut kinds: Kinds = declared
        .iter()
        .map(|(at, kind)| (path(at), *kind))
        .collect();
    kinds.sort();
    kinds
}

fn stamp(actor: u8, n: u64) -> Stamp {
    Stamp {
        dot: Dot {
            actor: ActorId([actor; 16]),
            n,
        },
        time: Timestamp::new(100 * n + u64::from(actor), 0),
    }
}

fn shown(document: &Document, declared: &Kinds) -> Value {
    let fields = document.fields_declared(declared);
    let bytes = document.to_bytes();
    assert_eq!(visible_fields_declared(&bytes, declared).unwrap(), fields);
    fields.map_or(Value::Null, Value::Object)
}

fn conflicts(document: &Document, at: &str, declared: &Kinds) -> Value {
    Value::Array(document.conflicts_declared(&path(at), declared))
}

#[test]
fn a_declared_kind_is_written_without_a_word_in_the_statement() {
    let declared = kinds(&[
        ("n", FieldKind::Counter),
        ("o.n", FieldKind::Counter),
        ("whole", FieldKind::Register),
    ]);
    let fields = r#"{"n":5,"o":{"n":1,"x":1},"whole":{"a":1}}"#;
    let mut left = Document::new();
    let op = insert(fields, InsertConflict::Fail);
    left.apply_declared(&op, stamp(1, 1), &declared).unwrap();
    let mut right = left.clone();
    let apply = |document: &mut Document, op: DocumentOp, actor, n| {
        document.apply_declared(&op, stamp(actor, n), &declared)
    };
    apply(&mut left, increment("n", 2), 1, 2).unwrap();
    apply(&mut left, increment("o.n", 2), 1, 3).unwrap();
    apply(&mut left, set("whole", r#"{"b":1}"#), 1, 4).unwrap();
    apply(&mut right, increment("n", 3), 2, 1).unwrap();
    apply(&mut right, set("o", r#"{"n":10,"y":2}"#), 2, 2).unwrap();
    left.merge(&right);
    // The increments add up, also those that the SET of the object, a restart of its counter, had not
    // seen; the object that is one value was replaced.
    let expected = value(r#"{"n":10,"o":{"n":12,"x":1,"y":2},"whole":{"b":1}}"#);
    assert_eq!(shown(&left, &declared), expected);
    assert_eq!(shown(&left, &Kinds::new()), expected);
    assert!(!has_several_kinds(&left.to_bytes()).unwrap());
}

#[test]
fn the_declared_kind_shows_and_the_rest_stays_readable() {
    // Two peers that know of no declaration.
    let mut left = Document::new();
    let op = insert(r#"{"n":5,"o":{"q":1},"s":"x"}"#, InsertConflict::Fail);
    left.apply(&op, stamp(1, 1)).unwrap();
    let mut right = left.clone();
    left.apply(&increment("n", 7), stamp(1, 2)).unwrap();
    right.apply(&set("n", "6"), stamp(2, 3)).unwrap();
    right.apply(&set("o", "true"), stamp(2, 4)).unwrap();
    left.merge(&right);
    let newest = value(r#"{"n":6,"o":true,"s":"x"}"#);
    assert_eq!(shown(&left, &Kinds::new()), newest);

    let declared = kinds(&[("n", FieldKind::Counter), ("o", FieldKind::Map)]);
    let expected = value(r#"{"n":7,"o":{"q":1},"s":"x"}"#);
    assert_eq!(shown(&left, &declared), expected);
    assert_eq!(conflicts(&left, "n", &declared), value("[7,6]"));
    assert_eq!(conflicts(&left, "n", &Kinds::new()), value("[6,7]"));
    assert_eq!(conflicts(&left, "o", &declared), value(r#"[{"q":1},true]"#));
    // What is below a declared field is in a map.
    let below = kinds(&[("o.q", FieldKind::Register)]);
    assert_eq!(
        shown(&left, &below),
        value(r#"{"n":6,"o":{"q":1},"s":"x"}"#)
    );
    // A field without the declared kind shows what it has.
    let absent = kinds(&[("s", FieldKind::Map), ("n", FieldKind::Map)]);
    assert_eq!(shown(&left, &absent), newest);
    // What was removed is not there, whatever was declared.
    left.apply(&unset("n"), stamp(1, 9)).unwrap();
    assert_eq!(shown(&left, &declared), value(r#"{"o":{"q":1},"s":"x"}"#));
}

#[test]
fn what_a_declaration_does_not_allow_is_refused() {
    let declared = kinds(&[
        ("n", FieldKind::Counter),
        ("o.n", FieldKind::Counter),
        ("whole", FieldKind::Register),
    ]);
    let fields = r#"{"n":5,"o":{"n":1},"whole":{"a":1}}"#;
    let mut document = Document::new();
    let op = insert(fields, InsertConflict::Fail);
    document
        .apply_declared(&op, stamp(1, 1), &declared)
        .unwrap();
    let before = document.clone();
    let refused = [
        set("n", "'x'".replace('\'', "\"").as_str()),
        set("n", "null"),
        set("n.deep", "1"),
        increment("n.deep", 1),
        set("o", "5"),
        set("o", r#"{"n":"x"}"#),
        set_kind("o", r#"{"n":1}"#, Some(FieldKind::Register)),
        set_kind("n", "1", Some(FieldKind::Register)),
        increment("o", 1),
        increment("whole", 1),
        restart("whole.a", 1),
        insert(r#"{"n":"x"}"#, InsertConflict::DoUpdate),
        insert(r#"{"o":{"n":true}}"#, InsertConflict::DoUpdateLocalDiff),
        DocumentOp::Insert {
            fields: Object::new(),
            kinds: kinds(&[("n", FieldKind::Map)]),
            conflict: InsertConflict::DoUpdate,
        },
    ];
    for op in refused {
        let error = document
            .apply_declared(&op, stamp(1, 2), &declared)
            .expect_err(&format!("{op:?}"));
        assert_ne!(error, ApplyError::NotAnEdit);
        assert_eq!(document, before, "{op:?}");
    }
    let error = document
        .apply_declared(&set("whole.a", "1"), stamp(1, 2), &declared)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "whole.a cannot be written like this: whole is declared REGISTER"
    );
}

/// A default is one version on peers with and without a declaration that does not concern it.
#[test]
fn initial_values_meet_across_a_declaration() {
    let declared = kinds(&[
        ("a", FieldKind::Register),
        ("o.n", FieldKind::Counter),
        ("o.other", FieldKind::Register),
    ]);
    let mut with = Document::new();
    let op = initial(r#"{"a":"x","o":{"q":1}}"#);
    with.apply_declared(&op, stamp(1, 1), &declared).unwrap();
    let mut without = Document::new();
    without.apply(&op, stamp(2, 1)).unwrap();
    assert_eq!(with, without);

    let op = initial(r#"{"o":{"n":3}}"#);
    let mut with = Document::new();
    with.apply_declared(&op, stamp(1, 1), &declared).unwrap();
    let mut without = Document::new();
    without.apply(&op, stamp(2, 1)).unwrap();
    with.merge(&without);
    without.merge(&with);
    assert_eq!(with, without);
    assert_eq!(conflicts(&with, "o.n", &declared), value("[3,3]"));
}

fn random_kinds(random: &mut Random) -> Kinds {
    let mut declared = Kinds::new();
    for at in PATHS.iter().chain(&["m", "m.n"]) {
        if random.below(2) == 0 {
            declared.push((path(at), *random.pick(&FieldKind::ALL)));
        }
    }
    declared.sort();
    declared
}

#[test]
fn declarations_only_choose_among_the_values_that_are_there() {
    let mut several = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed ^ 0x5eed);
        for state in run(seed).1 {
            let declared = random_kinds(&mut random);
            let bytes = state.to_bytes();
            let fields = state.fields_declared(&declared);
            assert_eq!(
                visible_fields_declared(&bytes, &declared).unwrap(),
                fields,
                "seed {seed}"
            );
            if has_several_kinds(&bytes).unwrap() {
                several += 1;
            } else {
                assert_eq!(fields, state.fields(), "seed {seed}");
            }
            assert_eq!(state.fields_declared(&[]), state.fields());
            for at in PATHS.map(path) {
                let mut all = state.conflicts(&at);
                let mut chosen = state.conflicts_declared(&at, &declared);
                let found = fields.as_ref().and_then(|fields| at.find(fields));
                if let Some(found) = found {
                    assert_eq!(chosen.first(), Some(found), "seed {seed} {at}");
                }
                // Nested maps show their own chosen values, so only the numbers must agree there.
                let is_plain = |value: &Value| !matches!(value, Value::Object(_));
                assert_eq!(all.len(), chosen.len());
                all.retain(is_plain);
                chosen.retain(is_plain);
                all.sort_by(Value::compare);
                chosen.sort_by(Value::compare);
                assert_eq!(all, chosen, "seed {seed} {at}");
            }
        }
    }
    assert!(several > 500, "{several} states hold several kinds");
}

/// Where every peer writes under the declaration, each path has one kind.
#[test]
fn no_second_kind_arises_under_a_declaration() {
    let declared = kinds(&[
        ("a", FieldKind::Register),
        ("b", FieldKind::Register),
        ("c", FieldKind::Counter),
        ("m.c", FieldKind::Counter),
        ("m.n.z", FieldKind::Register),
        ("m.x", FieldKind::Register),
        ("m.y", FieldKind::Register),
    ]);
    let mut written = 0;
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let mut peers = new_peers(3);
        for step in 1..40 {
            let at = random.below(3);
            if random.below(4) == 0 {
                let from = peers[random.below(3)].clone();
                peers[at].document.merge(&from.document);
            } else {
                for op in random_transaction(&mut random) {
                    let stamp = stamp(u8::try_from(at).unwrap() + 1, step);
                    let applied = peers[at].document.apply_declared(&op, stamp, &declared);
                    written += usize::from(applied.is_ok());
                }
            }
            let document = &peers[at].document;
            assert_eq!(
                document.fields_declared(&declared),
                document.fields(),
                "seed {seed}"
            );
            for counter in ["c", "m.c"] {
                let values = document.conflicts_declared(&path(counter), &declared);
                assert!(values.len() <= 1, "seed {seed}: {values:?}");
            }
        }
    }
    assert!(written > 2000, "{written} writes were taken");
}

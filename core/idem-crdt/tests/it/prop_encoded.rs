//! Edits from bytes to bytes do what decoding, editing and encoding does.

use idem_crdt::{Applied, ApplyError, Delta, Document, apply_encoded};
use idem_model::{
    ActorId, DocumentOp, Dot, FieldKind, FieldOp, FieldPath, InsertConflict, Object, Stamp,
    Timestamp, Value, limits,
};
use proptest::prelude::*;

use crate::history::{Random, insert, object, path, run, value};
use crate::prop_codec::mutate;

const NAMES: [&str; 6] = ["", "a", "b", "c", "m", "zz"];

const VALUES: [&str; 9] = [
    "1",
    "null",
    "true",
    "-1.5",
    r#""text""#,
    r#"[1,{"q":[]}]"#,
    "{}",
    r#"{"q":1,"r":{"s":"t"}}"#,
    r#""""#,
];

fn one_of<'t>(random: &mut Random, texts: &[&'t str]) -> &'t str {
    let text: &&str = random.pick(texts);
    text
}

fn stamp(actor: u8, n: u64, time: u64) -> Stamp {
    Stamp {
        dot: Dot {
            actor: ActorId([actor; 16]),
            n,
        },
        time: Timestamp(time),
    }
}

/// A stamp that is after all of the document's commits, of an actor that it knows or not.
fn next_stamp(document: &Document, random: &mut Random) -> Stamp {
    let actor = *random.pick(b"ABCDE");
    let n = document.version().get(ActorId([actor; 16])) + 1 + random.next() % 2;
    // Clocks stand still, and run backwards between peers.
    let time = match random.below(4) {
        0 => document.time().0,
        1 => document.time().0 / 2,
        _ => document.time().0 + random.next() % (1 << 20),
    };
    stamp(actor, n, time.max(1))
}

fn random_fields(random: &mut Random) -> Object {
    let mut fields = Object::new();
    for name in NAMES {
        if random.below(2) == 0 {
            fields.insert(name.to_owned(), value(one_of(random, &VALUES)));
        }
    }
    fields
}

fn random_update(random: &mut Random) -> DocumentOp {
    let ops = (0..=random.below(3)).map(|_| match random.below(12) {
        0 => FieldOp::Unset {
            path: path(one_of(random, &["a", "m", "c"])),
        },
        1 => FieldOp::Increment {
            path: path("c"),
            by: 1,
        },
        _ => FieldOp::Set {
            path: match random.below(6) {
                0 => path("m.q"),
                _ => FieldPath::field(one_of(random, &NAMES)),
            },
            value: value(one_of(random, &VALUES)),
            kind: match random.below(6) {
                0 => Some(FieldKind::Register),
                1 => Some(FieldKind::Counter),
                _ => None,
            },
        },
    });
    DocumentOp::Update(ops.collect())
}

fn random_declared(random: &mut Random) -> Vec<(FieldPath, FieldKind)> {
    match random.below(3) {
        0 => vec![
            (path("a"), FieldKind::Register),
            (path("c"), FieldKind::Counter),
            (path("m"), FieldKind::Map),
        ],
        _ => Vec::new(),
    }
}

type Declared = [(FieldPath, FieldKind)];

/// The general way.
fn apply(
    document: &Document,
    op: &DocumentOp,
    stamp: Stamp,
    declared: &Declared,
) -> Result<(Applied, Document), ApplyError> {
    let mut document = document.clone();
    let applied = document.apply_declared(op, stamp, declared)?;
    Ok((applied, document))
}

/// Whether the short way took the edit. If it did, it made what the general way makes.
fn check(document: &Document, op: &DocumentOp, stamp: Stamp, declared: &Declared) -> bool {
    let before = (!document.is_empty()).then(|| document.to_bytes());
    let Some(bytes) = apply_encoded(before.as_deref(), op, stamp, declared) else {
        return false;
    };
    let (applied, expected) = apply(document, op, stamp, declared).unwrap();
    assert_eq!(applied, Applied::Changed, "{op:?}");
    assert_eq!(Document::decode(&bytes).unwrap(), expected, "{op:?}");
    assert_eq!(bytes, expected.to_bytes(), "{op:?}");
    true
}

#[test]
fn the_short_way_makes_what_the_general_way_makes() {
    let (mut short, mut general) = (0, 0);
    for seed in 0..300 {
        let mut random = Random::new(seed ^ 0xed17);
        // States of every sort, and documents that were only inserted and set.
        let mut states = run(seed).1;
        let mut document = Document::new();
        for _ in 0..12 {
            let declared = random_declared(&mut random);
            let stamp = next_stamp(&document, &mut random);
            let op = match document.is_present() {
                false => DocumentOp::Insert {
                    fields: random_fields(&mut random),
                    kinds: Vec::new(),
                    conflict: InsertConflict::Fail,
                },
                true => random_update(&mut random),
            };
            match check(&document, &op, stamp, &declared) {
                true => short += 1,
                false => general += 1,
            }
            if let Ok((_, after)) = apply(&document, &op, stamp, &declared) {
                document = after;
                states.push(document.clone());
            }
        }
        for state in &states {
            for _ in 0..4 {
                let declared = random_declared(&mut random);
                let stamp = next_stamp(state, &mut random);
                let op = match random.below(4) {
                    0 => DocumentOp::Insert {
                        fields: random_fields(&mut random),
                        kinds: declared[..random.below(1 + declared.len())].to_vec(),
                        conflict: InsertConflict::DoUpdate,
                    },
                    _ => random_update(&mut random),
                };
                match check(state, &op, stamp, &declared) {
                    true => short += 1,
                    false => general += 1,
                }
            }
        }
    }
    assert!(short > 1_000 && general > 5_000, "{short} {general}");
}

/// Were it to refuse them all the test above would notice nothing.
#[test]
fn plain_edits_take_the_short_way() {
    let mut document = Document::new();
    let mut random = Random::new(7);
    let fields = r#"{"a":1,"b":[1,2],"m":{"x":{"y":1}},"o":"text"}"#;
    let op = insert(fields, InsertConflict::Fail);
    assert!(check(&document, &op, stamp(b'A', 1, 5), &[]));
    document.apply(&op, stamp(b'A', 1, 5)).unwrap();
    for _ in 0..200 {
        // Also a field that is not there yet, and two at once.
        let names = ["a", "b", "d", "o", "p"];
        let (one, other) = (random.below(5), random.below(5));
        let ops = [one, other].map(|at| FieldOp::Set {
            path: FieldPath::field(names[at]),
            value: value(one_of(&mut random, &VALUES[..6])),
            kind: None,
        });
        let op = DocumentOp::Update(ops[usize::from(one == other)..].to_vec());
        let stamp = next_stamp(&document, &mut random);
        assert!(check(&document, &op, stamp, &[]), "{op:?}");
        // A second edit of one transaction takes back what the first one wrote.
        document.apply(&op, stamp).unwrap();
        assert!(!check(&document, &op, stamp, &[]), "{op:?}");
    }
    // A map that stands there stays beside the register.
    let op = crate::history::set("m", "1");
    assert!(!check(
        &document,
        &op,
        next_stamp(&document, &mut random),
        &[]
    ));
}

#[test]
fn damaged_bytes_are_left_to_the_general_way() {
    let (mut taken, mut left) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(seed ^ 0xdad);
        let mut states = vec![Document::new()];
        states[0]
            .apply(
                &DocumentOp::Insert {
                    fields: object(r#"{"a":1.5,"b":["x",{"k":1,"l":2}],"m":{"x":"y","z":3}}"#),
                    kinds: Vec::new(),
                    conflict: InsertConflict::Fail,
                },
                stamp(b'A', 3, 9),
            )
            .unwrap();
        for _ in 0..6 {
            let last = states.last().unwrap().clone();
            let stamp = next_stamp(&last, &mut random);
            if let Ok((_, after)) = apply(&last, &random_update(&mut random), stamp, &[]) {
                states.push(after);
            }
        }
        for _ in 0..200 {
            let (state, other) = (random.pick(&states), random.pick(&states));
            let bytes = mutate(&state.to_bytes(), &other.to_bytes(), &mut random);
            let op = DocumentOp::Update(vec![FieldOp::Set {
                path: FieldPath::field(one_of(&mut random, &["a", "c"])),
                value: Value::Int(7),
                kind: None,
            }]);
            // A number that no damage reaches.
            let stamp = stamp(b'Z', u64::MAX, u64::MAX);
            match apply_encoded(Some(&bytes), &op, stamp, &[]) {
                None => left += 1,
                Some(edited) => {
                    taken += 1;
                    let mut decoded =
                        Document::decode(&bytes).expect("the short way saw no damage");
                    decoded.apply(&op, stamp).unwrap();
                    assert_eq!(decoded.to_bytes(), edited, "seed {seed}");
                }
            }
        }
    }
    assert!(taken > 500 && left > 5_000, "{taken} {left}");
}

/// Any bits of a float, and above all those that are no number of a document.
fn floats() -> impl Strategy<Value = f64> {
    let special = prop::sample::select(vec![
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        -5e-324,
        f64::MAX,
    ]);
    prop_oneof![special, any::<u64>().prop_map(f64::from_bits)]
}

/// Levels around the limit, and few.
fn levels() -> impl Strategy<Value = usize> {
    let max = limits::NESTING_LEVELS_MAX;
    prop_oneof![0..4usize, max - 2..=max + 2]
}

proptest! {
    /// Applications make values of their own. What is written of them can be read, by either way, and
    /// what could not be read is refused by both.
    #[test]
    fn what_is_written_of_any_value_can_be_read(
        number in floats(),
        levels in levels(),
        (is_array, sibling) in (any::<bool>(), any::<bool>()),
        name in prop::sample::select(vec!["a", "b", "zz"]),
    ) {
        let inner = match sibling {
            true => Value::Array(vec![Value::Int(1), Value::Float(number)]),
            false => Value::Float(number),
        };
        let value = (usize::from(sibling)..levels).fold(inner, |inner, level| {
            match is_array && level % 3 != 1 {
                true => Value::Array(vec![inner]),
                false => Value::Object([("k".to_owned(), inner)].into()),
            }
        });
        // The document itself is a level.
        let is_fine = number.is_finite() && value.nesting_levels() < limits::NESTING_LEVELS_MAX;
        let fields = Object::from([(name.to_owned(), value.clone())]);
        let insert = |conflict| DocumentOp::Insert {
            fields: fields.clone(),
            kinds: Vec::new(),
            conflict,
        };
        let set = |kind| DocumentOp::Update(vec![FieldOp::Set {
            path: FieldPath::field(name),
            value: value.clone(),
            kind,
        }]);
        let mut there = Document::new();
        let base = crate::history::insert(r#"{"a":1.5,"b":[0.0],"m":{"x":1}}"#, InsertConflict::Fail);
        there.apply(&base, stamp(b'A', 1, 5)).unwrap();
        let initial = DocumentOp::InsertInitial { fields: fields.clone(), kinds: Vec::new() };
        for (document, op) in [
            (&Document::new(), insert(InsertConflict::Fail)),
            (&Document::new(), initial),
            (&there, insert(InsertConflict::DoUpdate)),
            (&there, insert(InsertConflict::DoUpdateLocalDiff)),
            (&there, set(None)),
            (&there, set(Some(FieldKind::Register))),
        ] {
            let general = apply(document, &op, stamp(b'B', 1, 9), &[]);
            prop_assert_eq!(general.is_ok(), is_fine, "{:?}: {:?}", op, general);
            let Ok((_, after)) = general else {
                let before = (!document.is_empty()).then(|| document.to_bytes());
                let short = apply_encoded(before.as_deref(), &op, stamp(b'B', 1, 9), &[]);
                prop_assert_eq!(short, None);
                continue;
            };
            let bytes = after.to_bytes();
            prop_assert_eq!(&Document::decode(&bytes).unwrap(), &after);
            prop_assert_eq!(idem_crdt::visible_fields(&bytes).unwrap(), after.fields());
            let delta = after.delta(document.version());
            prop_assert_eq!(Delta::decode(&delta.to_bytes()).unwrap(), delta);
            let is_short = check(document, &op, stamp(b'B', 1, 9), &[]);
            let may_be_short = match &op {
                DocumentOp::Insert { .. } => document.is_empty(),
                DocumentOp::Update(_) => !matches!(value, Value::Object(_)),
                _ => false,
            };
            prop_assert_eq!(is_short, may_be_short, "{:?}", op);
            // What stands there is kept as it is, at any depth.
            if may_be_short && name != "b" {
                let next = crate::history::set("b", "7");
                prop_assert!(check(&after, &next, stamp(b'B', 2, 10), &[]), "{:?}", op);
            }
        }
    }
}

#[test]
fn a_document_over_the_limit_of_nesting_is_left_to_the_general_way() {
    let levels = limits::NESTING_LEVELS_MAX - 1;
    let deep = (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    let mut document = Document::new();
    let op = DocumentOp::Insert {
        fields: Object::from([("a".to_owned(), deep)]),
        kinds: Vec::new(),
        conflict: InsertConflict::Fail,
    };
    document.apply(&op, stamp(b'A', 1, 5)).unwrap();
    let op = crate::history::set("b", "7");
    assert!(check(&document, &op, stamp(b'A', 2, 6), &[]));
    let mut bytes = document.to_bytes();
    assert!(Document::decode(&bytes).is_ok());
    // One array more around the innermost value: behind the head, the count and the name.
    let at = 5 + 1 + 2;
    let array = Value::Array(vec![Value::Null]).to_bytes();
    let around = &array[..array.len() - 1];
    assert!(bytes[at..].starts_with(around));
    bytes.splice(at..at, around.iter().copied());
    bytes[1] += u8::try_from(around.len()).unwrap();
    assert!(Document::decode(&bytes).is_err());
    assert_eq!(
        apply_encoded(Some(&bytes), &op, stamp(b'A', 2, 6), &[]),
        None
    );
}

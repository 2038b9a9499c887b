//! Projecting commutes with merging, on states that peers really held.

use idem_crdt::{Delta, Document, is_first_state, visible_fields};
use idem_model::{FieldPath, InsertConflict, Object, Value};

use crate::history::{PATHS, Random, object, path, run};

const HISTORIES: u64 = 400;
const DRAWS: usize = 30;

/// Sets of paths: whole fields, fields of fields, paths through counters and registers, paths that nothing
/// has.
fn random_paths(random: &mut Random) -> Vec<FieldPath> {
    const OTHERS: [&str; 8] = [
        "m", "m.n", "a.q", "c.q", "m.c.q", "m.n.z.q", "none", "b.x.y",
    ];
    let mut paths = Vec::new();
    for _ in 0..random.below(4) {
        let known = if random.below(2) == 0 {
            &PATHS[..]
        } else {
            &OTHERS[..]
        };
        paths.push(path(known[random.below(known.len())]));
    }
    paths
}

fn merged(a: &Document, b: &Document) -> Document {
    let mut result = a.clone();
    result.merge(b);
    result
}

#[test]
fn projecting_commutes_with_merging_and_with_deltas() {
    let mut tombstones = 0;
    let mut smaller = 0;
    for seed in 0..HISTORIES {
        let (_, states) = run(seed);
        let mut random = Random::new(!seed);
        for _ in 0..DRAWS {
            let paths = random_paths(&mut random);
            let [a, b, c] = [0; 3].map(|_| random.pick(&states));
            let [pa, pb] = [a, b].map(|it| it.project(&paths));
            let context = || format!("seed {seed}, {paths:?}\n{a:?}\n{b:?}");
            let both = merged(&pa, &pb);
            assert_eq!(both, merged(a, b).project(&paths), "{}", context());
            assert_eq!(both, merged(&pb, &pa), "{}", context());
            let bytes = pa.to_bytes();
            assert_eq!(Document::decode(&bytes).unwrap(), pa, "{}", context());
            assert_eq!(pa.project(&paths), pa, "is idempotent, {}", context());
            assert_eq!(pa.version(), a.version());
            // A receiver that has reached at least the version that the delta builds on.
            for (receiver, since) in [(b.clone(), b.version()), (merged(b, c), c.version())] {
                let delta = a.delta(since).project(&paths);
                assert_eq!(Delta::decode(&delta.to_bytes()).unwrap(), delta);
                let mut result = receiver.project(&paths);
                result.merge_delta(&delta).unwrap();
                let expected = merged(&receiver, a).project(&paths);
                assert_eq!(result, expected, "{}\n{c:?}", context());
            }
            let is_first = is_first_state(&bytes).unwrap();
            assert!(is_first || !is_first_state(&a.to_bytes()).unwrap());
            assert!(!is_first || a.version().len() == 1, "{}", context());
            tombstones += usize::from(!a.is_present());
            smaller += usize::from(bytes.len() < a.to_bytes().len());
        }
    }
    assert!(tombstones > 300, "{tombstones}");
    assert!(smaller > 3000, "{smaller}");
}

/// The fields that `paths` name, of those that are visible.
fn named(fields: &Object, paths: &[FieldPath]) -> Object {
    let mut kept = Object::new();
    for path in paths {
        put(fields, path.segments(), &mut kept);
    }
    kept
}

fn put(from: &Object, path: &[String], into: &mut Object) {
    let (first, tail) = path.split_first().unwrap();
    let Some(value) = from.get(first) else {
        return;
    };
    let kept = into.entry(first.clone()).or_insert_with(|| match value {
        Value::Object(_) => Value::Object(Object::new()),
        // A counter in the place of an object stays.
        Value::Int(_) => value.clone(),
        _ => Value::Null,
    });
    match (value, kept) {
        _ if tail.is_empty() => {
            into.insert(first.clone(), value.clone());
        }
        (Value::Object(fields), Value::Object(kept)) => put(fields, tail, kept),
        _ => {}
    }
}

#[test]
fn a_projected_document_shows_the_fields_that_were_named() {
    let mut compared = 0;
    for seed in 0..HISTORIES {
        let (_, states) = run(seed);
        let mut random = Random::new(seed);
        for state in &states {
            // Whole fields at the top, where nothing stands on the way.
            let mut paths: Vec<_> = ["a", "b", "c", "m"].map(path).into();
            paths.retain(|_| random.below(2) == 0);
            let shown = visible_fields(&state.project(&paths).to_bytes()).unwrap();
            let whole = state.fields();
            assert_eq!(shown, whole.map(|it| named(&it, &paths)), "seed {seed}");
            compared += 1;
        }
    }
    assert!(compared > 2000, "{compared}");
}

#[test]
fn what_stands_in_the_way_of_a_path_is_not_given_away() {
    let stamp = idem_model::Stamp {
        dot: idem_model::Dot {
            actor: idem_model::ActorId([1; 16]),
            n: 1,
        },
        time: idem_model::Timestamp::new(1, 0),
    };
    let fields =
        object(r#"{"deep":{"a":1,"b":{"c":2,"d":3}},"list":[{"a":1}],"text":"secret","other":4}"#);
    let mut document = Document::new();
    let insert = idem_model::DocumentOp::Insert {
        fields,
        kinds: vec![(path("deep"), idem_model::FieldKind::Register)],
        conflict: InsertConflict::Fail,
    };
    document.apply(&insert, stamp).unwrap();
    let paths = ["deep.b.c", "list.a", "text.x"].map(path);
    let shown = document.project(&paths).fields().unwrap();
    let expected = r#"{"deep":{"b":{"c":2}},"list":null,"text":null}"#;
    assert_eq!(shown, object(expected));
}

//! The binary form: canonical, total on hostile bytes, and readable in part.

use idem_crdt::{
    Delta, Document, apply_encoded, encoded_version, has_several_kinds, is_visible_text,
    visible_fields, visible_fields_into, visible_fields_of,
};

use std::collections::BTreeSet;

use idem_model::{ActorId, Dot, Object, Stamp, Timestamp, Value};

use crate::history::{Random, object, run, set};

#[test]
fn bytes_and_states_are_the_same_thing() {
    for seed in 0..400 {
        for state in run(seed).1 {
            let bytes = state.to_bytes();
            let decoded = Document::decode(&bytes).unwrap();
            assert_eq!(decoded, state, "seed {seed}");
            assert_eq!(decoded.to_bytes(), bytes);
            assert_eq!(visible_fields(&bytes).unwrap(), state.fields());
            assert_eq!(encoded_version(&bytes).unwrap(), *state.version());
        }
    }
}

/// What is read with a mask is what is read without, restricted to the mask: on documents with
/// tombstones, conflicts and several lives, for names that are there and names that are not.
#[test]
fn a_mask_restricts_what_is_read() {
    let (mut kept, mut left_out, mut absent, mut texts) = (0, 0, 0, 0);
    // One object for all documents, as a scan has it.
    let id = || ("_id".to_owned(), Value::from("kept"));
    let mut reused = Object::from([id()]);
    for seed in 0..400 {
        let mut random = Random::new(seed ^ 0xf1e1d);
        for state in run(seed).1 {
            let bytes = state.to_bytes();
            let whole = visible_fields(&bytes).unwrap();
            let mut names: BTreeSet<String> = (0..random.below(4))
                .map(|_| {
                    random
                        .pick(&["", "_id", "a", "aa", "c", "m", "zz"])
                        .to_string()
                })
                .collect();
            for name in whole.iter().flat_map(Object::keys) {
                if random.below(2) == 0 {
                    names.insert(name.clone());
                }
            }
            let names: Vec<String> = names.into_iter().collect();
            let found = visible_fields_of(&bytes, &names, &[]).unwrap();
            let before = reused.clone();
            let is_there = visible_fields_into(&bytes, &names, &[], "_id", &mut reused).unwrap();
            let Some(whole) = whole else {
                assert_eq!(found, None, "seed {seed}");
                assert!(!is_there && reused == before, "seed {seed}");
                absent += 1;
                continue;
            };
            let mut expected = whole.clone();
            expected.retain(|name, _| names.contains(name));
            for (name, value) in &whole {
                let text = match value {
                    Value::String(text) => text,
                    _ => "",
                };
                let is_text = is_visible_text(&bytes, name, text).unwrap();
                assert_eq!(
                    is_text,
                    Some(*value == Value::from(text)),
                    "seed {seed} {name}"
                );
                let other = format!("{text}x");
                assert_eq!(is_visible_text(&bytes, name, &other).unwrap(), Some(false));
                texts += usize::from(is_text == Some(true));
            }
            kept += expected.len();
            left_out += whole.len() - expected.len();
            assert_eq!(found.as_ref(), Some(&expected), "seed {seed} {names:?}");
            expected.extend([id()]);
            assert_eq!(reused, expected, "seed {seed} {names:?}");
        }
    }
    let least = kept.min(left_out).min(absent).min(texts);
    assert!(least > 100, "{kept} {left_out} {absent} {texts}");
}

/// Flips, cuts, repeats and splices `bytes`.
pub(crate) fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = *random.pick(&[0, 1, 2, 3, 0x7f, 0x80, 0xff]),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
            4 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            _ => {
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[test]
fn damaged_bytes_are_refused_or_canonical() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..300 {
        let (_, states) = run(seed);
        let mut random = Random::new(seed ^ 0xdead);
        for _ in 0..200 {
            let (state, other) = (random.pick(&states), random.pick(&states));
            let bytes = mutate(&state.to_bytes(), &other.to_bytes(), &mut random);
            let whole = visible_fields(&bytes);
            let masked = visible_fields_of(&bytes, &["a", "m"], &[]);
            // A mask may miss damage, but says nothing else than the whole.
            if let Ok(Some(mut fields)) = whole {
                fields.retain(|name, _| name == "a" || name == "m");
                assert_eq!(masked, Ok(Some(fields)), "seed {seed}");
            }
            let _ = encoded_version(&bytes);
            let several = has_several_kinds(&bytes);
            match Document::decode(&bytes) {
                Err(_) => refused += 1,
                Ok(decoded) => {
                    accepted += 1;
                    assert_eq!(decoded.to_bytes(), bytes, "seed {seed}");
                    assert_eq!(visible_fields(&bytes).unwrap(), decoded.fields());
                    assert_eq!(encoded_version(&bytes).unwrap(), *decoded.version());
                    assert!(several.is_ok());
                    // What was accepted must not break what it meets.
                    let mut merged = other.clone();
                    merged.merge(&decoded);
                    let merged_bytes = merged.to_bytes();
                    assert_eq!(
                        Document::decode(&merged_bytes).unwrap(),
                        merged,
                        "seed {seed}"
                    );
                }
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} {refused}");
}

#[test]
fn damaged_deltas_are_refused_or_canonical() {
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..300 {
        let (_, states) = run(seed);
        let mut random = Random::new(seed ^ 0xbeef);
        for _ in 0..100 {
            let (a, b, c) = (
                random.pick(&states),
                random.pick(&states),
                random.pick(&states),
            );
            let (delta, other) = (a.delta(b.version()), c.delta(b.version()));
            let bytes = mutate(&delta.to_bytes(), &other.to_bytes(), &mut random);
            match Delta::decode(&bytes) {
                Err(_) => refused += 1,
                Ok(decoded) => {
                    accepted += 1;
                    assert_eq!(decoded.to_bytes(), bytes);
                    let mut merged = c.clone();
                    if merged.merge_delta(&decoded).is_ok() {
                        let merged_bytes = merged.to_bytes();
                        assert_eq!(Document::decode(&merged_bytes).unwrap(), merged);
                    }
                }
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} {refused}");
}

/// A document `{"a":1,"b":2}` in the general form: A wrote it at 10 ms, B set `b` later in that
/// millisecond. Each part can be replaced, to write it in a way that no encoder does.
#[derive(Clone)]
struct General {
    values: Vec<u8>,
    version: Vec<u8>,
    time: u64,
    stamps: Vec<u8>,
    lives: Vec<u8>,
    removals: Vec<u8>,
    listed: Vec<u8>,
    hidden: Vec<u8>,
}

impl General {
    fn new() -> Self {
        let version = [&[2][..], &[b'A'; 16], &[7], &[b'B'; 16], &[9]].concat();
        Self {
            values: vec![2, 1, b'a', 3, 2, 1, b'b', 3, 4],
            version,
            time: 10 << 16 | 5,
            // Actor, behind, time: A's seventh at 10.0, B's ninth at 10.5.
            stamps: vec![2, 0, 0, 1, 1, 0, 2, 5],
            lives: vec![1, 0],
            removals: vec![0],
            listed: vec![1, 1, 2],
            hidden: vec![0],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let len = u32::try_from(self.values.len()).unwrap();
        [
            &[1][..],
            &len.to_le_bytes(),
            &self.values,
            &[0],
            &self.version,
            &self.time.to_le_bytes(),
            &self.stamps,
            &self.lives,
            &self.removals,
            &self.listed,
            &self.hidden,
        ]
        .concat()
    }
}

/// After all stamps of [`General`].
const LATER: Stamp = Stamp {
    dot: Dot {
        actor: ActorId([b'C'; 16]),
        n: 1,
    },
    time: Timestamp(10 << 16 | 6),
};

#[test]
fn every_other_way_to_write_a_document_is_refused() {
    let good = Document::decode(&General::new().bytes()).unwrap();
    assert_eq!(good.to_bytes(), General::new().bytes());
    assert!(apply_encoded(Some(&good.to_bytes()), &set("a", "7"), LATER, &[]).is_some());
    assert_eq!(good.fields(), Some(object(r#"{"a":1,"b":2}"#)));
    let check = |what: &str, change: &dyn Fn(&mut General)| {
        let mut general = General::new();
        change(&mut general);
        let decoded = Document::decode(&general.bytes());
        assert!(decoded.is_err(), "{what}: {decoded:?}");
        let edited = apply_encoded(Some(&general.bytes()), &set("a", "7"), LATER, &[]);
        assert_eq!(edited, None, "{what}");
    };
    check("stamps out of order", &|g| {
        g.stamps = vec![2, 1, 0, 2, 5, 0, 0, 1];
        g.lives = vec![1, 1];
        g.listed = vec![1, 1, 1];
    });
    check("a stamp twice", &|g| {
        g.stamps = vec![3, 0, 0, 1, 1, 0, 2, 5, 1, 0, 2, 5]
    });
    check("an idle stamp", &|g| {
        g.stamps = vec![3, 0, 0, 1, 0, 0, 2, 1, 1, 0, 2, 5]
    });
    check("no commit number", &|g| g.stamps[2] = 7);
    check("a time after the latest", &|g| g.stamps[7] = 6);
    check("a counter of zero", &|g| g.stamps[7] = 0);
    check("a time before zero", &|g| g.stamps[3] = 1 + (11 << 1));
    check("the time zero as a difference", &|g| {
        g.stamps[3] = 1 + (10 << 1)
    });
    check("an unknown actor", &|g| g.stamps[4] = 2);
    check("a default entry listed", &|g| {
        g.listed = vec![2, 0, 1, 0, 2]
    });
    check("an entry listed beyond the end", &|g| {
        g.listed = vec![1, 2, 2]
    });
    check("a register as a node", &|g| {
        g.listed = vec![1, 1, 0, 0b1001, 1, 2];
    });
    check("an empty hidden node", &|g| g.hidden = vec![1, 1, b'c', 0]);
    check("an empty hidden map", &|g| {
        g.hidden = vec![1, 1, b'c', 2, 0, 0, 0]
    });
    check("an empty hidden counter", &|g| {
        g.hidden = vec![1, 1, b'c', 4, 0, 0, 0]
    });
    check("a visible entry hidden", &|g| {
        g.hidden = vec![1, 1, b'c', 1, 1, 3, 0];
    });
    check("an entry visible and hidden", &|g| {
        g.hidden = vec![1, 1, b'a', 1, 1, 3, 0];
    });
    check("a visible value of a hidden entry", &|g| {
        g.hidden = vec![1, 1, b'c', 1, 1, 2];
    });
    check("values of no life", &|g| g.lives = vec![0]);
    check("a life without values", &|g| g.values = Vec::new());
    check("more behind the end", &|g| g.hidden.push(0));
    check("the plain form as the general one", &|g| {
        g.version = [&[1][..], &[b'A'; 16], &[7]].concat();
        g.time = 10 << 16;
        g.stamps = vec![1, 0, 0, 1];
        g.listed = vec![0];
    });
}

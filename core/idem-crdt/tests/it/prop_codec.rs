//! The binary form: canonical, total on hostile bytes, and readable in part.

use idem_crdt::{Delta, Document, encoded_version, visible_fields};

use crate::history::{Random, run};

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

/// Flips, cuts, repeats and splices `bytes`.
fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
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
            let _ = visible_fields(&bytes);
            let _ = encoded_version(&bytes);
            match Document::decode(&bytes) {
                Err(_) => refused += 1,
                Ok(decoded) => {
                    accepted += 1;
                    assert_eq!(decoded.to_bytes(), bytes, "seed {seed}");
                    assert_eq!(visible_fields(&bytes).unwrap(), decoded.fields());
                    assert_eq!(encoded_version(&bytes).unwrap(), *decoded.version());
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

//! The laws of the lattice, on the canonical bytes of states that peers really held.

use idem_crdt::{Delta, Document};
use idem_model::VersionVector;

use crate::history::{Random, run};

const HISTORIES: u64 = 400;
const DRAWS: usize = 30;

fn merged(a: &Document, b: &Document) -> Document {
    let mut result = a.clone();
    let changed = result.merge(b);
    assert_eq!(changed, result != *a, "merge says whether it changed");
    result
}

/// Runs `check` on states of random histories, three at a time.
fn for_states(check: impl Fn(&Document, &Document, &Document, u64)) {
    for seed in 0..HISTORIES {
        let (_, states) = run(seed);
        let mut random = Random::new(!seed);
        for _ in 0..DRAWS {
            let (a, b, c) = (
                random.pick(&states),
                random.pick(&states),
                random.pick(&states),
            );
            check(a, b, c, seed);
        }
    }
}

#[test]
fn merging_is_commutative_associative_and_idempotent() {
    for_states(|a, b, c, seed| {
        let ab = merged(a, b);
        assert_eq!(
            ab.to_bytes(),
            merged(b, a).to_bytes(),
            "commutes, seed {seed}"
        );
        assert_eq!(ab, merged(b, a), "commutes, seed {seed}");
        assert_eq!(
            merged(&ab, c).to_bytes(),
            merged(a, &merged(b, c)).to_bytes(),
            "associates, seed {seed}"
        );
        assert_eq!(merged(&ab, b), ab, "is idempotent, seed {seed}");
        assert_eq!(merged(a, a), *a, "is idempotent, seed {seed}");
    });
}

#[test]
fn a_delta_does_what_the_whole_state_does() {
    for_states(|a, b, c, seed| {
        // A receiver that has reached at least the version that the delta builds on.
        for (receiver, since) in [(b, b.version()), (&merged(b, c), c.version())] {
            let delta = a.delta(since);
            let mut result = receiver.clone();
            let changed = result.merge_delta(&delta).unwrap();
            assert_eq!(
                result,
                merged(receiver, a),
                "seed {seed}\n{receiver:#?}\n{a:#?}\n{delta:#?}"
            );
            assert_eq!(changed, result != *receiver);
            assert_eq!(Delta::decode(&delta.to_bytes()).unwrap(), delta);
            assert_eq!(delta.version(), a.version());
        }
        let whole = a.delta(&VersionVector::new());
        let mut result = b.clone();
        result.merge_delta(&whole).unwrap();
        assert_eq!(result, merged(b, a), "seed {seed}");
    });
}

#[test]
fn a_delta_is_refused_where_something_is_missing() {
    let mut refused = 0;
    for_states(|a, b, c, _| {
        let delta = a.delta(b.version());
        let mut result = c.clone();
        let covered = c.version().covers_all(delta.since());
        assert_eq!(result.merge_delta(&delta).is_ok(), covered);
        if !covered {
            assert_eq!(result, *c);
        }
    });
    for seed in 0..20 {
        let (_, states) = run(seed);
        let last = states.last().unwrap();
        refused += usize::from(
            Document::new()
                .merge_delta(&last.delta(last.version()))
                .is_err(),
        );
    }
    assert!(refused > 10);
}

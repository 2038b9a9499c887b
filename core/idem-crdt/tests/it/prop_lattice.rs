//! The laws of the lattice, on the canonical bytes of states that peers really held.

use idem_crdt::{Delta, Document};
use idem_model::{DocumentOp, FieldKind, FieldOp, FieldPath, Object, Value, VersionVector};

use crate::history::{
    PATHS, Peer, Random, increment, path, random_transaction, restart, run, unset,
};

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

#[test]
fn a_version_names_a_state() {
    // Merging relies on it: what a version covers is skipped, what covers it replaces it.
    for seed in 0..HISTORIES {
        let (_, states) = run(seed);
        for a in &states {
            for b in &states {
                assert_eq!(
                    a.version() == b.version(),
                    a == b,
                    "seed {seed}\n{a:#?}\n{b:#?}"
                );
            }
        }
    }
}

#[test]
fn a_document_shows_what_was_written_last() {
    for seed in 0..2 * HISTORIES {
        let (peers, _) = run(seed);
        let mut random = Random::new(seed ^ 0x51);
        let mut peer = random.pick(&peers).clone();
        if !peer.document.is_present() {
            continue;
        }
        let ops = random_transaction(&mut random);
        for end in 1..=ops.len() {
            // All the transaction so far under one stamp, on the state before it.
            let mut peer = peer.clone();
            peer.commit_all(&ops[..end], 0);
            check_last(&ops[end - 1], &peer, seed);
            let bytes = peer.document.to_bytes();
            assert_eq!(
                Document::decode(&bytes).unwrap(),
                peer.document,
                "seed {seed}"
            );
        }
        // Afterwards the peers still agree, whole or by delta.
        let before = peer.document.clone();
        peer.commit_all(&ops, 0);
        for other in &peers {
            let whole = merged(&other.document, &peer.document);
            assert_eq!(
                whole,
                merged(&peer.document, &other.document),
                "seed {seed}"
            );
            let mut by_delta = merged(&other.document, &before);
            by_delta
                .merge_delta(&peer.document.delta(before.version()))
                .unwrap();
            assert_eq!(by_delta, whole, "seed {seed}, {ops:#?}");
        }
    }
}

fn check_last(op: &DocumentOp, peer: &Peer, seed: u64) {
    let fields = peer.document.fields();
    match op {
        DocumentOp::Delete => assert_eq!(fields, None, "seed {seed}"),
        DocumentOp::Insert { .. } => assert!(fields.is_some()),
        DocumentOp::Update(ops) if peer.document.is_present() => {
            let fields = fields.unwrap();
            match &ops[0] {
                FieldOp::Set { path, value, kind } => {
                    check_shown(path, value, *kind, &fields, seed)
                }
                FieldOp::Unset { path } => {
                    assert_eq!(path.find(&fields), None, "seed {seed}: {path}");
                    assert!(peer.document.conflicts(path).is_empty());
                }
                FieldOp::Increment { path, .. } | FieldOp::Restart { path, .. } => {
                    assert!(
                        matches!(path.find(&fields), Some(Value::Int(_))),
                        "seed {seed}: {path}"
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        _ => {}
    }
}

fn check_shown(
    path: &FieldPath,
    value: &Value,
    kind: Option<FieldKind>,
    fields: &Object,
    seed: u64,
) {
    let shown = path.find(fields);
    match (value, kind) {
        (Value::Object(entries), None) if entries.is_empty() => {
            assert!(
                matches!(shown, Some(Value::Object(_))),
                "seed {seed}: {path}"
            );
        }
        (Value::Object(entries), None) => {
            for (name, value) in entries {
                check_shown(&path.child(name).unwrap(), value, None, fields, seed);
            }
        }
        _ => assert_eq!(shown, Some(value), "seed {seed}: {path}"),
    }
}

#[test]
fn a_counter_is_one_over_all_lives() {
    for seed in 0..2 * HISTORIES {
        for peer in run(seed).0 {
            for at in ["c", "m.c"] {
                check_counter(&peer, at, seed);
            }
        }
    }
}

/// What one peer does to a counter is what it then shows.
fn check_counter(peer: &Peer, at: &str, seed: u64) {
    let shown = |peer: &Peer| path(at).find(&peer.document.fields()?).cloned();
    let mut peer = peer.clone();
    if !peer.document.is_present() {
        return;
    }
    let context = |peer: &Peer| format!("seed {seed}, {at}: {:#?}", peer.document);
    for start in [None, Some(40), None] {
        if let Some(start) = start {
            peer.commit(&restart(at, start), 0);
            assert_eq!(shown(&peer), Some(start.into()), "{}", context(&peer));
        }
        peer.commit(&increment(at, 0), 0);
        let Some(Value::Int(before)) = shown(&peer) else {
            panic!("{}", context(&peer));
        };
        peer.commit(&increment(at, 3), 0);
        assert_eq!(
            shown(&peer),
            Some((before + 3).into()),
            "{}",
            context(&peer)
        );
        peer.commit(&unset(at), 0);
        assert_eq!(shown(&peer), None, "{}", context(&peer));
        peer.commit(&increment(at, 5), 0);
        assert_eq!(shown(&peer), Some(5.into()), "{}", context(&peer));
    }
}

#[test]
fn the_first_conflict_is_the_visible_value() {
    for seed in 0..HISTORIES {
        for state in run(seed).1 {
            let fields = state.fields().unwrap_or_default();
            for at in PATHS {
                let conflicts = state.conflicts(&path(at));
                if let Some(shown) = path(at).find(&fields) {
                    assert_eq!(conflicts.first(), Some(shown), "seed {seed}: {at}");
                }
            }
        }
    }
}

#[test]
fn all_peers_agree_once_all_have_met() {
    for seed in 0..HISTORIES {
        let (mut peers, _) = run(seed);
        let everything = peers
            .iter()
            .fold(Document::new(), |all, peer| merged(&all, &peer.document));
        // Any order, by deltas from one to the next, twice round.
        let mut random = Random::new(seed);
        for round in 0.. {
            if peers.iter().all(|peer| peer.document == everything) {
                break;
            }
            assert!(round < 1_000, "seed {seed}: the peers do not come to agree");
            let (from, to) = (random.below(peers.len()), random.below(peers.len()));
            let delta = peers[from].document.delta(peers[to].document.version());
            peers[to].document.merge_delta(&delta).unwrap();
        }
    }
}

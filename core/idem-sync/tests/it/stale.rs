//! Nobody keeps an outdated copy without hearing of it.

use idem_model::{ActorId, DocumentKey};
use idem_sync::{Incoming, IncomingState, MemoryReplica, Replica};
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, set};

/// A third peer, whose work reaches the two of a pair some other way.
fn author() -> MemoryReplica {
    MemoryReplica::new(ActorId([3; 16]), 1_000_000)
}

fn paint(author: &mut MemoryReplica, key: &DocumentKey, color: &str) {
    let operation = match author.state(key) {
        None => insert(&[("color", color.into())]),
        Some(_) => set("color", color),
    };
    let committed = author.commit(&[(key.clone(), operation)]);
    committed.expect("a valid transaction");
    author.make_durable();
}

/// Brings the author's document, as it was at some time, to a peer of the pair.
fn bring(state: Vec<u8>, key: &DocumentKey, pair: &mut Pair, index: usize) {
    let incoming = Incoming {
        key: key.clone(),
        group: 0,
        state: IncomingState::Whole(state),
    };
    let peer = &mut pair.peers[index];
    let report = peer.replica.apply(vec![incoming], &[]);
    let report = report.expect("memory does not fail");
    assert!(report.is_applied());
    peer.replica.make_durable();
    peer.session.handle_commit(pair.now, &mut peer.replica);
}

/// Peer 0 wants everything, peer 1 what is red.
fn everything_and_red() -> Pair {
    let mut pair = Pair::apart();
    pair.peers[0].subscribe("SELECT * FROM things");
    pair.peers[1].subscribe("SELECT * FROM things WHERE color = 'red'");
    pair.link();
    pair.settle();
    pair
}

/// What peer 1 takes for red, peer 0 holds alike. What is not red there it did not ask for.
fn assert_nothing_stale(pair: &Pair) {
    let [all, red] = &pair.peers;
    for (key, state) in red.documents() {
        let fields = idem_crdt::visible_fields(&state).expect("a document");
        let fields = fields.expect("nothing is deleted");
        if fields.get("color") != Some(&"red".into()) {
            continue;
        }
        let there = all.replica.state(&key);
        assert_eq!(there, Some(state), "{key} is outdated");
    }
}

/// Peer 0 holds a document that is blue by now, and peer 1 has just got it as it was when red.
fn one_outdated() -> Pair {
    let mut pair = everything_and_red();
    let mut author = author();
    paint(&mut author, &key("a"), "red");
    let red = author.state(&key("a")).expect("painted before");
    paint(&mut author, &key("a"), "blue");
    bring(
        author.state(&key("a")).expect("painted before"),
        &key("a"),
        &mut pair,
        0,
    );
    pair.settle();
    bring(red, &key("a"), &mut pair, 1);
    pair
}

#[test]
fn an_outdated_copy_that_came_another_way_is_brought_up_to_date() {
    let mut pair = one_outdated();
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "color"), Some("blue".into()));
    assert_nothing_stale(&pair);
}

#[test]
fn it_is_also_when_the_link_dies_before_that_is_said() {
    let mut pair = one_outdated();
    pair.step();
    let link = pair.links[0];
    pair.cut(link);
    pair.link();
    pair.settle();
    assert_nothing_stale(&pair);
}

#[test]
fn nothing_is_sent_twice() {
    let mut pair = everything_and_red();
    let mut author = author();
    for number in 0..10 {
        paint(&mut author, &key("a"), ["green", "blue"][number % 2]);
        let state = author.state(&key("a")).expect("painted before");
        bring(state.clone(), &key("a"), &mut pair, 0);
        pair.settle();
        bring(state, &key("a"), &mut pair, 1);
        pair.settle();
    }
    // That peer 1 holds the document is known since it sent the first.
    assert_eq!(pair.peers[0].session.stats().documents_sent, 9);
    assert_nothing_stale(&pair);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever comes to either peer another way, in whatever order and over whatever links.
    #[test]
    fn nothing_stays_outdated(steps in prop::collection::vec((0_u8..9, 0_u8..3, 0..2_usize), 1..60)) {
        let mut pair = everything_and_red();
        let mut author = author();
        let mut past: Vec<(DocumentKey, Vec<u8>)> = Vec::new();
        for (step, which, index) in steps {
            let key = key(&format!("d{which}"));
            match step {
                0..=2 => {
                    paint(&mut author, &key, ["red", "blue", "green"][usize::from(step)]);
                    past.push((key.clone(), author.state(&key).expect("painted before")));
                }
                3..=5 if !past.is_empty() => {
                    let back = past.len().min(1 + usize::from(which) * 2);
                    let (key, state) = past[past.len() - back].clone();
                    bring(state, &key, &mut pair, index);
                }
                6 => {
                    pair.step();
                }
                7 if which == 0 => {
                    for link in pair.links.clone() {
                        pair.cut(link);
                    }
                    pair.link();
                }
                8 => {
                    let color = ["red", "blue", "green"][usize::from(which)];
                    let operation = match pair.peers[index].replica.state(&key) {
                        None => insert(&[("color", color.into())]),
                        Some(_) => set("color", color),
                    };
                    pair.peers[index].commit(&[(key, operation)]);
                }
                _ => {
                    pair.settle();
                }
            }
        }
        pair.settle();
        pair.assert_calm();
        assert_nothing_stale(&pair);
    }
}

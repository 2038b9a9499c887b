//! Peers that hold much of the same and have no cursor of each other.

use idem_model::{ActorId, DocumentKey, DocumentOp, FieldOp, FieldPath};
use idem_sync::{MemoryReplica, Priority, Replica, SessionStats};
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, selector, set};

/// Two peers that hold the same documents, got from elsewhere, and have never met.
pub(crate) fn strangers(documents: usize) -> Pair {
    let mut pair = Pair::apart();
    pair.peers[0].insert_many("d", documents, 300);
    let [a, b] = &mut pair.peers;
    b.replica = copy(&a.replica, ActorId([2; 16]));
    for peer in &mut pair.peers {
        peer.subscribe("SELECT * FROM things");
    }
    pair
}

/// What `replica` holds, in a store of its own.
fn copy(replica: &MemoryReplica, actor: ActorId) -> MemoryReplica {
    let mut copy = MemoryReplica::new(actor, 1_000_000);
    for (key, document) in replica.documents() {
        let incoming = idem_sync::Incoming {
            key: key.clone(),
            group: 0,
            state: idem_sync::IncomingState::Whole(document.to_bytes()),
        };
        let Ok(report) = copy.apply(vec![incoming], &[]);
        assert!(report.is_applied(), "they are documents");
    }
    copy.make_durable();
    copy
}

pub(crate) fn stats(pair: &Pair) -> [SessionStats; 2] {
    [0, 1].map(|index| pair.peers[index].session.stats())
}

/// Both come to hold the same, and go on from there after a reconnect.
fn settle(pair: &mut Pair) {
    let link = pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    let before = stats(pair);
    pair.cut(link);
    for (index, peer) in pair.peers.iter_mut().enumerate() {
        peer.insert_many(&format!("later{index}"), 1, 100);
    }
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    for (before, after) in before.into_iter().zip(stats(pair)) {
        assert_eq!(after.documents_sent, before.documents_sent + 1);
    }
}

#[test]
fn equal_peers_send_no_document() {
    for documents in [0, 1, 64, 65, 2000] {
        let mut pair = strangers(documents);
        settle(&mut pair);
        let [a, b] = stats(&pair);
        assert_eq!((a.documents_sent, b.documents_sent), (1, 1));
        let bytes = a.bytes_sent + b.bytes_sent;
        assert!(bytes < 4000, "{documents} documents took {bytes} bytes");
    }
}

#[test]
fn only_what_differs_is_sent_however_much_that_is() {
    // Few are listed at once, some are found by sketch, and many by list.
    for (documents, changed) in [(20, 3), (2000, 10), (2000, 300), (6000, 4000)] {
        let mut pair = strangers(documents);
        for number in 0..changed {
            pair.peers[number % 2].commit(&[(key(&format!("d{number}")), set("n", 1))]);
        }
        pair.peers[0].insert_many("a", 5, 300);
        pair.peers[1].insert_many("b", 5, 300);
        settle(&mut pair);
        let [a, b] = stats(&pair);
        let sent = a.documents_sent + b.documents_sent - 2;
        assert_eq!(sent, changed as u64 + 10, "of {documents} documents");
    }
}

#[test]
fn a_peer_that_holds_little_of_much_lists_it() {
    let mut pair = strangers(100);
    pair.peers[0].insert_many("more", 3000, 300);
    settle(&mut pair);
    let [a, b] = stats(&pair);
    assert_eq!((a.documents_sent, b.documents_sent), (3001, 1));
}

#[test]
fn what_was_deleted_or_left_the_scope_is_told() {
    let mut pair = strangers(500);
    let old = pair.peers[1].subscribe("SELECT * FROM things");
    pair.peers[1].session.unsubscribe(old);
    pair.peers[1].session.unsubscribe(old);
    pair.peers[1].subscribe("SELECT * FROM things WHERE gone IS MISSING");
    pair.peers[0].commit(&[(key("d1"), DocumentOp::Delete)]);
    pair.peers[0].commit(&[(key("d2"), set("gone", true))]);
    pair.peers[0].commit(&[(key("never seen"), insert(&[("gone", true.into())]))]);
    pair.link();
    pair.settle();
    pair.assert_calm();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 2);
    assert_eq!(pair.peers[1].field("d1", "text"), None);
    assert_eq!(pair.peers[1].field("d2", "gone"), Some(true.into()));
    assert_eq!(pair.peers[1].field("never seen", "gone"), None);
}

#[test]
fn a_large_document_that_both_hold_travels_as_a_delta() {
    let mut pair = strangers(100);
    pair.peers[0].insert_many("large", 1, 20_000);
    let actor = ActorId([2; 16]);
    pair.peers[1].replica = copy(&pair.peers[0].replica, actor);
    pair.peers[0].commit(&[(key("large0"), set("n", 1))]);
    settle(&mut pair);
    let [a, _] = stats(&pair);
    assert_eq!((a.documents_sent, a.deltas_sent), (2, 1));
    assert!(a.bytes_sent < 3000, "{} bytes", a.bytes_sent);
}

#[test]
fn what_the_other_side_holds_in_an_earlier_version_travels_as_a_delta() {
    let mut pair = strangers(200);
    for number in 0..40 {
        let key = key(&format!("d{number}"));
        pair.peers[0].commit(&[(key.clone(), set("n", 1))]);
        pair.peers[0].commit(&[(key, set("m", 1))]);
    }
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    let [a, b] = stats(&pair);
    assert_eq!((a.documents_sent, a.deltas_sent), (40, 40));
    assert_eq!(b.documents_sent, 0);
    assert!(
        a.document_bytes_sent < 40 * 120,
        "{}",
        a.document_bytes_sent
    );
}

#[test]
fn a_transaction_that_one_side_lacks_arrives_whole() {
    let mut pair = strangers(300);
    let operations: Vec<(DocumentKey, DocumentOp)> = (0..40)
        .map(|n| (key(&format!("d{n}")), set("n", 7)))
        .collect();
    pair.peers[0].commit(&operations);
    pair.link();
    for _ in 0..10_000 {
        pair.collect(1);
        if pair.deliver() == 0 {
            break;
        }
        let seen = (0..40).filter(|n| pair.peers[1].field(&format!("d{n}"), "n").is_some());
        assert!([0, 40].contains(&seen.count()), "never by half");
    }
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

#[test]
fn a_comparison_survives_a_cut_after_any_number_of_frames() {
    for (documents, changed) in [(500, 20), (3000, 2500)] {
        for frames in 1..12 {
            let mut pair = strangers(documents);
            for number in 0..changed {
                pair.peers[0].commit(&[(key(&format!("d{number}")), set("n", 1))]);
            }
            let link = pair.link();
            for _ in 0..frames {
                pair.collect(1);
                pair.deliver();
            }
            pair.cut(link);
            pair.peers[1].commit(&[(key("d3"), set("m", 2))]);
            settle(&mut pair);
        }
    }
}

#[test]
fn changes_during_a_comparison_arrive() {
    for step in 0..8 {
        let mut pair = strangers(400);
        for number in 0..60 {
            pair.peers[0].commit(&[(key(&format!("d{number}")), set("n", 1))]);
        }
        pair.link();
        for now in 0..8 {
            pair.collect(1);
            if now == step {
                for index in 0..2 {
                    pair.peers[index].commit(&[(key("d5"), set("late", index as i64))]);
                    pair.peers[index].commit(&[(key("d300"), set("late", index as i64))]);
                    pair.peers[index].commit(&[(key("d301"), DocumentOp::Delete)]);
                }
            }
            pair.deliver();
        }
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
    }
}

/// Something that a peer does to one of few documents.
fn operation() -> impl Strategy<Value = (usize, usize, u8, i64)> {
    (0..2usize, 0..90usize, 0..6u8, 0..9i64)
}

proptest! {
    #[test]
    fn strangers_with_any_history_converge(
        documents in prop_oneof![0..5usize, 60..70usize, 150..250usize],
        operations in prop::collection::vec(operation(), 0..60),
        is_filtered: [bool; 2],
    ) {
        let mut pair = strangers(documents);
        for (peer, document, what, value) in operations {
            let key = key(&format!("d{document}"));
            let operation = match what {
                0 => DocumentOp::Delete,
                1 => insert(&[("n", value.into())]),
                2 => DocumentOp::Update(vec![FieldOp::Unset { path: FieldPath::field("text") }]),
                _ => set("n", value),
            };
            // An insert fails where the document is, which is part of any history.
            let _ = pair.peers[peer].replica.commit(&[(key, operation)]);
            pair.peers[peer].replica.make_durable();
        }
        for (peer, is_filtered) in pair.peers.iter_mut().zip(is_filtered) {
            if is_filtered {
                let all = peer.session.subscribe(&selector("SELECT * FROM things"), Priority::Normal);
                let all = all.expect("a subscription within the limits");
                peer.session.unsubscribe(all);
                peer.session.unsubscribe(all);
                peer.subscribe("SELECT * FROM things WHERE n < 5 OR n IS MISSING");
            }
        }
        pair.link();
        pair.settle();
        pair.assert_calm();
        if is_filtered == [false, false] {
            pair.assert_same();
        } else {
            check_scopes(&pair, is_filtered)?;
        }
    }
}

/// Whatever a filtered peer holds in its scope is what the other holds in that scope, and the other
/// way round.
fn check_scopes(pair: &Pair, is_filtered: [bool; 2]) -> Result<(), TestCaseError> {
    let selector = selector("SELECT * FROM things WHERE n < 5 OR n IS MISSING");
    let all = [0, 1].map(|index| {
        let documents = pair.peers[index].replica.documents();
        let visible = documents.filter_map(|(key, it)| Some((key.clone(), it.fields()?)));
        visible.collect::<Vec<_>>()
    });
    for (index, _) in is_filtered.iter().enumerate().filter(|(_, is)| **is) {
        let [mine, theirs] = [&all[index], &all[1 - index]].map(|all| {
            let selected = all.iter().filter(|(_, fields)| selector.matches(fields));
            selected.cloned().collect::<Vec<_>>()
        });
        prop_assert_eq!(mine, theirs);
    }
    Ok(())
}

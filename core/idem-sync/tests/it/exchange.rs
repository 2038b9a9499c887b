//! What reaches the other side, and at what cost.

use idem_model::{ActorId, DocumentOp, FieldOp, FieldPath, limits};
use idem_sync::{Event, Incoming, IncomingState, MemoryReplica, Replica};

use crate::pair::{Pair, insert, key, key_in, set};

#[test]
fn a_first_sync_brings_everything_and_says_when() {
    let mut pair = Pair::apart();
    let subscription = pair.peers[1].subscribe("SELECT * FROM things");
    pair.peers[0].insert_many("d", 3000, 300);
    pair.peers[0].commit(&[(key_in("others", "x"), insert(&[]))]);
    pair.link();
    pair.settle();
    pair.assert_calm();
    assert_eq!(pair.peers[1].documents().len(), 3000);
    let caught_up = Event::CaughtUp { subscription };
    assert!(pair.peers[1].events.contains(&caught_up));
    let sent = pair.peers[0].session.stats();
    assert_eq!((sent.documents_sent, sent.deltas_sent), (3000, 0));
    assert_eq!(pair.peers[1].session.stats().documents_changed, 3000);
}

#[test]
fn nothing_is_echoed() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("a", 500, 300);
    pair.peers[1].insert_many("b", 500, 300);
    pair.settle();
    pair.peers[0].insert_many("c", 10, 300);
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 510);
    assert_eq!(pair.peers[1].session.stats().documents_sent, 500);
}

#[test]
fn an_idle_pair_falls_silent() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("a", 100, 300);
    pair.settle();
    assert_eq!(pair.settle(), 0, "no frame without a change");
}

#[test]
fn ten_edits_while_the_link_is_busy_cost_one_delta() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 1, 900);
    pair.settle();
    let before = pair.peers[0].session.stats();
    for number in 0..10 {
        pair.peers[0].commit(&[(key("d0"), set("count", number))]);
    }
    pair.settle();
    pair.assert_same();
    let after = pair.peers[0].session.stats();
    assert_eq!(after.documents_sent - before.documents_sent, 1);
    assert_eq!(after.deltas_sent - before.deltas_sent, 1);
    let bytes = after.bytes_sent - before.bytes_sent;
    assert!(bytes < 200, "{bytes} bytes for one small field");
}

#[test]
fn a_live_document_costs_what_is_its_own() {
    let mut pair = Pair::linked();
    pair.settle();
    let before = pair.peers[0].session.stats();
    let mut raw = 0;
    for number in 0..200_u64 {
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let id = format!("{:016x}", mixed.rotate_left(17));
        let order = [
            ("customer", "Anna Schmidt".into()),
            ("city", "Frankfurt".into()),
            ("status", "shipped".into()),
            ("amount", (mixed % 100_000).cast_signed().into()),
            ("reference", format!("{mixed:016x}").into()),
            ("note", "delivery to the back door, ring twice".into()),
        ];
        pair.peers[0].commit(&[(key(&id), insert(&order))]);
        raw += pair.peers[0].documents()[&key(&id)].len() as u64;
        pair.settle();
    }
    pair.assert_same();
    let after = pair.peers[0].session.stats();
    assert_eq!(after.documents_sent - before.documents_sent, 200);
    // With the id, the position and what frames need besides; the remote's ACKs are not counted.
    let bytes = after.bytes_sent - before.bytes_sent;
    assert!(bytes * 20 < raw * 9, "{bytes} bytes for documents of {raw}");
}

#[test]
fn concurrent_edits_of_both_sides_merge() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 20, 300);
    pair.settle();
    for number in 0..20 {
        let id = format!("d{number}");
        pair.peers[0].commit(&[(key(&id), set("left", number))]);
        pair.peers[1].commit(&[(key(&id), set("right", -number))]);
        if number % 5 == 0 {
            pair.peers[1].commit(&[(key(&id), DocumentOp::Delete)]);
        }
    }
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].field("d1", "right"), Some((-1).into()));
    assert_eq!(pair.peers[1].field("d5", "left"), None);
}

#[test]
fn a_document_above_the_frame_limit_travels_in_pieces() {
    let mut pair = Pair::linked();
    pair.settle();
    let bytes = 5 * limits::FRAME_BYTES_MAX;
    // Text without repetition, so that compression does not hide the size.
    let mut state = 7u64;
    let text: String = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        char::from(b'!' + u8::try_from((state >> 33) % 90).expect("below 90"))
    })
    .take(bytes)
    .collect();
    pair.peers[0].commit(&[(key("big"), insert(&[("text", text.into())]))]);
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

#[test]
fn a_group_larger_than_the_credit_arrives_whole() {
    let mut pair = Pair::linked();
    pair.settle();
    let bytes = limits::LANE_CREDIT_BYTES as usize / 40;
    let operations: Vec<_> = (0..60u64)
        .map(|number| {
            let mut state = number + 1;
            let text: String = std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from((state >> 33) % 90).expect("below 90"))
            })
            .take(bytes)
            .collect();
            (key(&format!("g{number}")), insert(&[("text", text.into())]))
        })
        .collect();
    pair.peers[0].commit(&operations);
    let before = pair.peers[1].replica.last_commit();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(
        pair.peers[1].replica.last_commit(),
        before + 1,
        "in one transaction"
    );
}

#[test]
fn a_large_document_that_is_there_already_is_not_sent_again() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 50, 3000);
    pair.settle();
    // The session of one side forgets what it knew, and the cursors are of no use to a new actor.
    pair.restart(0);
    pair.peers[0].replica.renew_actor(ActorId([7; 16]));
    pair.link();
    pair.settle();
    pair.assert_calm();
    let stats = pair.peers[0].session.stats();
    assert_eq!(stats.documents_sent, 0, "asked first");
    assert!(stats.bytes_sent < 50 * 100);
    pair.peers[0].commit(&[(key("d3"), set("n", 1))]);
    pair.settle();
    assert_eq!(pair.peers[0].session.stats().deltas_sent, 1);
    pair.assert_same();
}

/// A document that a hundred peers have written to, which both sides hold while neither knows so.
#[test]
fn a_document_of_many_actors_is_announced_in_few_bytes() {
    let mut pair = Pair::apart();
    let mut documents = Vec::new();
    for actor in 100..200u8 {
        let mut author = MemoryReplica::new(ActorId([actor; 16]), 1_000);
        let edit = format!("edit{actor}");
        let value = "0123456789".repeat(20);
        let operation = insert(&[(edit.as_str(), value.into())]);
        author.commit(&[(key("d"), operation)]).unwrap();
        let (_, document) = author.documents().next().unwrap();
        documents.push(document.to_bytes());
    }
    for peer in &mut pair.peers {
        for document in &documents {
            let incoming = Incoming {
                key: key("d"),
                group: 0,
                state: IncomingState::Whole(document.clone()),
            };
            let Ok(report) = peer.replica.apply(vec![incoming], &[]);
            assert!(report.is_applied());
        }
        peer.replica.make_durable();
    }
    pair.link();
    pair.settle();
    // Nobody holds anything of the subscription when it starts.
    pair.peers[0].subscribe("SELECT * FROM things WHERE edit100 IS MISSING");
    pair.settle();
    let bytes = |pair: &Pair| {
        let stats = pair.peers.each_ref().map(|it| it.session.stats());
        let sent = stats.map(|it| it.bytes_sent);
        (sent.iter().sum::<u64>(), stats[1].documents_sent)
    };
    let before = bytes(&pair);
    let unset = FieldOp::Unset {
        path: FieldPath::field("edit100"),
    };
    pair.peers[1].commit(&[(key("d"), DocumentOp::Update(vec![unset]))]);
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    let after = bytes(&pair);
    assert_eq!(after.1 - before.1, 1);
    // The version is named once in the answer and once in the delta, not in the announcement.
    let bytes_of_delta = after.0 - before.0;
    assert!(bytes_of_delta < 3500, "{bytes_of_delta} bytes for a delta");

    // The other side gets the next version from elsewhere, and is asked what it holds.
    let link = pair.links[0];
    pair.cut(link);
    pair.peers[1].commit(&[(key("d"), set("n", 1))]);
    let state = pair.peers[1].documents()[&key("d")].clone();
    let incoming = Incoming {
        key: key("d"),
        group: 0,
        state: IncomingState::Whole(state),
    };
    let Ok(report) = pair.peers[0].replica.apply(vec![incoming], &[]);
    assert!(report.is_applied());
    pair.peers[0].replica.make_durable();
    pair.restart(1);
    let before = bytes(&pair);
    pair.link();
    pair.settle();
    let after = bytes(&pair);
    assert_eq!(after.1, 0);
    let bytes = after.0 - before.0;
    assert!(bytes < 700, "{bytes} bytes for a document that is there");
}

#[test]
fn a_transaction_over_two_collections_is_applied_at_once() {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe("SELECT * FROM things");
    pair.peers[1].subscribe("SELECT * FROM others");
    pair.link();
    pair.settle();
    let commit = pair.peers[1].replica.last_commit();
    pair.peers[0].commit(&[
        (key("a"), insert(&[("n", 1.into())])),
        (key_in("others", "b"), insert(&[("n", 1.into())])),
    ]);
    pair.settle();
    pair.assert_same();
    assert_eq!(pair.peers[1].replica.last_commit(), commit + 1);
}

#[test]
fn a_small_change_overtakes_a_first_sync() {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe("SELECT * FROM things");
    pair.peers[0].insert_many("d", 20_000, 800);
    pair.link();
    for _ in 0..6 {
        pair.collect(4);
        pair.deliver();
    }
    let held = pair.peers[1].documents().len();
    assert!(held > 0 && held < 20_000, "{held} in the middle of it");
    pair.peers[0].commit(&[(key("urgent"), insert(&[]))]);
    pair.collect(2);
    pair.deliver();
    assert!(pair.peers[1].documents().contains_key(&key("urgent")));
    assert!(pair.peers[1].documents().len() < 20_000);
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_change_waits_until_it_is_durable() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0].is_durable = false;
    pair.peers[0].commit(&[(key("a"), insert(&[]))]);
    pair.settle();
    assert!(pair.peers[1].documents().is_empty());
    pair.peers[0].replica.make_durable();
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_subscription_that_ends_brings_nothing_more() {
    let mut pair = Pair::apart();
    let subscription = pair.peers[1].subscribe("SELECT * FROM things");
    pair.link();
    pair.peers[0].insert_many("a", 3, 10);
    pair.settle();
    pair.peers[1].session.unsubscribe(subscription);
    pair.settle();
    pair.peers[0].insert_many("b", 3, 10);
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 3);
    pair.peers[1].subscribe("SELECT * FROM things");
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 6);
}

//! One comparison that serves both of two peers which want the same of each other.

use std::{collections::BTreeMap, time::Duration};

use idem_model::{DocumentKey, DocumentOp, FieldOp, FieldPath, VersionVector};
use idem_sync::{Event, Lane, Replica};
use idem_wire::{Holdings, Message};
use proptest::prelude::*;

use crate::{
    compare::{stats, strangers},
    pair::{Pair, insert, key, key_in, selector, set},
};

const EVERYTHING: &str = "SELECT * FROM things";

/// Something that a peer does to one of few documents.
#[derive(Clone, Debug)]
struct Edit {
    peer: usize,
    document: usize,
    what: u8,
    value: i64,
}

fn edit(documents: usize) -> impl Strategy<Value = Edit> {
    (0..2usize, 0..documents, 0..8u8, 0..9i64).prop_map(|(peer, document, what, value)| Edit {
        peer,
        document,
        what,
        value,
    })
}

/// Does it in a transaction of its own, as far as it can be done.
fn run(pair: &mut Pair, edit: &Edit) {
    let operation = match edit.what {
        0 => DocumentOp::Delete,
        1 => insert(&[("n", edit.value.into())]),
        2 => DocumentOp::Update(vec![FieldOp::Unset {
            path: FieldPath::field("text"),
        }]),
        3 => set("m", edit.value),
        _ => set("n", edit.value),
    };
    let replica = &mut pair.peers[edit.peer].replica;
    // An insert fails where the document is, which is part of any history.
    let _ = replica.commit(&[(key(&format!("d{}", edit.document)), operation)]);
    replica.make_durable();
}

fn versions(pair: &Pair, index: usize) -> BTreeMap<DocumentKey, VersionVector> {
    let documents = pair.peers[index].replica.documents();
    documents
        .map(|(key, it)| (key.clone(), it.version().clone()))
        .collect()
}

/// How many documents each side has that tell the other one something.
fn needed(pair: &Pair) -> [u64; 2] {
    let held = [versions(pair, 0), versions(pair, 1)];
    [0, 1].map(|index| {
        let nothing = VersionVector::new();
        let is_news = |(key, version): &(&DocumentKey, &VersionVector)| {
            let theirs = held[1 - index].get(*key).unwrap_or(&nothing);
            !theirs.covers_all(version)
        };
        held[index].iter().filter(is_news).count() as u64
    })
}

/// The SUBSCRIBEs on the wire that ask for what was compared.
fn mirrored(pair: &Pair) -> usize {
    let frames = pair.wires.values().flatten();
    let is_mirrored = |frame: &&Vec<u8>| {
        matches!(Message::decode(frame), Ok(Message::Subscribe(subscribe))
            if matches!(subscribe.holdings, Holdings::Mirrored { .. }))
    };
    frames.filter(is_mirrored).count()
}

/// Both have caught up, hold the same, and need nothing after a reconnect.
fn check_end(pair: &mut Pair) {
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    for link in pair.links.clone() {
        pair.cut(link);
    }
    let before = stats(pair).map(|it| it.documents_sent);
    pair.link();
    pair.settle();
    pair.assert_calm();
    assert_eq!(before, stats(pair).map(|it| it.documents_sent));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_side_sends_what_tells_the_other_one_something_and_no_more(
        documents in prop_oneof![0..5usize, 40..70usize, 150..250usize],
        edits in prop::collection::vec(edit(120), 0..150),
    ) {
        let mut pair = strangers(documents);
        edits.iter().for_each(|edit| run(&mut pair, edit));
        let needed = needed(&pair);
        pair.link();
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
        prop_assert_eq!(stats(&pair).map(|it| it.documents_sent), needed);
        check_end(&mut pair);
    }

    #[test]
    fn whatever_happens_meanwhile_both_come_to_hold_the_same(
        documents in prop_oneof![0..5usize, 60..70usize, 150..250usize],
        edits in prop::collection::vec(edit(100), 0..80),
        faults in prop::collection::vec((0..9usize, 0..8u8, edit(100)), 0..6),
    ) {
        let mut pair = strangers(documents);
        edits.iter().for_each(|edit| run(&mut pair, edit));
        let mut link = pair.link();
        for (frames, fault, edit) in faults {
            for _ in 0..frames {
                pair.collect(1);
                pair.deliver();
            }
            match fault {
                0 => {
                    pair.cut(link);
                    link = pair.link();
                }
                1 | 2 => {
                    pair.restart(usize::from(fault) - 1);
                    link = pair.link();
                }
                3 | 4 => {
                    let peer = &mut pair.peers[usize::from(fault) - 3];
                    let subscription = peer.subscribe(EVERYTHING);
                    // As often as it was asked for, here and by the strangers.
                    peer.session.unsubscribe(subscription);
                    peer.session.unsubscribe(subscription);
                    pair.collect(1);
                    pair.peers[usize::from(fault) - 3].subscribe(EVERYTHING);
                }
                _ => run(&mut pair, &edit),
            }
            run(&mut pair, &edit);
        }
        check_end(&mut pair);
    }
}

#[test]
fn one_sketch_is_sent_where_both_want_the_same() {
    let mut pair = strangers(500);
    for number in 0..10 {
        pair.peers[number % 2].commit(&[(key(&format!("d{number}")), set("n", 1))]);
    }
    pair.link();
    let is_sketch = |frame: &&Vec<u8>| {
        matches!(Message::decode(frame), Ok(Message::Subscribe(subscribe))
            if matches!(subscribe.holdings, Holdings::Sketch { .. }))
    };
    let (mut sketches, mut asked) = (0, 0);
    loop {
        pair.collect(usize::MAX);
        asked += mirrored(&pair);
        sketches += pair.wires.values().flatten().filter(is_sketch).count();
        if pair.deliver() == 0 {
            break;
        }
    }
    assert_eq!((sketches, asked), (1, 1));
    check_end(&mut pair);
    let [a, b] = stats(&pair);
    assert_eq!((a.documents_sent, b.documents_sent), (5, 5));
}

#[test]
fn a_transaction_arrives_whole_though_part_of_it_is_in_question() {
    for writer in 0..2 {
        let mut pair = strangers(300);
        let operations: Vec<(DocumentKey, DocumentOp)> = (0..40)
            .map(|n| (key(&format!("d{n}")), set("n", 7)))
            .collect();
        pair.peers[1 - writer].commit(&[(key("d5"), set("m", 1))]);
        pair.peers[writer].commit(&operations);
        pair.link();
        for _ in 0..10_000 {
            pair.collect(1);
            if pair.deliver() == 0 {
                break;
            }
            let reader = &pair.peers[1 - writer];
            let seen = (0..40).filter(|n| reader.field(&format!("d{n}"), "n").is_some());
            assert!([0, 40].contains(&seen.count()), "never by half");
        }
        check_end(&mut pair);
    }
}

#[test]
fn peers_that_ask_at_the_same_time_compare_twice() {
    let mut pair = strangers(300);
    for peer in &mut pair.peers {
        let subscription = peer.subscribe(EVERYTHING);
        peer.session.unsubscribe(subscription);
        peer.session.unsubscribe(subscription);
    }
    pair.link();
    pair.settle();
    for number in 0..10 {
        pair.peers[number % 2].commit(&[(key(&format!("d{number}")), set("n", 1))]);
    }
    for peer in &mut pair.peers {
        peer.subscribe(EVERYTHING);
    }
    pair.collect(usize::MAX);
    assert_eq!(mirrored(&pair), 0);
    check_end(&mut pair);
}

#[test]
fn who_asks_later_needs_no_comparison_of_its_own_if_the_other_one_is_still_at_it() {
    let mut pair = strangers(800);
    for number in 0..300 {
        pair.peers[number % 2].commit(&[(key(&format!("d{number}")), set("n", 1))]);
    }
    let leader = &mut pair.peers[0];
    let subscription = leader.subscribe(EVERYTHING);
    leader.session.unsubscribe(subscription);
    leader.session.unsubscribe(subscription);
    pair.link();
    for _ in 0..3 {
        pair.step();
    }
    pair.peers[0].subscribe(EVERYTHING);
    let mut asked = 0;
    while pair.step() > 0 {
        pair.collect(usize::MAX);
        asked += mirrored(&pair);
    }
    assert_eq!(asked, 1);
    check_end(&mut pair);
    assert_eq!(stats(&pair).map(|it| it.documents_sent), [150, 150]);
}

#[test]
fn an_empty_peer_has_nothing_compared() {
    for index in 0..2 {
        let mut pair = Pair::apart();
        for peer in &mut pair.peers {
            peer.subscribe(EVERYTHING);
        }
        pair.peers[index].insert_many("d", 300, 100);
        pair.link();
        let is_sketch = |frame: &&Vec<u8>| {
            matches!(Message::decode(frame), Ok(Message::Subscribe(subscribe))
                if matches!(subscribe.holdings, Holdings::Sketch { .. }))
        };
        let mut sketches = 0;
        for _ in 0..20 {
            pair.collect(usize::MAX);
            sketches += pair.wires.values().flatten().filter(is_sketch).count();
            pair.deliver();
        }
        // Only who greets second cannot know yet that the other one holds nothing.
        assert_eq!(sketches, index);
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
        let is_list = |it: &idem_sync::SessionStats| it.bytes_sent > 2_000;
        assert_eq!(stats(&pair).iter().filter(|it| is_list(it)).count(), 1);
        check_end(&mut pair);
    }
}

#[test]
fn collections_that_only_one_side_wants_are_compared_as_ever() {
    let mut pair = strangers(200);
    for index in 0..2 {
        let collection = ["mine", "yours"][index];
        pair.peers[index].subscribe(&format!("SELECT * FROM {collection}"));
        for number in 0..30 {
            let key = key_in(collection, &format!("d{number}"));
            pair.peers[1 - index].commit(&[(key, insert(&[("n", number.into())]))]);
        }
        pair.peers[index].commit(&[(key(&format!("d{index}")), set("n", 1))]);
    }
    pair.link();
    check_end(&mut pair);
    assert_eq!(stats(&pair).map(|it| it.documents_sent), [31, 31]);
}

#[test]
fn what_both_changed_needs_one_round_more_and_is_not_left_behind_by_a_cut() {
    for frames in 0..14 {
        let mut pair = strangers(200);
        for number in 0..8 {
            for peer in &mut pair.peers {
                let name = format!("f{}", peer.id.0[0]);
                peer.commit(&[(key(&format!("d{number}")), set(&name, 1))]);
            }
        }
        let link = pair.link();
        for _ in 0..frames {
            pair.collect(1);
            pair.deliver();
        }
        // A cursor that was stored too early would leave some of it behind.
        pair.cut(link);
        pair.link();
        check_end(&mut pair);
    }
}

#[test]
fn a_leader_does_not_wait_for_ever_for_subscriptions_that_were_announced() {
    let mut pair = strangers(100);
    pair.peers[1].insert_many("more", 3, 100);
    pair.link();
    // The follower introduces itself and says no more.
    for _ in 0..2 {
        pair.collect(1);
        pair.deliver();
    }
    let leader = &mut pair.peers[0];
    assert!(leader.session.is_established());
    let polled = leader.session.poll_transmit(pair.now, &leader.replica);
    assert_eq!(polled, None, "it waits");
    let timeout = leader.session.poll_timeout().expect("not for ever");
    assert!(timeout <= pair.now + Duration::from_secs(10));
    leader.session.handle_timeout(timeout, &mut leader.replica);
    let transmit = leader.session.poll_transmit(timeout, &leader.replica);
    let transmit = transmit.expect("it asks by itself");
    assert_eq!(transmit.lane, Lane::Control);
    assert!(matches!(
        Message::decode(&transmit.frame),
        Ok(Message::Subscribe(_))
    ));
}

#[test]
fn what_the_other_side_never_sends_is_not_taken_for_held() {
    let mut pair = strangers(200);
    for peer in &mut pair.peers {
        let name = format!("f{}", peer.id.0[0]);
        peer.commit(&[(key("d1"), set(&name, 1))]);
    }
    let link = pair.link();
    // What the follower says that it lacks does not reach the leader, which said that this was all.
    for _ in 0..40 {
        pair.collect(usize::MAX);
        for ((_, to, _), frames) in &mut pair.wires {
            let is_lacks =
                |frame: &Vec<u8>| matches!(Message::decode(frame), Ok(Message::Lacks(_)));
            frames.retain(|frame| *to != 0 || !is_lacks(frame));
        }
        pair.deliver();
    }
    let follower = &pair.peers[1];
    let is_caught_up = |event: &Event| matches!(event, Event::CaughtUp { .. });
    assert!(!follower.events.iter().any(is_caught_up));
    let subscription = idem_sync::subscription_id_of(&selector(EVERYTHING));
    let Ok(cursor) = follower.replica.cursor(pair.peers[0].id, subscription);
    assert_eq!(cursor, None);
    pair.cut(link);
    pair.link();
    check_end(&mut pair);
}

#[test]
fn what_one_side_evicted_is_not_sent_again_to_it_nor_missed_by_it() {
    for index in 0..2 {
        let mut pair = strangers(200);
        let peer = &mut pair.peers[index];
        peer.replica.set_subscriptions([selector(EVERYTHING)]);
        let keys: Vec<DocumentKey> = (0..100).map(|n| key(&format!("d{n}"))).collect();
        peer.replica.evict_documents(&keys);
        peer.replica.make_durable();
        // What changed where it is still held does arrive.
        pair.peers[1 - index].commit(&[(key("d7"), set("n", 1))]);
        pair.link();
        pair.settle();
        pair.assert_calm();
        let mut sent = [0, 0];
        sent[1 - index] = 1;
        assert_eq!(stats(&pair).map(|it| it.documents_sent), sent);
        assert_eq!(pair.peers[index].field("d7", "n"), Some(1.into()));
        assert_eq!(pair.peers[index].documents().len(), 101);
        assert_eq!(pair.peers[1 - index].documents().len(), 200);
    }
}

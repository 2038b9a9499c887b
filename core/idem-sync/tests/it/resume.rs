//! Links that die, processes that die, and what goes on after that.

use idem_model::{ActorId, limits};
use idem_sync::Event;

use crate::pair::{Pair, insert, key, set};

#[test]
fn a_reconnect_sends_only_what_is_missing() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 1000, 300);
    pair.settle();
    pair.restart(0);
    pair.peers[0].insert_many("e", 5, 300);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 5);
    assert_eq!(pair.peers[1].session.stats().documents_sent, 0);
}

#[test]
fn a_first_sync_survives_a_cut_after_any_number_of_frames() {
    for frames in 1..25 {
        let mut pair = Pair::linked();
        pair.peers[0].insert_many("d", 500, 3000);
        pair.peers[1].insert_many("e", 10, 3000);
        for _ in 0..frames {
            pair.collect(1);
            pair.deliver();
        }
        pair.peers[0].commit(&[(key("d1"), set("n", 1))]);
        let link = pair.links[0];
        pair.collect(1);
        pair.cut(link);
        pair.peers[1].commit(&[(key("e1"), set("n", 2))]);
        pair.link();
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
        let sent = pair.peers[0].session.stats().documents_sent;
        assert!(
            sent < 1500 + 1500 / 3,
            "{sent} sent after a cut at frame {frames}"
        );
    }
}

#[test]
fn a_second_link_takes_over() {
    let mut pair = Pair::linked();
    let second = pair.link();
    pair.peers[0].insert_many("d", 3000, 300);
    pair.collect(3);
    pair.deliver();
    pair.collect(3);
    assert_ne!(pair.peers[0].session.active_link(), Some(second));
    let first = pair.links[0];
    // One side notices before the other.
    pair.wires.clear();
    pair.peers[1].session.handle_link_down(pair.now, first);
    pair.step();
    pair.cut(first);
    pair.settle();
    pair.assert_same();
    for peer in &pair.peers {
        assert_eq!(peer.session.active_link(), Some(second));
    }
}

#[test]
fn a_receiver_that_loses_its_last_commits_gets_them_again() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[1].is_durable = false;
    pair.peers[0].insert_many("d", 100, 300);
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 100);
    pair.restart(1);
    assert_eq!(pair.peers[1].documents().len(), 0);
    pair.peers[1].is_durable = true;
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[1].is_durable = false;
    pair.peers[0].insert_many("d", 10, 300);
    pair.settle();
    // The sender forgets what was not acknowledged, and so sends it again on the next link.
    let link = pair.links[0];
    pair.cut(link);
    pair.peers[1].replica.crash();
    pair.peers[1].is_durable = true;
    pair.link();
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_store_that_takes_a_new_actor_starts_again() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 10, 300);
    pair.settle();
    pair.peers[0].replica.renew_actor(ActorId([8; 16]));
    pair.peers[0].insert_many("e", 10, 300);
    pair.settle();
    let reasons = pair.peers[1].events.iter().filter_map(|event| match event {
        Event::Closed { reason, .. } => Some(reason.code()),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["sync/actor-renewed"]);
    let link = pair.links[0];
    pair.cut(link);
    pair.link();
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_delta_that_does_not_fit_is_mended() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 10, 900);
    pair.settle();
    // The receiver loses its documents without a word, as an eviction does.
    pair.peers[1].replica = idem_sync::MemoryReplica::new(ActorId([2; 16]), 1_000_000);
    for number in 0..10 {
        let id = format!("d{number}");
        pair.peers[0].commit(&[(key(&id), set("n", number)), (key("e"), set("n", number))]);
    }
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert!(
        pair.peers[0].session.stats().deltas_sent > 0,
        "a delta was tried"
    );
}

#[test]
fn documents_of_a_far_future_are_held_back_until_the_clock_has_come_near() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0]
        .replica
        .set_now_ms(1_000_000 + 2 * limits::CLOCK_SKEW_HOLD_MS);
    pair.peers[0].commit(&[(key("later"), insert(&[])), (key("too"), insert(&[]))]);
    pair.peers[1].commit(&[(key("other"), insert(&[]))]);
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 1);
    let documents = vec![key("later"), key("too")];
    let held = Event::HeldBack {
        documents: documents.clone(),
        count: 2,
    };
    assert!(
        pair.peers[1].events.contains(&held),
        "{:?}",
        pair.peers[1].events
    );
    let told = Event::NotHeld { documents };
    assert!(
        pair.peers[0].events.contains(&told),
        "{:?}",
        pair.peers[0].events
    );
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(0));
    pair.peers[1]
        .replica
        .set_now_ms(1_000_000 + 2 * limits::CLOCK_SKEW_HOLD_MS);
    let link = pair.links[0];
    pair.cut(link);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[1].documents().len(), 3);
    let last = pair.peers[0].replica.last_commit();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(last));
}

/// Bytes that both peers have sent.
fn bytes_sent(pair: &Pair) -> u64 {
    let stats = pair.peers.iter().map(|peer| peer.session.stats());
    stats.map(|stats| stats.bytes_sent).sum()
}

#[test]
fn peers_in_sync_reconnect_in_one_round_trip_and_200_bytes() {
    let mut pair = Pair::linked();
    for peer in &mut pair.peers {
        peer.subscribe("SELECT * FROM others WHERE n > 7");
    }
    pair.peers[0].insert_many("d", 1000, 300);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    let before = bytes_sent(&pair);
    pair.link();
    for peer in &mut pair.peers {
        peer.events.clear();
    }
    // The greeting goes one way, then back, and what answers the second offer travels with neither.
    let mut legs = 0;
    while pair.step() > 0 {
        legs += 1;
    }
    pair.collect(usize::MAX);
    assert_eq!(legs, 3, "two HELLO, and the answer to the second one");
    let bytes = bytes_sent(&pair) - before;
    assert!(bytes <= 200, "{bytes} bytes");
    pair.assert_calm();
    for peer in &pair.peers {
        let is_caught_up = |event: &&Event| matches!(event, Event::CaughtUp { .. });
        assert_eq!(peer.events.iter().filter(is_caught_up).count(), 2);
    }
    pair.peers[0].insert_many("e", 1, 300);
    pair.peers[1].insert_many("f", 1, 300);
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_resumption_of_other_subscriptions_than_before_is_refused_and_costs_only_bytes() {
    for change in ["before", "between", "after"] {
        let mut pair = Pair::linked();
        pair.peers[0].insert_many("d", 10, 300);
        pair.settle();
        let link = pair.links[0];
        pair.cut(link);
        let subscribe = |pair: &mut Pair| {
            for peer in &mut pair.peers {
                let old = peer.subscribe("SELECT * FROM things");
                peer.session.unsubscribe(old);
                peer.session.unsubscribe(old);
                peer.subscribe("SELECT * FROM things WHERE true");
                peer.subscribe("SELECT * FROM others");
            }
        };
        if change == "before" {
            subscribe(&mut pair);
        }
        pair.peers[1].insert_many("e", 10, 300);
        pair.link();
        pair.collect(1);
        if change == "between" {
            subscribe(&mut pair);
        }
        pair.deliver();
        if change == "after" {
            subscribe(&mut pair);
        }
        pair.settle();
        pair.peers[0].insert_many("f", 10, 300);
        pair.settle();
        pair.assert_calm();
        pair.assert_same();
        assert_eq!(pair.peers[0].documents().len(), 30, "{change}");
    }
}

#[test]
fn a_resumption_with_a_store_that_lost_its_past_starts_over() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 10, 300);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    // The same session, another life of the store, which holds nothing any more.
    pair.peers[0].replica = idem_sync::MemoryReplica::new(ActorId([77; 16]), 2_000_000);
    pair.peers[0].insert_many("x", 3, 300);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].documents().len(), 13);
}

#[test]
fn a_session_that_forgot_the_subscriptions_asks_for_them() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 10, 300);
    pair.settle();
    // Peer 1 keeps its session and offers to resume; peer 0 has started anew.
    pair.restart(0);
    pair.peers[0].insert_many("e", 5, 300);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 5);
}

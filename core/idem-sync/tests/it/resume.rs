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
    pair.assert_calm();
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
    let held = Event::HeldBack {
        key: key("later"),
        documents: 2,
    };
    assert!(
        pair.peers[1].events.contains(&held),
        "{:?}",
        pair.peers[1].events
    );
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
}

//! What is said before a link is closed on purpose.

use idem_model::{DocumentOp, limits};
use idem_sync::{CloseReason, Event, Lane, LinkId, Replica};

use crate::pair::{Pair, insert, key};

/// One peer leaves, without any time for what waits.
fn leave(pair: &mut Pair, peer: usize) {
    let now = pair.now;
    pair.peers[peer].session.prepare_close();
    pair.collect(usize::MAX);
    pair.peers[peer].session.close(now);
    pair.collect(usize::MAX);
}

/// Moves frames until nothing moves, while no time passes.
fn exchange(pair: &mut Pair) {
    while pair.step() > 0 {}
}

/// What is on its way arrives, the urgent lanes first as links send them, and the links end.
fn arrive(pair: &mut Pair) {
    for lane in [Lane::Control, Lane::Interactive, Lane::Bulk] {
        pair.deliver_on(&[lane]);
        pair.collect(0);
    }
    for link in pair.links.clone() {
        pair.cut(link);
    }
}

/// Both hold what the first one wrote, and the second one has not yet told that it passed it.
fn just_synced() -> Pair {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0].insert_many("d", 3, 20);
    exchange(&mut pair);
    pair.assert_same();
    pair
}

fn position(pair: &mut Pair, of: usize, at: usize) -> u64 {
    let subscription = pair.peers[at].subscribe("SELECT * FROM things");
    let remote = pair.peers[of].id;
    let Ok(cursor) = pair.peers[at].replica.cursor(remote, subscription);
    cursor.map_or(0, |cursor| cursor.commit)
}

#[test]
fn who_leaves_says_first_how_far_the_other_one_is() {
    let mut pair = just_synced();
    let last = pair.peers[1].replica.durable_commit();
    assert!(position(&mut pair, 1, 0) < last, "it waits for data");
    leave(&mut pair, 1);
    arrive(&mut pair);
    assert_eq!(position(&mut pair, 1, 0), last);
    let goodbye = pair.peers[0].events.iter().find_map(|event| match event {
        Event::Closed {
            reason, by_remote, ..
        } => Some((*reason, *by_remote)),
        _ => None,
    });
    assert_eq!(goodbye, Some((CloseReason::Goodbye, true)));
}

#[test]
fn who_was_told_all_is_told_nothing_more() {
    let mut pair = just_synced();
    pair.settle();
    pair.peers[1].session.prepare_close();
    assert_eq!(pair.step(), 0);
    // What changed elsewhere does not count.
    pair.peers[1].commit(&[(
        crate::pair::key_in("others", "a"),
        insert(&[("note", "not asked for".into())]),
    )]);
    pair.peers[1].session.prepare_close();
    assert_eq!(pair.step(), 0);
}

#[test]
fn what_was_held_when_the_peer_left_is_not_in_doubt_when_it_comes_back() {
    let mut pair = just_synced();
    leave(&mut pair, 1);
    arrive(&mut pair);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    for peer in &mut pair.peers {
        let later_ms = 1_000_000 + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS;
        peer.replica.set_now_ms(later_ms);
    }
    let replica = &mut pair.peers[0].replica;
    replica.remove_tombstones();
    replica.make_durable();
    pair.peers.iter_mut().for_each(|peer| peer.events.clear());
    pair.link();
    pair.settle();
    let told = pair.peers[1].events.iter().find_map(|event| match event {
        Event::DeletedMeanwhile {
            deleted,
            quarantined,
            ..
        } => Some((*deleted, *quarantined)),
        _ => None,
    });
    assert_eq!(told, Some((1, 0)));
    pair.assert_same();
}

#[test]
fn what_was_taken_in_is_acknowledged_before_the_goodbye() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[1].is_durable = false;
    pair.peers[0].insert_many("d", 3, 20);
    exchange(&mut pair);
    let last = pair.peers[0].replica.durable_commit();
    assert!(pair.peers[0].session.confirmed_commit() < Some(last));
    pair.peers[1].replica.make_durable();
    leave(&mut pair, 1);
    pair.deliver_on(&[Lane::Control]);
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(last));
}

#[test]
fn every_link_hears_the_goodbye() {
    let mut pair = just_synced();
    let spare = pair.link();
    exchange(&mut pair);
    leave(&mut pair, 1);
    let goodbyes: Vec<(LinkId, Lane)> = pair
        .wires
        .iter()
        .filter(|(_, frames)| frames.iter().any(|frame| frame[0] == 2))
        .map(|((link, _, lane), _)| (*link, *lane))
        .collect();
    let used = pair.links[0];
    assert_eq!(
        goodbyes,
        [(used, Lane::Interactive), (spare, Lane::Control)]
    );
}

//! Batches of which more is left out than can be named.

use idem_model::{DocumentKey, limits};
use idem_sync::{CloseReason, Event};
use idem_wire::Message;

use crate::pair::{Pair, insert, key};

/// More than are named: a name takes above 1,000 bytes.
const DOCUMENTS: usize = limits::TOLD_VERSIONS_BYTES_MAX / 1000 + 500;

/// The longest names that there may be, nearly. They differ at the start, so that comparing them is quick.
fn keys() -> impl Iterator<Item = DocumentKey> {
    (0..DOCUMENTS).map(|number| key(&format!("{number:06}{}", "-".repeat(994))))
}

/// One peer commits all of it, in transactions of fifty.
fn commit_all(pair: &mut Pair) {
    let all: Vec<_> = keys().map(|key| (key, insert(&[]))).collect();
    let replica = &mut pair.peers[0].replica;
    for some in all.chunks(50) {
        replica.commit(some).expect("a valid transaction");
    }
    replica.make_durable();
}

/// Moves frames until nothing moves. Gives how many bytes of WANT went to the first peer, and how many
/// UNHELD.
fn settle_and_count(pair: &mut Pair) -> (usize, usize) {
    let (mut wants, mut unheld) = (0, 0);
    loop {
        pair.collect(usize::MAX);
        for ((_, to, _), frames) in &pair.wires {
            for frame in frames.iter().filter(|_| *to == 0) {
                match Message::decode(frame) {
                    Ok(Message::Want { .. }) => wants += frame.len(),
                    Ok(Message::Unheld { .. }) => unheld += 1,
                    _ => {}
                }
            }
        }
        if pair.deliver() == 0 {
            break;
        }
    }
    pair.settle();
    (wants, unheld)
}

#[test]
fn however_much_is_held_back_is_sent_again_on_the_next_link() {
    let mut pair = Pair::linked();
    pair.settle();
    let later = 1_000_000 + 2 * limits::CLOCK_SKEW_HOLD_MS;
    pair.peers[0].replica.set_now_ms(later);
    commit_all(&mut pair);
    let (wants, unheld) = settle_and_count(&mut pair);
    pair.assert_calm();
    assert!(unheld > 0);
    let limit = limits::TOLD_VERSIONS_BYTES_MAX;
    assert!((limit..limit + 16 * 1024).contains(&wants), "{wants} bytes");
    assert!(pair.peers[1].documents().is_empty());
    let events = pair.peers[1].events.iter();
    let held_back = events.map(|event| match event {
        Event::HeldBack { count, .. } => *count,
        _ => 0,
    });
    assert_eq!(held_back.sum::<u64>(), DOCUMENTS as u64);
    let events = pair.peers[0].events.iter();
    let not_all = events.map(|event| match event {
        Event::NotAllHeld { count } => *count,
        _ => 0,
    });
    let not_all = not_all.sum::<u64>();
    assert!((1..=DOCUMENTS as u64).contains(&not_all), "{not_all}");
    let not_held = |event: &&Event| matches!(event, Event::NotHeld { .. });
    assert!(pair.peers[0].events.iter().any(|it| not_held(&it)));
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(0));

    pair.peers[1].replica.set_now_ms(later);
    let link = pair.links[0];
    pair.cut(link);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    let last = pair.peers[0].replica.last_commit();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(last));
}

#[test]
fn what_came_too_late_is_sent_when_it_is_asked_for_again_however_much_it_is() {
    let mut pair = Pair::apart();
    let everything = "SELECT * FROM things";
    let subscription = pair.peers[1].subscribe(everything);
    // Another subscription keeps the link in use all the time.
    pair.peers[1].subscribe("SELECT * FROM others");
    pair.link();
    pair.settle();
    commit_all(&mut pair);
    pair.collect(usize::MAX);
    pair.peers[1].session.unsubscribe(subscription);
    let (_, unheld) = settle_and_count(&mut pair);
    assert!(unheld > 0);
    assert!(pair.peers[1].documents().is_empty());
    pair.peers[1].subscribe(everything);
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

#[test]
fn a_batch_that_was_not_sent_cannot_be_left_out() {
    for batch in [0, 2, u64::MAX] {
        let mut pair = Pair::linked();
        pair.settle();
        pair.peers[0].insert_many("d", 1, 100);
        pair.collect(usize::MAX);
        let lane = idem_sync::Lane::Interactive;
        let lie = Message::Unheld { lane, batch }.to_bytes();
        let (now, link) = (pair.now, pair.links[0]);
        let peer = &mut pair.peers[0];
        peer.session
            .handle_frame(now, &mut peer.replica, link, &lie);
        let events: Vec<_> = std::iter::from_fn(|| peer.session.poll_event()).collect();
        let is_refused = |event: &Event| {
            matches!(
                event,
                Event::Closed {
                    reason: CloseReason::Malformed,
                    ..
                }
            )
        };
        assert!(events.iter().any(is_refused), "{batch}: {events:?}");
    }
}

/// In time that goes with their number: each of them names the group, so looking through it from
/// each would take minutes.
#[test]
fn one_transaction_of_many_documents_is_held_back_and_sent_again() {
    let count = 5000;
    let mut pair = Pair::linked();
    pair.settle();
    let later = 1_000_000 + 2 * limits::CLOCK_SKEW_HOLD_MS;
    pair.peers[0].replica.set_now_ms(later);
    let all: Vec<_> = (0..count)
        .map(|number| (key(&format!("{number:06}")), insert(&[])))
        .collect();
    pair.peers[0]
        .replica
        .commit(&all)
        .expect("a valid transaction");
    pair.peers[0].replica.make_durable();
    settle_and_count(&mut pair);
    pair.assert_calm();
    assert!(pair.peers[1].documents().is_empty());
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(0));

    pair.peers[1].replica.set_now_ms(later);
    let link = pair.links[0];
    pair.cut(link);
    pair.link();
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
    assert_eq!(pair.peers[1].documents().len(), count);
}

//! Documents that a subscription does not select any more.

use idem_model::{ActorId, DocumentOp, Value};
use idem_sync::{Lane, OnLeave, Priority, SubscriptionTerms, subscription_id_of};
use proptest::prelude::*;

use crate::pair::{Pair, Peer, insert, key, selector, set};

const RED: &str = "SELECT * FROM things WHERE colour = 'red'";

fn subscribe_evicting(peer: &mut Peer, statement: &str) {
    let terms = SubscriptionTerms {
        priority: Priority::Normal,
        on_leave: OnLeave::Evict,
    };
    let selector = selector(statement);
    let subscribed = peer.session.subscribe(&selector, terms);
    subscribed.expect("a subscription within the limits");
    peer.replica.set_subscriptions([selector]);
}

fn coloured(colour: &str) -> DocumentOp {
    insert(&[("colour", colour.into()), ("n", 0.into())])
}

fn colour(peer: &Peer, id: &str) -> Option<Value> {
    peer.field(id, "colour")
}

/// The first peer has documents, the second one wants the red ones.
fn linked(evicts: bool) -> Pair {
    let mut pair = Pair::apart();
    if evicts {
        subscribe_evicting(&mut pair.peers[1], RED);
    } else {
        pair.peers[1].subscribe(RED);
    }
    for id in ["a", "b", "c"] {
        pair.peers[0].commit(&[(key(id), coloured("red"))]);
    }
    pair.link();
    pair.settle();
    pair.assert_same();
    pair
}

/// The sender forgets what it sent.
fn restart_sender(pair: &mut Pair) {
    pair.restart(0);
    // A restart subscribes, which is not meant here.
    let seed = pair.fresh_seed();
    pair.peers[0].session = crate::pair::session(1, 2, seed);
}

#[test]
fn what_leaves_is_sent_once_more_and_says_so() {
    let mut pair = linked(false);
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert_eq!(pair.peers[0].session.stats().leaves_sent, 1);
    assert_eq!(colour(&pair.peers[1], "a"), Some("blue".into()));
    // It is there, so it is kept up to date.
    pair.peers[0].commit(&[(key("a"), set("colour", "green"))]);
    pair.settle();
    assert_eq!(colour(&pair.peers[1], "a"), Some("green".into()));
    pair.assert_calm();
}

#[test]
fn what_leaves_is_evicted_where_that_is_asked_for() {
    let mut pair = linked(true);
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert!(!pair.peers[1].documents().contains_key(&key("a")));
    assert_eq!(pair.peers[1].documents().len(), 2);
    // It does not come back while it is blue, and does when it is red.
    pair.peers[0].commit(&[(key("a"), set("n", 1))]);
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 2);
    pair.peers[0].commit(&[(key("a"), set("colour", "red"))]);
    pair.settle();
    pair.assert_same();
    pair.assert_calm();
    let stats = pair.peers[1].session.stats();
    assert_eq!(stats.documents_evicted, 1);
}

#[test]
fn what_leaves_while_the_subscriber_is_away_is_told_later() {
    for evicts in [false, true] {
        for forgets in [false, true] {
            let mut pair = linked(evicts);
            let link = pair.links[0];
            pair.cut(link);
            pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
            if forgets {
                restart_sender(&mut pair);
            }
            pair.link();
            pair.settle();
            pair.assert_calm();
            let expected = (!evicts).then_some("blue".into());
            assert_eq!(colour(&pair.peers[1], "a"), expected, "{evicts} {forgets}");
            assert_eq!(colour(&pair.peers[1], "b"), Some("red".into()));
        }
    }
}

#[test]
fn an_eviction_that_was_not_on_disk_is_done_again() {
    let mut pair = linked(true);
    pair.peers[1].is_durable = false;
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert!(!pair.peers[1].documents().contains_key(&key("a")));
    // All that was taken in is on disk but its end.
    pair.peers[1].replica.make_durable_in_part(1);
    pair.restart(1);
    pair.peers[1].session = crate::pair::session(2, 1, 99);
    subscribe_evicting(&mut pair.peers[1], RED);
    pair.peers[1].is_durable = true;
    assert_eq!(colour(&pair.peers[1], "a"), Some("blue".into()));
    restart_sender(&mut pair);
    pair.link();
    pair.settle();
    pair.assert_calm();
    assert!(!pair.peers[1].documents().contains_key(&key("a")));
}

#[test]
fn a_change_made_here_that_nobody_else_has_is_not_evicted() {
    let mut pair = linked(true);
    let link = pair.links[0];
    pair.cut(link);
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.peers[1].commit(&[(key("a"), set("n", 7))]);
    pair.link();
    pair.settle();
    assert_eq!(colour(&pair.peers[1], "a"), Some("blue".into()));
    // It may go once the other side has it.
    pair.peers[0].subscribe("SELECT * FROM things");
    pair.settle();
    assert_eq!(pair.peers[0].field("a", "n"), Some(7.into()));
    assert!(!pair.peers[1].documents().contains_key(&key("a")));
    pair.assert_calm();
}

#[test]
fn what_the_subscriber_itself_changes_leaves_as_well() {
    let mut pair = linked(true);
    pair.peers[0].subscribe("SELECT * FROM things");
    pair.settle();
    pair.peers[1].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert_eq!(colour(&pair.peers[0], "a"), Some("blue".into()));
    assert!(!pair.peers[1].documents().contains_key(&key("a")));
    pair.assert_calm();
}

#[test]
fn a_subscription_that_keeps_protects_what_it_selects() {
    let mut pair = linked(true);
    pair.peers[1].subscribe("SELECT * FROM things WHERE n < 10");
    pair.settle();
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.peers[0].commit(&[(key("a"), set("n", 20))]);
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "n"), Some(20.into()));
    pair.assert_calm();
}

/// Each of two peers evicts what it does not want, and neither may take that as a reason that the
/// other one need not hold it.
#[test]
fn two_peers_that_evict_never_lose_a_document() {
    let mut pair = Pair::apart();
    for peer in &mut pair.peers {
        subscribe_evicting(peer, RED);
    }
    pair.peers[0].commit(&[(key("a"), coloured("red"))]);
    pair.link();
    pair.settle();
    pair.assert_same();
    for (peer, value) in pair.peers.iter_mut().zip(["blue", "green"]) {
        peer.commit(&[(key("a"), set("colour", value))]);
    }
    pair.settle();
    pair.assert_same();
    assert!(pair.peers[0].documents().contains_key(&key("a")));
    pair.assert_calm();
}

#[test]
fn documents_that_never_matched_cost_one_question_at_most() {
    let mut pair = linked(false);
    let bytes = |pair: &Pair| {
        let sent = pair.peers.iter().map(|it| it.session.stats().bytes_sent);
        sent.sum::<u64>()
    };
    let before = bytes(&pair);
    for number in 0..500 {
        pair.peers[0].commit(&[(key(&format!("d{number}")), coloured("blue"))]);
    }
    pair.settle();
    let inserted = bytes(&pair) - before;
    assert!(inserted < 200, "{inserted} bytes for new documents");
    for round in 0..20 {
        for number in 0..500 {
            pair.peers[0].commit(&[(key(&format!("d{number}")), set("n", round))]);
        }
        pair.settle();
    }
    let updated = bytes(&pair) - before - inserted;
    assert!(updated < 500 * 30, "{updated} bytes for 500 documents");
    assert_eq!(pair.peers[0].session.stats().documents_sent, 3);
    assert_eq!(pair.peers[1].documents().len(), 3);
}

/// What happens to the sender, or to the link.
#[derive(Clone, Copy, Debug)]
enum Step {
    Colour(usize, bool),
    Edit(usize, i64),
    Delete(usize),
    Cut,
    Link,
    Forget,
    /// The sender takes a new actor, so that cursors are void and all is compared.
    Renew,
    /// Takes so many frames out of each session, and delivers those of the lanes.
    Move(usize, &'static [Lane]),
}

/// Lanes that overtake others, or none.
const OVERTAKING: [&[Lane]; 3] = [
    &[Lane::Control, Lane::Interactive, Lane::Bulk],
    &[Lane::Control, Lane::Interactive],
    &[Lane::Control, Lane::Bulk],
];

fn step() -> impl Strategy<Value = Step> {
    let document = 0..6usize;
    prop_oneof![
        4 => (document.clone(), any::<bool>()).prop_map(|(id, is_red)| Step::Colour(id, is_red)),
        2 => (document.clone(), 0..9i64).prop_map(|(id, n)| Step::Edit(id, n)),
        1 => document.prop_map(Step::Delete),
        1 => Just(Step::Cut),
        2 => Just(Step::Link),
        1 => Just(Step::Forget),
        1 => Just(Step::Renew),
        4 => (1..4usize, prop::sample::select(&OVERTAKING[..]))
            .prop_map(|(frames, lanes)| Step::Move(frames, lanes)),
    ]
}

fn perform(pair: &mut Pair, step: Step) {
    let id = |number: usize| key(&format!("d{number}"));
    match step {
        Step::Colour(number, is_red) => {
            let colour = if is_red { "red" } else { "blue" };
            // Of a deleted document nothing can be set.
            let _ = (pair.peers[0].replica).commit(&[(id(number), set("colour", colour))]);
        }
        Step::Edit(number, n) => {
            let _ = pair.peers[0].replica.commit(&[(id(number), set("n", n))]);
        }
        Step::Delete(number) => {
            let _ = (pair.peers[0].replica).commit(&[(id(number), DocumentOp::Delete)]);
        }
        Step::Cut => pair.links.clone().into_iter().for_each(|it| pair.cut(it)),
        Step::Link if pair.links.is_empty() => drop(pair.link()),
        Step::Link => {}
        Step::Forget => restart_sender(pair),
        Step::Renew => {
            pair.links.clone().into_iter().for_each(|it| pair.cut(it));
            let replica = &mut pair.peers[0].replica;
            let actor = u128::from(replica.last_commit()) << 64;
            replica.renew_actor(ActorId(actor.to_be_bytes()));
            restart_sender(pair);
        }
        Step::Move(frames, lanes) => {
            pair.collect(frames);
            pair.deliver_on(lanes);
        }
    }
    pair.peers[0].replica.make_durable();
}

/// The documents of a peer that are red, or that are not.
fn documents(peer: &Peer, is_red: bool) -> Vec<(String, Vec<u8>)> {
    let documents = peer.replica.documents();
    let present = documents.filter_map(|(key, it)| Some((key, it.fields()?, it.to_bytes())));
    let chosen = present.filter(|(_, fields, _)| {
        let colour = fields.get("colour");
        (colour == Some(&"red".into())) == is_red
    });
    chosen
        .map(|(key, _, bytes)| (key.to_string(), bytes))
        .collect()
}

proptest! {
    #[test]
    fn nothing_stale_stays_after_any_history(
        evicts: bool,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut pair = Pair::apart();
        if evicts {
            subscribe_evicting(&mut pair.peers[1], RED);
        } else {
            pair.peers[1].subscribe(RED);
        }
        for number in 0..6 {
            let colour = if number % 2 == 0 { "red" } else { "blue" };
            // Of some the remote is asked before they are sent.
            let text = "x".repeat(if number < 3 { 1100 } else { 0 });
            let fields = [("colour", colour.into()), ("text", text.as_str().into())];
            pair.peers[0].commit(&[(key(&format!("d{number}")), insert(&fields))]);
        }
        // What was kept is no part of a comparison.
        let is_kept_current = !steps.iter().any(|it| matches!(it, Step::Renew));
        for step in steps {
            perform(&mut pair, step);
        }
        perform(&mut pair, Step::Link);
        pair.settle();
        pair.assert_calm();
        let [sender, subscriber] = &pair.peers;
        prop_assert_eq!(documents(subscriber, true), documents(sender, true));
        let left = documents(subscriber, false);
        let kept = documents(sender, false);
        let is_current = left.iter().all(|it| kept.contains(it));
        prop_assert!(is_current || !is_kept_current, "as it is at the sender");
        prop_assert!(!evicts || left.is_empty(), "evicted");
    }
}

/// A subscription that rests keeps its cursor, and what went for another one may be behind it.
#[test]
fn what_went_while_a_subscription_rested_comes_again_with_it() {
    const LARGE: &str = "SELECT * FROM things WHERE n > 5";
    let mut pair = linked(true);
    let large = pair.peers[1].subscribe(LARGE);
    pair.peers[0].commit(&[(key("a"), set("n", 9))]);
    pair.settle();
    let red = subscription_id_of(&selector(RED));
    pair.peers[1].session.unsubscribe(red);
    pair.peers[1].replica.set_subscriptions([selector(LARGE)]);
    pair.settle();
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert_eq!(colour(&pair.peers[1], "a"), Some("blue".into()));
    // It left what rested first, and what rests now would keep it.
    pair.peers[1].session.unsubscribe(large);
    pair.settle();
    subscribe_evicting(&mut pair.peers[1], RED);
    pair.settle();
    assert_eq!(colour(&pair.peers[1], "a"), None);
    pair.peers[1].subscribe(LARGE);
    pair.settle();
    assert_eq!(colour(&pair.peers[1], "a"), Some("blue".into()));
    pair.assert_calm();
}

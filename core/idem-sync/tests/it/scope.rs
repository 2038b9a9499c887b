//! Subscriptions that select a part of a collection.

use idem_model::{
    ActorId, DocumentOp, FieldKind, FieldPath, InsertConflict, Object, SyncScope, Value,
};
use idem_sync::{Incoming, IncomingState, MemoryReplica, Replica};

use crate::pair::{Pair, insert, key, set};

const RED: &str = "SELECT * FROM things WHERE colour = 'red'";

fn coloured(colour: &str) -> DocumentOp {
    insert(&[("colour", Value::from(colour))])
}

fn linked() -> Pair {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe(RED);
    pair.link();
    pair
}

#[test]
fn only_what_matches_is_sent() {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe(RED);
    for number in 0..40 {
        let colour = if number % 4 == 0 { "red" } else { "blue" };
        pair.peers[0].commit(&[(key(&format!("d{number}")), coloured(colour))]);
    }
    pair.link();
    pair.settle();
    pair.peers[0].commit(&[
        (key("live"), coloured("red")),
        (key("not"), coloured("blue")),
    ]);
    pair.settle();
    pair.assert_calm();
    assert_eq!(pair.peers[0].session.stats().documents_sent, 11);
    let held = pair.peers[1].documents();
    assert_eq!(held.len(), 11);
    assert!(held.contains_key(&key("live")) && !held.contains_key(&key("not")));
}

#[test]
fn a_document_that_starts_to_match_is_sent() {
    let mut pair = linked();
    pair.peers[0].commit(&[(key("a"), coloured("blue"))]);
    pair.settle();
    assert!(pair.peers[1].documents().is_empty());
    pair.peers[0].commit(&[(key("a"), set("colour", "red"))]);
    pair.settle();
    pair.assert_same();
}

#[test]
fn a_document_that_stops_to_match_is_sent_once_more() {
    let mut pair = linked();
    pair.peers[0].commit(&[(key("a"), coloured("red"))]);
    pair.settle();
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "colour"), Some("blue".into()));
}

#[test]
fn deletions_of_the_collection_are_always_sent() {
    let mut pair = linked();
    pair.peers[0].commit(&[(key("a"), coloured("red"))]);
    pair.settle();
    // The sender forgets what it sent.
    pair.restart(0);
    pair.peers[0].commit(&[(key("a"), DocumentOp::Delete)]);
    pair.link();
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "colour"), None);
}

#[test]
fn progress_without_data_is_stored_as_well() {
    let mut pair = linked();
    for number in 0..2000 {
        pair.peers[0].commit(&[(key(&format!("d{number}")), coloured("blue"))]);
    }
    pair.settle();
    let before = pair.peers[0].session.stats();
    pair.restart(0);
    pair.link();
    pair.settle();
    let resumed = pair.peers[0].session.stats().frames_sent;
    assert!(resumed < 20, "{resumed} frames for nothing");
    assert!(before.documents_sent == 0);
    let subscription = pair.peers[1].subscribe(RED);
    let sender = pair.peers[0].id;
    let Ok(cursor) = Replica::cursor(&pair.peers[1].replica, sender, subscription);
    assert_eq!(cursor.map(|cursor| cursor.commit), Some(2000));
}

#[test]
fn a_transaction_is_whole_for_whoever_wants_all_of_it() {
    let mut pair = linked();
    pair.settle();
    let before = pair.peers[1].replica.last_commit();
    let operations: Vec<_> = (0..5)
        .map(|number| (key(&format!("r{number}")), coloured("red")))
        .chain([(key("b"), coloured("blue"))])
        .collect();
    pair.peers[0].commit(&operations);
    pair.settle();
    assert_eq!(pair.peers[1].documents().len(), 5);
    assert_eq!(pair.peers[1].replica.last_commit(), before + 1);
}

#[test]
fn what_came_after_its_subscription_ended_is_sent_when_it_is_asked_for_again() {
    let mut pair = Pair::apart();
    let everything = "SELECT * FROM things";
    let subscription = pair.peers[1].subscribe(everything);
    // Another subscription keeps the link in use all the time.
    pair.peers[1].subscribe("SELECT * FROM others");
    pair.link();
    pair.settle();
    pair.peers[0].insert_many("d", 3, 300);
    pair.collect(usize::MAX);
    pair.peers[1].session.unsubscribe(subscription);
    pair.settle();
    assert!(pair.peers[1].documents().is_empty());
    pair.peers[1].subscribe(everything);
    pair.settle();
    pair.assert_calm();
    pair.assert_same();
}

/// What a condition is about does not depend on which write came last: a declared kind shows, here
/// and in queries alike.
#[test]
fn a_condition_is_about_the_declared_kind() {
    for is_declared in [true, false] {
        let mut pair = Pair::apart();
        pair.peers[1].subscribe("SELECT * FROM things WHERE n = 5");
        let path = FieldPath::field("n");
        let kinds = [(path, FieldKind::Counter)];
        // Another peer counted while this one, later, wrote a text.
        let mut other = MemoryReplica::new(ActorId([7; 16]), 1_000);
        let counted = DocumentOp::Insert {
            fields: Object::from([("n".to_owned(), Value::Int(5))]),
            kinds: kinds.to_vec(),
            conflict: InsertConflict::Fail,
        };
        other.commit(&[(key("a"), counted)]).unwrap();
        pair.peers[0].commit(&[(key("a"), insert(&[("n", "text".into())]))]);
        let (_, document) = other.documents().next().unwrap();
        let incoming = Incoming {
            key: key("a"),
            group: 1,
            state: IncomingState::Whole(document.to_bytes()),
        };
        let Ok(report) = pair.peers[0].replica.apply(vec![incoming], &[]);
        assert!(report.is_applied());
        pair.peers[0].replica.make_durable();
        if is_declared {
            let collection = key("a").collection;
            pair.peers[0].replica.declare(collection, &kinds);
        }
        pair.link();
        pair.settle();
        let is_sent = pair.peers[1].documents().contains_key(&key("a"));
        assert_eq!(is_sent, is_declared);
    }
}

#[test]
fn a_collection_that_stays_here_is_sent_to_nobody() {
    for scope in [SyncScope::LocalPeerOnly, SyncScope::BigPeerOnly] {
        let mut pair = Pair::linked();
        let collection = key("secret").collection;
        pair.peers[0].replica.set_sync_scope(collection, scope);
        pair.peers[0].commit(&[(key("secret"), insert(&[("n", 1.into())]))]);
        pair.settle();
        pair.peers[0].commit(&[(key("secret"), set("n", 2))]);
        pair.settle();
        pair.assert_calm();
        assert_eq!(pair.peers[0].session.stats().documents_sent, 0);
        assert_eq!(pair.peers[1].documents().len(), 0);
    }
}

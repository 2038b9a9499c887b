//! Subscriptions that select a part of a collection.

use idem_model::{DocumentOp, Value};

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
    let Ok(cursor) = idem_sync::Replica::cursor(&pair.peers[1].replica, sender, subscription);
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

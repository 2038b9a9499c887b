//! What the meshes of two peers say to each other, by way of their sessions.

use idem_model::limits;
use idem_sync::Event;

use crate::pair::Pair;

fn gossip(pair: &Pair, index: usize) -> Vec<Vec<u8>> {
    let events = pair.peers[index].events.iter();
    let gossip = events.filter_map(|event| match event {
        Event::Gossip(bytes) => Some(bytes.clone()),
        _ => None,
    });
    gossip.collect()
}

#[test]
fn gossip_arrives_in_order() {
    let mut pair = Pair::linked();
    pair.settle();
    let largest = vec![7; limits::GOSSIP_BYTES_MAX];
    assert!(pair.peers[0].session.gossip(b"first"));
    assert!(pair.peers[0].session.gossip(&largest));
    assert!(pair.peers[1].session.gossip(b"back"));
    pair.settle();
    assert_eq!(gossip(&pair, 1), [b"first".to_vec(), largest]);
    assert_eq!(gossip(&pair, 0), [b"back".to_vec()]);
    pair.assert_calm();
}

#[test]
fn without_a_session_there_is_no_gossip() {
    let mut pair = Pair::apart();
    assert!(!pair.peers[0].session.gossip(b"to nobody"));
    let link = pair.link();
    assert!(!pair.peers[0].session.gossip(b"too early"));
    pair.settle();
    assert!(pair.peers[0].session.gossip(b"lost"));
    pair.cut(link);
    assert!(!pair.peers[0].session.gossip(b"to nobody"));
    pair.link();
    pair.settle();
    assert!(gossip(&pair, 1).is_empty());
}

#[test]
fn who_does_not_read_is_told_no_more() {
    let mut pair = Pair::linked();
    pair.settle();
    let bytes = vec![7; limits::GOSSIP_BYTES_MAX];
    let taken = (0..10_000)
        .take_while(|_| pair.peers[0].session.gossip(&bytes))
        .count();
    assert!(taken <= limits::CONTROL_FRAMES_QUEUED_MAX);
    assert!(taken * bytes.len() <= limits::CONTROL_BYTES_QUEUED_MAX);
    assert!(taken > 100);
}

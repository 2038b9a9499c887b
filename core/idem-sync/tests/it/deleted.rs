//! What was deleted does not come back, though the tombstone is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use idem_model::{ActorId, DocumentKey, DocumentOp, Timestamp, limits};
use idem_sync::{
    CloseReason, Event, Incoming, IncomingState, Lane, LinkId, MemoryReplica, Replica, ScopeState,
};
use idem_wire::{CAPABILITY_BIG_PEER, Message};
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, selector, set};

const NOW_MS: u64 = 1_000_000;

/// Time passes until the tombstones of a peer are gone.
pub(crate) fn expire(pair: &mut Pair, peer: usize) {
    for it in &mut pair.peers {
        let now_ms = NOW_MS + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS;
        it.replica.set_now_ms(now_ms);
    }
    let replica = &mut pair.peers[peer].replica;
    replica.remove_tombstones();
    replica.make_durable();
    let buried = replica.documents().filter(|(_, it)| !it.is_present());
    assert_eq!(buried.count(), 0, "tombstones are gone");
}

fn relink(pair: &mut Pair) {
    for link in pair.links.clone() {
        pair.cut(link);
    }
    pair.link();
    pair.settle();
    pair.assert_calm();
}

/// Both are linked for a while. Who gets back what it evicted or forgot takes a new actor, and needs a
/// new link. Gives what the second peer was told of documents that were deleted, and of those in doubt.
fn meet(pair: &mut Pair) -> (u64, u64) {
    let mut sum = (0, 0);
    for _ in 0..4 {
        let link = pair.link();
        pair.settle();
        pair.cut(link);
        let mut events = pair.peers.iter().flat_map(|it| &it.events);
        let is_renewed = events.any(|event| match event {
            Event::Closed { reason, .. } => {
                assert_eq!(*reason, CloseReason::ActorRenewed, "{event:?}");
                true
            }
            _ => false,
        });
        let (deleted, quarantined) = told(pair, 1);
        sum = (sum.0 + deleted, sum.1 + quarantined);
        pair.peers.iter_mut().for_each(|it| it.events.clear());
        if !is_renewed {
            return sum;
        }
    }
    panic!("no link lasts");
}

fn is_there(pair: &Pair, peer: usize, key: &DocumentKey) -> bool {
    let mut documents = pair.peers[peer].replica.documents();
    documents.any(|(it, document)| it == key && document.is_present())
}

fn quarantined(pair: &Pair, peer: usize) -> u64 {
    let mut count = 0;
    let Ok(()) = pair.peers[peer]
        .replica
        .scan_known(&key("a").collection, &mut |item| {
            count += u64::from(item.state == ScopeState::Quarantined);
            std::ops::ControlFlow::Continue(())
        });
    count
}

/// What the events of a peer say of documents that were deleted, and of those in doubt.
fn told(pair: &Pair, peer: usize) -> (u64, u64) {
    let mut sum = (0, 0);
    for event in &pair.peers[peer].events {
        if let Event::DeletedMeanwhile {
            deleted,
            quarantined,
            ..
        } = event
        {
            sum = (sum.0 + deleted, sum.1 + quarantined);
        }
    }
    sum
}

/// Both hold `count` documents that the first one wrote, and are apart.
fn parted(count: usize) -> Pair {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", count, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    pair
}

#[test]
fn what_was_deleted_goes_and_what_was_written_stays() {
    let mut pair = parted(200);
    for number in 0..150 {
        pair.peers[0].commit(&[(key(&format!("d{number}")), DocumentOp::Delete)]);
    }
    pair.peers[1].commit(&[(key("d7"), set("note", "edited while away"))]);
    pair.peers[1].commit(&[(key("new"), insert(&[("note", "written while away".into())]))]);
    expire(&mut pair, 0);
    assert_eq!(meet(&mut pair), (149, 0));
    assert!(is_there(&pair, 0, &key("new")) && is_there(&pair, 0, &key("d7")));
    assert!(!is_there(&pair, 0, &key("d8")) && !is_there(&pair, 1, &key("d8")));
    pair.assert_same();
    // Who caught up knows all that is gone.
    relink(&mut pair);
    assert_eq!(told(&pair, 1), (0, 0));
}

#[test]
fn who_writes_it_again_does_not_take_what_others_wrote() {
    let mut pair = parted(1);
    pair.peers[1].commit(&[(key("d0"), set("note", "edited while away"))]);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    // It wrote the first life as well, and has forgotten that.
    pair.peers[0].commit(&[(key("d0"), insert(&[("again", "new".into())]))]);
    meet(&mut pair);
    pair.assert_same();
    let mut documents = pair.peers[0].replica.documents();
    let (_, document) = documents.find(|(it, _)| **it == key("d0")).unwrap();
    let fields: Vec<String> = document.fields().unwrap().into_keys().collect();
    assert_eq!(fields, ["again", "note", "text"]);
}

#[test]
fn what_comes_back_older_is_not_written_to_by_the_same_actor() {
    let mut pair = parted(1);
    pair.peers[0].commit(&[(key("d0"), set("note", "not seen by the other one"))]);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    pair.peers[1].commit(&[(key("d0"), set("size", "edited while away"))]);
    let actor = pair.peers[0].replica.actor();
    meet(&mut pair);
    assert_ne!(pair.peers[0].replica.actor(), actor);
    let mut documents = pair.peers[0].replica.documents();
    let (_, document) = documents.find(|(it, _)| **it == key("d0")).unwrap();
    assert_eq!(
        document.version().get(actor),
        1,
        "what it deleted is not here"
    );
}

#[test]
fn who_evicted_it_without_a_trace_does_not_vouch_for_it() {
    // The first peer deletes and forgets, and the second one learns that; it had written and evicted it.
    let mut pair = Pair::linked();
    pair.peers[1].insert_many("d", 1, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    let copy = pair.peers[1].replica.clone();
    pair.peers[1].replica.evict_documents(&[key("d0")]).unwrap();
    pair.peers[1].replica.make_durable();
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    meet(&mut pair);
    // A third one comes with what it had.
    pair.peers[0].replica = copy;
    pair.peers[0].replica.renew_actor(ActorId([77; 16]));
    meet(&mut pair);
    assert!(!is_there(&pair, 1, &key("d0")), "it does not come back");
    assert_eq!(quarantined(&pair, 0), 1);
}

#[test]
fn what_was_evicted_after_a_forgotten_deletion_is_not_taken_for_deleted() {
    let mut pair = Pair::linked();
    pair.peers[1].insert_many("d", 1, 20);
    pair.settle();
    pair.peers[1].commit(&[(key("d0"), DocumentOp::Delete)]);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    expire(&mut pair, 0);
    // It comes anew, to who has forgotten the deletion and to who has not.
    pair.peers[0].commit(&[(key("d0"), insert(&[("again", "new".into())]))]);
    meet(&mut pair);
    // The cursor of the first one passes it.
    pair.peers[1].commit(&[(key("more"), insert(&[("text", "new".into())]))]);
    meet(&mut pair);
    assert!(is_there(&pair, 0, &key("d0")) && is_there(&pair, 1, &key("d0")));
    // It goes without a trace, and another one is deleted by the same actor.
    pair.peers[0].replica.evict_documents(&[key("d0")]).unwrap();
    pair.peers[0].commit(&[(key("other"), insert(&[("text", "new".into())]))]);
    pair.peers[0].commit(&[(key("other"), DocumentOp::Delete)]);
    let replica = &mut pair.peers[0].replica;
    replica.set_tombstone_ttl_ms(0);
    replica.remove_tombstones();
    replica.make_durable();
    assert_eq!(meet(&mut pair), (0, 1));
    assert!(is_there(&pair, 1, &key("d0")), "nobody deleted it");
}

#[test]
fn a_tombstone_of_another_life_does_not_vouch_for_a_document() {
    let mut pair = Pair::linked();
    pair.peers[1].insert_many("d", 1, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    // Somebody who had evicted it wrote and deleted it anew.
    let mut third = MemoryReplica::new(ActorId([77; 16]), NOW_MS);
    third
        .commit(&[(key("d0"), insert(&[("text", "new".into())]))])
        .unwrap();
    third.commit(&[(key("d0"), DocumentOp::Delete)]).unwrap();
    let tombstone = Incoming {
        key: key("d0"),
        group: 0,
        state: IncomingState::Whole(third.state(&key("d0")).unwrap()),
    };
    let replica = &mut pair.peers[0].replica;
    assert!(replica.apply(vec![tombstone], &[]).unwrap().is_applied());
    replica.make_durable();
    meet(&mut pair);
    assert!(!is_there(&pair, 0, &key("d0")), "it does not come back");
}

#[test]
fn what_cannot_be_decided_waits_in_quarantine() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    // A store that was restored from a backup: nobody has a position in its feed, so it is compared.
    pair.peers[1].replica.renew_actor(ActorId([77; 16]));
    pair.peers[1].commit(&[(key("new"), insert(&[("note", "written while away".into())]))]);
    relink(&mut pair);
    assert_eq!(told(&pair, 1), (0, 1));
    assert_eq!(quarantined(&pair, 1), 1);
    assert!(!is_there(&pair, 0, &key("d0")), "it does not come back");
    assert!(is_there(&pair, 1, &key("d0")), "nor is it taken away");
    assert!(is_there(&pair, 0, &key("new")) && is_there(&pair, 1, &key("d1")));
}

#[test]
fn what_was_only_evicted_elsewhere_is_not_taken_for_deleted() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("mine", 3, 20);
    pair.peers[1].insert_many("yours", 3, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    pair.peers[0].commit(&[(key("yours0"), DocumentOp::Delete)]);
    // Nothing is left of it there: no subscription is known to the replica that selects it.
    pair.peers[0]
        .replica
        .evict_documents(&[key("yours2")])
        .expect("it was there");
    expire(&mut pair, 0);
    relink(&mut pair);
    assert!(is_there(&pair, 1, &key("yours2")));
    assert!(!is_there(&pair, 0, &key("yours0")));
    assert!(is_there(&pair, 1, &key("mine1")));
}

#[test]
fn what_may_have_been_evicted_there_is_not_taken_away_here() {
    let mut pair = Pair::linked();
    pair.peers[1].insert_many("yours", 3, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    // The tombstone covers the version of what was evicted, so only the other version tells.
    pair.peers[0].commit(&[(key("yours2"), DocumentOp::Delete)]);
    pair.peers[0]
        .replica
        .evict_documents(&[key("yours0")])
        .expect("it was there");
    expire(&mut pair, 0);
    relink(&mut pair);
    assert_eq!(told(&pair, 1), (1, 1));
    assert!(is_there(&pair, 1, &key("yours0")), "it may be the last one");
    assert!(!is_there(&pair, 1, &key("yours2")), "nobody evicted that");
}

#[test]
fn what_was_edited_there_is_not_taken_for_gone() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d1"), set("note", "edited"))]);
    pair.peers[0].commit(&[(key("d2"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    relink(&mut pair);
    assert_eq!(told(&pair, 1), (1, 0));
    assert_eq!(pair.peers[1].field("d1", "note"), Some("edited".into()));
    pair.assert_same();
}

#[test]
fn who_cannot_tell_what_went_leaves_everything_in_doubt() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    pair.peers[1].commit(&[(key("new"), insert(&[("note", "written while away".into())]))]);
    expire(&mut pair, 0);
    pair.link();
    let kept = settle_without(&mut pair, |to, lane| to == 1 && lane == Lane::Bulk);
    for (wire, frames) in kept {
        for frame in frames {
            // As a store says it in which too many actors wrote.
            let frame = match Message::decode(&frame) {
                Ok(Message::Checked(mut checked)) => {
                    checked.is_void = true;
                    Message::Checked(checked).to_bytes()
                }
                _ => frame,
            };
            pair.wires.entry(wire).or_default().push_back(frame);
        }
    }
    pair.settle();
    pair.assert_calm();
    assert_eq!(told(&pair, 1), (0, 2));
    assert!(!is_there(&pair, 0, &key("d0")) && is_there(&pair, 1, &key("new")));
}

/// A Big Peer has all there is, so what it knows of lives. Another peer may only not have heard yet.
#[test]
fn a_big_peer_alone_ends_a_quarantine() {
    for is_big in [false, true] {
        let mut pair = parted(3);
        pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
        expire(&mut pair, 0);
        let doubtful = [key("d1"), key("d2")];
        let Ok(count) = (pair.peers[1].replica).quarantine(&doubtful, pair.peers[0].id);
        assert_eq!(count, 2);
        pair.link();
        for _ in 0..2 {
            pair.collect(usize::MAX);
            for ((_, to, _), frames) in &mut pair.wires {
                for frame in frames.iter_mut().filter(|_| *to == 1 && is_big) {
                    if let Ok(Message::Hello(mut hello)) = Message::decode(frame) {
                        hello.capabilities |= CAPABILITY_BIG_PEER;
                        *frame = Message::Hello(hello).to_bytes();
                    }
                }
            }
            pair.deliver();
        }
        pair.settle();
        pair.assert_calm();
        assert_eq!(quarantined(&pair, 1), if is_big { 0 } else { 2 });
        assert_eq!(told(&pair, 1), (1, 0));
        let now_ms = NOW_MS + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS;
        pair.peers[1].replica.set_now_ms(now_ms);
        pair.peers[0].commit(&[(key("d1"), set("note", "later"))]);
        pair.settle();
        assert_eq!(pair.peers[1].field("d1", "note"), Some("later".into()));
    }
}

/// Moves frames until nothing moves, but for those that `is_kept` picks out: these are given.
fn settle_without(
    pair: &mut Pair,
    is_kept: impl Fn(usize, Lane) -> bool,
) -> BTreeMap<(LinkId, usize, Lane), VecDeque<Vec<u8>>> {
    let mut kept: BTreeMap<_, VecDeque<Vec<u8>>> = BTreeMap::new();
    loop {
        pair.collect(usize::MAX);
        for (wire, frames) in std::mem::take(&mut pair.wires) {
            match is_kept(wire.1, wire.2) {
                true => kept.entry(wire).or_default().extend(frames),
                false => drop(pair.wires.insert(wire, frames)),
            }
        }
        if pair.deliver() == 0 {
            return kept;
        }
    }
}

/// What is told of tombstones may overtake the HELLO, which is on another lane.
#[test]
fn a_floor_may_come_before_the_handshake() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    pair.link();
    // The first one greets; the second one answers, and then forgets something.
    pair.collect(usize::MAX);
    pair.deliver();
    pair.collect(1);
    let mut control = std::mem::take(&mut pair.wires);
    pair.peers[1].commit(&[(key("d1"), DocumentOp::Delete)]);
    expire(&mut pair, 1);
    pair.collect(usize::MAX);
    let mut wires = pair.wires.values().flatten();
    assert!(wires.any(|it| matches!(Message::decode(it), Ok(Message::Floor { .. }))));
    for (wire, frames) in &mut pair.wires {
        if wire.2 == Lane::Control {
            let frames = std::mem::take(frames);
            control.entry(*wire).or_default().extend(frames);
        }
    }
    pair.deliver();
    pair.wires = control;
    pair.settle();
    pair.assert_calm();
    assert!(!is_there(&pair, 0, &key("d1")));
}

#[test]
fn nothing_is_sent_before_the_answer_is_there() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    pair.peers[1].replica.renew_actor(ActorId([77; 16]));
    pair.peers[1].commit(&[(key("new"), insert(&[("note", "written while away".into())]))]);
    pair.link();
    // The answer comes on the bulk lane, which is slow.
    let kept = settle_without(&mut pair, |to, lane| to == 1 && lane == Lane::Bulk);
    let frames = || kept.values().flatten();
    assert!(
        frames().any(|it| matches!(Message::decode(it), Ok(Message::Checked(_)))),
        "it is on its way"
    );
    assert_eq!(pair.peers[1].session.stats().documents_sent, 0);
    assert!(!is_there(&pair, 0, &key("d0")) && !is_there(&pair, 0, &key("new")));
    pair.wires.extend(kept);
    pair.settle();
    pair.assert_calm();
    assert!(!is_there(&pair, 0, &key("d0")) && is_there(&pair, 0, &key("new")));
}

#[test]
fn nothing_is_sent_before_what_was_decided_is_on_disk() {
    let mut pair = parted(3);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    pair.peers[1].replica.renew_actor(ActorId([77; 16]));
    pair.peers[1].is_durable = false;
    pair.link();
    pair.settle();
    assert_eq!(quarantined(&pair, 1), 1, "it is decided");
    assert_eq!(pair.peers[1].session.stats().documents_sent, 0);
    pair.restart(1);
    assert_eq!(quarantined(&pair, 1), 0, "that was lost");
    pair.peers[1].is_durable = true;
    pair.link();
    pair.settle();
    assert_eq!(quarantined(&pair, 1), 1, "and is decided again");
    assert!(!is_there(&pair, 0, &key("d0")), "it does not come back");
}

#[test]
fn a_live_session_does_not_ask_about_tombstones_that_it_told() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 5, 20);
    pair.settle();
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    pair.settle();
    expire(&mut pair, 0);
    pair.peers[0].commit(&[(key("d1"), set("note", "later"))]);
    pair.settle();
    pair.assert_calm();
    assert!(pair.peers[0].replica.gc_floor() > Timestamp::ZERO);
    assert_eq!(told(&pair, 1), (0, 0));
    assert!(!is_there(&pair, 1, &key("d0")) && !is_there(&pair, 0, &key("d0")));
}

/// What a peer does while both are apart.
#[derive(Clone, Debug)]
enum Step {
    Delete(usize, u8),
    Insert(usize, u8),
    Edit(usize, u8),
    Expire(usize),
    Meet,
    Renew(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize, 0..6u8).prop_map(|(peer, it)| Step::Delete(peer, it)),
        2 => (0..2usize, 0..9u8).prop_map(|(peer, it)| Step::Insert(peer, it)),
        1 => (0..2usize, 0..6u8).prop_map(|(peer, it)| Step::Edit(peer, it)),
        3 => (0..2usize).prop_map(Step::Expire),
        2 => Just(Step::Meet),
        1 => (0..2usize).prop_map(Step::Renew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A document that one peer deleted is not on it later, unless somebody wrote it meanwhile.
    #[test]
    fn nothing_comes_back(steps in prop::collection::vec(step(), 1..30)) {
        let mut pair = parted(6);
        let mut deleted = [BTreeSet::new(), BTreeSet::new()];
        // Since they last met: who deletes such a one may not have seen all of it.
        let mut written = BTreeSet::new();
        // Deletions that somebody has forgotten, and what was written again without knowing of them:
        // deleting that does not delete what the one before left elsewhere (docs/merging.md).
        let mut forgotten = BTreeSet::new();
        let mut reborn = BTreeSet::new();
        let mut lives = 0;
        for step in steps {
            match step {
                Step::Delete(peer, it) => {
                    let key = key(&format!("d{it}"));
                    if is_there(&pair, peer, &key) {
                        pair.peers[peer].commit(&[(key.clone(), DocumentOp::Delete)]);
                        if !written.contains(&key) && !reborn.contains(&key) {
                            deleted[peer].insert(key);
                        }
                    }
                }
                Step::Insert(peer, it) => {
                    let key = key(&format!("d{it}"));
                    if !is_there(&pair, peer, &key) {
                        let is_unheard_of = pair.peers[peer].replica.state(&key).is_none();
                        if is_unheard_of && forgotten.contains(&key) {
                            reborn.insert(key.clone());
                        }
                        pair.peers[peer].commit(&[(key.clone(), insert(&[("text", "new".into())]))]);
                        deleted.iter_mut().for_each(|it| { it.remove(&key); });
                        written.insert(key);
                    }
                }
                Step::Edit(peer, it) => {
                    let key = key(&format!("d{it}"));
                    if is_there(&pair, peer, &key) {
                        pair.peers[peer].commit(&[(key.clone(), set("text", "edited"))]);
                        deleted.iter_mut().for_each(|it| { it.remove(&key); });
                        written.insert(key);
                    }
                }
                Step::Expire(peer) => {
                    let replica = &mut pair.peers[peer].replica;
                    let buried = replica.documents().filter(|(_, it)| !it.is_present());
                    forgotten.extend(buried.map(|(key, _)| key.clone()));
                    replica.set_tombstone_ttl_ms(0);
                    replica.remove_tombstones();
                    replica.make_durable();
                }
                Step::Renew(peer) => {
                    lives += 1;
                    pair.peers[peer].replica.renew_actor(ActorId([100 + lives; 16]));
                }
                Step::Meet => {
                    meet(&mut pair);
                    written.clear();
                }
            }
            for (peer, keys) in deleted.iter().enumerate() {
                for key in keys {
                    prop_assert!(!is_there(&pair, peer, key), "{} is back on {}", key, peer);
                }
            }
        }
    }
}

/// Both hold `count` documents that the second one wrote, and are apart. With them, the second one's
/// replica: what a peer has that was away since.
fn parted_with_copy(count: usize) -> (Pair, MemoryReplica) {
    let mut pair = Pair::linked();
    pair.peers[1].insert_many("d", count, 20);
    pair.settle();
    let link = pair.links[0];
    pair.cut(link);
    let copy = pair.peers[1].replica.clone();
    (pair, copy)
}

/// The second peer evicts for a subscription.
fn evict_for_a_subscription(pair: &mut Pair, keys: &[DocumentKey]) {
    let replica = &mut pair.peers[1].replica;
    replica.set_subscriptions([selector("SELECT * FROM things")]);
    replica.evict_documents(keys).expect("they are there");
    replica.make_durable();
}

/// The first peer is now one that was away, and meets the second one.
fn come_back(pair: &mut Pair, mut copy: MemoryReplica) -> MemoryReplica {
    copy.set_now_ms(NOW_MS + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS);
    copy.renew_actor(ActorId([77; 16]));
    let first = std::mem::replace(&mut pair.peers[0].replica, copy);
    meet(pair);
    first
}

fn in_state(pair: &Pair, peer: usize, state: ScopeState) -> usize {
    let mut count = 0;
    let Ok(()) = pair.peers[peer]
        .replica
        .scan_known(&key("a").collection, &mut |item| {
            count += usize::from(item.state == state);
            std::ops::ControlFlow::Continue(())
        });
    count
}

#[test]
fn who_evicted_it_for_a_subscription_vouches_until_nobody_knows_of_it() {
    // A list, a sketch, and more differences than a sketch tells.
    for count in [20, 200, 4000] {
        let (mut pair, copy) = parted_with_copy(count + 10);
        let evicted: Vec<DocumentKey> = (0..count).map(|it| key(&format!("d{it}"))).collect();
        evict_for_a_subscription(&mut pair, &evicted);
        let (deleted, kept) = evicted.split_at(count / 2);
        for key in deleted {
            pair.peers[0].commit(&[(key.clone(), DocumentOp::Delete)]);
        }
        expire(&mut pair, 0);
        meet(&mut pair);
        let states = [ScopeState::Doubtful, ScopeState::Evicted, ScopeState::Live];
        let states = states.map(|state| in_state(&pair, 1, state));
        assert_eq!(states, [deleted.len(), kept.len(), 10]);
        // Another time nothing is different.
        let floor = pair.peers[1].replica.gc_floor();
        meet(&mut pair);
        assert_eq!(pair.peers[1].replica.gc_floor(), floor);

        let _first = come_back(&mut pair, copy);
        let there = |key: &&DocumentKey| is_there(&pair, 1, key);
        assert_eq!(
            evicted.iter().filter(there).count(),
            0,
            "they do not come back"
        );
        assert_eq!(quarantined(&pair, 0), deleted.len() as u64);
        let live = in_state(&pair, 0, ScopeState::Live);
        assert_eq!(live, kept.len() + 10, "what lives is vouched for");
    }
}

#[test]
fn what_was_evicted_and_is_in_doubt_is_still_held() {
    let (mut pair, _) = parted_with_copy(20);
    evict_for_a_subscription(&mut pair, &[key("d0")]);
    // A peer that never had it.
    pair.peers[0].replica.evict_documents(&[key("d0")]).unwrap();
    pair.peers[0].commit(&[(key("d1"), DocumentOp::Delete)]);
    pair.peers[1].commit(&[(key("later"), insert(&[("text", "new".into())]))]);
    meet(&mut pair);
    pair.peers[0].commit(&[(key("later"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    meet(&mut pair);
    assert_eq!(in_state(&pair, 1, ScopeState::Doubtful), 1);
    // A peer that has it compares all with what is held, and only a change of it comes.
    let mut other = MemoryReplica::new(ActorId([66; 16]), NOW_MS);
    std::mem::swap(&mut pair.peers[0].replica, &mut other);
    let _first = other;
    pair.peers[0]
        .replica
        .set_now_ms(NOW_MS + 2 * limits::TOMBSTONE_TTL_SMALL_PEER_MS);
    meet(&mut pair);
    assert!(!is_there(&pair, 1, &key("d0")));
    assert_eq!(in_state(&pair, 1, ScopeState::Doubtful), 1);
    pair.peers[0].commit(&[(key("d0"), insert(&[("text", "new".into())]))]);
    pair.peers[0].commit(&[(key("d0"), set("note", "later"))]);
    meet(&mut pair);
    assert!(
        is_there(&pair, 1, &key("d0")),
        "it comes back with a change"
    );
    evict_for_a_subscription(&mut pair, &[key("d0")]);
    assert_eq!(in_state(&pair, 1, ScopeState::Evicted), 1);
}

#[test]
fn who_has_it_in_quarantine_does_not_vouch_for_any_version() {
    for is_edited in [false, true] {
        let (mut pair, mut copy) = parted_with_copy(20);
        // One that has the same, or a part of it.
        if is_edited {
            pair.peers[1].commit(&[(key("d0"), set("note", "later"))]);
            meet(&mut pair);
        }
        pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
        expire(&mut pair, 0);
        // So that nothing shows that the first one held it.
        pair.peers[1].replica.renew_actor(ActorId([55; 16]));
        assert_eq!(meet(&mut pair), (0, 1));
        assert_eq!(quarantined(&pair, 1), 1);
        copy.set_now_ms(NOW_MS);
        let _first = come_back(&mut pair, copy);
        assert_eq!((quarantined(&pair, 0), quarantined(&pair, 1)), (1, 1));
    }
}

/// The asking side has a cursor that says that the other one took it in, and only there it is in doubt.
#[test]
fn what_is_in_doubt_there_is_not_taken_for_deleted() {
    let mut pair = parted(3);
    pair.peers[1].commit(&[(key("d1"), DocumentOp::Delete)]);
    expire(&mut pair, 1);
    let Ok(count) = (pair.peers[1].replica).quarantine(&[key("d0")], pair.peers[0].id);
    assert_eq!(count, 1);
    pair.peers[1].replica.make_durable();
    meet(&mut pair);
    assert!(!is_there(&pair, 0, &key("d1")));
    assert!(is_there(&pair, 0, &key("d0")));
    assert_eq!(quarantined(&pair, 0), 1);
}

#[test]
fn another_version_that_may_have_been_deleted_does_not_end_a_quarantine() {
    let (mut pair, copy) = parted_with_copy(3);
    pair.peers[1].commit(&[(key("d0"), set("note", "later"))]);
    let state = |pair: &Pair| pair.peers[1].replica.state(&key("d0")).unwrap();
    let whole = |bytes| Incoming {
        key: key("d0"),
        group: 0,
        state: IncomingState::Whole(bytes),
    };
    let later = state(&pair);
    let version = idem_crdt::encoded_version(&later).unwrap();
    pair.peers[1].replica = copy;
    let replica = &mut pair.peers[1].replica;
    let Ok(_) = replica.quarantine(&[key("d0")], pair.peers[0].id);
    let Ok(()) = replica.learn_gone(&key("d0").collection, &version, &[]);
    assert!(
        replica
            .apply(vec![whole(later.clone())], &[])
            .unwrap()
            .is_applied()
    );
    assert_eq!(quarantined(&pair, 1), 1);
    // An edit that nobody who deleted it knew of.
    let mut other = MemoryReplica::new(ActorId([66; 16]), NOW_MS);
    assert!(other.apply(vec![whole(later)], &[]).unwrap().is_applied());
    other.commit(&[(key("d0"), set("note", "last"))]).unwrap();
    let last = whole(other.state(&key("d0")).unwrap());
    let replica = &mut pair.peers[1].replica;
    assert!(replica.apply(vec![last], &[]).unwrap().is_applied());
    assert_eq!(quarantined(&pair, 1), 0);
}

//! What peers tell each other of tombstones that went, and what is asked because of it.

use std::collections::BTreeSet;

use idem_model::{ActorId, DocumentKey, DocumentOp, Dot, Timestamp, VersionVector};
use idem_sync::{Incoming, IncomingState, Lane, Replica};
use idem_wire::{CAPABILITY_DURABLE, Checked, Message};

use crate::{
    deleted::expire,
    pair::{Pair, insert, key, key_in},
};

const OTHERS: &str = "SELECT * FROM others";

/// Later than all that peers did here, in Unix milliseconds.
const NOW_MS: u64 = 10_000_000;

/// What a remote that cannot say what is durable there had so long before its HELLO, counts as durable.
const DURABLE_AFTER_MS: u64 = 5 * 60 * 1000;

/// What was said by one of two peers, and to which end.
#[derive(Default)]
struct Said {
    /// Who was told of a floor, and on which lane.
    floors: Vec<(usize, Lane)>,
    /// Who was asked about which collection.
    checks: Vec<(usize, String)>,
}

impl Said {
    fn hear(&mut self, pair: &Pair) {
        for ((_, to, lane), frames) in &pair.wires {
            for frame in frames {
                match Message::decode(frame) {
                    Ok(Message::Floor { .. }) => self.floors.push((*to, *lane)),
                    Ok(Message::Check(check)) => {
                        let name = check.collection.as_str().to_owned();
                        self.checks.push((*to, name));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// Moves frames until nothing moves, and tells what was said.
fn listen(pair: &mut Pair) -> Said {
    let mut said = Said::default();
    loop {
        pair.collect(usize::MAX);
        said.hear(pair);
        if pair.deliver() == 0 {
            pair.settle();
            return said;
        }
    }
}

fn is_there(pair: &Pair, peer: usize, key: &DocumentKey) -> bool {
    let mut documents = pair.peers[peer].replica.documents();
    documents.any(|(it, document)| it == key && document.is_present())
}

/// Two peers that want `things` and `others` of each other and have caught up.
fn caught_up() -> Pair {
    let mut pair = Pair::linked();
    for peer in &mut pair.peers {
        peer.subscribe(OTHERS);
    }
    pair.peers[0].insert_many("d", 3, 20);
    pair.peers[0].commit(&[(key_in("others", "o"), insert(&[("n", 1.into())]))]);
    pair.settle();
    pair
}

/// Lets a peer hear these messages and gives the collections that it asks about. Nothing of that reaches
/// the other one.
fn asked_after(pair: &mut Pair, peer: usize, frames: &[Message<'_>]) -> BTreeSet<String> {
    let (link, now) = (pair.links[0], pair.now);
    let it = &mut pair.peers[peer];
    let mut hear = |frame: &Message<'_>| {
        let frame = frame.to_bytes();
        it.session.handle_frame(now, &mut it.replica, link, &frame);
        it.replica.make_durable();
    };
    frames.iter().for_each(&mut hear);
    let mut asked = BTreeSet::new();
    loop {
        let it = &mut pair.peers[peer];
        let Some(transmit) = it.session.poll_transmit(now, &it.replica) else {
            return asked;
        };
        let Ok(Message::Check(check)) = Message::decode(&transmit.frame) else {
            continue;
        };
        asked.insert(check.collection.as_str().to_owned());
        // One is asked about after the other.
        let answer = Message::Checked(Checked {
            lane: Lane::Bulk,
            alias: check.alias,
            more: false,
            is_void: false,
            is_doubtful: false,
            items: Vec::new(),
            deleted: VersionVector::new(),
            evicted: VersionVector::new(),
            days: Vec::new(),
        });
        let frame = answer.to_bytes();
        it.session.handle_frame(now, &mut it.replica, link, &frame);
        it.replica.make_durable();
    }
}

#[test]
fn a_floor_is_asked_about_but_for_what_was_taken_in_in_whole() {
    let bulk = |floor| Message::Floor {
        lane: Lane::Bulk,
        floor: Timestamp::new(NOW_MS + floor, 0),
    };
    let live = |floor| Message::Floor {
        lane: Lane::Interactive,
        floor: Timestamp::new(NOW_MS + floor, 0),
    };
    let both = ["others", "things"];
    let cases: [(&[Message<'_>], &[&str]); 6] = [
        (&[bulk(7)], &[]),
        (&[live(7)], &both),
        // Whatever comes first, and however high: on its own lane it is told of what is in no feed.
        (&[bulk(7), live(7)], &both),
        (&[live(7), bulk(7)], &both),
        (&[bulk(9), live(7)], &[]),
        (&[live(7), bulk(9)], &both),
    ];
    for (frames, expected) in cases {
        let mut pair = caught_up();
        let asked = asked_after(&mut pair, 1, frames);
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        assert_eq!(asked, expected, "after {frames:?}");
        // It was answered.
        let asked = asked_after(&mut pair, 1, &[bulk(7)]);
        assert!(asked.is_empty(), "{asked:?} after {frames:?}");
    }
}

#[test]
fn a_floor_is_asked_about_for_what_is_not_caught_up_with() {
    let mut pair = Pair::linked();
    pair.peers[0].insert_many("d", 3, 20);
    pair.settle();
    pair.peers[1].subscribe(OTHERS);
    let floor = Message::Floor {
        lane: Lane::Bulk,
        floor: Timestamp::new(NOW_MS + 7, 0),
    };
    let asked = asked_after(&mut pair, 1, &[floor]);
    assert_eq!(asked, BTreeSet::from(["others".to_owned()]));
}

#[test]
fn who_has_confirmed_all_does_not_ask_about_what_it_heard_in_the_feed() {
    let mut pair = caught_up();
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    pair.settle();
    expire(&mut pair, 0);
    pair.peers[0].insert_many("e", 1, 20);
    let said = listen(&mut pair);
    assert_eq!(said.floors, [(1, Lane::Bulk)]);
    assert_eq!(said.checks, []);
    pair.assert_calm();
}

#[test]
fn who_has_confirmed_all_is_told_of_what_was_learned() {
    let mut pair = caught_up();
    pair.peers[0].insert_many("e", 1, 20);
    pair.collect(usize::MAX);
    pair.deliver();
    // What confirms it is on its way when something is learned of somebody else.
    let (now, link) = (pair.now, pair.links[0]);
    let mut frames = Vec::new();
    let it = &mut pair.peers[1];
    while let Some(transmit) = it.session.poll_transmit(now, &it.replica) {
        frames.push(transmit.frame);
    }
    let it = &mut pair.peers[0];
    let dot = Dot {
        actor: ActorId([77; 16]),
        n: 1,
    };
    let Ok(()) = (it.replica).learn_gone(&key("d0").collection, &[dot].into_iter().collect(), &[]);
    it.replica.make_durable();
    for frame in frames {
        it.session.handle_frame(now, &mut it.replica, link, &frame);
    }
    assert_eq!(
        it.session.confirmed_commit(),
        Some(it.replica.last_commit())
    );
    let said = listen(&mut pair);
    assert_eq!(said.floors.first(), Some(&(1, Lane::Interactive)));
    for name in ["others", "things"] {
        assert!(said.checks.contains(&(0, name.to_owned())), "{name}");
    }
    pair.assert_calm();
}

#[test]
fn who_catches_up_is_told_of_what_it_did_not_want_when_it_went() {
    let mut pair = Pair::linked();
    let [gone, there] = ["x", "y"].map(|id| key_in("others", id));
    for key in [&gone, &there] {
        pair.peers[0].commit(&[(key.clone(), insert(&[("n", 1.into())]))]);
    }
    // The other one has it from somebody else.
    let state = pair.peers[0].replica.state(&gone).expect("just written");
    pair.peers[0].commit(&[(gone.clone(), DocumentOp::Delete)]);
    pair.settle();
    pair.peers[0].insert_many("d", 1, 20);
    let copy = Incoming {
        key: gone.clone(),
        group: 0,
        state: IncomingState::Whole(state),
    };
    pair.settle();
    expire(&mut pair, 0);
    pair.peers[0].insert_many("e", 1, 20);
    let said = listen(&mut pair);
    assert_eq!(said.floors, [(1, Lane::Bulk)]);
    assert_eq!(said.checks, [], "it holds all that it wants");
    let replica = &mut pair.peers[1].replica;
    assert!(replica.apply(vec![copy], &[]).unwrap().is_applied());
    replica.make_durable();
    pair.peers[1].subscribe(OTHERS);
    let said = listen(&mut pair);
    assert_eq!(said.checks.first(), Some(&(0, "others".to_owned())));
    assert!(!is_there(&pair, 0, &gone), "it does not come back");
    pair.assert_calm();
}

/// The time that the second peer notes as its last sync with the first one, in Unix milliseconds, and what
/// the first one said in its HELLO.
fn noted(mut pair: Pair, change: fn(&mut u64)) -> (u64, u64) {
    pair.peers[0].subscribe("SELECT * FROM things");
    pair.peers[1].subscribe("SELECT * FROM things");
    pair.link();
    let mut told = 0;
    for _ in 0..4 {
        pair.collect(usize::MAX);
        let first = pair.wires.iter_mut().filter(|((_, to, _), _)| *to == 1);
        for frame in first.flat_map(|(_, frames)| frames) {
            if let Ok(Message::Hello(mut hello)) = Message::decode(frame) {
                change(&mut hello.capabilities);
                told = hello.timestamp.unix_ms();
                *frame = Message::Hello(hello).to_bytes();
            }
        }
        pair.deliver();
    }
    pair.settle();
    pair.assert_calm();
    let remote = pair.peers[0].id;
    let Ok(noted) = (pair.peers[1].replica).last_synced(remote, &key("d0").collection);
    (noted.expect("it caught up").unix_ms(), told)
}

/// It holds what was deleted, and has been told of nothing because it wanted nothing of the collection.
#[test]
fn who_never_wanted_what_went_does_not_bring_it_back() {
    let mut pair = Pair::linked();
    let gone = key_in("others", "x");
    pair.peers[0].commit(&[(gone.clone(), insert(&[("n", 1.into())]))]);
    let state = pair.peers[0].replica.state(&gone).expect("just written");
    let copy = Incoming {
        key: gone.clone(),
        group: 0,
        state: IncomingState::Whole(state),
    };
    let replica = &mut pair.peers[1].replica;
    assert!(replica.apply(vec![copy], &[]).unwrap().is_applied());
    replica.make_durable();
    pair.settle();
    pair.peers[0].commit(&[(gone.clone(), DocumentOp::Delete)]);
    pair.peers[0].insert_many("d", 1, 20);
    pair.settle();
    expire(&mut pair, 0);
    pair.settle();
    pair.peers[0].subscribe(OTHERS);
    pair.settle();
    assert!(!is_there(&pair, 0, &gone), "it does not come back");
    pair.assert_calm();
}

#[test]
fn who_does_not_say_what_is_durable_there_counts_as_having_had_it_later() {
    let pair = || {
        let mut pair = Pair::apart();
        pair.peers[0].insert_many("d", 3, 20);
        pair
    };
    let (noted_at, told) = noted(pair(), |_| {});
    assert_eq!(noted_at, told);
    let (noted_at, told) = noted(pair(), |it| *it &= !CAPABILITY_DURABLE);
    assert_eq!(noted_at, told - DURABLE_AFTER_MS);
    // It says so by itself, as long as something is not on its disk.
    let mut pair = pair();
    pair.peers[0].is_durable = false;
    pair.peers[0].commit(&[(key("late"), insert(&[("n", 1.into())]))]);
    let (noted_at, told) = noted(pair, |it| assert_eq!(*it & CAPABILITY_DURABLE, 0));
    assert_eq!(noted_at, told - DURABLE_AFTER_MS);
}

#[test]
fn who_has_asked_does_not_ask_again_however_soon_it_comes_back() {
    let mut pair = caught_up();
    pair.cut(pair.links[0]);
    pair.peers[0].commit(&[(key("d0"), DocumentOp::Delete)]);
    expire(&mut pair, 0);
    for (number, is_asked) in [(1, true), (1, false), (2, true), (2, false)] {
        if number == 2 && is_asked {
            // Much less than an hour after the last time.
            pair.peers[0].commit(&[(key("d1"), DocumentOp::Delete)]);
            pair.peers[0].replica.set_tombstone_ttl_ms(0);
            pair.peers[0].replica.remove_tombstones();
            pair.peers[0].replica.make_durable();
        }
        let link = pair.link();
        let said = listen(&mut pair);
        let things = (0, "things".to_owned());
        assert_eq!(said.checks.contains(&things), is_asked, "{number}");
        pair.assert_calm();
        pair.cut(link);
    }
}

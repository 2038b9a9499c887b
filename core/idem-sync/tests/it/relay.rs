//! Peers that pass on what they do not want themselves.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_model::{
    ActorId, DatabaseId, DocumentKey, DocumentOp, InsertConflict, LinkId, Object, PeerId, limits,
};
use idem_sync::{
    CloseReason, LinkProperties, MemoryReplica, OnLeave, Priority, Relay, RelayConfig, RelayEvent,
    RelayKind, SubscriptionId, SubscriptionTerms, is_relay_frame, relay_id, subscription_id_of,
};
use proptest::prelude::*;

use crate::pair::{insert, key, key_in, selector, set};

const THINGS: &str = "SELECT * FROM things";

const NOW_MS: u64 = 1_700_000_000_000;

struct Peer {
    main: MemoryReplica,
    relay: Relay,
}

/// Peers in a row, of which only the relays speak: those at the ends want something, those between carry it.
struct Row {
    now: Duration,
    peers: Vec<Peer>,
    /// Frames on their way, by link and the number of the receiver.
    links: BTreeMap<LinkId, [usize; 2]>,
    wires: BTreeMap<(LinkId, usize), VecDeque<Vec<u8>>>,
    next_link: u64,
    lives: u8,
    broken: Vec<CloseReason>,
    bytes_max: u64,
    frames: usize,
}

fn peer(number: usize) -> PeerId {
    PeerId([u8::try_from(number + 1).expect("few"); 32])
}

fn actor(byte: u8) -> ActorId {
    ActorId([byte; 16])
}

fn relay(number: usize, life: u8, cache_bytes: usize) -> Relay {
    let mut relay = Relay::new(RelayConfig {
        database: DatabaseId([7; 16]),
        local: peer(number),
        actor: actor(100 + life),
        seed: u64::from(life),
        cache_bytes,
        kind: RelayKind::Interest,
    });
    relay.set_now_ms(NOW_MS);
    relay
}

impl Row {
    fn new(count: usize, cache_bytes: usize) -> Self {
        let peers = (0..count).map(|number| {
            let life = u8::try_from(number).expect("few");
            Peer {
                main: MemoryReplica::new(actor(life + 1), NOW_MS),
                relay: relay(number, life, cache_bytes),
            }
        });
        let mut row = Self {
            now: Duration::ZERO,
            peers: peers.collect(),
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            next_link: 0,
            lives: u8::try_from(count).expect("few"),
            broken: Vec::new(),
            bytes_max: 0,
            frames: 0,
        };
        (1..count).for_each(|it| row.link(it - 1, it));
        row
    }

    fn link(&mut self, a: usize, b: usize) {
        self.next_link += 1;
        let link = LinkId(self.next_link);
        self.links.insert(link, [a, b]);
        for (one, other) in [(a, b), (b, a)] {
            let properties = LinkProperties::default();
            let it = &mut self.peers[one].relay;
            it.handle_link_up(self.now, peer(other), link, properties);
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let ends = [a.min(b), a.max(b)];
        let links = self.links.iter().filter(|(_, it)| **it == ends);
        for link in links.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.links.remove(&link);
            self.wires.retain(|(it, _), _| *it != link);
            for end in ends {
                self.peers[end].relay.handle_link_down(self.now, link);
            }
        }
    }

    /// A peer subscribes, and those who are not at the ends carry it.
    fn subscribe(&mut self, number: usize, statements: &[&str], on_leave: OnLeave) {
        let terms = SubscriptionTerms {
            priority: Priority::Normal,
            on_leave,
        };
        let own = statements.iter().map(|text| (selector(text), terms));
        let own: Vec<_> = own.collect();
        let it = &mut self.peers[number];
        it.main
            .set_subscriptions(own.iter().map(|(selector, _)| selector.clone()));
        it.relay.set_own(self.now, own);
    }

    fn carry(&mut self, number: usize, statements: &[&str]) {
        self.carry_sets(number, &[statements]);
    }

    /// Carries sets of statements, of which nothing goes together with another set.
    fn carry_sets(&mut self, number: usize, sets: &[&[&str]]) {
        let id = |text: &&str| subscription_id_of(&selector(text));
        let together = sets.iter().map(|set| set.iter().map(id).collect());
        let together: Vec<BTreeSet<_>> = together.collect();
        let statements = sets.concat();
        let named: Vec<(SubscriptionId, String)> = statements
            .iter()
            .map(|text| {
                (
                    subscription_id_of(&selector(text)),
                    selector(text).canonical(),
                )
            })
            .collect();
        let ids: BTreeSet<_> = named.iter().map(|(id, _)| *id).collect();
        let last = self.peers.len() - 1;
        let relay = &mut self.peers[number].relay;
        relay.set_carried(
            self.now,
            named.iter().map(|(id, text)| (*id, text.as_str())),
            together,
        );
        for other in [number.wrapping_sub(1), number + 1] {
            if other > last {
                continue;
            }
            let is_end = other == 0 || other == last;
            let at_relay = if is_end { BTreeSet::new() } else { ids.clone() };
            relay.set_wanted(self.now, peer(other), ids.clone(), at_relay, is_end);
        }
    }

    fn carry_between(&mut self, statements: &[&str]) {
        (1..self.peers.len() - 1).for_each(|it| self.carry(it, statements));
    }

    fn commit(&mut self, number: usize, operations: &[(DocumentKey, DocumentOp)]) {
        let it = &mut self.peers[number];
        it.main.commit(operations).expect("a valid operation");
        it.main.make_durable();
        it.relay.handle_commit(self.now, &mut it.main);
    }

    /// Writes two documents in two collections, which are to be equal everywhere.
    fn commit_pair(&mut self, number: usize, n: i64) {
        let value = upsert(n);
        self.commit(
            number,
            &[(key("a"), value.clone()), (key_in("others", "a"), value)],
        );
    }

    fn assert_is_whole(&self, number: usize) {
        let fields = |key: DocumentKey| {
            let mut documents = self.peers[number].main.documents();
            let found = documents.find(|(it, _)| **it == key);
            found.and_then(|(_, it)| it.fields()?.get("n").cloned())
        };
        assert_eq!(fields(key("a")), fields(key_in("others", "a")));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for it in &mut self.peers {
            it.relay.handle_timeout(self.now, &mut it.main);
        }
    }

    /// Sends what there is to send. Gives whether there was anything.
    fn send(&mut self) -> bool {
        let mut has_sent = false;
        for (number, it) in self.peers.iter_mut().enumerate() {
            for other in 0..9 {
                if !it.relay.is_stirred(peer(other)) {
                    continue;
                }
                while let Some(transmit) = it.relay.poll_transmit(self.now, peer(other), &it.main) {
                    has_sent = true;
                    self.frames += 1;
                    assert!(is_relay_frame(&transmit.frame));
                    if self.links.contains_key(&transmit.link) {
                        let to = self.links[&transmit.link];
                        let to = if to[0] == number { to[1] } else { to[0] };
                        let wire = self.wires.entry((transmit.link, to)).or_default();
                        wire.push_back(transmit.frame);
                    }
                }
            }
            while let Some(RelayEvent::Broken { reason, .. }) = it.relay.poll_event() {
                self.broken.push(reason);
            }
        }
        has_sent
    }

    fn step(&mut self) -> bool {
        let has_sent = self.send();
        let mut has_arrived = false;
        for ((link, to), wire) in &mut self.wires {
            if let Some(frame) = wire.pop_front() {
                has_arrived = true;
                let it = &mut self.peers[*to];
                it.relay.handle_frame(self.now, &mut it.main, *link, &frame);
                it.main.make_durable();
                it.relay.handle_commit(self.now, &mut it.main);
                self.bytes_max = self.bytes_max.max(it.relay.stats().bytes);
            }
        }
        let mut peers = self.peers.iter();
        let is_stirred = peers.any(|it| (0..9).any(|other| it.relay.is_stirred(peer(other))));
        has_sent || has_arrived || is_stirred
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let mut rounds = 0;
            while self.step() {
                rounds += 1;
                assert!(rounds < 100_000, "no rest");
            }
            // What is due within seconds is done.
            let next = self
                .peers
                .iter()
                .filter_map(|it| it.relay.poll_timeout())
                .min();
            let Some(at) = next.filter(|at| *at < self.now + Duration::from_secs(30)) else {
                return;
            };
            self.now = self.now.max(at) + Duration::from_millis(1);
            for it in &mut self.peers {
                it.relay.handle_timeout(self.now, &mut it.main);
            }
        }
        panic!("no rest");
    }

    fn documents(&self, number: usize) -> BTreeMap<DocumentKey, Vec<u8>> {
        let documents = self.peers[number].main.documents();
        documents
            .map(|(key, it)| (key.clone(), it.to_bytes()))
            .collect()
    }

    fn assert_ends_agree(&self) {
        let last = self.peers.len() - 1;
        assert_eq!(self.documents(0), self.documents(last));
        for between in 1..last {
            assert!(self.documents(between).is_empty(), "its own store has none");
        }
        assert_eq!(self.broken, []);
    }
}

fn upsert(n: i64) -> DocumentOp {
    DocumentOp::Insert {
        fields: Object::from([("n".to_owned(), n.into())]),
        kinds: Vec::new(),
        conflict: InsertConflict::DoUpdate,
    }
}

fn in_row(count: usize) -> Row {
    let mut row = Row::new(count, limits::RELAY_CACHE_BYTES);
    row.subscribe(0, &[THINGS], OnLeave::Keep);
    row.subscribe(count - 1, &[THINGS], OnLeave::Keep);
    row.carry_between(&[THINGS]);
    row
}

#[test]
fn a_peer_without_interest_connects_two_that_have_one() {
    let mut row = in_row(3);
    row.commit(0, &[(key("a"), insert(&[("n", 1.into())]))]);
    row.commit(2, &[(key("b"), insert(&[("n", 2.into())]))]);
    row.settle();
    assert_eq!(row.documents(0).len(), 2);
    row.assert_ends_agree();
    // Live, and deleted.
    row.commit(0, &[(key("b"), set("n", 3))]);
    row.commit(2, &[(key("a"), DocumentOp::Delete)]);
    row.settle();
    row.assert_ends_agree();
    assert!(row.peers[1].relay.stats().bytes > 0);
    assert_ne!(relay_id(peer(1)), peer(1));
}

#[test]
fn relays_beside_each_other_pass_on() {
    for count in [4, 6] {
        let mut row = in_row(count);
        row.commit(0, &[(key("a"), insert(&[("n", 1.into())]))]);
        row.settle();
        row.commit(count - 1, &[(key("b"), insert(&[("n", 1.into())]))]);
        row.commit(count - 1, &[(key("a"), set("n", 2))]);
        row.settle();
        assert_eq!(row.documents(0).len(), 2);
        row.assert_ends_agree();
    }
}

#[test]
fn transactions_pass_whole() {
    let mut row = in_row(3);
    let both = [THINGS, "SELECT * FROM others"];
    row.subscribe(0, &both, OnLeave::Keep);
    row.subscribe(2, &both, OnLeave::Keep);
    row.carry_between(&both);
    for n in 0..20 {
        row.commit_pair(0, n);
        while row.step() {
            row.assert_is_whole(2);
        }
    }
    row.settle();
    row.assert_ends_agree();
    assert_eq!(row.documents(2).len(), 2);
}

/// What a relay took in while it carried less is a part of transactions, and who wants all of them comes later.
#[test]
fn what_was_taken_in_by_half_is_not_passed_on() {
    let mut row = Row::new(3, limits::RELAY_CACHE_BYTES);
    row.cut(1, 2);
    let both = [THINGS, "SELECT * FROM others"];
    row.carry(1, &[THINGS]);
    (0..30).for_each(|n| row.commit_pair(0, n));
    row.settle();
    assert_eq!(row.peers[1].relay.stats().documents, 1);
    row.subscribe(2, &both, OnLeave::Keep);
    row.link(1, 2);
    row.carry(1, &both);
    row.commit_pair(0, 99);
    for _ in 0..5 {
        while row.step() {
            row.assert_is_whole(2);
        }
        row.pass(Duration::from_secs(1));
    }
    row.settle();
    assert_eq!(row.documents(2).len(), 2);
    assert_eq!(row.peers[1].relay.stats().lives, 2);
    // What has nothing to do with it may be added.
    row.carry_sets(1, &[&both, &["SELECT * FROM more"]]);
    assert_eq!(row.peers[1].relay.stats().lives, 2);
    row.carry_sets(1, &[&[both[0], both[1], "SELECT * FROM more"]]);
    assert_eq!(row.peers[1].relay.stats().lives, 3);
}

/// A relay asks the one beside it for all that it carries, as it heard; and that one carries less by now.
#[test]
fn a_relay_that_carries_a_part_gives_no_part() {
    let mut row = Row::new(4, limits::RELAY_CACHE_BYTES);
    let both = [THINGS, "SELECT * FROM others"];
    row.subscribe(3, &both, OnLeave::Keep);
    row.carry(1, &[THINGS]);
    row.carry(2, &both);
    for n in 0..5 {
        row.commit_pair(0, n);
        while row.step() {
            row.assert_is_whole(3);
        }
        row.pass(Duration::from_secs(1));
    }
    assert!(row.documents(3).is_empty());
    row.carry(1, &both);
    row.settle();
    assert_eq!(row.documents(3).len(), 2);
    assert_eq!(row.broken, []);
}

/// Relays that all are neighbours of each other pass everything on, and each document comes to each of them
/// only so often.
#[test]
fn relays_in_a_ring_come_to_rest() {
    let mut row = in_row(5);
    for (a, b) in [(1, 3), (1, 2), (2, 3)] {
        row.cut(a, b);
        row.link(a, b);
        let id = subscription_id_of(&selector(THINGS));
        for (one, other) in [(a, b), (b, a)] {
            let relay = &mut row.peers[one].relay;
            let all = || BTreeSet::from([id]);
            relay.set_wanted(row.now, peer(other), all(), all(), false);
        }
    }
    row.settle();
    let before = row.frames;
    for n in 0..10 {
        row.commit(0, &[(key("a"), upsert(n))]);
        row.settle();
    }
    row.assert_ends_agree();
    assert_eq!(row.documents(4).len(), 1);
    // Two frames with documents each way on 5 links would be 20, each with an acknowledgement, and cursors.
    assert!(row.frames - before < 10 * 100, "{}", row.frames - before);
}

#[test]
fn what_leaves_is_told_and_not_evicted_on_the_word_of_a_relay() {
    let red = "SELECT * FROM things WHERE colour = 'red'";
    let mut row = Row::new(3, limits::RELAY_CACHE_BYTES);
    row.subscribe(2, &[red], OnLeave::Evict);
    row.carry_between(&[red]);
    row.commit(0, &[(key("a"), insert(&[("colour", "red".into())]))]);
    row.settle();
    assert_eq!(row.documents(2).len(), 1);
    row.commit(0, &[(key("a"), set("colour", "blue"))]);
    row.settle();
    row.assert_ends_agree();
}

#[test]
fn a_relay_that_begins_anew_holds_nothing_and_fetches_it_again() {
    let mut row = in_row(3);
    row.commit(0, &[(key("a"), insert(&[("n", 1.into())]))]);
    row.settle();
    for a in [0, 2] {
        row.cut(1, a);
    }
    row.lives += 1;
    row.peers[1].relay = relay(1, row.lives, limits::RELAY_CACHE_BYTES);
    row.commit(2, &[(key("a"), set("n", 2))]);
    row.commit(0, &[(key("b"), insert(&[("n", 2.into())]))]);
    row.link(0, 1);
    row.link(1, 2);
    row.carry_between(&[THINGS]);
    row.settle();
    row.assert_ends_agree();
    assert_eq!(row.documents(0).len(), 2);
}

#[test]
fn what_is_carried_no_more_is_forgotten_and_its_sessions_end() {
    let mut row = in_row(4);
    row.commit(0, &[(key("a"), insert(&[("n", 1.into())]))]);
    row.settle();
    row.carry(1, &[]);
    row.carry(2, &[]);
    for (at, other) in [(1, 0), (1, 2), (2, 1), (2, 3)] {
        let none = BTreeSet::new;
        row.peers[at]
            .relay
            .set_wanted(row.now, peer(other), none(), none(), false);
    }
    row.settle();
    for it in &row.peers {
        let stats = it.relay.stats();
        assert_eq!((stats.bytes, stats.documents, stats.sessions), (0, 0, 0));
    }
    // And it begins again.
    row.commit(0, &[(key("a"), set("n", 2))]);
    row.carry_between(&[THINGS]);
    row.settle();
    row.assert_ends_agree();
}

/// The cache is smaller than what passes through it, and than what one neighbour may have under way.
#[test]
fn a_small_cache_stays_small_and_still_passes_all_on() {
    let bytes_max = 2 * 1024 * 1024;
    let mut row = Row::new(3, bytes_max);
    row.subscribe(0, &[THINGS], OnLeave::Keep);
    row.subscribe(2, &[THINGS], OnLeave::Keep);
    let large = |n: i64| {
        let text = "x".repeat(3000);
        insert(&[("n", n.into()), ("text", text.into())])
    };
    for n in 0..1500 {
        row.commit(0, &[(key(&format!("{n}")), large(n))]);
    }
    row.carry_between(&[THINGS]);
    row.settle();
    row.assert_ends_agree();
    let first = row.peers[1].relay.stats();
    assert!(first.evicted > 500, "{first:?}");
    assert_eq!(first.lives, 1);
    // Documents that are not there any more change, and some are deleted.
    for n in (0..1500).step_by(3) {
        row.commit(0, &[(key(&format!("{n}")), set("n", -1))]);
        row.commit(2, &[(key(&format!("{}", n + 1)), DocumentOp::Delete)]);
        row.step();
    }
    row.settle();
    row.assert_ends_agree();
    // Who comes later gets what is gone from the cache too.
    row.cut(1, 2);
    row.commit(0, &[(key("late"), insert(&[]))]);
    row.peers[2].main = MemoryReplica::new(actor(90), NOW_MS);
    row.peers[2].relay = relay(2, 91, bytes_max);
    row.subscribe(2, &[THINGS], OnLeave::Keep);
    row.link(1, 2);
    row.carry_between(&[THINGS]);
    row.settle();
    row.assert_ends_agree();
    assert!(row.documents(2).len() > 1000);
    assert!(row.peers[1].relay.stats().lives > 1);
    assert!(row.bytes_max <= bytes_max as u64, "{}", row.bytes_max);
}

/// What a neighbour sends that nobody takes on fills the cache up to its bound, and what others send passes on
/// all the same.
#[test]
fn a_cache_that_is_filled_on_purpose_stays_within_its_bound() {
    let bytes_max = 2 * 1024 * 1024;
    let mut row = Row::new(3, bytes_max);
    row.subscribe(2, &[THINGS], OnLeave::Keep);
    row.carry(1, &[THINGS]);
    row.settle();
    for n in 0..1500 {
        let text = "x".repeat(3000);
        row.commit(
            0,
            &[(key(&format!("junk {n}")), insert(&[("text", text.into())]))],
        );
    }
    // The subscriber reads nothing.
    let deaf = |row: &mut Row| {
        let link = row.links.iter().find(|(_, ends)| **ends == [1, 2]);
        let link = *link.expect("they are linked").0;
        row.wires.remove(&(link, 2));
    };
    for _ in 0..3000 {
        row.step();
        deaf(&mut row);
    }
    assert!(row.bytes_max > bytes_max as u64 / 2);
    assert!(row.bytes_max <= bytes_max as u64, "{}", row.bytes_max);
    row.cut(1, 2);
    row.link(1, 2);
    row.carry(1, &[THINGS]);
    row.settle();
    assert_eq!(row.documents(2).len(), 1500);
    assert!(row.bytes_max <= bytes_max as u64, "{}", row.bytes_max);
}

#[test]
fn who_does_not_relay_answers_to_nothing() {
    let mut row = Row::new(3, 0);
    row.subscribe(0, &[THINGS], OnLeave::Keep);
    row.carry_between(&[THINGS]);
    row.commit(2, &[(key("a"), insert(&[("n", 1.into())]))]);
    row.settle();
    assert!(row.documents(0).is_empty());
    assert_eq!(row.peers[1].relay.stats().sessions, 0);
}

#[derive(Clone, Debug)]
enum Happening {
    Commit(usize, u8, i64),
    Delete(usize, u8),
    Steps(u8),
    Relink(usize),
    Restart(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = prop_oneof![
        6 => (0..2usize, 0..4u8, any::<i64>()).prop_map(|(end, id, n)| Happening::Commit(end, id, n)),
        1 => (0..2usize, 0..4u8).prop_map(|(end, id)| Happening::Delete(end, id)),
        4 => (1..30u8).prop_map(Happening::Steps),
        2 => (0..3usize).prop_map(Happening::Relink),
        1 => (1..3usize).prop_map(Happening::Restart),
    ];
    proptest::collection::vec(happening, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ends_agree_whatever_happens_between(happenings in happenings()) {
        let cache_bytes = 1 << 20;
        let mut row = Row::new(4, cache_bytes);
        row.subscribe(0, &[THINGS], OnLeave::Keep);
        row.subscribe(3, &[THINGS], OnLeave::Keep);
        row.carry_between(&[THINGS]);
        for happening in happenings {
            match happening {
                Happening::Commit(end, id, n) => {
                    row.commit(3 * end, &[(key(&format!("{id}")), upsert(n))]);
                }
                Happening::Delete(end, id) => {
                    row.commit(3 * end, &[(key(&format!("{id}")), DocumentOp::Delete)]);
                }
                Happening::Steps(count) => (0..count).for_each(|_| { row.step(); }),
                Happening::Relink(at) => {
                    row.cut(at, at + 1);
                    row.link(at, at + 1);
                }
                Happening::Restart(at) => {
                    row.cut(at - 1, at);
                    row.cut(at, at + 1);
                    row.lives += 1;
                    row.peers[at].relay = relay(at, row.lives, cache_bytes);
                    row.link(at - 1, at);
                    row.link(at, at + 1);
                }
            }
            row.carry_between(&[THINGS]);
        }
        row.settle();
        row.assert_ends_agree();
        prop_assert!(row.bytes_max <= cache_bytes as u64);
    }
}

//! Sync scopes, on the side that sends and on the one that receives.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::{CollectionName, DocumentKey, DocumentOp, SyncScope, Value};
use idem_sync::{Event, Replica, SubscriptionId, subscription_id_of};
use idem_wire::Message;
use proptest::prelude::*;

use crate::pair::{Pair, insert, key, key_in, selector, session, set};

const THINGS: &str = "SELECT * FROM things";

/// What both peers want: whole collections, and parts of them.
const WANTED: [&str; 4] = [
    THINGS,
    "SELECT * FROM others",
    "SELECT * FROM coloured WHERE colour = 'red'",
    "SELECT * FROM coloured WHERE size > 5",
];

const COLLECTIONS: [&str; 3] = ["things", "others", "coloured"];

fn named(name: &str) -> CollectionName {
    CollectionName::new(name).expect("a valid name")
}

impl Pair {
    fn scope(&mut self, index: usize, name: &str, scope: SyncScope) {
        self.peers[index].replica.set_sync_scope(named(name), scope);
    }

    /// Whether a collection syncs with the other peer, as far as this one is asked.
    fn is_open(&self, index: usize, name: &CollectionName) -> bool {
        let scope = self.peers[index].replica.sync_scope(name);
        scope.includes(self.are_big[1 - index])
    }

    /// The subscriptions that a peer asked for in what is on its way.
    fn asked_by(&self, index: usize) -> BTreeSet<SubscriptionId> {
        let mut asked = BTreeSet::new();
        for ((_, to, _), frames) in &self.wires {
            for frame in frames.iter().filter(|_| *to != index) {
                if let Ok(Message::Subscribe(subscribe)) = Message::decode(frame) {
                    asked.insert(subscribe.subscription);
                }
            }
        }
        asked
    }

    fn held(&self, index: usize, name: &str) -> BTreeMap<DocumentKey, Vec<u8>> {
        let mut held = self.peers[index].documents();
        held.retain(|key, _| key.collection == named(name));
        held
    }
}

#[test]
fn a_receiver_asks_for_nothing_that_it_may_not_take() {
    for (scope, are_big) in [
        (SyncScope::LocalPeerOnly, [false, false]),
        (SyncScope::BigPeerOnly, [false, false]),
        (SyncScope::SmallPeersOnly, [true, false]),
    ] {
        let mut pair = Pair::apart();
        pair.are_big = are_big;
        pair.peers[1].subscribe(THINGS);
        pair.peers[1].subscribe("SELECT * FROM others");
        pair.scope(1, "things", scope);
        pair.peers[0].commit(&[(key("a"), insert(&[("n", 1.into())]))]);
        pair.peers[0].commit(&[(key_in("others", "b"), insert(&[("n", 1.into())]))]);
        let things = subscription_id_of(&selector(THINGS));
        pair.link();
        for _ in 0..20 {
            pair.collect(usize::MAX);
            assert!(!pair.asked_by(1).contains(&things), "{scope}");
            pair.deliver();
        }
        assert_eq!(pair.peers[0].session.stats().documents_sent, 1, "{scope}");
        assert_eq!(pair.peers[1].documents().len(), 1);
        // What opens is caught up with at once.
        pair.scope(1, "things", SyncScope::AllPeers);
        pair.settle();
        pair.assert_same();
        pair.assert_calm();
    }
}

#[test]
fn a_scope_that_closes_leaves_a_cursor_from_which_everything_comes() {
    for closing in [0, 1] {
        for is_linked_anew in [false, true] {
            let mut pair = Pair::linked();
            pair.settle();
            pair.peers[0].insert_many("a", 3, 20);
            pair.settle();
            pair.scope(closing, "things", SyncScope::LocalPeerOnly);
            pair.settle();
            pair.peers[0].insert_many("b", 3, 20);
            pair.peers[1].insert_many("c", 3, 20);
            pair.settle();
            let link = pair.links[0];
            if is_linked_anew {
                pair.cut(link);
                pair.link();
                pair.settle();
            }
            for index in 0..2 {
                assert_eq!(pair.held(index, "things").len(), 6, "peer {index}");
            }
            let sent = pair.peers[0].session.stats().documents_sent;
            pair.scope(closing, "things", SyncScope::AllPeers);
            pair.settle();
            pair.assert_same();
            pair.assert_calm();
            assert_eq!(pair.held(0, "things").len(), 9);
            // From the cursor, and not all of it.
            assert_eq!(pair.peers[0].session.stats().documents_sent, sent + 3);
        }
    }
}

#[test]
fn who_is_left_out_hears_of_it_and_when_it_ends() {
    let mut pair = Pair::linked();
    pair.settle();
    let is_news = |event: &&Event| {
        matches!(
            event,
            Event::ScopeClosed { .. } | Event::ScopeOpened { .. } | Event::OutOfScope { .. }
        )
    };
    let subscription = subscription_id_of(&selector(THINGS));
    pair.scope(0, "things", SyncScope::LocalPeerOnly);
    pair.settle();
    pair.scope(0, "things", SyncScope::AllPeers);
    pair.settle();
    let news: Vec<&Event> = pair.peers[1].events.iter().filter(is_news).collect();
    assert_eq!(
        news,
        [
            &Event::ScopeClosed { subscription },
            &Event::ScopeOpened { subscription }
        ]
    );
    assert_eq!(pair.peers[0].events.iter().find(is_news), None);
}

#[test]
fn what_is_sent_all_the_same_is_not_taken_and_comes_later() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0].commit(&[(key("a"), insert(&[("n", 1.into())]))]);
    pair.collect(usize::MAX);
    // The documents are on their way.
    pair.scope(1, "things", SyncScope::LocalPeerOnly);
    pair.settle();
    assert!(pair.peers[1].documents().is_empty());
    let refused = pair.peers[1].events.iter().find_map(|event| match event {
        Event::OutOfScope { documents, count } => Some((documents.clone(), *count)),
        _ => None,
    });
    assert_eq!(refused, Some((vec![key("a")], 1)));
    pair.scope(1, "things", SyncScope::AllPeers);
    pair.settle();
    pair.assert_same();
    pair.assert_calm();
}

/// What comes after a delta that did not fit is left out, and must not count as held when the remote
/// cannot be told yet that it is to start again.
#[test]
fn what_is_left_out_before_a_restart_that_a_scope_delays_comes_later() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[0].insert_many("a", 1, 400);
    pair.settle();
    pair.peers[1].replica.evict_documents(&[key("a0")]);
    pair.peers[1].replica.make_durable();
    pair.peers[0].commit(&[(key("a0"), set("n", 1))]);
    pair.collect(usize::MAX);
    assert!(pair.deliver() > 0, "the delta comes, and does not fit");
    pair.peers[0].commit(&[(key("b"), insert(&[("n", 1.into())]))]);
    pair.scope(1, "things", SyncScope::LocalPeerOnly);
    pair.settle();
    assert!(pair.peers[1].documents().is_empty());
    pair.scope(1, "things", SyncScope::AllPeers);
    pair.settle();
    pair.assert_same();
    pair.assert_calm();
    let restarted = |event: &&Event| matches!(event, Event::RemoteRestarted);
    assert_eq!(pair.peers[0].events.iter().filter(restarted).count(), 1);
}

/// The owner hears when a document comes at last that was not taken in, and when none is left to come.
#[test]
fn what_was_not_taken_in_is_told_of_when_it_is() {
    for is_evicted in [false, true] {
        let mut pair = Pair::linked();
        pair.settle();
        pair.peers[0].insert_many("a", 3, 20);
        pair.collect(usize::MAX);
        pair.scope(1, "things", SyncScope::LocalPeerOnly);
        pair.settle();
        let left_out = |event: &Event| match event {
            Event::OutOfScope { documents, .. } => documents.len(),
            _ => 0,
        };
        let events = std::mem::take(&mut pair.peers[1].events);
        assert_eq!(events.iter().map(left_out).sum::<usize>(), 3);
        if is_evicted {
            pair.peers[0].replica.evict_documents(&[key("a1")]).unwrap();
            pair.peers[0].replica.make_durable();
        }
        pair.peers[0].commit(&[(key("b"), insert(&[("n", 1.into())]))]);
        pair.scope(1, "things", SyncScope::AllPeers);
        pair.settle();
        let mut taken = BTreeSet::new();
        let mut is_all = false;
        for event in &pair.peers[1].events {
            match event {
                Event::TakenIn { documents } => {
                    assert!(!is_all, "it came before");
                    taken.extend(documents.iter().cloned());
                }
                Event::CollectionsCaughtUp {
                    collections,
                    are_all,
                } => {
                    assert_eq!(*collections, [named("things")]);
                    is_all |= are_all;
                }
                _ => {}
            }
        }
        let mut expected: BTreeSet<_> = ["a0", "a1", "a2"].map(key).into();
        if is_evicted {
            expected.remove(&key("a1"));
        }
        assert_eq!(taken, expected);
        assert!(is_all);
        // What came is not told of again.
        pair.peers[1].events.clear();
        pair.peers[0].commit(&[(key("a0"), set("n", 2))]);
        pair.settle();
        let is_told = |event: &&Event| matches!(event, Event::TakenIn { .. });
        assert_eq!(pair.peers[1].events.iter().find(is_told), None);
    }
}

/// A side that asks for nothing says all the same that it starts again, or its acknowledgements would wait
/// until the other one takes the link for dead.
#[test]
fn a_link_lasts_though_a_scope_closes_all_before_a_restart() {
    for closing in [0, 1] {
        let mut pair = Pair::linked();
        pair.settle();
        pair.peers[0].insert_many("a", 1, 400);
        pair.settle();
        pair.peers[1].replica.evict_documents(&[key("a0")]);
        pair.peers[1].replica.make_durable();
        pair.peers[0].commit(&[(key("a0"), set("n", 1))]);
        pair.collect(usize::MAX);
        assert!(pair.deliver() > 0, "the delta comes, and does not fit");
        pair.scope(closing, "things", SyncScope::LocalPeerOnly);
        for _ in 0..10 {
            pair.settle();
            pair.now += Duration::from_secs(30);
        }
        pair.assert_calm();
        let last = pair.peers[0].replica.durable_commit();
        pair.scope(closing, "things", SyncScope::AllPeers);
        pair.settle();
        assert_eq!(pair.peers[0].session.confirmed_commit(), Some(last));
        pair.assert_same();
        pair.assert_calm();
    }
}

/// A store is written to by other threads while a session reads it.
#[test]
fn nothing_leaves_that_a_scope_closes_while_it_is_read() {
    for is_catching_up in [false, true] {
        let mut pair = Pair::linked();
        pair.settle();
        let link = pair.links[0];
        if is_catching_up {
            pair.cut(link);
        }
        pair.peers[0].commit(&[(key("a"), insert(&[("n", 1.into())]))]);
        pair.peers[0].replica.close_once_read(named("things"));
        if is_catching_up {
            pair.link();
        }
        pair.settle();
        assert_eq!(pair.peers[0].session.stats().documents_sent, 0);
        assert!(pair.peers[1].documents().is_empty());
        pair.scope(0, "things", SyncScope::AllPeers);
        pair.settle();
        pair.assert_same();
        pair.assert_calm();
        assert_eq!(pair.peers[1].documents().len(), 1);
    }
}

/// That nothing is told of what is held must not be taken for that nothing is held.
#[test]
fn what_leaves_while_it_is_closed_is_told_later() {
    let mut pair = Pair::apart();
    pair.peers[1].subscribe("SELECT * FROM things WHERE colour = 'red'");
    pair.link();
    pair.peers[0].commit(&[(key("a"), insert(&[("colour", "red".into())]))]);
    pair.settle();
    pair.peers[0].commit(&[(key("a"), set("colour", "blue"))]);
    pair.collect(usize::MAX);
    pair.scope(1, "things", SyncScope::LocalPeerOnly);
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "colour"), Some("red".into()));
    pair.scope(1, "things", SyncScope::AllPeers);
    pair.settle();
    assert_eq!(pair.peers[1].field("a", "colour"), Some("blue".into()));
}

#[test]
fn nothing_is_told_of_a_collection_that_stays_here() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.peers[1].commit(&[(key("secret"), insert(&[("n", 1.into())]))]);
    pair.settle();
    pair.scope(1, "things", SyncScope::LocalPeerOnly);
    pair.peers[1].commit(&[(key("secret"), set("n", 2))]);
    pair.settle();
    // A document large enough to be asked about first.
    let link = pair.links[0];
    let have = Message::Have {
        lane: idem_sync::Lane::Interactive,
        number: 1,
        documents: vec![idem_wire::Announced {
            key: key("secret"),
            version: [0; 8],
        }],
    };
    let peer = &mut pair.peers[1];
    peer.session
        .handle_frame(pair.now, &mut peer.replica, link, &have.to_bytes());
    let mut holdings = Vec::new();
    while let Some(sent) = peer.session.poll_transmit(pair.now, &peer.replica) {
        if let Ok(Message::Answer { holdings: told, .. }) = Message::decode(&sent.frame) {
            holdings.extend(told);
        }
    }
    assert_eq!(holdings, [idem_wire::HeldVersion::Unnamed]);
}

#[test]
fn what_the_remote_holds_is_not_confirmed_before_it_has_asked_again() {
    let mut pair = Pair::linked();
    pair.settle();
    pair.scope(0, "things", SyncScope::LocalPeerOnly);
    pair.peers[0].insert_many("a", 1, 20);
    pair.settle();
    // What does not leave is not waited for.
    let commit = pair.peers[0].replica.last_commit();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(commit));
    pair.scope(0, "things", SyncScope::AllPeers);
    while pair.held(1, "things").is_empty() {
        pair.collect(usize::MAX);
        let confirmed = pair.peers[0].session.confirmed_commit();
        assert!(confirmed.is_some_and(|it| it < commit), "{confirmed:?}");
        assert!(pair.deliver() > 0, "it comes");
    }
    pair.settle();
    assert_eq!(pair.peers[0].session.confirmed_commit(), Some(commit));
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    Scope(usize, usize, SyncScope),
    Write(usize, Vec<(usize, usize, u8)>),
    /// So many frames of each session leave, and all that is under way arrives, or what is on some lanes.
    Move(usize, bool),
    Relink,
    /// The process of a peer ends.
    Restart(usize),
    Unsubscribe(usize, usize),
    Subscribe(usize, usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let peer = || 0..2usize;
    let scope = prop::sample::select(SyncScope::ALL.to_vec());
    let write = (0..COLLECTIONS.len(), 0..5usize, 0..6u8);
    prop_oneof![
        4 => (peer(), 0..COLLECTIONS.len(), scope).prop_map(|(p, c, s)| Happening::Scope(p, c, s)),
        8 => (peer(), prop::collection::vec(write, 1..4)).prop_map(|(p, w)| Happening::Write(p, w)),
        8 => (1..4usize, any::<bool>()).prop_map(|(n, all)| Happening::Move(n, all)),
        1 => Just(Happening::Relink),
        1 => peer().prop_map(Happening::Restart),
        1 => (peer(), 0..WANTED.len()).prop_map(|(p, s)| Happening::Unsubscribe(p, s)),
        1 => (peer(), 0..WANTED.len()).prop_map(|(p, s)| Happening::Subscribe(p, s)),
    ]
}

/// Two peers, and what each of them wants.
struct Scene {
    pair: Pair,
    wanted: [BTreeSet<usize>; 2],
    /// Whether nothing waits inside of a session when a scope changes.
    is_strict: bool,
    seed: u64,
    value: i64,
}

impl Scene {
    fn new(are_big: [bool; 2], is_strict: bool) -> Self {
        let mut pair = Pair::apart();
        pair.are_big = are_big;
        let mut scene = Self {
            pair,
            wanted: Default::default(),
            is_strict,
            seed: 1000,
            value: 0,
        };
        for (peer, number) in (0..2).flat_map(|peer| (0..WANTED.len()).map(move |it| (peer, it))) {
            scene.subscribe(peer, number);
        }
        scene.pair.link();
        scene
    }

    fn subscribe(&mut self, peer: usize, number: usize) {
        if self.wanted[peer].insert(number) {
            self.pair.peers[peer].subscribe(WANTED[number]);
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Scope(peer, collection, scope) => {
                if self.is_strict {
                    self.pair.collect(usize::MAX);
                }
                self.pair.scope(*peer, COLLECTIONS[*collection], *scope);
            }
            Happening::Write(peer, writes) => self.write(*peer, writes),
            Happening::Move(frames, is_all) => self.transport(*frames, *is_all),
            Happening::Relink => self.relink(),
            Happening::Restart(peer) => {
                self.seed += 1;
                let number = self.pair.peers[*peer].id.0[0];
                for link in self.pair.links.clone() {
                    self.pair.cut(link);
                }
                self.pair.peers[*peer].session = session(number, 3 - number, self.seed);
                for number in std::mem::take(&mut self.wanted[*peer]) {
                    self.subscribe(*peer, number);
                }
                self.pair.link();
            }
            Happening::Unsubscribe(peer, number) => {
                if self.wanted[*peer].remove(number) {
                    let subscription = subscription_id_of(&selector(WANTED[*number]));
                    self.pair.peers[*peer].session.unsubscribe(subscription);
                }
            }
            Happening::Subscribe(peer, number) => self.subscribe(*peer, *number),
        }
    }

    fn relink(&mut self) {
        for link in self.pair.links.clone() {
            self.pair.cut(link);
        }
        self.pair.link();
    }

    fn write(&mut self, peer: usize, writes: &[(usize, usize, u8)]) {
        let mut operations = BTreeMap::new();
        for (collection, id, what) in writes {
            self.value += 1;
            let key = key_in(COLLECTIONS[*collection], &format!("d{id}"));
            let holds = self.pair.peers[peer].documents().contains_key(&key);
            let colour = if what % 2 == 0 { "red" } else { "blue" };
            let operation = match (holds, what) {
                (false, _) => insert(&[
                    ("colour", colour.into()),
                    ("size", Value::Int(self.value % 10)),
                    ("text", format!("{:0>200}", self.value).into()),
                ]),
                (true, 0) => DocumentOp::Delete,
                (true, 1 | 2) => set("size", self.value % 10),
                (true, _) => set("colour", colour),
            };
            operations.insert(key, operation);
        }
        let operations: Vec<_> = operations.into_iter().collect();
        // An id that was deleted cannot be inserted in a test that reads what is there.
        let _ = self.pair.peers[peer].replica.commit(&operations);
        self.pair.peers[peer].replica.make_durable();
    }

    /// Moves frames, and sees that nothing crosses what is closed.
    fn transport(&mut self, frames: usize, is_all: bool) {
        let pair = &mut self.pair;
        let asked_before = [0, 1].map(|index| pair.asked_by(index));
        pair.collect(frames);
        let mut closed = Vec::new();
        for (index, before) in asked_before.iter().enumerate() {
            let asked = pair.asked_by(index);
            for statement in WANTED {
                let selector = selector(statement);
                let id = subscription_id_of(&selector);
                if pair.is_open(index, selector.collection()) {
                    continue;
                }
                let is_new = asked.contains(&id) && !before.contains(&id);
                assert!(
                    !is_new || !self.is_strict,
                    "peer {index} asks for what it may not take"
                );
            }
            for name in COLLECTIONS {
                if !pair.is_open(index, &named(name)) {
                    closed.push((index, name, pair.held(index, name)));
                }
            }
        }
        match is_all {
            true => pair.deliver(),
            false => pair.deliver_on(&[idem_sync::Lane::Control, idem_sync::Lane::Interactive]),
        };
        for (index, name, before) in closed {
            assert!(pair.held(index, name) == before, "peer {index} took {name}");
        }
    }

    /// Everything opens, and both come to hold the same.
    fn finish(mut self) {
        for peer in 0..2 {
            for name in COLLECTIONS {
                self.pair.scope(peer, name, SyncScope::AllPeers);
            }
            (0..WANTED.len()).for_each(|number| self.subscribe(peer, number));
        }
        self.pair.settle();
        self.pair.assert_calm();
        for name in ["things", "others"] {
            let [a, b] = [0, 1].map(|index| self.pair.held(index, name));
            assert!(a == b, "{name} is the same");
        }
        let [a, b] = [0, 1].map(|index| self.pair.held(index, "coloured"));
        for key in a.keys().chain(b.keys()) {
            let is_selected = [0, 1].iter().any(|index| self.is_selected(*index, key));
            if is_selected {
                assert!(a.get(key) == b.get(key), "{key} is the same");
            }
        }
    }

    fn is_selected(&self, index: usize, key: &DocumentKey) -> bool {
        let mut documents = self.pair.peers[index].replica.documents();
        let document = documents.find(|(it, _)| *it == key);
        let fields = document.and_then(|(_, it)| it.fields());
        let is_it = |fields: &_| WANTED[2..].iter().any(|it| selector(it).matches(fields));
        fields.is_some_and(|fields| is_it(&fields))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scopes_that_open_and_close_lose_nothing(
        are_big in prop::sample::select(vec![[false, false], [true, false], [false, true]]),
        is_strict in any::<bool>(),
        happenings in prop::collection::vec(happening(), 0..80),
    ) {
        let mut scene = Scene::new(are_big, is_strict);
        happenings.iter().for_each(|it| scene.happen(it));
        scene.finish();
    }
}

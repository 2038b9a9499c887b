//! The store and its double give replication the same.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{ActorId, CollectionName, DocumentKey, PeerId, VersionVector};
use idem_query::Selector;
use idem_sync::{
    Changed, EvictReason, Incoming, IncomingState, MemoryReplica, Replica, ScopeFilter, ScopeState,
    subscription_id_of,
};

use super::Disk;
use crate::{
    engine::Engine,
    options::Options,
    random::Random,
    workload::{COLLECTIONS, draw},
};

const START_MS: u64 = 1_000_000;

/// A store, its double with the same history, and a peer that both hear from.
struct Twins {
    random: Random,
    options: Options,
    now_ms: u64,
    serial: i64,
    store: Disk,
    double: Disk,
    peer: Disk,
    /// Whether documents are put into quarantine, and tombstones removed.
    hides: bool,
}

fn collections() -> Vec<CollectionName> {
    let names = COLLECTIONS.into_iter();
    names
        .map(|name| CollectionName::new(name).expect("a valid name"))
        .collect()
}

impl Twins {
    fn new(seed: u64) -> Self {
        let engine = Engine::new(seed, collections());
        let memory = |actor| Disk::memory(MemoryReplica::new(actor, START_MS), None);
        Self {
            random: Random::new(seed),
            options: Options::from_seed(seed),
            now_ms: START_MS,
            hides: seed % 4 < 2,
            serial: 0,
            double: memory(engine.actor()),
            store: Disk::engine(engine, None),
            peer: memory(ActorId([0xaa; 16])),
        }
    }

    fn step(&mut self) {
        self.now_ms += match self.random.below(40) {
            0 => 4 * 24 * 60 * 60 * 1000,
            _ => self.random.below(5),
        };
        for disk in [&mut self.store, &mut self.double, &mut self.peer] {
            disk.set_now_ms(self.now_ms);
        }
        self.serial += 1;
        match self.random.below(12) {
            10 if self.hides => self.quarantine(),
            11 if self.hides => {
                self.store.remove_tombstones();
                self.double.remove_tombstones();
                assert_eq!(self.store.gc_floor(), self.double.gc_floor());
            }
            0..6 => {
                let operations = draw(&mut self.random, &self.options, self.serial).operations;
                let [a, b] = [&mut self.store, &mut self.double].map(|it| it.commit(&operations));
                assert_eq!(a, b, "{operations:?}");
            }
            6..=9 => {
                let operations = draw(&mut self.random, &self.options, self.serial).operations;
                self.peer.commit(&operations);
                self.peer.make_durable();
            }
            _ => self.hear(),
        }
    }

    /// Puts some documents into quarantine, and takes some out of it.
    fn quarantine(&mut self) {
        let mut some = || -> Vec<DocumentKey> {
            let mut keys: Vec<DocumentKey> = self.double.states().into_keys().collect();
            keys.retain(|_| self.random.chance(20));
            keys
        };
        let (enter, leave) = (some(), some());
        let counts = [&mut self.store, &mut self.double].map(|disk| {
            let entered = disk.quarantine(&enter, PeerId([5; 32]));
            let left = disk.leave_quarantine(&leave);
            [entered, left].map(|count| count.expect("it works"))
        });
        assert_eq!(counts[0], counts[1]);
    }

    /// Merges some of what the peer has.
    fn hear(&mut self) {
        let name = COLLECTIONS[self.random.index(COLLECTIONS.len())];
        let after = self.random.below(self.peer.last_commit() + 1);
        let name = CollectionName::new(name).expect("a valid name");
        let batch = self
            .peer
            .changed_since(&name, after, 0, 2000)
            .expect("it works");
        let groups = batch.groups.into_iter().zip(0..);
        let incoming = groups.flat_map(|(group, number)| {
            group.into_iter().map(move |changed| Incoming {
                key: changed.key,
                group: number,
                state: IncomingState::Whole(changed.document),
            })
        });
        let incoming: Vec<Incoming> = incoming.collect();
        let reports = [&mut self.store, &mut self.double]
            .map(|disk| disk.apply(incoming.clone(), &[]).expect("it works"));
        assert_eq!(reports[0], reports[1]);
    }

    /// Some evictions, between merges only: whoever writes to what it evicted takes a new actor,
    /// which the two draw from different sources.
    fn evict(&mut self) {
        for disk in [&mut self.store, &mut self.double] {
            disk.set_subscriptions(SCOPES[..6].iter().map(|text| selector(text)));
        }
        let all: Vec<DocumentKey> = self.double.states().into_keys().collect();
        for _ in 0..8 {
            let mut keys: Vec<DocumentKey> = self.double.states().into_keys().collect();
            keys.retain(|_| self.random.chance(20));
            let evicted =
                [&mut self.store, &mut self.double].map(|disk| disk.evict_documents(&keys));
            assert_eq!(evicted[0], evicted[1]);
            let mut doubted = all.clone();
            doubted.retain(|_| self.random.chance(20));
            let counts = [&mut self.store, &mut self.double].map(|disk| {
                let floors = [disk.gc_floor(), disk.learned_floor()];
                let count = disk.doubt_evicted(&doubted).expect("it works");
                let now = match count {
                    0 => floors,
                    _ => [disk.timestamp(); 2],
                };
                assert_eq!([disk.gc_floor(), disk.learned_floor()], now);
                count
            });
            assert_eq!(counts[0], counts[1]);
            let mut documents: Vec<(DocumentKey, VersionVector)> = Vec::new();
            for (key, bytes) in self.double.states() {
                let chance = self.random.below(100);
                let version = idem_crdt::encoded_version(&bytes).expect("a document");
                match chance {
                    0..20 => documents.push((key, version)),
                    20..30 => documents.push((key, VersionVector::new())),
                    _ => {}
                }
            }
            let reason = match self.random.chance(50) {
                true => EvictReason::Left,
                false => EvictReason::Deleted,
            };
            let evicted = [&mut self.store, &mut self.double]
                .map(|disk| disk.evict(&documents, reason).expect("it works"));
            assert_eq!(evicted[0], evicted[1]);
            self.hear();
        }
    }

    /// Is told what the peer has forgotten, or that and more.
    fn hear_of_deletions(&mut self) {
        self.now_ms += 20 * 24 * 60 * 60 * 1000;
        for disk in [&mut self.store, &mut self.double, &mut self.peer] {
            disk.set_now_ms(self.now_ms);
        }
        let rounds = self.random.below(3);
        for _ in 0..4 {
            self.peer.remove_tombstones();
        }
        for _ in 0..rounds {
            self.store.remove_tombstones();
            self.double.remove_tombstones();
        }
        for collection in collections() {
            let gone = self.peer.gone(&collection).expect("it works");
            let deleted = gone.expect("of few actors").deleted;
            let mut days = self.peer.deleted_days(&collection).expect("it works");
            if self.random.chance(30)
                && let Some(last) = days.last_mut()
            {
                last.heard = last.heard.wrapping_add(1);
            }
            let are_news = [&mut self.store, &mut self.double].map(|disk| {
                let floor = disk.gc_floor();
                let learned = disk.learn_gone(&collection, &deleted, &days);
                learned.expect("it works");
                let is_news = disk.gc_floor() > floor;
                assert!(!is_news || disk.learned_floor() == disk.gc_floor());
                is_news
            });
            assert_eq!(are_news[0], are_news[1], "{days:?}");
        }
    }

    fn make_durable(&mut self) {
        self.store.make_durable();
        self.double.make_durable();
    }
}

fn selector(statement: &str) -> Selector {
    let statement = idem_query::parse(statement).expect("a statement");
    statement
        .subscription(&idem_model::Object::new())
        .expect("a subscription")
}

type Item = (Vec<u8>, Vec<u8>, ScopeState);

fn scan(disk: &Disk, selector: &Selector, filter: ScopeFilter) -> (u64, BTreeSet<Item>) {
    let mut items = BTreeSet::new();
    let subscription = subscription_id_of(selector);
    let commit = disk.scan_scope(subscription, selector, filter, &mut |item| {
        let is_first = items.insert((item.id.to_vec(), item.version.to_vec(), item.state));
        assert!(is_first, "visited once");
        ControlFlow::Continue(())
    });
    (commit.expect("it works"), items)
}

fn scan_known(disk: &Disk, collection: &CollectionName) -> BTreeSet<Item> {
    let mut items = BTreeSet::new();
    let scanned = disk.scan_known(collection, &mut |item| {
        let is_first = items.insert((item.id.to_vec(), item.version.to_vec(), item.state));
        assert!(is_first, "visited once");
        ControlFlow::Continue(())
    });
    scanned.expect("it works");
    items
}

const SCOPES: [&str; 7] = [
    "SELECT * FROM things",
    "SELECT * FROM others WHERE f1 IS NOT MISSING",
    "SELECT * FROM things WHERE _id = 'd1'",
    "SELECT * FROM things WHERE _id IN ('d0', 'd2', 'pair0') AND f0 > 10",
    "SELECT * FROM tallies WHERE sum > 40 OR name = 'x'",
    "SELECT * FROM things WHERE map.f1 > 3 OR _id LIKE 'pair%'",
    "SELECT * FROM nothing_here",
];

#[test]
fn a_scope_is_the_same_in_the_store_and_in_its_double() {
    let (mut selected, mut tombstones, mut evicted) = (0, 0, 0);
    for seed in 0..48 {
        let mut twins = Twins::new(seed);
        for _ in 0..60 {
            twins.step();
        }
        if seed % 2 == 0 {
            twins.evict();
        }
        twins.make_durable();
        for scope in SCOPES {
            let selector = selector(scope);
            for filter in [ScopeFilter::Selected, ScopeFilter::All] {
                let found = scan(&twins.store, &selector, filter);
                let expected = scan(&twins.double, &selector, filter);
                assert_eq!(found, expected, "seed {seed}: {scope}, {filter:?}");
                let count = |state| found.1.iter().filter(|item| item.2 == state).count();
                tombstones += count(ScopeState::Tombstone);
                evicted += count(ScopeState::Evicted);
                if filter == ScopeFilter::Selected && !selector.is_unfiltered() {
                    selected += count(ScopeState::Live);
                }
            }
        }
    }
    assert!(
        selected > 100 && tombstones > 100 && evicted > 100,
        "{selected} {tombstones} {evicted}"
    );
}

#[test]
fn what_is_known_is_the_same_in_the_store_and_in_its_double() {
    let (mut quarantined, mut evicted, mut doubtful, mut days) = (0, 0, 0, 0);
    for seed in 0..40 {
        let mut twins = Twins::new(seed);
        for _ in 0..80 {
            twins.step();
        }
        if seed % 2 == 0 {
            twins.evict();
        }
        if seed % 3 != 0 {
            twins.hear_of_deletions();
        }
        for collection in collections() {
            let found = scan_known(&twins.store, &collection);
            let expected = scan_known(&twins.double, &collection);
            assert_eq!(found, expected, "seed {seed}: {collection}");
            let heard = [&twins.store, &twins.double].map(|it| it.deleted_days(&collection));
            let [store, double] = heard.map(|it| it.expect("it works"));
            assert_eq!(store, double, "seed {seed}: {collection}");
            days += store.len();
            let [store, double] = [&twins.store, &twins.double].map(|it| it.gone(&collection));
            assert_eq!(
                store.expect("it works"),
                double.expect("it works"),
                "seed {seed}: {collection}"
            );
            let count = |state| found.iter().filter(|item| item.2 == state).count();
            quarantined += count(ScopeState::Quarantined);
            evicted += count(ScopeState::Evicted);
            doubtful += count(ScopeState::Doubtful);
        }
    }
    assert!(
        quarantined > 20 && evicted > 20 && doubtful > 20,
        "{quarantined} {evicted} {doubtful}"
    );
    assert!(days > 20, "{days}");
}

/// All documents of a call, however many pages it took.
fn changed(disk: &Disk, keys: &[DocumentKey], held_to: u64, bytes_max: usize) -> Vec<Vec<Changed>> {
    let mut rest = keys;
    let mut all = Vec::new();
    loop {
        let (groups, consumed) = disk
            .changed_documents(rest, held_to, bytes_max)
            .expect("it works");
        assert!(consumed > 0 || rest.is_empty(), "it goes on");
        all.extend(groups);
        rest = &rest[consumed..];
        if rest.is_empty() {
            return all;
        }
    }
}

fn set(groups: &[Vec<Changed>]) -> BTreeSet<(DocumentKey, u64, Vec<u8>)> {
    let changed = groups.iter().flatten().cloned();
    changed.map(|it| (it.key, it.commit, it.document)).collect()
}

#[test]
fn changed_documents_are_the_same_in_the_store_and_in_its_double() {
    let (mut joined, mut hidden) = (0, 0);
    for seed in 0..40 {
        let mut twins = Twins::new(seed);
        for _ in 0..60 {
            twins.step();
        }
        twins.make_durable();
        let states = twins.double.states();
        // Read from the feed, so without what is in quarantine.
        let travelling = twins.store.states();
        hidden += states.len() - travelling.len();
        for _ in 0..20 {
            let mut keys: Vec<DocumentKey> = states.keys().cloned().collect();
            let few = twins.random.below(100);
            keys.retain(|_| twins.random.chance(few));
            keys.push(crate::workload::key("things", "never there"));
            let held_to = twins.random.below(twins.double.last_commit() + 1);
            for held_to in [0, held_to] {
                let found = changed(&twins.store, &keys, held_to, usize::MAX);
                let expected = changed(&twins.double, &keys, held_to, usize::MAX);
                let of_keys = |groups: &[Vec<Changed>]| {
                    let mut set = set(groups);
                    set.retain(|(key, ..)| keys.contains(key));
                    set
                };
                assert_eq!(of_keys(&found), of_keys(&expected), "seed {seed}");
                // All that is there and not in quarantine.
                let travelling = keys.iter().filter(|key| travelling.contains_key(key));
                assert_eq!(of_keys(&found).len(), travelling.count());
                for group in [&found, &expected].into_iter().flatten().flatten() {
                    // What is held stays out; what a later transaction brought in does not.
                    let is_asked = keys.contains(&group.key);
                    let is_other = !keys.iter().any(|it| it.collection == group.key.collection);
                    assert!(is_asked || is_other || group.commit > held_to);
                }
                let paged = changed(&twins.store, &keys, held_to, 100);
                assert_eq!(of_keys(&paged), of_keys(&found), "seed {seed}");
                if held_to == 0 {
                    let groups = |of: &[Vec<Changed>]| -> BTreeSet<BTreeSet<DocumentKey>> {
                        let keys = |it: &Vec<Changed>| it.iter().map(|it| it.key.clone()).collect();
                        of.iter().map(keys).collect()
                    };
                    let (found, expected) = (groups(&found), groups(&expected));
                    // The store follows what documents that are hidden now once joined.
                    let is_within = |it: &BTreeSet<_>| found.iter().any(|all| it.is_subset(all));
                    assert!(expected.iter().all(is_within), "seed {seed}: {keys:?}");
                    assert!(twins.hides || found == expected, "seed {seed}: {keys:?}");
                    joined += found.iter().filter(|group| group.len() > 1).count();
                }
            }
        }
    }
    assert!(joined > 100 && hidden > 20, "{joined} {hidden}");
}

//! What is kept of evicted documents, and for how long.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{ActorId, DocumentKey, Object, PeerId, VersionVector};
use idem_query::Selector;
use idem_store::{
    Cancellation, Cursor, CursorUpdate, EvictReason, ScopeFilter, ScopeState, SimulatedDisk, Store,
    StoreConfig, Subscription, SubscriptionHash,
};

use crate::fixture::{TestClock, assert_sound, collection, id, memory, run, send};

const PEER: PeerId = PeerId([9; 32]);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const START_MS: u64 = 1_000 * DAY_MS;

fn selector(text: &str) -> Selector {
    let statement = idem_query::parse(text).unwrap();
    statement.subscription(&Object::new()).unwrap()
}

/// The name that these tests give a subscription.
fn name(text: &str) -> SubscriptionHash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

fn subscribe(store: &Store, texts: &[&str]) {
    let subscriptions = texts.iter().map(|text| Subscription {
        id: name(text),
        selector: selector(text),
    });
    store.interest().unwrap().set(subscriptions);
}

/// Ids and versions of what counts as held though it was evicted.
fn markers(store: &Store, text: &str) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let mut found = BTreeSet::new();
    let filter = ScopeFilter::Selected;
    store
        .scan_scope(&name(text), &selector(text), filter, &mut |item| {
            if item.state == ScopeState::Evicted {
                found.insert((item.id.to_vec(), item.version.to_vec()));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn key(text: &str) -> DocumentKey {
    DocumentKey {
        collection: collection("t"),
        id: id(text),
    }
}

fn open(disk: &SimulatedDisk, clock: &TestClock) -> Store {
    let config = StoreConfig::simulated(disk.clone()).clock(clock.clock());
    Store::open(config).unwrap()
}

const ALL: &str = "SELECT * FROM t";
const HIGH: &str = "SELECT * FROM t WHERE v > 10";
const LOW: &str = "SELECT * FROM t WHERE v <= 10";
const OTHER: &str = "SELECT * FROM other";

#[test]
fn an_evicted_document_counts_as_held_where_it_matched() {
    let (peer, store) = (memory(), memory());
    run(
        &peer,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1}), ({'_id': 'b', 'v': 20})",
    );
    send(&peer, &store, "t", 0, usize::MAX);
    subscribe(&store, &[ALL, HIGH, LOW, OTHER]);
    let version_of = |id: &str| {
        let mut version = Vec::new();
        peer.document_version(&key(id))
            .unwrap()
            .encode(&mut version);
        (key(id).id.to_key(), version)
    };
    run(&store, "EVICT FROM t");
    assert_eq!(
        markers(&store, ALL),
        [version_of("a"), version_of("b")].into()
    );
    assert_eq!(markers(&store, HIGH), [version_of("b")].into());
    assert_eq!(markers(&store, LOW), [version_of("a")].into());
    assert_eq!(markers(&store, OTHER), BTreeSet::new());
    assert_eq!(
        markers(&store, "SELECT * FROM t WHERE v = 20"),
        BTreeSet::new()
    );
    assert_sound(&store);

    // It comes back, by a newer state or by a write.
    run(&peer, "UPDATE t SET v = 2 WHERE _id = 'a'");
    send(&peer, &store, "t", 1, usize::MAX);
    assert_eq!(markers(&store, ALL), [version_of("b")].into());
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'b', 'v': 3})");
    assert_eq!(markers(&store, ALL), BTreeSet::new());
    assert_sound(&store);
}

#[test]
fn without_a_subscription_nothing_is_kept() {
    let (peer, store) = (memory(), memory());
    run(&peer, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1})");
    send(&peer, &store, "t", 0, usize::MAX);
    run(&store, "EVICT FROM t");
    subscribe(&store, &[ALL]);
    assert_eq!(markers(&store, ALL), BTreeSet::new());
}

#[test]
fn markers_outlive_the_process_and_a_power_loss() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::at(START_MS));
    let peer = open(&SimulatedDisk::new(), &clock);
    run(&peer, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1})");
    let store = open(&disk, &clock);
    send(&peer, &store, "t", 0, usize::MAX);
    subscribe(&store, &[ALL]);
    run(&store, "EVICT FROM t");
    let expected = markers(&store, ALL);
    assert_eq!(expected.len(), 1);
    drop(store);
    disk.crash(1);
    let store = open(&disk, &clock);
    assert_eq!(markers(&store, ALL), expected);
    assert_sound(&store);
    // Only what was there is there again.
    send(&peer, &store, "t", 0, usize::MAX);
    assert_eq!(markers(&store, ALL), BTreeSet::new());
    assert_sound(&store);
}

/// What is in doubt is still held in its subscriptions, and that outlives the process.
#[test]
fn a_marker_that_is_in_doubt_stays_one() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::at(START_MS));
    let peer = open(&SimulatedDisk::new(), &clock);
    run(
        &peer,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 20}), ({'_id': 'b', 'v': 1}), ({'_id': 'c'})",
    );
    let store = open(&disk, &clock);
    send(&peer, &store, "t", 0, usize::MAX);
    subscribe(&store, &[ALL, HIGH]);
    run(&store, "EVICT FROM t WHERE _id IN ('a', 'b')");
    let expected = [ALL, HIGH].map(|text| markers(&store, text));
    assert_eq!(known(&store, ScopeState::Evicted), ids(&["a", "b"]));
    let doubt = |store: &Store| {
        let keys = ["a", "c", "never there"].map(key);
        store.doubt_evicted(&keys, &Cancellation::new()).unwrap()
    };
    let floor = store.gc_floor();
    assert_eq!(doubt(&store), 1, "c is here");
    assert!(store.gc_floor() > floor && store.learned_floor() == store.gc_floor());
    let floor = store.gc_floor();
    assert_eq!(doubt(&store), 0, "it is already");
    assert_eq!(store.gc_floor(), floor);
    store.wait_durable(store.last_commit()).unwrap();
    run(&store, "UPDATE t SET v = 2 WHERE _id = 'c'");
    drop(store);
    disk.crash(1);
    let store = open(&disk, &clock);
    subscribe(&store, &[ALL, HIGH]);
    assert_eq!(known(&store, ScopeState::Doubtful), ids(&["a"]));
    assert_eq!(known(&store, ScopeState::Evicted), ids(&["b"]));
    assert_eq!([ALL, HIGH].map(|text| markers(&store, text)), expected);
    assert_eq!(store.gc_floor(), floor);
    assert_sound(&store);

    // One of two subscriptions ends, and both.
    for (ended, doubtful) in [(ALL, &["a"][..]), (HIGH, &[])] {
        store.interest().unwrap().end(name(ended));
        subscribe(&store, &[]);
        store.upkeep().unwrap();
        assert_eq!(known(&store, ScopeState::Doubtful), ids(doubtful));
        assert_sound(&store);
    }
    // It comes back and is evicted once more.
    subscribe(&store, &[ALL]);
    send(&peer, &store, "t", 0, usize::MAX);
    run(&store, "EVICT FROM t WHERE _id = 'a'");
    assert_eq!(known(&store, ScopeState::Evicted), ids(&["a"]));
    assert_sound(&store);
}

fn ids(ids: &[&str]) -> BTreeSet<Vec<u8>> {
    ids.iter().map(|text| id(text).to_key()).collect()
}

/// Ids of all documents in a state.
fn known(store: &Store, state: ScopeState) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    store
        .scan_known(&collection("t"), &mut |item| {
            if item.state == state {
                found.insert(item.id.to_vec());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

#[test]
fn a_subscription_that_ends_takes_its_markers_and_cursors_along() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::at(START_MS));
    let peer = open(&SimulatedDisk::new(), &clock);
    for number in 0..2500 {
        run(
            &peer,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}, 'v': {number}}})"),
        );
    }
    let store = open(&disk, &clock);
    send(&peer, &store, "t", 0, usize::MAX);
    subscribe(&store, &[ALL, HIGH]);
    let cursor = Cursor {
        actor: ActorId([1; 16]),
        commit: 7,
    };
    let update = |text: &str| CursorUpdate {
        peer: PeerId([9; 32]),
        subscription: name(text).to_vec(),
        cursor: Some(cursor),
    };
    store
        .apply(Vec::new(), &[update(ALL), update(HIGH)])
        .unwrap();
    run(&store, "EVICT FROM t");
    assert_eq!(markers(&store, ALL).len(), 2500);
    assert_eq!(markers(&store, HIGH).len(), 2489);

    subscribe(&store, &[HIGH]);
    store.interest().unwrap().end(name(ALL));
    store.upkeep().unwrap();
    subscribe(&store, &[ALL, HIGH]);
    assert_eq!(markers(&store, ALL), BTreeSet::new());
    assert_eq!(markers(&store, HIGH).len(), 2489);
    let stored = |text| store.cursor(PeerId([9; 32]), &name(text)).unwrap();
    assert_eq!((stored(ALL), stored(HIGH)), (None, Some(cursor)));
    // It checks that the rest was swept, and counted right.
    assert_sound(&store);

    store.interest().unwrap().end(name(HIGH));
    subscribe(&store, &[ALL]);
    store.upkeep().unwrap();
    assert_eq!(markers(&store, HIGH), BTreeSet::new());
    assert_sound(&store);
}

#[test]
fn a_subscription_may_rest_but_not_for_ever() {
    let (disk, clock) = (SimulatedDisk::new(), TestClock::at(START_MS));
    let peer = open(&SimulatedDisk::new(), &clock);
    run(&peer, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1})");
    let store = open(&disk, &clock);
    send(&peer, &store, "t", 0, usize::MAX);
    subscribe(&store, &[ALL]);
    run(&store, "EVICT FROM t");
    // It is there for long.
    for day in 1..100 {
        clock.set(START_MS + day * DAY_MS);
        store.upkeep().unwrap();
    }
    subscribe(&store, &[]);
    clock.set(START_MS + (99 + 29) * DAY_MS);
    store.upkeep().unwrap();
    assert_eq!(markers(&store, ALL).len(), 1);
    clock.set(START_MS + (99 + 30) * DAY_MS);
    store.upkeep().unwrap();
    assert_eq!(markers(&store, ALL), BTreeSet::new());
    assert_sound(&store);
}

#[test]
fn only_what_the_remote_knows_is_evicted_for_it() {
    let (peer, store) = (memory(), memory());
    run(
        &peer,
        "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1}), ({'_id': 'b', 'v': 20}), ({'_id': 'c'})",
    );
    send(&peer, &store, "t", 0, usize::MAX);
    run(&store, "UPDATE t SET w = 1 WHERE _id = 'a'");
    subscribe(&store, &[HIGH]);
    let documents: Vec<(DocumentKey, VersionVector)> = ["a", "b", "c", "never there"]
        .map(|id| (key(id), peer.document_version(&key(id)).unwrap()))
        .into();
    let never = Cancellation::new();
    let evict = |reason| store.evict(&documents, reason, &never).unwrap();
    // The write to a is news to the remote, and b is still wanted.
    assert_eq!(evict(EvictReason::Left), 1);
    assert!(store.document(&key("c")).unwrap().is_none());
    assert_eq!(evict(EvictReason::Deleted), 1);
    assert!(store.document(&key("b")).unwrap().is_none());
    assert!(store.document(&key("a")).unwrap().is_some());
    assert_eq!(markers(&store, HIGH), BTreeSet::new(), "it is not held");
    assert_sound(&store);
}

/// A cursor says that everything up to it is held. What went because one subscription does not select it
/// any more may be selected by another one that rests.
#[test]
fn what_left_takes_the_cursors_of_resting_subscriptions_along() {
    let (peer, store) = (memory(), memory());
    run(&peer, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 1})");
    subscribe(&store, &[HIGH, ALL]);
    send(&peer, &store, "t", 0, usize::MAX);
    let at = |statement: &str| CursorUpdate {
        peer: PEER,
        subscription: name(statement).to_vec(),
        cursor: Some(Cursor {
            actor: peer.actor(),
            commit: 7,
        }),
    };
    store.apply(Vec::new(), &[at(HIGH), at(ALL)]).unwrap();
    let cursor = |statement: &str| store.cursor(PEER, &name(statement)).unwrap();
    let document = [(key("a"), peer.document_version(&key("a")).unwrap())];
    let evict = || {
        let never = Cancellation::new();
        store.evict(&document, EvictReason::Left, &never).unwrap()
    };
    assert_eq!(evict(), 0, "all of it is wanted");
    subscribe(&store, &[HIGH]);
    assert!(cursor(ALL).is_some(), "it rests");
    assert_eq!(evict(), 1);
    assert_eq!(cursor(ALL), None);
    assert!(cursor(HIGH).is_some());
    assert_sound(&store);
}

//! Collections that hold what a subscription to some fields brings.

use idem_model::{CollectionName, DocumentKey, Object, SyncScope};
use idem_query::Selector;
use idem_store::{
    Cancellation, EvictReason, Incoming, IncomingState, SimulatedDisk, Store, StoreConfig,
    StoreError, Subscription,
};

use crate::fixture::{TestClock, assert_sound, collection, id, memory, rows, run};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const START_MS: u64 = 1_000 * DAY_MS;

fn selector(text: &str) -> Selector {
    let statement = idem_query::parse(text).unwrap();
    statement.subscription(&Object::new()).unwrap()
}

fn named() -> Selector {
    selector("SELECT name, price FROM products WHERE shop = 7")
}

fn travelling() -> CollectionName {
    collection("__projection_00")
}

fn declare(store: &Store) {
    let names = collection("names");
    store
        .declare_projection(&names, &travelling(), &named())
        .unwrap();
}

/// What `from` has of a product, as it travels.
fn bring(from: &Store, to: &Store, product: &str) {
    let whole = DocumentKey {
        collection: collection("products"),
        id: id(product),
    };
    let document = from.document(&whole).unwrap().unwrap();
    let document = idem_crdt::Document::decode(&document).unwrap();
    let state = document.project(named().projection().unwrap());
    let incoming = Incoming {
        key: DocumentKey {
            collection: travelling(),
            ..whole
        },
        group: 0,
        state: IncomingState::Whole(state.to_bytes()),
    };
    assert!(to.apply(vec![incoming], &[]).unwrap().is_applied());
}

#[test]
fn what_travels_is_read_under_the_name_that_was_given_and_not_written() {
    let (disk, source) = (SimulatedDisk::new(), memory());
    let open = || Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    let store = open();
    declare(&store);
    declare(&store);
    run(
        &source,
        "INSERT INTO products DOCUMENTS ({'_id': 'a', 'name': 'x', 'price': 1, 'n': 2})",
    );
    bring(&source, &store, "a");
    drop(store);
    let store = open();
    let expected = [r#"{"_id":"a","name":"x","price":1}"#];
    assert_eq!(rows(&store, "SELECT * FROM names"), expected);
    let listed = rows(&store, "SELECT name, documents FROM system:collections");
    assert_eq!(listed, [r#"{"documents":1,"name":"names"}"#]);
    assert_eq!(store.projection(&travelling()), Some(collection("names")));
    assert_eq!(store.projection(&collection("names")), None);
    for text in [
        "INSERT INTO names DOCUMENTS ({'_id': 'b'})",
        "UPDATE names SET price = 2",
        "DELETE FROM names",
    ] {
        let error = store.execute(text, Object::new()).unwrap_err();
        assert!(
            matches!(error, StoreError::Projected { .. }),
            "{text}: {error}"
        );
    }
    run(&store, "CREATE INDEX ix ON names (price)");
    assert_eq!(
        rows(&store, "SELECT name FROM names WHERE price = 1").len(),
        1
    );
    assert_sound(&store);
    let other = selector("SELECT name FROM products");
    let declare = |name: &str, travelling: &str, selector: &Selector| {
        store.declare_projection(&collection(name), &collection(travelling), selector)
    };
    let elsewhere = declare("others", travelling().as_str(), &named()).unwrap_err();
    assert!(matches!(elsewhere, StoreError::ProjectionElsewhere { .. }));
    let in_use = declare("names", "__projection_01", &other).unwrap_err();
    assert!(matches!(in_use, StoreError::CollectionInUse { .. }));
    let reserved = declare("__names", "__projection_01", &other).unwrap_err();
    assert!(matches!(reserved, StoreError::ReservedCollection { .. }));
}

#[test]
fn it_syncs_as_its_source_does_and_never_under_its_own_name() {
    let store = memory();
    declare(&store);
    let scope = |name: &str| store.sync_scope(&collection(name));
    assert_eq!(scope("names"), SyncScope::LocalPeerOnly);
    assert_eq!(store.sync_scope(&travelling()), SyncScope::AllPeers);
    run(
        &store,
        "ALTER SYSTEM SET user_collection_sync_scopes = {'products': 'BigPeerOnly', 'names': 'AllPeers'}",
    );
    assert_eq!(store.sync_scope(&travelling()), SyncScope::BigPeerOnly);
    assert_eq!(scope("names"), SyncScope::LocalPeerOnly);
}

#[test]
fn fields_show_the_kind_that_their_source_declares() {
    let (source, store) = (memory(), memory());
    declare(&store);
    run(
        &source,
        "INSERT INTO products DOCUMENTS ({'_id': 'a', 'name': 'x', 'price': 1})",
    );
    // A field of two kinds: the newer one shows where nothing is declared.
    run(&source, "UPDATE products APPLY name INCREMENT BY 5");
    bring(&source, &store, "a");
    run(&store, "CREATE INDEX ix ON names (name)");
    let found = |value: &str| {
        rows(
            &store,
            &format!("SELECT _id FROM names WHERE name = {value}"),
        )
        .len()
    };
    let shown = rows(&store, "SELECT name FROM names");
    run(&store, "CREATE COLLECTION products (name REGISTER)");
    let declared = rows(&store, "SELECT name FROM names");
    assert_ne!(shown, declared);
    assert_eq!(declared, [r#"{"name":"x"}"#]);
    assert_eq!((found("'x'"), found("5")), (1, 0));
    assert_sound(&store);
}

#[test]
fn a_deletion_is_never_forgotten_and_hinders_no_other() {
    let clock = TestClock::at(START_MS);
    let open = || {
        let config = StoreConfig::simulated(SimulatedDisk::new()).clock(clock.clock());
        Store::open(config).unwrap()
    };
    let (source, outdated, store) = (open(), open(), open());
    declare(&store);
    for peer in [&source, &store] {
        run(
            peer,
            "INSERT INTO products DOCUMENTS ({'_id': 'a', 'name': 'x'})",
        );
    }
    let key = DocumentKey {
        collection: collection("products"),
        id: id("a"),
    };
    let before = source.document(&key).unwrap().unwrap();
    let incoming = Incoming {
        key: key.clone(),
        group: 0,
        state: IncomingState::Whole(before),
    };
    assert!(outdated.apply(vec![incoming], &[]).unwrap().is_applied());
    run(&source, "DELETE FROM products");
    bring(&source, &store, "a");
    run(&store, "DELETE FROM products");
    clock.set(START_MS + 30 * DAY_MS);
    store.forget_tombstones().unwrap();
    assert_eq!(store.document(&key).unwrap(), None, "forgotten");
    // Who was away brings nothing back.
    bring(&outdated, &store, "a");
    assert_eq!(rows(&store, "SELECT * FROM names").len(), 0);
    assert_sound(&store);
}

#[test]
fn what_left_goes_whatever_else_is_subscribed_to() {
    let (source, store) = (memory(), memory());
    declare(&store);
    store.interest().unwrap().set([Subscription {
        id: [1; 32],
        selector: Selector::of_collection(travelling()),
    }]);
    for product in ["a", "b"] {
        let text = format!("INSERT INTO products DOCUMENTS ({{'_id': '{product}', 'name': 'x'}})");
        run(&source, &text);
        bring(&source, &store, product);
    }
    let key = |name: CollectionName, product: &str| DocumentKey {
        collection: name,
        id: id(product),
    };
    let version = source
        .document_version(&key(collection("products"), "a"))
        .unwrap();
    let left = [(key(travelling(), "a"), version)];
    let reason = EvictReason::Left;
    let evicted = store.evict(&left, reason, &Cancellation::new()).unwrap();
    assert_eq!(evicted, 1);
    let markers = "SELECT `value` FROM system:system_info WHERE key = 'evict_markers'";
    assert_eq!(rows(&store, markers), [r#"{"value":0}"#]);
    // What the app evicts counts as held.
    run(&store, "EVICT FROM names");
    assert_eq!(rows(&store, markers), [r#"{"value":1}"#]);
    assert_sound(&store);
}

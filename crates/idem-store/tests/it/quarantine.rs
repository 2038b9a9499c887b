//! Documents that may have been deleted do not travel until somebody decides.

use std::{collections::BTreeSet, ops::ControlFlow};

use idem_model::{DocumentKey, Object, PeerId};
use idem_store::{Cancellation, ScopeFilter, SimulatedDisk, Store, StoreConfig};

use crate::fixture::{assert_sound, collection, id, memory, rows, run, send};

fn key(text: &str) -> DocumentKey {
    DocumentKey {
        collection: collection("t"),
        id: id(text),
    }
}

fn quarantine(store: &Store, ids: &[&str]) -> u64 {
    let keys: Vec<DocumentKey> = ids.iter().map(|id| key(id)).collect();
    store
        .quarantine(&keys, PeerId([7; 32]), &Cancellation::new())
        .unwrap()
}

/// Ids of what leaves the store, which all ways of reading agree on.
fn travelling(store: &Store) -> BTreeSet<String> {
    let name = collection("t");
    let batch = store.changed_since(&name, 0, 0, usize::MAX).unwrap();
    let changed = batch.groups.into_iter().flatten();
    let fed: BTreeSet<DocumentKey> = changed.map(|changed| changed.key).collect();
    let statement = idem_query::parse("SELECT * FROM t").unwrap();
    let selector = statement.subscription(&Object::new()).unwrap();
    for filter in [ScopeFilter::All, ScopeFilter::Selected] {
        let mut scanned = BTreeSet::new();
        store
            .scan_scope(&[0; 32], &selector, filter, &mut |item| {
                let id = idem_model::DocId::from_key(item.id).unwrap();
                scanned.insert(DocumentKey {
                    collection: name.clone(),
                    id,
                });
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(scanned, fed);
    }
    let all: Vec<DocumentKey> = ["a", "b", "c"].map(key).into();
    let (groups, consumed) = store.changed_documents(&all, 0, usize::MAX).unwrap();
    let read: BTreeSet<DocumentKey> = groups.into_iter().flatten().map(|it| it.key).collect();
    assert_eq!((read, consumed), (fed.clone(), 3));
    fed.into_iter().map(|key| key.id.to_string()).collect()
}

fn names(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|text| id(text).to_string()).collect()
}

/// A store with three documents that came in one transaction from elsewhere.
fn store_with_three(disk: &SimulatedDisk) -> Store {
    let peer = memory();
    run(
        &peer,
        "INSERT INTO t DOCUMENTS ({'_id': 'a'}), ({'_id': 'b'}), ({'_id': 'c'})",
    );
    let store = Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    send(&peer, &store, "t", 0, usize::MAX);
    store
}

fn listed(store: &Store) -> Vec<String> {
    rows(store, "SELECT id FROM system:quarantine ORDER BY id")
}

#[test]
fn what_is_in_quarantine_is_read_here_and_sent_nowhere() {
    let disk = SimulatedDisk::new();
    let store = store_with_three(&disk);
    run(&store, "CREATE INDEX by_v ON t (v)");
    assert_eq!(quarantine(&store, &["a", "b", "never there"]), 2);
    assert_eq!(quarantine(&store, &["a"]), 0, "it is already");
    assert_eq!(travelling(&store), names(&["c"]));
    assert_eq!(rows(&store, "SELECT * FROM t").len(), 3);
    assert_eq!(listed(&store), [r#"{"id":"a"}"#, r#"{"id":"b"}"#]);
    let row = &run(&store, "SELECT * FROM system:quarantine WHERE id = 'a'").items[0];
    assert_eq!(row["collection"].as_str(), Some("t"));
    assert_eq!(
        row["from"].as_str(),
        Some(PeerId([7; 32]).to_string().as_str())
    );
    assert_sound(&store);
    drop(store);
    disk.crash(9);
    let store = Store::open(StoreConfig::simulated(disk)).unwrap();
    assert_eq!(travelling(&store), names(&["c"]));
    assert_eq!(listed(&store).len(), 2);
    assert_sound(&store);
}

#[test]
fn a_write_is_new_work() {
    let store = store_with_three(&SimulatedDisk::new());
    quarantine(&store, &["a", "b", "c"]);
    run(&store, "UPDATE t SET v = 1 WHERE _id = 'a'");
    run(&store, "DELETE FROM t WHERE _id = 'b'");
    assert_eq!(travelling(&store), names(&["a", "b"]));
    assert_eq!(listed(&store), [r#"{"id":"c"}"#]);
    assert_sound(&store);
    // And so is what another peer wrote to it, but not that it holds the same.
    let peer = store_with_three(&SimulatedDisk::new());
    let other = memory();
    let never = Cancellation::new();
    store.leave_quarantine(&[key("c")], &never).unwrap();
    send(&store, &other, "t", 0, usize::MAX);
    quarantine(&store, &["c"]);
    send(&other, &store, "t", 0, usize::MAX);
    assert_eq!(listed(&store), [r#"{"id":"c"}"#]);
    run(&other, "UPDATE t SET v = 2 WHERE _id = 'c'");
    send(&other, &store, "t", 0, usize::MAX);
    assert_eq!(listed(&store), Vec::<String>::new());
    assert_sound(&store);
    assert_sound(&peer);
}

#[test]
fn a_statement_keeps_or_drops() {
    let store = store_with_three(&SimulatedDisk::new());
    quarantine(&store, &["a", "b", "c"]);
    let done = |text: &str| rows(&store, &format!("EXECUTE FUNCTION {text}"));
    assert_eq!(done("quarantine_keep('t', 'a')"), [r#"{"documents":1}"#]);
    assert_eq!(travelling(&store), names(&["a"]));
    assert_eq!(done("quarantine_drop('t', 'b')"), [r#"{"documents":1}"#]);
    assert!(store.document(&key("b")).unwrap().is_none());
    assert_eq!(done("quarantine_keep('t')"), [r#"{"documents":1}"#]);
    assert_eq!(done("quarantine_keep('t')"), [r#"{"documents":0}"#]);
    assert_eq!(done("quarantine_drop('not_there')"), [r#"{"documents":0}"#]);
    assert_eq!(travelling(&store), names(&["a", "c"]));
    assert_sound(&store);
    for text in [
        "quarantine_keep()",
        "quarantine_keep(3)",
        "quarantine_drop('t', null)",
    ] {
        let statement = format!("EXECUTE FUNCTION {text}");
        assert!(store.execute(&statement, Object::new()).is_err(), "{text}");
    }
    // EVICT drops it as well.
    quarantine(&store, &["c"]);
    run(&store, "EVICT FROM t WHERE _id = 'c'");
    assert_eq!(listed(&store), Vec::<String>::new());
    assert_sound(&store);
}

#[test]
fn a_tombstone_of_another_life_does_not_end_a_quarantine() {
    let store = store_with_three(&SimulatedDisk::new());
    assert_eq!(quarantine(&store, &["a"]), 1);
    let other = memory();
    run(&other, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 9})");
    run(&other, "DELETE FROM t WHERE _id = 'a'");
    send(&other, &store, "t", 0, usize::MAX);
    let before = store.document_version(&key("a")).unwrap();
    assert!(before.covers_all(&other.document_version(&key("a")).unwrap()));
    assert_eq!(travelling(&store), names(&["b", "c"]));
    assert_sound(&store);
    // Who has the document ends it.
    run(&other, "INSERT INTO t DOCUMENTS ({'_id': 'a', 'v': 10})");
    send(&other, &store, "t", 0, usize::MAX);
    assert_eq!(travelling(&store), names(&["a", "b", "c"]));
    assert_sound(&store);
}

/// Another version of it shows that it lives only if there is something in it that was not deleted.
#[test]
fn what_may_have_been_deleted_itself_does_not_end_a_quarantine() {
    let peer = memory();
    run(
        &peer,
        "INSERT INTO t DOCUMENTS ({'_id': 'a'}), ({'_id': 'b'})",
    );
    let store = memory();
    send(&peer, &store, "t", 0, usize::MAX);
    assert_eq!(quarantine(&store, &["a", "b"]), 2);
    run(&peer, "UPDATE t SET v = 1 WHERE _id = 'a'");
    // So much was deleted elsewhere.
    let deleted = peer.document_version(&key("a")).unwrap();
    let never = Cancellation::new();
    store
        .learn_gone(&collection("t"), &deleted, &[], &never)
        .unwrap();
    run(&peer, "UPDATE t SET v = 2 WHERE _id = 'b'");
    send(&peer, &store, "t", 1, usize::MAX);
    assert_eq!(store.document_version(&key("a")).unwrap(), deleted);
    assert_eq!(listed(&store), [r#"{"id":"a"}"#]);
    assert_sound(&store);
    run(&peer, "UPDATE t SET v = 3 WHERE _id = 'a'");
    send(&peer, &store, "t", 2, usize::MAX);
    assert_eq!(listed(&store), Vec::<String>::new());
    assert_sound(&store);
}

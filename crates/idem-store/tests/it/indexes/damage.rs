//! Entries that are wrong are found and named.

use idem_kv::{Batch, Durability, Engine, Table};
use idem_store::{SimulatedDisk, Store};

use super::{config, declare, fill, open};
use crate::fixture::run;

const INDEXES: Table = Table(2);

/// Keys and values of the index table.
fn entries(disk: &SimulatedDisk) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let snapshot = disk.engine().snapshot().unwrap();
    snapshot
        .scan(INDEXES, &[], None, false, &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

/// Changes the entries of a sound store behind its back, and gives what is found.
fn check(damage: impl FnOnce(&[(Vec<u8>, Vec<u8>)], &mut Batch)) -> Vec<String> {
    let disk = SimulatedDisk::new();
    let store = Store::open(config(&disk).index_inline_documents(2000)).unwrap();
    fill(&store, 0..6);
    run(&store, "CREATE INDEX by_b ON t (b.c)");
    drop(store);
    let store = open(&disk);
    fill(&store, 6..12);
    declare(&store, "CREATE INDEX half ON t (a)");
    store.step_index_work().unwrap();
    store.close().unwrap();
    let mut batch = Batch::new();
    damage(&entries(&disk), &mut batch);
    disk.engine().commit(&batch, Durability::Durable).unwrap();
    open(&disk).verify().unwrap().problems
}

#[test]
fn what_is_wrong_with_an_index_is_named() {
    assert_eq!(check(|_, _| {}), Vec::<String>::new());
    assert_eq!(
        check(|entries, batch| batch.delete(INDEXES, &entries[4].0)),
        ["the entry of document 4 in index `by_b` of collection t is missing"]
    );
    // An entry that is missing in exchange for one too many: numbers alone would fit.
    let found = check(|entries, batch| {
        batch.delete(INDEXES, &entries[4].0);
        let mut key = entries[5].0.clone();
        // The document is the same, and its field another.
        key[8] ^= 1;
        batch.put(INDEXES, &key, &entries[5].1);
    });
    assert_eq!(
        found,
        [
            "the entry of document 4 in index `by_b` of collection t is missing",
            "the entry of document 5 in index `by_b` of collection t is not called for",
        ]
    );
    // The half-built index has the first three documents, and may not have the fourth.
    let found = check(|entries, batch| {
        let (key, value) = &entries[12 + 2];
        let mut key = key.clone();
        let id = idem_model::key::decode(&key[4 + 12..]).unwrap().0;
        assert_eq!(id.and_then(|id| id.as_int()), Some(2));
        key.truncate(4 + 12);
        idem_model::key::encode(&idem_model::Value::Int(3), &mut key);
        batch.put(INDEXES, &key, value);
    });
    assert_eq!(
        found,
        ["the entry of document 3 in index `half` of collection t is not called for"]
    );
    let found = check(|entries, batch| {
        let mut key = entries[0].0.clone();
        key[3] = 9;
        batch.put(INDEXES, &key, &entries[0].1);
    });
    assert_eq!(found, ["1 entries of index 9, which is not there"]);
}

//! A build in the background of a store with threads.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Instant,
};

use idem_model::{InsertConflict, Object, Value};
use idem_store::{
    Cancellation, ExecuteOptions, Store, StoreConfig, StoreError, TransactionOptions,
};

use super::{declare, states, uses};
use crate::fixture::{PATIENCE, assert_sound, collection, memory, rows, run};

const DOCUMENTS: i64 = 5_000;

/// A store with documents, that builds in small steps.
fn filled(config: StoreConfig) -> Store {
    let store = Store::open(config.index_inline_documents(100).index_batch_documents(8)).unwrap();
    let documents = (0..DOCUMENTS).map(|id| {
        Object::from([
            ("_id".to_owned(), Value::Int(id)),
            ("a".to_owned(), Value::Int(id % 10)),
        ])
    });
    store
        .insert_many(&collection("t"), documents.collect(), InsertConflict::Fail)
        .unwrap();
    store
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

fn is_building(store: &Store) -> bool {
    states(store).iter().any(|row| row.contains("building"))
}

#[test]
fn create_index_waits_and_writers_do_not() {
    let store = filled(StoreConfig::memory());
    let creator = {
        let store = store.clone();
        thread::spawn(move || {
            run(&store, "CREATE INDEX by_a ON t (a)");
            assert!(uses(&store, "by_a", "a = 1"), "it is complete");
        })
    };
    wait_until("the build begins", || !states(&store).is_empty());
    // What commits while the index is not complete has its turn between two batches.
    let mut committed = 0;
    loop {
        let mut transaction = store.begin(TransactionOptions::new()).unwrap();
        let found = transaction
            .execute(
                "SELECT * FROM system:indexes WHERE state = 'building'",
                Object::new(),
            )
            .unwrap();
        if found.items.is_empty() {
            break;
        }
        let args = Object::from([("id".to_owned(), Value::Int(committed % DOCUMENTS))]);
        transaction
            .execute("UPDATE t SET a = a + 1 WHERE _id = :id", args)
            .unwrap();
        transaction.commit().unwrap();
        committed += 1;
    }
    creator.join().unwrap();
    assert!(committed > 20, "{committed}");
    assert_sound(&store);
}

#[test]
fn a_second_create_index_waits_for_the_first_and_learns_of_its_drop() {
    let store = filled(StoreConfig::memory());
    declare(&store, "CREATE INDEX by_a ON t (a)");
    run(&store, "CREATE INDEX IF NOT EXISTS by_a ON t (a)");
    assert!(uses(&store, "by_a", "a = 1"));

    let creator = {
        let store = store.clone();
        thread::spawn(move || store.execute("CREATE INDEX other ON t (b)", Object::new()))
    };
    wait_until("the build begins", || is_building(&store));
    run(&store, "DROP INDEX other ON t");
    let error = creator.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("was dropped"), "{error}");
    wait_until("its entries are deleted", || states(&store).len() == 1);
    assert_sound(&store);
}

#[test]
fn the_thread_builds_what_a_transaction_declared_and_observers_see_it_move() {
    let store = filled(StoreConfig::memory());
    let (sender, receiver) = mpsc::channel();
    let text = "SELECT state, progress, distinct_keys FROM system:indexes";
    let sender = Mutex::new(sender);
    let _observer = store
        .observe(text, Object::new(), move |result| {
            for row in result.unwrap().items {
                sender.lock().unwrap().send(row).unwrap();
            }
        })
        .unwrap();
    declare(&store, "CREATE INDEX by_a ON t (a)");
    let mut progress = Vec::new();
    loop {
        let row = receiver.recv_timeout(PATIENCE).unwrap();
        let Value::Float(at) = row["progress"] else {
            panic!("{row:?}");
        };
        progress.push(at);
        // The count follows when the index is complete.
        if row["state"].as_str() == Some("ready")
            && row["distinct_keys"]
                .as_array()
                .is_some_and(|some| !some.is_empty())
        {
            break;
        }
    }
    assert!(progress.is_sorted(), "{progress:?}");
    assert!(
        progress.iter().any(|&at| 0.0 < at && at < 1.0),
        "{progress:?}"
    );
    assert_eq!(
        rows(&store, text),
        [r#"{"distinct_keys":[10],"progress":1.0,"state":"ready"}"#]
    );
}

#[test]
fn an_unfinished_build_goes_on_after_closing_and_opening() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(StoreConfig::directory(directory.path()));
    declare(&store, "CREATE INDEX by_a ON t (a)");
    let waiting = {
        let store = store.clone();
        thread::spawn(move || {
            store.execute("CREATE INDEX IF NOT EXISTS by_a ON t (a)", Object::new())
        })
    };
    wait_until("it moves", || {
        rows(&store, "SELECT entries FROM system:indexes") != [r#"{"entries":0}"#]
    });
    store.close().unwrap();
    // It may have been complete just before.
    let _ = waiting.join().unwrap();
    drop(store);
    let store = Store::open(StoreConfig::directory(directory.path())).unwrap();
    wait_until("it is complete", || !is_building(&store));
    assert!(uses(&store, "by_a", "a = 1"));
    assert_sound(&store);
}

#[test]
fn a_store_in_memory_needs_no_steps() {
    let store = Arc::new(memory());
    run(&store, "CREATE INDEX by_a ON t (a)");
    run(&store, "DROP INDEX by_a ON t");
    wait_until("nothing is left", || states(&store).is_empty());
}

#[test]
fn who_cancels_create_index_leaves_the_build_running() {
    let store = filled(StoreConfig::memory());
    let cancellation = Cancellation::new();
    let creator = {
        let (store, cancellation) = (store.clone(), cancellation.clone());
        thread::spawn(move || {
            let options = ExecuteOptions::new().cancellation(cancellation);
            let text = "CREATE INDEX by_a ON t (a)";
            store.execute_with(text, Object::new(), &options)
        })
    };
    wait_until("it is declared", || states(&store).len() == 1);
    // From here on every step waits for this transaction.
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let state = transaction
        .execute("SELECT state FROM system:indexes", Object::new())
        .unwrap();
    let was_building = state.items[0]["state"].as_str() == Some("building");
    cancellation.cancel();
    let result = creator.join().unwrap();
    if was_building {
        let Err(StoreError::Query(error)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(error.code(), "query/cancelled");
        assert!(error.message().contains("goes on being built"), "{error}");
    }
    drop(transaction);
    wait_until("they are complete", || !is_building(&store));
    // Whether it is counted yet or not: a field with one value in all documents would be scanned
    // once that is known.
    assert!(uses(&store, "by_a", "a = 1"));
    wait_until("they are counted", || {
        rows(&store, "SELECT distinct_keys FROM system:indexes") == [r#"{"distinct_keys":[10]}"#]
    });
    assert!(uses(&store, "by_a", "a = 1"));
    assert_sound(&store);
}

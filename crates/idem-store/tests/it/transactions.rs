//! Isolation, atomicity and order of transactions.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use idem_model::{InsertConflict, Object};
use idem_store::{SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use crate::fixture::{assert_sound, collection, documents, memory, object, rows, run};

const TRANSFER: &str = "UPDATE accounts SET n = :n WHERE _id = :id";

fn balance(transaction: &mut idem_store::Transaction, id: &str) -> i64 {
    let args = object(&format!("{{\"id\": \"{id}\"}}"));
    let result = transaction
        .execute("SELECT n FROM accounts WHERE _id = :id", args)
        .unwrap();
    result.items[0]["n"].as_int().unwrap()
}

#[test]
fn concurrent_transfers_keep_the_sum() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::directory(directory.path())).unwrap();
    run(
        &store,
        "INSERT INTO accounts DOCUMENTS ({'_id': 'a', 'n': 100}), ({'_id': 'b', 'n': 100})",
    );
    let is_done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, is_done) = (store.clone(), is_done.clone());
        thread::spawn(move || {
            let mut reads = 0;
            while !is_done.load(Ordering::SeqCst) || reads == 0 {
                let options = TransactionOptions::new().read_only(true);
                let mut transaction = store.begin(options).unwrap();
                let sum = balance(&mut transaction, "a") + balance(&mut transaction, "b");
                assert_eq!(sum, 200);
                reads += 1;
            }
        })
    };
    let start = Arc::new(Barrier::new(6));
    let writers: Vec<_> = (0..6)
        .map(|number| {
            let (store, start) = (store.clone(), start.clone());
            thread::spawn(move || {
                start.wait();
                for _ in 0..30 {
                    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
                    let (from, to) = if number % 2 == 0 {
                        ("a", "b")
                    } else {
                        ("b", "a")
                    };
                    for (id, by) in [(from, -1), (to, 1)] {
                        let n = balance(&mut transaction, id) + by;
                        let args = format!("{{\"n\": {n}, \"id\": \"{id}\"}}");
                        transaction.execute(TRANSFER, object(&args)).unwrap();
                    }
                    transaction.commit().unwrap();
                }
            })
        })
        .collect();
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
    is_done.store(true, Ordering::SeqCst);
    reader.join().unwrap();
    assert_eq!(
        rows(&store, "SELECT n FROM accounts"),
        [r#"{"n":100}"#, r#"{"n":100}"#]
    );
    assert_eq!(store.last_commit(), 1 + 6 * 30);
    assert_eq!(store.durable_commit(), store.last_commit());
    assert_sound(&store);
}

#[test]
fn a_transaction_inside_a_transaction_is_an_error() {
    let store = memory();
    for is_read_only in [false, true] {
        let options = TransactionOptions::new().read_only(is_read_only);
        let mut transaction = store.begin(options).unwrap();
        let nested = |result: Result<(), StoreError>| {
            assert!(
                matches!(result, Err(StoreError::NestedTransaction)),
                "{result:?}"
            );
        };
        nested(store.begin(TransactionOptions::new()).map(drop));
        nested(store.execute("SELECT * FROM t", Object::new()).map(drop));
        nested(
            store
                .execute("INSERT INTO t DOCUMENTS ({})", Object::new())
                .map(drop),
        );
        nested(
            store
                .insert_many(&collection("t"), vec![Object::new()], InsertConflict::Fail)
                .map(drop),
        );
        transaction
            .execute("SELECT * FROM t", Object::new())
            .unwrap();
        // Another thread may, and waits for its turn.
        let other = store.clone();
        let waiting = thread::spawn(move || run(&other, "INSERT INTO t DOCUMENTS ({})"));
        transaction.commit().unwrap();
        waiting.join().unwrap();
        run(&store, "SELECT * FROM t");
    }
}

#[test]
fn a_thread_free_transaction_moves_between_threads() {
    let store = memory();
    let options = TransactionOptions::new().thread_free(true).hint("moves");
    let mut transaction = store.begin(options).unwrap();
    assert!(run(&store, "SELECT * FROM t").items.is_empty());
    let moved = thread::spawn(move || {
        transaction
            .execute("INSERT INTO t DOCUMENTS ({'_id': 1})", Object::new())
            .unwrap();
        transaction.commit().unwrap()
    });
    assert_eq!(moved.join().unwrap(), Some(1));
    assert_eq!(documents(&store, "t").len(), 1);
}

#[test]
fn readers_see_the_moment_at_which_they_began() {
    let store = memory();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 1})");
    let options = TransactionOptions::new().read_only(true).thread_free(true);
    let mut reader = store.begin(options).unwrap();
    run(&store, "UPDATE t SET v = 2 WHERE _id = 1");
    run(&store, "INSERT INTO fresh DOCUMENTS ({'_id': 1})");
    store.checkpoint().unwrap();
    let mut see = |text: &str| reader.execute(text, Object::new()).unwrap().items;
    assert_eq!(see("SELECT v FROM t"), [object(r#"{"v": 1}"#)]);
    assert!(see("SELECT * FROM fresh").is_empty());
    assert_eq!(rows(&store, "SELECT v FROM t"), [r#"{"v":2}"#]);
    let refused = reader.execute("DELETE FROM t", Object::new());
    assert!(matches!(refused, Err(StoreError::ReadOnly)), "{refused:?}");
    assert_eq!(reader.commit().unwrap(), None);
}

#[test]
fn a_failed_statement_changes_nothing_and_leaves_the_transaction_open() {
    let store = memory();
    run(&store, "CREATE INDEX by_v ON t (v)");
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 2, 'v': 2})");
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let mut execute = |text: &str| transaction.execute(text, Object::new());
    execute("INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 1})").unwrap();
    execute("INSERT INTO t DOCUMENTS ({'_id': 3, 'v': 3}), ({'_id': 1, 'v': 4})").unwrap_err();
    execute("INSERT INTO other DOCUMENTS ({'_id': 1}), ({'_id': 1})").unwrap_err();
    let seen = execute("SELECT _id FROM t WHERE v >= 0").unwrap();
    assert_eq!(seen.items.len(), 2);
    assert_eq!(transaction.commit().unwrap(), Some(2));
    assert_eq!(
        rows(&store, "SELECT _id FROM t ORDER BY _id"),
        [r#"{"_id":1}"#, r#"{"_id":2}"#]
    );
    assert_eq!(
        rows(&store, "SELECT name FROM system:collections"),
        [r#"{"name":"t"}"#]
    );
    assert_sound(&store);
}

#[test]
fn an_unchanged_document_makes_no_commit() {
    let store = memory();
    let first = run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 1})");
    assert_eq!(first.commit_id, Some(1));
    let none = run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 9}) ON ID CONFLICT DO NOTHING",
    );
    assert_eq!((none.commit_id, none.mutated_document_ids), (None, vec![]));
    assert_eq!(run(&store, "DELETE FROM t WHERE v = 7").commit_id, None);
    assert_eq!(store.last_commit(), 1);
}

#[test]
fn writers_take_turns_in_the_order_of_asking() {
    let store = memory();
    let transaction = store.begin(TransactionOptions::new()).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            thread::spawn(move || {
                run(
                    &store,
                    &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})"),
                )
                .commit_id
                .unwrap()
            })
        })
        .collect();
    transaction.commit().unwrap();
    let mut commits: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    commits.sort_unstable();
    assert_eq!(commits, (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_closed_store_says_so() {
    let store = memory();
    let clone = store.clone();
    let mut transaction = {
        let store = store.clone();
        let options = TransactionOptions::new().read_only(true).thread_free(true);
        store.begin(options).unwrap()
    };
    store.close().unwrap();
    store.close().unwrap();
    for result in [
        clone.execute("SELECT * FROM t", Object::new()).map(drop),
        transaction
            .execute("SELECT * FROM t", Object::new())
            .map(drop),
        clone.checkpoint(),
    ] {
        assert!(matches!(result, Err(StoreError::Closed)), "{result:?}");
    }
}

#[test]
fn every_durable_commit_is_told_once_it_is_safe() {
    let store = memory();
    let inbox = crate::fixture::Inbox::new();
    let subscription = {
        let (inbox, store_) = (inbox.clone(), store.clone());
        store.subscribe_commits(move |commit| {
            assert!(store_.durable_commit() >= commit);
            inbox.push(commit);
        })
    };
    for _ in 0..5 {
        run(&store, "INSERT INTO t DOCUMENTS ({})");
    }
    assert_eq!(inbox.all(), [1, 2, 3, 4, 5]);
    drop(subscription);
    run(&store, "INSERT INTO t DOCUMENTS ({})");
    assert_eq!(inbox.all().len(), 5);
}

#[test]
fn relaxed_commits_become_durable_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        StoreConfig::directory(directory.path()).durability(idem_store::Durability::Relaxed);
    let store = Store::open(config).unwrap();
    let inbox = crate::fixture::Inbox::new();
    let _subscription = {
        let inbox = inbox.clone();
        store.subscribe_commits(move |commit| inbox.push(commit))
    };
    let commit = run(&store, "INSERT INTO t DOCUMENTS ({})")
        .commit_id
        .unwrap();
    inbox.wait(|commits| commits.contains(&commit));
    let commit = run(&store, "INSERT INTO t DOCUMENTS ({})")
        .commit_id
        .unwrap();
    store.wait_durable(commit).unwrap();
    assert_eq!(store.durable_commit(), commit);
    store.close().unwrap();
}

#[test]
fn relaxed_commits_are_told_before_they_are_safe() {
    let disk = SimulatedDisk::new();
    let told = |durability| {
        let config = StoreConfig::simulated(disk.clone())
            .background_threads(false)
            .durability(durability);
        let store = Store::open(config).unwrap();
        let inbox = crate::fixture::Inbox::new();
        let subscription = {
            let (inbox, store_) = (inbox.clone(), store.clone());
            store.subscribe_relaxed_commits(move |commit| {
                inbox.push((commit, store_.durable_commit() < commit));
            })
        };
        let commit = run(&store, "INSERT INTO t DOCUMENTS ({})").commit_id;
        drop(subscription);
        run(&store, "INSERT INTO t DOCUMENTS ({})");
        store.close().unwrap();
        (inbox.all(), commit.unwrap())
    };
    let (relaxed, commit) = told(idem_store::Durability::Relaxed);
    assert_eq!(relaxed, [(commit, true)]);
    assert!(told(idem_store::Durability::Durable).0.is_empty());
}

#[test]
fn an_idle_store_empties_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::directory(directory.path())).unwrap();
    let deadline = std::time::Instant::now() + crate::fixture::PATIENCE;
    for round in 0..2 {
        run(&store, "INSERT INTO t DOCUMENTS ({})");
        assert!(
            store.statistics().unwrap().pending_bytes > 0,
            "round {round}"
        );
        while store.statistics().unwrap().pending_bytes > 0 {
            assert!(std::time::Instant::now() < deadline, "round {round}");
            thread::yield_now();
        }
    }
}

#[test]
fn what_would_wait_for_itself_is_an_error() {
    let store = memory();
    let transaction = store.begin(TransactionOptions::new()).unwrap();
    for result in [store.close(), store.apply(Vec::new(), &[]).map(drop)] {
        assert!(
            matches!(result, Err(StoreError::NestedTransaction)),
            "{result:?}"
        );
    }
    drop(transaction);
    store.close().unwrap();
}

#[test]
fn a_parameter_with_too_long_a_name_is_an_error() {
    let store = memory();
    let name = "p".repeat(20_000);
    for text in [
        format!("ALTER SYSTEM SET {name} = 1"),
        format!("ALTER SYSTEM RESET {name}"),
    ] {
        let error = store.execute(&text, Object::new()).unwrap_err();
        assert!(matches!(error, StoreError::Query(_)), "{error}");
    }
    run(&store, "INSERT INTO t DOCUMENTS ({})");
}

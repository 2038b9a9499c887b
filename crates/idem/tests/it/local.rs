//! The store of one peer: statements, transactions, observers, opening and closing.

use std::pin::pin;

use idem::{
    ConnectMode, Durability, ErrorKind, Idem, IdemConfig, Transaction, TransactionCompletionAction,
    TransactionOptions,
};
use serde::Deserialize;
use serde_json::json;

use crate::fixture::{DATABASE, Heard, memory, open, rows, run};

/// Any executor will do; this one knows nothing of tokio.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
        {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn statements_take_arguments_and_give_rows() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Car {
        #[serde(rename = "_id")]
        id: String,
        seats: u8,
    }
    block_on(async {
        let idem = Idem::open(IdemConfig::new(DATABASE, ConnectMode::Offline))
            .await
            .unwrap();
        let car = json!({"_id": "a", "seats": 4});
        let result = idem
            .store()
            .execute(("INSERT INTO cars DOCUMENTS (:car)", json!({"car": car})))
            .await
            .unwrap();
        assert_eq!(result.mutated_document_ids().len(), 1);
        assert!(result.commit_id().is_some());
        let query = ("SELECT * FROM cars WHERE seats > :n", json!({"n": 3}));
        let result = idem.store().execute(query).await.unwrap();
        let cars: Vec<Car> = result
            .iter()
            .map(|item| item.deserialize_value().unwrap())
            .collect();
        let id = "a".to_owned();
        assert_eq!(cars, [Car { id, seats: 4 }]);
        idem.close().await.unwrap();
        let error = idem
            .store()
            .execute("SELECT * FROM cars")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
}

#[test]
fn a_wrong_statement_is_shown_with_its_place() {
    let idem = memory();
    let error = idem
        .store()
        .execute_blocking("SELECT *\nFROM cars WHER a = 1")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueryInvalid);
    assert_eq!(error.position().unwrap().line, 2);
    assert!(error.rendered().unwrap().contains('^'));
}

#[test]
fn a_transaction_commits_or_rolls_back_as_its_closure_says() {
    let idem = memory();
    let store = idem.store();
    block_on(async {
        let insert = "INSERT INTO t DOCUMENTS ({'_id': 1})";
        let kept = store
            .transaction(async |tx| {
                tx.execute(insert).await?;
                Ok::<_, idem::Error>((TransactionCompletionAction::Rollback, 5))
            })
            .await;
        assert_eq!(kept.unwrap(), 5);
        assert_eq!(rows(&idem, "SELECT * FROM t"), [""; 0]);
        let failed = store
            .transaction(async |tx| {
                tx.execute(insert).await?;
                tx.execute("INSERT INTO").await?;
                Ok::<_, idem::Error>(())
            })
            .await;
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::QueryInvalid);
        assert_eq!(rows(&idem, "SELECT * FROM t"), [""; 0]);
        store
            .transaction(async |tx| {
                tx.execute(insert).await?;
                tx.execute("INSERT INTO t DOCUMENTS ({'_id': 2})").await?;
                Ok::<_, idem::Error>(())
            })
            .await
            .unwrap();
        assert_eq!(rows(&idem, "SELECT * FROM t").len(), 2);
        let options = TransactionOptions::new().read_only(true);
        let refused = store
            .transaction_with_options(options, async |tx| {
                tx.execute("DELETE FROM t").await?;
                Ok::<_, idem::Error>(())
            })
            .await;
        let kind = refused.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::StoreTransactionReadOnly);
    });
}

#[test]
fn a_panic_in_a_transaction_rolls_back() {
    let idem = memory();
    let store = idem.store();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(
            store.transaction(async |tx: &Transaction| -> Result<(), idem::Error> {
                tx.execute("INSERT INTO t DOCUMENTS ({'_id': 1})").await?;
                panic!("the app's own bug");
            }),
        )
    }));
    assert!(panicked.is_err());
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    assert_eq!(rows(&idem, "SELECT * FROM t"), [r#"{"_id":2}"#]);
}

#[test]
fn nesting_is_an_error_and_never_a_deadlock() {
    let idem = memory();
    let store = idem.store();
    block_on(async {
        let nested = store
            .transaction(async |_tx| {
                store.execute("SELECT * FROM t").await?;
                Ok::<_, idem::Error>(())
            })
            .await;
        assert_eq!(
            nested.unwrap_err().kind(),
            ErrorKind::StoreTransactionNested
        );
        let nested = store
            .transaction(async |_tx| {
                store
                    .transaction(async |_tx| Ok::<_, idem::Error>(()))
                    .await
            })
            .await;
        assert_eq!(
            nested.unwrap_err().kind(),
            ErrorKind::StoreTransactionNested
        );
    });
    let transaction = store.begin_blocking(TransactionOptions::new()).unwrap();
    let error = store.execute_blocking("SELECT * FROM t").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreTransactionNested);
    transaction.rollback();
    store.execute_blocking("SELECT * FROM t").unwrap();
    // Another peer is another matter.
    let other = memory();
    let _transaction = store.begin_blocking(TransactionOptions::new()).unwrap();
    let transaction = other.store().begin_blocking(TransactionOptions::new());
    drop(transaction.unwrap());
}

#[test]
fn transactions_from_many_threads_take_turns() {
    let idem = memory();
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 1, 'n': 0})");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    block_on(idem.store().transaction(async |tx| {
                        let now = tx.execute("SELECT n FROM t").await?;
                        let n = now.items()[0].field("n").unwrap().as_int().unwrap();
                        let set = ("UPDATE t SET n = :n", json!({"n": n + 1}));
                        tx.execute(set).await?;
                        Ok::<_, idem::Error>(())
                    }))
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(rows(&idem, "SELECT n FROM t"), [r#"{"n":80}"#]);
}

#[test]
fn an_observer_sees_each_change_until_it_is_dropped() {
    let idem = memory();
    let heard = Heard::new();
    let push = heard.clone();
    let observer = idem
        .store()
        .register_observer("SELECT * FROM t", move |r| push.push(r.item_count()))
        .unwrap();
    heard.wait_for("the first result", |n| *n == 0);
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    heard.wait_for("the insert", |n| *n == 1);
    assert_eq!(idem.store().observer_count(), 1);
    drop(observer);
    assert_eq!(idem.store().observer_count(), 0);
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    assert!(!heard.all().contains(&2));
}

#[test]
fn an_observer_that_has_not_signalled_is_not_called() {
    let idem = memory();
    let heard = Heard::new();
    let signals = Heard::new();
    let (push, keep) = (heard.clone(), signals.clone());
    let _observer = idem
        .store()
        .register_observer_with_signal_next("SELECT * FROM t", move |result, next| {
            keep.push(std::sync::Arc::new(std::sync::Mutex::new(Some(next))));
            push.push(result.item_count());
        })
        .unwrap();
    heard.wait_for("the first result", |n| *n == 0);
    for id in 1..=3 {
        run(&idem, &format!("INSERT INTO t DOCUMENTS ({{'_id': {id}}})"));
    }
    let next = signals.all()[0].lock().unwrap().take().unwrap();
    next.signal();
    heard.wait_for("the newest result", |n| *n == 3);
    assert_eq!(heard.all(), [0, 3], "what came between is skipped");
}

#[test]
fn a_panicking_callback_does_not_end_the_others() {
    let idem = memory();
    let _bad = idem
        .store()
        .register_observer("SELECT * FROM t", |_| panic!("the app's own bug"))
        .unwrap();
    let heard = Heard::new();
    let push = heard.clone();
    let _good = idem
        .store()
        .register_observer("SELECT * FROM t", move |r| push.push(r.item_count()))
        .unwrap();
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    heard.wait_for("the insert", |n| *n == 1);
}

#[test]
fn a_directory_is_one_peers_and_one_databases() {
    let directory = tempfile::tempdir().unwrap();
    let idem = open(directory.path());
    let peer = idem.peer_key();
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    let config = || {
        IdemConfig::new(DATABASE, ConnectMode::Offline)
            .with_durability(Durability::Relaxed)
            .with_persistence_directory(directory.path())
    };
    let error = Idem::open_sync(config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorePersistenceDirectoryLocked);
    idem.close_blocking().unwrap();
    let other = idem::DatabaseId([8; 16]);
    let wrong =
        IdemConfig::new(other, ConnectMode::Offline).with_persistence_directory(directory.path());
    let error = Idem::open_sync(wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreDatabaseMismatch);
    let idem = Idem::open_sync(config()).unwrap();
    assert_eq!(idem.peer_key(), peer);
    assert_eq!(rows(&idem, "SELECT * FROM t"), [r#"{"_id":1}"#]);
}

#[test]
fn an_offline_peer_does_not_sync() {
    let idem = Idem::open_sync(IdemConfig::new(DATABASE, ConnectMode::Offline)).unwrap();
    let error = idem.sync().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SyncUnavailable);
    assert!(!idem.sync().is_active());
}

#[test]
fn a_peer_may_be_dropped_anywhere() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let idem = memory();
        idem.store()
            .execute("INSERT INTO t DOCUMENTS ({'_id': 1})")
            .await
            .unwrap();
        drop(idem);
        let idem = memory();
        idem.close().await.unwrap();
    });
}

#[test]
fn rows_come_one_by_one_from_one_moment() {
    let idem = memory();
    let documents = (0..3000_i64).map(|n| {
        let fields = [("_id".to_owned(), n.into()), ("n".to_owned(), n.into())];
        idem::Object::from(fields)
    });
    let fail = idem::InsertConflict::Fail;
    idem.store()
        .insert_many_blocking("t", documents.collect(), fail)
        .unwrap();
    let query = ("SELECT n FROM t WHERE n >= :from", json!({"from": 1000}));
    let mut rows = idem.store().stream(query).unwrap();
    let first = rows.next_blocking().unwrap().unwrap();
    assert_eq!(first.json_string(), r#"{"n":1000}"#);
    // A reader that waits holds up nobody, and sees nothing of what comes.
    run(&idem, "DELETE FROM t");
    assert_eq!(rows.by_ref().map(Result::unwrap).count(), 1999);
    assert!(rows.next_blocking().is_none());
    let sum = block_on(async {
        let mut rows = idem
            .store()
            .stream("SELECT upper(1) FROM system:dual")
            .unwrap();
        let mut count = 0;
        while let Some(row) = rows.next().await {
            row.unwrap();
            count += 1;
        }
        (count, rows.warnings().len())
    });
    assert_eq!(sum, (1, 1));
    for (text, kind) in [
        ("SELECT * FRM t", ErrorKind::QueryInvalid),
        ("DELETE FROM t", ErrorKind::StoreTransactionReadOnly),
        ("SELECT :x FROM t", ErrorKind::QueryArgumentsInvalid),
    ] {
        let mut rows = idem.store().stream(text).unwrap();
        assert_eq!(rows.next_blocking().unwrap().unwrap_err().kind(), kind);
        assert!(rows.next_blocking().is_none(), "{text}");
    }
    run(&idem, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    let pairs = "SELECT a._id FROM t a UNNEST [1, 2, 3] AS x";
    drop(idem.store().stream(pairs).unwrap());
    let running = "SELECT id FROM system:active_requests WHERE statement LIKE '%UNNEST%'";
    crate::fixture::wait_until("what nobody reads has ended", || {
        // The question is in the list itself.
        self::rows(&idem, running).len() == 1
    });
}

#[test]
fn all_rows_become_values_of_the_app() {
    #[derive(Deserialize, PartialEq, Debug)]
    struct Car {
        seats: u8,
    }
    let idem = memory();
    run(
        &idem,
        "INSERT INTO cars DOCUMENTS ({'_id': 1, 'seats': 4}), ({'_id': 2, 'seats': 2})",
    );
    let result = idem
        .store()
        .execute_blocking("SELECT seats FROM cars")
        .unwrap();
    let cars: Vec<Car> = result.deserialize_all().unwrap();
    assert_eq!(cars, [Car { seats: 4 }, Car { seats: 2 }]);
    run(
        &idem,
        "INSERT INTO cars DOCUMENTS ({'_id': 3, 'seats': 'many'})",
    );
    let result = idem
        .store()
        .execute_blocking("SELECT seats FROM cars")
        .unwrap();
    let error = result.deserialize_all::<Car>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValidationValue);
}

/// A stream that nobody reads does not outlive its peer: the directory opens again.
#[test]
fn closing_ends_the_streams() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let config = IdemConfig::new(DATABASE, ConnectMode::Offline)
            .with_persistence_directory(directory.path());
        Idem::open_sync(config).unwrap()
    };
    let idem = open();
    let store = idem.store();
    let documents: Vec<_> = (0..2000).map(|n| serde_json::json!({ "_id": n })).collect();
    let args = serde_json::json!({ "d": documents });
    store
        .execute_blocking(("INSERT INTO t DOCUMENTS (:d)", args))
        .unwrap();
    let mut unread = store.stream("SELECT * FROM t").unwrap();
    let mut begun = store.stream("SELECT * FROM t").unwrap();
    begun.next_blocking().unwrap().unwrap();
    idem.close_blocking().unwrap();
    let again = open();
    // What was found is still given, and then the reason why there is no more.
    let last = begun.by_ref().last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Closed);
    assert!(unread.any(|row| row.is_err()));
    again.close_blocking().unwrap();
}

//! Statements that are stopped, listed and remembered; and the parameters of that.

use std::{
    thread,
    time::{Duration, Instant},
};

use idem_model::{InsertConflict, Object, Value};
use idem_query::ErrorKind;
use idem_store::{
    Cancellation, ExecuteOptions, QueryResult, Store, StoreError, TransactionOptions,
};

use crate::fixture::{PATIENCE, assert_sound, collection, documents, memory, object, rows, run};

/// Takes seconds unless it is stopped: each row compares 2,000 with 2,000 elements, as far as the
/// budget of a row goes.
const ENDLESS: &str = "SELECT COUNT(*) FROM t WHERE \
    ANY a IN list SATISFIES ANY b IN list SATISFIES a + b < 0 END END";
const ENDLESS_UPDATE: &str = "UPDATE t SET seen = \
    ANY a IN list SATISFIES ANY b IN list SATISFIES a + b < 0 END END";

const ROWS: usize = 60;

fn filled() -> Store {
    let store = memory();
    let list = Value::Array((0..2000).map(Value::Int).collect());
    let document = Object::from([("list".to_owned(), list)]);
    store
        .insert_many(&collection("t"), vec![document; ROWS], InsertConflict::Fail)
        .unwrap();
    store
}

fn kind_of(result: Result<QueryResult, StoreError>) -> ErrorKind {
    match result {
        Err(StoreError::Query(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// Waits for a row of `system:active_requests` and gives its id.
fn id_of_running(store: &Store, what: &str) -> i64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = format!(
            "SELECT id FROM system:active_requests WHERE {what} AND statement NOT LIKE '%active_requests%'"
        );
        if let Some(row) = run(store, &text).items.first() {
            return row["id"].as_int().unwrap();
        }
        assert!(Instant::now() < deadline, "no statement with {what}");
        thread::yield_now();
    }
}

#[test]
fn a_statement_over_its_time_fails_and_changes_nothing() {
    let store = filled();
    let options = ExecuteOptions::new().timeout(Duration::from_millis(30));
    for text in [ENDLESS, ENDLESS_UPDATE] {
        let kind = kind_of(store.execute_with(text, Object::new(), &options));
        assert_eq!(kind, ErrorKind::TimedOut, "{text}");
    }
    let error = store
        .execute_with(ENDLESS, Object::new(), &options)
        .unwrap_err();
    assert!(error.to_string().contains("its 30 ms"), "{error}");
    // Long enough for the short statements that follow, on a machine that does much else.
    run(&store, "ALTER SYSTEM SET statement_timeout_ms = 1000");
    let kind = kind_of(store.execute(ENDLESS, Object::new()));
    assert_eq!(kind, ErrorKind::TimedOut);
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let insert = "INSERT INTO u DOCUMENTS ({'_id': 1})";
    transaction.execute(insert, Object::new()).unwrap();
    let kind = kind_of(transaction.execute(ENDLESS_UPDATE, Object::new()));
    assert_eq!(kind, ErrorKind::TimedOut);
    transaction.commit().unwrap();
    assert_eq!(documents(&store, "u").len(), 1);
    run(&store, "ALTER SYSTEM RESET statement_timeout_ms");
    assert!(rows(&store, "SELECT * FROM t WHERE seen IS NOT MISSING").is_empty());
    assert_sound(&store);
}

#[test]
fn a_statement_waits_for_its_turn_no_longer_than_its_time() {
    let store = memory();
    let transaction = store
        .begin(TransactionOptions::new().thread_free(true))
        .unwrap();
    let options = ExecuteOptions::new().timeout(Duration::from_millis(20));
    let insert = "INSERT INTO t DOCUMENTS ({})";
    let kind = kind_of(store.execute_with(insert, Object::new(), &options));
    assert_eq!(kind, ErrorKind::TimedOut);
    // Reads never wait.
    let options = ExecuteOptions::new().timeout(Duration::from_secs(30));
    store
        .execute_with("SELECT * FROM t", Object::new(), &options)
        .unwrap();
    drop(transaction);
    store.execute_with(insert, Object::new(), &options).unwrap();
}

#[test]
fn a_cancelled_statement_fails_wherever_it_is() {
    let store = filled();
    let start = |text: &'static str| {
        let (store, cancellation) = (store.clone(), Cancellation::new());
        let options = ExecuteOptions::new().cancellation(cancellation.clone());
        let thread = thread::spawn(move || store.execute_with(text, Object::new(), &options));
        (thread, cancellation)
    };
    for text in [ENDLESS, ENDLESS_UPDATE] {
        let (thread, cancellation) = start(text);
        id_of_running(&store, "rows > 0");
        cancellation.cancel();
        assert_eq!(kind_of(thread.join().unwrap()), ErrorKind::Cancelled);
    }
    let transaction = store
        .begin(TransactionOptions::new().thread_free(true))
        .unwrap();
    let (thread, cancellation) = start("DELETE FROM t");
    id_of_running(&store, "state = 'waiting'");
    cancellation.cancel();
    assert_eq!(kind_of(thread.join().unwrap()), ErrorKind::Cancelled);
    drop(transaction);
    let late = ExecuteOptions::new().cancellation(cancellation);
    let kind = kind_of(store.execute_with("DELETE FROM t", Object::new(), &late));
    assert_eq!(kind, ErrorKind::Cancelled, "it was cancelled before");
    assert_eq!(documents(&store, "t").len(), ROWS);
}

#[test]
fn a_running_statement_is_listed_and_killed_by_its_id() {
    let store = filled();
    for (text, what) in [
        (
            ENDLESS,
            "rows > 0 AND state = 'running' AND kind = 'select'",
        ),
        (ENDLESS_UPDATE, "rows > 0 AND kind = 'update'"),
    ] {
        let running = {
            let store = store.clone();
            thread::spawn(move || store.execute(text, Object::new()))
        };
        let id = id_of_running(&store, what);
        let kill = "DELETE FROM system:active_requests WHERE id = :id RETURNING statement";
        let args = object(&format!("{{\"id\": {id}}}"));
        let killed = store.execute(kill, args.clone()).unwrap();
        assert_eq!(killed.items[0]["statement"], text.into());
        assert_eq!(kind_of(running.join().unwrap()), ErrorKind::Cancelled);
        assert!(store.execute(kill, args).unwrap().items.is_empty());
    }
    // Killing needs no turn: it must be possible while a writer holds it.
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let text = "DELETE FROM system:active_requests WHERE id = 0";
    transaction.execute(text, Object::new()).unwrap();
    let refused = store
        .execute("DELETE FROM system:collections", Object::new())
        .unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::NestedTransaction | StoreError::Query(_)
        ),
        "{refused}"
    );
}

#[test]
fn the_history_remembers_what_ran_and_forgets_when_told() {
    let store = memory();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    run(&store, "SELECT upper(_id) FROM t");
    store.execute("SELECT * FRM t", Object::new()).unwrap_err();
    let long = format!("SELECT '{}' FROM t", "x".repeat(5000));
    run(&store, &long);
    let all = "SELECT kind, items, changed, warnings, ok, error FROM system:request_history";
    assert_eq!(
        rows(&store, all),
        [
            r#"{"changed":0,"items":2,"kind":"select","ok":true,"warnings":0}"#,
            r#"{"changed":0,"error":"query/invalid","items":0,"kind":"invalid","ok":false,"warnings":0}"#,
            r#"{"changed":0,"items":2,"kind":"select","ok":true,"warnings":1}"#,
            r#"{"changed":2,"items":0,"kind":"insert","ok":true,"warnings":0}"#,
        ]
    );
    let shape = "SELECT byte_length(statement) AS n, parse_us + wait_us + execute_us = elapsed_us AS sum \
                 FROM system:request_history WHERE kind = 'select' AND ok LIMIT 2";
    assert_eq!(rows(&store, shape)[1], r#"{"n":2048,"sum":true}"#);
    let count = "SELECT COUNT(*) AS n FROM system:request_history";
    run(
        &store,
        "DELETE FROM system:request_history WHERE kind = 'insert'",
    );
    assert_eq!(rows(&store, count), [r#"{"n":6}"#]);
    run(&store, "DELETE FROM system:request_history");
    assert_eq!(rows(&store, count), [r#"{"n":1}"#]);
    run(&store, "ALTER SYSTEM SET request_history_max = 3");
    for _ in 0..5 {
        run(&store, count);
    }
    assert_eq!(rows(&store, count), [r#"{"n":3}"#]);
    run(&store, "ALTER SYSTEM SET request_history_max = 0");
    run(&store, count);
    assert_eq!(rows(&store, count), [r#"{"n":0}"#]);
}

#[test]
fn statements_that_are_kept_are_listed_with_their_uses() {
    let store = memory();
    for _ in 0..3 {
        run(&store, "SELECT * FROM t");
    }
    let text =
        "SELECT uses, kind FROM system:shared_statements WHERE statement = 'SELECT * FROM t'";
    assert_eq!(rows(&store, text), [r#"{"kind":"select","uses":3}"#]);
}

#[test]
fn a_statement_holds_no_more_memory_than_it_may() {
    let store = memory();
    for _ in 0..40 {
        let list = (0..100).map(|_| "({'text': repeat('x', 1000)})");
        let documents = list.collect::<Vec<_>>().join(", ");
        run(&store, &format!("INSERT INTO t DOCUMENTS {documents}"));
    }
    let text = "SELECT DISTINCT _id, text FROM t";
    run(&store, text);
    run(&store, "ALTER SYSTEM SET statement_memory_bytes = 1048576");
    let error = store.execute(text, Object::new()).unwrap_err();
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
    let more = ExecuteOptions::new().memory_bytes(64 * 1024 * 1024);
    store.execute_with(text, Object::new(), &more).unwrap();
}

#[test]
fn an_idle_transaction_does_not_keep_others_waiting_for_ever() {
    let store = memory();
    run(&store, "ALTER SYSTEM SET transaction_idle_ms = 20");
    let options = TransactionOptions::new().thread_free(true).hint("lunch");
    let mut transaction = store.begin(options).unwrap();
    let insert = "INSERT INTO t DOCUMENTS ({})";
    let error = store.execute(insert, Object::new()).unwrap_err();
    match &error {
        StoreError::TransactionBusy { hint, .. } => assert_eq!(hint, "lunch"),
        other => panic!("{other:?}"),
    }
    assert_eq!(error.code(), "store/transaction-busy");
    // The idle one loses nothing.
    transaction.execute(insert, Object::new()).unwrap();
    transaction.commit().unwrap();
    run(&store, insert);
    assert_eq!(documents(&store, "t").len(), 2);
}

#[test]
fn parameters_last_and_have_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let config = idem_store::StoreConfig::directory(directory.path());
        Store::open(config).unwrap()
    };
    let store = open();
    run(&store, "ALTER SYSTEM SET slow_transaction_ms = 5");
    run(&store, "ALTER SYSTEM SET statement_timeout_ms = 60000");
    store.close().unwrap();
    let store = open();
    assert_eq!(
        rows(&store, "SHOW ALL LIKE 's%_ms'"),
        [
            r#"{"slow_statement_ms":60000}"#,
            r#"{"slow_transaction_ms":5}"#,
            r#"{"statement_timeout_ms":60000}"#
        ]
    );
    for (name, value) in [
        ("slow_transaction_ms", "0"),
        ("statement_timeout_ms", "-1"),
        ("statement_timeout_ms", "'fast'"),
        ("transaction_idle_ms", "0"),
        ("statement_memory_bytes", "1000"),
        ("request_history_max", "1000000000"),
    ] {
        let text = format!("ALTER SYSTEM SET {name} = {value}");
        let kind = kind_of(store.execute(&text, Object::new()));
        assert_eq!(kind, ErrorKind::Parameter, "{text}");
    }
    run(&store, "ALTER SYSTEM RESET ALL");
    assert!(rows(&store, "SELECT * FROM system:system_parameters").is_empty());
}

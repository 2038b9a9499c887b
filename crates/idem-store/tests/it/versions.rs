//! `conflicts()` and `document_version()`: what a document keeps beside its values.

use idem_model::{Object, Value};
use idem_store::{Store, StoreConfig, TransactionOptions};

use crate::fixture::{TestClock, chain, exchange, memory, rows, run};

/// Two stores that wrote three fields of `x` without knowing of each other; B wrote later.
fn apart() -> (Store, Store) {
    let clock = TestClock::at(1_000_000);
    let open = || Store::open(StoreConfig::memory().clock(clock.clock())).unwrap();
    let (a, b) = (open(), open());
    run(
        &a,
        "INSERT INTO t DOCUMENTS ({'_id': 'x', 'f': 0, 'o': {'g': 0}, 'one': 1}), ({'_id': 'y', 'f': 9})",
    );
    exchange(&a, &b, &["t"]);
    run(&a, "UPDATE t SET f = 1, o.g = 'a', one = 1 WHERE _id = 'x'");
    clock.set(1_000_500);
    run(&b, "UPDATE t SET f = 2, o.g = {'q': 1} WHERE _id = 'x'");
    exchange(&a, &b, &["t"]);
    (a, b)
}

#[test]
fn conflicts_tells_what_was_written_apart() {
    let (a, b) = apart();
    for store in [&a, &b] {
        assert_eq!(
            rows(
                store,
                "SELECT f, conflicts(f) AS f2, conflicts(o.g) AS g, conflicts(one) AS one, \
                 conflicts(_id) AS id, conflicts(none) AS none FROM t WHERE _id = 'x'"
            ),
            [r#"{"f":2,"f2":[2,1],"g":[{"q":1},"a"],"id":[],"one":[]}"#]
        );
        assert_eq!(
            rows(
                store,
                "SELECT _id FROM t AS d WHERE array_length(conflicts(d.f)) > 0"
            ),
            [r#"{"_id":"x"}"#]
        );
        assert_eq!(
            rows(store, "SELECT _id FROM t ORDER BY conflicts(f) DESC, _id"),
            [r#"{"_id":"x"}"#, r#"{"_id":"y"}"#]
        );
        assert_eq!(
            rows(
                store,
                "SELECT l._id, conflicts(r.f) AS c FROM t l JOIN t r ON r._id = l._id WHERE l._id = 'x'"
            ),
            [r#"{"_id":"x","c":[2,1]}"#]
        );
        // The condition is about the second source, though only a subquery in it says so.
        assert_eq!(
            rows(
                store,
                "SELECT l._id FROM t l JOIN t r ON r._id = l._id \
                 WHERE EXISTS (SELECT 1 AS one FROM system:dual WHERE array_length(conflicts(r.f)) = 2)"
            ),
            [r#"{"_id":"x"}"#]
        );
        assert_eq!(
            rows(store, "SELECT MAX(array_length(conflicts(f))) AS n FROM t"),
            [r#"{"n":2}"#]
        );
    }
    // An edit can be made of them, and settles them.
    run(
        &a,
        "UPDATE t SET f = conflicts(f)[0] + conflicts(f)[1] WHERE _id = 'x'",
    );
    assert_eq!(
        rows(&a, "SELECT f, conflicts(f) AS c FROM t WHERE _id = 'x'"),
        [r#"{"c":[],"f":3}"#]
    );
}

/// Compare and set: of two writers that saw the same version one is told that it came too late.
#[test]
fn a_version_in_the_condition_is_optimistic_locking() {
    let store = memory();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1})");
    let version = |store: &Store| {
        let found = run(
            store,
            "SELECT document_version() AS v FROM t WHERE _id = 'x'",
        );
        found.items[0]["v"].clone()
    };
    let update = "UPDATE t SET n = :n WHERE _id = 'x' AND document_version() = :seen \
                  RETURNING document_version() AS v";
    let write = |n: i64, seen: &Value| {
        let args = Object::from([
            ("n".to_owned(), Value::Int(n)),
            ("seen".to_owned(), seen.clone()),
        ]);
        store.execute(update, args).unwrap()
    };
    let seen = version(&store);
    let actor = store.actor().to_string();
    assert_eq!(
        seen,
        Value::Object(Object::from([(actor.clone(), Value::Int(1))]))
    );
    let first = write(10, &seen);
    assert_eq!(first.mutated_document_ids.len(), 1);
    let late = write(20, &seen);
    assert!(late.mutated_document_ids.is_empty() && late.commit_id.is_none());
    assert_eq!(rows(&store, "SELECT n FROM t"), [r#"{"n":10}"#]);
    // RETURNING gives the version to go on with.
    let next = &first.items[0]["v"];
    assert_eq!(*next, version(&store));
    assert_eq!(write(30, next).mutated_document_ids.len(), 1);
    // A merge is a change like any other.
    let other = memory();
    exchange(&store, &other, &["t"]);
    run(&other, "UPDATE t SET m = 1");
    let seen = version(&store);
    exchange(&store, &other, &["t"]);
    assert!(write(40, &seen).mutated_document_ids.is_empty());
    assert_eq!(version(&store), version(&other));
    assert_eq!(version(&store).as_object().unwrap().len(), 2);
}

#[test]
fn a_transaction_sees_the_versions_that_it_makes() {
    let store = memory();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'x', 'n': 1})");
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let read = "SELECT document_version(t) AS v FROM t";
    let mut run = |text: &str| transaction.execute(text, Object::new()).unwrap().items;
    let before = run(read);
    run("UPDATE t SET n = 2");
    let after = run(read);
    assert_ne!(before, after);
    run("DELETE FROM t");
    assert!(run(read).is_empty());
    transaction.commit().unwrap();
}

#[test]
fn what_has_no_document_is_refused_with_a_reason() {
    let store = memory();
    let cases = [
        (
            "SELECT document_version() FROM t JOIN u ON t.a = u.a",
            "it is not clear which document this is about",
        ),
        (
            "SELECT document_version(a, b) FROM t",
            "`document_version` takes 0 to 1 arguments, not 2",
        ),
        (
            "SELECT document_version(f) FROM t",
            "there is no stored document here",
        ),
        (
            "SELECT conflicts(f + 1) FROM t",
            "`conflicts` takes the path of a field of a stored document",
        ),
        (
            "SELECT conflicts() FROM t",
            "`conflicts` takes 1 argument, not 0",
        ),
        (
            "SELECT document_version() FROM system:dual",
            "there is no stored document here",
        ),
        (
            "SELECT conflicts(name) FROM system:collections",
            "`conflicts` takes the path of a field of a stored document",
        ),
        (
            "INSERT INTO t DOCUMENTS ({'v': document_version()})",
            "there is no stored document here",
        ),
        (
            "SELECT conflicts(f) FROM t GROUP BY a",
            "Expression `conflicts(f)` must depend only on group keys or aggregates",
        ),
    ];
    for (text, message) in cases {
        let error = store.execute(text, Object::new()).unwrap_err();
        assert_eq!(chain(&error), message, "{text}");
    }
    let statement = idem_query::parse("SELECT * FROM t WHERE document_version() = {}").unwrap();
    let error = statement.subscription(&Object::new()).unwrap_err();
    assert_eq!(
        error.message(),
        "document_version is not supported in sync subscription"
    );
}

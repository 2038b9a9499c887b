//! Documents and transactions that are too large, values that are too large for an index.

use idem_model::{DocumentKey, Object, Value, limits};
use idem_store::{
    ApplyOutcome, Incoming, IncomingState, Store, StoreConfig, StoreError, TransactionOptions,
};

use crate::fixture::{assert_sound, collection, documents, id, memory, rows, run, send};

fn small_limits() -> Store {
    let config = StoreConfig::memory()
        .document_bytes_soft(1_000)
        .document_bytes_max(2_000);
    Store::open(config).unwrap()
}

fn put(store: &Store, id: &str, field: &str, bytes: usize) -> Result<usize, StoreError> {
    let args = Object::from([
        ("id".to_owned(), Value::from(id)),
        ("pad".to_owned(), Value::from("x".repeat(bytes))),
    ]);
    let text = format!(
        "INSERT INTO t DOCUMENTS ({{'_id': :id, '{field}': :pad}}) ON ID CONFLICT DO UPDATE"
    );
    store
        .execute(&text, args)
        .map(|result| result.warnings.len())
}

#[test]
fn the_soft_limit_warns_and_the_hard_limit_refuses() {
    let store = small_limits();
    assert_eq!(put(&store, "small", "a", 500).unwrap(), 0);
    assert_eq!(put(&store, "soft", "a", 1_500).unwrap(), 1);
    let error = put(&store, "hard", "a", 2_500).unwrap_err();
    let StoreError::DocumentTooLarge { key, bytes, limit } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((key.id.clone(), *limit), (id("hard"), 2_000));
    assert!(*bytes > 2_500, "{bytes}");
    // Growing step by step is refused too, and nothing of it is kept.
    put(&store, "soft", "b", 1_500).unwrap_err();
    assert!(!documents(&store, "t")["\"soft\""].contains_key("b"));
    assert_eq!(documents(&store, "t").len(), 2);
    // Inside a transaction only the statement fails.
    let mut transaction = store.begin(TransactionOptions::new()).unwrap();
    let args = Object::from([("pad".to_owned(), Value::from("x".repeat(3_000)))]);
    let text = "INSERT INTO t DOCUMENTS ({'_id': 'first'}), ({'_id': 'second', 'pad': :pad})";
    transaction.execute(text, args).unwrap_err();
    transaction
        .execute("INSERT INTO t DOCUMENTS ({'_id': 'third'})", Object::new())
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(
        rows(&store, "SELECT _id FROM t ORDER BY _id"),
        [
            r#"{"_id":"small"}"#,
            r#"{"_id":"soft"}"#,
            r#"{"_id":"third"}"#
        ]
    );
    assert_sound(&store);
}

#[test]
fn the_default_limits_are_those_of_the_design() {
    let store = memory();
    assert_eq!(
        put(&store, "a", "a", limits::DOCUMENT_BYTES_SOFT - 1_000).unwrap(),
        0
    );
    assert_eq!(
        put(&store, "b", "a", limits::DOCUMENT_BYTES_SOFT).unwrap(),
        1
    );
    assert_eq!(
        put(&store, "c", "a", limits::DOCUMENT_BYTES_MAX - 1_000).unwrap(),
        1
    );
    put(&store, "d", "a", limits::DOCUMENT_BYTES_MAX).unwrap_err();
}

#[test]
fn a_merge_over_the_limit_is_kept_shrinkable_and_deletable() {
    let (a, b) = (small_limits(), small_limits());
    for key in ["shrunk", "deleted"] {
        put(&a, key, "a", 800).unwrap();
        put(&b, key, "b", 800).unwrap();
    }
    send(&a, &b, "t", 0, usize::MAX);
    for fields in documents(&b, "t").values() {
        assert!(fields.contains_key("a") && fields.contains_key("b"));
    }
    assert_eq!(
        rows(&b, "SELECT COUNT(*) AS n FROM system:oversized_documents"),
        [r#"{"n":2}"#]
    );
    put(&b, "shrunk", "c", 100).unwrap_err();
    run(&b, "UPDATE t UNSET a WHERE _id = 'shrunk'");
    put(&b, "shrunk", "c", 10).unwrap();
    run(&b, "DELETE FROM t WHERE _id = 'deleted'");
    assert!(rows(&b, "SELECT * FROM system:oversized_documents").is_empty());
    assert_sound(&b);
    send(&b, &a, "t", 0, usize::MAX);
    assert_eq!(a.digest().unwrap(), b.digest().unwrap());
}

#[test]
fn a_document_beyond_every_limit_is_refused() {
    let store = memory();
    let report = store
        .apply(
            vec![Incoming {
                key: DocumentKey {
                    collection: collection("t"),
                    id: id("x"),
                },
                group: 0,
                state: IncomingState::Whole(vec![0; limits::DOCUMENT_MERGED_BYTES_MAX + 1]),
            }],
            &[],
        )
        .unwrap();
    assert!(matches!(
        report.outcomes[..],
        [ApplyOutcome::Refused { .. }]
    ));
}

#[test]
fn a_value_too_large_for_a_key_makes_its_index_wait() {
    let store = memory();
    run(&store, "CREATE INDEX by_a ON t (a)");
    let large = "x".repeat(10_000);
    put(&store, "small", "a", 3).unwrap();
    put(&store, "large", "a", 10_000).unwrap();
    let problem = || rows(&store, "SELECT state, problem FROM system:indexes");
    let find = |text: &str| {
        let args = Object::from([("v".to_owned(), Value::from(text))]);
        let result = store
            .execute("SELECT _id FROM t WHERE a = :v", args)
            .unwrap();
        result.items.len()
    };
    let expected = "not used: a document has a value too large for it";
    assert_eq!(
        problem(),
        [format!(r#"{{"problem":"{expected}","state":"ready"}}"#)]
    );
    assert_eq!((find(&large), find("xxx"), find("y")), (1, 1, 0));
    assert_sound(&store);
    run(&store, "DELETE FROM t WHERE _id = 'large'");
    assert_eq!(problem(), [r#"{"state":"ready"}"#]);
    assert_eq!((find(&large), find("xxx")), (0, 1));
    assert_sound(&store);
}

#[test]
fn system_collections_tell_what_is_there() {
    let store = memory();
    run(&store, "CREATE INDEX by_v ON t (v DESC, w)");
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    assert_eq!(
        rows(&store, "SELECT * FROM system:collections"),
        [r#"{"documents":2,"name":"t"}"#]
    );
    let indexes = rows(&store, "SELECT * FROM system:indexes");
    assert!(
        indexes[0].contains("by_v") && indexes[0].contains("desc"),
        "{indexes:?}"
    );
    let actor = store.actor().to_string();
    let info = rows(&store, "SELECT * FROM system:system_info");
    assert!(info.iter().any(|row| row.contains(&actor)), "{info:?}");
    let requests = rows(&store, "SELECT statement, ok FROM system:request_history");
    assert!(requests[0].contains("system:system_info"), "{requests:?}");
    for name in ["quarantine", "data_sync_info"] {
        assert!(rows(&store, &format!("SELECT * FROM system:{name}")).is_empty());
    }
    store
        .execute("SELECT * FROM system:nothing", Object::new())
        .unwrap_err();
    let reserved = store.execute("INSERT INTO __x DOCUMENTS ({})", Object::new());
    reserved.unwrap_err();
}

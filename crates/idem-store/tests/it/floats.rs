//! Floats that applications make without asking whether documents can hold them.

use idem_model::{InsertConflict, Object, Value};
use idem_store::{Store, StoreConfig, StoreError};

use crate::fixture::{assert_sound, collection, memory, rows, run};

fn args(value: Value) -> Object {
    Object::from([("v".to_owned(), value)])
}

fn document(id: i64, value: Value) -> Object {
    Object::from([
        ("_id".to_owned(), Value::Int(id)),
        ("a".to_owned(), value.clone()),
        ("list".to_owned(), Value::Array(vec![value])),
    ])
}

#[test]
fn a_negative_zero_is_zero() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::directory(directory.path())).unwrap();
    let zero = || Value::Float(-0.0);
    let with = |text: &str| store.execute(text, args(zero())).unwrap();
    with("INSERT INTO c DOCUMENTS ({'_id': 1, 'a': :v, 'list': [:v]})");
    run(&store, "INSERT INTO one DOCUMENTS ({'_id': 2})");
    with("INSERT INTO c SELECT 2 AS _id, :v AS a, [:v] AS list FROM one");
    run(
        &store,
        "INSERT INTO c DOCUMENTS ({'_id': 3, 'a': 1}), ({'_id': 4, 'a': {'b': 1}})",
    );
    with("UPDATE c SET a = :v, list = [:v] WHERE _id IN (3, 4)");
    with("INSERT INTO c SELECT 3 AS _id, :v AS a FROM one ON ID CONFLICT DO UPDATE");
    let given = Value::Array(vec![Value::Object(document(5, zero()))]);
    let given = Object::from([("d".to_owned(), given)]);
    store
        .execute("INSERT INTO c DOCUMENTS (:d)", given)
        .unwrap();
    store
        .insert_many(
            &collection("c"),
            vec![document(6, zero())],
            InsertConflict::Fail,
        )
        .unwrap();
    let check = |store: &Store| {
        for text in [
            "SELECT COUNT(*) AS n FROM c WHERE a = :v",
            "SELECT COUNT(*) AS n FROM c WHERE a IN (:v)",
            "SELECT COUNT(*) AS n FROM c WHERE a >= :v",
            "SELECT COUNT(*) AS n FROM c WHERE list = [:v]",
            "SELECT COUNT(*) AS n FROM c WHERE CAST(a AS STRING) = CAST(:v AS STRING)",
        ] {
            for number in [0.0, -0.0] {
                let found = store.execute(text, args(Value::Float(number))).unwrap();
                assert_eq!(found.items[0]["n"], Value::Int(6), "{text} with {number:?}");
            }
        }
        let row = r#"{"a":0.0,"list":[0.0]}"#;
        assert_eq!(rows(store, "SELECT a, list FROM c"), [row; 6]);
        assert_sound(store);
    };
    check(&store);
    run(&store, "CREATE INDEX by_a ON c (a)");
    check(&store);
    store.close().unwrap();
    drop(store);
    check(&Store::open(StoreConfig::directory(directory.path())).unwrap());
}

#[test]
fn what_is_no_number_is_refused() {
    let store = memory();
    run(&store, "INSERT INTO c DOCUMENTS ({'_id': 1, 'a': 1})");
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value = || Value::Array(vec![Value::Float(number)]);
        for text in [
            "INSERT INTO c DOCUMENTS ({'_id': 2, 'a': :v})",
            "INSERT INTO c DOCUMENTS (:v)",
            "UPDATE c SET a = :v",
            "SELECT :v AS v FROM c",
        ] {
            let result = store.execute(text, args(value()));
            let Err(StoreError::Query(error)) = result else {
                panic!("{text}: {result:?}");
            };
            assert_eq!(error.code(), "query/arguments-invalid");
            assert!(error.message().contains("not finite"), "{error}");
        }
        let result = store.insert_many(
            &collection("c"),
            vec![document(2, value())],
            InsertConflict::Fail,
        );
        assert!(
            matches!(result, Err(StoreError::Operation { .. })),
            "{result:?}"
        );
    }
    assert_eq!(rows(&store, "SELECT * FROM c"), [r#"{"_id":1,"a":1}"#]);
    assert_sound(&store);
}

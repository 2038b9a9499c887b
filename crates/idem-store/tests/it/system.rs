//! System parameters that change how statements are read, what a store tells about itself, and what it
//! can be asked to do.

use idem_model::{InsertConflict, Object, Value, json};
use idem_store::{SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use crate::fixture::{collection, memory, rows, run, to_json};

fn failure(store: &Store, text: &str) -> String {
    match store.execute(text, Object::new()) {
        Err(StoreError::Query(error)) => {
            format!("{error} ({})", error.hint().unwrap_or_default())
        }
        other => panic!("{text}: {other:?}"),
    }
}

/// The number at a path of names.
fn number(value: &Value, path: &[&str]) -> i64 {
    let found = path.iter().try_fold(value, |value, name| {
        value.as_object().and_then(|fields| fields.get(*name))
    });
    found
        .and_then(Value::as_int)
        .unwrap_or_else(|| panic!("no {path:?} in {}", json::to_string(value)))
}

/// Every step of a plan in the order of the text.
fn steps<'v>(plan: &'v Value, all: &mut Vec<&'v Object>) {
    let fields = plan.as_object().unwrap();
    all.push(fields);
    for child in fields
        .get("children")
        .and_then(Value::as_array)
        .unwrap_or_default()
    {
        steps(child, all);
    }
}

#[test]
fn strict_mode_is_kept() {
    let disk = SimulatedDisk::new();
    let store = Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    let text = "UPDATE t SET o.a = 1";
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 1, 'o': {'a': 0}})",
    );
    run(&store, text);
    run(&store, "ALTER SYSTEM SET DQL_STRICT_MODE = true");
    store.close().unwrap();
    let store = Store::open(StoreConfig::simulated(disk)).unwrap();
    assert_eq!(
        rows(&store, "SHOW dql_strict_mode"),
        [r#"{"dql_strict_mode":true}"#]
    );
    let error = failure(&store, text);
    assert!(
        error.contains("Unsupported DML operation on REGISTER field"),
        "{error}"
    );
    run(&store, "UPDATE COLLECTION t (o MAP) SET o.a = 1");
    run(&store, "ALTER SYSTEM RESET dql_strict_mode");
    run(&store, text);
}

#[test]
fn default_directives_hold_where_a_statement_says_nothing() {
    let disk = SimulatedDisk::new();
    let store = Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    let join = "SELECT a._id FROM t a JOIN t b ON a._id = b._id";
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    // It is kept parsed from here on.
    assert_eq!(rows(&store, join).len(), 1);
    run(
        &store,
        "ALTER SYSTEM SET DQL_DEFAULT_DIRECTIVES = {'#max_joins': 0}",
    );
    assert!(failure(&store, join).contains("more than 0 joins"));
    assert_eq!(
        rows(&store, &format!("/*+ {{\"#max_joins\": 1}} */ {join}")).len(),
        1
    );
    store.close().unwrap();

    let store = Store::open(StoreConfig::simulated(disk)).unwrap();
    assert!(failure(&store, join).contains("more than 0 joins"));
    assert_eq!(
        rows(&store, "SHOW dql_default_directives"),
        [r##"{"dql_default_directives":{"#max_joins":0}}"##]
    );
    run(&store, "ALTER SYSTEM RESET dql_default_directives");
    assert_eq!(rows(&store, join).len(), 1);

    for (value, expected) in [
        ("{'#max_join': 1}", "did you mean `#max_joins`?"),
        (
            "{'#index': 'by_a'}",
            "there are #prefer_order, #max_scans, #max_joins",
        ),
        ("{'#max_scans': -1}", "is an integer from 0"),
        ("7", "is an object"),
    ] {
        let error = failure(
            &store,
            &format!("ALTER SYSTEM SET dql_default_directives = {value}"),
        );
        assert!(error.contains(expected), "{error}");
    }
}

/// The planner takes them: an index that gives the order goes before one that narrows the search.
#[test]
fn default_directives_reach_the_planner() {
    let store = memory();
    run(&store, "CREATE INDEX by_a ON t (a)");
    run(&store, "CREATE INDEX by_b ON t (b)");
    let documents = (0..200).map(|id| format!("{{'_id': {id}, 'a': {}, 'b': {id}}}", id % 50));
    let documents: Vec<String> = documents.collect();
    run(
        &store,
        &format!(
            "INSERT INTO t DOCUMENTS {}",
            documents
                .iter()
                .map(|d| format!("({d})"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    );
    let text = "SELECT * FROM t WHERE a = 3 ORDER BY b";
    let explain = format!("EXPLAIN {text}");
    let before = rows(&store, text);
    assert!(rows(&store, &explain)[0].contains(r#""index":"by_a""#));
    run(
        &store,
        "ALTER SYSTEM SET dql_default_directives = {'prefer_order': true}",
    );
    assert!(rows(&store, &explain)[0].contains(r#""index":"by_b""#));
    assert_eq!(rows(&store, text), before);
}

#[test]
fn profile_measures_time_and_counts_rows() {
    let store = memory();
    let documents: Vec<String> = (0..500)
        .map(|id| format!("({{'_id': {id}, 'a': {}}})", id % 5))
        .collect();
    run(
        &store,
        &format!("INSERT INTO t DOCUMENTS {}", documents.join(", ")),
    );
    let cases = [
        (
            "PROFILE SELECT * FROM t WHERE a < 2 ORDER BY a DESC LIMIT 7",
            7,
            [("filter", 500, 200), ("projection", 200, 7)],
        ),
        (
            "PROFILE SELECT a, COUNT(*) AS n FROM t GROUP BY a",
            5,
            [("scan", 500, 500), ("projection", 500, 5)],
        ),
    ];
    for (text, results, expected) in cases {
        // The second time it is kept parsed.
        for _ in 0..2 {
            let items = run(&store, text).items;
            assert_eq!(items.len(), results + 1);
            let profile = &items[results]["~request_profile"];
            assert_eq!(
                number(profile, &["resultCount"]),
                i64::try_from(results).unwrap()
            );
            let times: Vec<i64> = (["elapsed", "parse", "plan"].iter())
                .map(|name| number(profile, &["times", name]))
                .collect();
            assert!(times.iter().all(|nanos| *nanos > 0), "{times:?}");
            let mut all = Vec::new();
            steps(&profile.as_object().unwrap()["plan"], &mut all);
            for (operator, documents_in, documents_out) in expected {
                let step = all.iter().find(|step| {
                    step["#operator"] == operator.into() && step.contains_key("#stats")
                });
                let stats = &step.unwrap_or_else(|| panic!("no {operator}: {all:?}"))["#stats"];
                assert_eq!(number(stats, &["documentsIn"]), documents_in, "{operator}");
                assert_eq!(
                    number(stats, &["documentsOut"]),
                    documents_out,
                    "{operator}"
                );
                assert!(number(stats, &["phaseTimes", "run"]) > 0, "{operator}");
            }
        }
    }
    let items = run(&store, "PROFILE UPDATE t SET a = 9 WHERE _id = 1").items;
    assert!(number(&items[0]["~request_profile"], &["times", "elapsed"]) > 0);
}

#[test]
fn misspelled_names_of_indexes_get_a_hint() {
    let store = memory();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1, 'a': 1})");
    run(&store, "CREATE INDEX by_amount ON t (a)");
    for text in [
        "DROP INDEX by_amuont ON t",
        "SELECT * FROM t USE INDEX 'by_amuont' WHERE a = 1",
    ] {
        let error = failure(&store, text);
        assert!(
            error.contains("did you mean") && error.contains("by_amount"),
            "{error}"
        );
    }
}

#[test]
fn the_support_bundle_tells_nothing_of_documents() {
    let store = memory();
    run(&store, "CREATE INDEX by_a ON people (a)");
    run(
        &store,
        "INSERT INTO people DOCUMENTS ({'_id': 'topsecret', 'a': 'topsecret'})",
    );
    store
        .execute(
            "SELECT * FROM people WHERE a = 'topsecret' -- topsecret",
            Object::new(),
        )
        .unwrap();
    store
        .execute("SELECT topsecret( FROM 'topsecret", Object::new())
        .unwrap_err();
    run(&store, "ALTER SYSTEM SET slow_statement_ms = 77");
    let items = run(&store, "EXECUTE FUNCTION System_Request_Support_Bundle()").items;
    let [bundle] = items.as_slice() else {
        panic!("{items:?}");
    };
    let text = to_json(bundle.clone());
    assert!(!text.contains("topsecret"), "{text}");
    for expected in [
        r#""collections":[{"documents":1,"name":"people"}]"#,
        r#""parameters":[{"name":"slow_statement_ms","value":77}]"#,
        "SELECT * FROM people WHERE a = ?",
        "(not shown)",
        r#""_id":"people.by_a""#,
        "of the last",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(text.contains(expected), "no {expected} in {text}");
    }
}

#[test]
fn functions_do_what_they_say_and_unknown_ones_are_named() {
    let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    assert!(store.statistics().unwrap().pending_bytes > 0);
    // Also while a writer does not come to its end.
    let mut writer = store.begin(TransactionOptions::new()).unwrap();
    writer
        .execute("INSERT INTO t DOCUMENTS ({'_id': 2})", Object::new())
        .unwrap();
    let other = store.clone();
    let call = move |text: &'static str| {
        let store = other.clone();
        std::thread::spawn(move || run(&store, text).items)
            .join()
            .unwrap()
    };
    let flushed = call("EXECUTE FUNCTION system_checkpoint()");
    assert!(flushed[0]["flushed_bytes"].as_int().unwrap() > 0);
    assert_eq!(store.statistics().unwrap().pending_bytes, 0);
    let error = writer.execute("EXECUTE FUNCTION system_compact()", Object::new());
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("longer transaction")
    );
    writer.commit().unwrap();
    let compacted = run(&store, "EXECUTE FUNCTION system_compact()").items;
    assert!(compacted[0].contains_key("compacted") && compacted[0].contains_key("engine_bytes"));
    assert_eq!(rows(&store, "SELECT _id FROM t").len(), 2);

    let error = failure(&store, "EXECUTE FUNCTION system_chekpoint()");
    assert!(
        error.contains("did you mean `system_checkpoint`?"),
        "{error}"
    );
    let error = failure(&store, "EXECUTE FUNCTION frobnicate()");
    assert!(
        error
            .contains("there are quarantine_drop, quarantine_keep, system_checkpoint, system_compact, system_request_support_bundle"),
        "{error}"
    );
    let error = failure(&store, "EXECUTE FUNCTION system_checkpoint(1)");
    assert!(error.contains("takes no arguments"), "{error}");
}

/// Compacting a real file after many deletions makes it smaller.
#[test]
fn compacting_gives_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(StoreConfig::directory(directory.path())).unwrap();
    let text = "x".repeat(500);
    let documents = (0..2_000).map(|_| Object::from([("text".to_owned(), text.as_str().into())]));
    store
        .insert_many(&collection("t"), documents.collect(), InsertConflict::Fail)
        .unwrap();
    store.checkpoint().unwrap();
    run(&store, "EVICT FROM t");
    let row = run(&store, "EXECUTE FUNCTION system_compact()")
        .items
        .remove(0);
    assert_eq!(row["compacted"], Value::Bool(true), "{row:?}");
    assert!(
        row["engine_bytes"].as_int() < row["engine_bytes_before"].as_int(),
        "{row:?}"
    );
    assert_eq!(rows(&store, "SELECT COUNT(*) AS n FROM t"), [r#"{"n":0}"#]);
}

#[test]
fn system_info_has_a_row_for_each_thing() {
    let store = memory();
    run(
        &store,
        "INSERT INTO cars DOCUMENTS ({'_id': 1}), ({'_id': 2})",
    );
    run(&store, "ALTER SYSTEM SET slow_statement_ms = 77");
    let value = |key: &str| {
        let text = "SELECT namespace, value, timestamp FROM system:system_info WHERE key = :key";
        let args = Object::from([("key".to_owned(), key.into())]);
        let mut items = store.execute(text, args).unwrap().items;
        assert_eq!(items.len(), 1, "{key}");
        let mut row = items.remove(0);
        assert!(row["timestamp"].as_int().unwrap() > 0 && row["namespace"].as_str().is_some());
        row.remove("value").unwrap()
    };
    assert_eq!(value("collection_num_docs[cars]"), Value::Int(2));
    assert_eq!(
        value("non_default_system_parameter[slow_statement_ms]"),
        Value::Int(77)
    );
    assert_eq!(value("idem_sdk_version"), env!("CARGO_PKG_VERSION").into());
    assert!(value("fs_usage_total_bytes").as_int().unwrap() > 0);
}

/// Documents that changed behind what a peer has confirmed, each once.
#[test]
fn peers_are_behind_by_what_changed_since() {
    let store = memory();
    for id in ["a", "b", "c"] {
        run(
            &store,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': '{id}'}})"),
        );
    }
    run(
        &store,
        "INSERT INTO u DOCUMENTS ({'_id': 'a'}), ({'_id': 'b'})",
    );
    run(&store, "UPDATE t SET n = 1 WHERE _id = 'c'");
    let behind = |confirmed: Option<u64>, names: &[&str]| {
        let documents = Value::Object(Object::new());
        let peer = idem_store::PeerSync {
            row: Object::from([("documents".to_owned(), documents)]),
            confirmed,
            collections: names.iter().map(|name| collection(name)).collect(),
        };
        store.provide_data_sync_info(std::sync::Arc::new(move || vec![peer.clone()]));
        let query = "SELECT documents.documents_behind AS n FROM system:data_sync_info";
        rows(&store, query).concat()
    };
    assert_eq!(behind(None, &["t"]), r#"{"n":null}"#);
    assert_eq!(behind(Some(0), &["t"]), r#"{"n":3}"#);
    assert_eq!(behind(Some(0), &["t", "u", "nothing"]), r#"{"n":5}"#);
    assert_eq!(behind(Some(1), &["t"]), r#"{"n":2}"#);
    assert_eq!(behind(Some(3), &["t"]), r#"{"n":1}"#);
    assert_eq!(behind(Some(4), &["u"]), r#"{"n":0}"#);
    assert_eq!(behind(Some(store.last_commit()), &["t", "u"]), r#"{"n":0}"#);
    let many = "INSERT INTO t DOCUMENTS (:documents)";
    let documents: Vec<Value> = (0..12_000).map(|_| Value::Object(Object::new())).collect();
    let args = Object::from([("documents".to_owned(), documents.into())]);
    store.execute(many, args).unwrap();
    assert_eq!(behind(Some(0), &["t", "u"]), r#"{"n":10000}"#);
}

#[test]
fn what_does_not_sync_has_a_row() {
    let store = memory();
    run(
        &store,
        "INSERT INTO t DOCUMENTS ({'_id': 'a'}), ({'_id': 'b'})",
    );
    let query = "SELECT collection, id, reason FROM system:sync_degradations";
    assert!(rows(&store, query).is_empty());
    let key = idem_model::DocumentKey {
        collection: collection("t"),
        id: "b".into(),
    };
    let from = idem_model::PeerId([7; 32]);
    let cancellation = idem_store::Cancellation::new();
    store.quarantine(&[key], from, &cancellation).unwrap();
    run(
        &store,
        "ALTER SYSTEM SET user_collection_sync_scopes = {'x': 'BigPeerOnly', 'y': 'SmallPeersOnly'}",
    );
    let row = Object::from([("reason".to_owned(), Value::from("told"))]);
    store.provide_sync_degradations(std::sync::Arc::new(move || vec![row.clone()]));
    let expected = [
        r#"{"collection":"x","id":null,"reason":"sync_scope"}"#,
        r#"{"collection":"t","id":"b","reason":"quarantine"}"#,
        r#"{"reason":"told"}"#,
    ];
    assert_eq!(rows(&store, query), expected);
    run(&store, "UPDATE t SET n = 1 WHERE _id = 'b'");
    run(&store, "ALTER SYSTEM RESET user_collection_sync_scopes");
    assert_eq!(rows(&store, query), [expected[2]]);
}

//! docs/cli.md, "JSON lines", request by request.

use serde_json::{Value, json};

use crate::{
    driven::Driven,
    harness::{query, text},
};

fn memory() -> Driven {
    Driven::start(&["--memory"])
}

#[test]
fn statements_answer_with_items_ids_commit_and_warnings() {
    let mut peer = memory();
    let answer = peer.ask_ok(json!({
        "statement": "INSERT INTO cars DOCUMENTS (:a), (:b)",
        "args": {"a": {"_id": "x", "n": 1}, "b": {"_id": 7, "n": 1.5, "o": {"k": [null, true]}}}
    }));
    assert_eq!(answer["items"], json!([]));
    assert_eq!(answer["mutated_document_ids"], json!(["x", 7]));
    assert!(answer["commit_id"].is_u64(), "{answer}");
    assert_eq!(answer["warnings"], json!([]));
    assert!(answer.get("id").is_none());
    let answer = peer.ask_ok(json!({"statement": "SELECT * FROM cars ORDER BY n"}));
    assert_eq!(
        answer["items"],
        json!([{"_id": "x", "n": 1}, {"_id": 7, "n": 1.5, "o": {"k": [null, true]}}])
    );
    assert_eq!(answer["commit_id"], Value::Null);
    assert_eq!(answer["mutated_document_ids"], json!([]));
    let (rest, code) = peer.end();
    assert_eq!((rest.len(), code), (0, 0));
}

#[test]
fn ids_are_echoed_whatever_they_are() {
    let mut peer = memory();
    for id in [
        json!(1),
        json!("a"),
        json!(null),
        json!({"k": [1]}),
        json!(1.5),
    ] {
        let answer = peer.ask(json!({"id": id, "statement": "SELECT * FROM system:dual"}));
        assert_eq!(answer.get("id"), Some(&id));
        let answer = peer.ask(json!({"id": id, "statement": "SELEC"}));
        assert_eq!(
            (answer.get("id"), answer["error"]["code"].as_str()),
            (Some(&id), Some("query/invalid"))
        );
        let answer = peer.ask(json!({"id": id, "nothing": true}));
        assert_eq!(answer.get("id"), Some(&id));
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let mut peer = memory();
    for number in 0..200 {
        let line = if number % 3 == 0 {
            json!({"id": number, "statement": "SELECT"})
        } else {
            json!({"id": number, "statement": "INSERT INTO c DOCUMENTS ({'_id': :n})", "args": {"n": number}})
        };
        peer.send(&line.to_string());
    }
    for number in 0..200 {
        let answer = peer.answer();
        assert_eq!(answer["id"], number);
        assert_eq!(answer.get("error").is_some(), number % 3 == 0, "{answer}");
    }
}

#[test]
fn what_is_no_request_is_answered_and_passed_over() {
    let mut peer = memory();
    let check = |peer: &mut Driven, line: &str, code: &str| {
        peer.send(line);
        let answer = peer.answer();
        assert_eq!(answer["error"]["code"], code, "{line} -> {answer}");
        assert!(answer["error"]["message"].is_string());
        answer
    };
    let answer = check(&mut peer, "{\"statement\": ", "request/invalid-json");
    assert_eq!(answer["error"]["position"]["line"], 1);
    let answer = check(&mut peer, "nonsense", "request/invalid-json");
    assert!(
        answer.to_string().contains("a request is a line of JSON"),
        "{answer}"
    );
    check(&mut peer, "{} {}", "request/invalid-json");
    check(&mut peer, "[]", "request/invalid");
    check(&mut peer, "null", "request/invalid");
    check(&mut peer, "{}", "request/unknown");
    check(&mut peer, r#"{"stmt": "SELECT 1"}"#, "request/unknown");
    check(&mut peer, r#"{"statement": 1}"#, "request/invalid");
    check(
        &mut peer,
        r#"{"statement": "SELECT 1", "arguments": {}}"#,
        "request/invalid",
    );
    check(
        &mut peer,
        r#"{"statement": "SELECT * FROM c", "args": 1}"#,
        "query/arguments-invalid",
    );
    check(&mut peer, r#"{"begin": 1}"#, "request/invalid");
    check(&mut peer, r#"{"commit": false}"#, "request/invalid");
    check(&mut peer, r#"{"sync": "resume"}"#, "request/invalid");
    check(
        &mut peer,
        r#"{"sync": "start", "connect": "127.0.0.1:1"}"#,
        "request/invalid",
    );
    check(&mut peer, r#"{"unobserve": 3}"#, "request/invalid");
    check(&mut peer, r#"{"unsubscribe": 3}"#, "request/invalid");
    check(
        &mut peer,
        r#"{"wait": {"statement": "SELECT * FROM c"}}"#,
        "request/invalid",
    );
    // Empty lines are nothing, and afterwards the peer is as good as before.
    peer.send("");
    peer.send("   ");
    assert_eq!(peer.rows("SELECT * FROM c"), json!([]));
}

#[test]
fn bytes_that_are_no_text_are_answered() {
    let mut peer = memory();
    let output = crate::harness::run_with(
        &["shell", "--jsonl", "--memory"],
        "\u{0}\n{\"commit\": true}",
    );
    let lines = output.json_lines();
    assert_eq!(lines[0]["error"]["code"], "request/invalid-json");
    assert_eq!(lines[1]["error"]["code"], "store/transaction-ended");
    assert_eq!(peer.rows("SELECT * FROM c"), json!([]));
}

#[test]
fn a_wrong_statement_names_its_place() {
    let mut peer = memory();
    let answer = peer.ask_error(
        json!({"statement": "SELECT * FROM cars\nWHERE ,"}),
        "query/invalid",
    );
    assert_eq!(
        answer["error"]["position"],
        json!({"line": 2, "column": 7}),
        "{answer}"
    );
    peer.ask_error(
        json!({"statement": "SELECT * FROM c WHERE _id = :id"}),
        "query/arguments-invalid",
    );
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    for document in ["{'_id': null}", "{'_id': 1.5}", "{'_id': 1}"] {
        let statement = format!("INSERT INTO c DOCUMENTS ({document})");
        let answer = peer.ask(json!({ "statement": statement }));
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    assert_eq!(peer.rows("SELECT * FROM c"), json!([{"_id": 1}]));
}

#[test]
fn binary_has_a_json_form() {
    let mut peer = memory();
    peer.ask_ok(json!({
        "statement": "INSERT INTO b DOCUMENTS (:d)",
        "args": {"d": {"_id": {"$binary": "AAH/"}, "v": {"$binary": ""}}}
    }));
    assert_eq!(
        peer.rows("SELECT _id, v, type(v) AS t FROM b"),
        json!([{"_id": {"$binary": "AAH/"}, "v": {"$binary": ""}, "t": "binary"}])
    );
    let answer = peer.ask(json!({"statement": "SELECT * FROM b", "args": {"x": {"$binary": "*"}}}));
    assert_eq!(answer["error"]["code"], "request/invalid-json");
}

#[test]
fn transactions_commit_whole_and_roll_back_whole() {
    let mut peer = memory();
    peer.ask_ok(json!({"begin": {"read_only": false, "hint": "x"}}));
    let inside = peer.ask_ok(json!({"statement": "INSERT INTO c DOCUMENTS ({'_id': 1})"}));
    assert_eq!(inside["commit_id"], Value::Null);
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 2})");
    assert_eq!(peer.rows("SELECT COUNT(*) AS n FROM c"), json!([{"n": 2}]));
    // A statement that fails leaves the transaction open.
    let again = peer.ask(json!({"statement": "INSERT INTO c DOCUMENTS ({'_id': 1})"}));
    assert!(again["error"]["code"].is_string(), "{again}");
    let committed = peer.ask_ok(json!({"commit": true}));
    assert!(committed["commit_id"].is_u64(), "{committed}");
    peer.ask_ok(json!({"begin": {}}));
    peer.rows("DELETE FROM c");
    peer.ask_ok(json!({"rollback": true}));
    assert_eq!(peer.rows("SELECT COUNT(*) AS n FROM c"), json!([{"n": 2}]));
    peer.ask_ok(json!({"begin": {"read_only": true}}));
    peer.ask_error(
        json!({"statement": "DELETE FROM c"}),
        "store/transaction-read-only",
    );
    peer.ask_error(json!({"begin": {}}), "store/transaction-nested");
    peer.ask_ok(json!({"rollback": true}));
    peer.ask_error(json!({"rollback": true}), "store/transaction-ended");
    peer.ask_error(json!({"commit": true}), "store/transaction-ended");
    peer.ask_ok(json!({"begin": {"read_only": false}}));
    assert_eq!(
        peer.ask_ok(json!({"commit": true}))["commit_id"],
        Value::Null
    );
}

#[test]
fn the_end_of_input_rolls_an_open_transaction_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut peer = Driven::start(&["--store", text(directory.path())]);
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    peer.ask_ok(json!({"begin": {}}));
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 2})");
    assert_eq!(peer.end().1, 0);
    assert_eq!(
        query(directory.path(), "SELECT * FROM c"),
        [json!({"_id": 1})]
    );
}

#[test]
fn observers_tell_after_their_answer_and_until_they_are_dropped() {
    let mut peer = memory();
    let observe = json!({"observe": "SELECT * FROM c WHERE n > :n ORDER BY _id", "args": {"n": 0}});
    peer.send(&observe.to_string());
    assert_eq!(peer.answer(), json!({"observer": 1}));
    let first = peer.event(|event| event["observer"] == 1);
    assert_eq!(
        first,
        json!({"event": "observed", "observer": 1, "items": []})
    );
    assert_eq!(peer.ask_ok(observe), json!({"observer": 2}));
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 1}), ({'_id': 2, 'n': 0})");
    // Whichever of the two is told first.
    let mut untold = vec![json!(1), json!(2)];
    while !untold.is_empty() {
        let event = peer.event(|event| event["items"] != json!([]));
        assert_eq!(event["items"], json!([{"_id": 1, "n": 1}]));
        untold.retain(|observer| *observer != event["observer"]);
    }
    assert_eq!(
        peer.ask_ok(json!({"unobserve": 1})),
        json!({"unobserved": 1})
    );
    peer.rows("UPDATE c SET n = 2 WHERE _id = 1");
    peer.event(|event| event["observer"] == 2 && event["items"] == json!([{"_id": 1, "n": 2}]));
    let (rest, code) = peer.end();
    assert_eq!(code, 0);
    assert!(rest.iter().all(|line| line["observer"] == 2), "{rest:?}");
}

#[test]
fn the_end_of_input_lets_the_last_result_out() {
    let script = [
        json!({"observe": "SELECT * FROM c"}),
        json!({"statement": "INSERT INTO c DOCUMENTS ({'_id': 1})"}),
        json!({"statement": "INSERT INTO c DOCUMENTS ({'_id': 2})"}),
    ];
    let script: Vec<_> = script.iter().map(Value::to_string).collect();
    let lines = crate::harness::run_with(&["shell", "--jsonl", "--memory"], &script.join("\n"))
        .json_lines();
    let last = lines
        .iter()
        .rfind(|line| line["event"] == "observed")
        .unwrap();
    assert_eq!(last["items"], json!([{"_id": 1}, {"_id": 2}]));
}

#[test]
fn an_observer_of_something_else_is_refused() {
    let mut peer = memory();
    let answer = peer.ask(json!({"observe": "DELETE FROM c"}));
    assert!(answer["error"]["code"].is_string(), "{answer}");
    peer.ask_error(json!({"observe": "SELECT * FRM c"}), "query/invalid");
}

#[test]
fn waits_end_with_the_items_or_with_the_time() {
    let mut peer = memory();
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 1}), ({'_id': 2})");
    let wait = |items: Value, ms: u64| json!({"wait": {"statement": "SELECT * FROM c", "items": items, "timeout_ms": ms}});
    // Without ORDER BY the order means nothing, and numbers compare by value.
    let answer = peer.ask_ok(wait(json!([{"_id": 2.0}, {"_id": 1}]), 5000));
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
    peer.ask_error(wait(json!([]), 0), "wait/timed-out");
    let answer = peer.ask_error(wait(json!([{"_id": 1}]), 30), "wait/timed-out");
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("\"_id\":2"),
        "{answer}"
    );
    peer.ask_ok(json!({"begin": {}}));
    peer.ask_error(wait(json!([]), 10), "request/invalid");
}

#[test]
fn sync_without_an_identity_says_what_is_missing() {
    let mut peer = memory();
    peer.ask_error(
        json!({"sync": "start", "listen": "127.0.0.1:0"}),
        "sync/unavailable",
    );
    let answer = peer.ask(json!({"sync": "start", "listen": "nowhere"}));
    assert!(answer["error"]["code"].is_string(), "{answer}");
    assert_eq!(peer.rows("SELECT * FROM c"), json!([]));
}

#[test]
fn no_event_comes_before_the_answer_that_names_its_observer() {
    let mut script = vec![json!({"statement": "INSERT INTO c DOCUMENTS ({'_id': 1})"}).to_string()];
    script.extend((0..300).map(|_| json!({"observe": "SELECT * FROM c"}).to_string()));
    let lines = crate::harness::run_with(&["shell", "--jsonl", "--memory"], &script.join("\n"))
        .json_lines();
    let mut named = 0;
    let mut told = std::collections::BTreeSet::new();
    for line in lines {
        let observer = line["observer"].as_u64();
        if line["event"] == "observed" {
            assert!(
                observer <= Some(named),
                "{line} came before its observer was named"
            );
            told.insert(observer);
        } else if observer.is_some() {
            named += 1;
            assert_eq!(observer, Some(named));
        }
    }
    assert_eq!((named, told.len()), (300, 300));
}

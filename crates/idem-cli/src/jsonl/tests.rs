//! Tests of the JSON lines protocol.

use idem::Value;

use super::{
    request::{Request, read},
    session::same_items,
};
use crate::peer::Reach;

fn refused(line: &str) -> String {
    let failure = read(line.as_bytes()).1.unwrap_err();
    format!("{failure:?}")
}

#[test]
fn a_wrong_request_is_named() {
    let check = |line: &str, expected: &str| {
        let found = refused(line);
        assert!(found.contains(expected), "{line}: {found}");
    };
    check("{", "request/invalid-json");
    check("\"x\"", "a request is a JSON object, not string");
    check("{}", "no known request");
    check(
        r#"{"commit": true, "rollback": true}"#,
        "more than one request",
    );
    check(
        r#"{"statement": 5}"#,
        "statement must be a string, not integer",
    );
    check(
        r#"{"statement": "x", "arg": {}}"#,
        "did you mean \\\"args\\\"?",
    );
    check(
        r#"{"statement": "x", "args": []}"#,
        "query/arguments-invalid",
    );
    check(r#"{"commit": false}"#, "commit must be true, not false");
    check(
        r#"{"unobserve": "1"}"#,
        "unobserve must be an integer, not string",
    );
    check(
        r#"{"begin": {"read_only": 1}}"#,
        "begin.read_only must be a boolean",
    );
    check(
        r#"{"begin": {"readonly": true}}"#,
        "did you mean \\\"read_only\\\"?",
    );
    check(
        r#"{"sync": "pause"}"#,
        "must be \\\"start\\\" or \\\"stop\\\"",
    );
    check(r#"{"sync": "stop", "listen": "x"}"#, "takes no other field");
    check(
        r#"{"sync": "start", "connect": "x"}"#,
        "connect must be an array",
    );
    check(
        r#"{"sync": "start", "connect": [1]}"#,
        "connect must be a string",
    );
    for (fields, expected) in [
        (r#""mdn": true"#, "did you mean \\\"mdns\\\"?"),
        (r#""linksMax": 5"#, "did you mean \\\"links_max\\\"?"),
        (r#""tls_cert": "x""#, "sync takes no field \\\"tls_cert\\\""),
        (r#""multicast": true"#, "it takes listen, listen_http, tls_"),
        (r#""bluetooth": "yes""#, "bluetooth must be a boolean"),
        (
            r#""links_max": 0"#,
            "links_max must be a number from 1 to 1000",
        ),
        (r#""links_max": 1001"#, "links_max must be a number"),
        (r#""tls_key": 1"#, "tls_key must be a string"),
    ] {
        check(&format!(r#"{{"sync": "start", {fields}}}"#), expected);
    }
    check(r#"{"wait": {"statement": "x"}}"#, "wait needs the items");
    check(r#"{"wait": {"items": []}}"#, "wait needs a statement");
    check(
        r#"{"wait": {"statement": "x", "items": [], "timeout_ms": -1}}"#,
        "timeout_ms must be milliseconds",
    );
}

#[test]
fn a_start_of_sync_says_how_to_reach_others() {
    let line = br#"{"sync": "start", "listen": "a:1", "listen_http": "b:2", "tls_certificate": "c",
        "tls_key": "d", "ca_certificate": "e",
        "listen_internet": "g:4", "relay_urls": ["https://h"], "connect": ["f:3"], "mdns": true, "bluetooth": true, "gateway": true, "links_max": 7}"#;
    let reach = Reach {
        listen: Some("a:1".to_owned()),
        listen_http: Some("b:2".to_owned()),
        tls_certificate: Some("c".into()),
        tls_key: Some("d".into()),
        ca_certificate: Some("e".into()),
        listen_internet: Some("g:4".to_owned()),
        relay_urls: vec!["https://h".to_owned()],
        connect: vec!["f:3".to_owned()],
        mdns: true,
        bluetooth: true,
        gateway: true,
        links_max: Some(7),
    };
    assert_eq!(read(line).1.unwrap(), Request::SyncStart(reach));
    let nothing = br#"{"sync": "start", "listen": null, "mdns": null, "links_max": null}"#;
    let reach = Reach::default();
    assert_eq!(read(nothing).1.unwrap(), Request::SyncStart(reach));
}

#[test]
fn the_id_is_found_even_in_a_wrong_request() {
    let (id, request) = read(br#"{"id": [1, "a"], "nothing": 1}"#);
    assert!(request.is_err());
    assert_eq!(id, Some(Value::Array(vec![1.into(), "a".into()])));
    let (id, request) = read(br#"{"id": null, "sync": "stop"}"#);
    assert_eq!(
        (id, request.unwrap()),
        (Some(Value::Null), Request::SyncStop)
    );
}

#[test]
fn items_compare_by_number_and_by_order_where_one_was_asked_for() {
    let items = |text| match serde_json::from_str(text).unwrap() {
        Value::Array(items) => items,
        _ => unreachable!(),
    };
    let (a, b) = (
        items(r#"[{"a":1},{"a":2}]"#),
        items(r#"[{"a":2.0},{"a":1}]"#),
    );
    assert!(same_items(&a, &b, false));
    assert!(!same_items(&a, &b, true));
    assert!(!same_items(&a, &a[..1], false));
}

//! What a peer tells of its ways to others: rows, counts and reasons.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem::{ConditionKind, Idem, TransportConfig};
use serde_json::{Value, json};

use crate::fixture::{
    conditions, config, count, dial, link, listen, memory, run, wait_for_kind, wait_until,
};

/// The rows of `system:transports_info`.
fn ways(idem: &Idem) -> Vec<Value> {
    let query = "SELECT * FROM system:transports_info";
    let shown = idem.store().execute_blocking(query).unwrap();
    let rows = shown.iter().map(|row| row.json_string());
    rows.map(|row| serde_json::from_str(&row).unwrap())
        .collect()
}

#[test]
fn who_was_refused_asks_again_when_something_is_configured() {
    let host = memory();
    let stranger = Idem::open_sync(config(2)).unwrap();
    // It would not ask again of its own accord while this test runs.
    let hour = Duration::from_secs(3600);
    let mut config = TransportConfig::new().with_tcp_server(listen(&host));
    config.connect.retry_interval = hour;
    stranger.set_transport_config(config.clone()).unwrap();
    stranger.sync().start().unwrap();
    let waits_after = |attempts: u64| {
        let waits = |way: &Value| way["attempts"] == attempts && way["state"] == "waiting";
        ways(&stranger).first().is_some_and(waits)
    };
    wait_until("it is refused, and waits", || waits_after(1));
    let way = ways(&stranger).remove(0);
    assert_eq!(way["failures"], json!({"link/key-mismatch": 1}));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let next = Duration::from_millis(way["next_attempt"].as_u64().unwrap());
    assert!(next > now + hour / 3, "{next:?} {now:?}");
    stranger.set_transport_config(config).unwrap();
    wait_until("it asks again, and waits", || waits_after(2));
}

#[test]
fn both_ends_of_a_link_show_it() {
    let (a, b) = (memory(), memory());
    assert!(ways(&a).is_empty(), "sync does not run");
    link(&a, &b, "t");
    run(&b, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    wait_until("a has it", || count(&a, "t") == 1);
    let is_measured = |way: &Value| way["links"][0]["round_trip_ms"].is_number();
    wait_until("the round trip is known", || {
        is_measured(&ways(&a)[0]) && is_measured(&ways(&b)[0])
    });
    let (at_a, at_b) = (&ways(&a)[0], &ways(&b)[0]);
    for (way, role, state, peer) in [
        (at_a, "listen", "listening", &b),
        (at_b, "dial", "linked", &a),
    ] {
        assert_eq!(way["transport"], "tcp");
        assert_eq!(way["role"], role);
        assert_eq!(way["state"], state);
        let address = way["address"].as_str().unwrap();
        assert_eq!(way["_id"], format!("tcp/{role}/{address}"));
        assert_eq!(way["links"].as_array().unwrap().len(), 1);
        let link = &way["links"][0];
        assert_eq!(link["peer"], peer.peer_key().to_string());
        assert_eq!(link["is_inbound"], role == "listen");
        assert_eq!(link["device_name"], "idem");
        assert!(link["since"].as_u64().unwrap() > 1_700_000_000_000);
        assert!(way["sent_bytes"].as_u64().unwrap() > 100);
        assert!(way["received_bytes"].as_u64().unwrap() > 100);
        assert_eq!(way["attempts"], 1);
        assert_eq!(way["linked"], 1);
        assert_eq!(way["failures"], serde_json::json!({}));
        assert_eq!(way["last_failure"], Value::Null);
        assert_eq!(way["next_attempt"], Value::Null);
    }
    // What has ended still counts, and the listener stays.
    let sent = at_a["sent_bytes"].as_u64().unwrap();
    b.close_blocking().unwrap();
    wait_until("the link is gone", || ways(&a)[0]["links"][0].is_null());
    assert!(ways(&a)[0]["sent_bytes"].as_u64().unwrap() >= sent);
    a.sync().stop();
    assert!(ways(&a).is_empty(), "sync does not run any more");
}

#[test]
fn failures_are_counted_with_their_reason_and_told_of_now_and_then() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let idem = memory();
    let (heard, _observer) = conditions(&idem);
    dial(&idem, &address);
    let tenth = heard.wait_for("the tenth failure", |it| it.count == 10);
    assert_eq!(tenth.kind, ConditionKind::Unreachable);
    assert!(tenth.message.ends_with("(10 times in a row)"), "{tenth:?}");
    assert_eq!(heard.all().len(), 2, "{:?}", heard.all());
    let way = &ways(&idem)[0];
    let failed = way["failures"]["link/unreachable"].as_u64().unwrap();
    assert!(failed >= 10 && way["attempts"].as_u64().unwrap() >= failed);
    assert_eq!(way["linked"], 0);
    assert_eq!(way["last_failure"]["code"], "link/unreachable");
    let message = way["last_failure"]["message"].as_str().unwrap();
    assert!(message.contains(&address), "{message}");
    wait_until("the pause is shown", || {
        let way = &ways(&idem)[0];
        let last = way["last_failure"]["at"].as_u64().unwrap();
        way["state"] == "waiting" && way["next_attempt"].as_u64() > Some(last)
    });
    // Somebody comes up with another key, and then with the right one.
    let transport = TransportConfig::new().with_tcp_listener(&address);
    let stranger = Idem::open_sync(config(2)).unwrap();
    stranger.set_transport_config(transport.clone()).unwrap();
    stranger.sync().start().unwrap();
    let refused = wait_for_kind(&heard, ConditionKind::KeyMismatch);
    assert_eq!(refused.count, 1);
    wait_until("the other side counts it too", || {
        ways(&stranger)[0]["failures"]["link/key-mismatch"].as_u64() >= Some(1)
    });
    stranger.close_blocking().unwrap();
    let host = memory();
    host.set_transport_config(transport).unwrap();
    host.sync().start().unwrap();
    let linked = wait_for_kind(&heard, ConditionKind::Linked);
    assert!(linked.message.contains(" failed attempts"), "{linked:?}");
    // The side that dialled is done first.
    wait_until("the other side has it too", || {
        !host.presence().graph().remote_peers.is_empty()
    });
    // Why it ended, and what it was, is told at its end.
    host.close_blocking().unwrap();
    let ended = wait_for_kind(&heard, ConditionKind::Unlinked);
    assert!(ended.message.starts_with("the link was closed, after "));
    assert!(ended.message.contains(" bytes sent and "), "{ended:?}");
}

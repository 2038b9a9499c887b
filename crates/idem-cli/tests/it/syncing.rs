//! Two peers in two processes over TCP.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    driven::Driven,
    harness::{finished, idem, run, text},
};

const ALL: &str = "SELECT * FROM c";

fn listen(peer: &mut Driven) -> String {
    let answer = peer.ask_ok(json!({"sync": "start", "listen": "127.0.0.1:0"}));
    answer["listening"].as_str().unwrap().to_owned()
}

fn connect(peer: &mut Driven, address: &str) {
    let answer = peer.ask_ok(json!({"sync": "start", "connect": [address]}));
    assert_eq!(answer["listening"], Value::Null);
}

fn wait(items: Value) -> Value {
    json!({"wait": {"statement": "SELECT * FROM c ORDER BY _id", "items": items, "timeout_ms": 15000}})
}

#[test]
fn two_peers_sync_by_websocket() {
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    let answer = a.ask_ok(json!({"sync": "start", "listen_http": "127.0.0.1:0"}));
    assert_eq!(answer["listening"], Value::Null);
    let url = format!("ws://{}", answer["listening_http"].as_str().unwrap());
    for peer in [&mut a, &mut b] {
        peer.ask_ok(json!({"subscribe": ALL}));
    }
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    connect(&mut b, &url);
    b.rows("INSERT INTO c DOCUMENTS ({'_id': 2})");
    let both = json!([{"_id": 1}, {"_id": 2}]);
    a.ask_ok(wait(both.clone()));
    b.ask_ok(wait(both));
    let seen = b.ask_ok(json!({"presence": true}));
    let link = &seen["presence"]["remote_peers"][0]["connections"][0];
    assert_eq!(link["kind"], "websocket", "{seen}");
    b.ask_error(
        json!({"sync": "start", "connect": ["http://example.org"]}),
        "validation/configuration",
    );
}

/// Writes a certificate for `name` that certifies itself, and its key.
fn certify(folder: &Path, name: &str) -> [String; 2] {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let written = [
        ("certificate", own.cert.pem()),
        ("key", own.signing_key.serialize_pem()),
    ];
    written.map(|(what, pem)| {
        let path = folder.join(format!("{name}.{what}.pem"));
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn two_peers_sync_inside_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certify(folder.path(), "localhost");
    let [other, other_key] = certify(folder.path(), "example.org");
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    for wrong in [
        json!({"tls_certificate": certificate}),
        json!({"tls_certificate": certificate, "tls_key": other_key}),
        json!({"tls_certificate": key, "tls_key": key}),
        json!({"tls_certificate": certificate, "tls_key": "nowhere/key.pem"}),
    ] {
        let mut request = wrong;
        request["sync"] = json!("start");
        request["listen_http"] = json!("127.0.0.1:0");
        a.ask_error(request, "validation/configuration");
    }
    let answer = a.ask_ok(json!({
        "sync": "start", "listen_http": "127.0.0.1:0", "tls_certificate": certificate, "tls_key": key
    }));
    let address = answer["listening_http"].as_str().unwrap();
    let (_, port) = address.rsplit_once(':').unwrap();
    for peer in [&mut a, &mut b] {
        peer.ask_ok(json!({"subscribe": ALL}));
    }
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    let dial = |ca: &str| {
        let url = format!("wss://localhost:{port}");
        json!({"sync": "start", "connect": [url], "ca_certificate": ca})
    };
    b.ask_error(dial("nowhere/ca.pem"), "validation/configuration");
    // Whom it trusts says nothing of the server: both hear of it.
    b.ask_ok(dial(&other));
    let has = |code: &'static str| {
        move |answer: &Value| {
            let told = answer["presence"]["conditions"].as_array().unwrap();
            told.iter().any(|condition| condition["code"] == code)
        }
    };
    b.ask_until(json!({"presence": true}), has("link/certificate-invalid"));
    a.ask_until(json!({"presence": true}), has("link/tls-failed"));
    b.ask_ok(dial(&certificate));
    b.ask_ok(wait(json!([{"_id": 1}])));
}

/// A build without the feature says so; one with it links.
#[test]
fn links_over_the_internet_are_there_or_are_not() {
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    let listen = json!({"sync": "start", "listen_internet": "127.0.0.1:0"});
    if cfg!(not(feature = "internet")) {
        let error = a.ask_error(listen, "validation/configuration");
        assert!(
            error.to_string().contains("the feature internet"),
            "{error}"
        );
        return;
    }
    a.ask_ok(listen);
    let address = |answer: &Value| {
        let told = answer["presence"]["conditions"].as_array().unwrap();
        let mut told = told.iter().filter_map(|told| told["address"].as_str());
        told.find(|address| address.starts_with("iroh:"))
            .map(str::to_owned)
    };
    let seen = a.ask_until(json!({"presence": true}), |answer| {
        address(answer).is_some()
    });
    for peer in [&mut a, &mut b] {
        peer.ask_ok(json!({"subscribe": ALL}));
    }
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    connect(&mut b, &address(&seen).unwrap());
    b.ask_ok(wait(json!([{"_id": 1}])));
}

#[test]
fn a_screen_needs_a_terminal() {
    let database = ["--database", "shop", "--shared-key", "correct horse"];
    let ran = run(&[&["peer", "--memory", "--tui"][..], &database].concat());
    assert_eq!(ran.stdout, "");
    ran.fails(3, "--tui needs a terminal on stdout");
}

#[test]
fn a_window_is_subscribed_to_at_the_prompt() {
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    a.rows(
        "INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 1}), ({'_id': 2, 'n': 2}), ({'_id': 3, 'n': 3})",
    );
    b.ask_ok(json!({"subscribe": "SELECT * FROM c ORDER BY n DESC LIMIT 2"}));
    let some = b.ask_ok(json!({"subscribe": "SELECT _id, n FROM c"}));
    assert_eq!(some["collection"], "c(n)");
    b.ask_ok(json!({"unsubscribe": some["subscription"]}));
    b.ask_error(
        json!({"subscribe": "SELECT * FROM c ORDER BY n DESC"}),
        "sync/subscription-invalid",
    );
    let address = listen(&mut a);
    connect(&mut b, &address);
    b.ask_ok(wait(json!([{"_id": 2, "n": 2}, {"_id": 3, "n": 3}])));
    a.rows("DELETE FROM c WHERE _id = 3");
    b.ask_ok(wait(json!([{"_id": 1, "n": 1}, {"_id": 2, "n": 2}])));
}

#[test]
fn two_peers_come_to_hold_the_same() {
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'side': 'a'})");
    b.rows("INSERT INTO c DOCUMENTS ({'_id': 2, 'side': 'b'})");
    let address = listen(&mut a);
    connect(&mut b, &address);
    assert_eq!(
        a.ask_ok(json!({"subscribe": ALL})),
        json!({"subscription": 1, "collection": "c"})
    );
    assert_eq!(
        b.ask_ok(json!({"subscribe": ALL})),
        json!({"subscription": 1, "collection": "c"})
    );
    let both = json!([{"_id": 1, "side": "a"}, {"_id": 2, "side": "b"}]);
    a.ask_ok(wait(both.clone()));
    b.ask_ok(wait(both));
    // Live, in both directions, with an observer on the far side.
    b.ask_ok(json!({"observe": "SELECT * FROM c WHERE _id = 1"}));
    a.rows("UPDATE c SET side = 'again a' WHERE _id = 1");
    b.event(|event| event["items"] == json!([{"_id": 1, "side": "again a"}]));
    let presence = b.ask_until(json!({"presence": true}), |answer| {
        answer["presence"]["remote_peers"]
            .as_array()
            .is_some_and(|peers| peers.len() == 1)
    });
    let seen = &presence["presence"]["remote_peers"][0];
    assert_eq!(seen["connections"][0]["kind"], "tcp", "{presence}");
    let digest = a.ask_ok(json!({"digest": true}))["digest"].clone();
    b.ask_until(json!({"digest": true}), |answer| answer["digest"] == digest);
    // Stopped, nothing arrives; started again, everything does.
    b.ask_ok(json!({"sync": "stop"}));
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 3})");
    b.rows("DELETE FROM c WHERE _id = 2");
    assert_eq!(b.rows("SELECT COUNT(*) AS n FROM c"), json!([{"n": 1}]));
    connect(&mut b, &address);
    let last = json!([{"_id": 1, "side": "again a"}, {"_id": 3}]);
    a.ask_ok(wait(last.clone()));
    b.ask_ok(wait(last));
    // What lost against a concurrent write can be read on both sides.
    b.ask_ok(json!({"sync": "stop"}));
    a.rows("UPDATE c SET mark = 'a' WHERE _id = 3");
    b.rows("UPDATE c SET mark = 'b' WHERE _id = 3");
    connect(&mut b, &address);
    let kept = json!({"conflicts": {"collection": "c", "_id": 3, "path": ["mark"]}});
    let both = |answer: &Value| {
        let values = answer["conflicts"].as_array().expect("a list of values");
        values.len() == 2 && values.contains(&json!("a")) && values.contains(&json!("b"))
    };
    let on_a = a.ask_until(kept.clone(), both);
    assert_eq!(on_a, b.ask_until(kept, both));
    a.ask_error(
        json!({"conflicts": {"collection": "c", "_id": 3}}),
        "request/invalid",
    );
    assert_eq!((a.end().1, b.end().1), (0, 0));
}

#[test]
fn a_subscription_is_a_plain_select() {
    let mut peer = Driven::syncing(&["--memory"], "shop", "key");
    for query in [
        "DELETE FROM c",
        "SELECT n AS m FROM c",
        "SELECT COUNT(*) FROM c",
    ] {
        peer.ask_error(json!({"subscribe": query}), "sync/subscription-invalid");
    }
    let answer = peer.ask(json!({"subscribe": "SELEC"}));
    assert!(answer["error"]["code"].is_string(), "{answer}");
    assert_eq!(
        peer.ask_ok(json!({"subscribe": "SELECT * FROM c WHERE n > :n", "args": {"n": 1}})),
        json!({"subscription": 1, "collection": "c"})
    );
    assert_eq!(
        peer.ask_ok(json!({"unsubscribe": 1})),
        json!({"unsubscribed": 1})
    );
    peer.ask_error(json!({"unsubscribe": 1}), "request/invalid");
}

/// The code that both sides' conditions show in the end.
fn refused(database: &str, key: &str, code: &str) {
    let mut a = Driven::syncing(&["--memory"], "shop", "correct horse");
    let mut b = Driven::syncing(&["--memory"], database, key);
    a.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'secret': true})");
    let address = listen(&mut a);
    b.ask_ok(json!({"subscribe": ALL}));
    connect(&mut b, &address);
    let shows = |answer: &Value| {
        let conditions = answer["presence"]["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| condition["code"] == code)
    };
    b.ask_until(json!({"presence": true}), shows);
    a.ask_until(json!({"presence": true}), shows);
    assert_eq!(b.rows(ALL), json!([]));
    assert_eq!(
        b.ask_ok(json!({"presence": true}))["presence"]["remote_peers"],
        json!([])
    );
}

#[test]
fn a_peer_with_another_key_is_refused_and_both_know_why() {
    refused("shop", "wrong horse", "link/key-mismatch");
}

#[test]
fn a_peer_of_another_database_is_refused_and_both_know_why() {
    refused("workshop", "correct horse", "link/database-mismatch");
}

#[test]
fn nobody_at_the_address_is_told() {
    let mut peer = Driven::syncing(&["--memory"], "shop", "key");
    // A port that was free a moment ago and that nobody listens on.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    connect(&mut peer, &address);
    peer.ask_until(json!({"presence": true}), |answer| {
        let conditions = answer["presence"]["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["code"] == "link/unreachable")
    });
}

#[cfg(unix)]
#[test]
fn a_headless_peer_syncs_and_stops_at_sigterm() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let directory = tempfile::tempdir().unwrap();
    let mut child = idem()
        .args([
            "peer",
            "--store",
            text(directory.path()),
            "--database",
            "shop",
        ])
        .args(["--listen", "127.0.0.1:0", "--subscribe", ALL])
        .env("IDEM_SHARED_KEY", "correct horse")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut event = || -> Value { serde_json::from_str(&events.next().unwrap().unwrap()).unwrap() };
    let started = event();
    assert_eq!(started["event"], "started");
    assert!(started["at_ms"].is_u64());
    let mut listening = event();
    while listening["event"] != "listening" {
        listening = event();
    }
    let mut b = Driven::syncing(&["--memory"], "shop", "correct horse");
    b.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    connect(&mut b, listening["address"].as_str().unwrap());
    let mut link = event();
    while link["code"] != "link/up" {
        link = event();
    }
    // A third peer that gets the document from the headless one proves that it was there.
    let mut c = Driven::syncing(&["--memory"], "shop", "correct horse");
    c.ask_ok(json!({"subscribe": ALL}));
    connect(&mut c, listening["address"].as_str().unwrap());
    c.ask_ok(wait(json!([{"_id": 1}])));
    let (mut came, mut peers) = (Vec::new(), Value::Null);
    while came.len() < 2 {
        let seen = event();
        if seen["event"] == "presence" {
            came.extend(seen["came"].as_array().unwrap().clone());
            peers = seen["peers"].clone();
        }
    }
    assert_eq!(peers, 2);
    assert!(came.iter().all(|peer| peer["distance"] == 1), "{came:?}");
    let pid = child.id().to_string();
    let status = std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert!(status.success());
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut last = Value::Null;
    for line in events {
        assert!(Instant::now() < deadline);
        last = serde_json::from_str(&line.unwrap()).unwrap();
    }
    assert_eq!(last["event"], "stopped");
    let ran = finished(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        crate::harness::query(directory.path(), ALL),
        [json!({"_id": 1})]
    );
}

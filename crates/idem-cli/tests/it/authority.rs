//! `idem authority`, and peers that sync by certificates.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
    time::Duration,
};

use idem::{CertificateRequest, DatabaseAuthority, SignedText};
use serde_json::{Value, json};

use crate::{
    driven::Driven,
    harness::{idem, run, text},
};

/// A folder with the authority of the database `shop`.
struct Office {
    folder: tempfile::TempDir,
    key: String,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority");
        let made = run(&["authority", "new", text(&file), "--database", "shop"]).ok();
        Self {
            key: made.trim().to_owned(),
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    fn authority(&self, args: &[&str]) -> String {
        let file = self.path("authority");
        let mut all = vec!["authority", args[0], &file];
        all.extend(&args[1..]);
        run(&all).ok()
    }

    /// A store and the key of its peer.
    fn store(&self, name: &str) -> (String, String) {
        let store = self.path(name);
        let key = run(&["keys", "peer", "--store", &store]).ok();
        (store, key.trim().to_owned())
    }

    /// A running peer with a certificate.
    fn member(&self, name: &str) -> (Driven, String) {
        let (store, peer) = self.store(name);
        let out = self.path(&format!("{name}.certificate"));
        self.authority(&["issue", "--peer", &peer, "--user", name, "--out", &out]);
        let driven = Driven::start(&[
            "--store",
            &store,
            "--database",
            "shop",
            "--authority",
            &self.key,
            "--certificate",
            &out,
        ]);
        (driven, peer)
    }
}

fn listen(peer: &mut Driven) -> String {
    let answer = peer.ask_ok(json!({"sync": "start", "listen": "127.0.0.1:0"}));
    answer["listening"].as_str().unwrap().to_owned()
}

fn has(code: &'static str) -> impl Fn(&Value) -> bool {
    move |answer| {
        let told = answer["presence"]["conditions"].as_array().unwrap();
        told.iter().any(|condition| condition["code"] == code)
    }
}

#[test]
fn peers_with_certificates_sync_until_one_is_revoked() {
    let office = Office::new();
    let (mut a, _) = office.member("a");
    let (mut b, b_key) = office.member("b");
    let address = listen(&mut a);
    a.ask_ok(json!({"subscribe": "SELECT * FROM c"}));
    b.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    b.ask_ok(json!({"sync": "start", "connect": [address]}));
    a.ask_ok(json!({
        "wait": {"statement": "SELECT * FROM c", "items": [{"_id": 1}], "timeout_ms": 15000}
    }));
    let list = office.authority(&["revoke", "--peer", &b_key]);
    assert_eq!(a.ask_ok(json!({"trust": list}))["news"], 1);
    assert_eq!(a.ask_ok(json!({"trust": list}))["news"], 0);
    a.ask_until(json!({"presence": true}), has("link/revoked"));
    b.ask_until(json!({"presence": true}), has("link/revoked"));
    a.ask_error(json!({"trust": "idem-time 00"}), "auth/trust-refused");
    // One that is issued later counts, and is shown without a new start.
    let line = office.authority(&["issue", "--peer", &b_key, "--user", "b"]);
    b.ask_ok(json!({"trust": line}));
    b.rows("INSERT INTO c DOCUMENTS ({'_id': 2})");
    a.ask_ok(json!({
        "wait": {
            "statement": "SELECT * FROM c ORDER BY _id",
            "items": [{"_id": 1}, {"_id": 2}],
            "timeout_ms": 15000
        }
    }));
    let shown = office.authority(&["show"]);
    assert!(shown.contains("revoked   1"), "{shown}");
    let secret = std::fs::read_to_string(office.path("authority")).unwrap();
    let secret = secret.lines().find_map(|it| it.strip_prefix("secret "));
    assert!(!shown.contains(secret.unwrap()));
}

/// What `idem doctor` finds when it dials `address` as the peer of `store`.
fn doctor(store: &str, address: &str, more: &[&str]) -> String {
    let mut args = vec![
        "doctor",
        "--store",
        store,
        "--format",
        "jsonl",
        "--connect",
        address,
    ];
    args.extend(more);
    let ran = run(&args);
    let lines = ran
        .stdout
        .lines()
        .map(|it| serde_json::from_str(it).unwrap());
    let found: Option<Value> = lines.into_iter().find(|it: &Value| it["check"] == "link");
    found.unwrap_or_else(|| panic!("{ran:?}"))["found"].to_string()
}

#[test]
fn the_doctor_says_why_there_is_no_link() {
    let office = Office::new();
    let (mut a, _) = office.member("a");
    let address = listen(&mut a);
    let (store, peer) = office.store("b");
    let key = office.key.as_str();
    let check = |more: &[&str], words: &str| {
        let found = doctor(&store, &address, more);
        assert!(found.contains(words), "{found}");
    };
    let member = ["--database", "shop", "--authority", key];
    check(&member, "has no certificate");
    let shared = ["--database", "shop", "--shared-key", "four words or more"];
    check(
        &shared,
        "asks for certificates, and this side for a shared key",
    );
    let token = ["--database", "shop", "--development-token", "play"];
    check(
        &token,
        "asks for certificates, and this side for a development token",
    );
    let other = Office::new();
    let foreign = other.path("foreign");
    other.authority(&["issue", "--peer", &peer, "--user", "b", "--out", &foreign]);
    let with_other = [
        "--database",
        "shop",
        "--authority",
        &other.key,
        "--certificate",
        &foreign,
    ];
    check(&with_other, "it does not trust who signed it");
    let own = office.path("own");
    office.authority(&["issue", "--peer", &peer, "--user", "b", "--out", &own]);
    let certified = [&member[..], &["--certificate", &own]].concat();
    check(&certified, "linked with peer");
    let (elsewhere, _) = office.store("c");
    let error = run(&[
        "shell",
        "--store",
        &elsewhere,
        "--database",
        "shop",
        "--authority",
        key,
        "--certificate",
        &own,
        "--jsonl",
    ]);
    error.fails(3, "the certificate is about peer");
}

#[test]
fn another_authority_takes_over() {
    let office = Office::new();
    let (mut a, _) = office.member("a");
    let next = office.path("next");
    let change = office.authority(&["rotate", "--next", &next, "--overlap-days", "1"]);
    assert_eq!(a.ask_ok(json!({"trust": change}))["news"], 1);
    let (store, peer) = office.store("b");
    let own = office.path("own");
    run(&[
        "authority",
        "issue",
        &next,
        "--peer",
        &peer,
        "--user",
        "b",
        "--out",
        &own,
    ])
    .ok();
    let (address, changed) = (listen(&mut a), office.path("change"));
    std::fs::write(&changed, change).unwrap();
    let certified = [
        "--database",
        "shop",
        "--authority",
        &office.key,
        "--trust",
        &changed,
    ];
    // A certificate of the next authority is of one that is not trusted until the change is known.
    let before = doctor(&store, &address, &certified);
    assert!(before.contains("has no certificate"), "{before}");
    let with_own = [&certified[..], &["--certificate", &own]].concat();
    let found = doctor(&store, &address, &with_own);
    assert!(found.contains("linked with peer"), "{found}");
    let refused = run(&["authority", "new", &next, "--database", "shop"]);
    refused.fails(1, "is there already");
    assert!(Path::new(&next).exists());
}

/// A running `idem peer` looks into the file again when what was in it is about to end.
#[test]
fn a_certificate_in_a_file_is_renewed_without_a_restart() {
    let office = Office::new();
    let (store, peer) = office.store("a");
    let file = office.path("own");
    let authority = DatabaseAuthority::from_file(office.path("authority")).unwrap();
    let issue = |lasts| {
        let request = CertificateRequest::new(peer.parse().unwrap(), "a").lasting(lasts);
        let line = SignedText::Certificate(authority.issue(request).unwrap()).to_line();
        std::fs::write(&file, line).unwrap();
    };
    // It is asked for when a minute is left.
    issue(Duration::from_secs(63));
    let mut child = idem()
        .args([
            "peer",
            "--store",
            &store,
            "--database",
            "shop",
            "--listen",
            "127.0.0.1:0",
        ])
        .args(["--authority", &office.key, "--certificate", &file])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |is_it: &dyn Fn(&Value) -> bool| {
        let mut events = lines
            .by_ref()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        events.find(is_it).unwrap()
    };
    wait_for(&|event| event["event"] == "started");
    issue(Duration::from_secs(3600));
    let told = wait_for(&|event| event["renewed"] == true);
    assert_eq!(told["event"], "certificate");
    assert!(told["left_s"].as_i64().unwrap() <= 60, "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}

//! `kill -9` at random moments: what was acknowledged is there afterwards, and whole.

use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    driven::Driven,
    harness::{idem, query, run, text},
};

const KILLS: u64 = 20;
const BATCH: u64 = 10;

/// A fixed sequence of odd moments.
fn mixed(number: u64) -> u64 {
    let z = (number ^ 0x5bf0_3635).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z ^ (z >> 29)
}

/// A driven peer inserts batches, each one commit; every answered batch must be there, whole.
#[test]
fn acknowledged_batches_survive_kills_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut batch = 0;
    for kill in 0..KILLS {
        let mut peer = Driven::start(&["--store", text(directory.path())]);
        let deadline = Instant::now() + Duration::from_micros(2_000 + mixed(kill) % 60_000);
        let mut ahead = 0;
        let mut note = |line: serde_json::Value| {
            assert!(line.get("error").is_none(), "{line}");
            acknowledged.insert(line["id"].as_u64().unwrap());
        };
        while Instant::now() < deadline {
            if ahead < 16 {
                let documents: Vec<_> = (0..BATCH)
                    .map(|n| json!({"_id": batch * BATCH + n, "batch": batch, "pad": "x".repeat(100)}))
                    .collect();
                let request = json!({
                    "id": batch,
                    "statement": "INSERT INTO c DOCUMENTS (:d)",
                    "args": {"d": documents}
                });
                peer.send(&request.to_string());
                batch += 1;
                ahead += 1;
            }
            while let Some(line) = peer.line_now() {
                note(line);
                ahead -= 1;
            }
        }
        peer.kill().into_iter().for_each(note);
    }
    let mut peer = Driven::start(&["--store", text(directory.path())]);
    let rows = peer.rows("SELECT batch, COUNT(*) AS n FROM c GROUP BY batch");
    let mut found = BTreeSet::new();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["n"], BATCH, "half a batch: {row}");
        found.insert(row["batch"].as_u64().unwrap());
    }
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {}", acknowledged.len());
    assert!(
        !acknowledged.is_empty(),
        "no batch was acknowledged in time"
    );
}

/// The import command itself is killed, and resumed with the same command until it is through.
#[test]
fn a_killed_import_resumes_to_the_whole_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/airports.ndjson");
    let args = [
        "import",
        file,
        "--store",
        text(&store),
        "--collection",
        "airports",
        "--batch",
        "50",
        "--on-conflict",
        "nothing",
    ];
    let mut partial = 0;
    for kill in 0..KILLS {
        let mut child = idem().args(args).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_micros(5_000 + mixed(kill + 100) % 150_000);
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        if !child.wait().unwrap().success() {
            partial += 1;
        }
    }
    assert!(partial > 0, "no import was caught in its middle");
    let counted = query(&store, "SELECT COUNT(*) AS n FROM airports");
    // Whole batches in the order of the file, and nothing else.
    let n = counted[0]["n"].as_u64().unwrap();
    assert!(n.is_multiple_of(50) || n == 7884, "{n}");
    run(&args).ok();
    assert_eq!(
        query(&store, "SELECT COUNT(*) AS n FROM airports"),
        [json!({"n": 7884})]
    );
    let exported = run(&[
        "export",
        "--store",
        text(&store),
        "--collection",
        "airports",
    ])
    .ok();
    let mut exported: Vec<serde_json::Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    exported.sort_by_key(|document| document["_id"].as_str().unwrap().to_owned());
    let given: Vec<serde_json::Value> = std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        exported == given,
        "the store holds other documents than the file"
    );
}

/// Killed around the moment at which the files of a store are made: whatever is left of them opens.
#[test]
fn a_store_opens_after_its_creation_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    for kill in 0..KILLS * 5 {
        let store = directory.path().join(kill.to_string());
        let mut child = idem()
            .args(["query", "SELECT * FROM c", "--store", text(&store)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(20);
        // The lock file is the first that is made.
        while !store.join("idem.lock").exists() && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < limit, "the store was never made");
            std::hint::spin_loop();
        }
        let moment = Instant::now() + Duration::from_micros(mixed(kill) % 8_000);
        while Instant::now() < moment && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        assert!(query(&store, "SELECT * FROM c").is_empty(), "{kill}");
    }
}

//! `idem keys` and `--store-key-file`.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{idem, run, text};

fn made(directory: &Path, name: &str) -> String {
    let file = directory.join(name);
    run(&["keys", "new", text(&file), "--quiet"]).ok();
    text(&file).to_owned()
}

#[test]
fn a_store_is_made_opened_and_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = text(&store);
    let key = made(folder.path(), "key");
    run(&["keys", "new", &key]).fails(1, "cannot make the key file");
    let insert = "INSERT INTO c DOCUMENTS ({'_id': 1, 'text': 'MARKER'})";
    run(&["query", "--store", store, "--store-key-file", &key, insert]).ok();
    let select = "SELECT text FROM c";
    run(&["query", "--store", store, select]).fails(3, "hint: give --store-key-file");
    let other = made(folder.path(), "other");
    run(&[
        "query",
        "--store",
        store,
        "--store-key-file",
        &other,
        select,
    ])
    .fails(3, "the key is not that of this store");
    let secret = fs::read_to_string(&key).unwrap();
    let damaged = folder.path().join("damaged");
    let mut text_of_it = secret.clone();
    let digit = if &secret[40..41] == "0" { "1" } else { "0" };
    text_of_it.replace_range(40..41, digit);
    fs::write(&damaged, text_of_it).unwrap();
    let told = run(&[
        "query",
        "--store",
        store,
        "--store-key-file",
        text(&damaged),
        select,
    ])
    .fails(3, "damaged key file");
    assert!(!told.contains(&secret[30..40]), "{told}");
    let found = run(&["query", "--store", store, "--store-key-file", &key, select]).ok();
    assert!(found.contains("MARKER"));

    let shown = run(&["keys", "show", "--store", store]).ok();
    assert!(
        shown.contains("is encrypted") && shown.contains("XChaCha20-Poly1305"),
        "{shown}"
    );
    assert!(shown.contains("rotation  none under way") && !shown.contains(&secret[30..40]));
    let checked = run(&["doctor", "--store", store, "--store-key-file", &key]).ok();
    assert!(checked.contains("encrypted at rest"), "{checked}");

    let plain = folder.path().join("plain");
    let plain = text(&plain);
    run(&["query", "--store", plain, insert]).ok();
    assert!(
        run(&["keys", "show", "--store", plain])
            .ok()
            .contains("is not encrypted")
    );
    assert!(
        run(&["doctor", "--store", plain])
            .ok()
            .contains("not encrypted at rest")
    );
    run(&["query", "--store", plain, "--store-key-file", &key, select])
        .fails(3, "the store is not encrypted");
}

#[test]
fn the_key_file_and_the_data_key_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = text(&store);
    let (key, other) = (made(folder.path(), "key"), made(folder.path(), "other"));
    let insert = "INSERT INTO c DOCUMENTS ({'_id': 1, 'text': 'MARKER'})";
    run(&["query", "--store", store, "--store-key-file", &key, insert]).ok();
    run(&["keys", "rotate", "--store", store]).fails(3, "the key of the store is needed");
    let done = run(&["keys", "rotate", "--store", store, "--store-key-file", &key]).ok();
    assert!(done.contains("under data key 2"), "{done}");
    run(&[
        "keys",
        "rotate",
        "--store",
        store,
        "--store-key-file",
        &key,
        "--new-key-file",
        &other,
    ])
    .ok();
    let select = "SELECT text FROM c";
    run(&["query", "--store", store, "--store-key-file", &key, select])
        .fails(3, "not that of this store");
    let found = run(&[
        "query",
        "--store",
        store,
        "--store-key-file",
        &other,
        select,
    ])
    .ok();
    assert!(found.contains("MARKER"));
}

/// `kill -9` in the middle of a rotation, again and again.
#[test]
fn a_rotation_survives_kills_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let store = text(&store);
    let key = made(folder.path(), "key");
    let documents: Vec<String> = (0..3000)
        .map(|n| format!("{{\"_id\": {n}, \"pad\": \"{}\"}}", "x".repeat(500)))
        .collect();
    let file = folder.path().join("documents.ndjson");
    fs::write(&file, documents.join("\n")).unwrap();
    let import = [
        "import",
        text(&file),
        "--collection",
        "c",
        "--store",
        store,
        "--store-key-file",
        &key,
    ];
    run(&import).ok();
    let rotate = ["keys", "rotate", "--store", store, "--store-key-file", &key];
    for round in 0..12_u64 {
        let mut rotating = idem()
            .args(rotate)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // An odd moment of its work, or after it.
        let moment = Instant::now() + Duration::from_millis(5 + round * 7);
        while Instant::now() < moment && rotating.try_wait().unwrap().is_none() {}
        rotating.kill().unwrap();
        rotating.wait().unwrap();
        let count = "SELECT COUNT(*) AS n FROM c";
        let found = run(&[
            "query",
            "--store",
            store,
            "--store-key-file",
            &key,
            "--format",
            "jsonl",
            count,
        ]);
        assert_eq!(found.json_lines()[0]["n"], 3000, "round {round}");
    }
    run(&rotate).ok();
    let shown = run(&["keys", "show", "--store", store]).ok();
    assert!(shown.contains("rotation  none under way"), "{shown}");
    run(&["doctor", "--store", store, "--store-key-file", &key]).ok();
}

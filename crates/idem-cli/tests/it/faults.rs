//! Bad input and faults, as the command shows them.

use std::fs;

use serde_json::json;

use crate::{
    driven::Driven,
    harness::{query, run, run_with, text},
};

#[test]
fn a_store_that_is_open_elsewhere_has_its_own_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let mut peer = Driven::start(&["--store", store]);
    peer.rows("INSERT INTO c DOCUMENTS ({'_id': 1})");
    let stderr = run(&["query", "--store", store, "SELECT * FROM c"]).fails(4, "hint:");
    assert!(stderr.contains(store), "{stderr}");
    run_with(&["shell", "--jsonl", "--store", store], "").fails(4, "cannot open");
    run(&["doctor", "--store", store, "--format", "jsonl"]).fails(4, "open in another process");
    run_with(&["import", "-", "-c", "c", "--store", store], "{}").fails(4, "cannot open");
    // The one that has it open is none the worse for it.
    assert_eq!(peer.rows("SELECT * FROM c"), json!([{"_id": 1}]));
    assert_eq!(peer.end().1, 0);
    assert_eq!(
        query(directory.path(), "SELECT * FROM c"),
        [json!({"_id": 1})]
    );
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_a_matter_of_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("probe"), "").is_ok() {
        eprintln!("SKIPPED: permissions do not bind this user (root), so they cannot be tested");
        return;
    }
    let store = closed.join("store");
    run(&["query", "--store", text(&store), "SELECT * FROM c"]).fails(3, "hint:");
    run(&["query", "--store", text(&closed), "SELECT * FROM c"]).fails(3, "hint:");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_file_in_the_place_of_the_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a store").unwrap();
    let ran = run(&["query", "--store", text(&file), "SELECT * FROM c"]);
    assert!(matches!(ran.code, 1 | 3), "{ran:?}");
    assert_eq!(fs::read(&file).unwrap(), b"not a store");
}

#[test]
fn documents_over_the_hard_limit_are_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let large = json!({"_id": "large", "text": "x".repeat(5 * 1024 * 1024)}).to_string();
    let input = format!("{{\"_id\":\"small\"}}\n{large}\n");
    run_with(&["import", "-", "--store", store, "-c", "c"], &input)
        .fails(1, "line 2: the document cannot be stored");
    assert!(query(directory.path(), "SELECT _id FROM c").is_empty());
    let bad = directory.path().join("bad");
    run_with(
        &[
            "import",
            "-",
            "--store",
            store,
            "-c",
            "c",
            "--skip-bad",
            text(&bad),
        ],
        &input,
    )
    .ok();
    assert_eq!(
        query(directory.path(), "SELECT _id FROM c"),
        [json!({"_id": "small"})]
    );
    let deep = format!(
        "{{\"_id\":\"deep\",\"a\":{}1{}}}",
        "[".repeat(65),
        "]".repeat(65)
    );
    run_with(&["import", "-", "--store", store, "-c", "c"], &deep).fails(1, "line 1");
}

#[test]
fn a_document_over_the_soft_limit_is_stored_with_a_warning() {
    let mut peer = Driven::start(&["--memory"]);
    let answer = peer.ask_ok(json!({
        "statement": "INSERT INTO c DOCUMENTS (:d)",
        "args": {"d": {"_id": 1, "text": "x".repeat(300 * 1024)}}
    }));
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 1, "{answer}");
}

#[test]
fn damaged_files_are_named_and_never_served() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let input: Vec<_> = (0..2000)
        .map(|n| json!({"_id": n, "text": format!("entry {n} {}", "x".repeat(200))}).to_string())
        .collect();
    run_with(
        &["import", "-", "--store", text(&store), "-c", "c"],
        &input.join("\n"),
    )
    .ok();
    let all = query(&store, "SELECT * FROM c ORDER BY _id");
    let mut flipped = 0;
    for file in fs::read_dir(&store).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = fs::read(&path) else { continue };
        if !path.is_file() || bytes.len() < 4096 {
            continue;
        }
        for at in [bytes.len() / 3, bytes.len() / 2] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            flipped += 1;
            let ran = run(&[
                "query",
                "--store",
                text(&store),
                "--format",
                "jsonl",
                "SELECT * FROM c ORDER BY _id",
            ]);
            if ran.code == 0 {
                assert!(
                    ran.json_lines() == all,
                    "a flipped bit in {path:?} was served as data"
                );
            } else {
                assert!(ran.stderr.contains("error:"), "{ran:?}");
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    assert!(flipped > 0, "no file was large enough to be damaged");
    assert!(query(&store, "SELECT * FROM c ORDER BY _id") == all);
}

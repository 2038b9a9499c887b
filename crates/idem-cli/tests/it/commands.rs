//! Arguments, formats, exit codes, scripts, doctor, completions.

use serde_json::{Value, json};

use crate::harness::{run, run_with, text};

#[test]
fn help_teaches_and_wrong_lines_exit_with_2() {
    let help = run(&["--help"]).ok();
    for word in [
        "demo",
        "shell",
        "query",
        "import",
        "export",
        "peer",
        "doctor",
        "completions",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
    for command in [
        "demo",
        "shell",
        "query",
        "import",
        "export",
        "peer",
        "doctor",
        "completions",
    ] {
        let help = run(&[command, "--help"]).ok();
        assert!(help.contains("Examples:"), "{command}");
    }
    assert!(run(&["--version"]).ok().starts_with("idem "));
    run(&[]).fails(2, "Usage");
    run(&["nonsense"]).fails(2, "nonsense");
    run(&["query"]).fails(2, "STATEMENT");
    run(&["import", "x", "--batch", "0"]).fails(2, "--batch");
    run(&["query", "--memory", "SELECT 1", "--args", "[]"]).fails(2, "must be a JSON object");
    run(&["query", "--memory", "SELECT 1", "--args", "{"]).fails(2, "not JSON");
}

#[test]
fn a_wrong_statement_is_shown_with_a_caret() {
    let stderr = run(&["query", "--memory", "SELECT * FORM cars"]).fails(1, "error:");
    assert!(stderr.contains("SELECT * FORM cars"), "{stderr}");
    assert!(stderr.lines().any(|line| line.contains('^')), "{stderr}");
    assert!(
        run(&["query", "--memory", "SELECT * FORM cars"])
            .stdout
            .is_empty()
    );
}

#[test]
fn results_are_printed_in_every_format_and_alone_on_stdout() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let ran = run(&[
        "query",
        "--store",
        store,
        "INSERT INTO c DOCUMENTS ({'_id': 1, 'a': 'x'}), ({'_id': 2})",
    ]);
    assert!(
        ran.stdout.is_empty() && ran.stderr.contains("2 documents changed"),
        "{ran:?}"
    );
    let select = |format: &str| {
        run(&[
            "query",
            "--store",
            store,
            "--format",
            format,
            "SELECT * FROM c ORDER BY _id",
        ])
        .ok()
    };
    assert_eq!(select("csv"), "_id,a\n1,x\n2,\n");
    assert_eq!(select("jsonl"), "{\"_id\":1,\"a\":\"x\"}\n{\"_id\":2}\n");
    assert_eq!(
        serde_json::from_str::<Value>(&select("json")).unwrap(),
        json!([{"_id": 1, "a": "x"}, {"_id": 2}])
    );
    let table = select("table");
    assert!(
        table.contains("_id") && table.contains('x') && table.lines().count() >= 4,
        "{table}"
    );
    // Not a terminal: JSON lines.
    assert_eq!(
        run(&["query", "--store", store, "SELECT a FROM c WHERE _id = 1"]).ok(),
        "{\"a\":\"x\"}\n"
    );
    let quiet = run(&["-q", "query", "--store", store, "DELETE FROM c"]);
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
    let parameter = run(&[
        "query",
        "--store",
        store,
        "SELECT :v AS v FROM system:dual",
        "--args",
        "{\"v\": 1.0}",
    ]);
    assert_eq!(parameter.ok(), "{\"v\":1.0}\n");
    assert_eq!(
        run_with(
            &["query", "--memory", "-"],
            "SELECT 1 AS n FROM system:dual"
        )
        .ok(),
        "{\"n\":1}\n"
    );
}

#[test]
fn a_script_runs_until_a_statement_fails() {
    let script = "-- a script\nINSERT INTO c DOCUMENTS ({'_id': 1, 'a': ';'});\n\
                  SELECT *\nFROM c; SELECT COUNT(*) AS n FROM c;\n.format csv\nSELECT a FROM c";
    let ran = run_with(&["shell", "--memory"], script);
    assert_eq!(ran.ok(), "{\"_id\":1,\"a\":\";\"}\n{\"n\":1}\na\n;\n");
    let ran = run_with(
        &["shell", "--memory"],
        "SELECT 1 AS n FROM system:dual;\n\nSELEC;\nSELECT 2 AS n FROM system:dual;",
    );
    assert_eq!(ran.stdout, "{\"n\":1}\n");
    let shown = ran.fails(1, "--> line 3, column 1");
    assert_eq!(shown.matches("line ").count(), 1, "{shown}");
    let script = "SELECT 1 AS n FROM system:dual; SELECT\n* FROM c\nWHRE a = 1;";
    run_with(&["shell", "--memory"], script).fails(1, "3 | WHRE a = 1");
    run_with(&["shell", "--memory"], "SELECT * FROM c WHERE a = :a;").fails(1, "in place of :a");
    let missing = "SELECT * FROM c WHERE a = :a";
    run_with(&["query", "--memory", missing], "").fails(1, "--args '{\"a\": 1}'");
    run_with(&["shell", "--memory"], ".nonsense\n").fails(2, ".help");
    let help = run_with(&["shell", "--memory"], ".help\n.quit\nSELEC;").ok();
    assert!(help.contains(".collections"), "{help}");
}

#[test]
fn a_file_is_attached_and_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a photo.bin");
    let content: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    std::fs::write(&file, &content).unwrap();
    let store = directory.path().join("store");
    let shell = ["shell", "--store", text(&store)];
    let told = run_with(&shell, &format!(".attach {}\n", file.display())).ok();
    let token: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(token["len"], 300_000);
    assert_eq!(token["metadata"]["name"], "a photo.bin");
    let copy = directory.path().join("a copy.bin");
    let id = token["id"].as_str().unwrap();
    let fetch = format!(".fetch {id} 300000 {}\n", copy.display());
    run_with(&shell, &fetch).ok();
    assert_eq!(std::fs::read(&copy).unwrap(), content);
    run_with(&shell, ".fetch nonsense\n").fails(2, "an id, a length and a file");
    run_with(&shell, ".attach /no/such/file\n").fails(1, "not attached");
}

#[test]
fn memory_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = crate::harness::idem()
        .args(["query", "--memory", "INSERT INTO c DOCUMENTS ({'_id': 1})"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn doctor_examines_a_store_and_the_machine() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let absent = directory.path().join("absent");
    run(&["doctor", "--store", text(&absent), "--format", "jsonl"]).ok();
    assert!(!absent.exists(), "doctor creates nothing");
    run(&[
        "query",
        "--store",
        store,
        "INSERT INTO c DOCUMENTS ({'_id': 1})",
    ])
    .ok();
    let findings = run(&["doctor", "--store", store, "--format", "jsonl"]).json_lines();
    let verdict = |check: &str| {
        let finding = findings.iter().find(|finding| finding["check"] == check);
        finding.unwrap_or_else(|| panic!("no {check} in {findings:?}"))["verdict"].clone()
    };
    for check in ["version", "store", "checksums", "size", "clock", "tcp"] {
        assert_eq!(verdict(check), "ok", "{check}");
    }
    for check in ["disk space", "fsync", "port", "multicast"] {
        assert!(
            verdict(check) == "ok" || verdict(check) == "warn",
            "{check}"
        );
    }
    for finding in &findings {
        assert!(
            finding["verdict"] == "ok" || finding["advice"].is_string(),
            "{finding}"
        );
    }
    let table = run(&["doctor", "--store", store, "--format", "table"]).ok();
    assert!(table.contains("what to do"), "{table}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            run(&["completions", shell]).ok().contains("idem"),
            "{shell}"
        );
    }
}

#[test]
fn a_peer_without_a_key_is_a_matter_of_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    run(&["peer", "--store", store, "--listen", "127.0.0.1:0"]).fails(3, "IDEM_SHARED_KEY");
    run(&["peer", "--memory", "--listen", "nowhere"]).fails(3, "host:port");
    run(&[
        "peer",
        "--memory",
        "--database",
        "x",
        "--shared-key-file",
        "/nowhere",
    ])
    .fails(3, "/nowhere");
    run(&["peer", "--memory", "--database", "x", "--shared-key", ""]).fails(3, "empty");
    run(&[
        "peer",
        "--memory",
        "--database",
        "x",
        "--shared-key",
        "y",
        "--subscribe",
        "DELETE FROM c",
    ])
    .fails(1, "cannot subscribe");
    run(&[
        "peer",
        "--memory",
        "--database",
        "x",
        "--shared-key",
        "y",
        "--subscribe",
        "SELECT * FROM c ORDER BY n",
    ])
    .fails(1, "ORDER BY without LIMIT");
}

#[test]
fn the_demo_holds_what_it_claims() {
    let ran = run(&["demo", "--json"]);
    let story = ran.stderr.clone();
    let figures: Value = serde_json::from_str(&ran.ok()).unwrap();
    assert_eq!(figures["ok"], true, "{figures} {story}");
    assert_eq!(figures["identical"], true, "{figures}");
    assert_eq!(figures["documents"], 7884);
    assert_eq!(figures["conflicts_as_expected"], figures["conflicts"]);
    assert_eq!(
        figures["found_after_restart"],
        figures["acknowledged_before_kill"]
    );
    assert!(figures["live_latency_p50_ms"].as_f64().unwrap() > 0.0);
    assert!(
        story.contains("every document merged as the rules say"),
        "{story}"
    );
    assert!(!story.contains('\u{1b}'), "no colour without a terminal");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let input: Vec<_> = (0..5000)
        .map(|n| json!({"_id": n, "pad": "x".repeat(100)}).to_string())
        .collect();
    run_with(
        &["import", "-", "--store", store, "-c", "c"],
        &input.join("\n"),
    )
    .ok();
    for command in [
        ["query", "SELECT * FROM c"].as_slice(),
        &["export", "-c", "c"],
    ] {
        let mut child = crate::harness::idem()
            .args(command)
            .args(["--store", store])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(first.contains("\"_id\":0"), "{first}");
        let ran = crate::harness::finished(child.wait_with_output().unwrap());
        assert!(!ran.stderr.contains("error"), "{ran:?}");
    }
}

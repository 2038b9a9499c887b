//! The comparison as a command, with far too little work for a figure.

use std::process::Command;

use serde_json::Value;

/// Runs the binary and gives one object a workload.
fn rows(args: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_idem-bench-compare"))
        .args(args)
        .output()
        .expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = String::from_utf8(output.stdout).expect("JSON is text");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect()
}

#[track_caller]
fn check(rows: &[Value], workloads: &[&str]) {
    let names: Vec<_> = rows.iter().map(|row| row["workload"].as_str()).collect();
    let expected: Vec<_> = workloads.iter().copied().map(Some).collect();
    assert_eq!(names, expected);
    for row in rows {
        let keys: Vec<_> = row
            .as_object()
            .expect("a row is an object")
            .keys()
            .map(String::as_str)
            .collect();
        let every = [
            "durability",
            "errors",
            "idem",
            "other",
            "other_name",
            "ratio",
            "unit",
            "verified",
            "workload",
        ];
        assert_eq!(keys, every);
        assert_eq!(row["verified"], true, "{row}");
        assert_eq!(row["errors"], 0, "{row}");
        assert!(
            row["idem"].as_f64().is_some_and(|figure| figure > 0.0),
            "{row}"
        );
    }
}

#[test]
fn local_workloads_run_and_are_verified() {
    let rows = rows(&["local", "--json", "--rounds", "1", "--scale", "0.02"]);
    check(
        &rows,
        &[
            "durable-insert-1-writer",
            "durable-insert-32-writers",
            "durable-insert-100-per-commit",
            "point-read-by-id",
            "metadata-written-once",
            "alternating-sets-2-actors",
        ],
    );
}

#[test]
fn two_processes_sync_and_are_verified() {
    let rows = rows(&["sync", "--json", "--quick"]);
    let names: Vec<_> = rows.iter().map(|row| row["workload"].as_str()).collect();
    let expected = [
        "first-sync-1000",
        "first-sync-1000-sender-cpu",
        "first-sync-1000-receiver-cpu",
        "live-durable-p50",
        "live-durable-p99",
        "live-durable-round-trip-p50",
        "live-durable-alone-p50",
        "live-relaxed-p50",
        "live-relaxed-p99",
        "live-relaxed-round-trip-p50",
        "live-relaxed-alone-p50",
        "blob-rate",
        "blob-live-p50",
        "blob-live-p99",
        "storm-updates",
        "storm-converged",
        "storm-sender-growth",
        "storm-receiver-growth",
        "storm-sender-peak",
        "storm-receiver-peak",
    ];
    assert_eq!(names, expected.map(Some));
    for row in &rows {
        assert_eq!(row["verified"], true, "{row}");
        assert_eq!(row["errors"], 0, "{row}");
        // Memory that does not grow and peers that agree at once are as good as can be.
        assert!(row["idem"].as_f64().is_some_and(|it| it >= 0.0), "{row}");
    }
}

/// Statements that Idem cannot run yet have no figure; everything else has one and is right.
#[test]
fn queries_run_and_are_verified() {
    let rows = rows(&["query", "--json", "--quick"]);
    let names: Vec<_> = rows.iter().map(|row| row["workload"].as_str()).collect();
    let expected = [
        "count-all",
        "indexed-equality",
        "range-1000-projected",
        "order-indexed-limit-20",
        "full-scan-filter",
        "group-by-all",
        "hash-join-1000",
        "update-10000",
        "observer-p50",
        "observers-1000",
        "streamed-select-memory",
        "parse-small",
        "plan-cached",
        "run-cached-on-nothing",
    ];
    assert_eq!(names, expected.map(Some));
    for row in &rows {
        assert_eq!(row["verified"], true, "{row}");
        assert_eq!(row["errors"], 0, "{row}");
        let figure = row["idem"].as_f64();
        // Memory that does not grow is as good as can be.
        let may_be_nothing = row["workload"] == "streamed-select-memory";
        let is_right = |figure| figure > 0.0 || (may_be_nothing && figure == 0.0);
        assert!(figure.is_none_or(is_right), "{row}");
    }
}

#[test]
fn security_workloads_run_and_are_verified() {
    let rows = rows(&["security", "--json", "--quick"]);
    check(&rows, &["handshake-cpu-per-side"]);
}

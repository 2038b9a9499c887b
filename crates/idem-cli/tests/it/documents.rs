//! Import and export.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{query, run, run_with, text};

#[test]
fn what_is_exported_imports_as_the_same_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/data/airports.ndjson");
    let ran = run(&["import", file, "--store", text(&store), "-c", "airports"]);
    assert!(
        ran.stderr.contains("7884 documents stored in airports"),
        "{ran:?}"
    );
    ran.ok();
    let all = query(&store, "SELECT * FROM airports ORDER BY _id");
    assert_eq!(all.len(), 7884);
    for format in ["ndjson", "json", "csv"] {
        let out = directory.path().join(format!("out.{format}"));
        let copy = directory.path().join(format);
        run(&[
            "export",
            "--store",
            text(&store),
            "-c",
            "airports",
            "-o",
            text(&out),
        ])
        .ok();
        let mut args = vec![
            "import",
            text(&out),
            "--store",
            text(&copy),
            "-c",
            "airports",
        ];
        if format == "csv" {
            args.push("--csv-types");
        }
        run(&args).ok();
        let again = query(&copy, "SELECT * FROM airports ORDER BY _id");
        assert!(again == all, "{format} loses something");
    }
    let count = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(count, 7, "no partial file is left");
}

#[test]
fn ids_of_every_type_are_exported() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let lines = [
        json!({"_id": false}),
        json!({"_id": true}),
        json!({"_id": i64::MIN}),
        json!({"_id": 7}),
        json!({"_id": ""}),
        json!({"_id": "x"}),
        json!({"_id": {"$binary": ""}}),
        json!({"_id": {"$binary": "AQ=="}}),
        json!({"_id": []}),
        json!({"_id": [1, "a"]}),
        json!({"_id": {}}),
        json!({"_id": {"a": 1}}),
    ];
    let input: Vec<_> = lines.iter().map(Value::to_string).collect();
    run_with(
        &["import", "-", "--store", store, "-c", "c"],
        &input.join("\n"),
    )
    .ok();
    let exported = run(&["export", "--store", store, "-c", "c"]).json_lines();
    assert_eq!(exported.len(), lines.len(), "{exported:?}");
    for line in &lines {
        assert!(exported.contains(line), "{line} is missing");
    }
}

#[test]
fn more_than_a_page_is_exported_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    for count in [1000, 2001] {
        let name = format!("c{count}");
        let input: Vec<_> = (0..count).map(|n| json!({"_id": n}).to_string()).collect();
        run_with(
            &[
                "import", "-", "--store", store, "-c", &name, "--batch", "777",
            ],
            &input.join("\n"),
        )
        .ok();
        let exported = run(&["export", "--store", store, "-c", &name]).json_lines();
        assert_eq!(exported.len(), count);
        assert_eq!(exported[count - 1], json!({"_id": count - 1}));
    }
}

#[test]
fn a_query_is_exported_with_its_arguments() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    run_with(
        &[
            "import",
            "-",
            "--store",
            store,
            "-c",
            "c",
            "-f",
            "csv",
            "--csv-types",
        ],
        "_id,n,s\n1,1,\"a,b\"\n2,2,\n3,x,\"c\"\"d\"\n",
    )
    .ok();
    let csv = run(&[
        "export",
        "--store",
        store,
        "--format",
        "csv",
        "--query",
        "SELECT _id, n, s FROM c WHERE _id <= :max ORDER BY _id",
        "--args",
        "{\"max\": 3}",
    ]);
    assert_eq!(csv.ok(), "_id,n,s\n1,1,\"a,b\"\n2,2,\n3,x,\"c\"\"d\"\n");
    let json = run(&[
        "export",
        "--store",
        store,
        "--format",
        "json",
        "--query",
        "SELECT _id FROM c WHERE _id = 9",
    ]);
    assert_eq!(
        serde_json::from_str::<Value>(&json.ok()).unwrap(),
        json!([])
    );
    run(&["export", "--store", store, "--query", "SELECT FROM"]).fails(1, "^");
    run(&["export", "--store", store]).fails(2, "required");
}

#[test]
fn a_broken_line_is_named_and_its_batch_is_not_kept_half() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let import = |input: &str, more: &[&str]| {
        let mut args = vec!["import", "-", "--store", text(&store), "-c", "c"];
        if !more.contains(&"--batch") {
            args.extend(["--batch", "3"]);
        }
        args.extend(more);
        run_with(&args, input)
    };
    let ids = || -> Vec<i64> {
        query(&store, "SELECT _id FROM c ORDER BY _id")
            .iter()
            .map(|r| r["_id"].as_i64().unwrap())
            .collect()
    };
    // Broken text stops the import and takes its batch with it; the full batches before it stay.
    import("{\"_id\":1}\n{\"_id\":2}\n{\"_id\":,}\n{\"_id\":4}\n", &[])
        .fails(1, "line 3, column 8");
    assert_eq!(ids(), [] as [i64; 0]);
    import(
        "{\"_id\":1}\n{\"_id\":2}\n{\"_id\":2.5\n",
        &["--batch", "2"],
    )
    .fails(1, "line 3");
    assert_eq!(ids(), [1, 2]);
    // A document that cannot be stored takes its whole batch with it.
    import(
        "{\"_id\":11}\n{\"_id\":12}\n{\"_id\":13}\n{\"_id\":14}\n{\"_id\":1.5}\n",
        &[],
    )
    .fails(1, "line 5: the document cannot be stored");
    assert_eq!(ids(), [1, 2, 11, 12, 13]);
    import("{\"_id\":21}\n{\"_id\":2}\n", &[]).fails(1, "line 2: the document cannot be stored");
    import("{\"_id\":21}\n{\"_id\":21}\n", &[]).fails(1, "line 2: the document cannot be stored");
    assert_eq!(ids(), [1, 2, 11, 12, 13]);
    // Resumed past what is there.
    let ran = import("{\"_id\":1}\n{\"_id\":3}\n", &["--on-conflict", "nothing"]);
    assert!(
        ran.stderr
            .contains("1 documents stored in c, 1 were there already"),
        "{ran:?}"
    );
    ran.ok();
    assert_eq!(ids(), [1, 2, 3, 11, 12, 13]);
}

#[test]
fn conflicts_do_as_they_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    run_with(
        &["import", "-", "--store", store, "-c", "c"],
        "{\"_id\":1,\"a\":1,\"b\":1}",
    )
    .ok();
    let import = |mode: &str| {
        run_with(
            &[
                "import",
                "-",
                "--store",
                store,
                "-c",
                "c",
                "--on-conflict",
                mode,
            ],
            "{\"_id\":1,\"a\":2}",
        )
    };
    let document = || query(directory.path(), "SELECT * FROM c").remove(0);
    import("fail").fails(1, "line 1");
    import("nothing").ok();
    assert_eq!(document(), json!({"_id": 1, "a": 1, "b": 1}));
    import("update").ok();
    assert_eq!(document(), json!({"_id": 1, "a": 2, "b": 1}));
    let ran = import("update-local-diff");
    assert!(
        ran.stderr
            .contains("0 documents stored in c, 1 were there already"),
        "{ran:?}"
    );
    ran.ok();
}

#[test]
fn skip_bad_keeps_going_and_writes_the_bad_ones_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let bad = directory.path().join("bad.ndjson");
    let mut lines: Vec<String> = (0..100).map(|n| format!("{{\"_id\":{n}}}")).collect();
    lines[10] = "{broken".to_owned();
    lines[20] = "[1]".to_owned();
    lines[30] = "{\"_id\":null}".to_owned();
    lines[40] = "{\"_id\":1.5}".to_owned();
    lines[50] = "{\"_id\":49}".to_owned();
    let ran = run_with(
        &[
            "import",
            "-",
            "--store",
            text(&store),
            "-c",
            "c",
            "--batch",
            "64",
            "--skip-bad",
            text(&bad),
        ],
        &lines.join("\n"),
    );
    assert!(
        ran.stderr
            .contains("95 documents stored in c, 5 bad ones passed over"),
        "{ran:?}"
    );
    ran.ok();
    assert_eq!(
        query(&store, "SELECT COUNT(*) AS n FROM c"),
        [json!({"n": 95})]
    );
    let written: Vec<Value> = fs::read_to_string(&bad)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut numbers: Vec<_> = written
        .iter()
        .map(|row| row["line"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [11, 21, 31, 41, 51]);
    for row in &written {
        assert!(
            !row["reason"].as_str().unwrap().is_empty() && row["text"].is_string(),
            "{row}"
        );
    }
}

#[test]
fn ids_come_from_a_field_or_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    run_with(
        &[
            "import",
            "-",
            "--store",
            store,
            "-c",
            "c",
            "-f",
            "csv",
            "--id-field",
            "plate",
        ],
        "plate,color\nZH 1,red\n",
    )
    .ok();
    assert_eq!(
        query(directory.path(), "SELECT * FROM c"),
        [json!({"_id": "ZH 1", "plate": "ZH 1", "color": "red"})]
    );
    run_with(
        &[
            "import",
            "-",
            "--store",
            store,
            "-c",
            "c",
            "--id-field",
            "plate",
        ],
        "{\"x\":1}",
    )
    .fails(1, "line 1: the field \"plate\" is missing");
    run_with(
        &["import", "-", "--store", store, "-c", "made"],
        "{\"x\":1}\n{\"x\":2}",
    )
    .ok();
    let made = query(directory.path(), "SELECT _id FROM made");
    assert!(
        made.iter()
            .all(|row| row["_id"].as_str().is_some_and(|id| id.len() == 36)),
        "{made:?}"
    );
}

#[test]
fn files_that_are_not_there_or_not_of_their_format_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = text(directory.path());
    let import = |file: &str| run(&["import", file, "--store", store, "-c", "c"]);
    import("/nowhere/x.json").fails(1, "cannot open /nowhere/x.json");
    import(store).fails(2, "does not tell its format");
    let file = directory.path().join("x.json");
    fs::write(&file, "{\"_id\":1}\n{\"_id\":2}\n").unwrap();
    import(text(&file)).fails(1, "--format ndjson");
    fs::write(&file, "[{\"_id\":1},\n{\"_id\":2}").unwrap();
    import(text(&file)).fails(1, "line 2");
    let csv = directory.path().join("x.csv");
    fs::write(&csv, "_id,n\n1,2\n3\n").unwrap();
    import(text(&csv)).fails(1, "line 3: expected 2 cells");
    run(&["import", "x.json", "--store", store, "-c", ""]).fails(2, "--collection");
}

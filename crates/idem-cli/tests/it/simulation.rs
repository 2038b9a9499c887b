//! `idem sim`.

use serde_json::Value;

use crate::harness::run;

/// A run that takes no time: two peers in memory.
const SMALL: &str = "peers = 2\n[writes]\ncount = 5\n[faults]\nlast_ms = 10\n";

#[test]
fn a_scenario_gives_a_report_and_a_curve_and_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, SMALL).unwrap();
    let svg = folder.path().join("curve.svg");
    let svg = svg.to_str().unwrap();
    let args = [
        "sim",
        "--scenario",
        file,
        "--seed",
        "7",
        "--seeds",
        "2",
        "--svg",
        svg,
    ];
    let lines = run(&args).json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["verdict"], "ok");
    // A write that changes nothing where it is made is none.
    let writes = lines[0]["writes"].as_u64().unwrap();
    assert!((1..=5).contains(&writes), "{writes} writes");
    assert_eq!(lines[0]["deliveries"], lines[0]["deliveries_expected"]);
    assert_eq!(
        lines,
        run(&args).json_lines(),
        "the seed decides everything"
    );
    let picture = std::fs::read_to_string(svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("polyline"));
    let table = run(&[
        "sim",
        "--scenario",
        file,
        "--seed",
        "7",
        "--format",
        "table",
    ])
    .ok();
    assert!(table.contains("every promise was kept"), "{table}");
    let json = run(&[
        "sim",
        "--scenario",
        file,
        "--peers",
        "3",
        "--format",
        "json",
    ])
    .ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["peers"], 3);
}

#[test]
fn a_wrong_scenario_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "[links]\nloss = 3\n").unwrap();
    let said = run(&["sim", "--scenario", file]).fails(3, "is no scenario");
    assert!(
        said.contains("line 2") && said.contains("loss_percent"),
        "{said}"
    );
    run(&["sim", "--scenario", "nowhere"]).fails(2, "mixed, fields, lan, ble");
    run(&["sim", "--show", "nothing"]).fails(2, "there are: lan");
    assert!(
        run(&["sim", "--show", "ble"])
            .ok()
            .contains("bandwidth_kbit_s")
    );
}

//! What `cargo test` asks of every fuzz target: the inputs that once failed, and a short fixed run.

use std::{fs, path::Path};

use idem_fuzz::{Budget, Fuzzer, TARGETS};

/// Inputs per target: a second or two for all of them without optimisation.
const INPUTS: u64 = 2_000;

/// Inputs of a target each of whose inputs is many statements.
const SCRIPTS: u64 = 60;

/// Inputs of a target each of whose inputs is some hundred steps of two sessions.
const SCHEDULES: u64 = 200;

#[test]
fn what_once_failed_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/crashers");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = TARGETS.iter().find(|target| target.name == name);
        let target = target.unwrap_or_else(|| panic!("no target is called {name}"));
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            if let Err(reason) = target.check(&input) {
                panic!("{}: {reason}", path.display());
            }
        }
    }
}

#[test]
fn every_target_holds_on_a_short_fixed_run() {
    for target in TARGETS {
        let inputs = match target.name {
            "session_meet" => SCHEDULES,
            name if name.ends_with("_compare") => SCRIPTS,
            _ => INPUTS,
        };
        match Fuzzer::new(*target, 1).run(Budget::Inputs(inputs)) {
            Ok(tally) => assert!(tally.accepted > 0, "{} accepts nothing", target.name),
            Err(crash) => panic!("{}: {} on {:?}", target.name, crash.reason, crash.input),
        }
    }
}

#[test]
fn every_file_of_the_targets_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "samples")
        .collect();
    files.sort();
    let mut names: Vec<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    names.sort();
    assert_eq!(names, files);
}

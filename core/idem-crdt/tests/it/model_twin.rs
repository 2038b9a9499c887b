//! Random histories show the same documents here and in `tests/merge_model.py`, the executable
//! meaning of docs/merging.md.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use idem_model::{Value, json};

use crate::history::{PATHS, new_peers, path, random_history};

const HISTORIES: u64 = 4_000;

/// Paths where the twin holds registers and maps only.
const CONFLICT_PATHS: usize = 5;

#[test]
fn random_histories_show_what_the_twin_shows() {
    let Some(expected) = run_twin(HISTORIES) else {
        return;
    };
    assert_eq!(expected.len() as u64, HISTORIES);
    let mut shown = 0;
    for (seed, expected) in (0..).zip(&expected) {
        let (count, steps) = random_history(seed);
        let mut peers = new_peers(count);
        for step in &steps {
            step.run(&mut peers);
        }
        let expected = expected.as_object().unwrap();
        for peer in &peers {
            // A peer that nothing happened on is not in the twin.
            let Some(expected) = expected.get(&peer.name.to_string()) else {
                continue;
            };
            let expected = expected.as_object().unwrap();
            let document = peer.document.fields().map_or(Value::Null, Value::Object);
            let history = || {
                let lines: Vec<_> = steps.iter().map(|step| step.line()).collect();
                format!("seed {seed}, peer {}:\n{}", peer.name, lines.join("\n"))
            };
            assert_eq!(document, expected["document"], "{}", history());
            let conflicts = expected["conflicts"].as_array().unwrap();
            for (at, expected) in PATHS[..CONFLICT_PATHS].iter().zip(conflicts) {
                // The twin lists registers; a map that stands beside them is an object here.
                let mut conflicts = peer.document.conflicts(&path(at));
                conflicts.retain(|value| !matches!(value, Value::Object(_)));
                assert_eq!(Value::Array(conflicts), *expected, "{at} in {}", history());
            }
            shown += usize::from(document != Value::Null);
        }
    }
    assert!(
        shown > 3_000,
        "only {shown} documents were there at the end"
    );
}

/// What the twin shows after each history; `None`, and a loud word, where there is no python3.
fn run_twin(histories: u64) -> Option<Vec<Value>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/merge_model.py");
    let twin = Command::new("python3")
        .args([script, "replay"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut twin = match twin {
        Ok(twin) => twin,
        Err(error) => {
            eprintln!("!!! SKIPPED: python3 does not start ({error}), so nothing was compared");
            return None;
        }
    };
    let mut lines = String::new();
    let places: Vec<_> = PATHS[..CONFLICT_PATHS]
        .iter()
        .map(|path| format!("{:?}", path.split('.').collect::<Vec<_>>()))
        .collect();
    for seed in 0..histories {
        for step in random_history(seed).1 {
            lines.push_str(&step.line());
            lines.push('\n');
        }
        lines.push_str(&format!("{{\"end\":[{}]}}\n", places.join(",")));
    }
    // The twin reads all before it answers, so neither side can wait for the other.
    twin.stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let output = twin.wait_with_output().unwrap();
    assert!(output.status.success(), "the twin failed");
    let output = String::from_utf8(output.stdout).unwrap();
    Some(
        output
            .lines()
            .map(|line| json::parse(line).unwrap())
            .collect(),
    )
}

#[test]
fn the_twin_holds_its_own_laws() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/merge_model.py");
    match Command::new("python3").args([script, "300"]).output() {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => eprintln!("!!! SKIPPED: python3 does not start ({error})"),
    }
}

//! Each example prints what its header promises.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The block behind "Expected output:" in the header, `None` if the example is not deterministic.
fn expected(source: &str) -> Option<String> {
    let header: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    let start = header.iter().position(|line| *line == "```text")? + 1;
    let len = header[start..].iter().position(|line| *line == "```")?;
    Some(
        header[start..start + len]
            .iter()
            .map(|line| format!("{line}\n"))
            .collect(),
    )
}

#[test]
fn examples_print_what_they_promise() {
    let mut ran = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        let source = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        for word in ["//! Goal: ", "//! Command: `", "//! Expected output:"] {
            assert!(source.contains(word), "{name} has no `{word}`");
        }
        assert!(source.lines().count() < 100, "{name} is long");
        let Some(expected) = expected(&source) else {
            continue;
        };
        // Beside the directory of this test: `cargo test` builds the examples too.
        let deps = std::env::current_exe().unwrap();
        let binary = deps
            .parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("examples")
            .join(name);
        let output = Command::new(&binary)
            .output()
            .unwrap_or_else(|e| panic!("{}: {e}; build it with --examples", binary.display()));
        let printed = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {stderr}");
        assert_eq!(printed, expected, "{name}");
        ran += 1;
    }
    assert!(ran >= 4, "only {ran} examples ran");
}

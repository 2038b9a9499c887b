//! What the repository must hold, and how large a file in it may be.

use super::{Finding, tree::Tree};

pub(super) const SIZE: &str = "file-size";
pub(super) const REQUIRED: &str = "required-file";

/// A clone stays small; larger data is made by a script or a test.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Larger files, and why.
const LARGE_ALLOWED: &[(&str, &str)] = &[(
    "crates/idem-cli/data/airports.ndjson",
    "the demo runs on real data without a network",
)];

/// Files that a reader looks for.
const FILES: &[&str] = &[
    ".ci/run",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "GLOSSARY.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "docs/README.md",
    "docs/picture.svg",
    "rust-toolchain.toml",
];

/// Files over the limit.
pub(super) fn check_sizes(tree: &Tree) -> Vec<Finding> {
    let large = tree.files.iter().filter(|file| file.bytes > FILE_BYTES_MAX);
    large
        .filter(|file| !LARGE_ALLOWED.iter().any(|(path, _)| *path == file.path))
        .map(|file| Finding {
            rule: SIZE,
            place: file.path.clone(),
            message: format!("has {} bytes; {FILE_BYTES_MAX} is the limit", file.bytes),
        })
        .collect()
}

/// Required files that are not there or empty.
pub(super) fn check_required(tree: &Tree) -> Vec<Finding> {
    let missing = FILES.iter().filter(|path| {
        let file = tree.file(path);
        file.is_none_or(|file| file.bytes == 0)
    });
    missing
        .map(|path| Finding {
            rule: REQUIRED,
            place: (*path).to_owned(),
            message: "a reader looks for this file".to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[test]
    fn a_large_file_is_found_unless_it_is_the_demo_data() {
        let large = "x".repeat(FILE_BYTES_MAX as usize + 1);
        let tree = sample(&[
            ("docs/a.md", &large),
            ("crates/idem-cli/data/airports.ndjson", &large),
        ]);
        let findings = check_sizes(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "docs/a.md");
    }

    #[test]
    fn a_missing_file_is_found() {
        let files: Vec<_> = FILES.iter().map(|path| (*path, "x")).collect();
        assert!(check_required(&sample(&files)).is_empty());
        let findings = check_required(&sample(&files[1..]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, FILES[0]);
    }
}

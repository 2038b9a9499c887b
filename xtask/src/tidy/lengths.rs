//! How long a file may be.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "file-length";

/// A file beyond this holds more than one subject. Tests do not count.
const LINES_MAX: usize = 1000;

/// Files over the limit.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust_files().filter(|(path, _)| !is_test(path));
    files
        .map(|(path, text)| (path, lines(text)))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| Finding {
            rule: RULE,
            place: path.to_owned(),
            message: format!("has {lines} lines without tests; {LINES_MAX} is the limit"),
        })
        .collect()
}

/// The `count` longest files, longest first.
pub(super) fn longest(tree: &Tree, count: usize) -> Vec<(&str, usize)> {
    let files = tree.rust_files().filter(|(path, _)| !is_test(path));
    let mut found: Vec<_> = files.map(|(path, text)| (path, lines(text))).collect();
    found.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    found.truncate(count);
    found
}

/// Whether the whole file is tests.
pub(super) fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Lines before the tests, which come last in a file.
fn lines(text: &str) -> usize {
    let tests = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..tests].lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[test]
    fn a_long_file_is_found_and_long_tests_are_not() {
        let long = "//! Long.\n".repeat(LINES_MAX + 1);
        let tested = format!("//! Short.\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        let tree = sample(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/tested.rs", &tested),
            ("crates/a/tests/it/long.rs", &long),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "crates/a/src/long.rs");
        assert_eq!(longest(&tree, 1), [("crates/a/src/long.rs", LINES_MAX + 1)]);
    }
}

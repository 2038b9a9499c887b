//! Where modules, documentation and integration tests lie.

use super::{Finding, tree::Tree};

pub(super) const MODULE_FILE: &str = "module-file";
pub(super) const HEADING: &str = "heading";
pub(super) const LIBRARY: &str = "library";
pub(super) const TESTS: &str = "integration-tests";

/// `foo.rs` beside `foo/`, never `foo/mod.rs`: one way is enough, and editors' tabs show names.
pub(super) fn check_module_files(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|(path, _)| path.ends_with("/mod.rs"))
        .map(|(path, _)| {
            let folder = path.trim_end_matches("/mod.rs");
            finding(MODULE_FILE, path, format!("call it {folder}.rs"))
        })
        .collect()
}

/// Every file opens with `//!` and says its subject.
pub(super) fn check_headings(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|(path, text)| !text.starts_with("//! ") && !path.ends_with("build.rs"))
        .map(|(path, _)| {
            let message = "the first line is `//! ` and the subject of the file".to_owned();
            finding(HEADING, path, message)
        })
        .collect()
}

/// `lib.rs` is documentation, `mod` lines and an explicit list of `pub use`: no globs, no logic.
pub(super) fn check_libraries(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files() {
        if !path.ends_with("/src/lib.rs") {
            continue;
        }
        for statement in statements(text) {
            if let Some(message) = fault(&statement) {
                findings.push(finding(LIBRARY, path, message));
                break;
            }
        }
    }
    findings
}

/// One integration binary per crate: `tests/it/main.rs`. Each further binary links everything again.
pub(super) fn check_integration_tests(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|(path, _)| {
            path.rsplit_once("/tests/")
                .is_some_and(|(krate, rest)| !rest.contains('/') && !krate.contains("/src"))
        })
        .map(|(path, _)| {
            let message = "is a binary of its own; make it a module of tests/it/main.rs".to_owned();
            finding(TESTS, path, message)
        })
        .collect()
}

/// The items of a file without comments and attributes, each up to its `;`.
fn statements(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join(" ");
    code.split(';')
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

fn fault(statement: &str) -> Option<String> {
    let start: String = statement.chars().take(40).collect();
    let rest = statement
        .trim_start_matches("pub(crate) ")
        .trim_start_matches("pub ");
    if rest.starts_with("use ") && statement.contains('*') {
        return Some(format!("name what `{start}` exports instead of a glob"));
    }
    let is_reexport = rest.starts_with("use ") && rest != statement;
    let is_module = rest.starts_with("mod ") && !statement.contains('{');
    (!is_reexport && !is_module).then(|| format!("`{start}` belongs into a module"))
}

fn finding(rule: &'static str, path: &str, message: String) -> Finding {
    Finding {
        rule,
        place: path.to_owned(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[test]
    fn mod_rs_is_found() {
        let findings = check_module_files(&sample(&[("core/a/src/plan/mod.rs", "")]));
        assert_eq!(findings[0].message, "call it core/a/src/plan.rs");
    }

    #[test]
    fn a_file_without_a_heading_is_found() {
        let tree = sample(&[("a/src/a.rs", "use std::fmt;"), ("a/src/b.rs", "//! B.")]);
        let findings = check_headings(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "a/src/a.rs");
    }

    #[track_caller]
    fn library(text: &str, count: usize) {
        let findings = check_libraries(&sample(&[("core/a/src/lib.rs", text)]));
        assert_eq!(findings.len(), count, "{findings:?}");
    }

    #[test]
    fn a_library_of_modules_and_names_passes() {
        library(
            "//! A.\n\n#[cfg(test)]\nmod b;\npub mod c;\n\npub use b::{\n    One, // one\n    Two,\n};\n",
            0,
        );
    }

    #[test]
    fn globs_and_logic_in_a_library_are_found() {
        library("//! A.\nmod b;\npub use b::*;\n", 1);
        library("//! A.\nmod b;\npub fn one() -> u8 { 1 }\n", 1);
        library("//! A.\nmod b { }\n", 1);
        library("//! A.\npub const ONE: u8 = 1;\n", 1);
    }

    #[test]
    fn a_second_integration_binary_is_found() {
        let tree = sample(&[
            ("core/a/tests/it/main.rs", ""),
            ("core/a/tests/merge.rs", ""),
            ("core/a/src/tests/one.rs", ""),
        ]);
        let findings = check_integration_tests(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "core/a/tests/merge.rs");
    }
}

//! What the text of a file may not hold: other alphabets, places of one machine, vague promises.

use super::{Finding, tree::Tree};

pub(super) const ASCII: &str = "ascii";
pub(super) const PLACES: &str = "places";
pub(super) const CONDITION: &str = "condition";

/// Files that people read or write by hand.
const SOURCES: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "svg", "py", "txt"];

/// Files outside ASCII, and why.
const NON_ASCII_ALLOWED: &[(&str, &str)] = &[];

/// Parts of paths that exist on one machine only. In two pieces, so that this file passes.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/", "idem/"),
    concat!("../sha", "red"),
];

/// Hosts of package registries: a build names packages, the machine knows where they come from.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
];

/// Papers that a reader of the repository does not have.
const PAPERS: &[&str] = &[
    concat!("DESIGN", " section"),
    concat!("DESIGN", ".md"),
    concat!("HOUSE", "_STYLE"),
    concat!("SEAMS", ".md"),
];

/// A source is ASCII: what cannot be seen or typed is written as an escape.
pub(super) fn check_ascii(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension(SOURCES) {
        if NON_ASCII_ALLOWED
            .iter()
            .any(|(allowed, _)| *allowed == path)
        {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(letter) = line.chars().find(|letter| !letter.is_ascii()) {
                findings.push(Finding {
                    rule: ASCII,
                    place: format!("{path}:{}", number + 1),
                    message: format!("write {} as an escape or in ASCII", letter.escape_unicode()),
                });
            }
        }
    }
    findings
}

/// No path of one machine, no host of a registry and no paper from elsewhere, in any text file but
/// the lock files.
pub(super) fn check_places(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let Some(text) = &file.text else { continue };
        if file.path.ends_with(".lock") || file.path.ends_with("package-lock.json") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let machine = MACHINE_PATHS.iter().map(|part| (part, "of one machine"));
            let registry = REGISTRY_HOSTS.iter().map(|part| (part, "of a registry"));
            let papers = PAPERS.iter().map(|part| (part, "outside the repository"));
            for (part, what) in machine.chain(registry).chain(papers) {
                if line.contains(part) {
                    findings.push(Finding {
                        rule: PLACES,
                        place: format!("{}:{}", file.path, number + 1),
                        message: format!("{part} is a place {what}"),
                    });
                }
            }
        }
    }
    findings
}

/// A promise to do something later names the condition, in parentheses: `(once QUIC is there)`.
pub(super) fn check_conditions(tree: &Tree) -> Vec<Finding> {
    let word = concat!("TO", "DO");
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files() {
        for (number, line) in text.lines().enumerate() {
            let Some((_, rest)) = line.split_once(word) else {
                continue;
            };
            let condition = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            if condition.is_none_or(|(condition, _)| !condition.contains(' ')) {
                findings.push(Finding {
                    rule: CONDITION,
                    place: format!("{path}:{}", number + 1),
                    message: format!("say when: {word}(once .. is there): what to do then"),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[test]
    fn a_letter_outside_ascii_is_found_in_sources_only() {
        let tree = sample(&[
            ("a/src/a.rs", "//! A.\n// caf\u{e9}\n"),
            ("a/data/airports.ndjson", "\u{e9}"),
        ]);
        let findings = check_ascii(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "a/src/a.rs:2");
        assert!(findings[0].message.contains("\\u{e9}"));
    }

    #[test]
    fn machine_paths_and_registry_hosts_are_found_but_not_in_lock_files() {
        for part in [MACHINE_PATHS, REGISTRY_HOSTS, PAPERS].concat() {
            let line = format!("see {part}x");
            let tree = sample(&[("docs/a.md", &line), ("Cargo.lock", &line)]);
            let findings = check_places(&tree);
            assert_eq!(findings.len(), 1, "{part}");
            assert_eq!(findings[0].place, "docs/a.md:1");
        }
    }

    #[test]
    fn a_promise_without_a_condition_is_found() {
        let word = concat!("TO", "DO");
        let vague = format!("// {word}: faster\n// {word}(me): faster\n");
        let exact = format!("// {word}(once QUIC is there): drop the copy\n");
        let tree = sample(&[("a/src/a.rs", &vague), ("a/src/b.rs", &exact)]);
        let findings = check_conditions(&tree);
        assert_eq!(findings.len(), 2);
        assert!(
            findings
                .iter()
                .all(|one| one.place.starts_with("a/src/a.rs"))
        );
    }
}

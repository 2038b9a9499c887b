//! One word per idea, in the names of files and types.

use super::{Finding, tree::Tree};

pub(super) const RULE: &str = "names";

/// Words that say nothing, or that another word of the house says, and what to write in their place.
const BANNED: &[(&str, &str)] = &[
    ("util", "the subject of what it holds"),
    ("utils", "the subject of what it holds"),
    ("helper", "what it helps with"),
    ("helpers", "what they help with"),
    ("common", "the subject that is shared"),
    ("misc", "one file per subject"),
    (
        "manager",
        "what it does: Pool, Registry, Scheduler, Session",
    ),
    ("new", "what is different about it"),
    ("old", "what is different about it"),
    ("legacy", "the version it reads"),
    ("v2", "what is different about it"),
    ("final", "what makes it so"),
    ("node", "peer, for a participant"),
    ("client", "peer, for a participant"),
    ("device", "peer, for a participant"),
    ("author", "actor"),
    ("site", "actor"),
    ("frontier", "version vector"),
    ("channel", "transport for a medium, link for a connection"),
    ("socket", "transport for a medium, link for a connection"),
    ("shard", "partition"),
];

/// Types that use a banned word for another idea than the one it is banned for: file, name, idea.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "core/idem-crdt/src/state.rs",
        "Node",
        "a node of a tree of fields",
    ),
    (
        "core/idem-query/src/plan/describe.rs",
        "Node",
        "a node of a plan",
    ),
    (
        "core/idem-query/src/span.rs",
        "Site",
        "a place in a statement",
    ),
    (
        "crates/idem-transport/src/websocket/dial.rs",
        "WebSocketUrl",
        "the protocol of RFC 6455",
    ),
];

/// Words before the name of a type that is defined on that line.
const DEFINITIONS: &[&str] = &["struct", "enum", "trait", "union", "type", "mod"];

/// Banned words in file names everywhere, and in the names of types and modules of Rust files.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        for word in name.split(['_', '-', '.']) {
            findings.extend(banned(&word.to_lowercase(), name, file.path.clone()));
        }
    }
    for (path, text) in tree.rust_files() {
        for (number, line) in text.lines().enumerate() {
            let Some(name) = defined(line).filter(|name| !is_allowed(path, name)) else {
                continue;
            };
            for word in words(name) {
                findings.extend(banned(&word, name, format!("{path}:{}", number + 1)));
            }
        }
    }
    findings
}

fn is_allowed(path: &str, name: &str) -> bool {
    ALLOWED
        .iter()
        .any(|allowed| (allowed.0, allowed.1) == (path, name))
}

fn banned(word: &str, name: &str, place: String) -> Option<Finding> {
    let (_, instead) = BANNED.iter().find(|(banned, _)| *banned == word)?;
    Some(Finding {
        rule: RULE,
        place,
        message: format!("\"{word}\" in {name}: write {instead}"),
    })
}

/// The name that a line defines, if it defines a type or a module.
fn defined(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.peek() {
        if word.starts_with("pub") || ["(in", "unsafe", "auto"].contains(word) {
            words.next();
        } else {
            break;
        }
    }
    let kind = words.next()?;
    let name = words.next()?;
    let end = name
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(name.len());
    DEFINITIONS.contains(&kind).then_some(&name[..end])
}

/// `FrameBytesMax` and `frame_bytes_max` are frame, bytes, max.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && words.last().is_some_and(|w| !w.is_empty())) {
            words.push(String::new());
        }
        if letter != '_' {
            let last = words.last_mut().expect("there is always one");
            last.extend(letter.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::sample;

    #[track_caller]
    fn finds(path: &str, text: &str, count: usize) {
        let findings = check(&sample(&[(path, text)]));
        assert_eq!(findings.len(), count, "{findings:?}");
    }

    #[test]
    fn banned_words_are_found_in_files_types_and_modules() {
        finds("crates/a/src/string_util.rs", "", 1);
        finds("docs/old-plan.md", "", 1);
        finds("crates/a/src/a.rs", "pub struct LinkManager;", 1);
        finds("crates/a/src/a.rs", "    pub(crate) enum ClientState {", 1);
        finds("crates/a/src/a.rs", "mod helpers;", 1);
        finds("crates/a/src/a.rs", "type ReaderV2<'a> = Reader<'a>;", 1);
    }

    #[test]
    fn other_words_and_other_places_pass() {
        finds("crates/a/src/fold.rs", "pub struct Threshold<T> {", 0);
        finds("crates/a/src/a.rs", "let new = old;", 0);
        finds("crates/a/src/a.rs", "// a struct helper", 0);
        finds("crates/a/src/a.rs", "pub fn new() -> Self {", 0);
    }

    #[test]
    fn an_exception_is_for_one_file() {
        let (path, name, _) = ALLOWED[0];
        finds(path, &format!("struct {name} {{"), 0);
        finds("core/idem-sync/src/a.rs", &format!("struct {name} {{"), 1);
    }

    #[test]
    fn the_suggestion_is_in_the_message() {
        let findings = check(&sample(&[("a.rs", "enum ShardId {")]));
        assert!(findings[0].message.ends_with("write partition"));
        assert_eq!(findings[0].place, "a.rs:1");
    }
}

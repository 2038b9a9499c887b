//! The examples of docs/dql/ and docs/merging.md, and that docs/dql/ leaves nothing out.
//!
//! An example is a statement that ends with `;` at the end of a line, followed by what it gives
//! behind `--`: its rows, `warning: ..`, `error CODE: ..`. Two dots there stand for anything. A line
//! `-- with {..}` before a statement holds its arguments. Each file has a store of its own.

use std::{collections::BTreeSet, fs, path::PathBuf};

use idem_model::{Object, limits};
use idem_query::{STATEMENT_WORDS, functions};
use idem_store::{Store, StoreError};

use crate::fixture::{memory, object, rows, to_json};

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
}

/// The files of docs/dql/ with their text, by name.
fn reference() -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(docs().join("dql")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// One line of a page.
enum Line<'t> {
    /// Outside of the examples.
    Prose(&'t str),
    /// A statement with its arguments, on one line or several.
    Statement(String, Object),
    /// What the statement before gives.
    Given(&'t str),
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut found = Vec::new();
    let mut is_example = false;
    let (mut statement, mut args) = (String::new(), Object::new());
    for line in text.lines() {
        if line.starts_with("```") {
            assert_eq!(statement, "", "a statement without `;`");
            is_example = !is_example && line == "```dql";
        } else if is_example {
            if let Some(given) = line.strip_prefix("-- with ") {
                args = object(given);
            } else if let Some(given) = line.strip_prefix("-- ")
                && statement.is_empty()
            {
                found.push(Line::Given(given));
                continue;
            }
            statement.push_str(line);
            if line.ends_with(';') {
                let args = std::mem::take(&mut args);
                found.push(Line::Statement(std::mem::take(&mut statement), args));
            } else {
                statement.push('\n');
            }
            continue;
        }
        found.push(Line::Prose(line));
    }
    found
}

/// What a statement gives, as the pages show it.
fn given(store: &Store, statement: &str, args: Object) -> Vec<String> {
    match store.execute(statement, args) {
        Ok(result) => {
            let rows = result.items.into_iter().map(to_json);
            let warnings = result.warnings.iter();
            rows.chain(warnings.map(|warning| format!("warning: {warning}")))
                .collect()
        }
        Err(error) => vec![format!("error {}: {error}", error.code())],
    }
}

/// Whether a line is one that a page shows, where `..` stands for anything.
fn fits(shown: &str, found: &str) -> bool {
    let mut parts = shown.split("..");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = found.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        last = Some(part);
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty() || last.is_some_and(|part| part.is_empty() || found.ends_with(part))
}

/// Runs the examples of a page. Gives the page as it should be, and how many examples it has.
fn run(text: &str) -> (String, usize) {
    let store = memory();
    let mut page = String::new();
    let mut count = 0;
    let mut lines = lines(text).into_iter().peekable();
    while let Some(line) = lines.next() {
        match line {
            Line::Prose(line) => page.push_str(&format!("{line}\n")),
            Line::Given(line) => panic!("a result without a statement: {line}"),
            Line::Statement(statement, args) => {
                count += 1;
                let mut shown = Vec::new();
                while let Some(Line::Given(line)) = lines.peek() {
                    shown.push(*line);
                    lines.next();
                }
                page.push_str(&format!("{statement}\n"));
                for (at, found) in given(&store, &statement, args).iter().enumerate() {
                    let shown = shown.get(at).filter(|shown| fits(shown, found));
                    page.push_str(&format!("-- {}\n", shown.map_or(found.as_str(), |it| it)));
                }
            }
        }
    }
    (page, count)
}

#[test]
fn the_examples_of_the_reference_hold() {
    let mut count = 0;
    for (path, text) in reference() {
        let (page, examples) = run(&text);
        count += examples;
        if page != text && std::env::var_os("IDEM_BLESS").is_some() {
            fs::write(&path, &page).unwrap();
        } else {
            let at = page.lines().zip(text.lines()).find(|(a, b)| a != b);
            assert!(
                page == text,
                "{}: found and shown differ first at {at:#?}; where the page is wrong, write it with \
                 IDEM_BLESS=1 cargo test -p idem-store documented",
                path.display()
            );
        }
    }
    assert!(count > 100, "{count} statements");
}

/// The statements of the examples in capital letters, with single spaces.
fn statements() -> Vec<String> {
    let mut found = Vec::new();
    for (_, text) in reference() {
        for line in lines(&text) {
            if let Line::Statement(statement, _) = line {
                let words = statement.to_uppercase();
                found.push(words.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    found
}

#[test]
fn every_statement_has_an_example() {
    let statements = statements();
    let begins = |word: &str| statements.iter().any(|text| text.starts_with(word));
    let missing: Vec<_> = STATEMENT_WORDS
        .iter()
        .filter(|word| !begins(word))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    // The clauses and forms, by words that only they have.
    let clauses = include_str!("documented/clauses.txt").lines();
    let missing: Vec<&str> = clauses
        .filter(|clause| !statements.iter().any(|text| text.contains(clause)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_function_has_an_example() {
    let statements = statements();
    let missing: Vec<&str> = functions()
        .filter(|function| function.examples.is_empty())
        .map(|function| function.name)
        .filter(|name| {
            let call = format!("{}(", name.to_uppercase());
            !statements.iter().any(|text| text.contains(&call))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The part of a page under a heading.
fn section<'t>(page: &'t str, heading: &str) -> &'t str {
    let (_, rest) = page
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    rest.split("\n## ").next().unwrap()
}

#[test]
fn every_parameter_is_described() {
    let page = fs::read_to_string(docs().join("dql/statements.md")).unwrap();
    let store = memory();
    for row in store.execute("SHOW ALL", Object::new()).unwrap().items {
        let (name, _) = row.first_key_value().unwrap();
        assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|part| std::str::from_utf8(part).unwrap())
        .collect();
    parts.join(",")
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn the_limits_are_those_of_the_code() {
    let page = fs::read_to_string(docs().join("dql/limits.md")).unwrap();
    const KIB: usize = 1024;
    const MIB: usize = KIB * KIB;
    let bytes = |number: usize| match number {
        number if number % MIB == 0 => format!("{} MiB", number / MIB),
        number => format!("{} KiB", number / KIB),
    };
    for row in [
        format!(
            "| statement | {}, {} tokens |",
            bytes(limits::STATEMENT_BYTES_MAX),
            grouped(limits::STATEMENT_TOKENS_MAX)
        ),
        format!(
            "| nesting of an expression or a value | {} levels |",
            limits::NESTING_LEVELS_MAX
        ),
        format!(
            "| subqueries inside each other | {},",
            limits::SUBQUERY_LEVELS_MAX
        ),
        format!("aggregates | {} each |", grouped(limits::CLAUSE_ITEMS_MAX)),
        format!(
            "| joins of one SELECT | {}; up to {} ",
            limits::JOINS_MAX,
            limits::JOINS_DIRECTIVE_MAX
        ),
        format!(
            "| what an expression makes for one row | {} |",
            bytes(limits::EXPRESSION_BYTES_MAX)
        ),
        format!(
            "| a pattern, and its compiled form | {} |",
            bytes(limits::PATTERN_BYTES_MAX)
        ),
        format!(
            "joins | {} (`statement",
            bytes(limits::STATEMENT_MEMORY_BYTES_DEFAULT)
        ),
        format!("| warnings of a result | {} |", limits::QUERY_WARNINGS_MAX),
        format!(
            "| result of a live query that is followed | {} |",
            bytes(limits::LIVE_RESULT_BYTES_MAX)
        ),
        format!("| document | {} |", bytes(limits::DOCUMENT_BYTES_SOFT)),
        format!("| document | {} |", bytes(limits::DOCUMENT_BYTES_MAX)),
        format!(
            "| collection name | {} bytes |",
            limits::COLLECTION_NAME_BYTES_MAX
        ),
        format!("| `_id` | {} bytes,", grouped(limits::DOC_ID_BYTES_MAX)),
        format!(
            "| documents changed by a transaction | {} |",
            grouped(limits::TRANSACTION_DOCUMENTS_MAX)
        ),
        format!(
            "| bytes written by a transaction | {} |",
            bytes(limits::TRANSACTION_BYTES_MAX)
        ),
        format!(
            "| indexes of a collection | {} |",
            limits::INDEXES_PER_COLLECTION_MAX
        ),
        format!("| keys of an index | {} |", limits::INDEX_FIELDS_MAX),
        format!(
            "index of elements | {} |",
            grouped(limits::INDEX_ENTRIES_PER_DOCUMENT_MAX)
        ),
        format!("(IN lists) | {} |", grouped(limits::INDEX_SPANS_MAX)),
        format!("union or intersection | {} |", limits::INDEX_SCANS_MAX),
        format!(
            "| declared paths | {} a collection, {} in all |",
            grouped(limits::DECLARED_KINDS_MAX),
            grouped(limits::DECLARED_KINDS_TOTAL_MAX)
        ),
        format!(
            "| subscription | {} as text, {} to one peer |",
            bytes(limits::SUBSCRIPTION_STATEMENT_BYTES_MAX),
            limits::SUBSCRIPTIONS_PER_SESSION_MAX
        ),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn a_profile_has_times() {
    let store = memory();
    rows(&store, "INSERT INTO c DOCUMENTS ({'_id': 1})");
    for statement in ["SELECT * FROM c", "UPDATE c SET n = 1"] {
        let found = store.execute(&format!("PROFILE {statement}"), Object::new());
        let profile = found
            .unwrap()
            .items
            .pop()
            .unwrap()
            .remove("~request_profile");
        let times = profile.unwrap().as_object().unwrap()["times"].clone();
        for part in ["elapsed", "parse"] {
            let nanos = times.as_object().unwrap()[part].as_int().unwrap();
            assert!(nanos > 0, "{statement}: {part}");
        }
    }
}

#[test]
fn every_column_of_the_system_is_described() {
    let page = fs::read_to_string(docs().join("dql/system.md")).unwrap();
    let store = memory();
    let missing = |name: &str| {
        let text = section(&page, &format!("## system:{name}"));
        let found = rows_of(&store, name);
        assert!(!found.is_empty(), "{name}");
        let columns: BTreeSet<String> = found.into_iter().flat_map(Object::into_keys).collect();
        let shown = |column: &String| text.contains(&format!("\n| `{column}`"));
        let missing: Vec<String> = columns.into_iter().filter(|it| !shown(it)).collect();
        (!missing.is_empty()).then(|| format!("{name}: {missing:?}"))
    };
    for text in [
        "CREATE COLLECTION c (n COUNTER)",
        "INSERT INTO c DOCUMENTS ({'_id': 1, 'n': 2})",
        "CREATE INDEX i ON c (n)",
        "ALTER SYSTEM SET slow_statement_ms = 5000",
    ] {
        rows(&store, text);
    }
    let missing: Vec<String> = [
        "active_requests",
        "collections",
        "indexes",
        "request_history",
        "shared_statements",
        "system_info",
        "system_parameters",
    ]
    .into_iter()
    .filter_map(missing)
    .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn an_unknown_system_collection_is_answered_with_those_that_are_there() {
    let store = memory();
    let error = store
        .execute("SELECT * FROM system:index", Object::new())
        .unwrap_err();
    let StoreError::Query(error) = error else {
        panic!("{error}");
    };
    let hint = error.hint().unwrap();
    let (meant, names) = hint.split_once("? There are ").unwrap();
    assert_eq!(meant, "did you mean `indexes`");
    for name in names.split(", ") {
        let text = format!("SELECT * FROM system:{name}");
        store.execute(&text, Object::new()).unwrap();
    }
}

fn rows_of(store: &Store, name: &str) -> Vec<Object> {
    let text = format!("SELECT * FROM system:{name}");
    store.execute(&text, Object::new()).unwrap().items
}

#[test]
fn the_examples_of_merging_hold() {
    let text = fs::read_to_string(docs().join("merging.md")).unwrap();
    let (page, count) = run(&text);
    assert!(page == text, "found:\n{page}");
    assert!(count >= 7, "{count} statements");
}

#[test]
fn two_dots_stand_for_anything() {
    assert!(fits("{\"a\":..}", "{\"a\":5}"));
    assert!(fits("..", ""));
    assert!(fits("a..b..", "a1b2"));
    assert!(!fits("a..b", "a1b2"));
    assert!(!fits("a", "ab"));
    assert!(!fits("{\"a\":..}", "{\"b\":5}"));
}

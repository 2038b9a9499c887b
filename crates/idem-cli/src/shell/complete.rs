//! Completion at the prompt: keywords, collections, dot commands.

use idem::{Idem, Value};
use reedline::{Completer, CompletionResult, Span, Suggestion};

use super::dot;

/// The words of DQL worth completing.
const KEYWORDS: [&str; 44] = [
    "ALTER SYSTEM",
    "AND",
    "APPLY",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "COUNT",
    "CREATE INDEX",
    "DELETE FROM",
    "DESC",
    "DISTINCT",
    "DO NOTHING",
    "DO UPDATE",
    "DOCUMENTS",
    "DROP INDEX",
    "EVICT FROM",
    "EXPLAIN",
    "FALSE",
    "FROM",
    "GROUP BY",
    "IN",
    "INITIAL DOCUMENTS",
    "INSERT INTO",
    "IS MISSING",
    "IS NULL",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "MISSING",
    "NOT",
    "NULL",
    "OFFSET",
    "ON ID CONFLICT",
    "OR",
    "ORDER BY",
    "SELECT",
    "SET",
    "SUM",
    "TRUE",
    "UNSET",
    "UPDATE",
];

/// Collections that are asked for at each completion; a store with more completes the first ones.
const COLLECTIONS_MAX: usize = 1000;

/// Completes the word before the cursor.
pub(super) struct Words {
    idem: Idem,
}

impl Words {
    pub(super) fn new(idem: Idem) -> Self {
        Self { idem }
    }

    fn collections(&self) -> Vec<String> {
        let Ok(result) = self
            .idem
            .store()
            .execute_blocking("SELECT * FROM system:collections")
        else {
            return Vec::new();
        };
        result
            .iter()
            .filter_map(|item| item.field("name").or_else(|| item.field("_id")))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .take(COLLECTIONS_MAX)
            .collect()
    }
}

impl Completer for Words {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        CompletionResult::fresh(self.suggestions(line, position))
    }
}

impl Words {
    fn suggestions(&self, line: &str, position: usize) -> Vec<Suggestion> {
        let before = &line[..position];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':')))
            .map_or(0, |at| {
                at + before[at..].chars().next().map_or(1, char::len_utf8)
            });
        let word = &before[start..];
        if word.is_empty() {
            return Vec::new();
        }
        let commands = dot::COMMANDS
            .iter()
            .filter(|_| start == 0)
            .map(|(name, _, what)| ((*name).to_owned(), Some((*what).to_owned())));
        let collections = self.collections().into_iter().map(|name| (name, None));
        let keywords = KEYWORDS.iter().map(|name| ((*name).to_owned(), None));
        commands
            .chain(collections)
            .chain(keywords)
            .filter(|(name, _)| starts_with(name, word))
            .map(|(value, description)| Suggestion {
                value,
                description,
                span: Span::new(start, position),
                append_whitespace: true,
                ..Suggestion::default()
            })
            .collect()
    }
}

fn starts_with(name: &str, word: &str) -> bool {
    name.get(..word.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(word))
}

//! Habits from other query languages, and what to write here.
//!
//! Looked at only where a statement could not be read, so they cost nothing else.

use crate::{
    lexer::{Token, TokenKind},
    span::Span,
};

/// What is seen around the token that could not be read, and what to say.
///
/// The tokens of `seen` are separated by spaces. A word stands for itself in any case, a sign for
/// itself, `^` for the beginning and `$` for the end of the statement. Some take what they find, to be
/// shown by its number: `<name>` a word or quoted name, `<text>` a string, `<any>` one token or a parameter, `a|b` one
/// of several. `{1}` shows the first of them, ``{`1}`` as a name in backticks, `{'1}` as a string.
///
/// What stands behind the last `write ` of a hint is code.
struct Habit {
    seen: &'static str,
    hint: &'static str,
}

const fn habit(seen: &'static str, hint: &'static str) -> Habit {
    Habit { seen, hint }
}

const STATEMENTS: &[Habit] = &[
    habit(
        "^ BEGIN|START|COMMIT|ROLLBACK|SAVEPOINT|END|ABORT",
        "a transaction is a call of the API, not a statement: store.transaction(..), or {\"begin\": true} in idem shell --jsonl; a statement alone is one already",
    ),
    habit(
        "^ MERGE|UPSERT|REPLACE INTO <name>",
        "write INSERT INTO {2} DOCUMENTS (:document) ON ID CONFLICT DO UPDATE",
    ),
    habit(
        "^ MERGE|UPSERT|REPLACE <any>",
        "write INSERT INTO {2} DOCUMENTS (:document) ON ID CONFLICT DO UPDATE",
    ),
    habit(
        "^ INSERT OR REPLACE INTO <name>",
        "write INSERT INTO {1} DOCUMENTS (:document) ON ID CONFLICT DO UPDATE",
    ),
    habit(
        "^ INSERT OR IGNORE INTO <name>",
        "write INSERT INTO {1} DOCUMENTS (:document) ON ID CONFLICT DO NOTHING",
    ),
    habit(
        "^ INSERT IGNORE INTO <name>",
        "write INSERT INTO {1} DOCUMENTS (:document) ON ID CONFLICT DO NOTHING",
    ),
    habit(
        "^ WITH",
        "there is no WITH, a subquery stands in FROM; write SELECT * FROM (SELECT ..) AS a",
    ),
    habit(
        "SHOW COLLECTIONS|TABLES|DATABASES|SCHEMAS",
        "write SELECT * FROM system:collections",
    ),
    habit(
        "SHOW INDEX|INDEXES|KEYS",
        "write SELECT * FROM system:indexes",
    ),
    habit(
        "SHOW PROCESSLIST|REQUESTS|QUERIES",
        "write SELECT * FROM system:active_requests",
    ),
    habit("SHOW VARIABLES|PARAMETERS|SETTINGS", "write SHOW ALL"),
    habit(
        "^ DESCRIBE|DESC|INFER TABLE|COLLECTION <name>",
        "documents have no common shape; system:collections tells what is declared, a few documents show the rest; write SELECT * FROM {3} LIMIT 5",
    ),
    habit(
        "^ DESCRIBE|DESC|INFER <name>",
        "documents have no common shape; system:collections tells what is declared, a few documents show the rest; write SELECT * FROM {2} LIMIT 5",
    ),
    habit("^ TRUNCATE TABLE <name>", "write DELETE FROM {1}"),
    habit("^ TRUNCATE <name>", "write DELETE FROM {1}"),
    habit(
        "^ CREATE TABLE|VIEW",
        "a collection needs no creation, the first document makes it; write INSERT INTO orders DOCUMENTS (:document)",
    ),
    habit(
        "^ DROP TABLE|COLLECTION IF EXISTS <name>",
        "a collection is there as long as it has documents; write DELETE FROM {2}",
    ),
    habit(
        "^ DROP TABLE|COLLECTION <name>",
        "a collection is there as long as it has documents; write DELETE FROM {2}",
    ),
    habit(
        "^ ALTER TABLE|COLLECTION <name>",
        "documents have no common shape; write UPDATE {2} SET field = :value",
    ),
    habit(
        "^ CREATE UNIQUE INDEX",
        "only _id is unique; make it of what must be, or leave UNIQUE out; write CREATE INDEX",
    ),
    habit("^ CREATE PRIMARY INDEX", "_id always has an index"),
    habit(
        "^ CREATE INDEX IF NOT EXISTS ON <name>",
        "an index has a name; write CREATE INDEX IF NOT EXISTS by_field ON {1}",
    ),
    habit(
        "^ CREATE INDEX ON <name>",
        "an index has a name; write CREATE INDEX by_field ON {1}",
    ),
    habit(
        "^ CREATE INDEX <name> IF NOT EXISTS",
        "write CREATE INDEX IF NOT EXISTS {1}",
    ),
    habit(
        "ON <name> USING",
        "there is one kind of index; write ON {1}",
    ),
    habit(
        ") INCLUDE",
        "an index with all the fields of a query is enough; add them behind its keys",
    ),
    habit(
        "^ DROP INDEX <name> . <name>",
        "write DROP INDEX {2} ON {1}",
    ),
    habit(
        "^ DROP INDEX <name> IF EXISTS",
        "write DROP INDEX IF EXISTS {1}",
    ),
    habit(
        "^ DROP INDEX <name> $",
        "an index belongs to a collection; write DROP INDEX {1} ON orders",
    ),
    habit(
        "^ DROP INDEX IF EXISTS <name> $",
        "an index belongs to a collection; write DROP INDEX IF EXISTS {1} ON orders",
    ),
    habit(
        "EXPLAIN ANALYZE|ANALYSE",
        "EXPLAIN runs nothing; write PROFILE",
    ),
    habit("EXPLAIN QUERY PLAN FOR", "write EXPLAIN"),
    habit("EXPLAIN QUERY PLAN", "write EXPLAIN"),
    habit("EXPLAIN FORMAT|VERBOSE|EXTENDED", "write EXPLAIN"),
    habit(
        "^ VACUUM|OPTIMIZE|COMPACT",
        "write EXECUTE FUNCTION system_compact()",
    ),
    habit("^ CHECKPOINT", "write EXECUTE FUNCTION system_checkpoint()"),
    habit(
        "^ ANALYZE|ANALYSE",
        "the statistics of indexes are kept without a statement; PROFILE tells what a statement did",
    ),
    habit(
        "^ KILL <any>",
        "write DELETE FROM system:active_requests WHERE id = {1}",
    ),
    habit(
        "^ SET|PRAGMA <name> =|TO <any>",
        "write ALTER SYSTEM SET {2} = {4}",
    ),
    habit("^ CALL|EXEC <name>", "write EXECUTE FUNCTION {2}"),
    habit("^ EXECUTE <name> (", "write EXECUTE FUNCTION {1}"),
    habit("^ DELETE * FROM", "write DELETE FROM"),
    habit("^ DELETE|REMOVE <name>", "write DELETE FROM {2}"),
    habit("^ INSERT|ADD <name>", "write INSERT INTO {2}"),
    habit("^ db . <name>", "write SELECT * FROM {1}"),
    habit("^ FROM <name>", "write SELECT * FROM {1}"),
    habit("^ SELECT FROM <name>", "write SELECT * FROM {1}"),
    habit(
        "^ GET|FIND|FETCH",
        "write SELECT * FROM orders WHERE _id = :id",
    ),
];

const CLAUSES: &[Habit] = &[
    habit(
        "FROM|JOIN|INTO|UPDATE|ON <text>",
        "quotes make a string; a name stands bare or in backticks; write {1} {`2}",
    ),
    habit(
        "FROM|JOIN|INTO|UPDATE [ <name> ]",
        "a name stands bare or in backticks; write {1} {2}",
    ),
    habit(
        "SET|UNSET <text>",
        "quotes make a string; a name stands bare or in backticks; write {1} {`2}",
    ),
    habit(
        "AS <text>",
        "quotes make a string; a name stands bare or in backticks; write AS {`1}",
    ),
    habit(
        ". <text>",
        "quotes make a string; a name stands bare or in backticks; write .{`1}",
    ),
    habit("LIMIT <any> , <any>", "write LIMIT {2} OFFSET {1}"),
    habit("OFFSET <any> LIMIT <any>", "write LIMIT {2} OFFSET {1}"),
    habit(
        "OFFSET <any> ROW|ROWS FETCH FIRST|NEXT <any>",
        "write LIMIT {4} OFFSET {1}",
    ),
    habit("OFFSET <any> ROW|ROWS", "write OFFSET {1}"),
    habit(
        "SELECT TOP ( <any> ) *",
        "LIMIT stands at the end; write LIMIT {1}",
    ),
    habit(
        "SELECT TOP|FIRST|SKIP <any>",
        "LIMIT stands at the end; write LIMIT {2}",
    ),
    habit("FETCH FIRST|NEXT <any>", "write LIMIT {2}"),
    habit(
        "NULLS LAST",
        "null and MISSING come last, with DESC first; leave NULLS LAST out, or write ORDER BY ismissingornull(x), x DESC",
    ),
    habit(
        "NULLS FIRST",
        "null and MISSING come last, with DESC first; write ORDER BY ismissingornull(x) DESC, x",
    ),
    habit(
        "USING ( <name> )",
        "there is no USING; write ON a.{1} = b.{1}",
    ),
    habit("USING (", "there is no USING; write ON a.x = b.x"),
    habit(
        "CROSS JOIN UNNEST",
        "each element goes with its own row; write UNNEST o.items AS i",
    ),
    habit(
        ", UNNEST|LATERAL",
        "each element goes with its own row; write UNNEST o.items AS i",
    ),
    habit("( DISTINCT *", "write COUNT(*)"),
    habit(
        "DISTINCT ON (",
        "there is no DISTINCT ON; GROUP BY with MIN or MAX of the others does it",
    ),
    habit(
        "OVER (",
        "there are no window functions; a join with a subquery that groups does most of it",
    ),
    habit(
        "FILTER ( WHERE",
        "the condition goes into the value; write SUM(CASE WHEN condition THEN x END)",
    ),
    habit(
        "* EXCLUDE|EXCEPT (",
        "the fields to leave out stand one by one; write SELECT o.*, MISSING o.secret FROM orders AS o",
    ),
    habit(
        "FOR UPDATE|SHARE",
        "there are no locks: a transaction that writes sees nobody else's writes; leave it out",
    ),
    habit(
        "LOCK IN SHARE MODE",
        "there are no locks: a transaction that writes sees nobody else's writes; leave it out",
    ),
    habit(
        "MINUS SELECT",
        "write it as a condition: WHERE NOT EXISTS (SELECT ..)",
    ),
    habit("USE KEYS", "write USE IDS"),
    habit("USE|FORCE|IGNORE INDEX ( <name>", "write USE INDEX {'2}"),
    habit(
        "USE|FORCE INDEX <name>",
        "the name of the index is a string; write USE INDEX {'2}",
    ),
    habit(
        "INSERT INTO <name> ( <name>",
        "a document is an object with its fields; write INSERT INTO {1} DOCUMENTS ({{'2}: ..})",
    ),
    habit(
        "INSERT INTO <name> SET",
        "a document is an object with its fields; write INSERT INTO {1} DOCUMENTS (:document)",
    ),
    habit("INTO TABLE <name>", "write INTO {1}"),
    habit(
        "VALUES|DOCUMENTS ( <any> , <any>",
        "each row is one document, an object with its fields; write DOCUMENTS ({'field': {2}, ..})",
    ),
    habit(
        "VALUES|DOCUMENTS {",
        "each document stands in parentheses; write {1} ({..})",
    ),
    habit(
        "VALUES|DOCUMENTS : <name>",
        "each document stands in parentheses; write {1} (:{2})",
    ),
    habit("ON DUPLICATE KEY UPDATE", "write ON ID CONFLICT DO UPDATE"),
    habit(
        "ON CONFLICT",
        "only ids conflict; write ON ID CONFLICT DO UPDATE or DO NOTHING",
    ),
    habit(
        "UPDATE <name> WHERE",
        "SET stands before WHERE; write UPDATE {1} SET field = :value WHERE",
    ),
    habit(
        "<name> + = <any>",
        "write {1} = {1} + {2}, or APPLY {1} INCREMENT BY {2} for a counter",
    ),
    habit(
        "<name> - = <any>",
        "write {1} = {1} - {2}, or APPLY {1} INCREMENT BY -{2} for a counter",
    ),
    habit("<name> *|/|% = <any>", "write {1} = {1} {2} {3}"),
    habit("<name> || = <any>", "write {1} = {1} || {2}"),
    habit(
        "<name> + +",
        "write {1} = {1} + 1, or APPLY {1} INCREMENT BY 1 for a counter",
    ),
];

const EXPRESSIONS: &[Habit] = &[
    habit("<name> -> > <text>", "a path has dots; write {1}.{`2}"),
    habit("<name> -> <text>", "a path has dots; write {1}.{`2}"),
    habit("<name> -> <name>", "a path has dots; write {1}.{2}"),
    habit("<name> -> <any>", "write {1}[{2}]"),
    habit(
        "<name> : : int|integer|bigint|smallint|int4|int8",
        "write CAST({1} AS integer)",
    ),
    habit(
        "<name> : : text|string|varchar|char|uuid",
        "write CAST({1} AS string)",
    ),
    habit(
        "<name> : : float|double|real|numeric|decimal|number",
        "write CAST({1} AS float)",
    ),
    habit("<name> : : bool|boolean", "write CAST({1} AS boolean)"),
    habit(
        "<name> : : date|timestamp|timestamptz",
        "write date_cast({1})",
    ),
    habit("<name> : : <name>", "write CAST({1} AS string)"),
    habit(": :", "write CAST(.. AS string)"),
    habit(
        "<name> NOT REGEXP|RLIKE|MATCHES <any>",
        "write NOT regexp_like({1}, {3})",
    ),
    habit(
        "<name> REGEXP|RLIKE|MATCHES <any>",
        "write regexp_like({1}, {3})",
    ),
    habit("<name> GLOB <any>", "write {1} LIKE {2}"),
    habit("<name> CONTAINS <any>", "write {2} IN {1}"),
    habit("<name> NOTNULL", "write {1} IS NOT NULL"),
    habit("<name> ISNULL", "write {1} IS NULL"),
    habit(
        "<name> IS NOT DISTINCT FROM <any>",
        "write decode({1}, {2}, true, false)",
    ),
    habit(
        "<name> IS DISTINCT FROM <any>",
        "write NOT decode({1}, {2}, true, false)",
    ),
    habit("IS NOT VALUED|KNOWN", "write ismissingornull(x)"),
    habit("IS VALUED|KNOWN", "write NOT ismissingornull(x)"),
    habit("IS EMPTY", "write array_length(x) = 0"),
    habit(
        "INTERVAL <any>",
        "write date_sub(clock(), 'day', 1) or date_add(..)",
    ),
    habit(
        "DATE|TIMESTAMP|DATETIME <text>",
        "write date_cast({2}, 'YYYY-MM-DD')",
    ),
    habit("EXTRACT ( <name> FROM <any>", "write date_part({2}, {'1})"),
    habit(
        "SUBSTRING ( <any> FROM <any>",
        "the first character has number 0; write substr({1}, start, length)",
    ),
    habit("LEFT ( <any> , <any>", "write substr({1}, 0, {2})"),
    habit("RIGHT ( <any> , <any>", "write substr({1}, -{2})"),
    habit("= ANY|SOME|ALL (", "write IN (..)"),
    habit("= ANY|SOME <any>", "write IN {2}"),
    habit(
        "COLLATE",
        "text is compared by its characters, with regard to case; write lower(x) = 'a', which an index may have too",
    ),
    habit("= <", "write <="),
    habit("= >", "write >="),
    habit("NOT IS NULL", "write IS NOT NULL"),
    habit(
        ", FROM|WHERE|GROUP|HAVING|ORDER|LIMIT|RETURNING|ON|UNSET",
        "take out the comma before {1}",
    ),
    habit(", )|]|}", "take out the comma before `{1}`"),
    habit(", $", "take out the comma at the end, or go on behind it"),
    habit("ELSE IF", "write WHEN .. THEN .. in the same CASE"),
    habit("AND|OR|WHERE|HAVING $", "a condition is missing behind {1}"),
];

/// What to say of a statement that could not be read at the token `at`.
pub(crate) fn advice(text: &str, tokens: &[Token], at: usize) -> Option<String> {
    let all = || {
        [STATEMENTS, CLAUSES, EXPRESSIONS]
            .into_iter()
            .flatten()
            .map(|habit| (habit, habit.seen.split(' ')))
    };
    all().find_map(|(habit, seen)| {
        // An item takes at most two tokens.
        let len = 2 * seen.clone().count();
        (at.saturating_sub(len)..=at).find_map(|start| {
            let (found, end) = taken(text, tokens, start, seen.clone())?;
            // The token that could not be read is among those of the habit or right behind.
            (at <= end).then(|| filled(text, habit.hint, &found))
        })
    })
}

/// The places of what `seen` takes, if it is what stands from the token `start` on, and the
/// token behind it.
fn taken<'s>(
    text: &str,
    tokens: &[Token],
    start: usize,
    seen: impl Iterator<Item = &'s str>,
) -> Option<(Vec<Span>, usize)> {
    let mut found = Vec::new();
    let mut at = start;
    for item in seen {
        if item == "^" {
            if at > 0 {
                return None;
            }
            continue;
        }
        let token = tokens.get(at)?;
        let shown = token.span.text(text);
        let is_name = matches!(token.kind, TokenKind::Word | TokenKind::Quoted);
        let choices = item.len() > 2 && item.contains('|');
        let fits = match item {
            "$" => token.kind == TokenKind::End || shown == ";",
            "<name>" => is_name,
            "<text>" => token.kind == TokenKind::Text,
            "<any>" => token.kind != TokenKind::End,
            _ if choices => item.split('|').any(|one| shown.eq_ignore_ascii_case(one)),
            _ => shown.eq_ignore_ascii_case(item),
        };
        if !fits {
            return None;
        }
        if choices || item.starts_with('<') && item.ends_with('>') {
            let first = if at == start {
                path_start(tokens, at)
            } else {
                at
            };
            // A parameter is two tokens.
            if item == "<any>" && shown == ":" && at + 1 < tokens.len() {
                at += 1;
            }
            found.push(tokens[first].span.to(tokens[at].span));
        }
        at += 1;
    }
    Some((found, at))
}

/// The first token of the path of names that ends at the token `at`.
fn path_start(tokens: &[Token], mut at: usize) -> usize {
    while let Some([before, dot]) = at
        .checked_sub(2)
        .map(|from| [tokens[from], tokens[from + 1]])
        && dot.kind == TokenKind::Sign(".")
        && matches!(before.kind, TokenKind::Word | TokenKind::Quoted)
    {
        at -= 2;
    }
    at
}

fn filled(text: &str, hint: &str, found: &[Span]) -> String {
    /// Longer than a name that is worth being read in a hint.
    const CHARS_MAX: usize = 60;
    let mut out = hint.to_owned();
    for (at, span) in found.iter().enumerate() {
        let shown: String = span.text(text).chars().take(CHARS_MAX).collect();
        let bare = shown.trim_matches(['\'', '"', '`']);
        let number = at + 1;
        out = out
            .replace(&format!("{{`{number}}}"), &format!("`{bare}`"))
            .replace(&format!("{{'{number}}}"), &format!("'{bare}'"))
            .replace(&format!("{{{number}}}"), &shown);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_habit_is_among_the_recorded_errors() {
        let recorded = include_str!("../../../vectors/dql/habits.txt");
        for habit in [STATEMENTS, CLAUSES, EXPRESSIONS].into_iter().flatten() {
            let seen = habit.seen;
            let parts = habit.hint.split(['{', '}']).step_by(2);
            let pieces: Vec<&str> = parts.filter(|part| part.len() > 2).collect();
            let is_shown = recorded.lines().any(|line| {
                line.starts_with("hint: ") && pieces.iter().all(|piece| line.contains(piece))
            });
            assert!(is_shown, "no statement shows the hint of: {seen}");
        }
    }
}

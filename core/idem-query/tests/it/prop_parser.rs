//! No text makes the parser, the binder or the executor panic.

use idem_model::{Object, Value};
use proptest::{prelude::*, sample::select};

use crate::memory::Memory;

/// Runs a text; an error must be printable over it.
fn run(text: &str) {
    let mut memory = Memory::default();
    memory.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'a': [1, {'b': 'x'}], 't': 'text', 'n': 5}), ({'_id': 2})");
    memory.rows("CREATE INDEX ix ON c (a, n DESC)");
    let args = Object::from([
        ("p".to_owned(), Value::Int(3)),
        ("q".to_owned(), Value::from(vec!["a", "b"])),
    ]);
    if let Err(error) = memory.run(text, &args) {
        let shown = error.render(text);
        assert!(shown.starts_with("error: "), "{shown}");
    }
    if let Ok(statement) = idem_query::parse(text)
        && let Ok(selector) = statement.subscription(&args)
    {
        let _any = selector.matches(&Object::new());
    }
}

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "INSERT",
    "INTO",
    "DOCUMENTS",
    "VALUES",
    "INITIAL",
    "UPDATE",
    "SET",
    "UNSET",
    "APPLY",
    "INCREMENT",
    "RESTART",
    "WITH",
    "DELETE",
    "EVICT",
    "RETURNING",
    "EXPLAIN",
    "CREATE",
    "DROP",
    "INDEX",
    "ON",
    "USE",
    "IDS",
    "LIST",
    "ALTER",
    "SYSTEM",
    "SHOW",
    "ALL",
    "ANY",
    "EVERY",
    "SATISFIES",
    "END",
    "ARRAY",
    "OBJECT",
    "FOR",
    "IN",
    "WITHIN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "IS",
    "NOT",
    "NULL",
    "MISSING",
    "AND",
    "OR",
    "XOR",
    "LIKE",
    "ILIKE",
    "SIMILAR",
    "TO",
    "ESCAPE",
    "BETWEEN",
    "AS",
    "DISTINCT",
    "COUNT",
    "SUM",
    "MEDIAN",
    "upper",
    "substr",
    "date_add",
    "repeat",
    "TRIM",
    "BOTH",
    "POSITION",
    "CAST",
    "system:dual",
    "c",
    "a",
    "n",
    "t",
    "_id",
    "x",
    ":p",
    ":q",
    "*",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    ":",
    "->",
    "=",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "<<",
    "'a'",
    "\"b\"",
    "1",
    "0",
    "-1",
    "2.5",
    "9223372036854775807",
    "0xff",
    "'%Y'",
    "'1d'",
    "'day'",
    "null",
    "true",
    "`q`",
    ";",
];

const VALID: &[&str] = &[
    "SELECT a, upper(t) AS u, COUNT(*) FROM c x WHERE x.n > :p AND a IN [1, 2] GROUP BY a, upper(t) HAVING COUNT(*) > 1 ORDER BY u DESC LIMIT 3 OFFSET :p",
    "SELECT DISTINCT x.*, MISSING x.a, a[0].b FROM c AS x USE INDEX 'ix' WHERE n BETWEEN 1 AND 9 OR t LIKE 'te%' ESCAPE '!'",
    "INSERT INTO COLLECTION c (n COUNTER, o.m MAP) DOCUMENTS ({'_id': 'k', 'n': 1}), (:d) ON ID CONFLICT DO UPDATE_LOCAL_DIFF RETURNING *",
    "UPDATE COLLECTION c (n COUNTER) USE IDS LIST :q APPLY n INCREMENT BY -2, m RESTART WITH 3 SET o.p = {'a': [1.5e3]}, f -> (g = 1) UNSET t WHERE n IS NOT MISSING ORDER BY n LIMIT 1",
    "DELETE FROM c WHERE ANY i:v IN a SATISFIES v.b = 'x' AND i > 0 END RETURNING SUM(n)",
    "SELECT ARRAY v FOR v WITHIN a WHEN type(v) = 'string' END AS s, OBJECT k : v FOR k:v IN {'z': 1} END, CASE n WHEN 5 THEN 'five' ELSE CAST(n AS string) END FROM c",
    "SELECT date_add('2026-03-15T10:30:45Z', 'day', n), lpad(t, 9, 'ab'), t SIMILAR TO '[a-z]{2,4}(x|t)*', regexp_like(t, '^t', 'i') FROM c",
    "EXPLAIN SELECT * FROM c WHERE a = [1, 2.0] AND n < 7 /* why */ -- end",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_only_refused(text in "\\PC{0,80}") {
        run(&text);
    }

    #[test]
    fn random_words_are_only_refused(words in prop::collection::vec(select(WORDS), 0..30)) {
        run(&words.join(" "));
        run(&format!("SELECT {} FROM c", words.join(" ")));
    }

    #[test]
    fn damaged_statements_are_only_refused(
        text in select(VALID),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "\\PC{0,3}"), 1..4),
    ) {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, len, inserted) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + len).min(chars.len());
            chars.splice(at..end, inserted.chars());
        }
        run(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn shuffled_statements_are_only_refused(
        text in select(VALID),
        other in select(VALID),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 2),
    ) {
        let a: Vec<&str> = text.split(' ').collect();
        let b: Vec<&str> = other.split(' ').collect();
        let (a_at, b_at) = (cuts[0].index(a.len()), cuts[1].index(b.len()));
        run(&[&a[..a_at], &b[b_at..]].concat().join(" "));
    }
}

#[test]
fn the_seeds_are_valid() {
    for text in VALID {
        if let Err(error) = idem_query::parse(text) {
            panic!("{}", error.render(text));
        }
    }
}

//! What is printed parses to what was printed.

use std::cell::Cell;

use proptest::{prelude::*, sample::select, test_runner::TestRunner};

use super::*;
use crate::parser::parse_statement;

/// The tree without its places and heights.
fn shape(statement: &Statement) -> String {
    let text = format!("{statement:?}");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Span {") {
        out.push_str(&rest[..at]);
        let end = rest[at..].find('}').unwrap();
        rest = &rest[at + end + 1..];
    }
    out.push_str(rest);
    // Heights count brackets that mean nothing; they stand last in their node.
    out.split(", levels: ")
        .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()))
        .collect()
}

/// Whether the text is a statement; if so, what is printed must be the same one.
fn check(text: &str) -> bool {
    // Operands without brackets may not fit their operator.
    let Ok(parsed) = parse_statement(text) else {
        return false;
    };
    let first = parsed.statement;
    let printed = statement(&first);
    let second = match parse_statement(&printed) {
        Ok(parsed) => parsed.statement,
        Err(error) => panic!("{text}\n{}", error.render(&printed)),
    };
    let (before, after) = (shape(&first), shape(&second));
    let same = before
        .bytes()
        .zip(after.bytes())
        .take_while(|(a, b)| a == b);
    let from = same.count().saturating_sub(60);
    let part = |text: &str| text.chars().skip(from).take(160).collect::<String>();
    assert!(
        before == after,
        "{text}\n{printed}\n{}\n{}",
        part(&before),
        part(&after)
    );
    assert_eq!(printed, statement(&second));
    true
}

macro_rules! any_of {
    ($($strategy:expr),* $(,)?) => {
        proptest::strategy::Union::new([$($strategy.boxed()),*])
    };
}

fn pick(words: &[&'static str]) -> impl Strategy<Value = String> + Clone + use<> {
    select(words.to_vec()).prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = String> {
    pick(&[
        "a",
        "b.c",
        "`select`",
        "x.`a b`.c",
        "tags[0]",
        "o[-1].n",
        "*x",
        "_id",
        "1",
        "-1",
        "- 1",
        "2.5",
        "-0.5",
        "-1e300",
        "0xFF",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "'it\\'s'",
        "\"q\\u00e9/*+\"",
        "null",
        "TRUE",
        "MISSING",
        ":p",
        ":1",
        ":`a b`",
        ":select",
        "[]",
        "{}",
        "COUNT(*)",
        "exists",
        "union",
    ])
    .prop_map(|text| text.trim_start_matches('*').to_owned())
}

#[expect(clippy::too_many_lines, reason = "a list of forms")]
fn expr() -> impl Strategy<Value = String> {
    leaf().prop_recursive(5, 40, 3, |inner| {
        let one = || inner.clone();
        let sign = pick(&[
            "=",
            "==",
            "!=",
            "<>",
            "<",
            "<=",
            ">",
            ">=",
            "+",
            "-",
            "*",
            "/",
            "%",
            "||",
            "<<",
            ">>",
            "AND",
            "OR",
            "XOR",
            "LIKE",
            "NOT ILIKE",
            "SIMILAR TO",
            "IN",
            "NOT IN",
        ]);
        let unary = pick(&["NOT ", "-", "+", "- -", "NOT NOT "]);
        let test = pick(&["IS NULL", "IS NOT MISSING", "IS TRUE", "IS NOT FALSE"]);
        let call = pick(&[
            "upper",
            "SUM",
            "SUM(DISTINCT",
            "`trim`",
            "TRIM",
            "`cast`",
            "coalesce",
        ]);
        any_of![
            (one(), sign.clone(), one()).prop_map(|(a, s, b)| format!("{a} {s} {b}")),
            (one(), sign, one()).prop_map(|(a, s, b)| format!("({a}) {s} ({b})")),
            (unary, one()).prop_map(|(sign, a)| format!("{sign}{a}")),
            (one(), test).prop_map(|(a, test)| format!("{a} {test}")),
            one().prop_map(|a| format!("({a})")),
            one().prop_map(|a| format!("({a}).f[0]")),
            (one(), one()).prop_map(|(a, b)| format!("[{a}, {b}][{a}]")),
            (one(), one()).prop_map(|(a, b)| format!("{{'k': {a}, {b}: 1}}.k")),
            (one(), one(), one()).prop_map(|(a, b, c)| format!("{a} NOT BETWEEN {b} AND {c}")),
            (one(), one()).prop_map(|(a, b)| format!("{a} LIKE {b} ESCAPE '!'")),
            (one(), one()).prop_map(|(a, b)| format!("{a} IN ({b}, 1)")),
            one().prop_map(|a| format!("{a} NOT IN ()")),
            (call, one()).prop_map(|(name, a)| match name.strip_suffix("(DISTINCT") {
                Some(name) => format!("{name}(DISTINCT {a})"),
                None => format!("{name}({a})"),
            }),
            (one(), one()).prop_map(|(a, b)| format!("POSITION({a} + 1 IN {b})")),
            (one(), one()).prop_map(|(a, b)| format!("TRIM(BOTH {a} FROM {b})")),
            one().prop_map(|a| format!("CAST({a} AS integer)")),
            one().prop_map(|a| format!("CAST({a}, 'string')")),
            (one(), one(), one())
                .prop_map(|(a, b, c)| format!("CASE {a} WHEN {b} THEN {c} ELSE {a} END")),
            (one(), one()).prop_map(|(a, b)| format!("CASE WHEN {a} THEN {b} END")),
            (one(), one()).prop_map(|(a, b)| format!("ANY i:v IN {a} SATISFIES {b} END")),
            (one(), one())
                .prop_map(|(a, b)| format!("ANY AND EVERY v WITHIN {a} SATISFIES {b} END")),
            (one(), one(), one())
                .prop_map(|(a, b, c)| format!("ARRAY {a} FOR v IN {b} WHEN {c} END")),
            (one(), one(), one())
                .prop_map(|(a, b, c)| format!("OBJECT {a} : {b} FOR i:v IN {c} END")),
            (one(), one()).prop_map(|(a, b)| format!("(SELECT {a} FROM c WHERE {b})")),
            (one(), one()).prop_map(|(a, b)| format!("{a} NOT IN (SELECT {b} FROM c)")),
            one().prop_map(|a| format!("EXISTS ((SELECT {a} FROM c))")),
            one().prop_map(|a| format!("((SELECT {a} FROM c) UNION SELECT b FROM c LIMIT 1)")),
            one().prop_map(|a| format!("x IN ((SELECT {a} FROM c) UNION ALL SELECT b FROM c)")),
        ]
    })
}

fn source() -> impl Strategy<Value = String> {
    pick(&[
        "orders",
        "orders o",
        "orders AS `left`",
        "system:dual",
        "default:`group` g",
        "COLLECTION c (n COUNTER, a.b MAP, r REGISTER, t ATTACHMENT, p PN_COUNTER) AS x",
        "orders o USE IDS 'a', 2",
        "orders o USE INDEX '' USE IDS LIST :ids",
        "orders o /*+ {\"#index\": \"a*\\/b\"} */ USE INDEX 'a/b'",
        "orders USE DIRECTIVES '{\"#max_scans\": 3}'",
        "orders --+ {\"#prefer_order\": true}\n o",
    ])
}

fn query() -> impl Strategy<Value = String> {
    let projection = any_of![
        Just("*".to_owned()),
        expr().prop_map(|a| format!("o.*, {a} AS n, MISSING o.f")),
        expr().prop_map(|a| format!("DISTINCT ({a}).*")),
        expr().prop_map(|a| format!("/*+ {{\"#max_joins\": 20}} */ DISTINCT {a}")),
        (expr(), expr()).prop_map(|(a, b)| format!("{a}, {b} `as`")),
    ];
    let from = (source(), source(), expr()).prop_flat_map(|(a, b, on)| {
        select(vec![
            a.clone(),
            format!("{a} JOIN {b} ON {on}"),
            format!("{a} LEFT OUTER JOIN {b} ON {on} INNER JOIN {a} ON true"),
            format!("{a} RIGHT JOIN (SELECT * FROM {b} LIMIT 1) s ON {on}"),
            format!("{a} UNNEST o.items"),
            format!("{a} LEFT JOIN UNNEST o.items AS i INNER UNNEST ({on}) j"),
            format!("(SELECT {on} AS n FROM {b} UNION ALL SELECT 1 FROM {a}) AS u"),
            format!("((SELECT * FROM {b}) UNION SELECT * FROM {a}) u"),
        ])
    });
    let tail = (expr(), expr()).prop_flat_map(|(a, b)| {
        select(vec![
            String::new(),
            format!("WHERE {a}"),
            format!("WHERE {a} GROUP BY {b}, c HAVING {a}"),
            format!("GROUP BY {b}"),
        ])
    });
    let window = (expr(), expr()).prop_flat_map(|(a, b)| {
        select(vec![
            String::new(),
            format!("ORDER BY {a} DESC, {b} ASC"),
            format!("LIMIT {a} OFFSET {b}"),
        ])
    });
    let one = (projection, from, tail)
        .prop_map(|(what, from, tail)| format!("SELECT {what} FROM {from} {tail}"));
    (
        prop::collection::vec(one, 1..4),
        pick(&["UNION", "UNION ALL", "UNION DISTINCT"]),
        window,
    )
        .prop_flat_map(|(branches, union, window)| {
            let joined = branches.join(&format!(" {union} "));
            let bracketed = format!("({})", branches.join(&format!(") {union} (")));
            let first = branches[0].clone();
            select(vec![
                format!("{joined} {window}"),
                format!("{bracketed} {window}"),
                format!("({joined} {window}) UNION ALL ({first} LIMIT 1) UNION {first}"),
                format!("({joined} {window}) LIMIT 2"),
            ])
        })
}

fn whole() -> impl Strategy<Value = String> {
    let edits = pick(&[
        "APPLY n INCREMENT BY -2, m RESTART WITH 3, k RESTART, p PN_INCREMENT BY 1",
        "SET a.b = 1, `c d` = {'x': -1} UNSET e, f.g",
        "SET f -> (g = 1, h -> tombstone(), i -> (j = 2))",
        "UNSET x.select",
    ]);
    let returning = pick(&["", "RETURNING *", "RETURNING SUM(n) AS n, MISSING"]);
    let conflict = pick(&[
        "",
        "ON ID CONFLICT FAIL",
        "ON ID CONFLICT DO UPDATE_LOCAL_DIFF",
    ]);
    let prefix = pick(&["", "EXPLAIN", "PROFILE", "ADVISE", "ADVISE AND PROVISION"]);
    let body = any_of![
        query(),
        query(),
        query(),
        (source(), edits, expr(), returning.clone())
            .prop_map(|(c, e, w, r)| format!("UPDATE {c} {e} WHERE {w} ORDER BY a LIMIT 1 {r}")),
        (source(), expr(), returning.clone())
            .prop_map(|(c, w, r)| format!("DELETE FROM {c} WHERE {w} OFFSET 1 {r}")),
        source().prop_map(|c| format!("EVICT FROM {c}")),
        (query(), conflict.clone(), returning.clone())
            .prop_map(|(q, on, r)| format!("INSERT INTO c {q} {on} {r}")),
        (expr(), conflict, returning).prop_map(|(d, on, r)| format!(
            "INSERT INTO COLLECTION c (f MAP) VALUES ({d}), (:d) {on} {r}"
        )),
        expr().prop_map(|d| format!("INSERT INTO c INITIAL DOCUMENTS ({d})")),
        expr().prop_map(|k| format!("CREATE INDEX i ON c (a.b DESC, {k}, `x y` ASC)")),
        expr().prop_map(|k| format!("CREATE INDEX IF NOT EXISTS `on` ON c (DISTINCT {k} DESC)")),
        expr().prop_map(|a| format!("EXECUTE FUNCTION f({a}, 1)")),
        expr().prop_map(|a| format!("SHOW ALL ILIKE {a} ESCAPE '!'")),
        pick(&[
            "DROP INDEX IF EXISTS i ON c",
            "CREATE COLLECTION IF NOT EXISTS c (a.b COUNTER, m MAP)",
            "ALTER SYSTEM SET a TO {'b': [1, -2]}",
            "ALTER SYSTEM SET a = DEFAULT",
            "ALTER SYSTEM RESET ALL",
            "ALTER SYSTEM RESET a",
            "SHOW a",
            "SHOW ALL",
            "EXECUTE FUNCTION f()",
        ]),
    ];
    (prefix, body).prop_map(|(prefix, body)| format!("{prefix} {body}"))
}

#[test]
fn printed_statements_parse_to_the_same_tree() {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 1000,
        ..ProptestConfig::default()
    });
    let (read, written) = (Cell::new(0), Cell::new(0));
    let result = runner.run(&whole(), |text| {
        read.set(read.get() + usize::from(check(&text)));
        written.set(written.get() + 1);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (read, written) = (read.get(), written.get());
    assert!(
        read * 2 > written,
        "{read} of {written} texts are statements"
    );
}

#[test]
fn brackets_stand_only_where_they_are_needed() {
    let check = |text: &str, expected: &str| {
        let text = format!("SELECT {text} FROM c");
        let printed = statement(&parse_statement(&text).unwrap().statement);
        assert_eq!(printed, format!("SELECT {expected} FROM c"));
    };
    check("((a + (b * c)))", "a + b * c");
    check("(a + b) * c", "(a + b) * c");
    check("a - (b - c)", "a - (b - c)");
    check("(a - b) - c", "a - b - c");
    check("NOT (a = 1 AND b)", "NOT (a = 1 AND b)");
    check("(NOT a) = 1", "(NOT a) = 1");
    check("- (- a)", "-(-a)");
    check("(-a).b", "(-a).b");
    check("- -(1).f[0]", "-(-(1).f[0])");
    check("a IN (1, 2)", "a IN [1, 2]");
    check("a IN NOT b", "a IN +(NOT b)");
    check("a IN +(SELECT b FROM c)", "a IN +(SELECT b FROM c)");
    check("a IN (SELECT b FROM c)", "a IN (SELECT b FROM c)");
    check("(a LIKE 'x') IS NULL", "a LIKE \"x\" IS NULL");
    check("a = (b LIKE 'x')", "a = (b LIKE \"x\")");
    check("((SELECT 1 AS n FROM d))", "(SELECT 1 AS n FROM d)");
    check(
        "(a << 1) < 2 OR b XOR c AND d",
        "a << 1 < 2 OR b XOR c AND d",
    );
}

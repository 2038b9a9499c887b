//! Statements and data that are too much: each gives a clear error or the documented value.

use std::{cell::Cell, time::Duration};

use idem_model::{Object, Value, json};
use idem_query::{
    Context, ErrorKind, ExecuteError, Interrupt, QueryError, QueryOutput, StatementLimits, execute,
    parse,
};

use crate::memory::{Memory, NOW_MS};

/// What the double says a statement was given; nothing here looks at a clock.
const TIME_MAX: Duration = Duration::from_millis(250);

fn object(text: &str) -> Object {
    match json::parse(text) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("{other:?}"),
    }
}

/// Documents with the ids and numbers from 0.
fn filled(collection: &str, count: i64) -> Memory {
    let mut memory = Memory::default();
    fill(&mut memory, collection, count);
    memory
}

fn fill(memory: &mut Memory, collection: &str, count: i64) {
    let documents = (0..count)
        .map(|n| Object::from([("_id".into(), n.into()), ("n".into(), n.into())]).into())
        .collect();
    let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
    let text = format!("INSERT INTO {collection} DOCUMENTS (:documents)");
    memory.run(&text, &args).unwrap();
}

/// Runs with so many bytes of memory, and until somebody has looked so many times whether to stop.
fn bounded(
    memory: &Memory,
    text: &str,
    bytes: usize,
    looks_max: usize,
) -> Result<QueryOutput, QueryError> {
    let args = Object::new();
    let looks = Cell::new(0);
    let check = || {
        looks.set(looks.get() + 1);
        (looks.get() >= looks_max).then_some(Interrupt::TimedOut(TIME_MAX))
    };
    let context = Context::new(&args, NOW_MS)
        .with_limits(StatementLimits::default().memory_bytes(bytes))
        .with_interrupt(&check);
    match execute(&parse(text)?, &context, memory) {
        Ok(output) => Ok(output),
        Err(ExecuteError::Query(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_list_of_100_000_items_is_looked_through() {
    let mut memory = filled("c", 20);
    memory.rows("CREATE INDEX by_n ON c (n)");
    let list: Vec<String> = (0..100_000).map(|n| (n * 3).to_string()).collect();
    let list = list.join(",");
    for text in [
        format!("SELECT _id FROM c WHERE n IN ({list}) ORDER BY _id"),
        format!("SELECT _id FROM c USE INDEX '' WHERE n IN [{list}] ORDER BY _id"),
        format!("SELECT _id FROM c WHERE _id IN [{list}] ORDER BY _id"),
    ] {
        let ids: Vec<i64> = memory
            .rows(&text)
            .iter()
            .map(|row| row["_id"].as_int().unwrap())
            .collect();
        assert_eq!(ids, [0, 3, 6, 9, 12, 15, 18], "{text:.60}");
    }
}

#[test]
fn a_statement_of_a_megabyte_is_read() {
    let text = format!("SELECT '{}' AS v FROM system:dual", "x".repeat(1_000_000));
    let rows = Memory::default().rows(&text);
    assert_eq!(rows[0]["v"].as_str().map(str::len), Some(1_000_000));
}

#[test]
fn windows_take_any_whole_number_from_0() {
    let mut memory = filled("c", 5);
    for order in ["", " ORDER BY n DESC"] {
        for (window, count) in [
            ("LIMIT 1000000000000000000", 5),
            ("LIMIT 9223372036854775807 OFFSET 9223372036854775807", 0),
            ("LIMIT 9223372036854775807 OFFSET 2", 3),
            ("LIMIT 3.0", 3),
            ("LIMIT 0 OFFSET 1000000000000000000", 0),
        ] {
            let text = format!("SELECT n FROM c{order} {window}");
            assert_eq!(memory.rows(&text).len(), count, "{text}");
        }
        for window in [
            "LIMIT -1",
            "OFFSET -1",
            "LIMIT 1e30",
            "LIMIT 0.5",
            "LIMIT null",
            "LIMIT 'all'",
            "LIMIT 1 / 0",
            "LIMIT -9223372036854775808",
        ] {
            let text = format!("SELECT n FROM c{order} {window}");
            let error = memory.run(&text, &Object::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentsInvalid, "{text}: {error}");
            assert!(error.position().is_some(), "{text}: {error}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_missing_with_a_warning() {
    for (expression, warns) in [
        ("1 / 0", true),
        ("1 % 0", true),
        ("1.0 / 0", true),
        ("9223372036854775807 + 1", true),
        ("-9223372036854775808 - 1", true),
        ("9223372036854775807 * 2", true),
        ("1e308 * 10", true),
        ("deserialize_json('NaN')", true),
        ("deserialize_json('[1, Infinity]')", true),
        ("CAST('NaN' AS float)", true),
        ("CAST('inf' AS float)", true),
    ] {
        let text = format!("SELECT {expression} AS v FROM system:dual");
        let output = Memory::default().run(&text, &Object::new()).unwrap();
        assert_eq!(output.items[0].get("v"), None, "{expression}");
        assert_eq!(!output.warnings.is_empty(), warns, "{expression}");
    }
    for text in ["NaN", "[Infinity]", "{\"a\": -Infinity}", "nan"] {
        assert!(json::parse(text).is_err(), "{text}");
    }
}

#[test]
fn patterns_that_explode_elsewhere_are_bounded_here() {
    let long = "a".repeat(20_000);
    let args = Object::from([("long".to_owned(), Value::from(long.as_str()))]);
    for (expression, expected) in [
        ("regexp_like(:long, '^(a+)+$')", Some(true)),
        ("regexp_like(:long || 'b', '^(a+)+$')", Some(false)),
        ("regexp_like(:long || 'b', '^(a|aa)+$')", Some(false)),
        ("regexp_like(:long || 'b', '^(a|a?)+$')", Some(false)),
        ("(:long || 'b') LIKE '%a%a%a%a%a%a%a%a%a%a%c'", Some(false)),
        ("(:long || 'b') SIMILAR TO '(a*)*c'", Some(false)),
    ] {
        let text = format!("SELECT {expression} AS v FROM system:dual");
        match Memory::default().run(&text, &args) {
            Ok(output) => {
                let found = output.items[0].get("v").and_then(Value::as_bool);
                assert_eq!(found, expected, "{expression}");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Evaluation, "{expression}: {error}"),
        }
    }
}

#[test]
fn too_many_joins_are_refused_at_their_place() {
    let joins: String = (1..=1000)
        .map(|n| format!(" JOIN c c{n} ON c{n}.n = c.n"))
        .collect();
    let error = parse(&format!("SELECT * FROM c{joins}")).unwrap_err();
    assert!(error.message().contains("more than 10 joins"), "{error}");
    assert!(error.position().is_some());
}

#[test]
fn ten_thousand_branches_are_united_or_refused() {
    let mut memory = filled("c", 2);
    for word in ["UNION ALL", "UNION"] {
        let branches = vec!["SELECT n FROM c"; 10_000].join(&format!(" {word} "));
        match memory.run(&branches, &Object::new()) {
            Ok(output) => {
                let expected = if word == "UNION" { 2 } else { 20_000 };
                assert_eq!(output.items.len(), expected, "{word}");
            }
            Err(error) => assert!(error.message().contains("more than"), "{error}"),
        }
    }
}

#[test]
fn subqueries_a_thousand_deep_are_refused() {
    for (head, tail) in [
        ("SELECT * FROM c WHERE n IN (", ")"),
        ("SELECT (", ") AS v FROM c"),
        ("SELECT * FROM (", ") AS x"),
        ("SELECT * FROM c WHERE EXISTS (", ")"),
    ] {
        let text = format!("{}SELECT n FROM c{}", head.repeat(1000), tail.repeat(1000));
        let error = parse(&text).unwrap_err();
        assert!(error.message().contains("levels"), "{text:.60}: {error}");
    }
}

#[test]
fn a_cross_join_is_bounded_in_memory_and_time() {
    let mut memory = filled("c", 10_000);
    fill(&mut memory, "d", 10_000);
    let cross = "SELECT COUNT(*) AS n FROM c JOIN d ON c.n + d.n < 0";
    let error = bounded(&memory, cross, 64 << 20, 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let error = bounded(&memory, cross, 1 << 16, usize::MAX).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution, "{error}");
    assert!(error.message().starts_with("JOIN holds"), "{error}");
    let first = "SELECT c.n FROM c JOIN d ON true LIMIT 3";
    assert_eq!(
        bounded(&memory, first, 64 << 20, 1000).unwrap().items.len(),
        3
    );
}

#[test]
fn a_million_groups_or_rows_stop_at_the_bound_of_memory() {
    let mut memory = filled("c", 1000);
    fill(&mut memory, "d", 1000);
    for (text, clause) in [
        (
            "SELECT c.n, d.n AS m, COUNT(*) AS k FROM c JOIN d ON true GROUP BY c.n, d.n",
            "GROUP BY holds",
        ),
        (
            "SELECT c.n, d.n AS m FROM c JOIN d ON true ORDER BY m DESC, c.n",
            "ORDER BY holds",
        ),
        (
            "SELECT DISTINCT c.n, d.n AS m FROM c JOIN d ON true",
            "DISTINCT holds",
        ),
        (
            "SELECT COUNT(DISTINCT c.n * 1000 + d.n) AS k FROM c JOIN d ON true",
            "GROUP BY holds",
        ),
        (
            "SELECT COUNT(*) AS k FROM (SELECT c.n + d.n * 1000 AS m FROM c JOIN d ON true) AS x JOIN c ON x.m < c.n",
            "",
        ),
        (
            "SELECT n FROM c WHERE n NOT IN (SELECT c.n + d.n * 1000 + 5 AS m FROM c JOIN d ON true)",
            "a subquery holds",
        ),
    ] {
        let result = bounded(&memory, text, 4 << 20, 5_000);
        let error = result.unwrap_err();
        let told = error.message().starts_with(clause);
        assert!(
            told || error.kind() == ErrorKind::TimedOut,
            "{text}: {error}"
        );
        if !clause.is_empty() {
            assert_eq!(error.kind(), ErrorKind::Execution, "{text}: {error}");
            assert!(error.hint().unwrap().contains("statement_memory_bytes"));
        }
    }
    // Of a short window only what it shows is held.
    let text = "SELECT c.n, d.n AS m FROM c JOIN d ON d.n < 20 ORDER BY m DESC, c.n LIMIT 2";
    let rows = bounded(&memory, text, 4 << 20, usize::MAX).unwrap().items;
    assert_eq!(
        rows,
        [object(r#"{"n":0,"m":19}"#), object(r#"{"n":1,"m":19}"#)]
    );
}

#[test]
fn copies_of_a_large_document_are_paid_for() {
    let mut memory = Memory::default();
    let large = "x".repeat(5 << 20);
    let args = Object::from([("t".to_owned(), Value::from(large))]);
    memory
        .run("INSERT INTO c DOCUMENTS ({'_id': 1, 't': :t})", &args)
        .unwrap();
    for expression in [
        format!("[{}]", vec!["t"; 5000].join(", ")),
        format!(
            "{{{}}}",
            (0..5000)
                .map(|n| format!("'f{n}': t"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        vec!["t"; 5000].join(" || "),
        format!("[{}]", vec!["c"; 5000].join(", ")),
        "ARRAY t FOR i IN date_range(0, 100000, 'ms', 1) END".to_owned(),
    ] {
        let text = format!("SELECT {expression} AS v FROM c AS c");
        let error = memory.run(&text, &Object::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Evaluation, "{text:.60}: {error}");
    }
}

#[test]
fn arrays_unnested_again_and_again_stop() {
    let mut memory = Memory::default();
    memory.rows("INSERT INTO c DOCUMENTS ({'_id': 1, 'a': [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]})");
    let unnests: String = (0..9).map(|n| format!(" UNNEST c.a AS x{n}")).collect();
    let all = format!("SELECT COUNT(*) AS n FROM c{unnests}");
    let error = bounded(&memory, &all, 1 << 20, 50).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let few = format!("SELECT x0, x8 FROM c{unnests} LIMIT 3");
    assert_eq!(bounded(&memory, &few, 1 << 20, 50).unwrap().items.len(), 3);

    let nested = (0..9).fold(Value::Int(7), |inner, _| Value::Array(vec![inner]));
    let args = Object::from([("v".to_owned(), nested)]);
    memory.run("UPDATE c SET a = :v", &args).unwrap();
    let deep: String = (1..9)
        .map(|n| format!(" UNNEST x{} AS x{n}", n - 1))
        .collect();
    let rows = memory.rows(&format!("SELECT x8 AS v FROM c UNNEST c.a AS x0{deep}"));
    assert_eq!(rows, [object(r#"{"v":7}"#)]);
}

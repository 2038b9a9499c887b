//! Statements made to hurt: deep, long, wide, and small ones that would make large values.

use idem_model::{Object, Value, limits};
use idem_query::{QueryError, parse};

use crate::memory::Memory;

/// Runs on a thread with a stack as small as the smallest of the platforms, times four for a build
/// without optimisation.
fn on_a_small_stack(check: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(4 * 256 * 1024)
        .spawn(check);
    thread.unwrap().join().unwrap();
}

fn error_of(text: &str) -> QueryError {
    match Memory::default().run(text, &Object::new()) {
        Ok(output) => panic!("{} rows, no error", output.items.len()),
        Err(error) => error,
    }
}

#[test]
fn deep_expressions_are_refused_by_their_depth() {
    on_a_small_stack(|| {
        for levels in [60, 70, 5_000, 30_000] {
            let n = levels;
            for expr in [
                format!("{}1{}", "(".repeat(n), ")".repeat(n)),
                format!("{}{}", "[".repeat(n), "]".repeat(n)),
                format!("{}1{}", "{'a':".repeat(n), "}".repeat(n)),
                format!("{}true", "NOT ".repeat(n)),
                format!("{}x", "- ".repeat(n)),
                format!("{}1{}", "abs(".repeat(n), ")".repeat(n)),
                format!("x{}", " IS NULL".repeat(n)),
                format!("1{}", " = 1".repeat(n)),
                format!("x{}", ".y".repeat(n)),
                format!("x{}", "[0]".repeat(n)),
                format!("{}1{}", "CASE WHEN true THEN ".repeat(n), " END".repeat(n)),
                format!("{}1{}", "ARRAY v FOR v IN ".repeat(n), " END".repeat(n)),
            ] {
                let text = format!("SELECT {expr} AS v FROM system:dual");
                let result = Memory::default().run(&text, &Object::new());
                let shown: String = text.chars().take(40).collect();
                if levels > limits::NESTING_LEVELS_MAX {
                    let error = result.unwrap_err();
                    let told = ["levels", "segments", "tokens"];
                    let tells = told.iter().any(|word| error.message().contains(word));
                    assert!(tells, "{shown}: {error}");
                } else if let Err(error) = result {
                    panic!("{shown}: {error}");
                }
            }
        }
    });
}

#[test]
fn deep_v4_paths_are_refused() {
    on_a_small_stack(|| {
        let n = 10_000;
        let text = format!("UPDATE c SET {}a = 1{}", "a -> (".repeat(n), ")".repeat(n));
        assert!(parse(&text).is_err());
    });
}

#[test]
fn deep_queries_are_refused() {
    on_a_small_stack(|| {
        for n in [8, 12, 15, 16, 100, 10_000] {
            for text in [
                format!("{}SELECT * FROM c{}", "(".repeat(n), ")".repeat(n)),
                format!(
                    "SELECT * FROM {}c{}",
                    "(SELECT * FROM ".repeat(n),
                    ") x".repeat(n)
                ),
                format!(
                    "SELECT {}1{} FROM c",
                    "(SELECT ".repeat(n),
                    " FROM c)".repeat(n)
                ),
                format!(
                    "SELECT * FROM c WHERE {}true{}",
                    "EXISTS (SELECT * FROM c WHERE ".repeat(n),
                    ")".repeat(n)
                ),
                format!(
                    "SELECT * FROM c{}",
                    " UNION SELECT * FROM c UNION ALL SELECT * FROM c".repeat(n)
                ),
                format!("SELECT {}{}1 FROM c", "(".repeat(n), "(SELECT ".repeat(n)),
            ] {
                let result = parse(&text);
                if n > 16 {
                    let error = result.unwrap_err();
                    assert!(error.message().contains("levels"), "{text:.60}: {error}");
                }
            }
        }
    });
}

#[test]
fn long_chains_are_not_deep() {
    on_a_small_stack(|| {
        let n = 20_000;
        for (first, more) in [
            ("1", " + 1"),
            ("1", " * 1"),
            ("'a'", " || 'a'"),
            ("false", " OR false"),
            ("true", " AND true"),
            ("true", " XOR false"),
        ] {
            let text = format!("SELECT {first}{} AS v FROM system:dual", more.repeat(n));
            assert_eq!(Memory::default().rows(&text).len(), 1, "{first}{more}");
        }
        let list = "1, ".repeat(n);
        let rows = Memory::default().rows(&format!("SELECT 2 IN ({list} 2) AS v FROM system:dual"));
        assert_eq!(rows[0]["v"], Value::Bool(true));
    });
}

#[test]
fn long_statements_are_refused_by_their_length() {
    let text = format!(
        "SELECT '{}' FROM c",
        "x".repeat(limits::STATEMENT_BYTES_MAX)
    );
    assert!(error_of(&text).message().contains("bytes"));
    let text = format!(
        "SELECT {}1 FROM c",
        "1,".repeat(limits::STATEMENT_TOKENS_MAX / 2)
    );
    assert!(error_of(&text).message().contains("tokens"));
}

#[test]
fn small_statements_do_not_make_large_values() {
    let doubled = (0..22).fold("'x'".to_owned(), |inner, n| {
        format!("ARRAY [v{n}, v{n}] FOR v{n} IN [{inner}] END")
    });
    let list = vec!["1"; 300].join(",");
    for expr in [
        doubled,
        format!(
            "ANY a IN [{list}] SATISFIES ANY b IN [{list}] SATISFIES ANY c IN [{list}] SATISFIES ANY d IN [{list}] SATISFIES d = 2 END END END END"
        ),
        "date_range(0, 9000000000000, 'ms', 1)".to_owned(),
    ] {
        let error = error_of(&format!("SELECT {expr} AS v FROM system:dual"));
        assert_eq!(error.code(), "query/evaluation", "{error}");
    }
    for expr in [
        "repeat('x', 9223372036854775807)",
        "lpad('x', 9223372036854775807)",
        "regexp_like('x', '((((((x{1000}){1000}){1000}){1000}){1000}){1000})')",
        "'x' SIMILAR TO 'x{1000000000}'",
        "substr('x', -9223372036854775808)",
        "[1][-9223372036854775808]",
        "date_add(0, 'year', 9223372036854775807)",
        "date_add(0, 'ms', -9223372036854775808)",
        "date_sub(0, 'ms', -9223372036854775808)",
        "date_diff(9223372036854775807, 0, 'year')",
        "date_format(0, '%255Y%255d')",
        "date_trunc('-9999-01-01T00:00:00Z', 'year') = 1",
        "duration_format(-9223372036854775808, 'day')",
        "duration_cast('9999999999999999999999h')",
        "abs(-9223372036854775808)",
        "- (-9223372036854775808)",
        "-9223372036854775808 / -1",
        "-9223372036854775808 % -1",
        "-9223372036854775808 * -1",
        "CAST(1e300 AS integer)",
        "clock('%Q', '+99:99')",
    ] {
        let _any = Memory::default().rows(&format!("SELECT {expr} AS v FROM system:dual"));
    }
}

#[test]
fn lists_that_are_compared_are_bounded() {
    let n = 40_000;
    let list = |prefix: &str| {
        (0..n)
            .map(|i| format!("{prefix}{i}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    for text in [
        format!("SELECT {} FROM c", list("a")),
        format!("SELECT [{}] FROM c", list(":p")),
        format!("SELECT a FROM c GROUP BY {}", list("a")),
        format!("SELECT a FROM c ORDER BY {}", list("a")),
        format!(
            "SELECT 1 + {} FROM c",
            (0..n)
                .map(|i| format!("SUM(a{i})"))
                .collect::<Vec<_>>()
                .join(" + ")
        ),
        format!("UPDATE c UNSET {}", list("a")),
    ] {
        assert!(
            error_of(&text).message().contains("more than"),
            "{text:.60}"
        );
    }
}

#[test]
fn a_long_column_cannot_be_multiplied() {
    let column = vec!["a"; 2_000].join(" + ");
    let keys = vec!["k"; 2_000].join(", ");
    let error = error_of(&format!("SELECT {column} AS k FROM c ORDER BY {keys}"));
    assert!(error.message().contains("too often"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        for value in [
            Value::Float(number),
            Value::Array(vec![Value::Int(1), Value::Float(number)]),
            Value::Object(Object::from([("x".to_owned(), Value::Float(number))])),
        ] {
            let document = Object::from([("f".to_owned(), value.clone())]);
            let args = Object::from([
                ("v".to_owned(), value),
                ("d".to_owned(), Value::Object(document)),
            ]);
            let mut memory = Memory::default();
            for text in [
                "SELECT :v AS v FROM system:dual",
                "SELECT * FROM c WHERE a = :v",
                "INSERT INTO c DOCUMENTS (:d)",
                "INSERT INTO c DOCUMENTS ({'_id': 1, 'f': :v})",
                "UPDATE c SET a = :v",
            ] {
                let error = memory.run(text, &args).unwrap_err();
                assert_eq!(error.code(), "query/arguments-invalid", "{text}");
                assert!(error.message().contains("not finite"), "{error}");
            }
            // What no statement names is not looked at.
            assert!(memory.run("SELECT * FROM c", &args).is_ok());
        }
    }
}

#[test]
fn deep_documents_are_refused() {
    let nested =
        |levels: usize| (0..levels).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
    let mut memory = Memory::default();
    let mut insert = |levels: usize| {
        let document = Object::from([("f".to_owned(), nested(levels))]);
        let args = Object::from([("d".to_owned(), Value::Object(document))]);
        memory.run("INSERT INTO c DOCUMENTS (:d)", &args)
    };
    assert!(insert(limits::NESTING_LEVELS_MAX - 1).is_ok());
    let error = insert(limits::NESTING_LEVELS_MAX).unwrap_err();
    assert_eq!(error.code(), "query/arguments-invalid");
    let args = Object::from([("v".to_owned(), nested(limits::NESTING_LEVELS_MAX - 1))]);
    assert!(memory.run("UPDATE c SET g = :v", &args).is_ok());
    assert!(memory.run("UPDATE c SET h.i = :v", &args).is_err());
}

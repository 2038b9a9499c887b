//! The functions: the examples of their table, and the rules that hold between them.

use idem_model::{Object, Value, json};
use idem_query::functions;
use proptest::prelude::*;

use crate::memory::Memory;

/// The value of an expression, `None` for MISSING.
fn value(memory: &mut Memory, expression: &str) -> Option<Value> {
    let text = format!("SELECT {expression} AS v FROM system:dual");
    let mut rows = memory.rows(&text);
    assert_eq!(rows.len(), 1, "{text}");
    rows.remove(0).remove("v")
}

/// Why the expression does not give the result, written as JSON or `MISSING`.
fn wrong(memory: &mut Memory, expression: &str, result: &str) -> Option<String> {
    let expected = match result {
        "MISSING" => None,
        text => Some(json::parse(text).unwrap()),
    };
    let found = value(memory, expression);
    // Equal numbers of two types are equal values, and the type is a part of the promise.
    let same = format!("{found:?}") == format!("{expected:?}");
    (!same).then(|| format!("{expression}: found {found:?}, wanted {expected:?}"))
}

pub(crate) fn check(cases: impl IntoIterator<Item = (&'static str, &'static str)>) {
    let mut memory = Memory::default();
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(expression, result)| wrong(&mut memory, expression, result))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_gives_what_it_says() {
    let examples = functions().flat_map(|function| function.examples);
    check(examples.map(|example| (example.expression, example.result)));
}

/// The generated part of the reference stands between these lines.
const BEGIN: &str = "<!-- generated from the table of functions: begin -->\n";
const END: &str = "<!-- generated from the table of functions: end -->\n";

/// Every function with its examples, by category.
fn reference() -> String {
    let mut out = String::new();
    let mut category = "";
    let mut all: Vec<_> = functions().collect();
    let order: Vec<&str> = all.iter().map(|function| function.category).collect();
    // Forms such as CAST are listed apart, and belong to the functions of their category.
    all.sort_by_key(|function| order.iter().position(|name| *name == function.category));
    for function in all {
        if function.category != category {
            category = function.category;
            let (first, rest) = category.split_at(1);
            out.push_str(&format!("\n## {}{rest}\n", first.to_uppercase()));
        }
        let signatures: Vec<String> = function.signature.split(" | ").map(code).collect();
        let description = function.description;
        out.push_str(&format!("\n### {}\n\n", function.name));
        out.push_str(&format!("{}\n\n{description}\n", signatures.join(", ")));
        let width = function.examples.iter().map(|it| it.expression.len());
        let width = width.filter(|width| *width <= 60).max().unwrap_or_default();
        if !function.examples.is_empty() {
            out.push_str("\n```\n");
            for example in function.examples {
                let expression = format!("{:width$}", example.expression);
                out.push_str(&format!("{expression} -- {}\n", example.result));
            }
            out.push_str("```\n");
        }
    }
    out.push('\n');
    out
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn the_reference_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/dql/functions.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("the begin mark");
    let (found, tail) = rest.split_once(END).expect("the end mark");
    let expected = reference();
    if std::env::var_os("IDEM_BLESS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{expected}{END}{tail}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "docs/dql/functions.md is behind; write it with IDEM_BLESS=1 cargo test -p idem-query reference"
    );
}

/// The statement with its arguments has one warning, with this text and place.
fn warns(expression: &str, expected: &str) {
    let mut memory = Memory::default();
    let text = format!("SELECT {expression} AS v FROM system:dual");
    let output = memory.run(&text, &Object::new()).unwrap();
    assert_eq!(output.items, [Object::new()], "{expression} gives MISSING");
    let messages: Vec<String> = output.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(messages, [expected], "{expression}");
}

#[test]
fn a_wrong_argument_is_named_with_its_place() {
    warns(
        "upper(5)",
        "`upper` gave MISSING: argument 1 takes a string, found integer (line 1, column 14)",
    );
    warns(
        "substr('abc', {'a': [1, 2]}, 1)",
        "`substr` gave MISSING: argument 2 takes an integer, found object (line 1, column 22)",
    );
    warns(
        "date_part('2026-03-15T10:30:45Z', 'week')",
        "`date_part` gave MISSING: `week` is not a part; expected year, month, day, hour, minute, \
         second, millisecond, weekday, monthname or timezone (line 1, column 42)",
    );
    warns(
        "date_add('2026-03-15', 'day', 1)",
        "`date_add` gave MISSING: `2026-03-15` is not an ISO-8601 date with a zone (line 1, \
         column 17)",
    );
    warns(
        "date_format(0, 'YYYY', 'Mars/Base')",
        "`date_format` gave MISSING: `Mars/Base` is not a time zone; expected a name such as \
         Europe/Berlin, or an offset such as +02:00 (line 1, column 31)",
    );
    warns(
        "date_format(0, 'yyyy-MM-dd')",
        "`date_format` gave MISSING: `yyyy` is not an element of a format; expected YYYY, MM, DD, \
         hh, mm, ss, sss, TZD or TZN (line 1, column 23)",
    );
    warns(
        "regexp_like('a', '(b')",
        "`regexp_like` gave MISSING: `(b` is not a pattern: found open group without closing ')' (line 1, column 25)",
    );
    warns(
        "regexp_like('a', 'b', 'q')",
        "`regexp_like` gave MISSING: `q` are not flags; expected i, c, m, s or x (line 1, column \
         30)",
    );
    warns(
        "POSITION(5 IN 'a')",
        "`pos` gave MISSING: argument 2 takes a string, found integer (line 1, column 8)",
    );
    warns(
        "cast('abc' AS integer)",
        "CAST gave MISSING: `abc` cannot be an integer (line 1, column 8)",
    );
    warns(
        "'a' || 1",
        "`||` of string and integer gave MISSING: it joins strings only (line 1, column 8)",
    );
}

#[test]
fn absent_data_is_no_mistake() {
    let mut memory = Memory::default();
    for function in functions() {
        // These take anything, or are not called so.
        let takes = function.signature.matches(',').count() + 1;
        for absent in ["null", "nofield"] {
            let args = vec![absent; takes].join(", ");
            let text = format!("SELECT {}({args}) AS v FROM system:dual", function.name);
            if let Ok(output) = memory.run(&text, &Object::new()) {
                assert!(output.warnings.is_empty(), "{text}: {:?}", output.warnings);
            }
        }
    }
}

#[test]
fn one_place_warns_once() {
    let mut memory = Memory::default();
    memory.rows("INSERT INTO o DOCUMENTS ({'_id': 1, 'a': 1}), ({'_id': 2, 'a': 2.5}), ({'_id': 3, 'a': []})");
    let text = "SELECT upper(a) AS u, lower(a) AS l FROM o";
    let output = memory.run(text, &Object::new()).unwrap();
    assert_eq!(output.warnings.len(), 2);
}

#[test]
fn a_wrong_call_shows_how_it_is_written() {
    let mut memory = Memory::default();
    let mut check = |expression: &str, message: &str, hint: &str| {
        let text = format!("SELECT {expression} AS v FROM system:dual");
        let error = memory.run(&text, &Object::new()).unwrap_err();
        assert_eq!(error.message(), message);
        assert_eq!(error.hint(), Some(hint));
        assert_eq!(error.position().map(|at| at.column), Some(8));
    };
    check(
        "uper('a')",
        "there is no function `uper`",
        "did you mean `upper`?",
    );
    check(
        "upper()",
        "`upper` takes 1 argument, not 0",
        "it is called as upper(text)",
    );
    check(
        "request_info(1)",
        "`request_info` takes no arguments, not 1",
        "it is called as request_info()",
    );
    check(
        "decode(1, 2)",
        "`decode` takes at least 3 arguments, not 2",
        "it is called as decode(value, case1, result1, .. [, default])",
    );
}

#[test]
fn large_requests_end_soon() {
    let mut memory = Memory::default();
    let long = "a".repeat(2_000_000);
    let args = |text: &str| Object::from([("t".to_owned(), Value::from(text))]);
    let mut run = |expression: &str| {
        let text = format!("SELECT {expression} AS v FROM system:dual");
        memory.run(&text, &args(&long)).map(|output| {
            let row = output.items.into_iter().next().unwrap();
            row.get("v").cloned()
        })
    };
    let plain = "a%".repeat(1000);
    assert_eq!(
        run(&format!(":t LIKE '{plain}b'")),
        Ok(Some(Value::Bool(false)))
    );
    // Refused for the size of the result alone.
    for expression in [
        "repeat('ab', 9223372036854775807)",
        "repeat(:t, 1000)",
        "lpad('a', 9223372036854775807, 'x')",
        "rpad('a', -1)",
        "regexp_like('a', '((a{1000}){1000}){1000}')",
        "'a' SIMILAR TO '((a{1000}){1000}){1000}'",
    ] {
        assert_eq!(run(expression), Ok(None), "{expression}");
    }
    // More than the budget of a row.
    for expression in [
        "[repeat('a', 5000000), repeat('a', 5000000), repeat('a', 5000000), repeat('a', 5000000), repeat('a', 5000000)]",
        "date_range(0, 9000000000000, 'ms', 1)",
        "regexp_like(:t, '(a?){60}(a?){60}b$')",
        "regexp_like(:t, '(a?b?){100}c')",
        &format!(":t LIKE '%{}_b'", "a".repeat(300_000)),
        &format!("[{}]", vec!["upper(:t)"; 20].join(", ")),
        "regexp_like(:t, '(a|b|ab|(a?){500})*c')",
    ] {
        let error = run(expression).unwrap_err();
        assert_eq!(error.code(), "query/evaluation", "{expression}");
    }
}

const PARTS: [&str; 7] = [
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
];

/// A date as the language prints it, on a day that every month has.
fn date() -> impl Strategy<Value = String> {
    let day = (1800..2200i32, 1..=12u8, 1..=28u8);
    let time = (0..24u8, 0..60u8, 0..60u8, 0..1000u16);
    let offset = (-12..=14i8, prop_oneof![Just(0u8), Just(30)]);
    (day, time, offset).prop_map(|((year, month, day), (hour, minute, second, ms), (h, m))| {
        let ms = match ms {
            0 => String::new(),
            ms => format!(".{ms:03}"),
        };
        let sign = if h < 0 { '-' } else { '+' };
        let h = h.unsigned_abs();
        format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{ms}{sign}{h:02}:{m:02}"
        )
    })
}

/// The value of an expression with the arguments `:a`, `:b`, ..
fn eval(expression: &str, args: &[Value]) -> Option<Value> {
    let named = args
        .iter()
        .zip('a'..)
        .map(|(value, name)| (name.to_string(), value.clone()));
    let text = format!("SELECT {expression} AS v FROM system:dual");
    let output = Memory::default().run(&text, &named.collect()).unwrap();
    output.items[0].get("v").cloned()
}

fn holds(expression: &str, args: &[Value]) -> Result<(), TestCaseError> {
    let found = eval(expression, args);
    prop_assert_eq!(found, Some(Value::Bool(true)), "{} {:?}", expression, args);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn dates_move_there_and_back(date in date(), count in -500i64..500, part in 0usize..7) {
        let args = [Value::from(date), Value::from(PARTS[part]), Value::from(count)];
        holds("date_diff(date_add(:a, :b, :c), :a, :b) = :c", &args)?;
        holds("date_sub(date_add(:a, :b, :c), :b, :c) = :a", &args)?;
        holds("date_cast(date_add(:a, :b, :c)) = date_add(date_cast(:a), :b, :c) \
               OR :b IN ['year', 'month']", &args)?;
        holds("date_diff(:a, date_add(:a, :b, :c), :b) = -:c", &args)?;
    }

    #[test]
    fn cut_dates_stay_cut(date in date(), part in 0usize..7) {
        let args = [Value::from(date), Value::from(PARTS[part])];
        holds("date_trunc(date_trunc(:a, :b), :b) = date_trunc(:a, :b)", &args)?;
        holds("date_diff(:a, date_trunc(:a, :b), :b) = 0", &args)?;
        holds("date_part(date_trunc(:a, :b), :b) = date_part(:a, :b)", &args)?;
        holds("date_cast(date_trunc(:a, :b)) <= date_cast(:a)", &args)?;
    }

    #[test]
    fn dates_are_read_as_they_are_printed(date in date(), zone in 0usize..4) {
        let zone = ["UTC", "+05:30", "Europe/Berlin", "America/New_York"][zone];
        let args = [Value::from(date), Value::from(zone)];
        holds("date_format(:a, '') = :a", &args)?;
        holds("date_cast(date_format(:a, 'YYYY-MM-DD hh:mm:ss.sss TZD'), \
               'YYYY-MM-DD hh:mm:ss.sss TZD') = date_cast(:a)", &args)?;
        // Berlin and New York had odd seconds in their offset once, which ISO-8601 cannot say.
        holds("date_part(:a, 'year') < 1900 OR date_cast(date_format(:a, '', :b)) = date_cast(:a)", &args)?;
        holds("date_cast(date_format(date_cast(:a), '')) = date_cast(:a)", &args)?;
        holds("tz_offset(:a) = date_diff(date_cast(date_format(:a, 'YYYY-MM-DD hh:mm:ss.sss'), \
               'YYYY-MM-DD hh:mm:ss.sss'), date_cast(:a), 'minute')", &args)?;
    }

    #[test]
    fn ranges_hold_their_bounds(from in -10_000_000i64..10_000_000, length in 0i64..3000, step in 1i64..90) {
        let args = [Value::from(from), Value::from(from + length * 1000), Value::from(step)];
        let range = "date_range(:a, :b, 'second', :c)";
        holds(&format!("array_length({range}) = (:b - :a + :c * 1000 - 1) / (:c * 1000)"), &args)?;
        holds(&format!("EVERY d IN {range} SATISFIES d >= :a AND d < :b END"), &args)?;
        holds(&format!("EVERY i:d IN {range} SATISFIES d = :a + i * :c * 1000 END"), &args)?;
    }

    #[test]
    fn durations_are_read_as_they_are_printed(ms in any::<i32>()) {
        let args = [Value::from(ms)];
        holds("duration_cast(duration_format(:a)) = :a", &args)?;
        holds("duration_cast(duration_format(:a), 'second') = :a / 1000", &args)?;
        holds("duration_format(:a, 'minute') = duration_format(60000 * :a)", &args)?;
    }

    #[test]
    fn casts_come_back(int in any::<i64>(), float in any::<f64>(), text in "\\PC{0,12}") {
        let float = Value::float(float).unwrap_or(Value::Float(0.5));
        let args = [Value::Int(int), float, Value::from(text)];
        holds("cast(cast(:a AS string) AS integer) = :a", &args)?;
        holds("cast(cast(:b AS string) AS float) = :b", &args)?;
        holds("cast(cast(:c AS binary) AS string) = :c", &args)?;
        holds("deserialize_json(serialize_json([:a, :b, :c])) = [:a, :b, :c]", &args)?;
        holds("byte_length(:c) = byte_length(cast(:c AS binary))", &args)?;
    }

    #[test]
    fn parts_of_strings_fit_together(text in "[ab\u{e9}\u{1f600} ]{0,10}", part in "[ab\u{e9}]{0,2}", at in 0i64..12) {
        let args = [Value::from(text), Value::from(part), Value::from(at)];
        holds("pos(:a, :b) = -1 OR substr(:a, pos(:a, :b), char_length(:b)) = :b", &args)?;
        holds("contains(:a, :b) = (pos(:a, :b) >= 0)", &args)?;
        holds("contains(:a, :b) = (:a LIKE '%' || :b || '%')", &args)?;
        holds("starts_with(:a, :b) = (:a LIKE :b || '%')", &args)?;
        holds("ends_with(:a, :b) = (:a LIKE '%' || :b)", &args)?;
        holds(":c > char_length(:a) OR substr(:a, 0, :c) || substr(:a, :c) = :a", &args)?;
        holds(":c = 0 OR :c > char_length(:a) OR substr(:a, -:c) = substr(:a, char_length(:a) - :c)", &args)?;
        holds("char_length(lpad(:a, :c, '-')) = :c AND char_length(rpad(:a, :c)) = :c", &args)?;
        holds(":b = '' OR joinstr(:b, split(:a, :b)) = :a", &args)?;
        holds("TRIM(:a) = ltrim(rtrim(:a))", &args)?;
        holds("char_length(repeat(:a, :c)) = :c * char_length(:a)", &args)?;
        holds("lower(upper(:a)) = :a AND concat(:a, :b) = :a || :b", &args)?;
    }
}

//! The functions: the examples of their table, and the rules that hold between them.

use idem_model::{Value, json};
use idem_query::functions;

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

fn check(cases: impl IntoIterator<Item = (&'static str, &'static str)>) {
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

//! Runs `vectors/dql/cases.jsonl`.

use idem_model::{Object, Value, json};
use idem_query::{QueryError, QueryOutput, parse};

use crate::memory::Memory;

/// Kinds that need more than a query engine; the store and the simulator run them.
const ELSEWHERE: [&str; 2] = ["tx", "merge"];

struct Case {
    fields: Object,
}

impl Case {
    fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or("")
    }

    fn args(&self) -> Object {
        args(self.fields.get("args"))
    }
}

fn args(value: Option<&Value>) -> Object {
    value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

#[test]
fn every_case_passes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/dql/cases.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    let mut passed = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Value::Object(fields) = json::parse(line).unwrap() else {
            panic!("not a case: {line}");
        };
        let case = Case { fields };
        let id = case.text("id");
        if ELSEWHERE.contains(&case.text("kind")) {
            continue;
        }
        match run(&case) {
            Ok(()) => passed += 1,
            Err(reason) => wrong.push(format!("{id}: {}\n  {reason}", case.text("stmt"))),
        }
    }
    assert!(wrong.is_empty(), "{passed} passed\n{}", wrong.join("\n"));
    assert!(passed > 100, "only {passed} cases ran");
}

fn run(case: &Case) -> Result<(), String> {
    let mut memory = Memory::default();
    for step in case
        .fields
        .get("setup")
        .and_then(Value::as_array)
        .unwrap_or_default()
    {
        let step = step.as_array().unwrap();
        let text = step[0].as_str().unwrap();
        memory
            .run(text, &args(step.get(1)))
            .map_err(|error| format!("setup: {}", error.render(text)))?;
    }
    let statement = case.text("stmt");
    let expect = case.fields["expect"].as_object().unwrap();
    if case.text("kind") == "subscription" {
        let result = parse(statement).and_then(|parsed| parsed.subscription(&case.args()));
        return match (expect.get("error"), result) {
            (Some(class), Err(error)) => check_error(class, &error),
            (None, Ok(_)) => Ok(()),
            (Some(class), Ok(_)) => Err(format!("expected the error {class:?}")),
            (None, Err(error)) => Err(error.render(statement)),
        };
    }
    let syntax_only = parse(statement).is_err();
    let output = match (memory.run(statement, &case.args()), expect.get("error")) {
        (Err(error), Some(class)) => {
            return match (class.as_str(), syntax_only) {
                (Some("syntax"), false) => Err(format!("not a syntax error: {error}")),
                _ => check_error(class, &error),
            };
        }
        (Ok(_), Some(class)) => return Err(format!("expected the error {class:?}")),
        (Err(error), None) => return Err(error.render(statement)),
        (Ok(output), None) => output,
    };
    check_output(expect, &output, &mut memory)
}

fn check_output(expect: &Object, output: &QueryOutput, memory: &mut Memory) -> Result<(), String> {
    let ids = |rows: &[Object]| -> Vec<Value> {
        rows.iter()
            .map(|row| row.get("_id").cloned().unwrap_or_default())
            .collect()
    };
    let mutated: Vec<Value> = output
        .mutated_ids
        .iter()
        .map(|id| id.as_value().clone())
        .collect();
    for (name, wanted) in expect {
        match name.as_str() {
            "row" => same(&objects(&output.items), &vec![wanted.clone()])?,
            "rows" => same(&objects(&output.items), items(wanted))?,
            "ids_in_order" => same(&ids(&output.items), items(wanted))?,
            "ids_any_order" => same(&sorted(&ids(&output.items)), &sorted(items(wanted)))?,
            "mutated_ids" => same(&mutated, items(wanted))?,
            "mutated_ids_any_order" => same(&sorted(&mutated), &sorted(items(wanted)))?,
            "mutated_count" => same(&Value::Int(i64::try_from(mutated.len()).unwrap()), wanted)?,
            "first_operator" => {
                let plan = output.items[0]["plan"].as_object().unwrap();
                let steps = items(&plan["children"]);
                same(&steps[0].as_object().unwrap()["#operator"], wanted)?;
            }
            "then" => {
                let step = items(wanted);
                let text = step[0].as_str().unwrap();
                let rows = memory
                    .run(text, &Object::new())
                    .map_err(|error| error.render(text))?;
                same(&objects(&rows.items), items(&step[1]))?;
            }
            other => return Err(format!("an expectation that is not known: {other}")),
        }
    }
    Ok(())
}

fn check_error(class: &Value, error: &QueryError) -> Result<(), String> {
    match class.as_str().unwrap() {
        "syntax" | "any" => Ok(()),
        text if error.message().contains(text) => Ok(()),
        text => Err(format!("expected an error with `{text}`, found `{error}`")),
    }
}

fn items(value: &Value) -> &Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("not an array: {other:?}"),
    }
}

fn objects(rows: &[Object]) -> Vec<Value> {
    rows.iter().cloned().map(Value::Object).collect()
}

fn sorted(values: &[Value]) -> Vec<Value> {
    let mut values = values.to_vec();
    values.sort_by(Value::compare);
    values
}

fn same<T: PartialEq + std::fmt::Debug>(found: &T, wanted: &T) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("found {found:?}\n  wanted {wanted:?}")),
    }
}

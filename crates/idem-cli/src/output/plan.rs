//! Plans of EXPLAIN and PROFILE for people: a line for each step, whole, indented under the step that
//! it belongs to.

use std::fmt::Write as _;

use idem::{Object, Value};

use super::{json_text, printable};

/// The text of a row that EXPLAIN gave, or of the last one of PROFILE; `None` of any other.
pub(super) fn text(row: &Object) -> Option<String> {
    let mut out = String::new();
    let (Some((name, value)), 1) = (row.iter().next(), row.len()) else {
        return None;
    };
    let fields = value.as_object()?;
    match name.as_str() {
        "plan" if is_step(value) => steps(fields, 0, &mut out),
        "~request_profile" => {
            let plan = fields.get("plan").filter(|plan| is_step(plan))?;
            steps(plan.as_object()?, 0, &mut out);
            totals(fields, &mut out);
        }
        _ => return None,
    }
    Some(out)
}

fn is_step(value: &Value) -> bool {
    let fields = value.as_object();
    fields.is_some_and(|fields| fields.contains_key("#operator"))
}

/// The steps of a plan.
fn steps(step: &Object, level: usize, out: &mut String) {
    out.push_str(&"  ".repeat(level));
    if let Some(Value::String(operator)) = step.get("#operator") {
        out.push_str(&printable(operator));
    }
    for (name, value) in step {
        match name.as_str() {
            "#operator" | "children" | "#stats" => {}
            // What an index scan says of itself needs no brackets.
            "desc" => match value.as_object() {
                Some(desc) => desc
                    .iter()
                    .for_each(|(name, value)| detail(name, value, out)),
                None => detail(name, value, out),
            },
            _ => detail(name, value, out),
        }
    }
    if let Some(stats) = step.get("#stats").and_then(Value::as_object) {
        let number = |name: &str| stats.get(name).and_then(Value::as_int).unwrap_or(0);
        let run = stats.get("phaseTimes").and_then(Value::as_object);
        let run = run
            .and_then(|times| times.get("run"))
            .and_then(Value::as_int);
        let _infallible = write!(
            out,
            "  ({} of {} documents, {})",
            number("documentsOut"),
            number("documentsIn"),
            milliseconds(run.unwrap_or(0)),
        );
    }
    out.push('\n');
    if let Some(children) = step.get("children").and_then(Value::as_array) {
        for child in children.iter().filter_map(Value::as_object) {
            steps(child, level + 1, out);
        }
    }
}

fn detail(name: &str, value: &Value, out: &mut String) {
    // JSON text escapes control characters by itself.
    let _infallible = write!(out, " {}={}", printable(name), json_text(value));
}

/// What PROFILE says of the whole statement.
fn totals(profile: &Object, out: &mut String) {
    let count = profile
        .get("resultCount")
        .map_or_else(String::new, json_text);
    let _infallible = write!(out, "{count} rows");
    let times = profile.get("times").and_then(Value::as_object);
    for (name, value) in times.into_iter().flatten() {
        if let Some(nanos) = value.as_int() {
            let _infallible = write!(out, ", {} {}", printable(name), milliseconds(nanos));
        }
    }
    out.push('\n');
}

fn milliseconds(nanos: i64) -> String {
    let micros = nanos / 1000;
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

//! Statements run as they are planned and naively, and their results beside each other.

use idem_model::{Object, Value, json};
use idem_query::{
    Context, ErrorKind, ExecuteError, NaiveError, NaiveOutput, QueryError, evaluate_naively,
    execute, parse,
};
use idem_store::{Store, StoreConfig, StoreError};

use super::{Script, Tallies, tally::bump, watched::Watched};
use crate::double::{Memory, NOW_MS};

/// Rows and pairs that the naive evaluator may look at for one statement.
const STEPS_MAX: usize = 10_000;

/// What came of a script that did not fail.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Check {
    /// Statements whose results were compared.
    pub(crate) compared: usize,
}

/// Runs a script on the double of the store.
pub(crate) fn compare_on_double(script: &Script, tallies: &Tallies) -> Result<Check, String> {
    let mut check = Check::default();
    let mut memory = Memory::default();
    for line in &script.lines {
        if is_query(line) {
            bump(&tallies.statements);
            let expected = naive(line, &script.args, &memory);
            if matches!(expected, Err(None)) {
                // What is too large for one is too slow for the other.
                bump(&tallies.too_large);
                continue;
            }
            let watched = Watched::of(&memory);
            let given = planned(line, &script.args, &watched);
            check.compared += usize::from(judge(line, expected, given, tallies)?);
            watched.note(tallies);
        } else if is_change(line) {
            let expected = naive(line, &script.args, &memory);
            let given = memory.run(line, &script.args).map(|output| {
                let ids = output.mutated_ids.iter();
                ids.map(|id| Object::from([("_id".to_owned(), id.as_value().clone())]))
                    .collect()
            });
            bump(&tallies.changes);
            judge(line, expected, given, tallies)?;
        } else {
            let _valid = memory.run(line, &script.args);
        }
    }
    Ok(check)
}

/// Runs a script on a store, and compares each query with the naive one over what a plain scan gives.
pub(crate) fn compare_on_store(script: &Script, tallies: &Tallies) -> Result<Check, String> {
    let mut check = Check::default();
    let config = StoreConfig::memory()
        .background_threads(false)
        .entropy_seed(1);
    let store = Store::open(config).expect("a store in memory opens");
    let mut twin = dump(&store)?;
    for line in &script.lines {
        let expected = match is_query(line) {
            true => {
                bump(&tallies.statements);
                Some(naive(line, &script.args, &twin))
            }
            false => None,
        };
        if let Some(Err(None)) = expected {
            bump(&tallies.too_large);
            continue;
        }
        let result = store.execute(line, script.args.clone());
        let given = match result {
            Ok(result) => Ok(result.items),
            Err(StoreError::Query(error)) => Err(error),
            Err(
                error @ (StoreError::Poisoned { .. }
                | StoreError::Corrupt { .. }
                | StoreError::Engine(_)
                | StoreError::Log(_)),
            ) => return Err(format!("{line}: {error}")),
            Err(_) => continue,
        };
        match expected {
            Some(expected) => {
                check.compared += usize::from(judge(line, expected, given, tallies)?);
            }
            None => twin = dump(&store)?,
        }
    }
    Ok(check)
}

/// The documents of a store as a scan of everything gives them.
fn dump(store: &Store) -> Result<Memory, String> {
    let mut memory = Memory::default();
    for collection in super::documents::COLLECTIONS {
        let text = format!("SELECT * FROM {collection} USE INDEX ''");
        let result = store.execute(&text, Object::new());
        let result = result.map_err(|error| format!("{text}: {error}"))?;
        if result.items.is_empty() {
            continue;
        }
        let documents = result.items.into_iter().map(Value::Object).collect();
        let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
        memory
            .run(
                &format!("INSERT INTO {collection} DOCUMENTS (:documents)"),
                &args,
            )
            .map_err(|error| format!("the twin refuses documents of {collection}: {error}"))?;
    }
    Ok(memory)
}

fn is_query(line: &str) -> bool {
    line.starts_with("SELECT") || line.starts_with('(')
}

/// Whether it is a change that writes every document that it finds.
fn is_change(line: &str) -> bool {
    line.starts_with("DELETE")
        || line.starts_with("EVICT")
        || line.starts_with("UPDATE")
            && line.contains("= coalesce ( ")
            && line.contains(" , 0 ) WHERE ")
}

fn planned(line: &str, args: &Object, memory: &Watched<'_>) -> Result<Vec<Object>, QueryError> {
    let statement = parse(line)?;
    match execute(&statement, &Context::new(args, NOW_MS), memory) {
        Ok(output) => Ok(output.items),
        Err(ExecuteError::Query(error)) => Err(error),
        Err(error) => panic!("the double never fails: {error}"),
    }
}

fn naive(line: &str, args: &Object, memory: &Memory) -> Result<NaiveOutput, Option<QueryError>> {
    match evaluate_naively(line, &Context::new(args, NOW_MS), memory, STEPS_MAX) {
        Ok(output) => Ok(output),
        Err(NaiveError::Failed(ExecuteError::Query(error))) => Err(Some(error)),
        Err(_) => Err(None),
    }
}

/// Compares results; gives whether the statement was valid and small enough.
fn judge(
    line: &str,
    expected: Result<NaiveOutput, Option<QueryError>>,
    given: Result<Vec<Object>, QueryError>,
    tallies: &Tallies,
) -> Result<bool, String> {
    match (expected, given) {
        (Err(None), _) => bump(&tallies.too_large),
        (Err(Some(expected)), Err(given)) => {
            if expected.kind() != given.kind() {
                return Err(format!(
                    "{line}\nfails with: {given}\ninstead of: {expected}"
                ));
            }
            bump(match given.kind() {
                ErrorKind::Invalid | ErrorKind::Unsupported => &tallies.invalid,
                _ => &tallies.failed,
            });
        }
        // Whether rows are looked at that the result does not need is left to the plan.
        (Err(Some(error)), Ok(_)) | (Ok(_), Err(error)) if depends_on_plan(&error) => {
            bump(&tallies.tolerated);
        }
        (Err(Some(error)), Ok(_)) => {
            return Err(format!("{line}\nsucceeds instead of: {error}"));
        }
        (Ok(_), Err(error)) => return Err(format!("{line}\nfails with: {error}")),
        (Ok(expected), Ok(given)) => {
            difference(line, &expected, &given)?;
            bump(&tallies.compared);
            if !given.is_empty() {
                bump(&tallies.with_rows);
            }
            if !expected.warnings.is_empty() {
                bump(&tallies.warned);
            }
            tallies.note_text(line);
            return Ok(true);
        }
    }
    Ok(false)
}

fn depends_on_plan(error: &QueryError) -> bool {
    error.kind() == ErrorKind::Evaluation
        || error.message().contains("more than one row")
        || error.message().contains("there is no index")
}

/// What is wrong with the rows that were given.
fn difference(line: &str, expected: &NaiveOutput, given: &[Object]) -> Result<(), String> {
    // Which of 1 and 1.0 is kept where equal values become one is left to the order of rows.
    let is_exact = !line.contains("DISTINCT") && !line.contains("UNION");
    let form = |row: &Object| {
        let row = match is_exact {
            true => row.clone(),
            false => row
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        };
        json::to_string(&Value::Object(row))
    };
    let wrong = |what: String| {
        let rows = |rows: &[Object]| rows.iter().map(&form).collect::<Vec<_>>().join("\n  ");
        let groups: Vec<String> = expected.groups.iter().map(|group| rows(group)).collect();
        Err(format!(
            "{line}\n{what}\ngiven:\n  {}\nexpected (offset {}, limit {}):\n  {}",
            rows(given),
            expected.offset,
            expected.limit,
            groups.join("\n  --\n  "),
        ))
    };
    let total: usize = expected.groups.iter().map(Vec::len).sum();
    let len = total.saturating_sub(expected.offset).min(expected.limit);
    if given.len() != len {
        return wrong(format!("{} rows instead of {len}", given.len()));
    }
    let mut start = 0;
    for group in &expected.groups {
        let end = start + group.len();
        let place = |at: usize| at.saturating_sub(expected.offset).min(given.len());
        let mut rows: Vec<String> = group.iter().map(&form).collect();
        for row in &given[place(start)..place(end)] {
            let row = form(row);
            match rows.iter().position(|one| *one == row) {
                Some(at) => {
                    rows.swap_remove(at);
                }
                None => return wrong(format!("this row is wrong, or in a wrong place: {row}")),
            }
        }
        start = end;
    }
    Ok(())
}

/// The value with floats that are whole as integers.
fn plain(value: &Value) -> Value {
    match value {
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Value::Int(*number as i64)
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

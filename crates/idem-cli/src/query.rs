//! `idem query`: one statement, its result on stdout.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use idem::{Object, QueryResult, Value};

use crate::{
    args::{DurabilityChoice, QueryArgs},
    exit::{CliError, ExitStatus},
    index_progress,
    opening::{open_offline, peer_error, statement_error},
    output::{format_or_default, print_rows},
    program::Talk,
};

/// Bytes of a statement that is read from stdin; the parser's own limit is far lower.
const STATEMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Runs the command.
pub(crate) fn run(args: &QueryArgs, talk: Talk) -> Result<(), CliError> {
    let statement = statement(&args.statement)?;
    let arguments = arguments(args.args.as_deref())?;
    let idem = open_offline(&args.store, DurabilityChoice::Durable)?;
    let run = || {
        idem.store()
            .execute_blocking((statement.clone(), arguments))
    };
    let result = index_progress::during(&idem, &statement, talk, run).map_err(|error| {
        statement_error(error, |name| {
            format!("give it a value: --args '{{\"{name}\": 1}}'")
        })
    })?;
    talk.result_notes(&statement, &result);
    let rows = rows(result);
    print_rows(
        &mut io::stdout().lock(),
        format_or_default(args.format),
        &rows,
    )
    .map_err(stdout_error)?;
    idem.close_blocking()
        .map_err(|error| peer_error("cannot close the store", error))
}

/// The rows of a result.
pub(crate) fn rows(result: QueryResult) -> Vec<Object> {
    result
        .into_items()
        .into_iter()
        .map(|item| item.into_value())
        .collect()
}

/// A failed write to stdout.
pub(crate) fn stdout_error(source: io::Error) -> CliError {
    if source.kind() == io::ErrorKind::BrokenPipe {
        // `idem query .. | head`: the reader has what it wanted.
        return CliError::silent(ExitStatus::Failed);
    }
    CliError::failed("cannot write to stdout").because(source)
}

/// The arguments of a statement out of JSON text.
pub(crate) fn arguments(text: Option<&str>) -> Result<Object, CliError> {
    let Some(text) = text else {
        return Ok(Object::new());
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(CliError::usage(format!(
            "--args must be a JSON object, not {}",
            other.type_name()
        ))
        .hint("for example --args '{\"id\": \"a\"}'")),
        Err(error) => Err(CliError::usage("--args is not JSON")
            .because(error)
            .hint("for example --args '{\"id\": \"a\"}'")),
    }
}

fn statement(given: &str) -> Result<String, CliError> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(STATEMENT_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|source| {
            CliError::failed("cannot read the statement from stdin").because(source)
        })?;
    Ok(text)
}

impl Talk {
    /// Says on stderr what a statement changed, and its warnings.
    pub(crate) fn result_notes(self, statement: &str, result: &QueryResult) {
        for warning in result.warnings() {
            self.note(&warning.render(statement));
        }
        let count = result.mutated_document_ids().len();
        let noun = if count == 1 { "document" } else { "documents" };
        match result.commit_id() {
            Some(commit) => self.note(&format!("{count} {noun} changed (commit {commit})")),
            None if count > 0 || changes_documents(statement) => {
                self.note(&format!("{count} {noun} changed"));
            }
            None => {}
        }
        // Nothing is written for a read: its rows are the whole answer.
        let _ = io::stderr().flush();
    }

    /// Says on stderr that there was no store at a path: it may be a slip.
    pub(crate) fn made_store(self, path: &Path) {
        self.note(&format!(
            "there was no store at {}: made a new one",
            path.display()
        ));
    }
}

/// Whether a statement is one that changes documents.
fn changes_documents(statement: &str) -> bool {
    let mut words = statement.split_ascii_whitespace();
    let verb = words.next().unwrap_or_default();
    let changes = ["INSERT", "UPDATE", "DELETE", "EVICT"]
        .iter()
        .any(|name| verb.eq_ignore_ascii_case(name));
    let is_system = words.any(|word| {
        word.get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("system:"))
    });
    changes && !is_system
}

//! Statements and dot commands on stdin, run in order until one fails.

use std::io::{self, BufRead};

use super::{Shell, dot};
use crate::{
    exit::CliError,
    statements::{is_blank, split},
};

/// Text that may wait for its semicolon: the parser's limit of a statement, with room to say so.
const PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Runs everything on stdin.
pub(super) fn run(shell: &mut Shell) -> Result<(), CliError> {
    let mut pending = String::new();
    let mut first_line = 1;
    for (at, line) in io::stdin().lock().lines().enumerate() {
        let number = at + 1;
        let line =
            line.map_err(|source| CliError::failed("cannot read the script").because(source))?;
        if is_blank(&pending) {
            pending.clear();
            first_line = number;
            if line.trim_start().starts_with('.') {
                if dot::run(shell, line.trim()).map_err(|error| at_line(number, error))? {
                    return Ok(());
                }
                continue;
            }
        }
        pending.push_str(&line);
        pending.push('\n');
        if pending.len() > PENDING_BYTES_MAX {
            return Err(CliError::failed(format!(
                "the statement of line {first_line} has no semicolon within {PENDING_BYTES_MAX} bytes"
            )));
        }
        let (complete, rest) = split(&pending);
        let complete_is_empty = complete.is_empty();
        for statement in complete {
            let line = first_line + lines_before(&pending, statement);
            shell
                .execute(statement)
                .map_err(|error| error.in_script(line))?;
        }
        // The rest begins on this line.
        if !complete_is_empty {
            first_line = number;
        }
        pending = rest.to_owned();
    }
    if is_blank(&pending) {
        return Ok(());
    }
    // The last statement of a script needs no semicolon.
    let statement = pending.trim();
    let line = first_line + lines_before(&pending, statement);
    shell
        .execute(statement)
        .map_err(|error| error.in_script(line))
}

/// How many lines of `text` end before `part`, which is a part of it.
fn lines_before(text: &str, part: &str) -> usize {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    text[..start].matches('\n').count()
}

fn at_line(line: usize, error: CliError) -> CliError {
    error.at(format!("line {line}"))
}

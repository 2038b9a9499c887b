//! The program: parse, run one command, report.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command, CompletionsArgs},
    exit::{CliError, ExitStatus},
};

/// Runs the command line `args`, whose first item is the program's name.
///
/// Results go to stdout, everything else to stderr. Help and version exit with 0, a wrong command
/// line with 2.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            // A closed pipe is the only way this fails, and then nobody reads the text.
            let _ = error.print();
            return if failed {
                ExitStatus::Usage
            } else {
                ExitStatus::Ok
            }
            .into();
        }
    };
    match dispatch(&cli) {
        Ok(()) => ExitStatus::Ok.into(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{}", error.render());
            error.status().into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), CliError> {
    match &cli.command {
        Command::Completions(args) => {
            completions(args);
            Ok(())
        }
        _ => Err(CliError::failed("this command is not built yet")),
    }
}

fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "idem", &mut io::stdout());
}

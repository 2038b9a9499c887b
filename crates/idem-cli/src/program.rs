//! The program: parse, run one command, report.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    args::{Cli, Command, CompletionsArgs},
    authority, demo, doctor,
    exit::{CliError, ExitStatus},
    export, import, jsonl, keys, peer, query, shell, simulation,
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
    start_log(cli.verbose);
    match dispatch(&cli) {
        Ok(()) => ExitStatus::Ok.into(),
        Err(error) => {
            if !error.is_silent() {
                // Without stderr there is nobody to tell; the exit code remains.
                let _ = writeln!(io::stderr(), "{}", error.render());
            }
            error.status().into()
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), CliError> {
    let talk = Talk { quiet: cli.quiet };
    match &cli.command {
        Command::Demo(args) => demo::run(args, talk),
        Command::Shell(args) if args.jsonl => jsonl::run(args),
        Command::Shell(args) => shell::run(args, talk),
        Command::Query(args) => query::run(args, talk),
        Command::Import(args) => import::run(args, talk),
        Command::Export(args) => export::run(args, talk),
        Command::Peer(args) => peer::run(args),
        Command::Keys(args) => keys::run(args, talk),
        Command::Authority(args) => authority::run(args, talk),
        Command::Doctor(args) => doctor::run(args),
        Command::Sim(args) => simulation::run(args, talk),
        Command::Completions(args) => {
            completions(args);
            Ok(())
        }
    }
}

fn completions(args: &CompletionsArgs) {
    clap_complete::generate(args.shell, &mut Cli::command(), "idem", &mut io::stdout());
}

/// Log lines on stderr: warnings by default, more with -v, or as `IDEM_LOG` says.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("IDEM_LOG")
        .from_env_lossy();
    // A second call in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// What a command says beside its results: all of it on stderr.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    /// Say nothing but errors.
    pub(crate) quiet: bool,
}

impl Talk {
    /// A line about what happened.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A line about something that is probably not what was meant.
    pub(crate) fn warn(self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    }

    /// Whether a progress bar makes sense: stderr is a terminal and not quiet.
    pub(crate) fn shows_progress(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }
}

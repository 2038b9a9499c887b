//! The command line.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{engines::Failure, local, query, report, security, sync};

/// Idem beside other systems, on this machine.
#[derive(Debug, Parser)]
#[command(name = "idem-bench-compare", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable writes and point reads beside SQLite, and what documents carry beside their values.
    Local {
        /// Print one JSON object a workload instead of a table.
        #[arg(long)]
        json: bool,
        /// Rounds on each side; the figure is the median.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
        rounds: u16,
        /// Multiplies the operations of a round.
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
    },
    /// Queries over 100,000 documents beside SQLite with JSON.
    Query {
        /// Print one JSON object a workload instead of a table.
        #[arg(long)]
        json: bool,
        /// Rounds on each side behind one that warms up; the figure is the median.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=99))]
        rounds: u16,
        /// Run on few documents, once: to see that it works, not for figures.
        #[arg(long)]
        quick: bool,
        /// Run only the workloads with this text in their name.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// First sync, live latency and a storm of changes between two processes over TCP on loopback.
    Sync {
        /// Print one JSON object a workload instead of a table.
        #[arg(long)]
        json: bool,
        /// Rounds of the first sync and of the latencies; the figure is the median.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=99))]
        rounds: u16,
        /// Sync a million documents, too.
        #[arg(long)]
        large: bool,
        /// Run with little work, once: to see that it works, not for figures.
        #[arg(long)]
        quick: bool,
        /// Run only what begins with this: `first-sync`, `first-sync-10000`, `live`, `blob`, `storm`.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Processor time of the handshake of a link, with certificates beside a shared key.
    Security {
        /// Print one JSON object a workload instead of a table.
        #[arg(long)]
        json: bool,
        /// Rounds on each side; the figure is the median.
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=99))]
        rounds: u16,
        /// Run with little work, once: to see that it works, not for figures.
        #[arg(long)]
        quick: bool,
    },
    /// One of the two processes of `sync`.
    #[command(hide = true)]
    Peer {
        class: sync::Class,
        directory: PathBuf,
    },
}

/// Runs the command line. Exit code 0 if everything ran and was verified, whatever the figures are; 1
/// otherwise; 2 for a wrong command line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is the only way this fails, and then nobody reads the text.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(&cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                let _ = writeln!(io::stderr(), "  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<bool, Failure> {
    let tell = |text: &str| {
        // Progress is for whoever watches.
        let _ = writeln!(io::stderr(), "{text}");
    };
    let (rows, json) = match command {
        &Command::Local {
            json,
            rounds,
            scale,
        } => {
            let rounds = rounds.into();
            (local::run(local::Effort { rounds, scale }, tell)?, json)
        }
        &Command::Query {
            json,
            rounds,
            quick,
            ref only,
        } => {
            let effort = if quick {
                query::Effort::QUICK
            } else {
                query::Effort::full(rounds.into())
            };
            (query::run(effort, only, tell)?, json)
        }
        &Command::Sync {
            json,
            rounds,
            large,
            quick,
            ref only,
        } => {
            let effort = if quick {
                sync::Effort::QUICK
            } else {
                sync::Effort::full(rounds.into(), large)
            };
            (sync::run(effort, only, tell)?, json)
        }
        &Command::Security {
            json,
            rounds,
            quick,
        } => {
            let effort = if quick {
                security::Effort::QUICK
            } else {
                security::Effort::full(rounds.into())
            };
            (security::run(effort, tell)?, json)
        }
        Command::Peer { class, directory } => {
            return sync::run_child(*class, directory).map(|()| true);
        }
    };
    report::print(&rows, json)?;
    Ok(rows.iter().all(|row| row.verified && row.errors == 0))
}

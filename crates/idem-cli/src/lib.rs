//! The `idem` command: a prompt, scripts, import and export, a headless peer, and the demo.
//!
//! Everything goes through the public API of the SDK crate `idem`; this crate adds no meaning to
//! documents. Results are the only thing on stdout. [`run`] is the whole program: it parses, does one
//! command, prints an error with all its causes, and gives the exit code.

mod args;
mod authority;
mod demo;
mod doctor;
mod exit;
mod export;
mod import;
mod index_progress;
mod jsonl;
mod keys;
mod opening;
mod output;
mod peer;
mod program;
mod query;
mod records;
mod reference;
mod scan;
mod shell;
mod signals;
mod simulation;
mod statements;
mod tui;

pub use args::Cli;
pub use exit::{CliError, ExitStatus};
pub use program::run;
pub use reference::command_reference;

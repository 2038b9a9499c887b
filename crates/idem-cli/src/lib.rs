//! The `idem` command: a prompt, scripts, import and export, a headless peer, and the demo.
//!
//! Everything goes through the public API of the SDK crate `idem`; this crate adds no meaning to
//! documents. Results are the only thing on stdout. [`run`] is the whole program: it parses, does one
//! command, prints an error with all its causes, and gives the exit code.

mod args;
mod exit;
mod program;

pub use args::Cli;
pub use exit::{CliError, ExitStatus};
pub use program::run;

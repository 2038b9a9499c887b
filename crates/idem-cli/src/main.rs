//! The `idem` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    idem_cli::run(std::env::args_os())
}

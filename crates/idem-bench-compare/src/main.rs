//! The comparison as a command: `cargo run --release -p idem-bench-compare -- local`.

use std::process::ExitCode;

fn main() -> ExitCode {
    idem_bench_compare::run(std::env::args_os())
}

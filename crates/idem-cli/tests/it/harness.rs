//! Runs the binary.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The binary without the environment of whoever runs the tests.
pub(crate) fn idem() -> Command {
    without_environment(Command::new(env!("CARGO_BIN_EXE_idem")))
}

/// A command that starts the binary, without the environment of whoever runs the tests.
pub(crate) fn without_environment(mut command: Command) -> Command {
    for name in [
        "IDEM_STORE",
        "IDEM_STORE_KEY_FILE",
        "IDEM_DATABASE",
        "IDEM_SHARED_KEY",
        "IDEM_AUTHORITY",
        "IDEM_CERTIFICATE",
        "IDEM_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a finished run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts the exit code 0 and gives stdout.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Asserts the exit code and that stderr holds a text; gives stderr.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, text: &str) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(text), "{text:?} not in {self:?}");
        self.stderr
    }

    /// Stdout as one JSON value a line.
    #[track_caller]
    pub(crate) fn json_lines(self) -> Vec<Value> {
        self.ok()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Runs the binary with arguments and nothing on stdin.
pub(crate) fn run(args: &[&str]) -> Ran {
    run_with(args, "")
}

/// Runs the binary with arguments and a text on stdin.
pub(crate) fn run_with(args: &[&str], input: &str) -> Ran {
    let mut child = idem()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A process that ends early closes the pipe, which is its right.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    finished(output)
}

/// The parts of a finished run.
pub(crate) fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a statement on a store and gives its rows.
#[track_caller]
pub(crate) fn query(store: &Path, statement: &str) -> Vec<Value> {
    run(&[
        "query",
        "--store",
        text(store),
        "--format",
        "jsonl",
        statement,
    ])
    .json_lines()
}

/// A path as text; the tests make no other ones.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

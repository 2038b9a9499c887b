//! The two processes, as the one that started them sees them.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

use crate::{engines::Failure, sync::Class};

/// Two peers with fresh stores, not linked yet.
pub(super) struct Pair {
    /// Holds the documents, and listens.
    pub(super) sender: Process,
    /// Dials.
    pub(super) receiver: Process,
    _directory: TempDir,
}

impl Pair {
    pub(super) fn start(class: Class) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        Ok(Self {
            sender: Process::start(&directory.path().join("sender"), class)?,
            receiver: Process::start(&directory.path().join("receiver"), class)?,
            _directory: directory,
        })
    }

    /// Whether both hold the same documents, and as many as they should.
    pub(super) fn is_equal(&mut self, documents: u64) -> Result<bool, Failure> {
        let expected = documents.to_string();
        let are_counted =
            self.sender.ask("count")? == expected && self.receiver.ask("count")? == expected;
        Ok(are_counted && self.sender.ask("digest")? == self.receiver.ask("digest")?)
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        self.receiver.end()?;
        self.sender.end()
    }
}

/// One of the two processes.
pub(super) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(directory: &Path, class: Class) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["peer", class.name()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
        })
    }

    /// Begins a command without waiting for its answer.
    pub(super) fn begin(&mut self, command: &str) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or("the process has ended")?;
        writeln!(input, "{command}")?;
        Ok(input.flush()?)
    }

    /// The answer to the oldest command without one.
    pub(super) fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a peer ended early".into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Runs a command.
    pub(super) fn ask(&mut self, command: &str) -> Result<String, Failure> {
        self.begin(command)?;
        self.answer()
    }

    /// Runs a command that answers with numbers.
    pub(super) fn ask_numbers(&mut self, command: &str) -> Result<Vec<u64>, Failure> {
        numbers(&self.ask(command)?)
    }

    /// CPU that the process has used so far, in nanoseconds, once its background work is done.
    pub(super) fn cpu_nanos(&mut self) -> Result<u64, Failure> {
        let numbers = self.ask_numbers("cpu")?;
        Ok(*numbers.first().ok_or("no figure")?)
    }

    fn end(mut self) -> Result<(), Failure> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a peer ended with {status}").into())
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbers of a line.
pub(super) fn numbers(line: &str) -> Result<Vec<u64>, Failure> {
    let numbers = line.split_whitespace().map(str::parse);
    numbers
        .collect::<Result<_, _>>()
        .map_err(|_| format!("numbers were expected: {line}").into())
}

//! A peer that a test drives by JSON lines.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::idem;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A running `idem shell --jsonl`.
pub(crate) struct Driven {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    events: VecDeque<Value>,
}

impl Driven {
    /// Starts a peer with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_as(idem(), args)
    }

    /// Starts a peer with these arguments by way of `command`, which runs the binary.
    pub(crate) fn start_as(mut command: Command, args: &[&str]) -> Self {
        let mut child = command
            .args(["shell", "--jsonl"])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            lines,
            events: VecDeque::new(),
        }
    }

    /// Starts a peer that may sync.
    pub(crate) fn syncing(store: &[&str], database: &str, key: &str) -> Self {
        let mut args = store.to_vec();
        args.extend(["--database", database, "--shared-key", key]);
        Self::start(&args)
    }

    /// The most memory that the process has had, as `proc` says, where processes are shown.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_bytes(&self, proc: &str) -> u64 {
        let status = format!("{proc}/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Sends a line as it is.
    pub(crate) fn send(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        input.flush().unwrap();
    }

    /// The next line that is no event.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let line = self.line(deadline).expect("an answer in time");
            if line.get("event").is_none() {
                return line;
            }
            self.events.push_back(line);
        }
    }

    /// Sends a request and gives its answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: Value) -> Value {
        self.send(&request.to_string());
        self.answer()
    }

    /// Sends a request that must succeed.
    #[track_caller]
    pub(crate) fn ask_ok(&mut self, request: Value) -> Value {
        let answer = self.ask(request.clone());
        assert!(answer.get("error").is_none(), "{request} -> {answer}");
        answer
    }

    /// Sends a request that must fail with a code.
    #[track_caller]
    pub(crate) fn ask_error(&mut self, request: Value, code: &str) -> Value {
        let answer = self.ask(request.clone());
        assert_eq!(answer["error"]["code"], code, "{request} -> {answer}");
        answer
    }

    /// Runs a statement that must succeed and gives its rows.
    #[track_caller]
    pub(crate) fn rows(&mut self, statement: &str) -> Value {
        self.ask_ok(json!({ "statement": statement }))["items"].take()
    }

    /// The next event that `holds`, in the order they come.
    #[track_caller]
    pub(crate) fn event(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            while let Some(event) = self.events.pop_front() {
                if holds(&event) {
                    return event;
                }
            }
            let line = self.line(deadline).expect("the event in time");
            assert!(line.get("event").is_some(), "an unasked answer: {line}");
            self.events.push_back(line);
        }
    }

    /// Asks again until the answer `holds`.
    #[track_caller]
    pub(crate) fn ask_until(&mut self, request: Value, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let answer = self.ask(request.clone());
            if holds(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{request} stays {answer}");
        }
    }

    /// Ends the peer by the end of its stdin; gives the lines that still came and the exit code.
    pub(crate) fn end(mut self) -> (Vec<Value>, i32) {
        drop(self.input.take());
        let deadline = Instant::now() + LIMIT;
        let mut rest: Vec<_> = self.events.drain(..).collect();
        while let Some(line) = self.line(deadline) {
            rest.push(line);
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (rest, code)
    }

    /// `kill -9`; gives the lines that were on their way.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let deadline = Instant::now() + LIMIT;
        let mut rest = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(deadline - Instant::now()) {
            // The last line may be cut.
            rest.extend(serde_json::from_str(&line).ok());
        }
        rest
    }

    /// A line that is there already.
    pub(crate) fn line_now(&mut self) -> Option<Value> {
        let line = self.lines.try_recv().ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    fn line(&mut self, deadline: Instant) -> Option<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(serde_json::from_str(&line).expect("every line is JSON")),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("nothing came in time"),
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A peer in a process of its own, driven by JSON lines as any program could.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use idem::{Object, Value};

use crate::exit::CliError;

/// How long one answer may take before the peer counts as stuck.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// How long a peer may take to end once its stdin is closed.
const END_WAIT: Duration = Duration::from_secs(10);
/// Answers that may wait to be read.
const ANSWERS_MAX: usize = 4096;

/// The peer.
pub(super) struct DrivenPeer {
    name: &'static str,
    child: Child,
    input: Option<BufWriter<ChildStdin>>,
    answers: Receiver<Object>,
    observed: Arc<Observed>,
    reader: Option<JoinHandle<()>>,
}

/// The newest result of each observer and when it came.
#[derive(Default)]
struct Observed {
    newest: Mutex<BTreeMap<i64, (Instant, Vec<Value>)>>,
    changed: Condvar,
}

impl DrivenPeer {
    /// Starts a peer on the store in `directory` and waits until it answers.
    pub(super) fn start(
        name: &'static str,
        directory: &Path,
        shared_key: &str,
    ) -> Result<Self, CliError> {
        let failed = |source| CliError::failed(format!("cannot start peer {name}")).because(source);
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .args(["shell", "--jsonl", "--store"])
            .arg(directory)
            .env("IDEM_DATABASE", "demo")
            .env("IDEM_SHARED_KEY", shared_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take().expect("stdin is piped");
        let output = child.stdout.take().expect("stdout is piped");
        let observed = Arc::new(Observed::default());
        let (sender, answers) = mpsc::sync_channel(ANSWERS_MAX);
        let seen = Arc::clone(&observed);
        let reader = thread::Builder::new()
            .name(format!("demo-{name}"))
            .spawn(move || read_lines(BufReader::new(output), &sender, &seen))
            .map_err(failed)?;
        let mut peer = Self {
            name,
            child,
            input: Some(BufWriter::new(input)),
            answers,
            observed,
            reader: Some(reader),
        };
        peer.execute("SELECT * FROM system:dual", "{}")?;
        Ok(peer)
    }

    /// Sends a request and waits for its answer; an `error` answer is an error.
    pub(super) fn request(&mut self, line: &str) -> Result<Object, CliError> {
        self.send(line)?;
        let answer = self.answer()?;
        match answer.get("error") {
            None => Ok(answer),
            Some(error) => Err(CliError::failed(format!(
                "peer {} refused {}: {}",
                self.name,
                shortened(line),
                crate::output::json_text(error)
            ))),
        }
    }

    /// Runs a statement with arguments in JSON text and gives its rows.
    pub(super) fn execute(&mut self, statement: &str, args: &str) -> Result<Vec<Value>, CliError> {
        let text = serde_json::to_string(statement).expect("text is JSON");
        let mut answer = self.request(&format!("{{\"statement\":{text},\"args\":{args}}}"))?;
        match answer.remove("items") {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(self.garbled("an answer without items")),
        }
    }

    /// Sends a request without waiting.
    pub(super) fn send(&mut self, line: &str) -> Result<(), CliError> {
        let input = self.input.as_mut().expect("stdin is open until the end");
        let sent = input
            .write_all(line.as_bytes())
            .and_then(|()| input.write_all(b"\n"))
            .and_then(|()| input.flush());
        sent.map_err(|source| {
            CliError::failed(format!("cannot write to peer {}", self.name)).because(source)
        })
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Result<Object, CliError> {
        self.answers
            .recv_timeout(ANSWER_WAIT)
            .map_err(|_| self.garbled("no answer"))
    }

    /// The next answer if it is there already.
    pub(super) fn answer_now(&mut self) -> Option<Object> {
        self.answers.try_recv().ok()
    }

    /// Observes a query; gives the observer's number.
    pub(super) fn observe(&mut self, statement: &str) -> Result<i64, CliError> {
        let text = serde_json::to_string(statement).expect("text is JSON");
        let answer = self.request(&format!("{{\"observe\":{text}}}"))?;
        let number = answer.get("observer").and_then(Value::as_int);
        number.ok_or_else(|| self.garbled("an observer without number"))
    }

    /// Waits for a result of an observer that `holds`; gives when it came. `look` sees each result
    /// that is waited past.
    pub(super) fn wait_observed(
        &self,
        observer: i64,
        holds: impl Fn(&[Value]) -> bool,
        mut look: impl FnMut(&[Value]),
    ) -> Result<Instant, CliError> {
        let deadline = Instant::now() + ANSWER_WAIT;
        let mut newest = self
            .observed
            .newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((at, items)) = newest.get(&observer) {
                look(items);
                if holds(items) {
                    return Ok(*at);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Err(self.garbled("the expected result did not come"));
            }
            newest = self
                .observed
                .changed
                .wait_timeout(newest, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// `kill -9`. Gives the answers that were still on their way: they were acknowledged.
    pub(super) fn kill(mut self) -> Result<Vec<Object>, CliError> {
        let killed = self
            .child
            .kill()
            .and_then(|()| self.child.wait().map(|_| ()));
        killed.map_err(|source| {
            CliError::failed(format!("cannot kill peer {}", self.name)).because(source)
        })?;
        let mut rest = Vec::new();
        // The reader ends with the pipe, and then the channel is disconnected.
        while let Ok(answer) = self.answers.recv_timeout(END_WAIT) {
            rest.push(answer);
        }
        Ok(rest)
    }

    /// Ends the peer as the end of its stdin does, and checks how it exits.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        drop(self.input.take());
        let deadline = Instant::now() + END_WAIT;
        // The pipe closes when the process ends; waiting for that needs no clock of its own.
        while Instant::now() < deadline {
            match self.answers.recv_timeout(Duration::from_millis(50)) {
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Ok(_) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
        if Instant::now() >= deadline {
            return Err(self.garbled("it did not end"));
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.garbled(&format!("it ended with {status}"))),
            Err(source) => Err(self.garbled("it cannot be waited for").because(source)),
        }
    }

    fn garbled(&self, what: &str) -> CliError {
        CliError::failed(format!("peer {}: {what}", self.name))
    }
}

impl Drop for DrivenPeer {
    fn drop(&mut self) {
        // Both fail harmlessly if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_lines(output: impl io::Read, answers: &mpsc::SyncSender<Object>, observed: &Observed) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let now = Instant::now();
        // A line cut by a kill is no answer.
        let Ok(Value::Object(mut fields)) = serde_json::from_str(&line) else {
            continue;
        };
        if !fields.contains_key("event") {
            // The driver is gone, or does not read: then nobody misses the answer.
            if answers.try_send(fields).is_err() {
                return;
            }
            continue;
        }
        let number = fields.get("observer").and_then(Value::as_int);
        if let (Some(number), Some(Value::Array(items))) = (number, fields.remove("items")) {
            let mut newest = observed
                .newest
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            newest.insert(number, (now, items));
            observed.changed.notify_all();
        }
    }
}

fn shortened(line: &str) -> String {
    line.chars().take(120).collect()
}

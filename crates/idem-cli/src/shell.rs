//! `idem shell`: a prompt on a store, or the statements of a script on stdin.

mod attachments;
mod complete;
mod dot;
mod prompt;
mod script;

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use idem::{
    Attachment, Cancellation, Error, ErrorKind, ExecuteOptions, Idem, QueryResult, SyncSubscription,
};

use crate::{
    args::{Format, ShellArgs},
    exit::CliError,
    index_progress,
    opening::{open, peer_error, statement_error},
    output::{format_or_default, print_rows},
    program::Talk,
    query::{rows, stdout_error},
    signals::StopRequests,
};

/// How often a running statement looks for Ctrl-C.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the command.
pub(crate) fn run(args: &ShellArgs, talk: Talk) -> Result<(), CliError> {
    let is_new = !args.store.memory && !args.store.store.exists();
    let idem = open(&args.store, &args.database, args.durability)?;
    if is_new {
        talk.made_store(&args.store.store);
    }
    let link_news = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&link_news);
    let _conditions = idem.observe_transport_conditions(move |condition| {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(condition.message.clone());
    });
    let mut shell = Shell {
        idem,
        format: format_or_default(args.format),
        talk,
        subscriptions: Vec::new(),
        attachments: Vec::new(),
        link_news,
    };
    let outcome = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        prompt::run(&mut shell, &args.store)
    } else {
        script::run(&mut shell)
    };
    let closed = shell.idem.close_blocking();
    outcome?;
    closed.map_err(|error| peer_error("cannot close the store", error))
}

/// What the prompt and scripts share.
struct Shell {
    idem: Idem,
    format: Format,
    talk: Talk,
    /// They live as long as the shell.
    subscriptions: Vec<SyncSubscription>,
    /// Files that may not be in a document yet.
    attachments: Vec<Attachment>,
    /// What happened to a link last, for `.peers`.
    link_news: Arc<Mutex<Option<String>>>,
}

impl Shell {
    /// Runs a statement and prints its result.
    fn execute(&self, statement: &str) -> Result<(), CliError> {
        let start = Instant::now();
        let run = || self.idem.store().execute_blocking(statement);
        let result =
            index_progress::during(&self.idem, statement, self.talk, run).map_err(failed)?;
        self.print(statement, result, start.elapsed())
    }

    /// Runs a statement so that Ctrl-C stops it: it has then no effect.
    fn execute_interruptible(&self, statement: &str, stop: &StopRequests) -> Result<(), CliError> {
        stop.reset();
        let start = Instant::now();
        let cancellation = Cancellation::new();
        let (sender, receiver) = mpsc::sync_channel(1);
        let (idem, text) = (self.idem.clone(), statement.to_owned());
        let options = ExecuteOptions::new().cancellation(cancellation.clone());
        let worker = thread::Builder::new()
            .name("idem-statement".to_owned())
            .spawn(move || {
                let result = idem
                    .store()
                    .execute_with_options_blocking(text.as_str(), options);
                // Nobody listens only if the prompt panicked.
                let _ = sender.send(result);
            })
            .map_err(|source| CliError::failed("cannot start a thread").because(source))?;
        let wait = || {
            loop {
                match receiver.recv_timeout(LOOK_INTERVAL) {
                    Ok(outcome) => return Some(outcome),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
                if !cancellation.is_cancelled() && stop.wait(Duration::ZERO) {
                    cancellation.cancel();
                    self.talk
                        .note("cancelling; press Ctrl-C again to leave at once");
                }
            }
        };
        let outcome = index_progress::during(&self.idem, statement, self.talk, wait)
            .ok_or_else(|| CliError::failed("the statement ended without a result"))?;
        // The result is here, so the thread is at its end.
        let _ = worker.join();
        match outcome {
            Ok(result) => self.print(statement, result, start.elapsed()),
            // An index goes on being built, which the error says.
            Err(error)
                if error.kind() == ErrorKind::QueryCancelled
                    && !index_progress::creates_index(statement) =>
            {
                Err(CliError::failed("cancelled; nothing was changed"))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn print(
        &self,
        statement: &str,
        result: QueryResult,
        elapsed: Duration,
    ) -> Result<(), CliError> {
        self.talk.result_notes(statement, &result);
        let changes = !result.mutated_document_ids().is_empty();
        let rows = rows(result);
        print_rows(&mut io::stdout().lock(), self.format, &rows).map_err(stdout_error)?;
        if self.format == Format::Table && (!rows.is_empty() || !changes) {
            let noun = if rows.len() == 1 { "row" } else { "rows" };
            let ms = elapsed.as_secs_f64() * 1e3;
            self.talk
                .note(&format!("{} {noun} ({ms:.1} ms)", rows.len()));
        }
        Ok(())
    }
}

/// A statement of the shell that failed.
fn failed(error: Error) -> CliError {
    statement_error(error, |name| {
        format!(
            "the shell has no arguments: write the value in place of :{name}, or run the statement \
             with idem query --args or in idem shell --jsonl"
        )
    })
}

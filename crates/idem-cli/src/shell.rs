//! `idem shell`: a prompt on a store, or the statements of a script on stdin.

mod complete;
mod dot;
mod prompt;
mod script;

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use idem::{Idem, QueryResult, SyncSubscription, TransactionOptions};

use crate::{
    args::{Format, ShellArgs},
    exit::CliError,
    index_progress,
    opening::{open, peer_error},
    output::{format_or_default, print_rows},
    program::Talk,
    query::{rows, stdout_error},
    signals::StopRequests,
};

/// How often a running statement looks for Ctrl-C.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the command.
pub(crate) fn run(args: &ShellArgs, talk: Talk) -> Result<(), CliError> {
    let idem = open(&args.store, &args.database, args.durability)?;
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
    /// What happened to a link last, for `.peers`.
    link_news: Arc<Mutex<Option<String>>>,
}

impl Shell {
    /// Runs a statement and prints its result.
    fn execute(&self, statement: &str) -> Result<(), CliError> {
        let start = Instant::now();
        let run = || self.idem.store().execute_blocking(statement);
        let result = index_progress::during(&self.idem, statement, self.talk, run)
            .map_err(|error| peer_error("the statement failed", error))?;
        self.print(result, start.elapsed())
    }

    /// Runs a statement so that Ctrl-C ends it: one that changes documents has then no effect.
    fn execute_interruptible(&self, statement: &str, stop: &StopRequests) -> Result<(), CliError> {
        stop.reset();
        let start = Instant::now();
        let cancelled = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::sync_channel(1);
        let (idem, text, flag) = (
            self.idem.clone(),
            statement.to_owned(),
            Arc::clone(&cancelled),
        );
        let talk = self.talk;
        let worker = thread::Builder::new()
            .name("idem-statement".to_owned())
            .spawn(move || {
                // Nobody listens only if the prompt panicked.
                let run = || run_unless_cancelled(&idem, &text, &flag);
                let _ = sender.send(index_progress::during(&idem, &text, talk, run));
            })
            .map_err(|source| CliError::failed("cannot start a thread").because(source))?;
        let outcome = loop {
            match receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(outcome) => break outcome,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(CliError::failed("the statement ended without a result"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if !cancelled.load(Ordering::Relaxed) && stop.wait(Duration::ZERO) {
                cancelled.store(true, Ordering::Relaxed);
                self.talk
                    .note("cancelling; press Ctrl-C again to leave at once");
            }
        };
        // The result is here, so the thread is at its end.
        let _ = worker.join();
        match outcome.map_err(|error| peer_error("the statement failed", error))? {
            Some(result) => self.print(result, start.elapsed()),
            None => Err(CliError::failed("cancelled; nothing was changed")),
        }
    }

    fn print(&self, result: QueryResult, elapsed: Duration) -> Result<(), CliError> {
        self.talk.result_notes(&result);
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

/// Runs a statement that changes documents inside a transaction, which is rolled back if `cancelled`
/// was set meanwhile (then the result is `None`). Any other statement has nothing to roll back.
fn run_unless_cancelled(
    idem: &Idem,
    statement: &str,
    cancelled: &AtomicBool,
) -> Result<Option<QueryResult>, idem::Error> {
    if !changes_documents(statement) {
        let result = idem.store().execute_blocking(statement)?;
        return Ok((!cancelled.load(Ordering::Relaxed)).then_some(result));
    }
    let transaction = idem
        .store()
        .begin_blocking(TransactionOptions::new().hint("prompt"))?;
    let result = transaction.execute_blocking(statement)?;
    if cancelled.load(Ordering::Relaxed) {
        transaction.rollback();
        return Ok(None);
    }
    transaction.commit_blocking()?;
    Ok(Some(result))
}

fn changes_documents(statement: &str) -> bool {
    let verb = statement
        .split_ascii_whitespace()
        .next()
        .unwrap_or_default();
    ["INSERT", "UPDATE", "DELETE", "EVICT"]
        .iter()
        .any(|name| verb.eq_ignore_ascii_case(name))
}

//! Which statements run, and which ran: `system:active_requests` and `system:request_history`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use idem_model::{Object, Value};
use idem_query::{Interrupt, Statement, StatementLimits};

use crate::{
    core::Core,
    error::StoreError,
    patience::{Cancellation, Deadline, Patience},
    query::QueryResult,
    statements::Parsed,
    tuning::Tuning,
};

/// Bytes of a statement's text that its row keeps: with 4,096 rows at most 8 MiB.
const TEXT_BYTES_MAX: usize = 2048;

/// How a statement may run. The default is what the system parameters say.
#[derive(Debug, Clone, Default)]
pub struct ExecuteOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) cancellations: Vec<Cancellation>,
    pub(crate) memory_bytes: Option<usize>,
}

impl ExecuteOptions {
    /// As the system parameters say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The statement fails and changes nothing if it takes longer, waiting for other writers
    /// included. Default: the parameter `statement_timeout_ms`, which is no limit unless it was set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The statement fails and changes nothing once this is cancelled. Default: none; a statement
    /// can still be stopped with `DELETE FROM system:active_requests`. Of several, any stops it.
    #[must_use]
    pub fn cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellations.push(cancellation);
        self
    }

    /// Bytes that sorting, grouping and joins may hold. Default: the parameter
    /// `statement_memory_bytes`.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }
}

/// The statements of a store.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    last_id: AtomicU64,
    active: Mutex<BTreeMap<u64, Arc<Request>>>,
    history: Mutex<VecDeque<Done>>,
}

/// A statement that runs.
#[derive(Debug)]
pub(crate) struct Request {
    id: u64,
    parsed: Arc<Parsed>,
    unix_ms: u64,
    started: Instant,
    /// From the start to the parsed statement.
    parse: Duration,
    pub(crate) patience: Patience,
    pub(crate) limits: StatementLimits,
    /// How often it looked whether to stop.
    looks: AtomicU64,
    /// From the start to the writer's turn, in microseconds.
    wait_us: AtomicU64,
}

#[derive(Debug)]
struct Done {
    id: u64,
    statement: Arc<str>,
    kind: &'static str,
    unix_ms: u64,
    elapsed: Duration,
    parse: Duration,
    wait_us: u64,
    summary: Summary,
}

/// What became of a statement.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Summary {
    pub(crate) items: usize,
    pub(crate) changed: usize,
    pub(crate) warnings: usize,
    /// The code of the error.
    pub(crate) error: Option<&'static str>,
}

impl Summary {
    pub(crate) fn of(result: &Result<QueryResult, StoreError>) -> Self {
        match result {
            Ok(result) => Self {
                items: result.items.len(),
                changed: result.mutated_document_ids.len(),
                warnings: result.warnings.len(),
                error: None,
            },
            Err(error) => Self {
                error: Some(error.code()),
                ..Self::default()
            },
        }
    }
}

impl Request {
    pub(crate) fn statement(&self) -> &Statement {
        &self.parsed.statement
    }

    /// Whether the statement is to stop.
    pub(crate) fn look(&self) -> Option<Interrupt> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.patience.look()
    }

    /// The refusal of a statement that was stopped before it began.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.look() {
            Some(interrupt) => Err(StoreError::Query(interrupt.into())),
            None => Ok(()),
        }
    }

    /// Nanoseconds since the start.
    pub(crate) fn nanos(&self) -> u64 {
        nanos(self.started.elapsed())
    }

    /// Nanoseconds that getting the parsed statement took.
    pub(crate) fn parse_nanos(&self) -> u64 {
        nanos(self.parse)
    }

    /// Notes that the writer's turn has come.
    pub(crate) fn has_turn(&self) {
        self.wait_us
            .store(micros(self.started.elapsed()), Ordering::Relaxed);
    }

    fn row(&self) -> Object {
        let rows = 256 * self.looks.load(Ordering::Relaxed).saturating_sub(1);
        let waits =
            self.parsed.statement.is_mutating() && self.wait_us.load(Ordering::Relaxed) == 0;
        Object::from([
            ("_id".to_owned(), int(self.id)),
            ("id".to_owned(), int(self.id)),
            (
                "statement".to_owned(),
                Value::from(&*cut(&self.parsed.text)),
            ),
            (
                "kind".to_owned(),
                self.parsed.statement.kind().name().into(),
            ),
            ("started".to_owned(), int(self.unix_ms)),
            (
                "elapsed_ms".to_owned(),
                int(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            ),
            ("rows".to_owned(), int(rows)),
            (
                "state".to_owned(),
                if waits { "waiting" } else { "running" }.into(),
            ),
        ])
    }
}

/// The registration of a statement; it ends when this is dropped.
pub(crate) struct Running<'a> {
    requests: &'a Requests,
    tuning: Tuning,
    request: Arc<Request>,
}

impl Running<'_> {
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// Takes the statement into the history.
    pub(crate) fn finish(self, summary: Summary) {
        let request = &self.request;
        let elapsed = request.started.elapsed();
        if elapsed >= Duration::from_millis(self.tuning.slow_statement_ms) {
            tracing::warn!(
                statement = &*cut(&request.parsed.text),
                ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
                "a statement was slow"
            );
        }
        self.requests.record(
            self.tuning,
            Done {
                id: request.id,
                statement: cut(&request.parsed.text),
                kind: request.parsed.statement.kind().name(),
                unix_ms: request.unix_ms,
                elapsed,
                parse: request.parse,
                wait_us: request.wait_us.load(Ordering::Relaxed),
                summary,
            },
        );
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.requests.active).remove(&self.request.id);
    }
}

/// What a statement is begun with.
pub(crate) struct Beginning<'a> {
    pub(crate) parsed: Arc<Parsed>,
    pub(crate) options: &'a ExecuteOptions,
    pub(crate) unix_ms: u64,
    pub(crate) started: Instant,
}

impl Requests {
    pub(crate) fn begin(&self, core: &Core, beginning: Beginning<'_>) -> Running<'_> {
        let Beginning {
            parsed,
            options,
            unix_ms,
            started,
        } = beginning;
        let tuning = core.tuning();
        let set = (tuning.statement_timeout_ms > 0)
            .then(|| Duration::from_millis(tuning.statement_timeout_ms));
        let timeout = options.timeout.or(set);
        let memory_bytes = options
            .memory_bytes
            .unwrap_or(tuning.statement_memory_bytes);
        let request = Arc::new(Request {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            parsed,
            unix_ms,
            started,
            parse: started.elapsed(),
            patience: Patience {
                cancellations: options.cancellations.clone(),
                kill: Some(Cancellation::new()),
                deadline: timeout.and_then(|timeout| Deadline::behind(started, timeout)),
                idle_max: Some(Duration::from_millis(tuning.transaction_idle_ms)),
            },
            limits: StatementLimits::default().memory_bytes(memory_bytes),
            looks: AtomicU64::new(0),
            wait_us: AtomicU64::new(0),
        });
        lock(&self.active).insert(request.id, Arc::clone(&request));
        Running {
            requests: self,
            tuning,
            request,
        }
    }

    /// Takes a statement into the history that could not be parsed.
    pub(crate) fn record_unparsed(
        &self,
        core: &Core,
        text: &str,
        unix_ms: u64,
        started: Instant,
        error: &StoreError,
    ) {
        let elapsed = started.elapsed();
        self.record(
            core.tuning(),
            Done {
                id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
                statement: Arc::from(shortened(text)),
                kind: "invalid",
                unix_ms,
                elapsed,
                parse: elapsed,
                wait_us: 0,
                summary: Summary {
                    error: Some(error.code()),
                    ..Summary::default()
                },
            },
        );
    }

    fn record(&self, tuning: Tuning, done: Done) {
        let mut history = lock(&self.history);
        if tuning.request_history_max > 0 {
            history.push_back(done);
        }
        while history.len() > tuning.request_history_max {
            history.pop_front();
        }
    }

    /// Stops the statement `id`, if it still runs.
    pub(crate) fn kill(&self, id: u64) {
        let request = lock(&self.active).get(&id).cloned();
        if let Some(kill) = request.and_then(|request| request.patience.kill.clone()) {
            kill.cancel();
        }
    }

    /// Forgets one statement of the history.
    pub(crate) fn forget(&self, id: u64) {
        let mut history = lock(&self.history);
        // Statements end about in the order of their numbers, so that clearing it all from its head,
        // newest first or oldest first, does not look at every other one.
        let near = |done: &Done| done.id == id;
        let at = match history.front() {
            Some(first) if near(first) => Some(0),
            _ => history.iter().rposition(near),
        };
        if let Some(at) = at {
            history.remove(at);
        }
    }

    /// The rows of `system:active_requests`, oldest first.
    pub(crate) fn active_rows(&self) -> Vec<Object> {
        let active: Vec<_> = lock(&self.active).values().cloned().collect();
        active.iter().map(|request| request.row()).collect()
    }

    /// The rows of `system:request_history`, newest first.
    pub(crate) fn history_rows(&self) -> Vec<Object> {
        let history = lock(&self.history);
        history.iter().rev().map(Done::row).collect()
    }
}

impl Done {
    fn row(&self) -> Object {
        let parse_us = micros(self.parse);
        let elapsed_us = micros(self.elapsed);
        // Reads wait for nobody.
        let begun_us = self.wait_us.max(parse_us);
        let mut row = Object::from([
            ("_id".to_owned(), int(self.id)),
            ("id".to_owned(), int(self.id)),
            ("statement".to_owned(), Value::from(&*self.statement)),
            ("kind".to_owned(), self.kind.into()),
            ("started".to_owned(), int(self.unix_ms)),
            ("elapsed_us".to_owned(), int(elapsed_us)),
            ("parse_us".to_owned(), int(parse_us)),
            ("wait_us".to_owned(), int(begun_us - parse_us)),
            (
                "execute_us".to_owned(),
                int(elapsed_us.saturating_sub(begun_us)),
            ),
            ("items".to_owned(), int(self.summary.items as u64)),
            ("changed".to_owned(), int(self.summary.changed as u64)),
            ("warnings".to_owned(), int(self.summary.warnings as u64)),
            ("ok".to_owned(), Value::Bool(self.summary.error.is_none())),
        ]);
        if let Some(error) = self.summary.error {
            row.insert("error".to_owned(), error.into());
        }
        row
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text as it is kept in a row.
fn cut(text: &Arc<str>) -> Arc<str> {
    match shortened(text) {
        whole if whole.len() == text.len() => Arc::clone(text),
        start => Arc::from(start),
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

//! What ends a wait or a statement before its time.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use idem_query::Interrupt;

/// Stops the statements that it was given to, from any thread. Clones are the same cancellation.
#[derive(Clone, Default)]
pub struct Cancellation {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    is_cancelled: AtomicBool,
    /// Threads that wait and must be woken to see it.
    waiting: Mutex<Vec<Thread>>,
}

impl Cancellation {
    /// One that nobody has cancelled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Statements with this cancellation fail soon, and change nothing; one whose commit has begun
    /// succeeds. Later statements with it fail at once.
    pub fn cancel(&self) {
        self.inner.is_cancelled.store(true, Ordering::Release);
        for thread in &*self.lock() {
            thread.unpark();
        }
    }

    /// Whether [`Cancellation::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled.load(Ordering::Acquire)
    }

    /// Has this thread woken when it is cancelled, as long as the result lives.
    fn wake_me(&self) -> WakeMe<'_> {
        self.lock().push(thread::current());
        WakeMe { cancellation: self }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Thread>> {
        self.inner
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation")
            .field("is_cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

struct WakeMe<'a> {
    cancellation: &'a Cancellation,
}

impl Drop for WakeMe<'_> {
    fn drop(&mut self) {
        let me = thread::current().id();
        let mut waiting = self.cancellation.lock();
        if let Some(at) = waiting.iter().position(|thread| thread.id() == me) {
            waiting.swap_remove(at);
        }
    }
}

/// When the time of a statement is over, and how long it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// None if it is further away than clocks go.
    pub(crate) fn behind(started: Instant, allowed: Duration) -> Option<Self> {
        let at = started.checked_add(allowed)?;
        Some(Self { at, allowed })
    }
}

/// How long somebody waits for the writer's turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience {
    /// By whoever began it.
    pub(crate) cancellations: Vec<Cancellation>,
    /// By its id.
    pub(crate) kill: Option<Cancellation>,
    /// The statement's end of time.
    pub(crate) deadline: Option<Deadline>,
    /// How long the transaction ahead may be open without a statement running in it. `None` waits for
    /// ever, which only somebody may do whom a cancellation ends.
    pub(crate) idle_max: Option<Duration>,
}

impl Patience {
    fn cancellations(&self) -> impl Iterator<Item = &Cancellation> {
        self.cancellations.iter().chain(&self.kill)
    }

    pub(crate) fn look(&self) -> Option<Interrupt> {
        if self.cancellations().any(Cancellation::is_cancelled) {
            return Some(Interrupt::Cancelled);
        }
        let over = self
            .deadline
            .filter(|deadline| Instant::now() >= deadline.at);
        over.map(|deadline| Interrupt::TimedOut(deadline.allowed))
    }

    /// Parks this thread until `is_over` gives something. It is asked again whenever the thread is
    /// woken, when the deadline has come, and at the time that it asks for.
    pub(crate) fn wait<R>(&self, mut is_over: impl FnMut() -> Result<R, Option<Instant>>) -> R {
        let _awake: Vec<_> = self.cancellations().map(Cancellation::wake_me).collect();
        loop {
            let again = match is_over() {
                Ok(result) => return result,
                Err(again) => again,
            };
            let deadline = self.deadline.map(|deadline| deadline.at);
            match [again, deadline].into_iter().flatten().min() {
                None => thread::park(),
                Some(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
            }
        }
    }
}

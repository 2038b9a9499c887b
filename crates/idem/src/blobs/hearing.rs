//! The way of what happens to fetches to the app.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use idem_blob_sync::FailReason;

/// What became of a fetch.
pub(crate) type Outcome = Result<(), FetchEnd>;

/// Why a fetch ended without the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchEnd {
    Failed(FailReason),
    Cancelled,
    /// No document refers to it any more.
    Deleted,
    Closed,
}

/// Something about a fetch, on its way to the app.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Heard {
    /// So many bytes are here.
    Progress(u64),
    Ended(Outcome),
}

pub(crate) type Callback = Box<dyn FnMut(Heard) + Send>;

/// One fetch of the app: its end, for those who wait for it.
#[derive(Default)]
pub(crate) struct Ticket {
    state: Mutex<TicketState>,
    ended: Condvar,
}

#[derive(Default)]
struct TicketState {
    outcome: Option<Outcome>,
    wakers: Vec<Waker>,
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, TicketState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.outcome.get_or_insert(outcome);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.ended.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome
    }

    pub(crate) async fn wait(&self) -> Outcome {
        poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(outcome) = state.outcome {
                return Poll::Ready(outcome);
            }
            state.wakers.retain(|waker| !waker.will_wake(cx.waker()));
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for the end, at most `limit`.
    pub(crate) fn wait_blocking(&self, limit: Duration) -> Option<Outcome> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.outcome.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.ended.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.outcome
    }
}

/// Calls the callbacks of fetches on a thread of its own, so that a slow one holds up no transfer. Of a
/// fetch that the app does not keep up with, it hears the newest progress and the end.
#[derive(Default)]
pub(crate) struct Hearing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    callbacks: BTreeMap<u64, Arc<Mutex<Callback>>>,
    progress: BTreeMap<u64, u64>,
    queue: VecDeque<(u64, Option<Outcome>)>,
    is_running: bool,
    is_closed: bool,
}

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to call `callback` for a fetch.
    pub(super) fn add(self: &Arc<Self>, fetch: u64, callback: Callback) -> std::io::Result<()> {
        let mut state = self.lock();
        if !state.is_running {
            let hearing = Arc::clone(self);
            thread::Builder::new()
                .name("idem-fetched".to_owned())
                .spawn(move || hearing.run())?;
            state.is_running = true;
        }
        state
            .callbacks
            .insert(fetch, Arc::new(Mutex::new(callback)));
        Ok(())
    }

    pub(super) fn progress(&self, fetch: u64, bytes: u64) {
        let mut state = self.lock();
        if state.callbacks.contains_key(&fetch) && state.progress.insert(fetch, bytes).is_none() {
            state.queue.push_back((fetch, None));
            self.changed.notify_one();
        }
    }

    pub(super) fn end(&self, fetch: u64, outcome: Outcome) {
        let mut state = self.lock();
        if state.callbacks.contains_key(&fetch) {
            state.queue.push_back((fetch, Some(outcome)));
            self.changed.notify_one();
        }
    }

    /// Nothing more is heard of a fetch.
    pub(super) fn forget(&self, fetch: u64) {
        let mut state = self.lock();
        state.callbacks.remove(&fetch);
        state.progress.remove(&fetch);
    }

    /// Ends the thread after what it has to say.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let Some((fetch, outcome)) = state.queue.pop_front() else {
                if state.is_closed {
                    return;
                }
                let changed = self.changed.wait(state);
                state = changed.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let heard = match outcome {
                Some(outcome) => Some(Heard::Ended(outcome)),
                None => state.progress.remove(&fetch).map(Heard::Progress),
            };
            let callback = match outcome {
                Some(_) => state.callbacks.remove(&fetch),
                None => state.callbacks.get(&fetch).cloned(),
            };
            let (Some(heard), Some(callback)) = (heard, callback) else {
                continue;
            };
            drop(state);
            let call = || {
                let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
                callback(heard);
            };
            if catch_unwind(AssertUnwindSafe(call)).is_err() {
                tracing::error!("the callback of a fetch panicked");
            }
            drop(callback);
            state = self.lock();
        }
    }
}

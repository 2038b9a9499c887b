//! The way of events of links to the app.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use crate::transport::TransportCondition;

/// Events that wait for a slow callback. At 100 bytes each they hold 100 KiB; the oldest go first.
const CONDITIONS_MAX: usize = 1024;

type Callback = Arc<Mutex<dyn FnMut(TransportCondition) + Send>>;

/// Hands events to the callbacks on a thread of its own, so that no callback holds up a link.
pub(crate) struct Conditions {
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<TransportCondition>,
    callbacks: Vec<(u64, Callback)>,
    next_id: u64,
    is_closed: bool,
}

impl Conditions {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an event. Without observers it is dropped.
    pub(crate) fn push(&self, condition: TransportCondition) {
        tracing::debug!(kind = condition.kind.code(), message = %condition.message, "link");
        let mut state = self.lock();
        if state.callbacks.is_empty() || state.is_closed {
            return;
        }
        if state.queue.len() == CONDITIONS_MAX {
            state.queue.pop_front();
        }
        state.queue.push_back(condition);
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn observe(
        self: &Arc<Self>,
        callback: impl FnMut(TransportCondition) + Send + 'static,
    ) -> u64 {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.callbacks.push((id, Arc::new(Mutex::new(callback))));
        drop(state);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let conditions = Arc::clone(self);
            *thread = std::thread::Builder::new()
                .name("idem-events".to_owned())
                .spawn(move || conditions.run())
                .inspect_err(|error| tracing::error!(%error, "no thread for events"))
                .ok();
        }
        id
    }

    pub(crate) fn forget(&self, id: u64) {
        let mut state = self.lock();
        let at = state.callbacks.iter().position(|(found, _)| *found == id);
        let callback = at.map(|at| state.callbacks.swap_remove(at));
        drop(state);
        // Outside of the lock: what the callback owns may use this when it is dropped.
        drop(callback);
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            let (condition, callbacks) = loop {
                if let Some(condition) = state.queue.pop_front() {
                    break (condition, state.callbacks.clone());
                }
                if state.is_closed {
                    return;
                }
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            for (_, callback) in callbacks {
                let condition = condition.clone();
                let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
                if catch_unwind(AssertUnwindSafe(|| callback(condition))).is_err() {
                    tracing::error!("a callback for transport conditions panicked");
                }
            }
        }
    }

    /// Delivers what is queued, then ends the thread.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        let callbacks = std::mem::take(&mut self.lock().callbacks);
        drop(callbacks);
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conditions")
    }
}

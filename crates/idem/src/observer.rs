//! Live queries.

use std::sync::{Mutex, PoisonError};

use crate::query::{Query, QueryResult};

/// A live query. It ends when the handle is dropped: keep it as long as the callback should run.
#[derive(Debug)]
#[must_use = "the observer ends when its handle is dropped"]
pub struct StoreObserver {
    query: Query,
    observer: Mutex<Option<idem_store::Observer>>,
}

impl StoreObserver {
    pub(crate) fn new(query: Query, observer: idem_store::Observer) -> Self {
        Self {
            query,
            observer: Mutex::new(Some(observer)),
        }
    }

    /// The statement.
    pub fn query_string(&self) -> &str {
        self.query.text()
    }

    /// The arguments of the statement.
    pub fn query_arguments(&self) -> &idem_model::Object {
        self.query.args()
    }

    /// Ends the observer. A call that runs at that time finishes.
    pub fn cancel(&self) {
        let observer = self
            .observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Outside of the lock: ending it may wait for a callback that asks for `is_cancelled`.
        drop(observer);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }
}

/// Asks for the next result of an observer that was registered with manual backpressure. Dropping
/// it asks as well, so that an early return cannot stop the observer for good.
#[derive(Debug)]
pub struct SignalNext(idem_store::SignalNext);

impl SignalNext {
    pub(crate) fn new(next: idem_store::SignalNext) -> Self {
        Self(next)
    }

    /// The callback may be called again once the result changes.
    pub fn signal(self) {
        drop(self);
    }
}

impl Drop for SignalNext {
    fn drop(&mut self) {
        self.0.signal();
    }
}

pub(crate) type ObserverCallback = Box<dyn FnMut(QueryResult, SignalNext) + Send + 'static>;

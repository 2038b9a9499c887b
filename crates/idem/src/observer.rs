//! Live queries.

use crate::query::{Query, QueryResult};

/// A live query. It ends when the handle is dropped: keep it as long as the callback should run.
#[derive(Debug)]
#[must_use = "the observer ends when its handle is dropped"]
pub struct StoreObserver {
    query: Query,
}

impl StoreObserver {
    /// The statement.
    pub fn query_string(&self) -> &str {
        self.query.text()
    }

    /// Ends the observer. A callback that is running is not interrupted.
    pub fn cancel(&self) {
        unimplemented!()
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        unimplemented!()
    }
}

/// Asks for the next result of an observer that was registered with manual backpressure. Dropping
/// it asks as well, so that a panic in the callback cannot stop the observer.
#[derive(Debug)]
pub struct SignalNext(());

impl SignalNext {
    /// The callback may be called again once the result changes.
    pub fn signal(self) {}
}

pub(crate) type ObserverCallback = Box<dyn FnMut(QueryResult, SignalNext) + Send + 'static>;

//! Live queries: a SELECT whose result is handed to a callback whenever it changes.

/// A live query. It ends when this handle is dropped; a callback that runs at that moment finishes.
#[derive(Debug)]
#[must_use = "an observer ends when its handle is dropped"]
pub struct Observer {}

impl Observer {
    /// Ends the observer; the same as dropping it.
    pub fn cancel(self) {}
}

/// Asks for the next result of an observer that waits for it.
#[derive(Debug, Clone)]
pub struct SignalNext {}

impl SignalNext {
    /// The callback may be called again. Does nothing if the observer has ended.
    pub fn signal(&self) {
        unimplemented!()
    }
}

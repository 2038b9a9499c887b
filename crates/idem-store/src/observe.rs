//! Handles of live queries.

use std::sync::{Arc, Weak};

use crate::core::Core;

/// A live query. It ends when this handle is dropped; a callback that runs at that moment finishes.
#[derive(Debug)]
#[must_use = "an observer ends when its handle is dropped"]
pub struct Observer {
    core: Weak<Core>,
    id: u64,
}

impl Observer {
    pub(crate) fn new(core: &Arc<Core>, id: u64) -> Self {
        Self {
            core: Arc::downgrade(core),
            id,
        }
    }

    /// Ends the observer; the same as dropping it.
    pub fn cancel(self) {}
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.observers.remove(self.id);
        }
    }
}

/// Asks for the next result of an observer that waits for it.
#[derive(Debug, Clone)]
pub struct SignalNext {
    core: Weak<Core>,
    id: u64,
}

impl SignalNext {
    pub(crate) fn new(core: &Arc<Core>, id: u64) -> Self {
        Self {
            core: Arc::downgrade(core),
            id,
        }
    }

    /// The callback may be called again. Does nothing if the observer has ended.
    pub fn signal(&self) {
        if let Some(core) = self.core.upgrade() {
            core.observers.signal(self.id);
            if !core.settings.has_threads {
                core.observers.deliver(&core);
            }
        }
    }
}

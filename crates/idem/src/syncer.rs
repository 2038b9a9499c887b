//! The thread that waits for the disk in the driver's place, so that the next part of a transfer is
//! merged while the last one is written.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use idem_store::Store;

/// Makes commits durable that were applied without waiting. One write to the disk covers all that
/// came before it.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    requested: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    commit: u64,
    is_stopped: bool,
}

impl Syncer {
    pub(crate) fn start(store: Store) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let waited = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("idem-durable".to_owned())
            .spawn(move || waited.run(&store))?;
        Ok(Self {
            shared,
            requested: 0,
            thread: Some(thread),
        })
    }

    /// Sees to it that `commit` becomes durable soon. Costs nothing if it was asked for before.
    pub(crate) fn request(&mut self, commit: u64) {
        if self.is_requested(commit) {
            return;
        }
        self.requested = commit;
        let wanted = self.shared.wanted.lock();
        wanted.unwrap_or_else(PoisonError::into_inner).commit = commit;
        self.shared.changed.notify_one();
    }

    /// Whether `commit` was asked for.
    pub(crate) fn is_requested(&self, commit: u64) -> bool {
        commit <= self.requested
    }
}

impl Shared {
    fn run(&self, store: &Store) {
        let mut done = 0;
        loop {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = self
                .changed
                .wait_while(wanted, |wanted| wanted.commit <= done && !wanted.is_stopped)
                .unwrap_or_else(PoisonError::into_inner);
            if wanted.commit <= done {
                return;
            }
            done = wanted.commit;
            drop(wanted);
            if let Err(error) = store.wait_durable(done) {
                // The store is poisoned now, and says so to whoever uses it next.
                tracing::error!(%error, "merged documents could not be made durable");
                return;
            }
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let wanted = self.shared.wanted.lock();
        wanted.unwrap_or_else(PoisonError::into_inner).is_stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that waits for the disk panicked");
        }
    }
}

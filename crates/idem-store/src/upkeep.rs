//! What a store does by itself from time to time: forgetting what need not be known any more.
//!
//! All of it goes in short transactions, so that writers get their turn in between, and after a crash
//! the next round does what this one did not.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    core::Core, error::StoreError, evictions, patience::Cancellation, subscriptions, tombstones,
    work::Work,
};

/// The first round comes so long after the opening, which has other things to do. By then the app has
/// asked for its subscriptions, and those that it did not ask for rest.
const FIRST: Duration = Duration::from_secs(60);

/// The next ones follow at this distance, sooner if something was ended.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// What wakes and ends the thread.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    state: Mutex<State>,
    changed: Condvar,
    /// Ends a round's wait for the writer's turn when the store closes.
    stopping: Cancellation,
}

#[derive(Debug, Default)]
struct State {
    is_wished: bool,
    is_stopped: bool,
}

impl Upkeep {
    /// Has the next round begin now.
    pub(crate) fn wake(&self) {
        self.lock().is_wished = true;
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Commits what a crash may take back: the next round does it again.
    pub(crate) fn hand_over(self) -> Result<(), StoreError> {
        let core = Arc::clone(&self.core);
        match self.commit_visible()? {
            Some(committed) => committed.hand_over(&core),
            None => Ok(()),
        }
    }
}

/// One round. Tombstones stay: they go by [`forget_tombstones`] alone.
pub(crate) fn round(core: &Arc<Core>) -> Result<(), StoreError> {
    core.poison.check()?;
    let mut patience = core.patience();
    patience.cancellations.push(core.upkeep.stopping.clone());
    subscriptions::note_subscriptions(core, &patience)?;
    while evictions::sweep(core, &patience)? {}
    Ok(())
}

/// Removes the tombstones of one day whose life is over.
pub(crate) fn forget_tombstones(core: &Arc<Core>) -> Result<(), StoreError> {
    core.poison.check()?;
    let mut patience = core.patience();
    patience.cancellations.push(core.upkeep.stopping.clone());
    tombstones::remove(core, &patience)
}

/// The thread that does the rounds.
pub(crate) fn run(core: &Arc<Core>) {
    let upkeep = &core.upkeep;
    let mut due = Instant::now() + FIRST;
    loop {
        {
            let state = upkeep.lock();
            let (mut state, _) = upkeep
                .changed
                .wait_timeout_while(
                    state,
                    due.saturating_duration_since(Instant::now()),
                    |state| !state.is_wished && !state.is_stopped,
                )
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_stopped {
                return;
            }
            state.is_wished = false;
        }
        if Instant::now() >= due {
            due = Instant::now() + INTERVAL;
        }
        match round(core) {
            Ok(()) => {}
            Err(StoreError::Closed | StoreError::Poisoned { .. }) => return,
            // The next look at the state ends the thread.
            Err(_) if upkeep.lock().is_stopped => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the upkeep failed"
                );
            }
        }
    }
}

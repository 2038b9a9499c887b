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

/// The next ones follow at this distance unless the configuration says another one, sooner if something
/// was ended.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60 * 60);

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

/// One round, without the tombstones: these go by [`forget_tombstones`], an hour apart, however often a
/// round is wished for.
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

/// What the thread does when it wakes: with `is_due` the interval has passed.
fn rounds(core: &Arc<Core>, is_due: bool) -> Result<(), StoreError> {
    round(core)?;
    match is_due {
        true => forget_tombstones(core),
        false => Ok(()),
    }
}

/// The thread that does the rounds.
pub(crate) fn run(core: &Arc<Core>) {
    let upkeep = &core.upkeep;
    let interval = core.settings.upkeep_interval;
    let mut due = Instant::now() + FIRST.min(interval);
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
        let is_due = Instant::now() >= due;
        if is_due {
            due = Instant::now() + interval;
        }
        match rounds(core, is_due) {
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use idem_model::{Object, Timestamp};

    use super::rounds;
    use crate::{Store, StoreConfig, tombstones};

    #[test]
    fn the_thread_forgets_tombstones_when_an_hour_has_passed_and_not_when_it_is_woken() {
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        let clock = Arc::clone(&now_ms);
        let config = StoreConfig::memory()
            .clock(Arc::new(move || clock.load(Ordering::Relaxed)))
            .tombstone_ttl_ms(5_000)
            .background_threads(false);
        let store = Store::open(config).unwrap();
        for text in [
            "INSERT INTO t DOCUMENTS ({'_id': 1})",
            "DELETE FROM t WHERE _id = 1",
        ] {
            store.execute(text, Object::new()).unwrap();
        }
        let core = store.core().unwrap();
        let left = || tombstones::count(&core.view().unwrap().snapshot).unwrap();
        rounds(&core, true).unwrap();
        assert_eq!(left(), 1, "its life is not over");
        now_ms.store(1_005_000, Ordering::Relaxed);
        rounds(&core, false).unwrap();
        assert_eq!(left(), 1, "somebody ended a subscription");
        rounds(&core, true).unwrap();
        assert_eq!(left(), 0);
        assert!(store.gc_floor() > Timestamp::ZERO, "and says so");
    }
}

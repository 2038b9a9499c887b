//! What a store does by itself from time to time: forgetting what need not be known any more.
//!
//! All of it goes in short transactions, so that writers get their turn in between, and after a crash
//! the next round does what this one did not.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use idem_model::limits;

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

/// When the thread has something to do.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    round: Instant,
    forgetting: Instant,
}

impl Schedule {
    fn new(core: &Arc<Core>, now: Instant) -> Self {
        let interval = core.settings.upkeep_interval;
        let until = until_forgetting(core).unwrap_or_else(|error| {
            report(&error);
            interval
        });
        Self {
            interval,
            round: now + FIRST.min(interval),
            forgetting: now + until,
        }
    }

    fn due(&self) -> Instant {
        self.round.min(self.forgetting)
    }

    /// Does what is due, and a round if one is wished for.
    fn work(
        &mut self,
        core: &Arc<Core>,
        now: Instant,
        mut is_wished: bool,
    ) -> Result<(), StoreError> {
        if now >= self.round {
            self.round = now + self.interval;
            is_wished = true;
        }
        let is_forgetting = now >= self.forgetting;
        if is_forgetting {
            self.forgetting = now + self.interval;
        }
        if is_wished {
            round(core)?;
        }
        match is_forgetting {
            true => forget_tombstones(core),
            false => Ok(()),
        }
    }
}

/// How long after the opening tombstones may go: at once, unless the last round was less than the
/// interval ago, however long the store was open then.
fn until_forgetting(core: &Arc<Core>) -> Result<Duration, StoreError> {
    let interval = core.settings.upkeep_interval;
    let Some(last_ms) = tombstones::last_round_ms(&core.view()?.snapshot)? else {
        return Ok(Duration::ZERO);
    };
    let now_ms = (core.clock)();
    Ok(match now_ms.checked_sub(last_ms) {
        Some(passed_ms) => interval.saturating_sub(Duration::from_millis(passed_ms)),
        // The clock ran back since.
        None if last_ms - now_ms < limits::TOMBSTONE_ROUND_MS => interval,
        // It was so far ahead that it would take long until it is as late again.
        None => Duration::ZERO,
    })
}

fn report(error: &StoreError) {
    tracing::warn!(error = error as &dyn std::error::Error, "the upkeep failed");
}

/// The thread that does the rounds.
pub(crate) fn run(core: &Arc<Core>) {
    let upkeep = &core.upkeep;
    let mut schedule = Schedule::new(core, Instant::now());
    loop {
        let is_wished = {
            let state = upkeep.lock();
            let pause = schedule.due().saturating_duration_since(Instant::now());
            let (mut state, _) = upkeep
                .changed
                .wait_timeout_while(state, pause, |state| !state.is_wished && !state.is_stopped)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_stopped {
                return;
            }
            std::mem::take(&mut state.is_wished)
        };
        match schedule.work(core, Instant::now(), is_wished) {
            Ok(()) => {}
            Err(StoreError::Closed | StoreError::Poisoned { .. }) => return,
            // The next look at the state ends the thread.
            Err(_) if upkeep.lock().is_stopped => {}
            Err(error) => report(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use idem_model::Object;

    use super::*;
    use crate::{SimulatedDisk, Store, StoreConfig};

    const HOUR_MS: u64 = 60 * 60 * 1000;
    const DAY_MS: u64 = limits::TOMBSTONE_ROUND_MS;

    /// A store whose thread the test plays.
    fn open(disk: &SimulatedDisk, now_ms: &Arc<AtomicU64>) -> (Store, Arc<Core>) {
        let clock = Arc::clone(now_ms);
        let config = StoreConfig::simulated(disk.clone())
            .clock(Arc::new(move || clock.load(Ordering::Relaxed)))
            .tombstone_ttl_ms(5_000)
            .background_threads(false);
        let store = Store::open(config).unwrap();
        let core = store.core().unwrap();
        (store, core)
    }

    fn left(core: &Arc<Core>) -> u64 {
        tombstones::count(&core.view().unwrap().snapshot).unwrap()
    }

    /// A store in which a document was deleted on each of some days, the last of which has expired.
    fn deleted_on_days(days: u64) -> (SimulatedDisk, Arc<AtomicU64>) {
        let (disk, now_ms) = (SimulatedDisk::new(), Arc::new(AtomicU64::new(DAY_MS)));
        let (store, core) = open(&disk, &now_ms);
        for day in 0..days {
            for text in [
                format!("INSERT INTO t DOCUMENTS ({{'_id': {day}}})"),
                format!("DELETE FROM t WHERE _id = {day}"),
            ] {
                store.execute(&text, Object::new()).unwrap();
            }
            now_ms.fetch_add(DAY_MS + 1, Ordering::Relaxed);
        }
        assert_eq!(left(&core), days);
        drop(core);
        store.close().unwrap();
        (disk, now_ms)
    }

    #[test]
    fn tombstones_go_when_an_hour_has_passed_and_not_when_somebody_wishes_for_a_round() {
        let (disk, now_ms) = deleted_on_days(2);
        let (_store, core) = open(&disk, &now_ms);
        let start = Instant::now();
        let mut schedule = Schedule::new(&core, start);
        assert_eq!(schedule.due(), start, "nobody has forgotten any");
        schedule.work(&core, start, false).unwrap();
        assert_eq!(left(&core), 1);
        let last_ms = tombstones::last_round_ms(&core.view().unwrap().snapshot).unwrap();
        assert_eq!(last_ms, Some(now_ms.load(Ordering::Relaxed)));
        assert_eq!(schedule.due(), start + FIRST, "what else there is has time");
        schedule.work(&core, start + FIRST, true).unwrap();
        assert_eq!(left(&core), 1, "somebody ended a subscription");
        assert_eq!(schedule.due(), start + INTERVAL);
        schedule.work(&core, start + INTERVAL, false).unwrap();
        assert_eq!(left(&core), 0);
    }

    #[test]
    fn a_store_that_is_opened_often_forgets_one_day_an_hour() {
        let (disk, now_ms) = deleted_on_days(4);
        let mut forgotten = Vec::new();
        for _ in 0..25 {
            let (store, core) = open(&disk, &now_ms);
            // It is closed again at once.
            let start = Instant::now();
            let mut schedule = Schedule::new(&core, start);
            schedule.work(&core, start, false).unwrap();
            forgotten.push(4 - left(&core));
            drop(core);
            store.close().unwrap();
            now_ms.fetch_add(HOUR_MS / 10, Ordering::Relaxed);
        }
        let expected: Vec<u64> = (0..25).map(|opening| 1 + opening / 10).collect();
        assert_eq!(forgotten, expected);
    }

    #[test]
    fn a_clock_that_ran_back_holds_nothing_up_for_long() {
        let (disk, now_ms) = deleted_on_days(2);
        let until = |ms: u64| {
            now_ms.store(ms, Ordering::Relaxed);
            let (_store, core) = open(&disk, &now_ms);
            until_forgetting(&core).unwrap()
        };
        let at_ms = now_ms.load(Ordering::Relaxed);
        let (store, core) = open(&disk, &now_ms);
        forget_tombstones(&core).unwrap();
        drop((store, core));
        assert_eq!(until(at_ms), INTERVAL);
        assert_eq!(until(at_ms + HOUR_MS / 4), INTERVAL * 3 / 4);
        assert_eq!(until(at_ms + HOUR_MS), Duration::ZERO);
        assert_eq!(until(at_ms - HOUR_MS), INTERVAL);
        assert_eq!(until(at_ms - DAY_MS), Duration::ZERO);
    }
}

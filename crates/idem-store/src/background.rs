//! The threads of a store: one moves the overlay into the engine, one syncs relaxed commits, one runs
//! observers, one works on indexes, one forgets what need not be known any more.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering, fence},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    config::Durability,
    core::{Core, FLUSH_BYTES},
};

/// A store that is idle for so long is flushed, so that opening it has nothing to replay.
const FLUSH_IDLE: Duration = Duration::from_secs(1);

/// How long a relaxed commit may stay with the operating system. The promise is 50 ms, of which the
/// sync itself needs some.
const SYNC_DELAY: Duration = Duration::from_millis(40);

/// How the threads are woken and ended.
#[derive(Debug, Default)]
pub(crate) struct Background {
    wishes: Mutex<Wishes>,
    changed: Condvar,
    /// Whether the flushing thread sleeps until something is committed, so that a store without writes
    /// wakes no processor.
    is_asleep: AtomicBool,
}

#[derive(Debug, Default)]
struct Wishes {
    flush: bool,
    look: bool,
    sync: bool,
    stop: bool,
}

impl Background {
    /// Tells the flushing thread that there is something to flush when it has time.
    pub(crate) fn committed(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst) {
            self.wish(|wishes| &mut wishes.look);
        }
    }

    pub(crate) fn wake_flush(&self) {
        self.wish(|wishes| &mut wishes.flush);
    }

    pub(crate) fn wake_sync(&self) {
        self.wish(|wishes| &mut wishes.sync);
    }

    pub(crate) fn stop(&self) {
        self.wish(|wishes| &mut wishes.stop);
    }

    /// Waits until a flush is wished, which the result says, or it is time to look; `None` is the end.
    fn wait_for_flush(&self, is_all_flushed: impl Fn() -> bool) -> Option<bool> {
        let wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_asleep.store(true, Ordering::SeqCst);
        // Pairs with the fence of a commit: either this sees what it applied, or it sees this asleep.
        fence(Ordering::SeqCst);
        let mut wishes = if is_all_flushed() {
            self.changed
                .wait_while(wishes, |wishes| {
                    !wishes.flush && !wishes.look && !wishes.stop
                })
                .unwrap_or_else(PoisonError::into_inner)
        } else {
            self.is_asleep.store(false, Ordering::SeqCst);
            self.changed
                .wait_timeout_while(wishes, FLUSH_IDLE, |wishes| !wishes.flush && !wishes.stop)
                .unwrap_or_else(PoisonError::into_inner)
                .0
        };
        self.is_asleep.store(false, Ordering::SeqCst);
        wishes.look = false;
        (!wishes.stop).then(|| std::mem::take(&mut wishes.flush))
    }

    fn wish(&self, choose: impl FnOnce(&mut Wishes) -> &mut bool) {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = choose(&mut wishes);
        if !*wish {
            *wish = true;
            self.changed.notify_all();
        }
    }
}

/// Starts the threads that the configuration asks for.
pub(crate) fn start(core: &Arc<Core>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = vec![spawn("idem-flush", core, flush_loop)?];
    if core.settings.durability == Durability::Relaxed {
        threads.push(spawn("idem-sync", core, sync_loop)?);
    }
    threads.push(spawn("idem-observe", core, crate::observers::run)?);
    threads.push(spawn("idem-index", core, crate::indexing::run)?);
    threads.push(spawn("idem-upkeep", core, crate::upkeep::run)?);
    Ok(threads)
}

fn spawn(name: &str, core: &Arc<Core>, run: fn(&Arc<Core>)) -> io::Result<JoinHandle<()>> {
    let core = Arc::clone(core);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || run(&core))
}

fn flush_loop(core: &Arc<Core>) {
    let background = &core.background;
    let mut seen = core.overlay.applied_position();
    let mut changed_at = Instant::now();
    loop {
        let Some(is_wished) = background.wait_for_flush(|| core.overlay.pending_bytes() == 0)
        else {
            return;
        };
        let applied = core.overlay.applied_position();
        if applied != seen {
            seen = applied;
            changed_at = Instant::now();
        }
        let is_idle = changed_at.elapsed() >= FLUSH_IDLE && core.overlay.pending_bytes() > 0;
        if (is_wished && core.overlay.pending_bytes() >= FLUSH_BYTES) || is_idle {
            if core.poison.check().is_err() {
                return;
            }
            if let Err(error) = core.flush() {
                tracing::warn!(error = &error as &dyn std::error::Error, "the flush failed");
            }
        }
    }
}

fn sync_loop(core: &Arc<Core>) {
    let background = &core.background;
    loop {
        {
            let wishes = background
                .wishes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let wishes = background
                .changed
                .wait_while(wishes, |wishes| !wishes.sync && !wishes.stop)
                .unwrap_or_else(PoisonError::into_inner);
            // Let more commits gather, unless the store is being closed.
            let (mut wishes, _) = background
                .changed
                .wait_timeout_while(wishes, SYNC_DELAY, |wishes| !wishes.stop)
                .unwrap_or_else(PoisonError::into_inner);
            if wishes.stop {
                return;
            }
            wishes.sync = false;
        }
        if core.sync_to(core.log.end()).is_err() {
            return;
        }
    }
}

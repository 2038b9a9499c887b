//! One writer at a time, in the order of asking.
//!
//! No wait here can last for ever: a transaction in which nothing runs keeps others waiting for a
//! bounded time only. That ends every cycle of waiting that no look at threads could see, such as two
//! threads of an app of which one holds a transaction and waits for the other.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

use crate::{error::StoreError, patience::Patience};

/// A fair lock that is left explicitly, so that an open transaction can move between threads.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    /// Since when the one who has the turn does nothing with it; `None` while he does.
    idle_since: Option<Instant>,
    /// The name that the idle one gave himself.
    hint: Option<Arc<str>>,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    is_called: AtomicBool,
}

impl Turnstile {
    /// Waits for the turn. Whoever gets it must call [`Turnstile::leave`].
    ///
    /// # Errors
    /// [`StoreError::Query`] if the wait was cancelled or its time is over,
    /// [`StoreError::TransactionBusy`] if the one ahead is idle for too long.
    pub(crate) fn enter(&self, patience: &Patience) -> Result<(), StoreError> {
        let waiter = {
            let mut line = self.lock();
            if !line.is_taken {
                line.is_taken = true;
                return Ok(());
            }
            let waiter = Arc::new(Waiter {
                thread: thread::current(),
                is_called: AtomicBool::new(false),
            });
            line.waiting.push_back(Arc::clone(&waiter));
            waiter
        };
        patience.wait(|| {
            if waiter.is_called.load(Ordering::Acquire) {
                return Ok(Ok(()));
            }
            let mut line = self.lock();
            let refusal = match patience.look() {
                Some(interrupt) => StoreError::Query(interrupt.into()),
                None => match line.patience_ends(patience.idle_max) {
                    Ok(refusal) => refusal,
                    Err(again) => return Err(again),
                },
            };
            if waiter.is_called.load(Ordering::Acquire) {
                // The turn was handed over before the lock was taken.
                return Ok(Ok(()));
            }
            line.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
            Ok(Err(refusal))
        })
    }

    /// Gives the turn to the first in line.
    pub(crate) fn leave(&self) {
        let mut line = self.lock();
        assert!(line.is_taken, "a turn is left once");
        line.idle_since = None;
        line.hint = None;
        match line.waiting.pop_front() {
            Some(next) => {
                // The turn stays taken: it is handed over, so nobody can overtake.
                next.is_called.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => line.is_taken = false,
        }
    }

    /// Says that whoever has the turn does nothing with it now, and how he calls himself.
    pub(crate) fn rest(&self, hint: Option<&Arc<str>>) {
        let mut line = self.lock();
        line.idle_since = Some(Instant::now());
        line.hint = hint.map(Arc::clone);
    }

    /// Says that whoever has the turn works again.
    pub(crate) fn resume(&self) {
        self.lock().idle_since = None;
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// The refusal of one who waits no longer, or when to look again.
    fn patience_ends(&self, idle_max: Option<Duration>) -> Result<StoreError, Option<Instant>> {
        let Some(idle_max) = idle_max else {
            return Err(None);
        };
        let now = Instant::now();
        let Some(idle_since) = self.idle_since else {
            return Err(Some(now + idle_max));
        };
        let ends = idle_since + idle_max;
        if now < ends {
            return Err(Some(ends));
        }
        Ok(StoreError::TransactionBusy {
            hint: self.hint.as_deref().unwrap_or("none").to_owned(),
            idle: now - idle_since,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use idem_query::ErrorKind;

    use super::*;
    use crate::patience::{Cancellation, Deadline};

    const FOREVER: Patience = Patience {
        cancellations: Vec::new(),
        kill: None,
        deadline: None,
        idle_max: None,
    };

    fn wait_for_waiting(turnstile: &Turnstile, count: usize) {
        while turnstile.lock().waiting.len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn one_at_a_time_and_in_order() {
        let turnstile = Arc::new(Turnstile::default());
        let inside = Arc::new(AtomicU64::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        turnstile.enter(&FOREVER).unwrap();
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (turnstile_, inside, order) =
                    (turnstile.clone(), inside.clone(), order.clone());
                let handle = thread::spawn(move || {
                    turnstile_.enter(&FOREVER).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    order.lock().unwrap().push(number);
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    turnstile_.leave();
                });
                wait_for_waiting(&turnstile, number + 1);
                handle
            })
            .collect();
        turnstile.leave();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn who_gives_up_leaves_the_line() {
        let turnstile = Arc::new(Turnstile::default());
        let cancellation = Cancellation::new();
        turnstile.enter(&FOREVER).unwrap();
        let waiting = {
            let (turnstile, cancellation) = (turnstile.clone(), cancellation.clone());
            thread::spawn(move || {
                turnstile.enter(&Patience {
                    cancellations: vec![cancellation],
                    ..FOREVER
                })
            })
        };
        wait_for_waiting(&turnstile, 1);
        cancellation.cancel();
        match waiting.join().unwrap() {
            Err(StoreError::Query(error)) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            other => panic!("{other:?}"),
        }
        let soon = Patience {
            deadline: Deadline::behind(Instant::now(), Duration::from_millis(1)),
            ..FOREVER
        };
        match turnstile.enter(&soon) {
            Err(StoreError::Query(error)) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
        assert!(turnstile.lock().waiting.is_empty());
        turnstile.leave();
        turnstile.enter(&FOREVER).unwrap();
    }

    #[test]
    fn an_idle_one_keeps_nobody_waiting_for_ever() {
        let turnstile = Turnstile::default();
        let patience = Patience {
            idle_max: Some(Duration::from_millis(1)),
            ..FOREVER
        };
        turnstile.enter(&FOREVER).unwrap();
        turnstile.rest(Some(&Arc::from("import")));
        match turnstile.enter(&patience) {
            Err(StoreError::TransactionBusy { hint, idle }) => {
                assert_eq!(hint, "import");
                assert!(idle >= Duration::from_millis(1));
            }
            other => panic!("{other:?}"),
        }
        // One who works does not lose the patience of others, however long it takes.
        turnstile.resume();
        let busy = Patience {
            deadline: Deadline::behind(Instant::now(), Duration::from_millis(20)),
            ..patience
        };
        match turnstile.enter(&busy) {
            Err(StoreError::Query(error)) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
    }
}

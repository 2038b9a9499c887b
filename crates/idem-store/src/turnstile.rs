//! One writer at a time, in the order of asking.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
};

/// A fair lock that is left explicitly, so that an open transaction can move between threads.
#[derive(Debug, Default)]
pub(crate) struct Turnstile {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    is_taken: bool,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    is_called: AtomicBool,
}

impl Turnstile {
    /// Waits for the turn. Whoever gets it must call [`Turnstile::leave`].
    pub(crate) fn enter(&self) {
        let waiter = {
            let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
            if !line.is_taken {
                line.is_taken = true;
                return;
            }
            let waiter = Arc::new(Waiter {
                thread: thread::current(),
                is_called: AtomicBool::new(false),
            });
            line.waiting.push_back(Arc::clone(&waiter));
            waiter
        };
        while !waiter.is_called.load(Ordering::Acquire) {
            thread::park();
        }
    }

    /// Gives the turn to the first in line.
    pub(crate) fn leave(&self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(line.is_taken, "a turn is left once");
        match line.waiting.pop_front() {
            Some(next) => {
                // The turn stays taken: it is handed over, so nobody can overtake.
                next.is_called.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => line.is_taken = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn one_at_a_time_and_in_order() {
        let turnstile = Arc::new(Turnstile::default());
        let inside = Arc::new(AtomicU64::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        turnstile.enter();
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (turnstile_, inside, order) =
                    (turnstile.clone(), inside.clone(), order.clone());
                let handle = thread::spawn(move || {
                    turnstile_.enter();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    order.lock().unwrap().push(number);
                    assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    turnstile_.leave();
                });
                while turnstile.line.lock().unwrap().waiting.len() <= number {
                    thread::yield_now();
                }
                handle
            })
            .collect();
        turnstile.leave();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
    }
}

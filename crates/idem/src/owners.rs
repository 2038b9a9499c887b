//! Who has a transaction open by hand, so that waiting for oneself is an error at once.
//!
//! Whoever began or last used a transaction counts as its owner: a thread for blocking calls, a task
//! for `async` ones. What this cannot see, such as a task that waits for another one, the store ends
//! after a while.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    thread::{self, ThreadId},
};

#[derive(Debug, Default)]
pub(crate) struct Owners {
    // Read first: almost always there is none, and a statement must not pay for a lock then.
    count: AtomicUsize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    last: u64,
    owners: Vec<(u64, Owner)>,
}

/// A thread or task as far as it can be told from others.
#[derive(Debug)]
pub(crate) struct Owner {
    /// For blocking calls.
    thread: Option<ThreadId>,
    /// Inside tokio.
    task: Option<tokio::task::Id>,
    /// For `async` calls: executors wake a task by the same waker throughout.
    waker: Option<Waker>,
}

impl Owner {
    /// The caller of a blocking function.
    pub(crate) fn thread() -> Self {
        Self {
            thread: Some(thread::current().id()),
            task: tokio::task::try_id(),
            waker: None,
        }
    }

    /// The caller of an `async` function.
    pub(crate) fn task(waker: &Waker) -> Self {
        Self {
            thread: None,
            task: tokio::task::try_id(),
            waker: Some(waker.clone()),
        }
    }

    /// Whether a call from here would wait for this owner; `waker` is that of an `async` call.
    fn is_here(&self, waker: Option<&Waker>) -> bool {
        match (self.task, tokio::task::try_id()) {
            (Some(owner), Some(here)) if owner == here => return true,
            // Two tasks: while one waits, the other goes on, unless the call blocks their thread.
            (Some(_), Some(_)) if waker.is_some() => return false,
            _ => {}
        }
        let is_same_task = match (&self.waker, waker) {
            (Some(owner), Some(here)) => owner.will_wake(here),
            _ => false,
        };
        is_same_task || self.thread == Some(thread::current().id())
    }
}

impl Owners {
    /// Whether the caller has a transaction open.
    pub(crate) fn is_owner_here(&self, waker: Option<&Waker>) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self
                .lock()
                .owners
                .iter()
                .any(|(_, owner)| owner.is_here(waker))
    }

    /// Notes an owner. The number is for [`Owners::remove`].
    pub(crate) fn insert(&self, owner: Owner) -> u64 {
        let mut list = self.lock();
        list.last += 1;
        let number = list.last;
        list.owners.push((number, owner));
        self.count.store(list.owners.len(), Ordering::Release);
        number
    }

    /// Notes that somebody else goes on with the transaction.
    pub(crate) fn hand_over(&self, number: u64, owner: Owner) {
        let mut list = self.lock();
        if let Some(entry) = list.owners.iter_mut().find(|(other, _)| *other == number) {
            entry.1 = owner;
        }
    }

    pub(crate) fn remove(&self, number: u64) {
        let mut list = self.lock();
        let at = list.owners.iter().position(|(other, _)| *other == number);
        let removed = at.map(|at| list.owners.swap_remove(at));
        self.count.store(list.owners.len(), Ordering::Release);
        drop(list);
        // Outside of the lock: a waker may run code of the executor.
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

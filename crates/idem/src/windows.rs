//! Where documents are in windows: those of this peer, which are watched, and what other peers ask about.

use std::{
    collections::{BTreeMap, VecDeque},
    io, mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use idem_model::{Object, PeerId, limits};
use idem_query::{Reach, Window};
use idem_store::{Cancellation, ExecuteOptions, Observer, Store, StoreError};
use idem_sync::{OwnReach, WindowCounts};

use crate::inbox::Inbox;

/// How long the search for an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The windows of this peer, and the desk that answers the questions of others.
pub(crate) struct Windows {
    store: Store,
    inbox: Arc<Inbox>,
    own: BTreeMap<String, OwnWindow>,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// A window of this peer.
pub(crate) struct OwnWindow {
    pub(crate) window: Window,
    /// Names it in questions.
    pub(crate) number: u8,
    seen: Arc<Mutex<Seen>>,
    /// They end with it.
    _observers: Vec<Observer>,
}

/// How far documents go, by [`WindowCounts`]; `None` before the first look.
type Seen = [Option<Reach>; 3];

/// A question of another peer.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) remote: PeerId,
    /// When the remote began anew; what was asked before is not answered.
    pub(crate) epoch: u64,
    pub(crate) number: u8,
    pub(crate) count: u32,
    pub(crate) window: Window,
}

/// The answer to it.
pub(crate) type Answered = (Question, Result<Reach, String>);

/// Answers questions one after the other, and pauses for as long as each took: who asks much uses half of a
/// core at most. The queue has one question for each number of each peer.
#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
    stop: Cancellation,
}

#[derive(Default)]
struct DeskState {
    questions: VecDeque<Question>,
    answers: Vec<Answered>,
    is_stopped: bool,
}

impl Windows {
    pub(crate) fn start(store: Store, inbox: Arc<Inbox>) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let (asked, answering, told) = (Arc::clone(&desk), store.clone(), Arc::clone(&inbox));
        let thread = thread::Builder::new()
            .name("idem-windows".to_owned())
            .spawn(move || asked.run(&answering, &told))?;
        Ok(Self {
            store,
            inbox,
            own: BTreeMap::new(),
            desk,
            thread: Some(thread),
        })
    }

    /// Watches these windows, by their canonical text, and no others.
    pub(crate) fn follow(&mut self, windows: &BTreeMap<String, Window>) {
        self.own.retain(|text, _| windows.contains_key(text));
        for (text, window) in windows {
            if self.own.contains_key(text) {
                continue;
            }
            let is_free = |number: &u8| self.own.values().all(|own| own.number != *number);
            let number = (0..limits::WINDOWS_PER_SESSION_MAX).find(is_free);
            let number = number.expect("the board takes no more windows than there are numbers");
            match self.watch(window, number) {
                Ok(own) => {
                    self.own.insert(text.clone(), own);
                }
                Err(error) => tracing::error!(%error, window = text, "a window cannot be followed"),
            }
        }
    }

    fn watch(&self, window: &Window, number: u8) -> Result<OwnWindow, StoreError> {
        let counts = WindowCounts::new(window.count());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut observers = Vec::new();
        for (place, count) in [counts.near, counts.middle, counts.far]
            .into_iter()
            .enumerate()
        {
            let (seen, inbox) = (Arc::clone(&seen), Arc::clone(&self.inbox));
            let of = window.clone();
            let text = window.last_statement(count);
            let observer = self.store.observe(&text, Object::new(), move |result| {
                // The store says why it gives no results any more, and to whom.
                let Ok(result) = result else {
                    return;
                };
                let row = result.items.first();
                let reach = row.map_or(Reach::ALL, |row| of.reach_of(row));
                seen.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(reach);
                inbox.windows_changed();
            })?;
            observers.push(observer);
        }
        Ok(OwnWindow {
            window: window.clone(),
            number,
            seen,
            _observers: observers,
        })
    }

    /// The windows of this peer, by their canonical text.
    pub(crate) fn own(&self) -> &BTreeMap<String, OwnWindow> {
        &self.own
    }

    /// Looks for an answer in the background.
    pub(crate) fn ask(&self, question: Question) {
        let mut state = self.desk.lock();
        let is_same = |it: &Question| (it.remote, it.number) == (question.remote, question.number);
        state.questions.retain(|it| !is_same(it));
        state.questions.push_back(question);
        drop(state);
        self.desk.changed.notify_one();
    }

    /// The answers that were found since the last call.
    pub(crate) fn take_answers(&self) -> Vec<Answered> {
        mem::take(&mut self.desk.lock().answers)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.desk.lock().is_stopped = true;
        self.desk.stop.cancel();
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that answers questions about windows panicked");
        }
    }
}

impl OwnWindow {
    /// How far the documents of this peer go; `None` before the first look.
    pub(crate) fn reach(&self) -> Option<OwnReach> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let [near, middle, far] = &*seen;
        Some(OwnReach {
            near: near.clone()?,
            middle: middle.clone()?,
            far: far.clone()?,
        })
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, store: &Store, inbox: &Inbox) {
        loop {
            let state = self
                .changed
                .wait_while(self.lock(), |state| {
                    state.questions.is_empty() && !state.is_stopped
                })
                .unwrap_or_else(PoisonError::into_inner);
            let mut state = state;
            if state.is_stopped {
                return;
            }
            let Some(question) = state.questions.pop_front() else {
                continue;
            };
            drop(state);
            let start = Instant::now();
            let reach = self.answer(store, &question);
            let took = start.elapsed();
            self.lock().answers.push((question, reach));
            inbox.windows_changed();
            let state = self.lock();
            let _rested = self
                .changed
                .wait_timeout_while(state, took, |state| !state.is_stopped)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer(&self, store: &Store, question: &Question) -> Result<Reach, String> {
        let window = &question.window;
        let options = ExecuteOptions::default()
            .timeout(ANSWER_LIMIT)
            .cancellation(self.stop.clone());
        let text = window.last_statement(question.count);
        let result = store.execute_with(&text, Object::new(), &options);
        let result = result.map_err(|error| error.to_string())?;
        let row = result.items.first();
        Ok(row.map_or(Reach::ALL, |row| window.reach_of(row)))
    }
}

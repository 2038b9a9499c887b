//! Applications on simulated peers.

use std::{fmt, time::Duration};

use idem_model::{DocumentKey, Object};
use idem_store::{Store, StoreError};

use crate::random::Random;

/// What an application does on a simulated peer. One is made for each life of the process, so what it
/// keeps in itself is gone after a crash, as memory is; what must survive belongs into documents.
///
/// Everything is called on one thread, at moments that the seed decides.
pub trait App: fmt::Debug {
    /// The process has started.
    fn on_start(&mut self, _peer: &mut PeerHandle<'_>) {}

    /// Documents came from other peers and told something that was not known here.
    fn on_change(&mut self, _peer: &mut PeerHandle<'_>, _changed: &[DocumentKey]) {}

    /// The time of [`PeerHandle::set_timer`] has come.
    fn on_timer(&mut self, _peer: &mut PeerHandle<'_>, _token: u64) {}
}

/// What an application has of the peer that it runs on.
#[derive(Debug)]
pub struct PeerHandle<'a> {
    number: usize,
    now_us: u64,
    wall_ms: u64,
    store: &'a Store,
    random: &'a mut Random,
    timers: Vec<(u64, u64)>,
}

impl<'a> PeerHandle<'a> {
    pub(crate) fn new(
        number: usize,
        now_us: u64,
        wall_ms: u64,
        store: &'a Store,
        random: &'a mut Random,
    ) -> Self {
        Self {
            number,
            now_us,
            wall_ms,
            store,
            random,
            timers: Vec::new(),
        }
    }

    /// Which peer it is, counted from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The simulated time since the start, which is the same for all peers.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    /// What this peer's clock on the wall shows: Unix time in milliseconds, wrong by as much as the
    /// simulation has it.
    pub fn wall_clock_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Runs a DQL statement on this peer's store and returns the documents that it gives.
    ///
    /// What it writes is visible at once, travels once it is on the simulated disk, and is lost if the
    /// process dies before.
    ///
    /// # Errors
    /// [`StoreError`], as the store reports it.
    pub fn execute(&mut self, statement: &str, args: Object) -> Result<Vec<Object>, StoreError> {
        Ok(self.store.execute(statement, args)?.items)
    }

    /// Has [`App::on_timer`] called after this time, unless the process dies before.
    pub fn set_timer(&mut self, delay: Duration, token: u64) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.timers.push((delay_us, token));
    }

    /// A number below `end` that follows from the seed.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn random_below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    pub(crate) fn into_timers(self) -> Vec<(u64, u64)> {
        self.timers
    }
}

/// Makes an application for each life of each peer.
pub(crate) struct AppFactory(pub(crate) Box<dyn FnMut(usize) -> Box<dyn App>>);

impl fmt::Debug for AppFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppFactory")
    }
}

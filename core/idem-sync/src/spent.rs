//! What a remote has asked of this peer lately, over all links of a session.

use std::time::Duration;

use idem_model::limits;

use crate::{event::CloseReason, failure::Failure};

/// Over this time the requests of the remote are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// Over this time it is counted how often one side had the other start again.
const RESTARTS_WINDOW: Duration = Duration::from_secs(10 * 60);

/// What a remote has asked of this peer in the window under way. It is handed from one link to the next,
/// so that who comes back at once has no more leave than who stays.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Spent {
    since: Duration,
    requests: u32,
    /// For subscriptions.
    pub(crate) source: Scans,
    /// To answer its checks.
    pub(crate) answering: Scans,
    /// For checks of our own because its floor rose.
    pub(crate) asking: Scans,
    /// How often the remote had this side start again.
    pub(crate) restarts: Restarts,
    /// How often this side had the remote start again, because of what it sent.
    pub(crate) rewinds: Restarts,
}

/// How often everything was to be sent again.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Restarts {
    since: Duration,
    count: u8,
}

impl Restarts {
    /// Counts one more. Returns whether there may be so many.
    pub(crate) fn count(&mut self, now: Duration) -> bool {
        if now >= self.since + RESTARTS_WINDOW {
            *self = Self {
                since: now,
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
        self.count <= limits::REWINDS_MAX
    }
}

/// Work that a remote caused.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Scans {
    /// Documents scanned.
    pub(crate) documents: u64,
    /// Symbols of sketches taken in.
    pub(crate) symbols: u64,
}

impl Scans {
    /// Whether the remote may cause more of it, or has had enough for now.
    pub(crate) fn may_go_on(&self) -> bool {
        self.documents < limits::SCANNED_DOCUMENTS_PER_TEN_SECONDS_MAX
            && self.symbols < limits::SYMBOLS_PER_TEN_SECONDS_MAX
    }
}

impl Spent {
    /// Counts a request. Returns whether a window began with it, so that scans are allowed anew.
    pub(crate) fn count_request(&mut self, now: Duration) -> Result<bool, Failure> {
        let is_new_window = now >= self.since + WINDOW;
        if is_new_window {
            *self = Self {
                since: now,
                restarts: self.restarts,
                rewinds: self.rewinds,
                ..Self::default()
            };
        }
        self.requests += 1;
        if self.requests > limits::REQUESTS_PER_TEN_SECONDS_MAX {
            return Err(Failure::new(CloseReason::Limit, "too many requests"));
        }
        Ok(is_new_window)
    }
}

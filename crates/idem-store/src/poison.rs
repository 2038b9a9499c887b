//! A store that may not go on: after a failed sync nobody knows what the disk holds.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use idem_log::LogError;

use crate::error::StoreError;

#[derive(Debug, Default)]
pub(crate) struct Poison {
    is_set: AtomicBool,
    reason: OnceLock<String>,
}

impl Poison {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if !self.is_set.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = self.reason.get().cloned().unwrap_or_default();
        if reason == CLOSED {
            return Err(StoreError::Closed);
        }
        Err(StoreError::Poisoned { reason })
    }

    pub(crate) fn set(&self, what: &str, error: &LogError) {
        self.set_reason(format!("{what} failed: {error}"));
    }

    /// Ends all use of the store because a part of it panicked.
    pub(crate) fn panicked(&self, what: &str) {
        self.set_reason(format!("{what} panicked"));
    }

    /// Ends all use of the store. A failure before it stays the reason.
    pub(crate) fn close(&self) {
        self.set_reason(CLOSED.to_owned());
    }

    fn set_reason(&self, reason: String) {
        // The first reason is the one to report.
        let _ = self.reason.set(reason);
        self.is_set.store(true, Ordering::Release);
    }

    /// Poisons the store with `error` and gives it back as the caller's.
    pub(crate) fn with(&self, what: &str, error: LogError) -> StoreError {
        self.set(what, &error);
        StoreError::from(error)
    }

    /// Poisons the store unless the returned guard is told that the section was passed.
    pub(crate) fn critical<'a>(&'a self, what: &'static str) -> Critical<'a> {
        Critical { poison: self, what }
    }
}

/// The reason that stands for an orderly end.
const CLOSED: &str = "closed";

#[derive(Debug)]
pub(crate) struct Critical<'a> {
    poison: &'a Poison,
    what: &'static str,
}

impl Critical<'_> {
    pub(crate) fn passed(self) {
        std::mem::forget(self);
    }
}

impl Drop for Critical<'_> {
    fn drop(&mut self) {
        self.poison.panicked(self.what);
    }
}

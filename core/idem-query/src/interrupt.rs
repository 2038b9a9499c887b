//! What ends a statement before its time: a call from outside, or the bound of its memory.

use std::{cell::Cell, fmt, time::Duration};

use idem_model::limits;

use crate::error::{ErrorKind, QueryError};

/// Why a statement is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interrupt {
    /// Somebody asked for it.
    Cancelled,
    /// It ran for longer than this, which is what it may.
    TimedOut(Duration),
}

impl From<Interrupt> for QueryError {
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Self::new(ErrorKind::Cancelled, "the statement was cancelled"),
            Interrupt::TimedOut(allowed) => {
                let ms = allowed.as_millis();
                let message = format!("the statement ran for longer than its {ms} ms");
                Self::new(ErrorKind::TimedOut, message).with_hint(format!(
                    "the caller gives it more, or all statements get it: \
                     ALTER SYSTEM SET statement_timeout_ms = {}; 0 is no limit",
                    ms.saturating_mul(10).max(1_000)
                ))
            }
        }
    }
}

/// Asked about every 256 rows or 1,024 evaluations whether the statement is to stop, so it must be
/// cheap: an atomic load and a look at the clock.
pub type InterruptCheck<'a> = dyn Fn() -> Option<Interrupt> + 'a;

/// What one run of a statement may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatementLimits {
    /// Bytes that sorting, grouping, DISTINCT and joins may hold at one time, estimated. Default:
    /// [`limits::STATEMENT_MEMORY_BYTES_DEFAULT`]. The rows of the result are not counted.
    pub memory_bytes: usize,
}

impl StatementLimits {
    /// The same limits with so many bytes of memory.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self {
            memory_bytes: limits::STATEMENT_MEMORY_BYTES_DEFAULT,
        }
    }
}

/// Ticks between two looks at the interrupt, and what a row counts.
const TICKS_PER_LOOK: u32 = 1024;
pub(crate) const TICKS_PER_ROW: u32 = 4;

/// Counts what one run takes, and remembers why it has to end.
pub(crate) struct Gauge<'a> {
    interrupt: Option<&'a InterruptCheck<'a>>,
    limits: StatementLimits,
    ticks: Cell<u32>,
    held: Cell<usize>,
    stop: Cell<Option<Stop>>,
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    Interrupt(Interrupt),
    /// The clause that held too much.
    Memory(&'static str),
    /// An error that is kept elsewhere.
    Failed,
}

impl<'a> Gauge<'a> {
    pub(crate) fn new(limits: StatementLimits, interrupt: Option<&'a InterruptCheck<'a>>) -> Self {
        Self {
            interrupt,
            limits,
            ticks: Cell::new(0),
            held: Cell::new(0),
            stop: Cell::new(None),
        }
    }

    /// Counts work, and now and then looks whether to stop.
    pub(crate) fn tick(&self, ticks: u32) {
        let sum = self.ticks.get().saturating_add(ticks);
        if sum < TICKS_PER_LOOK {
            self.ticks.set(sum);
            return;
        }
        self.ticks.set(0);
        if let (None, Some(interrupt)) = (self.stop.get(), self.interrupt) {
            self.stop.set(interrupt().map(Stop::Interrupt));
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    pub(crate) fn charge(&self, clause: &'static str, bytes: usize) -> bool {
        let held = self.held.get().saturating_add(bytes);
        self.held.set(held);
        if held > self.limits.memory_bytes && self.stop.get().is_none() {
            self.stop.set(Some(Stop::Memory(clause)));
        }
        !self.is_stopped()
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
    }

    /// Stops the run because of an error that the caller reports.
    pub(crate) fn fail(&self) {
        if self.stop.get().is_none() {
            self.stop.set(Some(Stop::Failed));
        }
    }

    /// The error of a run that was stopped.
    pub(crate) fn finish(&self) -> Result<(), QueryError> {
        let error = match self.stop.get() {
            None => return Ok(()),
            Some(Stop::Interrupt(interrupt)) => interrupt.into(),
            Some(Stop::Failed) => QueryError::new(ErrorKind::Execution, "a part of it failed"),
            Some(Stop::Memory(clause)) => QueryError::new(
                ErrorKind::Execution,
                format!(
                    "{clause} holds more than the {} bytes of memory that a statement may use",
                    self.limits.memory_bytes
                ),
            )
            .with_hint(
                "read fewer rows, or raise the bound with ALTER SYSTEM SET statement_memory_bytes",
            ),
        };
        Err(error)
    }
}

impl fmt::Debug for Gauge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge")
            .field("limits", &self.limits)
            .field("held", &self.held)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_as_rare_as_promised() {
        let looks = Cell::new(0);
        let check = || {
            looks.set(looks.get() + 1);
            (looks.get() == 3).then_some(Interrupt::Cancelled)
        };
        let gauge = Gauge::new(StatementLimits::default(), Some(&check));
        for row in 0..3 * 256 {
            assert!(!gauge.is_stopped(), "row {row}");
            gauge.tick(TICKS_PER_ROW);
        }
        assert!(gauge.is_stopped());
        assert_eq!(gauge.finish().unwrap_err().kind(), ErrorKind::Cancelled);
        // Why it stopped does not change any more.
        assert!(!gauge.charge("ORDER BY", usize::MAX));
        assert_eq!(gauge.finish().unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn memory_is_held_to_its_bound_and_given_back() {
        let gauge = Gauge::new(StatementLimits::default().memory_bytes(100), None);
        assert!(gauge.charge("ORDER BY", 100));
        gauge.release(1);
        assert!(gauge.charge("ORDER BY", 1));
        assert!(!gauge.charge("GROUP BY", 1));
        let error = gauge.finish().unwrap_err();
        assert_eq!(
            error.message(),
            "GROUP BY holds more than the 100 bytes of memory that a statement may use"
        );
        gauge.release(50);
        assert!(gauge.is_stopped(), "what was lost then stays lost");
    }
}

//! Hybrid logical time (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::fmt;

use crate::limits;

/// 48 bits of Unix milliseconds and a 16-bit counter, in one integer that sorts by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time of INSERT INITIAL: before every real one.
    pub const ZERO: Self = Self(0);

    /// Joins milliseconds (the low 48 bits are used) and a counter.
    pub fn new(unix_ms: u64, counter: u16) -> Self {
        Self(unix_ms << 16 | u64::from(counter))
    }

    /// Unix milliseconds.
    pub fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The counter among times of the same millisecond.
    pub fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.unix_ms(), self.counter())
    }
}

/// How far a remote time is ahead of ours, and so what to do with what it stamps
/// (docs/merging.md, "Clocks").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skew {
    /// Under 60 s ahead, or behind: the clock followed it.
    Followed,
    /// Under 24 h ahead: merge the data, do not follow, warn.
    Ahead {
        /// By how many milliseconds.
        ms: u64,
    },
    /// 24 h ahead or more: hold the data and report.
    FarAhead {
        /// By how many milliseconds.
        ms: u64,
    },
}

/// The clock cannot give another rising time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hybrid clock is exhausted: no time after {last:?} fits")]
pub struct ClockError {
    /// The last time given.
    pub last: Timestamp,
}

/// The hybrid clock of one store. Wall-clock readings are arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HybridClock {
    last: Timestamp,
}

impl HybridClock {
    /// A clock that continues after `last`.
    pub fn new(last: Timestamp) -> Self {
        Self { last }
    }

    /// The last time given or followed.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// The next time: strictly after every earlier one, and not before `now_ms`.
    ///
    /// # Errors
    /// [`ClockError`] at the end of the 64-bit range, about the year 10889.
    pub fn tick(&mut self, now_ms: u64) -> Result<Timestamp, ClockError> {
        let wall = Timestamp::new(now_ms & 0xffff_ffff_ffff, 0);
        // A full counter carries into the milliseconds, which keeps the time rising.
        let next = self
            .last
            .0
            .checked_add(1)
            .ok_or(ClockError { last: self.last })?;
        self.last = wall.max(Timestamp(next));
        Ok(self.last)
    }

    /// Takes in a time stamped elsewhere. Follows it only if it is under
    /// [`limits::CLOCK_SKEW_FOLLOW_MS`] ahead of `now_ms`, so that one bad clock cannot drag all.
    pub fn observe(&mut self, remote: Timestamp, now_ms: u64) -> Skew {
        let ms = remote.unix_ms().saturating_sub(now_ms);
        if ms >= limits::CLOCK_SKEW_HOLD_MS {
            Skew::FarAhead { ms }
        } else if ms >= limits::CLOCK_SKEW_FOLLOW_MS {
            Skew::Ahead { ms }
        } else {
            self.last = self.last.max(remote);
            Skew::Followed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_rises_whatever_the_wall_clock_does() {
        let mut clock = HybridClock::default();
        let mut last = Timestamp::ZERO;
        for now in [5, 5, 5, 3, 9, 1, 1] {
            let next = clock.tick(now).unwrap();
            assert!(next > last, "{next:?} after {last:?}");
            last = next;
        }
        assert_eq!(clock.tick(100).unwrap(), Timestamp::new(100, 0));
    }

    #[test]
    fn a_far_clock_is_not_followed() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.observe(Timestamp::new(59_999, 7), 0), Skew::Followed);
        assert_eq!(clock.last(), Timestamp::new(59_999, 7));
        assert_eq!(
            clock.observe(Timestamp::new(70_000, 0), 0),
            Skew::Ahead { ms: 70_000 }
        );
        assert_eq!(
            clock.observe(Timestamp::new(86_400_000, 0), 0),
            Skew::FarAhead { ms: 86_400_000 }
        );
        assert_eq!(clock.last(), Timestamp::new(59_999, 7));
    }
}

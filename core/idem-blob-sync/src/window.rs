//! How much is asked of one neighbour at a time.
//!
//! Whatever is under way beyond what the link carries waits somewhere on it, and everything else that is sent
//! there waits behind it. So the window is what the link carries in the time that an answer takes at the
//! least, and [`QUEUED`] beside: enough to keep it busy.

use std::time::Duration;

use idem_model::{blob::GROUP_BYTES, limits};

/// What may wait on the link, in time. Half of what a blob may delay a small change by.
const QUEUED: Duration = Duration::from_millis(25);

/// What is asked of a neighbour before anything is known of its link.
const FIRST_BYTES: u64 = 4 * GROUP_BYTES;

/// How often the window is emptied, to see how long an answer takes at the least.
const PROBE_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Window {
    limit: u64,
    in_flight: u64,
    /// Bytes that arrived so far.
    delivered: u64,
    /// The shortest time that an answer took since the last probe.
    shortest: Option<Duration>,
    probe_at: Duration,
    /// One small piece is to be asked for when nothing is under way.
    is_probing: bool,
    /// Bytes that may be asked for before something arrives, so that a window that was empty does not fill
    /// the link at once.
    burst: u64,
}

/// What was asked for, as the window will want to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    at: Duration,
    delivered: u64,
    bytes: u64,
    is_probe: bool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self {
            limit: FIRST_BYTES,
            in_flight: 0,
            delivered: 0,
            shortest: None,
            probe_at: Duration::ZERO,
            is_probing: true,
            burst: 0,
        }
    }

    /// Whether `bytes` more may be asked for.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let is_free = self.in_flight == 0;
        let fits = self.in_flight + bytes <= self.limit && bytes <= self.burst;
        is_free || (!self.is_probing && fits)
    }

    /// The level of the largest piece to ask for: several share the window, so that one is on its way while
    /// another is dealt with.
    pub(crate) fn level(&self) -> u8 {
        if self.is_probing {
            return 0;
        }
        let groups = (self.limit / GROUP_BYTES / 8).max(1);
        let level = u8::try_from(groups.ilog2()).expect("at most 63");
        level.min(limits::BLOB_PIECE_LEVEL_MAX)
    }

    pub(crate) fn ask(&mut self, now: Duration, bytes: u64) -> Asked {
        let is_probe = self.is_probing && self.in_flight == 0;
        self.in_flight += bytes;
        self.burst = self.burst.saturating_sub(bytes);
        Asked {
            at: now,
            delivered: self.delivered,
            bytes,
            is_probe,
        }
    }

    /// Nothing more is expected of what was asked for.
    pub(crate) fn give_up(&mut self, asked: Asked) {
        self.in_flight -= asked.bytes;
    }

    /// What was asked for arrived.
    pub(crate) fn arrived(&mut self, now: Duration, asked: Asked) {
        let is_filled = self.in_flight + asked.bytes > self.limit;
        self.in_flight -= asked.bytes;
        self.delivered += asked.bytes;
        self.burst = (self.burst + 2 * asked.bytes).min(self.limit);
        let took = (now - asked.at).max(Duration::from_micros(1));
        if asked.is_probe {
            self.is_probing = false;
            self.probe_at = now + PROBE_EVERY;
            self.shortest = Some(took);
            return;
        }
        let shortest = self.shortest.map_or(took, |known| known.min(took));
        self.shortest = Some(shortest);
        let moved = self.delivered - asked.delivered;
        let share = (shortest + QUEUED).as_nanos() * u128::from(moved) / took.as_nanos();
        let fitting = u64::try_from(share).unwrap_or(u64::MAX);
        // What was not filled says nothing against the window unless answers are late.
        if fitting > self.limit || took > shortest + QUEUED {
            let step = (self.limit + fitting.min(2 * self.limit)) / 2;
            self.limit = step;
        } else if is_filled && took < shortest + QUEUED / 2 {
            // Where answers take long, that step is too small to get anywhere.
            self.limit += asked.bytes;
        }
        self.limit = self.limit.clamp(GROUP_BYTES, limits::BLOB_WINDOW_BYTES_MAX);
        if now >= self.probe_at {
            self.is_probing = true;
            self.burst = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetches over a link that takes `latency` one way and carries `rate` bytes a second. Gives the bytes
    /// a second that arrived in the end, and how long something else would have waited at the worst.
    fn run(latency: Duration, rate: u64) -> (f64, Duration) {
        let mut window = Window::new();
        let mut now = Duration::ZERO;
        let mut free_at = Duration::ZERO;
        let mut under_way = std::collections::VecDeque::new();
        let mut worst = Duration::ZERO;
        let mut late_bytes = 0;
        let half = Duration::from_secs(20);
        while now < 2 * half {
            loop {
                let bytes = GROUP_BYTES << window.level();
                if !window.has_room(bytes) {
                    break;
                }
                let asked = window.ask(now, bytes);
                let start = free_at.max(now + latency);
                if now > half {
                    worst = worst.max(start.saturating_sub(now + latency));
                }
                free_at = start + Duration::from_nanos(bytes * 1_000_000_000 / rate);
                under_way.push_back((free_at + latency, asked));
            }
            let (at, asked) = under_way
                .pop_front()
                .expect("something is always asked for");
            now = at;
            window.arrived(now, asked);
            if now > half {
                late_bytes += asked.bytes;
            }
        }
        (late_bytes as f64 / half.as_secs_f64(), worst)
    }

    #[test]
    fn a_link_is_filled_and_does_not_fill_up() {
        for (latency_ms, rate) in [
            (0, 200_000_000),
            (2, 10_000_000),
            (20, 1_000_000),
            (100, 5_000_000),
        ] {
            let (reached, worst) = run(Duration::from_millis(latency_ms), rate);
            let share = reached / rate as f64;
            assert!(share > 0.75, "{latency_ms} {rate}: {share}");
            let bound = if latency_ms < 100 {
                2 * QUEUED
            } else {
                4 * QUEUED
            };
            assert!(worst <= bound, "{latency_ms} {rate}: {worst:?}");
        }
        // Where a single group takes longer than that, one at a time is under way, now and then two.
        let (reached, worst) = run(Duration::from_millis(20), 12_500);
        assert!(reached > 0.8 * 12_500.0, "{reached}");
        assert!(worst <= Duration::from_millis(2_700), "{worst:?}");
    }
}

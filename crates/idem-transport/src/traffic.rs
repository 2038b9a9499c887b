//! What went over a link, and how long a word takes there and back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::lanes::LaneQueue;

/// A question is put no sooner than so long after the last one.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// A question that was not answered for so long is put again.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Bytes in both directions.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Bytes {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The way of a word there and back.
#[derive(Debug, Default)]
pub(crate) struct RoundTrip {
    is_due: bool,
    asked_at: Option<Instant>,
    is_open: bool,
    last: Option<Duration>,
}

impl RoundTrip {
    /// Has it measured anew, unless that is under way or was done just now. Gives whether a question is due.
    fn measure(&mut self) -> bool {
        let pause = if self.is_open {
            ANSWER_MAX
        } else {
            ASK_INTERVAL
        };
        let is_early = self.asked_at.is_some_and(|at| at.elapsed() < pause);
        self.is_due |= !is_early;
        self.is_due
    }

    /// Whether the other side is to be asked, once.
    pub(crate) fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }

    /// The other side is asked now, for whatever reason.
    pub(crate) fn asked(&mut self) {
        self.is_due = false;
        self.is_open = true;
        self.asked_at = Some(Instant::now());
    }

    /// A sign of life came. One that was not asked for may be taken for the answer: it is said after ten
    /// seconds without anything else, so that is rare, and then too short a time is shown until the next
    /// measurement.
    pub(crate) fn answered(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.last = self.asked_at.map(|at| at.elapsed());
        }
    }
}

/// What went over a link so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes that were handed to the stream, encrypted, without the handshake and what is below the stream.
    pub sent_bytes: u64,
    /// Bytes that came from the stream, counted alike.
    pub received_bytes: u64,
    /// Bytes of frames that wait to be sent.
    pub queued_bytes: u64,
    /// How long a word took there and back when that was measured last, what is queued in the systems of
    /// both sides included.
    pub round_trip: Option<Duration>,
}

/// Looks at a link without keeping it open.
#[derive(Debug, Clone)]
pub struct LinkProbe {
    queue: Arc<LaneQueue>,
}

impl LinkProbe {
    pub(crate) fn new(queue: Arc<LaneQueue>) -> Self {
        Self { queue }
    }

    /// What went over the link so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            sent_bytes: self.queue.bytes.sent.load(Ordering::Relaxed),
            received_bytes: self.queue.bytes.received.load(Ordering::Relaxed),
            queued_bytes: self.queue.queued_bytes() as u64,
            round_trip: self.queue.round_trip(|trip| trip.last),
        }
    }

    /// Measures the round trip, which [`traffic`](Self::traffic) shows once the answer is there. It costs
    /// some 20 bytes both ways, and is done once a second at most, however often it is asked for.
    pub fn measure(&self) {
        if self.queue.round_trip(RoundTrip::measure) {
            self.queue.work.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_put_once_a_second_and_again_when_it_is_lost() {
        let mut trip = RoundTrip::default();
        assert!(trip.measure() && trip.take_due());
        trip.asked();
        assert!(!trip.measure(), "one is under way");
        tokio::time::advance(Duration::from_millis(300)).await;
        trip.answered();
        assert_eq!(trip.last, Some(Duration::from_millis(300)));
        assert!(!trip.measure(), "it was just done");
        trip.answered();
        assert_eq!(trip.last, Some(Duration::from_millis(300)), "nobody asked");
        tokio::time::advance(ASK_INTERVAL).await;
        assert!(trip.measure() && trip.take_due());
        trip.asked();
        tokio::time::advance(ANSWER_MAX).await;
        assert!(trip.measure(), "the answer is lost");
    }
}

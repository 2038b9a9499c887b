//! What crosses a link in each direction, counted, so that another link can go on exactly there.
//!
//! Frames of one lane arrive in order, so the number of bytes received on a lane says which frames
//! arrived. A session with several links keeps what the remote has not confirmed. When it moves to
//! another link, both sides say how far they are, and each sends the rest again: every frame is taken in
//! once, in the order of its lane, whatever link it came by. What both sides know of each other stays.

use std::{collections::VecDeque, time::Duration};

use idem_model::{Lane, limits};
use idem_wire::Message;

use crate::{event::CloseReason, failure::Failure};

/// The lanes of a session.
pub(crate) const LANES: [Lane; 3] = [Lane::Control, Lane::Interactive, Lane::Bulk];

/// Frames on the control lane are confirmed after this time, or sooner if they are many.
const CONFIRM_DELAY: Duration = Duration::from_secs(1);

/// Bytes of frames on the control lane that are confirmed at once.
const CONFIRM_BYTES: u64 = 16 * 1024;

/// Both directions of a session, since its last HELLOs.
#[derive(Debug, Default)]
pub(crate) struct Carriage {
    lanes: [Sent; 3],
    received: [u64; 3],
    /// Bytes on the control lane that the remote knows to have arrived. Those of the others it learns
    /// from its credit.
    confirmed: u64,
    confirm_at: Option<Duration>,
    /// That time has come, or they are many. It waits as long as the link takes no frames, without a timer.
    is_confirmation_due: bool,
    /// Whether another link could go on, so that frames are kept.
    is_keeping: bool,
}

/// What was sent on one lane.
#[derive(Debug, Default)]
struct Sent {
    bytes: u64,
    /// So many of them certainly arrived.
    confirmed: u64,
    /// The frames behind this many bytes are all kept.
    kept_from: u64,
    kept: VecDeque<Vec<u8>>,
    /// How many of these have left on the link in use.
    left: usize,
}

/// The place of a lane among [`LANES`].
pub(crate) fn place(lane: Lane) -> Option<usize> {
    LANES.iter().position(|it| *it == lane)
}

/// The lane of a frame that counts. The others stand outside of what goes on over several links.
pub(crate) fn counted_lane(message: &Message<'_>) -> Option<Lane> {
    match message {
        Message::Hello(_)
        | Message::Bye { .. }
        | Message::Move(_)
        | Message::Lost { .. }
        | Message::Extension { .. }
        | Message::Ack {
            lane: Lane::Control,
            ..
        } => None,
        Message::Have { lane, .. } | Message::Floor { lane, .. } => Some(*lane),
        Message::Transfer(it) => Some(it.lane),
        Message::Items(it) => Some(it.lane),
        Message::Compared(it) => Some(it.lane),
        Message::Checked(it) => Some(it.lane),
        _ => Some(Lane::Control),
    }
}

impl Carriage {
    /// Another link could go on from now on, or none could.
    pub(crate) fn keep(&mut self, now: Duration, is_keeping: bool) {
        self.is_keeping = is_keeping;
        if is_keeping {
            self.note_unconfirmed(now);
        } else {
            self.forget_confirmation();
        }
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.confirm_at.take_if(|at| *at <= now).is_some() {
            self.is_confirmation_due = true;
        }
    }

    fn forget_confirmation(&mut self) {
        self.confirm_at = None;
        self.is_confirmation_due = false;
    }

    /// A frame of this length was taken in.
    pub(crate) fn receive(&mut self, now: Duration, lane: usize, bytes: usize) {
        self.received[lane] += bytes as u64;
        if lane == 0 && self.is_keeping {
            self.note_unconfirmed(now);
        }
    }

    fn note_unconfirmed(&mut self, now: Duration) {
        let bytes = self.received[0] - self.confirmed;
        if bytes >= CONFIRM_BYTES {
            self.confirm_at = None;
            self.is_confirmation_due = true;
        } else if bytes > 0 && self.confirm_at.is_none() && !self.is_confirmation_due {
            self.confirm_at = Some(now + CONFIRM_DELAY);
        }
    }

    /// Bytes received on each lane.
    pub(crate) fn received(&self) -> [u64; 3] {
        self.received
    }

    /// A frame leaves for the first time.
    pub(crate) fn send(&mut self, lane: Lane, frame: &[u8]) {
        let sent = &mut self.lanes[place(lane).expect("sessions use the first three lanes")];
        sent.bytes += frame.len() as u64;
        if self.is_keeping {
            sent.kept.push_back(frame.to_vec());
            sent.left += 1;
            // The other lanes have their credit. Nothing can go on then before the remote confirms more.
            if sent.bytes - sent.kept_from > u64::from(limits::LANE_CREDIT_BYTES) {
                sent.thin();
            }
        } else {
            assert!(sent.kept.is_empty(), "what was kept has left");
            sent.kept_from = sent.bytes;
        }
    }

    /// The next frame that left on an earlier link and has to leave again; to be asked for before a frame
    /// leaves for the first time.
    pub(crate) fn poll_again(&mut self) -> Option<(Lane, Vec<u8>)> {
        // Not before a link is in use: of two that were there, the last one may be what goes on.
        if !self.is_keeping {
            self.lanes.iter_mut().for_each(Sent::thin);
        }
        for (lane, sent) in LANES.into_iter().zip(&mut self.lanes) {
            if let Some(frame) = sent.kept.get(sent.left).cloned() {
                sent.left += 1;
                return Some((lane, frame));
            }
        }
        None
    }

    /// The confirmation that is due.
    pub(crate) fn poll_confirmation(&mut self, now: Duration) -> Option<Message<'static>> {
        self.handle_timeout(now);
        if !std::mem::take(&mut self.is_confirmation_due) {
            return None;
        }
        self.confirmed = self.received[0];
        Some(Message::Ack {
            lane: Lane::Control,
            consumed_bytes: self.confirmed,
            batches: 0,
        })
    }

    /// When one will be.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.confirm_at
    }

    /// The remote has processed so many bytes of a lane that carries documents, the first being 0, as
    /// was checked.
    pub(crate) fn confirm_data(&mut self, lane: usize, bytes: u64) {
        self.lanes[1 + lane].confirm(bytes);
    }

    /// The remote confirms frames of the control lane.
    pub(crate) fn confirm_control(&mut self, bytes: u64, batches: u64) -> Result<(), Failure> {
        let sent = &mut self.lanes[0];
        // A remote that confirms nothing would cost for nothing.
        if bytes <= sent.confirmed || bytes > sent.bytes || batches > 0 {
            let detail = "confirmation of what was not sent";
            return Err(Failure::new(CloseReason::Malformed, detail));
        }
        sent.confirm(bytes);
        Ok(())
    }

    /// Goes on over another link, behind what the remote has received. Gives whether all that must be
    /// sent again was kept; if not, nothing can go on.
    pub(crate) fn go_on(&mut self, received: [u64; 3]) -> Result<bool, Failure> {
        let mut is_kept = true;
        for (sent, bytes) in self.lanes.iter().zip(received) {
            if bytes > sent.bytes || bytes < sent.confirmed {
                let detail = "a number of bytes received that cannot be";
                return Err(Failure::new(CloseReason::Malformed, detail));
            }
            if bytes < sent.kept_from {
                is_kept = false;
            } else if !sent.is_boundary(bytes) {
                let detail = "a part of a frame received";
                return Err(Failure::new(CloseReason::Malformed, detail));
            }
        }
        if is_kept {
            for (sent, bytes) in self.lanes.iter_mut().zip(received) {
                sent.confirm(bytes);
                sent.left = 0;
            }
            // It was told in the same message.
            self.confirmed = self.received[0];
            self.forget_confirmation();
        }
        Ok(is_kept)
    }

    /// Whether the remote certainly has everything that was not kept.
    pub(crate) fn is_covered(&self) -> bool {
        self.lanes.iter().all(|it| it.confirmed >= it.kept_from)
    }

    /// The longest frame that may have to be sent again.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        let frames = self.lanes.iter().flat_map(|it| &it.kept);
        frames.map(Vec::len).max().unwrap_or(0)
    }

    /// Bytes that are kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        let frames = self.lanes.iter().flat_map(|it| &it.kept);
        frames.map(Vec::len).sum()
    }
}

impl Sent {
    fn confirm(&mut self, bytes: u64) {
        self.confirmed = self.confirmed.max(bytes);
        while let Some(frame) = self.kept.front()
            && self.kept_from + frame.len() as u64 <= self.confirmed
        {
            self.forget_first();
        }
    }

    /// Forgets what has left, where nothing could go on with it.
    fn thin(&mut self) {
        while self.left > 0 {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let frame = self.kept.pop_front().expect("the caller looked");
        self.kept_from += frame.len() as u64;
        self.left = self.left.saturating_sub(1);
    }

    fn is_boundary(&self, bytes: u64) -> bool {
        let mut at = self.kept_from;
        for frame in &self.kept {
            if at >= bytes {
                break;
            }
            at += frame.len() as u64;
        }
        at == bytes
    }
}

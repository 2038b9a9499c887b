//! The sending end of one lane: batches, the frames cut from them, and credit.

use std::{collections::VecDeque, time::Duration};

use idem_model::{Lane, limits};
use idem_wire::{Message, Transfer};

use crate::{compression::Compressor, known::KeyHash};

/// Bytes of a frame besides the payload of a transfer: number, lane, flags, decompressed length.
const TRANSFER_HEADER_BYTES: usize = 8;

/// After so long without a piece, what can be made again is given back.
pub(crate) const REST_AFTER: Duration = Duration::from_millis(limits::LANE_REST_MS);

/// Over about so many bytes it is counted how far pieces shrink.
const PIECES_BYTES_MAX: u32 = 16 * 1024;

/// The sending end of one lane.
#[derive(Debug)]
pub(crate) struct Outlet {
    lane: Lane,
    credit_bytes: u64,
    piece_bytes_max: usize,
    sent_bytes: u64,
    acknowledged_bytes: u64,
    /// Frames sent that no acknowledgement came for: each confirms at least one.
    unconfirmed: u64,
    /// Frames that are ready and are not transfers.
    announcements: VecDeque<Announcement>,
    /// Batches that are not sent to the end, the first one from `position` on.
    batches: VecDeque<Vec<u8>>,
    position: usize,
    round: u8,
    compressor: Compressor,
    /// Bytes of the latest pieces, and of what was sent for them.
    pieces: (u32, u32),
    /// When the latest piece left, unless the compressor rests since.
    piece_at: Option<Duration>,
    batches_made: u64,
    batches_acknowledged: u64,
    /// What is in the batches that are not acknowledged.
    under_way: VecDeque<(u64, Vec<KeyHash>)>,
    /// When the lane last had nothing under way, or something was acknowledged.
    progress_at: Duration,
}

/// A frame that is no transfer.
#[derive(Debug)]
struct Announcement {
    frame: Vec<u8>,
    /// It is of no meaning in the next round.
    is_of_round: bool,
}

/// An acknowledgement that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FalseAck;

impl Outlet {
    pub(crate) fn new(lane: Lane, credit_bytes: u32, frame_bytes_max: u32) -> Self {
        Self {
            lane,
            credit_bytes: u64::from(credit_bytes),
            piece_bytes_max: (frame_bytes_max as usize).saturating_sub(TRANSFER_HEADER_BYTES),
            sent_bytes: 0,
            acknowledged_bytes: 0,
            unconfirmed: 0,
            announcements: VecDeque::new(),
            batches: VecDeque::new(),
            position: 0,
            round: 0,
            compressor: Compressor::default(),
            pieces: (0, 0),
            piece_at: None,
            batches_made: 0,
            batches_acknowledged: 0,
            under_way: VecDeque::new(),
            progress_at: Duration::ZERO,
        }
    }

    /// Frames are no longer than this from now on, but for those that are ready.
    pub(crate) fn limit_frames(&mut self, frame_bytes_max: u32) {
        self.piece_bytes_max = (frame_bytes_max as usize).saturating_sub(TRANSFER_HEADER_BYTES);
    }

    /// Whether everything that was queued has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.announcements.is_empty() && self.batches.is_empty()
    }

    /// Bytes that wait here to be sent.
    pub(crate) fn queued_bytes(&self) -> usize {
        let announcements = self.announcements.iter().map(|it| it.frame.len());
        let batches = self.batches.iter().map(Vec::len);
        announcements.chain(batches).sum()
    }

    /// Whether there is credit worth reading documents for.
    pub(crate) fn has_credit(&self) -> bool {
        self.credit() >= limits::PIECE_BYTES_MIN + TRANSFER_HEADER_BYTES
    }

    /// How many batches were queued so far.
    pub(crate) fn batches_made(&self) -> u64 {
        self.batches_made
    }

    /// How many batches the remote has applied.
    pub(crate) fn batches_acknowledged(&self) -> u64 {
        self.batches_acknowledged
    }

    /// The number that the next batch will have.
    pub(crate) fn next_batch(&self) -> u64 {
        self.batches_made + 1
    }

    /// How many bytes a piece of this length is likely to take, going by the latest.
    pub(crate) fn shrunk(&self, bytes: usize) -> usize {
        let (whole, sent) = self.pieces;
        let shrunk = (bytes as u64 * u64::from(sent)).checked_div(u64::from(whole));
        shrunk.map_or(bytes, |it| usize::try_from(it).unwrap_or(usize::MAX))
    }

    /// Queues a batch that holds the given documents.
    pub(crate) fn push_batch(&mut self, body: Vec<u8>, documents: Vec<KeyHash>) {
        assert!(!body.is_empty(), "a batch holds something");
        self.batches_made += 1;
        self.batches.push_back(body);
        self.under_way.push_back((self.batches_made, documents));
    }

    /// The receiver wants none of what is queued or under way; what follows belongs to the next
    /// round.
    pub(crate) fn restart(&mut self) {
        self.announcements.retain(|it| !it.is_of_round);
        // Only batches that left to the last piece are counted by the receiver.
        self.batches_made -= self.batches.len() as u64;
        self.batches.clear();
        self.position = 0;
        let made = self.batches_made;
        self.under_way.retain(|(batch, _)| *batch <= made);
        for (_, documents) in &mut self.under_way {
            documents.clear();
        }
        self.round += 1;
        self.compressor.forget();
    }

    /// Queues a frame that is no transfer and that the remote must get, whatever it wants.
    pub(crate) fn push_announcement(&mut self, frame: Vec<u8>) {
        self.announcements.push_back(Announcement {
            frame,
            is_of_round: false,
        });
    }

    /// Queues a frame that belongs to the transfers of this round.
    pub(crate) fn push_announcement_of_round(&mut self, frame: Vec<u8>) {
        self.announcements.push_back(Announcement {
            frame,
            is_of_round: true,
        });
    }

    /// The next frame, if there is one and the credit reaches.
    pub(crate) fn poll_frame(&mut self, now: Duration) -> Option<Vec<u8>> {
        let frame = self.next_announcement().or_else(|| self.next_piece(now))?;
        if self.sent_bytes == self.acknowledged_bytes {
            self.progress_at = now;
        }
        self.sent_bytes += frame.len() as u64;
        self.unconfirmed += 1;
        Some(frame)
    }

    /// Takes an acknowledgement in and returns the documents that were delivered, by batch.
    pub(crate) fn acknowledge(
        &mut self,
        now: Duration,
        consumed_bytes: u64,
        batches: u64,
    ) -> Result<Vec<(u64, Vec<KeyHash>)>, FalseAck> {
        // A remote that confirms nothing must not look alive.
        let rising =
            consumed_bytes > self.acknowledged_bytes && batches >= self.batches_acknowledged;
        let sent = self.batches_made - self.batches.len() as u64;
        let is_due = self.unconfirmed > 0;
        if !rising || !is_due || consumed_bytes > self.sent_bytes || batches > sent {
            return Err(FalseAck);
        }
        self.progress_at = now;
        self.unconfirmed -= 1;
        if consumed_bytes == self.sent_bytes {
            self.unconfirmed = 0;
        }
        self.acknowledged_bytes = consumed_bytes;
        self.batches_acknowledged = batches;
        let mut delivered = Vec::new();
        while let Some((number, _)) = self.under_way.front()
            && *number <= batches
        {
            delivered.extend(self.under_way.pop_front());
        }
        Ok(delivered)
    }

    /// What is in a batch that left to its end and is not acknowledged; `None` if there is none. After a
    /// restart that is nothing.
    pub(crate) fn sent(&self, batch: u64) -> Option<&[KeyHash]> {
        let sent = self.batches_made - self.batches.len() as u64;
        let mut under_way = self.under_way.iter();
        let found = under_way.find(|(number, _)| *number == batch && batch <= sent);
        found.map(|(_, documents)| &**documents)
    }

    /// Since when the remote owes an acknowledgement.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        (self.sent_bytes > self.acknowledged_bytes).then_some(self.progress_at)
    }

    /// When the lane has been silent for so long that it holds no more than it must.
    pub(crate) fn rests_at(&self) -> Option<Duration> {
        self.piece_at.map(|at| at + REST_AFTER)
    }

    /// Gives back memory if it is time.
    pub(crate) fn rest(&mut self, now: Duration) {
        if self.rests_at().is_some_and(|at| at <= now) {
            self.piece_at = None;
            self.compressor.rest();
            self.announcements.shrink_to_fit();
            self.batches.shrink_to_fit();
            self.under_way.shrink_to_fit();
        }
    }

    fn credit(&self) -> usize {
        let in_flight = self.sent_bytes - self.acknowledged_bytes;
        usize::try_from(self.credit_bytes.saturating_sub(in_flight)).unwrap_or(usize::MAX)
    }

    fn next_announcement(&mut self) -> Option<Vec<u8>> {
        let fits = self.announcements.front()?.frame.len() <= self.credit();
        let next = self.announcements.pop_front_if(|_| fits)?;
        Some(next.frame)
    }

    fn next_piece(&mut self, now: Duration) -> Option<Vec<u8>> {
        let room = self.credit().saturating_sub(TRANSFER_HEADER_BYTES);
        let body = self.batches.front()?;
        let rest = &body[self.position..];
        let len = rest.len().min(self.piece_bytes_max).min(room);
        if len < rest.len().min(limits::PIECE_BYTES_MIN) {
            return None;
        }
        let more = len < rest.len();
        let piece = &rest[..len];
        let block = self.compressor.compress(piece);
        self.piece_at = Some(now);
        let sent = block.as_ref().map_or(len, Vec::len);
        let count = |bytes| u32::try_from(bytes).expect("a piece is smaller than a frame");
        self.pieces = (self.pieces.0 + count(len), self.pieces.1 + count(sent));
        if self.pieces.0 > PIECES_BYTES_MAX {
            self.pieces = (self.pieces.0 / 2, self.pieces.1 / 2);
        }
        let raw_bytes = block
            .is_some()
            .then(|| u32::try_from(len).expect("a piece is smaller than a frame"));
        let frame = Message::Transfer(Transfer {
            lane: self.lane,
            more,
            round: self.round,
            raw_bytes,
            payload: block.as_deref().unwrap_or(piece),
        })
        .to_bytes();
        if more {
            self.position += len;
        } else {
            self.batches.pop_front();
            self.position = 0;
        }
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_to_the_round_survives_its_end() {
        let mut outlet = Outlet::new(Lane::Bulk, 100_000, 20_000);
        outlet.push_announcement_of_round(vec![1]);
        outlet.push_announcement(vec![2]);
        outlet.push_announcement_of_round(vec![3]);
        outlet.push_batch(vec![4; 10], Vec::new());
        outlet.restart();
        assert_eq!(outlet.queued_bytes(), 1);
        assert_eq!(outlet.poll_frame(Duration::ZERO), Some(vec![2]));
        assert_eq!(outlet.poll_frame(Duration::ZERO), None);
        assert!(outlet.is_empty());
    }
}

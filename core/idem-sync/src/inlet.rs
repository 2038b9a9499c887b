//! The receiving end of one lane: pieces become batches, and what was applied becomes credit.

use std::{collections::VecDeque, num::NonZeroU64, time::Duration};

use idem_model::{Lane, limits};
use idem_wire::{Message, Transfer};

use crate::{
    compression::{BrokenBlock, Decompressor},
    outlet::REST_AFTER,
};

/// Room in a batch for keys and headers beside the documents of the largest group.
const BATCH_OVERHEAD_BYTES: usize = 1024 * 1024;

/// The receiving end of one lane.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    received_bytes: u64,
    consumed_bytes: u64,
    batches: u64,
    acknowledged: (u64, u64),
    round: u8,
    decompressor: Decompressor,
    /// The batch under way.
    buffer: Vec<u8>,
    /// When its latest piece came.
    piece_at: Duration,
    is_resting: bool,
    /// Batches that are not acknowledged, in order.
    unsettled: VecDeque<Unsettled>,
    /// The first batch of which something that was announced is not held.
    open_from: Option<NonZeroU64>,
    /// Whether an acknowledgement that is due goes at once.
    is_urgent: bool,
    /// When one goes that nobody waits for.
    ack_at: Option<Duration>,
}

/// A batch that was taken in.
#[derive(Debug)]
struct Unsettled {
    /// It is acknowledged when this is durable.
    commit: u64,
    bytes: u64,
    /// Whether nobody waits for that.
    is_hearsay: bool,
}

/// The acknowledgement of what only announced waits so long for others to go with.
const HEARSAY_DELAY: Duration = Duration::from_millis(100);

/// But not for more bytes than this.
const HEARSAY_BYTES_MAX: u64 = 64 * 1024;

/// Why a frame cannot be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InletError {
    /// More bytes than the credit given.
    OverCredit,
    /// A batch over the limit.
    BatchTooLarge,
    /// A piece that is neither the last nor of the least size.
    SmallPiece,
    /// The compressed payload is not what it claims.
    Compression,
}

impl From<BrokenBlock> for InletError {
    fn from(_: BrokenBlock) -> Self {
        Self::Compression
    }
}

impl Inlet {
    /// Bytes of the batch under way.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Since when the rest of a large batch is missing.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        (self.buffer.len() > limits::BATCH_BYTES_RESTING_MAX).then_some(self.piece_at)
    }

    /// When the lane has been silent for so long that it holds no more than it must.
    pub(crate) fn rests_at(&self) -> Option<Duration> {
        let is_used = self.piece_at > Duration::ZERO && !self.is_resting;
        is_used.then_some(self.piece_at + REST_AFTER)
    }

    /// Gives back memory if it is time.
    fn rest(&mut self, now: Duration) {
        if self.rests_at().is_some_and(|at| at <= now) {
            self.is_resting = true;
            self.decompressor.rest();
            self.buffer.shrink_to_fit();
            self.unsettled.shrink_to_fit();
        }
    }

    /// Counts a frame of this lane.
    pub(crate) fn receive(&mut self, bytes: usize) -> Result<(), InletError> {
        self.received_bytes += bytes as u64;
        let in_flight = self.received_bytes - self.acknowledged.0;
        if in_flight > u64::from(limits::LANE_CREDIT_BYTES) {
            return Err(InletError::OverCredit);
        }
        Ok(())
    }

    /// Takes a piece in. Returns the batch if this was its last piece; then the frame's bytes are to
    /// be settled with [`Inlet::settle`] once it is applied.
    pub(crate) fn take(
        &mut self,
        now: Duration,
        frame_bytes: usize,
        transfer: &Transfer<'_>,
    ) -> Result<Option<Vec<u8>>, InletError> {
        if transfer.round != self.round {
            // Sent before the sender knew that it is to start again.
            if transfer.more {
                self.consume(frame_bytes);
            } else {
                self.settle(frame_bytes, 0, false);
            }
            return Ok(None);
        }
        let len = match transfer.raw_bytes {
            None => transfer.payload.len(),
            Some(bytes) => bytes as usize,
        };
        if transfer.more && len < limits::PIECE_BYTES_MIN {
            return Err(InletError::SmallPiece);
        }
        if self.buffer.len() + len > limits::TX_GROUP_BYTES_MAX + BATCH_OVERHEAD_BYTES {
            return Err(InletError::BatchTooLarge);
        }
        self.piece_at = now;
        self.is_resting = false;
        match transfer.raw_bytes {
            None => {
                self.buffer.extend_from_slice(transfer.payload);
                self.decompressor.keep(transfer.payload);
            }
            Some(_) => {
                let (block, out) = (transfer.payload, &mut self.buffer);
                self.decompressor.decompress(block, len, out)?;
            }
        }
        if transfer.more {
            // A batch may be larger than the credit, so its first pieces give credit as soon as they
            // are buffered; the buffer has its own bound.
            self.consume(frame_bytes);
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.buffer)))
    }

    /// Takes no more of what was sent so far.
    pub(crate) fn restart(&mut self) {
        self.buffer = Vec::new();
        self.round += 1;
        self.decompressor.forget();
        self.open_from = None;
    }

    /// The frame needs nothing more.
    pub(crate) fn consume(&mut self, frame_bytes: usize) {
        self.consumed_bytes += frame_bytes as u64;
        self.is_urgent = true;
    }

    /// The number of the batch that is settled next.
    pub(crate) fn next_batch(&self) -> u64 {
        self.batches + self.unsettled.len() as u64 + 1
    }

    /// The batch that ended with a frame of this length is safe once `commit` is durable. Nobody waits to
    /// hear it of one that only announced something.
    pub(crate) fn settle(&mut self, frame_bytes: usize, commit: u64, is_hearsay: bool) {
        self.unsettled.push_back(Unsettled {
            commit,
            bytes: frame_bytes as u64,
            is_hearsay,
        });
    }

    /// All that was announced before the batch `open_from`, or at all, is held once `commit` is durable.
    pub(crate) fn hold_from(&mut self, open_from: Option<u64>, commit: u64) {
        // Batches count from 1.
        let open_from = open_from.and_then(NonZeroU64::new);
        if self.open_from == open_from {
            return;
        }
        let numbers = self.batches + 1..;
        for (number, batch) in numbers.zip(&mut self.unsettled) {
            let was_open = self.open_from.is_some_and(|from| from.get() <= number);
            if was_open && open_from.is_none_or(|from| number < from.get()) {
                batch.commit = batch.commit.max(commit);
            }
        }
        self.open_from = open_from;
    }

    /// The acknowledgement that is due, if there is one.
    pub(crate) fn poll_ack(
        &mut self,
        now: Duration,
        lane: Lane,
        durable: u64,
    ) -> Option<Message<'static>> {
        while let Some(batch) = self.unsettled.front()
            && batch.commit <= durable
            && self
                .open_from
                .is_none_or(|from| self.batches + 1 < from.get())
        {
            self.batches += 1;
            self.consumed_bytes += batch.bytes;
            self.is_urgent |= !batch.is_hearsay;
            self.unsettled.pop_front();
        }
        let due = (self.consumed_bytes, self.batches);
        if due == self.acknowledged {
            return None;
        }
        let is_much = self.consumed_bytes - self.acknowledged.0 > HEARSAY_BYTES_MAX;
        if !self.is_urgent && !is_much {
            self.ack_at.get_or_insert(now + HEARSAY_DELAY);
            return None;
        }
        self.is_urgent = false;
        self.ack_at = None;
        self.acknowledged = due;
        Some(Message::Ack {
            lane,
            consumed_bytes: due.0,
            batches: due.1,
        })
    }

    /// When an acknowledgement is to go that nobody waits for.
    pub(crate) fn ack_at(&self) -> Option<Duration> {
        self.ack_at
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.is_urgent |= self.ack_at.take_if(|at| *at <= now).is_some();
        self.rest(now);
    }
}

//! Control frames that wait to be sent.

use std::collections::VecDeque;

use idem_model::limits;

use crate::{event::CloseReason, failure::Failure};

/// Control frames that wait to be sent. Our own requests are bounded by what this peer subscribes to;
/// answers are not, so that a remote which asks without reading is cut off.
#[derive(Debug, Default)]
pub(crate) struct ControlQueue {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl ControlQueue {
    /// Queues a request or acknowledgement of our own.
    pub(crate) fn push(&mut self, frame: Vec<u8>) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Queues an answer.
    pub(crate) fn answer(&mut self, frame: Vec<u8>) -> Result<(), Failure> {
        let is_full = self.frames.len() >= limits::CONTROL_FRAMES_QUEUED_MAX
            || self.bytes + frame.len() > limits::CONTROL_BYTES_QUEUED_MAX;
        if is_full {
            let detail = "too many requests without reading the answers";
            return Err(Failure::new(CloseReason::Limit, detail));
        }
        self.push(frame);
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// The length of the longest frame.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.frames.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Bytes of all frames.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

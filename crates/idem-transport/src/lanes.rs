//! The send queue of a link: four bounded lanes, the most urgent first.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use idem_model::{Lane, limits};
use tokio::{sync::Notify, time::Instant};

use crate::{
    error::TrySendError,
    frame::Chunk,
    silence::Silence,
    traffic::{Bytes, RoundTrip},
};

/// Below this share of its bound, a lane that was full counts as having room again. A half lets the
/// writer work while the owner of the frames wakes up.
const ROOM_SHARE: usize = 2;

type RoomHook = Box<dyn Fn() + Send + Sync>;

/// Frames waiting to be sent.
pub(crate) struct LaneQueue {
    state: Mutex<State>,
    /// Something to write, or a change of phase.
    pub(crate) work: Notify,
    room: Notify,
    /// There is another time at which to look whether the other side is silent.
    pub(crate) watched: Notify,
    pub(crate) bytes: Bytes,
}

struct State {
    silence: Silence,
    round_trip: RoundTrip,
    lanes: [LaneState; 4],
    phase: Phase,
    /// Lanes that were found full by somebody who waits for room.
    waited_for: [bool; 4],
    room_hook: Option<RoomHook>,
}

#[derive(Default)]
struct LaneState {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Bytes of the first frame that left already.
    sent: usize,
}

/// How far the link is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// What is queued still goes out, then a goodbye.
    Draining,
    /// Nothing goes out any more.
    Closed,
}

impl LaneQueue {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lanes: Default::default(),
                phase: Phase::Open,
                waited_for: [false; 4],
                room_hook: None,
                silence: Silence::default(),
                round_trip: RoundTrip::default(),
            }),
            work: Notify::new(),
            room: Notify::new(),
            watched: Notify::new(),
            bytes: Bytes::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_room_hook(&self, hook: RoomHook) {
        self.lock().room_hook = Some(hook);
    }

    /// Queues a frame. The caller sees to it that it is written: by itself, or by waking the writer
    /// with `work`.
    pub(crate) fn try_push(&self, lane: Lane, frame: Vec<u8>) -> Result<(), TrySendError> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Err(TrySendError::Closed);
        }
        let queue = &mut state.lanes[at(lane)];
        // A lane takes any frame while it is empty, so a frame larger than the bound still passes.
        if !queue.frames.is_empty()
            && (queue.bytes + frame.len() > limits::LINK_LANE_QUEUE_BYTES_MAX
                || queue.frames.len() >= limits::LINK_LANE_QUEUE_FRAMES_MAX)
        {
            state.waited_for[at(lane)] = true;
            return Err(TrySendError::Full(frame));
        }
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        if state.silence.sent() {
            self.watched.notify_one();
        }
        Ok(())
    }

    /// See [`Silence::watch`].
    pub(crate) fn watch(&self, limit: Option<Duration>) {
        self.lock().silence.watch(limit);
        self.watched.notify_one();
    }

    /// Something came.
    pub(crate) fn heard(&self) {
        self.lock().silence.heard();
    }

    /// When to look again whether the other side is silent.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.lock().silence.look_at()
    }

    /// Gives whether it was silent for too long; on the way there it is asked for a sign of life.
    pub(crate) fn is_silent(&self) -> bool {
        let is_silent = self.lock().silence.look();
        self.work.notify_one();
        is_silent
    }

    /// The other side asks for a sign of life.
    pub(crate) fn asked(&self) {
        self.lock().silence.asked();
        self.work.notify_one();
    }

    /// What is to be said of life.
    pub(crate) fn word(&self) -> Option<Chunk<'static>> {
        let state = &mut *self.lock();
        let word = state.silence.word();
        let word = word.or_else(|| state.round_trip.take_due().then_some(Chunk::Question));
        if word == Some(Chunk::Question) {
            state.round_trip.asked();
        }
        word
    }

    /// The other side gave a sign of life.
    pub(crate) fn answered(&self) {
        self.lock().round_trip.answered();
    }

    pub(crate) fn round_trip<T>(&self, look: impl FnOnce(&mut RoundTrip) -> T) -> T {
        look(&mut self.lock().round_trip)
    }

    pub(crate) async fn push(&self, lane: Lane, mut frame: Vec<u8>) -> Result<(), TrySendError> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Registered before the attempt, so that room made in between is not missed.
            room.as_mut().enable();
            match self.try_push(lane, frame) {
                Err(TrySendError::Full(back)) => frame = back,
                done => {
                    self.work.notify_one();
                    return done;
                }
            }
            room.await;
        }
    }

    /// Keeps no memory for what was queued.
    pub(crate) fn rest(&self) {
        for lane in &mut self.lock().lanes {
            lane.frames.shrink_to_fit();
        }
    }

    /// Whether `lane` has less queued than a fresh frame would have to wait for.
    pub(crate) fn has_room(&self, lane: Lane) -> bool {
        let mut state = self.lock();
        let has_room = state.lanes[at(lane)].has_room();
        if !has_room {
            state.waited_for[at(lane)] = true;
        }
        has_room
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().lanes.iter().map(|lane| lane.bytes).sum()
    }

    /// Appends chunks to `plain` until it has `bytes_max`, or nothing is queued.
    pub(crate) fn fill_record(&self, plain: &mut Vec<u8>, bytes_max: usize) {
        let mut state = self.lock();
        // Who waits for one lane does not wait for another, which may be kept full for long.
        let mut relieved = false;
        for lane in Lane::ALL {
            state.lanes[at(lane)].fill(lane, plain, bytes_max);
            if state.waited_for[at(lane)] && state.lanes[at(lane)].has_room() {
                state.waited_for[at(lane)] = false;
                relieved = true;
            }
        }
        if relieved {
            if let Some(hook) = &state.room_hook {
                hook();
            }
            drop(state);
            self.room.notify_waiters();
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Lets what is queued go out, then ends.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.work.notify_one();
        self.room.notify_waiters();
    }

    /// Ends now; what is queued is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.lanes = Default::default();
        state.room_hook = None;
        drop(state);
        self.work.notify_one();
        self.room.notify_waiters();
    }
}

fn at(lane: Lane) -> usize {
    usize::from(lane.number())
}

impl LaneState {
    fn has_room(&self) -> bool {
        self.bytes <= limits::LINK_LANE_QUEUE_BYTES_MAX / ROOM_SHARE
            && self.frames.len() <= limits::LINK_LANE_QUEUE_FRAMES_MAX / ROOM_SHARE
    }

    fn fill(&mut self, lane: Lane, plain: &mut Vec<u8>, bytes_max: usize) {
        while let Some(frame) = self.frames.front() {
            let is_first = self.sent == 0;
            let space = bytes_max - plain.len();
            let rest = &frame[self.sent..];
            let Some(space) = space.checked_sub(Chunk::head_bytes(is_first)) else {
                return;
            };
            if space == 0 && !rest.is_empty() {
                return;
            }
            let bytes = &rest[..rest.len().min(space)];
            let is_last = bytes.len() == rest.len();
            let frame_bytes =
                is_first.then(|| u32::try_from(frame.len()).expect("frames are below 4 GiB"));
            let len = bytes.len();
            Chunk::Data {
                lane,
                frame_bytes,
                is_last,
                bytes,
            }
            .encode(plain);
            if !is_last {
                self.sent += len;
                return;
            }
            self.sent = 0;
            self.bytes -= frame.len();
            self.frames.pop_front();
        }
    }
}

impl fmt::Debug for LaneQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneQueue")
            .field("queued_bytes", &self.queued_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chunks, RECORD_PLAIN_BYTES_MAX, Reassembler};

    fn drain(queue: &LaneQueue, reassembler: &mut Reassembler) -> Vec<(Lane, Vec<u8>)> {
        let mut plain = Vec::new();
        queue.fill_record(&mut plain, RECORD_PLAIN_BYTES_MAX);
        assert!(plain.len() <= RECORD_PLAIN_BYTES_MAX);
        let mut frames = Vec::new();
        for chunk in Chunks::new(&plain) {
            let Chunk::Data {
                lane,
                frame_bytes,
                is_last,
                bytes,
            } = chunk.unwrap()
            else {
                panic!("only data is queued");
            };
            let frame = reassembler.push(lane, frame_bytes, is_last, bytes).unwrap();
            frames.extend(frame.map(|frame| (lane, frame)));
        }
        frames
    }

    #[test]
    fn an_urgent_frame_passes_between_the_pieces_of_a_large_one() {
        let queue = LaneQueue::new();
        let mut reassembler = Reassembler::new(256 * 1024);
        let large: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        queue.try_push(Lane::Bulk, large.clone()).unwrap();
        assert_eq!(drain(&queue, &mut reassembler), []);
        queue.try_push(Lane::Interactive, b"now".to_vec()).unwrap();
        assert_eq!(
            drain(&queue, &mut reassembler),
            [(Lane::Interactive, b"now".to_vec())]
        );
        assert_eq!(drain(&queue, &mut reassembler), []);
        assert_eq!(drain(&queue, &mut reassembler), [(Lane::Bulk, large)]);
        assert_eq!(queue.queued_bytes(), 0);
    }

    #[test]
    fn a_full_lane_refuses_and_the_others_do_not() {
        let queue = LaneQueue::new();
        let frame = vec![0; limits::LINK_LANE_QUEUE_BYTES_MAX / 4 + 1];
        for _ in 0..3 {
            queue.try_push(Lane::Bulk, frame.clone()).unwrap();
        }
        assert_eq!(
            queue.try_push(Lane::Bulk, frame.clone()),
            Err(TrySendError::Full(frame))
        );
        queue.try_push(Lane::Control, vec![1]).unwrap();
        assert!(!queue.has_room(Lane::Bulk));
        assert!(queue.has_room(Lane::Control));
    }

    #[test]
    fn who_waits_for_one_lane_does_not_wait_for_another() {
        let queue = LaneQueue::new();
        let called = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&called);
        queue.set_room_hook(Box::new(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }));
        for _ in 0..3 {
            let frame = vec![0; limits::LINK_LANE_QUEUE_BYTES_MAX / 4 + 1];
            queue.try_push(Lane::Blobs, frame.clone()).unwrap();
            queue.try_push(Lane::Interactive, frame).unwrap();
        }
        assert!(!queue.has_room(Lane::Blobs) && !queue.has_room(Lane::Interactive));
        let mut reassembler = Reassembler::new(limits::LINK_LANE_QUEUE_BYTES_MAX as u32);
        while !queue.has_room(Lane::Interactive) {
            drain(&queue, &mut reassembler);
        }
        assert_eq!(called.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(!queue.has_room(Lane::Blobs), "it is full all the time");
    }

    #[test]
    fn many_small_frames_share_a_record() {
        let queue = LaneQueue::new();
        for n in 0..1000u32 {
            let frame = n.to_le_bytes().to_vec();
            queue.try_push(Lane::Interactive, frame).unwrap();
        }
        assert_eq!(drain(&queue, &mut Reassembler::new(4)).len(), 1000);
    }
}

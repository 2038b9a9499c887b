//! The log itself.

mod commit;
mod recovery;
mod state;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use idem_vault::Cipher;

use self::recovery::{Found, recover};
use self::state::{State, Writer, lock};
use crate::frame::Sealer;
use crate::segment::DATA_START;
use crate::{LogError, LogStorage};

/// Byte offset of a frame's end in the endless log. Zero is the start of a log that never held one.
pub type Position = u64;

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) spare_bytes_max: u64,
    pub(crate) id: Option<u64>,
    pub(crate) start: Position,
    pub(crate) cipher: Option<Cipher>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            spare_bytes_max: 16 << 20,
            id: None,
            start: 0,
            cipher: None,
        }
    }
}

impl LogOptions {
    /// Size of a full-grown segment in bytes. Default 4 MiB. The first segments of a log are
    /// smaller; a frame that does not fit gets a segment of its own.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Bytes of trimmed segments that are kept to be used again. Default 16 MiB; more are deleted.
    #[must_use]
    pub fn spare_bytes_max(mut self, bytes: u64) -> Self {
        self.spare_bytes_max = bytes;
        self
    }

    /// Identity of a log that has to be created. Default: drawn from the operating system's
    /// entropy. A simulator passes its own so that a run can be repeated.
    #[must_use]
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// Where the positions of a log that has to be created begin. Default 0. A store whose log was
    /// lost passes the position its engine has reached, so that positions never go back.
    #[must_use]
    pub fn start(mut self, start: Position) -> Self {
        self.start = start;
        self
    }

    /// Encrypts the payloads of all frames. Lengths, positions and the number of frames are told by the
    /// files all the same. Default: none. A log that was written with one is read with one.
    #[must_use]
    pub fn cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = Some(cipher);
        self
    }
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Random identity of this log, given at its creation. Another value means another log.
    pub id: u64,
    /// Whether there was no log and one was created.
    pub created: bool,
    /// Start of the oldest frame that can be read.
    pub start: Position,
    /// End of the newest valid frame.
    pub end: Position,
    /// Set if the last write was cut off and its remains were discarded.
    pub torn: Option<TornTail>,
}

/// The remains of a write that never completed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// Name of the file inside the storage.
    pub file: String,
    /// Offset in that file at which the valid frames end.
    pub offset: u64,
    /// Bytes from there to the last byte that was found written.
    pub bytes: u64,
}

/// Counters and sizes of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStats {
    /// Frames appended since the log was opened.
    pub frames: u64,
    /// Bytes of those frames, framing included.
    pub bytes: u64,
    /// Calls of `fdatasync` since the log was opened, without those for allocating segments.
    pub syncs: u64,
    /// Bytes of all segments, spare ones included.
    pub allocated_bytes: u64,
}

/// An append-only log of opaque frames. All methods can be called from any thread.
#[derive(Debug)]
pub struct Log {
    storage: Box<dyn LogStorage>,
    options: LogOptions,
    id: u64,
    sealer: Sealer,
    /// Copy of the position in `state`, for a look without the lock.
    durable: AtomicU64,
    // Locks are taken in the order of these fields.
    writer: Mutex<Writer>,
    /// Held around every `fdatasync` and until its result is noted: an error is reported to one
    /// caller only, and nobody may note success after it.
    sync_turn: Mutex<()>,
    state: Mutex<State>,
    /// Those who wait for the sync that is running, and those who wait for the one after it, by the
    /// parity of the sync's number.
    waiting: [Condvar; 2],
}

impl Log {
    /// Opens the log in `storage`, or creates it if there is none.
    ///
    /// Reads every segment that is not trimmed (a few milliseconds for the usual 8 MiB).
    ///
    /// # Errors
    ///
    /// [`LogError::Corrupt`] if bytes that were durable are damaged, [`LogError::OutOfRange`] if the
    /// log ends before [`LogOptions::start`], [`LogError::Full`] if there is no room to create it,
    /// [`LogError::Io`] if the storage fails.
    pub fn open(
        storage: Box<dyn LogStorage>,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        let (found, created) = match recover(&*storage)? {
            Ok(found) => (found, false),
            Err(number) => (state::create(&*storage, &options, number)?, true),
        };
        let start = found.live[0].base;
        if found.end < options.start {
            let (position, end) = (options.start, found.end);
            return Err(LogError::OutOfRange {
                position,
                start,
                end,
            });
        }
        let Found { id, end, .. } = found;
        let recovery = Recovery {
            id,
            created,
            start,
            end,
            torn: found.torn.clone(),
        };
        let state = State::after(found);
        let filling = Arc::clone(&state.newest().segment);
        let log = Self {
            storage,
            options,
            id,
            sealer: Sealer::new(id),
            durable: AtomicU64::new(end),
            writer: Mutex::new(Writer { filling }),
            sync_turn: Mutex::new(()),
            state: Mutex::new(state),
            waiting: [Condvar::new(), Condvar::new()],
        };
        Ok((log, recovery))
    }

    /// Visits the frames that begin at `from` or later, oldest first, with the position of each
    /// frame's end. `from` is the end of a frame, or [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// [`LogError::OutOfRange`] if the log does not reach from `from`, [`LogError::Corrupt`] if a
    /// frame is damaged.
    pub fn read(
        &self,
        from: Position,
        mut visit: impl FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let end = self.write_out(false)?.end;
        let segments: Vec<_> = {
            let state = lock(&self.state);
            if from < state.start() || from > end {
                return Err(LogError::OutOfRange {
                    position: from,
                    start: state.start(),
                    end,
                });
            }
            state
                .live
                .iter()
                .map(|live| (live.base, Arc::clone(&live.segment)))
                .collect()
        };
        let mut at = from;
        for (index, (base, segment)) in segments.iter().enumerate() {
            let segment_end = segments
                .get(index + 1)
                .map_or(end, |(next, _)| *next)
                .min(end);
            if segment_end <= at {
                continue;
            }
            let data = segment.read_vec(DATA_START + (at - base), segment_end - at)?;
            let mut rest = &data[..];
            while !rest.is_empty() {
                let Some((frame, payload)) = self.sealer.open(at, rest) else {
                    return Err(self.unreadable(
                        at,
                        segment.corrupt(DATA_START + (at - base)),
                        end,
                    ));
                };
                let begin = at;
                at += frame.bytes() as u64;
                rest = &rest[frame.bytes()..];
                if frame.is_mark() {
                    continue;
                }
                let opened;
                let payload = match &self.options.cipher {
                    None => payload,
                    Some(cipher) => {
                        let content = cipher.open_frame(self.id, begin, payload);
                        let corrupt = |_| segment.corrupt(DATA_START + (begin - base));
                        opened = content.map_err(corrupt)?;
                        &opened
                    }
                };
                if visit(at, payload).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Why there is no frame at `position`: the segment may have been trimmed and be in use again.
    fn unreadable(&self, position: Position, corrupt: LogError, end: Position) -> LogError {
        let start = lock(&self.state).start();
        if start > position {
            LogError::OutOfRange {
                position,
                start,
                end,
            }
        } else {
            corrupt
        }
    }

    /// Gives up the frames that end at `before` or earlier and are durable. Segments that hold no
    /// other frames are used again or deleted. Writers do not wait for it.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if a file cannot be deleted.
    pub fn trim(&self, before: Position) -> Result<(), LogError> {
        let excess = {
            let mut state = lock(&self.state);
            state.trim(before);
            state.take_excess(self.options.spare_bytes_max)
        };
        for spare in excess {
            let segment = &spare.segment;
            self.storage
                .delete(&segment.name)
                .map_err(|source| segment.error("delete", source))?;
        }
        Ok(())
    }

    /// Makes sure that a segment is ready for when the current one is full, so that no writer has
    /// to wait for its allocation. To be called from a background thread after a trim or while idle.
    ///
    /// # Errors
    ///
    /// [`LogError::Full`] if there is no room; writers go on until the current segment is full.
    pub fn prepare(&self) -> Result<(), LogError> {
        let (number, bytes) = {
            let mut state = lock(&self.state);
            state.check()?;
            let bytes = state.next_segment_bytes(&self.options);
            if state
                .spare
                .iter()
                .any(|spare| spare.segment.file_bytes >= bytes)
            {
                return Ok(());
            }
            (state.take_number(), bytes)
        };
        let spare = state::allocate(&*self.storage, number, bytes)?;
        lock(&self.state).spare.push(spare);
        Ok(())
    }

    /// End of the newest frame that is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable.load(Ordering::Acquire)
    }

    /// End of the newest frame that was appended.
    #[must_use]
    pub fn end(&self) -> Position {
        lock(&self.state).end
    }

    /// Start of the oldest frame that can be read.
    #[must_use]
    pub fn start(&self) -> Position {
        lock(&self.state).start()
    }

    /// Identity of this log, given at its creation.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let state = lock(&self.state);
        LogStats {
            allocated_bytes: state.allocated_bytes(),
            ..state.stats
        }
    }
}

//! The log itself.

use std::ops::ControlFlow;

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
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 4 << 20,
            spare_bytes_max: 16 << 20,
            id: None,
            start: 0,
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
    /// Calls of `fdatasync` since the log was opened.
    pub syncs: u64,
    /// Bytes of all segments, spare ones included.
    pub allocated_bytes: u64,
}

/// An append-only log of opaque frames. All methods can be called from any thread.
#[derive(Debug)]
pub struct Log {}

#[expect(
    clippy::unimplemented,
    clippy::missing_panics_doc,
    reason = "bodies follow"
)]
#[expect(unused_variables, reason = "bodies follow")]
impl Log {
    /// Opens the log in `storage`, or creates it if there is none.
    ///
    /// Reads every segment that is not trimmed (a few milliseconds for the usual 8 MiB).
    ///
    /// # Errors
    ///
    /// [`LogError::Corrupt`] if bytes that were durable are damaged, [`LogError::Io`] if the storage
    /// fails.
    pub fn open(
        storage: Box<dyn LogStorage>,
        options: LogOptions,
    ) -> Result<(Self, Recovery), LogError> {
        unimplemented!()
    }

    /// Adds a frame to the log's buffer and returns the position of its end.
    ///
    /// The frame is neither durable nor visible to [`read`](Self::read) after a crash before
    /// [`sync_to`](Self::sync_to) returned for its position.
    ///
    /// # Errors
    ///
    /// [`LogError::Full`] if a new segment is needed and there is no room for it: nothing was
    /// appended and the log is not poisoned.
    pub fn append(&self, payload: &[u8]) -> Result<Position, LogError> {
        unimplemented!()
    }

    /// Returns once every frame up to `position` is durable. Threads that wait at the same time
    /// share one `fdatasync`.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] or [`LogError::Poisoned`] if a write or sync failed, now or earlier.
    pub fn sync_to(&self, position: Position) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Hands every frame up to `position` to the operating system: it survives the end of the
    /// process, but not of the machine. The caller calls [`sync_to`](Self::sync_to) later.
    ///
    /// # Errors
    ///
    /// As [`sync_to`](Self::sync_to).
    pub fn flush_to_os(&self, position: Position) -> Result<(), LogError> {
        unimplemented!()
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
        unimplemented!()
    }

    /// Gives up the frames that end at `before` or earlier. Segments that hold no other frames are
    /// used again or deleted. Cheap; no I/O on the way of writers.
    ///
    /// # Errors
    ///
    /// [`LogError::Io`] if a file cannot be deleted.
    pub fn trim(&self, before: Position) -> Result<(), LogError> {
        unimplemented!()
    }

    /// Makes sure that a segment is ready for when the current one is full, so that no writer has
    /// to wait for its allocation. To be called from a background thread after a trim or while idle.
    ///
    /// # Errors
    ///
    /// [`LogError::Full`] if there is no room; writers go on until the current segment is full.
    pub fn prepare(&self) -> Result<(), LogError> {
        unimplemented!()
    }

    /// End of the newest frame that is durable.
    #[must_use]
    pub fn durable(&self) -> Position {
        unimplemented!()
    }

    /// End of the newest frame that was appended.
    #[must_use]
    pub fn end(&self) -> Position {
        unimplemented!()
    }

    /// Start of the oldest frame that can be read.
    #[must_use]
    pub fn start(&self) -> Position {
        unimplemented!()
    }

    /// Identity of this log, given at its creation.
    #[must_use]
    pub fn id(&self) -> u64 {
        unimplemented!()
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        unimplemented!()
    }
}

//! What can go wrong with a log.

use std::io;
use std::sync::Arc;

use crate::Position;

/// An error of a log. Cheap to clone, because one failed sync fails every thread that waits for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The storage refused an operation. If it was a write or a sync, the log is poisoned now.
    #[error("cannot {operation} log file {file}")]
    Io {
        /// What was tried: `read`, `write`, `sync`, `create`, `open`, `list` or `delete`.
        operation: &'static str,
        /// Name of the file inside the storage.
        file: String,
        /// The storage's error.
        source: Arc<io::Error>,
    },
    /// An earlier write or sync failed; what the disk holds is unknown until the log is reopened.
    #[error("log is closed because an earlier {operation} of {file} failed")]
    Poisoned {
        /// The operation that failed first.
        operation: &'static str,
        /// The file on which it failed.
        file: String,
        /// The error with which it failed.
        source: Arc<io::Error>,
    },
    /// There is no room for another segment. Nothing of the frame was written and the log goes on
    /// working: a smaller frame may still fit, and so may this one after a trim.
    #[error("disk is full: {needed} bytes are needed for the log")]
    Full {
        /// Bytes that the new segment needs on disk.
        needed: u64,
        /// The storage's error.
        source: Arc<io::Error>,
    },
    /// Bytes that were durable are damaged or missing. Frames before them can still be read.
    #[error("log file {file} is damaged at byte {offset}")]
    Corrupt {
        /// Name of the file inside the storage.
        file: String,
        /// Offset of the first damaged frame or header in that file.
        offset: u64,
    },
    /// The file was written by a later version of this crate.
    #[error("log file {file} has format version {version}, which this build does not know")]
    UnknownVersion {
        /// Name of the file inside the storage.
        file: String,
        /// The version that was found.
        version: u8,
    },
    /// The payload is larger than [`PAYLOAD_BYTES_MAX`](crate::limits::PAYLOAD_BYTES_MAX).
    #[error("log payload of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Size of the payload.
        bytes: u64,
        /// Largest size allowed.
        bytes_max: u64,
    },
    /// The position lies before the oldest frame or after the newest, or inside a frame.
    #[error("log position {position} is outside {start}..={end}")]
    OutOfRange {
        /// The position asked for.
        position: Position,
        /// Start of the oldest frame.
        start: Position,
        /// End of the newest frame.
        end: Position,
    },
}

impl LogError {
    /// Returns whether the disk being full is the reason, at once or as the first cause.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } | Self::Poisoned { source, .. } => is_no_room(source),
            _ => false,
        }
    }
}

/// A quota leaves no more room than a full disk does.
pub(crate) fn is_no_room(source: &io::Error) -> bool {
    matches!(
        source.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

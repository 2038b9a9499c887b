//! What can go wrong in an engine.

use std::error::Error;
use std::io;
use std::sync::Arc;

use crate::Table;

/// An error of an engine or an overlay. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// A stored value does not match its checksum.
    #[error("stored value is damaged (table {}, key {})", table.0, hex(key))]
    Corrupt {
        /// The table.
        table: Table,
        /// The whole key.
        key: Vec<u8>,
    },
    /// The engine's file is damaged so that it cannot be opened or walked.
    #[error("engine file is damaged: {detail}")]
    CorruptFile {
        /// What the engine reports.
        detail: String,
    },
    /// The storage refused an operation.
    #[error("cannot {operation} the engine file")]
    Io {
        /// What was tried, such as `open`, `read` or `commit`.
        operation: &'static str,
        /// The storage's error.
        source: Arc<io::Error>,
    },
    /// The disk is full; nothing of the batch was committed.
    #[error("disk is full: about {needed} bytes are needed for the engine")]
    Full {
        /// Bytes of the batch that did not fit.
        needed: u64,
        /// The storage's error.
        source: Arc<io::Error>,
    },
    /// Another process, or another handle in this one, has the engine open.
    #[error("engine is open elsewhere")]
    Locked,
    /// An earlier failure closed the engine; it has to be opened again.
    #[error("engine is closed because an earlier operation failed")]
    Poisoned,
    /// What must be durable before a flush could not be made so.
    #[error("cannot make the log durable before a flush")]
    Barrier {
        /// The error of whoever keeps the log.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The engine refused an operation for a reason that has no variant of its own.
    #[error("cannot {operation}: {detail}")]
    Engine {
        /// What was tried.
        operation: &'static str,
        /// What the engine reports.
        detail: String,
    },
}

impl KvError {
    /// Wraps the error of a log that could not be synced before a flush.
    #[must_use]
    pub fn barrier(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Barrier {
            source: Arc::new(source),
        }
    }

    /// Returns whether the disk being full is the reason.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// The first bytes of a key, for a message of bounded length.
fn hex(key: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in key.iter().take(32) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    if key.len() > 32 {
        text.push_str("..");
    }
    text
}

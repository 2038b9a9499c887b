//! Append-only log of checksummed frames with group commit.
//!
//! A [`Log`] takes opaque payloads, frames them with checksums and writes them one after the other
//! into preallocated segments of a [`LogStorage`]. It knows nothing of what the payloads mean: no
//! documents, no transactions. With [`LogOptions::cipher`] it encrypts them.
//!
//! # Data flow
//!
//! [`Log::append`] copies the frame into a buffer and answers with its [`Position`];
//! [`Log::sync_to`] makes everything up to a position durable. The first thread that waits becomes
//! the leader: it writes all that is buffered and calls `fdatasync` once for every thread that
//! waits. [`Log::flush_to_os`] only hands the buffer to the operating system. [`Log::read`] replays
//! frames after a position, [`Log::trim`] gives up those before one, and their segments are used
//! again in place, so that in steady state no file grows and no directory changes.
//!
//! # Invariants
//!
//! - A position is the byte offset of a frame's end in the endless log. Positions only grow.
//! - A frame that `sync_to` confirmed is read back unchanged, or its damage is reported with file
//!   and offset. It is never skipped silently.
//! - Nothing is written to a segment before all segments before it are durable.
//! - After a failed write or sync every call fails with [`LogError::Poisoned`] until reopened.
//!
//! # Example
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use idem_log::{Log, LogOptions, MemoryStorage};
//!
//! # fn main() -> Result<(), idem_log::LogError> {
//! let disk = MemoryStorage::default();
//! let (log, _) = Log::open(Box::new(disk.clone()), LogOptions::default())?;
//! let position = log.append(b"hello")?;
//! log.sync_to(position)?;
//! drop(log);
//!
//! let (log, recovery) = Log::open(Box::new(disk), LogOptions::default())?;
//! assert_eq!(recovery.torn, None);
//! let mut payloads = Vec::new();
//! log.read(log.start(), |_end, payload| {
//!     payloads.push(payload.to_vec());
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(payloads, [b"hello".to_vec()]);
//! # Ok(())
//! # }
//! ```

pub mod limits;

mod error;
mod frame;
mod log;
mod segment;
mod storage;

pub use error::LogError;
pub use log::{Log, LogOptions, LogStats, Position, Recovery, TornTail};
pub use storage::directory::DirectoryStorage;
pub use storage::fault::{Fault, FaultStorage};
pub use storage::memory::MemoryStorage;
pub use storage::{LogStorage, Segment};

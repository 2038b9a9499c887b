//! Ordered byte keys and values behind one trait, with its engines.
//!
//! An [`Engine`] keeps a few tables of ordered keys, answers [`Snapshot`]s and commits a [`Batch`]
//! atomically. [`Overlay`] puts a multi-version table in memory before an engine: commits that are
//! already in a log become visible at once and reach the engine later, many in one transaction. It can
//! keep rows that are read by their keys in memory.
//! This crate knows nothing of documents, nor of the log.
//!
//! | engine | for |
//! |---|---|
//! | [`RedbEngine`] | every store on disk |
//! | [`MemoryEngine`] | tests and stores that are never written; the twin of the others |
//! | [`FaultEngine`] | wraps another and fails on demand |
//!
//! # Invariants
//!
//! - A snapshot sees exactly the commits that were complete when it was taken, for as long as it
//!   lives, whatever is committed or flushed meanwhile.
//! - A value is returned as it was put, or [`KvError::Corrupt`] names its table and key.
//! - A batch is in an engine wholly or not at all.
//!
//! # Example
//!
//! ```
//! use idem_kv::{Batch, MemoryEngine, Overlay, Snapshot, Table};
//!
//! # fn main() -> Result<(), idem_kv::KvError> {
//! const DOCUMENTS: Table = Table(0);
//! let store = Overlay::open(Box::new(MemoryEngine::new()))?;
//! let mut batch = Batch::new();
//! batch.put(DOCUMENTS, b"key", b"value");
//! store.apply(&batch, 42);
//! assert_eq!(store.snapshot()?.get(DOCUMENTS, b"key")?.as_deref(), Some(&b"value"[..]));
//!
//! store.flush(|position| {
//!     assert_eq!(position, 42); // The place to sync the log up to this position.
//!     Ok(())
//! })?;
//! assert_eq!(store.flushed_position(), 42);
//! # Ok(())
//! # }
//! ```

pub mod limits;

mod batch;
mod engine;
mod error;
mod fault;
mod memory;
mod overlay;
mod redb_engine;

pub use batch::{Batch, BatchError, Operation, Operations};
pub use engine::{Durability, Engine, EngineStats, Snapshot, Table, VerifyReport, Visit};
pub use error::KvError;
pub use fault::{EngineFault, FaultEngine};
pub use memory::MemoryEngine;
pub use overlay::{Overlay, OverlaySnapshot};
pub use redb_engine::disk::{DiskFault, FaultDisk};
pub use redb_engine::rekey::RekeyProgress;
pub use redb_engine::{RedbEngine, RedbOptions};

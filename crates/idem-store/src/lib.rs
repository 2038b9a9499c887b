//! Collections, transactions, change feed and live queries over a log and an ordered engine.
//!
//! A [`Store`] is one peer's documents in one directory. It is synchronous: every call runs on the
//! caller's thread, and no call waits for a network. It does not decide what travels to whom; it
//! offers what a replication session needs ([`Store::changed_since`], [`Store::apply`]).
//!
//! Data flow of a commit: a [`Transaction`] collects changed documents in memory; the commit turns
//! them into one batch of table rows, appends the batch as one frame to the log, applies it to an
//! in-memory overlay, which makes it visible, lets the next writer in, and then waits until the frame
//! is on disk. A background thread moves the overlay into the engine and trims the log. Opening reads
//! the engine and replays the frames behind its position.
//!
//! Invariants, which [`Store::verify`] checks: every document has exactly one row in the order of
//! arrival and one entry in each index of its collection; a dot is never given to two commits, also
//! after a copy or a restore of the directory; what [`Store::changed_since`] gives is on disk.
//!
//! ```no_run
//! use idem_model::Object;
//! use idem_store::{Store, StoreConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(StoreConfig::memory())?;
//! store.execute("INSERT INTO cars DOCUMENTS ({'_id': 'a', 'colour': 'red'})", Object::new())?;
//! let result = store.execute("SELECT * FROM cars WHERE colour = 'red'", Object::new())?;
//! assert_eq!(result.items.len(), 1);
//! store.close()?;
//! # Ok(())
//! # }
//! ```

mod actor;
mod background;
mod calls;
mod catalog;
mod commit;
mod config;
mod core;
mod declared;
mod directory;
mod edit;
mod entries;
mod entropy;
mod error;
mod evictions;
mod facts;
mod feed;
mod gone;
mod groups;
mod head;
mod indexing;
mod kept;
mod merge;
mod observe;
mod observers;
mod open;
mod patience;
mod pending;
mod poison;
mod progress;
mod projections;
mod quarantine;
mod query;
mod requests;
mod row;
mod scope;
mod simulated;
mod source;
mod statements;
mod store;
mod subscriptions;
mod system;
mod tables;
mod tombstones;
mod transaction;
mod tuning;
mod turnstile;
mod upkeep;
mod verify;
mod work;

pub use config::{Clock, Durability, StoreConfig};
pub use error::{OpenError, StoreError};
pub use evictions::EvictReason;
pub use feed::{ChangeBatch, Changed};
pub use gone::Gone;
pub use idem_kv::RekeyProgress;
pub use merge::{ApplyOutcome, ApplyReport, Cursor, CursorUpdate, Incoming, IncomingState, Synced};
pub use observe::{Observer, SignalNext};
pub use patience::Cancellation;
pub use query::{ImportReport, QueryResult};
pub use requests::ExecuteOptions;
pub use scope::{ScopeFilter, ScopeItem, ScopeState};
pub use simulated::SimulatedDisk;
pub use store::{CommitSubscription, Statistics, Store};
pub use subscriptions::{Interest, Subscription, SubscriptionHash};
pub use system::PeerSync;
pub use transaction::{Transaction, TransactionOptions};
pub use verify::VerifyReport;

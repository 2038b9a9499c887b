//! Idem, an edge-sync database: the Small Peer that an app embeds.
//!
//! An [`Idem`] is one store in one directory (or in memory), with live queries that work without any
//! network, and with replication to every peer of the same database that it is linked to.
//!
//! ```
//! use idem::{ConnectMode, Idem, IdemConfig};
//!
//! # fn main() -> Result<(), idem::Error> {
//! let idem = Idem::open_sync(IdemConfig::new(idem::DatabaseId([7; 16]), ConnectMode::Offline))?;
//! # drop(idem);
//! # Ok(())
//! # }
//! ```
//!
//! Every method that waits comes as an `async fn` that any executor can poll, and as a twin named
//! `*_blocking`. The crate owns its threads; an app needs no runtime of a particular kind.

mod config;
mod differ;
mod error;
mod observer;
mod peer;
mod presence;
mod query;
mod store;
mod sync;
mod transaction;
mod transport;

pub use config::{ConnectMode, Durability, IdemConfig, SharedKey};
pub use differ::{Diff, Differ, Move};
pub use error::{Error, ErrorKind, Position};
pub use idem_model::{
    CollectionName, DatabaseId, DocId, IdParseError, InsertConflict, Object, PeerId, Value,
};
pub use observer::{SignalNext, StoreObserver};
pub use peer::Idem;
pub use presence::{Connection, ConnectionKind, Peer, Presence, PresenceGraph};
pub use query::{IntoQuery, Query, QueryResult, QueryResultItem, Warning};
pub use store::{ImportReport, Store, StoreStatistics};
pub use sync::{Sync, SyncSubscription};
pub use transaction::{
    Transaction, TransactionCompletionAction, TransactionEnd, TransactionOptions,
};
pub use transport::{
    ConditionKind, ConnectConfig, ListenConfig, TcpListenConfig, TransportCondition,
    TransportConfig, TransportObserver,
};

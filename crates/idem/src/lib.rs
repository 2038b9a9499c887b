//! Idem, an edge-sync database: the Small Peer that an app embeds.
//!
//! An [`Idem`] is one store in one directory (or in memory), with live queries that work without any
//! network, and with replication to every peer of the same database that it is linked to.
//!
//! ```rust,standalone_crate
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # std::env::set_current_dir(scratch.path())?;
//! use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey, TransportConfig};
//! use serde_json::json;
//!
//! let database: DatabaseId = "8f2ad2c4-5b1e-4c55-9d3e-0f6d1c7a9b10".parse()?;
//! let key = SharedKey::from_secret("correct horse battery staple");
//! let config = IdemConfig::new(database, ConnectMode::SharedKey { key });
//! let idem = Idem::open(config.with_persistence_directory("garage")).await?;
//!
//! let _observer = idem.store().register_observer("SELECT * FROM cars", |cars| {
//!     println!("{} cars", cars.item_count());
//! })?;
//! let car = json!({ "_id": "a1", "color": "blue", "seats": 4 });
//! let insert = ("INSERT INTO cars DOCUMENTS (:car)", json!({ "car": car }));
//! idem.store().execute(insert).await?;
//!
//! let _subscription = idem.sync().register_subscription("SELECT * FROM cars")?;
//! idem.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
//! idem.sync().start()?;
//! # assert_eq!(idem.store().execute("SELECT * FROM cars").await?.item_count(), 1);
//! # idem.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every method that waits comes as an `async fn` that any executor can poll, and as a twin named
//! `*_blocking`. The crate owns its threads; an app needs no runtime of a particular kind.

mod attachment;
mod auth;
mod authority;
mod blobs;
mod bluetooth;
mod board;
mod conditions;
mod config;
mod core;
mod degradations;
mod deserialize;
mod desk;
mod differ;
#[cfg(doctest)]
mod documented;
mod doorkeeper;
mod driver;
mod encryption;
mod error;
mod identity;
mod inbox;
mod internet;
mod lanes;
mod links;
mod media;
mod meeting;
mod observer;
mod options;
mod owners;
mod peer;
mod picture;
mod presence;
mod query;
mod replica;
mod replication;
mod rows;
mod serialize;
mod store;
mod sync;
mod syncer;
mod transaction;
mod transport;
mod ways;
mod windows;

pub use attachment::{
    Attachment, AttachmentConfig, AttachmentFetchEvent, AttachmentFetcher, AttachmentMetadata,
    AttachmentReader, AttachmentToken, AttachmentsCollected, FetchFailure, FetchOptions,
};
pub use auth::{Auth, AuthorityConfig, CertificateExpiry, SignedText};
pub use authority::{CertificateRequest, DatabaseAuthority};
pub use config::{ConnectMode, Durability, IdemConfig, SharedKey};
pub use differ::{Diff, Differ, Move};
pub use doorkeeper::{ConnectionRequest, ConnectionRequestAuthorization};
pub use encryption::{Encryption, EncryptionStatus, RotationProgress, StoreKind};
pub use error::{Error, ErrorKind, Position};
pub use idem_auth::{
    Access, Authorities, Authority, AuthorityChange, AuthorityKey, AuthorityKeyError, Certificate,
    CertificateSerial, Grants, Refused, Revocation, RevocationList, RevokedId, SignedCertificate,
    TimeBeacon, Verdict, in_words,
};
pub use idem_mesh::{Medium, PeerKind};
pub use idem_model::limits::SIGNED_TIME_MS_MAX;
pub use idem_model::{
    CollectionName, DatabaseId, DocId, FieldPath, FieldPathError, IdParseError, InsertConflict,
    Object, PeerId, Value,
};
pub use idem_store::Cancellation;
pub use idem_sync::OnLeave;
pub use idem_transport::{
    BleAddress, BleAdvert, BleBackend, BleBearer, BleError, BleEvent, BleFuture, BleRadio,
};
pub use idem_vault::{KeyDerivation, StoreKey};
pub use observer::{SignalNext, StoreObserver};
pub use options::{ExecuteOptions, SubscriptionOptions};
pub use peer::Idem;
pub use presence::{
    Connection, ConnectionKind, Peer, Presence, PresenceGraph, PresenceLink, PresenceObserver,
};
pub use query::{IntoQuery, Query, QueryResult, QueryResultItem, Warning};
pub use rows::Rows;
pub use store::{ImportReport, Store, StoreStatistics};
pub use sync::{Sync, SyncSubscription};
pub use transaction::{
    Transaction, TransactionCompletionAction, TransactionEnd, TransactionOptions,
};
pub use transport::{
    BluetoothLeConfig, ConditionKind, ConnectConfig, HttpListenConfig, InternetConfig,
    InternetListenConfig, LanConfig, ListenConfig, PeerToPeerConfig, RelayConfig, TcpListenConfig,
    TransportCondition, TransportConfig, TransportObserver,
};

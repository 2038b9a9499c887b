//! The handle of a peer.

use std::path::Path;

use idem_model::{DatabaseId, PeerId};

use crate::{
    config::IdemConfig,
    error::Error,
    presence::Presence,
    store::Store,
    sync::Sync,
    transport::{TransportCondition, TransportConfig, TransportObserver},
};

/// A Small Peer: a store, live queries, and replication.
///
/// Clones are handles of the same peer. The peer closes with [`close`](Self::close) or when the last
/// handle is dropped; what was acknowledged is safe either way.
#[derive(Debug, Clone)]
pub struct Idem(());

impl Idem {
    /// Opens a peer.
    ///
    /// # Errors
    /// If the directory is open elsewhere, cannot be used, belongs to another database, or is
    /// damaged.
    pub async fn open(config: IdemConfig) -> Result<Self, Error> {
        Self::open_sync(config)
    }

    /// [`open`](Self::open) on the calling thread.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_sync(config: IdemConfig) -> Result<Self, Error> {
        let _ = config;
        Ok(Self(()))
    }

    /// The version of this crate.
    pub fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The documents.
    pub fn store(&self) -> &Store {
        unimplemented!()
    }

    /// Replication.
    pub fn sync(&self) -> &Sync {
        unimplemented!()
    }

    /// Who is there.
    pub fn presence(&self) -> &Presence {
        unimplemented!()
    }

    /// The database.
    pub fn database_id(&self) -> DatabaseId {
        unimplemented!()
    }

    /// This peer's key. It is made once and kept in the directory.
    pub fn peer_key(&self) -> PeerId {
        unimplemented!()
    }

    /// The directory of the store, `None` in memory.
    pub fn persistence_directory(&self) -> Option<&Path> {
        unimplemented!()
    }

    /// The current transport configuration.
    pub fn transport_config(&self) -> TransportConfig {
        unimplemented!()
    }

    /// Replaces the transport configuration. Sync that runs follows at once: new addresses are
    /// dialled, links to removed ones are closed.
    ///
    /// # Errors
    /// [`ErrorKind::SyncListen`](crate::ErrorKind::SyncListen) if sync runs and a new listener cannot
    /// be bound.
    pub fn set_transport_config(&self, config: TransportConfig) -> Result<(), Error> {
        let _ = config;
        unimplemented!()
    }

    /// Changes the transport configuration in place.
    ///
    /// # Errors
    /// As [`set_transport_config`](Self::set_transport_config).
    pub fn update_transport_config(
        &self,
        change: impl FnOnce(&mut TransportConfig),
    ) -> Result<(), Error> {
        let mut config = self.transport_config();
        change(&mut config);
        self.set_transport_config(config)
    }

    /// Calls `callback` with every event of a link: up, lost, refused and why. It runs on a thread of
    /// this crate and must not wait long; at most 1,024 events are kept for a slow one.
    pub fn observe_transport_conditions(
        &self,
        callback: impl FnMut(TransportCondition) + Send + 'static,
    ) -> TransportObserver {
        let _ = callback;
        unimplemented!()
    }

    /// Stops sync, ends observers, makes everything durable and closes the files. Calls that run at
    /// that time finish; later ones give [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// # Errors
    /// If the last write to disk failed.
    pub async fn close(&self) -> Result<(), Error> {
        self.close_blocking()
    }

    /// [`close`](Self::close) on the calling thread.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_blocking(&self) -> Result<(), Error> {
        unimplemented!()
    }
}

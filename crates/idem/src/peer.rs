//! The handle of a peer.

use std::{path::Path, sync::Arc};

use idem_model::{DatabaseId, PeerId};

use crate::{
    auth::Auth,
    config::IdemConfig,
    core::Core,
    encryption::Encryption,
    error::{Error, ErrorKind},
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
pub struct Idem {
    core: Arc<Core>,
    store: Store,
    sync: Sync,
    presence: Presence,
}

impl Idem {
    /// Encryption at rest, if the store was opened with a key.
    pub fn encryption(&self) -> Option<Encryption<'_>> {
        Encryption::of(&self.core)
    }

    /// The certificate of this peer, and whom its database trusts: with [`ConnectMode::Authority`](crate::ConnectMode::Authority).
    pub fn auth(&self) -> Option<Auth<'_>> {
        Auth::of(&self.core)
    }

    /// Opens a peer.
    ///
    /// # Errors
    /// If the directory is open elsewhere, cannot be used, belongs to another database, or is
    /// damaged.
    pub async fn open(config: IdemConfig) -> Result<Self, Error> {
        // Nothing of ours runs yet that could wait in the caller's place.
        let (send, opened) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("idem-open".to_owned())
            .spawn(move || {
                // The caller may have stopped waiting; then the peer closes again.
                let _ = send.send(Self::open_sync(config));
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        opened
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "opening panicked; please report it"))?
    }

    /// [`open`](Self::open) on the calling thread.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_sync(config: IdemConfig) -> Result<Self, Error> {
        let core = Core::open(config)?;
        Ok(Self {
            store: Store::new(Arc::clone(&core)),
            sync: Sync::new(Arc::clone(&core)),
            presence: Presence::new(Arc::clone(&core)),
            core,
        })
    }

    /// The version of this crate.
    pub fn version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The documents.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Replication.
    pub fn sync(&self) -> &Sync {
        &self.sync
    }

    /// Who is there.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The database.
    pub fn database_id(&self) -> DatabaseId {
        self.core.database
    }

    /// This peer's key. It is made once and kept in the directory.
    pub fn peer_key(&self) -> PeerId {
        self.core.peer
    }

    /// The directory of the store, `None` in memory.
    pub fn persistence_directory(&self) -> Option<&Path> {
        self.core.directory.as_deref()
    }

    /// The current transport configuration.
    pub fn transport_config(&self) -> TransportConfig {
        self.core.replication.config()
    }

    /// Replaces the transport configuration. Sync that runs follows at once: new addresses are
    /// dialled, links to removed ones are closed.
    ///
    /// # Errors
    /// [`ErrorKind::SyncListen`](crate::ErrorKind::SyncListen) if sync runs and a new listener cannot
    /// be bound.
    pub fn set_transport_config(&self, config: TransportConfig) -> Result<(), Error> {
        self.core.replication.set_config(config)
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
        let id = self.core.conditions.observe(callback);
        TransportObserver::new(Arc::clone(&self.core.conditions), id)
    }

    /// Stops sync, ends observers, makes everything durable and closes the files. Calls that run at
    /// that time finish; later ones give [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    ///
    /// It waits for the transaction that is open, unless nothing has run in that for as long as the
    /// system parameter `transaction_idle_ms` allows.
    ///
    /// # Errors
    /// [`ErrorKind::StoreTransactionNested`](crate::ErrorKind::StoreTransactionNested) inside a
    /// transaction, and the peer then stays open; otherwise if the last write to disk failed.
    pub async fn close(&self) -> Result<(), Error> {
        self.core.check_task_not_nested().await?;
        let core = Arc::clone(&self.core);
        // A thread of its own: it may wait for work that needs those of the statements.
        let (send, closed) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("idem-close".to_owned())
            .spawn(move || {
                // The caller may have stopped waiting; the peer closes all the same.
                let _ = send.send(core.close());
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        closed
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "closing panicked; please report it"))?
    }

    /// [`close`](Self::close) on the calling thread.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_blocking(&self) -> Result<(), Error> {
        self.core.check_not_nested()?;
        self.core.close()
    }
}

//! What the handles of one peer share.

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use idem_model::{DatabaseId, PeerId};
use tokio::runtime::{Handle, Runtime};

use crate::{
    blobs::Blobs,
    conditions::Conditions,
    config::{ConnectMode, Durability, IdemConfig},
    desk::Desk,
    encryption::Rekeyer,
    error::{Error, ErrorKind},
    identity,
    lanes::Lanes,
    owners::Owners,
    replication::Replication,
    rows::Streams,
};

/// Threads that links run on: one encrypts while the other decrypts.
const NETWORK_THREADS: usize = 2;

/// Statements up to this size are parsed on the caller's thread, where need be, to see what they do.
/// The store keeps the result, so that nothing is done twice.
const PARSED_TEXT_BYTES_MAX: usize = 16 * 1024;

/// How long closing waits for threads that are still busy.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Core {
    pub(crate) store: idem_store::Store,
    pub(crate) conditions: Arc<Conditions>,
    pub(crate) replication: Replication,
    pub(crate) desk: Option<Arc<Desk>>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) database: DatabaseId,
    pub(crate) peer: PeerId,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) rekeyer: Option<Rekeyer>,
    pub(crate) lanes: Lanes,
    pub(crate) owners: Owners,
    pub(crate) streams: Streams,
    runtime: Mutex<Option<Runtime>>,
}

thread_local! {
    /// The peers whose transaction closures are being polled on this thread.
    static SCOPES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Core {
    pub(crate) fn open(config: IdemConfig) -> Result<Arc<Self>, Error> {
        let store_config = match &config.directory {
            Some(directory) => idem_store::StoreConfig::directory(directory),
            None => idem_store::StoreConfig::memory(),
        };
        let durability = match config.durability {
            Durability::Durable => idem_store::Durability::Durable,
            Durability::Relaxed => idem_store::Durability::Relaxed,
        };
        let store_config = store_config
            .durability(durability)
            .cache_bytes(config.cache_bytes as u64);
        let store_config = match &config.encryption_key {
            Some(key) => store_config.encryption_key(key.clone()),
            None => store_config,
        };
        let store = idem_store::Store::open(store_config).map_err(Error::open)?;
        // The store's lock is held from here on, so nobody else makes an identity meanwhile.
        let opened = Self::with_store(config, store.clone());
        if opened.is_err() {
            // The first failure says more than one of closing an unused store.
            let _ = store.close();
        }
        opened
    }

    fn with_store(mut config: IdemConfig, store: idem_store::Store) -> Result<Arc<Self>, Error> {
        let vault = store.vault().map_err(|error| Error::store(error, ""))?;
        let identity = match &config.directory {
            Some(directory) => {
                let database = config.database_id;
                let opened = identity::open_identity(directory, database, vault.as_ref());
                let (identity, database) = opened?;
                config.database_id = database;
                identity
            }
            None => identity::fresh_identity()?,
        };
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(NETWORK_THREADS)
            .thread_name("idem-net")
            .enable_all();
        let runtime = Lanes::prepare(&mut builder)
            .build()
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start threads").with_source(e))?;
        let conditions = Conditions::new();
        let peer = identity.peer_id();
        let desk = match &config.connect {
            ConnectMode::Authority(authority) => {
                let (database, directory) = (config.database_id, config.directory.as_deref());
                let desk = Desk::open(peer, database, directory, vault.as_ref(), authority);
                Some(desk?)
            }
            _ => None,
        };
        let blobs = Blobs::new(
            store.clone(),
            Arc::clone(&conditions),
            config.directory.clone(),
            config.attachments.options,
            vault.clone(),
        );
        let rekeyer = match (vault, &config.directory) {
            (Some(vault), Some(directory)) => {
                let rekeyer = Rekeyer::new(vault, store.clone(), Arc::clone(&blobs), directory);
                rekeyer.go_on()?;
                Some(rekeyer)
            }
            _ => None,
        };
        let replication = Replication::new(
            store.clone(),
            runtime.handle().clone(),
            Arc::clone(&conditions),
            Arc::clone(&blobs),
            identity,
            &config,
            desk.as_ref(),
        );
        Ok(Arc::new(Self {
            store,
            conditions,
            replication,
            desk,
            blobs,
            database: config.database_id,
            peer,
            directory: config.directory,
            lanes: Lanes::new(runtime.handle().clone()),
            owners: Owners::default(),
            streams: Streams::default(),
            rekeyer,
            runtime: Mutex::new(Some(runtime)),
        }))
    }

    /// Whether a statement only reads, so that it never waits for a writer. A long text of an unusual
    /// kind is not looked at.
    pub(crate) fn only_reads(&self, text: &str) -> bool {
        let verb = text.split_ascii_whitespace().next().unwrap_or_default();
        let reads = ["SELECT", "EXPLAIN", "SHOW"];
        reads.iter().any(|word| verb.eq_ignore_ascii_case(word))
            // Wrong texts need no turn to be refused.
            || (text.len() <= PARSED_TEXT_BYTES_MAX && self.store.reads_only(text).unwrap_or(true))
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Refuses a blocking call that would wait for a transaction of its caller.
    pub(crate) fn check_not_nested(&self) -> Result<(), Error> {
        self.check_not_nested_as(None)
    }

    /// [`check_not_nested`](Self::check_not_nested) for an `async` call.
    pub(crate) async fn check_task_not_nested(&self) -> Result<(), Error> {
        poll_fn(|cx| Poll::Ready(self.check_not_nested_as(Some(cx.waker())))).await
    }

    fn check_not_nested_as(&self, waker: Option<&Waker>) -> Result<(), Error> {
        let in_scope = SCOPES.with_borrow(|scopes| scopes.contains(&self.key()));
        if in_scope || self.owners.is_owner_here(waker) {
            return Err(Error::new(
                ErrorKind::StoreTransactionNested,
                "a transaction is open here; run the statement on that transaction, or end it first",
            ));
        }
        Ok(())
    }

    /// Marks what `poll` does as inside a transaction.
    pub(crate) fn in_transaction<T>(&self, poll: impl FnOnce() -> T) -> T {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                SCOPES.with_borrow_mut(|scopes| scopes.pop());
            }
        }
        SCOPES.with_borrow_mut(|scopes| scopes.push(self.key()));
        let _leave = Leave;
        poll()
    }

    /// Stops sync. It does not wait for a transaction of the caller.
    pub(crate) fn stop_sync(&self) {
        self.replication.stop(self.check_not_nested().is_err());
    }

    pub(crate) fn close(&self) -> Result<(), Error> {
        self.stop_sync();
        if let Some(rekeyer) = &self.rekeyer {
            rekeyer.close();
        }
        self.blobs.close();
        self.replication.board().close();
        self.replication.picture().close();
        self.replication.doorkeeper().clear();
        self.conditions.close();
        self.streams.close();
        let closed = self.store.close();
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            // The links are gone by now, and statements that still run see a closed store. Waiting
            // for the threads is not allowed on a thread of any runtime.
            if Handle::try_current().is_ok() {
                runtime.shutdown_background();
            } else {
                runtime.shutdown_timeout(SHUTDOWN_WAIT);
            }
        }
        match closed {
            Ok(()) | Err(idem_store::StoreError::Closed) => Ok(()),
            Err(error) => Err(Error::store(error, "")),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the peer failed");
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("peer", &self.peer)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

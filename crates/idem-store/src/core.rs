//! What all handles of one open store share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use idem_kv::{Batch, KvError, Overlay};
use idem_log::{Log, LogError, Position};
use idem_model::{Object, Timestamp};
use idem_query::QueryError;
use idem_vault::Vault;

use crate::{
    background::Background,
    catalog::Catalog,
    config::{Clock, Durability},
    directory::DirectoryLock,
    entropy::Entropy,
    error::StoreError,
    facts::FactsCache,
    head::Head,
    indexing::Indexing,
    observers::Observers,
    patience::Patience,
    poison::Poison,
    progress::Progress,
    requests::Requests,
    statements::{Parsed, StatementCache},
    subscriptions::Subscriptions,
    system::PeerSync,
    tuning::Tuning,
    turnstile::Turnstile,
    upkeep::Upkeep,
    work::View,
};

/// Bytes of the overlay above which a writer flushes it itself instead of waiting for the background
/// thread.
const PENDING_BYTES_MAX: u64 = 8 * FLUSH_BYTES;

/// Bytes of the overlay at which it is worth a transaction of the engine: some 10,000 small documents.
/// With random ids each page of the tree then takes several of them; half as much costs a quarter more
/// processor time for a bulk load, and twice as much gains nothing.
pub(crate) const FLUSH_BYTES: u64 = 8 * 1024 * 1024;

/// Gives the rows of a system collection that another layer knows.
pub(crate) type Provider<T> = Arc<dyn Fn() -> Vec<T> + Send + Sync>;

pub(crate) struct Core {
    pub(crate) log: Log,
    pub(crate) overlay: Overlay,
    pub(crate) nonce: u64,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    turnstile: Turnstile,
    /// Changed only by whoever has the turn.
    head: Mutex<Head>,
    pub(crate) progress: Progress,
    pub(crate) poison: Poison,
    pub(crate) entropy: Mutex<Entropy>,
    pub(crate) statements: StatementCache,
    pub(crate) requests: Requests,
    pub(crate) facts: FactsCache,
    pub(crate) observers: Observers,
    pub(crate) background: Background,
    pub(crate) indexing: Indexing,
    pub(crate) upkeep: Upkeep,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) data_sync_info: Mutex<Option<Provider<PeerSync>>>,
    pub(crate) sync_degradations: Mutex<Option<Provider<Object>>>,
    pub(crate) transports_info: Mutex<Option<Provider<Object>>>,
    pub(crate) system_info: Mutex<Option<Provider<Object>>>,
    pub(crate) open_transactions: OpenTransactions,
    pub(crate) directory: Option<DirectoryLock>,
    pub(crate) vault: Option<Vault>,
    /// Whether there may be notes of evictions. Most stores have none and need not look for them.
    pub(crate) has_evictions: AtomicBool,
    /// See [`crate::tombstones`].
    gc_floor: AtomicU64,
    /// Up to where it rose because of what no feed told; zero after opening.
    learned_floor: AtomicU64,
}

/// The part of the configuration that is read while the store is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) durability: Durability,
    pub(crate) document_bytes_soft: usize,
    pub(crate) document_bytes_max: usize,
    pub(crate) tombstone_ttl_ms: u64,
    pub(crate) upkeep_interval: Duration,
    pub(crate) has_threads: bool,
    pub(crate) index_inline_documents: usize,
    pub(crate) index_batch_documents: usize,
    pub(crate) index_batch_bytes: usize,
}

/// What [`Core::new`] starts from.
pub(crate) struct Parts {
    pub(crate) log: Log,
    pub(crate) overlay: Overlay,
    pub(crate) nonce: u64,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) catalog: Catalog,
    pub(crate) head: Head,
    pub(crate) entropy: Entropy,
    pub(crate) directory: Option<DirectoryLock>,
    pub(crate) vault: Option<Vault>,
    pub(crate) has_evictions: bool,
    pub(crate) gc_floor: Timestamp,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            progress: Progress::new(&parts.head),
            log: parts.log,
            overlay: parts.overlay,
            nonce: parts.nonce,
            settings: parts.settings,
            clock: parts.clock,
            catalog: RwLock::new(Arc::new(parts.catalog)),
            turnstile: Turnstile::default(),
            head: Mutex::new(parts.head),
            poison: Poison::default(),
            entropy: Mutex::new(parts.entropy),
            statements: StatementCache::default(),
            requests: Requests::default(),
            facts: FactsCache::default(),
            observers: Observers::default(),
            background: Background::default(),
            indexing: Indexing::default(),
            upkeep: Upkeep::default(),
            subscriptions: Subscriptions::default(),
            data_sync_info: Mutex::default(),
            sync_degradations: Mutex::default(),
            transports_info: Mutex::default(),
            system_info: Mutex::default(),
            open_transactions: OpenTransactions::default(),
            directory: parts.directory,
            vault: parts.vault,
            has_evictions: AtomicBool::new(parts.has_evictions),
            gc_floor: AtomicU64::new(parts.gc_floor.0),
            learned_floor: AtomicU64::new(0),
        }
    }

    /// When the latest of the tombstones that are gone came here; zero if none is gone.
    pub(crate) fn gc_floor(&self) -> Timestamp {
        Timestamp(self.gc_floor.load(Ordering::Acquire))
    }

    pub(crate) fn raise_gc_floor(&self, floor: Timestamp) {
        self.gc_floor.fetch_max(floor.0, Ordering::AcqRel);
    }

    /// Up to where the floor rose since the store was opened because of what no feed told.
    pub(crate) fn learned_floor(&self) -> Timestamp {
        Timestamp(self.learned_floor.load(Ordering::Acquire))
    }

    /// Raises the floor because of what no feed told.
    pub(crate) fn raise_learned_floor(&self, floor: Timestamp) {
        self.learned_floor.fetch_max(floor.0, Ordering::AcqRel);
        self.raise_gc_floor(floor);
    }

    /// The system parameters in force.
    pub(crate) fn tuning(&self) -> Tuning {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        catalog.tuning
    }

    /// The statement of a text, which is used at `now_ms`.
    pub(crate) fn parse(&self, text: &str, now_ms: u64) -> Result<Arc<Parsed>, QueryError> {
        let directives = {
            let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&catalog.directives)
        };
        self.statements.parse(text, now_ms, &directives)
    }

    /// Bytes of all files of the store.
    pub(crate) fn disk_bytes(&self) -> u64 {
        match &self.directory {
            Some(directory) => directory.disk_bytes().unwrap_or(0),
            None => self.overlay.engine().stats().file_bytes + self.log.stats().allocated_bytes,
        }
    }

    /// How long an app's call waits for the writer's turn.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            idle_max: Some(Duration::from_millis(self.tuning().transaction_idle_ms)),
            ..Patience::default()
        }
    }

    /// What is visible now. Never waits for a writer, but for the instant in which one makes a
    /// changed catalog visible.
    pub(crate) fn view(&self) -> Result<View, StoreError> {
        self.poison.check()?;
        // Held while the snapshot is taken, so that catalog and rows are of the same moment.
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        Ok(View {
            snapshot: self.overlay.snapshot()?,
            catalog: Arc::clone(&catalog),
        })
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends `batch` to the log, behind the nonce of the opening, and makes it visible, with its new head and catalog. The caller
    /// has the turn. If this fails nothing has happened.
    pub(crate) fn publish(
        &self,
        batch: &Batch,
        head: Head,
        catalog: Option<Arc<Catalog>>,
    ) -> Result<Position, StoreError> {
        let parts = [&self.nonce.to_be_bytes()[..], batch.as_bytes()];
        let position = self.log.append_parts(&parts).map_err(|error| match error {
            // Nothing was written, and the log goes on.
            LogError::Full { .. } => StoreError::from(error),
            error => self.poison.with("writing the log", error),
        })?;
        // From here on the frame may reach the disk, so memory must follow it or be given up.
        let critical = self.poison.critical("making a commit visible");
        self.progress.appended(position, head.commit);
        match catalog {
            None => self.overlay.apply(batch, position),
            Some(changed) => {
                let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
                self.overlay.apply(batch, position);
                if catalog.sync_scopes() != changed.sync_scopes() {
                    self.progress.scopes_changed();
                }
                *catalog = changed;
            }
        }
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        self.progress.visible(&head);
        critical.passed();
        Ok(position)
    }

    /// Waits until the log is on disk up to `position`.
    pub(crate) fn sync_to(&self, position: Position) -> Result<(), StoreError> {
        self.log
            .sync_to(position)
            .map_err(|error| self.poison.with("syncing the log", error))?;
        self.progress.durable(self.log.durable());
        Ok(())
    }

    /// Does for a commit at `position` what the durability promises.
    pub(crate) fn acknowledge(&self, position: Position) -> Result<(), StoreError> {
        match self.settings.durability {
            Durability::Durable => self.sync_to(position)?,
            Durability::Relaxed => {
                // First, so that whoever is told wakes up meanwhile.
                self.progress.relaxed();
                self.log
                    .flush_to_os(position)
                    .map_err(|error| self.poison.with("writing the log", error))?;
                self.background.wake_sync();
            }
        }
        self.flush_if_due()
    }

    /// Hands the log to the operating system up to `position`.
    pub(crate) fn hand_over(&self, position: Position) -> Result<(), StoreError> {
        self.log
            .flush_to_os(position)
            .map_err(|error| self.poison.with("writing the log", error))?;
        // Somebody's sync may have taken it along before it was visible.
        self.progress.durable(self.log.durable());
        self.flush_if_due()
    }

    /// Sees to it that the overlay is flushed if it has grown enough for that.
    pub(crate) fn flush_if_due(&self) -> Result<(), StoreError> {
        self.background.committed();
        if self.overlay.pending_bytes() >= FLUSH_BYTES {
            if self.settings.has_threads {
                self.background.wake_flush();
            } else {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Holds writers back while the engine cannot keep up.
    pub(crate) fn make_room(&self) -> Result<(), StoreError> {
        if self.overlay.pending_bytes() > PENDING_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Moves the overlay into the engine and trims the log.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let position = self.overlay.flush(|position| {
            self.log.sync_to(position).map_err(|error| {
                self.poison.set("syncing the log", &error);
                KvError::barrier(error)
            })
        })?;
        self.progress.durable(self.log.durable());
        self.log.trim(position)?;
        // Lack of room shows at the next append that needs it; here it only loses a head start.
        if let Err(error) = self.log.prepare() {
            tracing::warn!(%error, "no log segment could be prepared");
        }
        Ok(())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

/// The right to write; left when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    core: Arc<Core>,
    /// What those who wait are told of it.
    hint: Option<Arc<str>>,
}

/// Work with a turn, which rests again when this is dropped.
#[derive(Debug)]
pub(crate) struct Working {
    core: Arc<Core>,
    hint: Option<Arc<str>>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.core.turnstile.rest(self.hint.as_ref());
    }
}

impl Turn {
    pub(crate) fn take(core: &Arc<Core>, patience: &Patience) -> Result<Self, StoreError> {
        core.poison.check()?;
        core.make_room()?;
        core.turnstile.enter(patience)?;
        let turn = Self {
            core: Arc::clone(core),
            hint: None,
        };
        // The writer before may have failed while this one waited.
        core.poison.check()?;
        Ok(turn)
    }

    pub(crate) fn name(&mut self, hint: Option<&str>) {
        self.hint = hint.map(Arc::from);
    }

    /// Says that nothing is done with the turn from now on.
    pub(crate) fn rest(&self) {
        self.core.turnstile.rest(self.hint.as_ref());
    }

    /// Says that something is done with it again.
    pub(crate) fn resume(&self) {
        self.core.turnstile.resume();
    }

    /// [`Turn::resume`], and [`Turn::rest`] when the result is dropped.
    pub(crate) fn work(&self) -> Working {
        self.resume();
        Working {
            core: Arc::clone(&self.core),
            hint: self.hint.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.core.turnstile.leave();
    }
}

/// Which threads have a transaction open, so that waiting for oneself is an error.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    // Read first: almost always there is none, and `execute` must not pay for a lock then.
    count: AtomicUsize,
    threads: Mutex<Vec<ThreadId>>,
}

impl OpenTransactions {
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.contains(&thread::current().id()) {
            return Err(StoreError::NestedTransaction);
        }
        Ok(())
    }

    pub(crate) fn insert(&self) -> ThreadId {
        let id = thread::current().id();
        self.threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id);
        self.count.fetch_add(1, Ordering::Release);
        id
    }

    pub(crate) fn remove(&self, id: ThreadId) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = threads.iter().position(|other| *other == id) {
            threads.swap_remove(at);
            self.count.fetch_sub(1, Ordering::Release);
        }
    }
}

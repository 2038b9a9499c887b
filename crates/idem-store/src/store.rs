//! The store as the caller sees it.

use std::{
    fmt,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
    thread::{self, JoinHandle},
};

use idem_crdt::Document;
use idem_kv::{RekeyProgress, Snapshot};
use idem_model::{
    ActorId, CollectionName, DeletedDay, DocumentKey, FieldKind, FieldPath, InsertConflict, Object,
    PeerId, SyncScope, Timestamp, Value, VersionVector,
};
use idem_query::{ErrorKind, QueryError, Selector, StatementKind, Warning};
use idem_vault::Vault;

use crate::{
    config::StoreConfig,
    core::{Core, Turn},
    error::{OpenError, StoreError},
    evictions::{self, EvictReason},
    feed,
    feed::{ChangeBatch, Changed},
    gone::{self, Gone},
    indexing,
    merge::{self, ApplyReport, Cursor, CursorUpdate, Incoming, Synced},
    observe::{Observer, SignalNext},
    observers::{Callback, Wish},
    open,
    patience::Cancellation,
    progress::Moment,
    projections, quarantine,
    query::{self, ImportReport, QueryResult},
    requests::ExecuteOptions,
    scope::{self, ScopeFilter, ScopeItem},
    subscriptions::{Interest, SubscriptionHash},
    system::PeerSync,
    tables::{self, SYSTEM},
    tombstones,
    transaction::{Transaction, TransactionOptions},
    upkeep,
    verify::{self, VerifyReport},
    work::Work,
};

/// One peer's documents. Clones share the store, which closes with the last one.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// Ends the store when the last clone is gone.
struct Handle {
    /// Empty once the store is closed.
    core: RwLock<Option<Arc<Core>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The actor as of the opening.
    actor: ActorId,
}

/// Sizes and counts of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Bytes of all files of the store.
    pub disk_bytes: u64,
    /// Bytes of commits that are in the log and in memory but not yet in the engine.
    pub pending_bytes: u64,
    /// The last visible local commit.
    pub last_commit: u64,
    /// The last local commit that is on disk.
    pub durable_commit: u64,
    /// Documents in all collections, tombstones not counted.
    pub documents: u64,
}

/// Keeps a commit callback registered; dropping it ends that.
#[derive(Debug)]
#[must_use = "the callback ends when its subscription is dropped"]
pub struct CommitSubscription {
    core: Weak<Core>,
    id: u64,
}

impl Drop for CommitSubscription {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.progress.unsubscribe(self.id);
        }
    }
}

impl Store {
    /// Opens a store, and makes it if it is not there. Costs about a millisecond, and for a store
    /// that was not closed the replay of at most a few MiB of log.
    ///
    /// # Errors
    /// [`OpenError`] if it is open elsewhere, damaged, of a newer format, or cannot be written.
    pub fn open(config: StoreConfig) -> Result<Self, OpenError> {
        let (core, threads) = open::open(config)?;
        Ok(Self {
            handle: Arc::new(Handle {
                actor: core.head().actor,
                core: RwLock::new(Some(core)),
                threads: Mutex::new(threads),
            }),
        })
    }

    /// Runs one DQL statement as a transaction of its own. Parsed statements are kept by their text.
    ///
    /// # Errors
    /// [`StoreError`]; a failed statement changes nothing.
    pub fn execute(&self, text: &str, args: Object) -> Result<QueryResult, StoreError> {
        query::execute_alone(&self.core()?, text, args, &ExecuteOptions::default())
    }

    /// As [`Store::execute`], with a time limit, a cancellation or another bound of memory. One that
    /// was stopped changes nothing.
    ///
    /// # Errors
    /// As [`Store::execute`].
    pub fn execute_with(
        &self,
        text: &str,
        args: Object,
        options: &ExecuteOptions,
    ) -> Result<QueryResult, StoreError> {
        query::execute_alone(&self.core()?, text, args, options)
    }

    /// Runs a statement that only reads, and hands each row to `visit` until that returns false. Rows
    /// are not collected. Returns the warnings.
    ///
    /// # Errors
    /// As [`Store::execute`]; [`StoreError::ReadOnly`] for a statement that writes. Rows may have been
    /// handed over before.
    pub fn stream(
        &self,
        text: &str,
        args: &Object,
        options: &ExecuteOptions,
        visit: &mut dyn FnMut(Object) -> bool,
    ) -> Result<Vec<Warning>, StoreError> {
        query::stream(&self.core()?, text, args, options, visit)
    }

    /// Whether a statement only reads, and so waits for no writer. Parsed statements are kept by
    /// their text.
    ///
    /// # Errors
    /// [`StoreError::Query`] if the text is not a statement.
    pub fn reads_only(&self, text: &str) -> Result<bool, StoreError> {
        let core = self.core()?;
        let parsed = core.parse(text, (core.clock)())?;
        Ok(!parsed.statement.is_mutating())
    }

    /// Opens a transaction. At most one that writes is open at a time; this waits for its turn, in
    /// the order of asking.
    ///
    /// # Errors
    /// [`StoreError::NestedTransaction`] on a thread that has one open.
    pub fn begin(&self, options: TransactionOptions) -> Result<Transaction, StoreError> {
        Transaction::begin(self.core()?, options)
    }

    /// Inserts documents, each with or without `_id`, as one commit and without parsing a statement.
    ///
    /// # Errors
    /// As an INSERT of the same documents; nothing is then inserted.
    pub fn insert_many(
        &self,
        collection: &CollectionName,
        documents: Vec<Object>,
        conflict: InsertConflict,
    ) -> Result<ImportReport, StoreError> {
        query::insert_many(&self.core()?, collection, documents, conflict)
    }

    /// Calls `callback` with the result of a SELECT soon after this call and after each change of it.
    /// Calls come from one thread of the store and never overlap; a slow callback gets the newest
    /// result next.
    ///
    /// # Errors
    /// [`StoreError::Query`] if the text is not a SELECT.
    pub fn observe(
        &self,
        text: &str,
        args: Object,
        mut callback: impl FnMut(Result<QueryResult, StoreError>) + Send + 'static,
    ) -> Result<Observer, StoreError> {
        let callback = move |result, _signal| callback(result);
        self.watch(text, args, false, Box::new(callback))
    }

    /// As [`Store::observe`], but the next call comes only after [`SignalNext::signal`].
    ///
    /// # Errors
    /// As [`Store::observe`].
    pub fn observe_with_signal_next(
        &self,
        text: &str,
        args: Object,
        callback: impl FnMut(Result<QueryResult, StoreError>, SignalNext) + Send + 'static,
    ) -> Result<Observer, StoreError> {
        self.watch(text, args, true, Box::new(callback))
    }

    /// How many observers live.
    pub fn observer_count(&self) -> usize {
        self.core().map_or(0, |core| core.observers.len())
    }

    /// The actor of this life of the store. It changes when the store learns that a later state of it
    /// was lost.
    pub fn actor(&self) -> ActorId {
        self.core()
            .map_or(self.handle.actor, |core| core.head().actor)
    }

    /// The last time given by the store's hybrid clock.
    pub fn timestamp(&self) -> Timestamp {
        self.core()
            .map_or(Timestamp::ZERO, |core| core.progress.last_time())
    }

    /// The last visible commit; 0 if there is none. Commits count 1, 2, 3 on this peer, local ones
    /// and merges alike.
    pub fn last_commit(&self) -> u64 {
        self.core().map_or(0, |core| core.progress.last_commit())
    }

    /// The last commit that is on disk and visible: who reads afterwards finds what it changed.
    pub fn durable_commit(&self) -> u64 {
        self.core().map_or(0, |core| core.progress.durable_commit())
    }

    /// Waits until `commit` is on disk, and writes it there if nobody else does.
    ///
    /// # Errors
    /// [`StoreError::Log`] if that failed, which poisons the store.
    pub fn wait_durable(&self, commit: u64) -> Result<(), StoreError> {
        let core = self.core()?;
        core.poison.check()?;
        match core.progress.position_of(commit) {
            Some(position) => core.sync_to(position),
            None => Ok(()),
        }
    }

    /// Calls `callback` with the newest durable commit whenever that has risen, and when
    /// [`sync_scope`](Self::sync_scope) has changed. It runs on the thread
    /// that made the commit durable and must be short.
    pub fn subscribe_commits(
        &self,
        callback: impl Fn(u64) + Send + Sync + 'static,
    ) -> CommitSubscription {
        self.subscribe(Moment::Durable, Arc::new(callback))
    }

    /// Calls `callback` with the last commit whenever a relaxed commit is acknowledged, which is on
    /// disk later: sooner if somebody waits for it ([`wait_durable`](Self::wait_durable)). It runs on
    /// the thread that committed and must be short.
    pub fn subscribe_relaxed_commits(
        &self,
        callback: impl Fn(u64) + Send + Sync + 'static,
    ) -> CommitSubscription {
        self.subscribe(Moment::Relaxed, Arc::new(callback))
    }

    fn subscribe(
        &self,
        moment: Moment,
        callback: Arc<dyn Fn(u64) + Send + Sync>,
    ) -> CommitSubscription {
        match self.core() {
            Ok(core) => CommitSubscription {
                id: core.progress.subscribe(moment, callback),
                core: Arc::downgrade(&core),
            },
            // Nothing will be committed any more.
            Err(_) => CommitSubscription {
                core: Weak::new(),
                id: 0,
            },
        }
    }

    /// The documents of `collection` whose last change here came after the commit `after`, at their
    /// current state, with those of any collection that shared a transaction with them which the
    /// receiver may not hold: it holds what last changed up to the commit `held_to` (at most `after`).
    /// Stops after the group that passes `bytes_max`; `up_to` is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn changed_since(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> Result<ChangeBatch, StoreError> {
        feed::changed_since(&self.core()?, collection, after, held_to, bytes_max)
    }

    /// Visits what is held of a scope: the live documents of the selector's collection that `filter`
    /// lets through, its tombstones, and what was evicted from `subscription` in this collection. Gives
    /// the commit of the snapshot that was read, which is on disk. Costs half a microsecond to one for
    /// each document, and twice that where the selector has a condition.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn scan_scope(
        &self,
        subscription: &SubscriptionHash,
        selector: &Selector,
        filter: ScopeFilter,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        scope::scan(&self.core()?, subscription, selector, filter, visit)
    }

    /// The current state of these documents, in groups as of [`Store::changed_since`] and until
    /// `bytes_max` is passed, and how many of `keys` that took. The receiver holds what of the
    /// collections of `keys` last changed up to the commit `held_to`, but for `keys`; other documents
    /// that shared a transaction with one of them come along.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn changed_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> Result<(Vec<Vec<Changed>>, usize), StoreError> {
        feed::changed_documents(&self.core()?, keys, held_to, bytes_max)
    }

    /// The encoded `idem_crdt::Document`, tombstones included; `None` if nothing is known of it.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn document(&self, key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        Work::read(self.core()?)?.encoded(key)
    }

    /// The decoded document, tombstones included.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn document_state(&self, key: &DocumentKey) -> Result<Option<Document>, StoreError> {
        Work::read(self.core()?)?.state(key)
    }

    /// All concurrent values of a field, the visible one first: one where there is no conflict, none
    /// where there is no such field or document.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn conflicts(&self, key: &DocumentKey, path: &FieldPath) -> Result<Vec<Value>, StoreError> {
        let work = Work::read(self.core()?)?;
        let kinds = work.catalog().kinds_of(&key.collection);
        let document = work.state(key)?;
        Ok(document.map_or_else(Vec::new, |document| {
            document.conflicts_declared(path, &kinds)
        }))
    }

    /// The kinds that a collection declares (CREATE COLLECTION), strictly rising by path.
    ///
    /// # Errors
    /// [`StoreError`] if the store is closed or failed before.
    pub fn declared(
        &self,
        collection: &CollectionName,
    ) -> Result<Arc<[(FieldPath, FieldKind)]>, StoreError> {
        let core = self.core()?;
        core.poison.check()?;
        Ok(core.catalog().kinds_of(collection))
    }

    /// Has the documents of a projection, which travel under the name `travelling`, go into the
    /// collection `name`, for good: it is not written to otherwise, and syncs with nobody as a collection.
    /// In all calls about what travels, `travelling` means that collection. Durable when this returns,
    /// as the store is configured. Does nothing if it is so already.
    ///
    /// # Errors
    /// [`StoreError::CollectionInUse`] if the collection holds something else or belongs to another
    /// projection, [`StoreError::ProjectionElsewhere`] if the projection has another collection,
    /// [`StoreError::ReservedCollection`] for a name of the system.
    pub fn declare_projection(
        &self,
        name: &CollectionName,
        travelling: &CollectionName,
        selector: &Selector,
    ) -> Result<(), StoreError> {
        projections::declare(&self.core()?, name, travelling, selector)
    }

    /// The collection into which the documents go that travel under this name, if there is one.
    pub fn projection(&self, travelling: &CollectionName) -> Option<CollectionName> {
        let catalog = self.core().ok()?.catalog();
        let name = catalog.ordinal(travelling).and_then(|it| catalog.name(it));
        name.filter(|name| *name != travelling).cloned()
    }

    /// With which peers the documents of a collection sync: what the system parameter
    /// `user_collection_sync_scopes` says. A collection of the system syncs with all.
    pub fn sync_scope(&self, collection: &CollectionName) -> SyncScope {
        self.core().map_or(SyncScope::AllPeers, |core| {
            core.catalog().sync_scope(collection)
        })
    }

    /// The version vector of a document; empty if nothing is known of it. Cheaper than decoding it.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn document_version(&self, key: &DocumentKey) -> Result<VersionVector, StoreError> {
        Work::read(self.core()?)?.version(key)
    }

    /// Merges documents from another peer and stores the cursors that go with them, as one local
    /// transaction, durable as the store is configured. It waits for the writer's turn.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; nothing is then applied. Documents that cannot be
    /// merged are no error but named in the report.
    pub fn apply(
        &self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
    ) -> Result<ApplyReport, StoreError> {
        merge::apply(
            &self.core()?,
            incoming,
            cursors,
            &[],
            merge::Wait::AsConfigured,
            None,
        )
    }

    /// As [`Store::apply`], with what was taken in whole, and returns once the documents are visible. Whoever owes an
    /// acknowledgement gives it when [`Store::durable_commit`] has reached the report's commit, and
    /// sees to that with [`Store::wait_durable`]. Many of these share one write to the disk.
    ///
    /// It waits for the writer's turn until `cancellation` is cancelled, and then nothing is applied.
    ///
    /// # Errors
    /// As [`Store::apply`]; [`StoreError::Query`] of the kind `Cancelled`.
    pub fn apply_visible(
        &self,
        incoming: Vec<Incoming>,
        cursors: &[CursorUpdate],
        synced: &[Synced],
        cancellation: &Cancellation,
    ) -> Result<ApplyReport, StoreError> {
        merge::apply(
            &self.core()?,
            incoming,
            cursors,
            synced,
            merge::Wait::Never,
            Some(cancellation),
        )
    }

    /// Removes documents here and only here, and gives how many: those of which nothing is here that
    /// the version beside them does not cover. It waits for the writer's turn until `cancellation` is
    /// cancelled.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; then all of them stay.
    pub fn evict(
        &self,
        documents: &[(DocumentKey, VersionVector)],
        reason: EvictReason,
        cancellation: &Cancellation,
    ) -> Result<u64, StoreError> {
        evictions::evict(&self.core()?, documents, reason, cancellation)
    }

    /// Visits every document of a collection of which anything is known here: live ones, those in
    /// quarantine, tombstones, and what was evicted and counts as held in a subscription, in doubt or not.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn scan_known(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(&ScopeItem<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        scope::scan_known(&self.core()?, collection, visit)
    }

    /// What is known of the documents of a collection of which nothing is kept; `None` if more actors
    /// wrote them than can be told apart.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn gone(&self, collection: &CollectionName) -> Result<Option<Gone>, StoreError> {
        let view = self.core()?.view()?;
        match view.catalog.ordinal(collection) {
            Some(collection) => Gone::stored(&view.snapshot, collection),
            None => Ok(Some(Gone::default())),
        }
    }

    /// Which deletions in a collection were heard of, here or by being told: all of which there is no
    /// tombstone here are in one of these sums. Costs a look at every tombstone.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn deleted_days(&self, collection: &CollectionName) -> Result<Vec<DeletedDay>, StoreError> {
        let view = self.core()?.view()?;
        match view.catalog.ordinal(collection) {
            Some(collection) => gone::deleted_days(&view.snapshot, collection),
            None => Ok(Vec::new()),
        }
    }

    /// Another peer knows of `deleted` documents that went from it without a trace: joins them to what
    /// [`Store::gone`] covers. With them come its [`Store::deleted_days`]. If some of these deletions were
    /// not heard of here, or more is covered than before, [`Store::gc_floor`] and [`Store::learned_floor`]
    /// rise to now. It waits for the writer's turn until `cancellation` is cancelled.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; then nothing was learned.
    pub fn learn_gone(
        &self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
        cancellation: &Cancellation,
    ) -> Result<(), StoreError> {
        gone::learn(&self.core()?, collection, (deleted, days), cancellation)
    }

    /// Up to where [`Store::gc_floor`] has risen since the store was opened because of what no change feed
    /// told: [`Store::learn_gone`], [`Store::doubt_evicted`], and documents that [`Store::evict`] took away
    /// as deleted. Zero if it has not.
    pub fn learned_floor(&self) -> Timestamp {
        (self.core()).map_or(Timestamp::ZERO, |core| core.learned_floor())
    }

    /// The last time given by the store's clock, if all that was visible by then is on disk now.
    pub fn durable_timestamp(&self) -> Option<Timestamp> {
        let core = self.core().ok()?;
        let time = core.progress.last_time();
        // A commit that is visible is counted, so that none of that time hides behind this one.
        let is_durable = core.progress.durable_commit() >= core.progress.last_commit();
        is_durable.then_some(time)
    }

    /// When the latest of the tombstones that are gone came here, by this store's hybrid clock, or when it
    /// was learned last what is gone elsewhere; zero if nothing is. Whoever was told everything up to then knows all of them.
    pub fn gc_floor(&self) -> Timestamp {
        self.core().map_or(Timestamp::ZERO, |core| core.gc_floor())
    }

    /// Up to when, by the peer's hybrid clock, everything was taken in that it had of a collection.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn last_synced(
        &self,
        peer: PeerId,
        collection: &CollectionName,
    ) -> Result<Option<Timestamp>, StoreError> {
        let view = self.core()?.view()?;
        view.snapshot
            .get(SYSTEM, &tables::synced(peer, collection))?
            .map(|bytes| tombstones::decode_arrival(&bytes))
            .transpose()
            .map_err(|error| StoreError::corrupt("time of the last sync", &error))
    }

    /// Another peer knows nothing of documents that were evicted and count as held in a subscription, and may
    /// have forgotten that they were deleted: they are
    /// [`ScopeState::Doubtful`](crate::ScopeState::Doubtful) until they come back. Gives how many there are
    /// that were not in doubt before; if any, [`Store::gc_floor`] and [`Store::learned_floor`] rise to now.
    /// It waits for the writer's turn until `cancellation` is cancelled.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; then none of them is in doubt.
    pub fn doubt_evicted(
        &self,
        documents: &[DocumentKey],
        cancellation: &Cancellation,
    ) -> Result<u64, StoreError> {
        evictions::doubt(&self.core()?, documents, cancellation)
    }

    /// Puts documents into quarantine, and gives how many: they do not travel until somebody writes to
    /// them, a merge brings something that [`Gone::deleted`] does not cover, or
    /// [`Store::leave_quarantine`] is called. `from` is the peer that lacked them. It waits for
    /// the writer's turn until `cancellation` is cancelled.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; then none of them is.
    pub fn quarantine(
        &self,
        keys: &[DocumentKey],
        from: PeerId,
        cancellation: &Cancellation,
    ) -> Result<u64, StoreError> {
        quarantine::enter(&self.core()?, keys, from, cancellation)
    }

    /// Ends the quarantine of documents, and gives how many: they travel as if they were written now.
    ///
    /// # Errors
    /// As [`Store::quarantine`].
    pub fn leave_quarantine(
        &self,
        keys: &[DocumentKey],
        cancellation: &Cancellation,
    ) -> Result<u64, StoreError> {
        quarantine::leave(&self.core()?, keys, cancellation)
    }

    /// For whoever knows the subscriptions of this peer: what is evicted counts as held in those that
    /// select it.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn interest(&self) -> Result<Interest, StoreError> {
        Ok(Interest::new(&self.core()?))
    }

    /// Does one round of forgetting what need not be known any more: subscriptions that ended, and what
    /// was kept for them. A thread of the store does this by itself every hour, unless
    /// [`StoreConfig::background_threads`] is off. Tombstones go by [`Store::forget_tombstones`].
    ///
    /// # Errors
    /// [`StoreError`] if reading or writing failed; the next round does what is left.
    /// [`StoreError::NestedTransaction`] on a thread that has a transaction open.
    pub fn upkeep(&self) -> Result<(), StoreError> {
        let core = self.core()?;
        core.open_transactions.check()?;
        upkeep::round(&core)
    }

    /// Removes the tombstones of one day whose life is over (`tombstone_ttl_hours`), behind a
    /// [`Store::gc_floor`] that rises first. Peers that were away for longer ask before they send. A
    /// thread of the store does this by itself every hour, and at opening if the last time is an hour ago,
    /// unless [`StoreConfig::background_threads`] is off. Called more often it makes less of the guard against
    /// a clock that is wrong for a while.
    ///
    /// # Errors
    /// As [`Store::upkeep`].
    pub fn forget_tombstones(&self) -> Result<(), StoreError> {
        let core = self.core()?;
        core.open_transactions.check()?;
        upkeep::forget_tombstones(&core)
    }

    /// The stored cursor of a subscription at a peer.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn cursor(&self, peer: PeerId, subscription: &[u8]) -> Result<Option<Cursor>, StoreError> {
        let view = self.core()?.view()?;
        let key = tables::cursor(peer, subscription);
        view.snapshot
            .get(SYSTEM, &key)?
            .map(|bytes| Cursor::decode(&bytes))
            .transpose()
            .map_err(|error| StoreError::corrupt("cursor", &error))
    }

    /// Gives the rows of `system:data_sync_info` whenever they are read. There are none before.
    pub fn provide_data_sync_info(&self, peers: Arc<dyn Fn() -> Vec<PeerSync> + Send + Sync>) {
        if let Ok(core) = self.core() {
            let mut provider = core
                .data_sync_info
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *provider = Some(peers);
        }
    }

    /// Gives rows of `system:sync_degradations` whenever they are read, beside those that the store
    /// itself has.
    pub fn provide_sync_degradations(&self, rows: Arc<dyn Fn() -> Vec<Object> + Send + Sync>) {
        if let Ok(core) = self.core() {
            let mut provider = core
                .sync_degradations
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *provider = Some(rows);
        }
    }

    /// Gives the rows of `system:transports_info` whenever they are read. There are none before.
    pub fn provide_transports_info(&self, rows: Arc<dyn Fn() -> Vec<Object> + Send + Sync>) {
        if let Ok(core) = self.core() {
            let mut provider = core
                .transports_info
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *provider = Some(rows);
        }
    }

    /// Gives more rows of `system:system_info` whenever they are read, each with `namespace`, `key` and
    /// `value`.
    pub fn provide_system_info(&self, rows: Arc<dyn Fn() -> Vec<Object> + Send + Sync>) {
        if let Ok(core) = self.core() {
            let mut provider = core
                .system_info
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *provider = Some(rows);
        }
    }

    /// A hash over collection, id and encoded state of every document, tombstones included: two
    /// stores that hold the same changes have the same one. Reads the whole store.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn digest(&self) -> Result<[u8; 32], StoreError> {
        verify::digest(&self.core()?)
    }

    /// Reads everything, checks every checksum, and compares documents with the rows about them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the first damaged value.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        verify::verify(&self.core()?)
    }

    /// Sizes and counts.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn statistics(&self) -> Result<Statistics, StoreError> {
        let core = self.core()?;
        Ok(Statistics {
            disk_bytes: core.disk_bytes(),
            pending_bytes: core.overlay.pending_bytes(),
            last_commit: core.progress.last_commit(),
            durable_commit: core.progress.durable_commit(),
            documents: verify::documents(&core)?,
        })
    }

    /// Moves what is in memory into the engine and trims the log.
    ///
    /// # Errors
    /// [`StoreError`] if writing failed.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let core = self.core()?;
        core.poison.check()?;
        core.flush()
    }

    /// The keys of an encrypted store.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub fn vault(&self) -> Result<Option<Vault>, StoreError> {
        Ok(self.core()?.vault.clone())
    }

    /// After [`Vault::begin_rotation`]: seals the next part of what is stored under the key that seals now,
    /// from the place that the last call gave, 0 at first. When the progress is complete, nothing of the
    /// store needs the older keys. It may be broken off, and then begins again at 0.
    ///
    /// # Errors
    /// [`StoreError`] if reading or writing failed.
    pub fn rekey(&self, from: u64) -> Result<RekeyProgress, StoreError> {
        let core = self.core()?;
        core.poison.check()?;
        if from == 0 {
            // Frames of the log that are in the engine are never read again.
            core.flush()?;
        }
        core.overlay.rekey(from).map_err(StoreError::from)
    }

    /// Takes one step of the work on indexes: builds or deletes one batch of entries, in a short
    /// transaction of its own, or counts some. Returns false if there was nothing to do. A thread of
    /// the store does this by itself, unless
    /// [`StoreConfig::background_threads`] is off; then CREATE INDEX still builds to the end, and what
    /// is left by a DROP INDEX, a longer transaction or an earlier opening waits for this.
    ///
    /// # Errors
    /// [`StoreError`] if reading or writing failed; the work is where it was before the step.
    /// [`StoreError::NestedTransaction`] on a thread that has a transaction open.
    pub fn step_index_work(&self) -> Result<bool, StoreError> {
        let core = self.core()?;
        core.open_transactions.check()?;
        indexing::step(&core)
    }

    /// Waits for the open transaction, makes everything durable, ends the threads and releases the
    /// directory. Later calls on any clone give [`StoreError::Closed`].
    ///
    /// # Errors
    /// [`StoreError`] if the last writes failed; [`StoreError::NestedTransaction`] on a thread that has
    /// a transaction open, and the store then stays open.
    pub fn close(&self) -> Result<(), StoreError> {
        self.handle.close()
    }

    pub(crate) fn core(&self) -> Result<Arc<Core>, StoreError> {
        let core = self
            .handle
            .core
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        core.clone().ok_or(StoreError::Closed)
    }

    fn watch(
        &self,
        text: &str,
        args: Object,
        has_signal: bool,
        callback: Callback,
    ) -> Result<Observer, StoreError> {
        let core = self.core()?;
        let parsed = core.parse(text, (core.clock)())?;
        if parsed.statement.kind() != StatementKind::Select {
            let message = "only a SELECT can be observed";
            return Err(QueryError::new(ErrorKind::Unsupported, message).into());
        }
        let id = core.observers.insert(Wish {
            parsed,
            args,
            has_signal,
            callback,
        })?;
        if !core.settings.has_threads {
            core.observers.deliver(&core);
        }
        Ok(Observer::new(&core, id))
    }
}

impl Handle {
    fn close(&self) -> Result<(), StoreError> {
        if let Some(core) = &*self.core.read().unwrap_or_else(PoisonError::into_inner) {
            core.open_transactions.check()?;
        }
        let taken = {
            let mut core = self.core.write().unwrap_or_else(PoisonError::into_inner);
            core.take()
        };
        let Some(core) = taken else {
            return Ok(());
        };
        // Whoever writes finishes first; whoever waits behind finds the store closed.
        let (turn, result) = match Turn::take(&core, &core.patience()) {
            Ok(turn) => (Some(turn), core.flush()),
            // What failed then was reported then.
            Err(StoreError::Poisoned { .. }) => (None, Ok(())),
            Err(error) => (None, Err(error)),
        };
        // What the engine cannot take in now, the next opening takes from the log.
        if result.is_err()
            && core.poison.check().is_ok()
            && let Err(error) = core.sync_to(core.log.end())
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the last sync failed"
            );
        }
        core.poison.close();
        drop(turn);
        self.stop(&core);
        result
    }

    fn stop(&self, core: &Core) {
        core.background.stop();
        core.observers.stop();
        core.indexing.stop();
        core.upkeep.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The last handle may go inside a callback; that thread ends by itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let core = self
            .core
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(core) = core else {
            return;
        };
        // Without waiting for a transaction that is still open: it may belong to this thread. What is
        // acknowledged is in the log, so that the next opening finds it.
        if core.settings.has_threads
            && core.poison.check().is_ok()
            && let Err(error) = core.sync_to(core.log.end())
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the last sync failed"
            );
        }
        core.poison.close();
        self.stop(&core);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("actor", &self.actor())
            .finish_non_exhaustive()
    }
}

//! The store as the caller sees it.

use std::sync::Arc;

use idem_model::{
    ActorId, CollectionName, DocumentKey, InsertConflict, Object, PeerId, VersionVector,
};

use crate::{
    config::StoreConfig,
    error::{OpenError, StoreError},
    feed::ChangeBatch,
    merge::{ApplyReport, Cursor, CursorUpdate, Incoming},
    observe::{Observer, SignalNext},
    query::{ImportReport, QueryResult},
    transaction::{Transaction, TransactionOptions},
};

/// One peer's documents. Clones share the store, which closes with the last one.
#[derive(Clone, Debug)]
pub struct Store {}

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

/// What [`Store::verify`] read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Stored values whose checksum was checked.
    pub values: u64,
    /// Documents, tombstones included, that were decoded and compared with the rows about them.
    pub documents: u64,
    /// What does not fit together, at most 100 findings. Empty means that the store is sound.
    pub problems: Vec<String>,
}

/// Keeps a commit callback registered; dropping it ends that.
#[derive(Debug)]
#[must_use = "the callback ends when its subscription is dropped"]
pub struct CommitSubscription {}

impl Store {
    /// Opens a store, and makes it if it is not there. Costs about a millisecond, and for a store
    /// that was not closed the replay of at most a few MiB of log.
    ///
    /// # Errors
    /// [`OpenError`] if it is open elsewhere, damaged, of a newer format, or cannot be written.
    pub fn open(_config: StoreConfig) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Runs one DQL statement as a transaction of its own. Parsed statements are kept by their text.
    ///
    /// # Errors
    /// [`StoreError`]; a failed statement changes nothing.
    pub fn execute(&self, _text: &str, _args: Object) -> Result<QueryResult, StoreError> {
        unimplemented!()
    }

    /// Opens a transaction. At most one that writes is open at a time; this waits for its turn, in
    /// the order of asking.
    ///
    /// # Errors
    /// [`StoreError::NestedTransaction`] on a thread that has one open.
    pub fn begin(&self, _options: TransactionOptions) -> Result<Transaction, StoreError> {
        unimplemented!()
    }

    /// Inserts documents, each with or without `_id`, as one commit and without parsing a statement.
    ///
    /// # Errors
    /// As an INSERT of the same documents; nothing is then inserted.
    pub fn insert_many(
        &self,
        _collection: &CollectionName,
        _documents: Vec<Object>,
        _conflict: InsertConflict,
    ) -> Result<ImportReport, StoreError> {
        unimplemented!()
    }

    /// Calls `callback` with the result of a SELECT soon after this call and after each change of it.
    /// Calls come from one thread of the store and never overlap; a slow callback gets the newest
    /// result next.
    ///
    /// # Errors
    /// [`StoreError::Query`] if the text is not a SELECT.
    pub fn observe(
        &self,
        _text: &str,
        _args: Object,
        _callback: impl FnMut(Result<QueryResult, StoreError>) + Send + 'static,
    ) -> Result<Observer, StoreError> {
        unimplemented!()
    }

    /// As [`Store::observe`], but the next call comes only after [`SignalNext::signal`].
    ///
    /// # Errors
    /// As [`Store::observe`].
    pub fn observe_with_signal_next(
        &self,
        _text: &str,
        _args: Object,
        _callback: impl FnMut(Result<QueryResult, StoreError>, SignalNext) + Send + 'static,
    ) -> Result<Observer, StoreError> {
        unimplemented!()
    }

    /// How many observers live.
    pub fn observer_count(&self) -> usize {
        unimplemented!()
    }

    /// The actor of this life of the store.
    pub fn actor(&self) -> ActorId {
        unimplemented!()
    }

    /// The last visible commit; 0 if there is none. Commits count 1, 2, 3 on this peer, local ones
    /// and merges alike.
    pub fn last_commit(&self) -> u64 {
        unimplemented!()
    }

    /// The last commit that is on disk.
    pub fn durable_commit(&self) -> u64 {
        unimplemented!()
    }

    /// Waits until `commit` is on disk, and writes it there if nobody else does.
    ///
    /// # Errors
    /// [`StoreError`] if that failed, which poisons the store.
    pub fn wait_durable(&self, _commit: u64) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Calls `callback` with the newest durable commit whenever that has risen. It runs on the thread
    /// that made the commit durable and must be short.
    pub fn subscribe_commits(
        &self,
        _callback: impl Fn(u64) + Send + Sync + 'static,
    ) -> CommitSubscription {
        unimplemented!()
    }

    /// The documents of `collection` whose last change here came after the commit `after`, at their
    /// current state, with those of any collection that shared a transaction with them. Stops after
    /// the group that passes `bytes_max`; `up_to` is on disk when this returns.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn changed_since(
        &self,
        _collection: &CollectionName,
        _after: u64,
        _bytes_max: usize,
    ) -> Result<ChangeBatch, StoreError> {
        unimplemented!()
    }

    /// The encoded `idem_crdt::Document`, tombstones included; `None` if nothing is known of it.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn document(&self, _key: &DocumentKey) -> Result<Option<Vec<u8>>, StoreError> {
        unimplemented!()
    }

    /// The version vector of a document; empty if nothing is known of it. Cheaper than decoding it.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn document_version(&self, _key: &DocumentKey) -> Result<VersionVector, StoreError> {
        unimplemented!()
    }

    /// Merges documents from another peer and stores the cursors that go with them, as one local
    /// transaction, durable as the store is configured. It waits for the writer's turn.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; nothing is then applied. Documents that cannot be
    /// merged are no error but named in the report.
    pub fn apply(
        &self,
        _incoming: Vec<Incoming>,
        _cursors: &[CursorUpdate],
    ) -> Result<ApplyReport, StoreError> {
        unimplemented!()
    }

    /// The stored cursor of a subscription at a peer.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn cursor(
        &self,
        _peer: PeerId,
        _subscription: &[u8],
    ) -> Result<Option<Cursor>, StoreError> {
        unimplemented!()
    }

    /// Gives the rows of `system:data_sync_info` whenever they are read. There are none before.
    pub fn provide_data_sync_info(&self, _rows: Arc<dyn Fn() -> Vec<Object> + Send + Sync>) {
        unimplemented!()
    }

    /// A hash over collection, id and encoded state of every document, tombstones included: two
    /// stores that hold the same changes have the same one. Reads the whole store.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn digest(&self) -> Result<[u8; 32], StoreError> {
        unimplemented!()
    }

    /// Reads everything, checks every checksum, and compares documents with the rows about them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the first damaged value.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        unimplemented!()
    }

    /// Sizes and counts.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn statistics(&self) -> Result<Statistics, StoreError> {
        unimplemented!()
    }

    /// Moves what is in memory into the engine and trims the log.
    ///
    /// # Errors
    /// [`StoreError`] if writing failed.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        unimplemented!()
    }

    /// Waits for the open transaction, makes everything durable, ends the threads and releases the
    /// directory. Later calls on any clone give [`StoreError::Closed`].
    ///
    /// # Errors
    /// [`StoreError`] if the last writes failed.
    pub fn close(&self) -> Result<(), StoreError> {
        unimplemented!()
    }
}

//! The local store of a peer.

use idem_model::{InsertConflict, Object};

use crate::{
    error::Error,
    observer::{ObserverCallback, SignalNext, StoreObserver},
    query::{IntoQuery, QueryResult},
    transaction::{Transaction, TransactionEnd, TransactionOptions},
};

/// The documents of a peer. Reads and writes never wait for a network.
#[derive(Debug, Clone)]
pub struct Store(());

/// What [`Store::insert_many`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// Documents that were inserted or changed.
    pub changed: u64,
    /// Documents that were there and stayed as they were.
    pub unchanged: u64,
    /// The commit, if anything changed.
    pub commit_id: Option<u64>,
}

/// Sizes and counts of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatistics {
    /// Bytes of all files of the store.
    pub disk_bytes: u64,
    /// The last local commit.
    pub last_commit: u64,
    /// The last local commit that is on disk.
    pub durable_commit: u64,
}

impl Store {
    /// Runs one DQL statement on the local store, as a transaction of its own.
    ///
    /// # Errors
    /// If the statement is invalid or fails; a failed statement changes nothing.
    pub async fn execute(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        let _ = query.into_query()?;
        unimplemented!()
    }

    /// [`execute`](Self::execute) on the calling thread.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_blocking(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        let _ = query.into_query()?;
        unimplemented!()
    }

    /// Runs several statements as one commit. The closure's error rolls back and is handed on.
    ///
    /// # Errors
    /// The closure's, or that of the commit.
    pub async fn transaction<R, E, F>(&self, scope: F) -> Result<R::Output, E>
    where
        F: AsyncFnOnce(&Transaction) -> Result<R, E>,
        R: TransactionEnd,
        E: From<Error>,
    {
        self.transaction_with_options(TransactionOptions::new(), scope)
            .await
    }

    /// [`transaction`](Self::transaction) with settings.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub async fn transaction_with_options<R, E, F>(
        &self,
        options: TransactionOptions,
        scope: F,
    ) -> Result<R::Output, E>
    where
        F: AsyncFnOnce(&Transaction) -> Result<R, E>,
        R: TransactionEnd,
        E: From<Error>,
    {
        let _ = (options, scope);
        unimplemented!()
    }

    /// Opens a transaction by hand. At most one that writes is open at a time; this waits for its
    /// turn.
    ///
    /// # Errors
    /// If the store is closed or poisoned.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        let _ = options;
        unimplemented!()
    }

    /// [`begin`](Self::begin) on the calling thread.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_blocking(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        let _ = options;
        unimplemented!()
    }

    /// Inserts many documents as one commit, without the cost of parsing a statement.
    ///
    /// # Errors
    /// As an INSERT of the same documents; nothing is then inserted.
    pub async fn insert_many(
        &self,
        collection: &str,
        documents: Vec<Object>,
        conflict: InsertConflict,
    ) -> Result<ImportReport, Error> {
        let _ = (collection, documents, conflict);
        unimplemented!()
    }

    /// [`insert_many`](Self::insert_many) on the calling thread.
    ///
    /// # Errors
    /// As [`insert_many`](Self::insert_many).
    pub fn insert_many_blocking(
        &self,
        collection: &str,
        documents: Vec<Object>,
        conflict: InsertConflict,
    ) -> Result<ImportReport, Error> {
        let _ = (collection, documents, conflict);
        unimplemented!()
    }

    /// Calls `callback` with the result of a SELECT now and after each change of it.
    ///
    /// Calls never overlap, and come from a thread of this crate. A slow callback gets the newest
    /// result next, never a queue of earlier ones. The observer lives as long as its handle.
    ///
    /// # Errors
    /// If the query is invalid or not a SELECT.
    pub fn register_observer(
        &self,
        query: impl IntoQuery,
        mut callback: impl FnMut(QueryResult) + Send + 'static,
    ) -> Result<StoreObserver, Error> {
        self.observe(
            query,
            Box::new(move |result, next| {
                callback(result);
                next.signal();
            }),
        )
    }

    /// As [`register_observer`](Self::register_observer), but the next call comes only after
    /// [`SignalNext::signal`].
    ///
    /// # Errors
    /// As [`register_observer`](Self::register_observer).
    pub fn register_observer_with_signal_next(
        &self,
        query: impl IntoQuery,
        callback: impl FnMut(QueryResult, SignalNext) + Send + 'static,
    ) -> Result<StoreObserver, Error> {
        self.observe(query, Box::new(callback))
    }

    fn observe(
        &self,
        query: impl IntoQuery,
        callback: ObserverCallback,
    ) -> Result<StoreObserver, Error> {
        let _ = (query.into_query()?, callback);
        unimplemented!()
    }

    /// How many observers live.
    pub fn observer_count(&self) -> usize {
        unimplemented!()
    }

    /// A hash over everything that syncs: two stores that hold the same changes have the same one.
    /// Reads the whole store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn digest_blocking(&self) -> Result<[u8; 32], Error> {
        unimplemented!()
    }

    /// Reads everything and checks every checksum. Gives the number of values that were checked.
    ///
    /// # Errors
    /// [`ErrorKind::StoreCorrupt`](crate::ErrorKind::StoreCorrupt) naming the first damaged value.
    pub fn verify_blocking(&self) -> Result<u64, Error> {
        unimplemented!()
    }

    /// Sizes and counts.
    pub fn statistics(&self) -> StoreStatistics {
        unimplemented!()
    }
}

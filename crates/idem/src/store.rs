//! The local store of a peer.

mod attachments;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use idem_model::{CollectionName, DocId, DocumentKey, FieldPath, InsertConflict, Object, Value};

use crate::{
    core::Core,
    error::{Error, ErrorKind},
    lanes::Lane,
    observer::{ObserverCallback, SignalNext, StoreObserver},
    options::{CancelOnDrop, ExecuteOptions},
    owners::Owner,
    query::{IntoQuery, Query, QueryResult, Warning},
    rows::Rows,
    transaction::{Transaction, TransactionCompletionAction, TransactionEnd, TransactionOptions},
};

/// The documents of a peer. Reads and writes never wait for a network.
#[derive(Debug, Clone)]
pub struct Store {
    core: Arc<Core>,
}

/// What [`Store::insert_many`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Documents that were inserted or changed.
    pub changed: u64,
    /// Documents that were there and stayed as they were.
    pub unchanged: u64,
    /// The commit, if anything changed.
    pub commit_id: Option<u64>,
    /// Things that are probably not what was meant, such as very large documents.
    pub warnings: Vec<Warning>,
}

/// Sizes and counts of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatistics {
    /// Bytes of all files of the store.
    pub disk_bytes: u64,
    /// Bytes of commits that are safe in the log but not yet in the database file.
    pub pending_bytes: u64,
    /// The last local commit.
    pub last_commit: u64,
    /// The last local commit that is on disk.
    pub durable_commit: u64,
}

impl Store {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Runs one DQL statement on the local store, as a transaction of its own.
    ///
    /// Dropping the future stops a statement that only reads. One that writes runs to its end.
    ///
    /// # Errors
    /// If the statement is invalid or fails; a failed statement changes nothing.
    /// [`ErrorKind::StoreTransactionBusy`] if it would write, and another transaction is open in which
    /// nothing has run for longer than the system parameter `transaction_idle_ms` allows.
    pub async fn execute(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        self.execute_with_options(query, ExecuteOptions::new())
            .await
    }

    /// [`execute`](Self::execute) with a time limit, a cancellation or another bound of memory.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), idem::Error> {
    /// use std::time::Duration;
    /// use idem::{ExecuteOptions, Idem, IdemConfig};
    ///
    /// let idem = Idem::open(IdemConfig::local()).await?;
    /// let options = ExecuteOptions::new().timeout(Duration::from_secs(2));
    /// let result = idem.store().execute_with_options("SELECT * FROM cars", options).await?;
    /// assert_eq!(result.item_count(), 0);
    /// # idem.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`execute`](Self::execute); [`ErrorKind::QueryTimedOut`] and [`ErrorKind::QueryCancelled`].
    pub async fn execute_with_options(
        &self,
        query: impl IntoQuery,
        options: ExecuteOptions,
    ) -> Result<QueryResult, Error> {
        let query = query.into_query()?;
        self.core.check_task_not_nested().await?;
        let (lane, (options, _guard)) = if self.core.only_reads(&query.text) {
            (Lane::Reading, CancelOnDrop::arm(options))
        } else {
            (Lane::Writing, (options, None))
        };
        let store = self.core.store.clone();
        self.core
            .lanes
            .run(lane, move || execute_on(&store, query, options))
            .await
    }

    /// [`execute`](Self::execute) on the calling thread.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_blocking(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        self.execute_with_options_blocking(query, ExecuteOptions::new())
    }

    /// [`execute_with_options`](Self::execute_with_options) on the calling thread.
    ///
    /// # Errors
    /// As [`execute_with_options`](Self::execute_with_options).
    pub fn execute_with_options_blocking(
        &self,
        query: impl IntoQuery,
        options: ExecuteOptions,
    ) -> Result<QueryResult, Error> {
        let query = query.into_query()?;
        self.core.check_not_nested()?;
        execute_on(&self.core.store, query, options)
    }

    /// Gives the rows of a statement that reads one by one, so that memory does not grow with the
    /// result. They are those of one moment. The result is an iterator for blocking callers, too.
    ///
    /// ```
    /// use idem::{Idem, IdemConfig};
    ///
    /// let idem = Idem::open_sync(IdemConfig::local())?;
    /// idem.store().execute_blocking("INSERT INTO cars DOCUMENTS ({'seats': 4}), ({'seats': 2})")?;
    /// let mut seats = 0;
    /// for car in idem.store().stream("SELECT * FROM cars")? {
    ///     seats += car?.field("seats").and_then(|seats| seats.as_int()).unwrap_or(0);
    /// }
    /// assert_eq!(seats, 6);
    /// # idem.close_blocking()?;
    /// # Ok::<(), idem::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the arguments cannot be used, inside a transaction of the caller, or if there is no thread.
    /// What is wrong with the statement comes in the place of its first row.
    pub fn stream(&self, query: impl IntoQuery) -> Result<Rows, Error> {
        self.stream_with_options(query, ExecuteOptions::new())
    }

    /// [`stream`](Self::stream) with settings. A time limit includes the time that the reader takes.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub fn stream_with_options(
        &self,
        query: impl IntoQuery,
        options: ExecuteOptions,
    ) -> Result<Rows, Error> {
        let query = query.into_query()?;
        self.core.check_not_nested()?;
        Rows::start(&self.core.streams, &self.core.store, query, options)
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
        let transaction = self.open(options).await?;
        let ended = {
            let core = transaction.core();
            let mut scope = pin!(scope(&transaction));
            // A closure that calls the store instead of the transaction would wait for itself.
            poll_fn(|cx| core.in_transaction(|| scope.as_mut().poll(cx))).await
        };
        match ended.map(TransactionEnd::into_end) {
            Ok((TransactionCompletionAction::Commit, output)) => {
                transaction.commit().await?;
                Ok(output)
            }
            Ok((TransactionCompletionAction::Rollback, output)) => Ok(output),
            Err(error) => Err(error),
        }
    }

    /// [`transaction`](Self::transaction) on the calling thread.
    ///
    /// ```
    /// use idem::{Error, Idem, IdemConfig};
    ///
    /// let idem = Idem::open_sync(IdemConfig::local())?;
    /// idem.store().transaction_blocking(|tx| {
    ///     tx.execute_blocking("INSERT INTO cars DOCUMENTS ({'_id': 'a'})")?;
    ///     tx.execute_blocking("INSERT INTO cars DOCUMENTS ({'_id': 'b'})")?;
    ///     Ok::<_, Error>(())
    /// })?;
    /// assert_eq!(idem.store().execute_blocking("SELECT * FROM cars")?.item_count(), 2);
    /// # idem.close_blocking()?;
    /// # Ok::<(), idem::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub fn transaction_blocking<R, E, F>(&self, scope: F) -> Result<R::Output, E>
    where
        F: FnOnce(&Transaction) -> Result<R, E>,
        R: TransactionEnd,
        E: From<Error>,
    {
        self.transaction_with_options_blocking(TransactionOptions::new(), scope)
    }

    /// [`transaction_with_options`](Self::transaction_with_options) on the calling thread.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub fn transaction_with_options_blocking<R, E, F>(
        &self,
        options: TransactionOptions,
        scope: F,
    ) -> Result<R::Output, E>
    where
        F: FnOnce(&Transaction) -> Result<R, E>,
        R: TransactionEnd,
        E: From<Error>,
    {
        self.core.check_not_nested()?;
        let transaction = Transaction::begin(&self.core, options)?;
        let ended = self.core.in_transaction(|| scope(&transaction));
        match ended.map(TransactionEnd::into_end) {
            Ok((TransactionCompletionAction::Commit, output)) => {
                transaction.commit_blocking()?;
                Ok(output)
            }
            Ok((TransactionCompletionAction::Rollback, output)) => Ok(output),
            Err(error) => Err(error),
        }
    }

    /// Opens a transaction by hand. At most one that writes is open at a time; this waits for its
    /// turn. Until it ends, the task that used it last may not begin another nor call
    /// [`execute`](Self::execute): it would wait for itself, and gets an error instead.
    ///
    /// # Errors
    /// [`ErrorKind::StoreTransactionNested`] for that, [`ErrorKind::StoreTransactionBusy`] if another
    /// one is open in which nothing has run for longer than the system parameter
    /// `transaction_idle_ms` allows; otherwise if the store is closed or poisoned.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        let mut transaction = self.open(options).await?;
        poll_fn(|cx| {
            transaction.belongs_to(Owner::task(cx.waker()));
            Poll::Ready(())
        })
        .await;
        Ok(transaction)
    }

    async fn open(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        self.core.check_task_not_nested().await?;
        let lane = if options.is_read_only {
            Lane::Reading
        } else {
            Lane::Writing
        };
        let core = Arc::clone(&self.core);
        self.core
            .lanes
            .run(lane, move || Transaction::begin(&core, options))
            .await
    }

    /// [`begin`](Self::begin) on the calling thread. The rule for tasks holds for threads.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_blocking(&self, options: TransactionOptions) -> Result<Transaction, Error> {
        self.core.check_not_nested()?;
        let mut transaction = Transaction::begin(&self.core, options)?;
        transaction.belongs_to(Owner::thread());
        Ok(transaction)
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
        self.core.check_task_not_nested().await?;
        let collection = collection_name(collection)?;
        let store = self.core.store.clone();
        self.core
            .lanes
            .run(Lane::Writing, move || {
                insert_on(&store, &collection, documents, conflict)
            })
            .await
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
        self.core.check_not_nested()?;
        let collection = collection_name(collection)?;
        insert_on(&self.core.store, &collection, documents, conflict)
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
        let query = query.into_query()?;
        let mut callback = callback;
        let text = query.text.clone();
        let observer = self
            .core
            .store
            .observe_with_signal_next(&query.text, query.args.clone(), move |result, next| {
                match result {
                    Ok(result) => {
                        let call = || callback(QueryResult::from(result), SignalNext::new(next));
                        // A panic of the app must not end the other observers.
                        if catch_unwind(AssertUnwindSafe(call)).is_err() {
                            tracing::error!(query = text, "an observer's callback panicked");
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, query = text, "an observer cannot read");
                        next.signal();
                    }
                }
            })
            .map_err(|e| Error::store(e, &query.text))?;
        Ok(StoreObserver::new(query, observer))
    }

    /// How many observers live.
    pub fn observer_count(&self) -> usize {
        self.core.store.observer_count()
    }

    /// All values of a field that peers wrote without knowing of each other, newest first: the one
    /// that queries show, then those that lost. One value or none means that there is no conflict.
    /// The next write to the field settles it on every peer.
    ///
    /// # Errors
    /// [`ErrorKind::StoreCollectionInvalid`] or [`ErrorKind::StoreDocumentId`] if there can be no such
    /// document; otherwise if the store cannot be read. A document that is not there has no values.
    pub fn conflicts_blocking(
        &self,
        collection: &str,
        id: impl Into<Value>,
        path: &FieldPath,
    ) -> Result<Vec<Value>, Error> {
        let key = DocumentKey {
            collection: collection_name(collection)?,
            id: DocId::new(id.into())
                .map_err(|e| Error::new(ErrorKind::StoreDocumentId, e.to_string()))?,
        };
        let values = self.core.store.conflicts(&key, path);
        values.map_err(|e| Error::store(e, ""))
    }

    /// A hash over everything that syncs: two stores that hold the same changes have the same one.
    /// Reads the whole store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn digest_blocking(&self) -> Result<[u8; 32], Error> {
        self.core.store.digest().map_err(|e| Error::store(e, ""))
    }

    /// Reads everything and checks every checksum. Gives the number of values that were checked.
    ///
    /// # Errors
    /// [`ErrorKind::StoreCorrupt`](crate::ErrorKind::StoreCorrupt) naming the first damaged value.
    pub fn verify_blocking(&self) -> Result<u64, Error> {
        let report = self.core.store.verify();
        report
            .map(|report| report.values)
            .map_err(|e| Error::store(e, ""))
    }

    /// Sizes and counts.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn statistics(&self) -> Result<StoreStatistics, Error> {
        let found = self.core.store.statistics();
        let found = found.map_err(|e| Error::store(e, ""))?;
        Ok(StoreStatistics {
            disk_bytes: found.disk_bytes,
            pending_bytes: found.pending_bytes,
            last_commit: self.core.store.last_commit(),
            durable_commit: self.core.store.durable_commit(),
        })
    }
}

fn execute_on(
    store: &idem_store::Store,
    query: Query,
    options: ExecuteOptions,
) -> Result<QueryResult, Error> {
    store
        .execute_with(&query.text, query.args, &options.into_store())
        .map(QueryResult::from)
        .map_err(|e| Error::store(e, &query.text))
}

fn insert_on(
    store: &idem_store::Store,
    collection: &CollectionName,
    documents: Vec<Object>,
    conflict: InsertConflict,
) -> Result<ImportReport, Error> {
    let report = store
        .insert_many(collection, documents, conflict)
        .map_err(|e| Error::store(e, ""))?;
    Ok(ImportReport {
        changed: report.changed,
        unchanged: report.unchanged,
        commit_id: report.commit_id,
        warnings: report.warnings.into_iter().map(Warning::from).collect(),
    })
}

fn collection_name(name: &str) -> Result<CollectionName, Error> {
    CollectionName::new(name)
        .map_err(|e| Error::new(ErrorKind::StoreCollectionInvalid, e.to_string()))
}

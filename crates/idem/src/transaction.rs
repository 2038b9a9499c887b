//! Several statements as one commit.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use idem_model::{CollectionName, Object};

use crate::{
    core::Core,
    error::{Error, ErrorKind},
    query::{IntoQuery, Query, QueryResult},
};

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionCompletionAction {
    /// All of it becomes visible and durable at once.
    Commit,
    /// None of it happened.
    Rollback,
}

/// What the closure of [`Store::transaction`](crate::Store::transaction) may return: `()` commits, a
/// [`TransactionCompletionAction`] decides, and `(action, value)` decides and hands a value out.
pub trait TransactionEnd {
    /// What the caller of `transaction` gets.
    type Output;

    /// Splits the decision from the value.
    fn into_end(self) -> (TransactionCompletionAction, Self::Output);
}

impl TransactionEnd for () {
    type Output = ();

    fn into_end(self) -> (TransactionCompletionAction, ()) {
        (TransactionCompletionAction::Commit, ())
    }
}

impl TransactionEnd for TransactionCompletionAction {
    type Output = Self;

    fn into_end(self) -> (Self, Self) {
        (self, self)
    }
}

impl<T> TransactionEnd for (TransactionCompletionAction, T) {
    type Output = T;

    fn into_end(self) -> (TransactionCompletionAction, T) {
        self
    }
}

/// Settings of one transaction.
#[derive(Debug, Clone, Default)]
pub struct TransactionOptions {
    pub(crate) is_read_only: bool,
    pub(crate) hint: Option<String>,
}

impl TransactionOptions {
    /// Read and write, without a hint.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses mutations, and never waits for a writer. Default: false.
    #[must_use]
    pub fn read_only(mut self, is_read_only: bool) -> Self {
        self.is_read_only = is_read_only;
        self
    }

    /// A name for the log, should the transaction be slow. Default: none.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An open transaction. Dropping it rolls it back.
///
/// Statements of one transaction run one after the other, also when several are awaited at once.
#[derive(Debug)]
pub struct Transaction {
    core: Arc<Core>,
    options: TransactionOptions,
    inner: Arc<Mutex<Option<idem_store::Transaction>>>,
    holds_writer_mark: bool,
}

impl Transaction {
    /// Opens one on the calling thread.
    pub(crate) fn begin(core: &Arc<Core>, options: TransactionOptions) -> Result<Self, Error> {
        let mut store_options = idem_store::TransactionOptions::new()
            .read_only(options.is_read_only)
            .thread_free(true);
        if let Some(hint) = &options.hint {
            store_options = store_options.hint(hint.as_str());
        }
        let transaction = core
            .store
            .begin(store_options)
            .map_err(|e| Error::store(e, ""))?;
        Ok(Self {
            core: Arc::clone(core),
            options,
            inner: Arc::new(Mutex::new(Some(transaction))),
            holds_writer_mark: false,
        })
    }

    /// Notes that the calling thread would wait for itself if it began another.
    pub(crate) fn mark_writer(&mut self) {
        if !self.options.is_read_only {
            self.core.set_writer(Some(std::thread::current().id()));
            self.holds_writer_mark = true;
        }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The settings it was opened with.
    pub fn options(&self) -> &TransactionOptions {
        &self.options
    }

    /// Runs a statement inside the transaction. A statement that fails changes nothing and leaves
    /// the transaction open.
    ///
    /// # Errors
    /// As [`Store::execute`](crate::Store::execute), and for a mutation in a read-only transaction.
    pub async fn execute(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        let query = query.into_query()?;
        let inner = Arc::clone(&self.inner);
        self.core.run(move || execute_in(&inner, query)).await
    }

    /// [`execute`](Self::execute) on the calling thread.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_blocking(&self, query: impl IntoQuery) -> Result<QueryResult, Error> {
        execute_in(&self.inner, query.into_query()?)
    }

    /// Calls `visit` with every document of a collection, `_id` included, in the order of the ids,
    /// until it breaks. Memory does not grow with the collection. No statement can run in the
    /// transaction meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::StoreCollectionInvalid`] if the name is none, or what reading fails with.
    pub fn scan_blocking(
        &self,
        collection: &str,
        mut visit: impl FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let name = CollectionName::new(collection).map_err(|source| {
            Error::new(ErrorKind::StoreCollectionInvalid, "not a collection name")
                .with_source(source)
        })?;
        lock(&self.inner)
            .as_ref()
            .ok_or_else(ended)?
            .scan(&name, &mut visit)
            .map_err(|e| Error::store(e, ""))
    }

    /// Makes it all visible and durable. Gives the local commit number, `None` if nothing changed.
    ///
    /// # Errors
    /// If the log cannot be written; nothing of the transaction is then visible.
    pub async fn commit(self) -> Result<Option<u64>, Error> {
        let core = Arc::clone(&self.core);
        core.run(move || self.commit_blocking()).await
    }

    /// [`commit`](Self::commit) on the calling thread.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_blocking(self) -> Result<Option<u64>, Error> {
        let transaction = lock(&self.inner).take();
        transaction
            .ok_or_else(ended)?
            .commit()
            .map_err(|e| Error::store(e, ""))
    }

    /// Forgets everything.
    pub fn rollback(self) {
        drop(self);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // A statement that is still running elsewhere holds the lock; it ends before the rollback.
        lock(&self.inner).take();
        if self.holds_writer_mark {
            self.core.set_writer(None);
        }
    }
}

fn lock(
    inner: &Mutex<Option<idem_store::Transaction>>,
) -> MutexGuard<'_, Option<idem_store::Transaction>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended() -> Error {
    Error::new(
        ErrorKind::StoreTransactionEnded,
        "the transaction has already ended",
    )
}

fn execute_in(
    inner: &Mutex<Option<idem_store::Transaction>>,
    query: Query,
) -> Result<QueryResult, Error> {
    let mut guard = lock(inner);
    guard
        .as_mut()
        .ok_or_else(ended)?
        .execute(&query.text, query.args)
        .map(QueryResult::from)
        .map_err(|e| Error::store(e, &query.text))
}

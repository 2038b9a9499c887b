//! Several statements as one commit.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use idem_model::{CollectionName, Object};
use idem_store::Cancellation;

use crate::{
    core::Core,
    error::{Error, ErrorKind},
    lanes::Lane,
    options::{CancelOnDrop, ExecuteOptions},
    owners::Owner,
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

/// An open transaction. Dropping it rolls it back, and stops the statement that runs in it.
///
/// Statements of one transaction run one after the other, also when several are awaited at once.
#[derive(Debug)]
pub struct Transaction {
    core: Arc<Core>,
    options: TransactionOptions,
    inner: Arc<Inner>,
    /// Its number among those that were begun by hand and write.
    owner: Option<u64>,
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
            inner: Arc::new(Inner::new(transaction)),
            owner: None,
        })
    }

    /// Notes that `owner` would wait for itself if it began another.
    pub(crate) fn belongs_to(&mut self, owner: Owner) {
        if !self.options.is_read_only {
            self.owner = Some(self.core.owners.insert(owner));
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
        self.execute_with_options(query, ExecuteOptions::new())
            .await
    }

    /// [`execute`](Self::execute) with settings for this statement. A statement that was stopped
    /// changes nothing and leaves the transaction open.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with_options(
        &self,
        query: impl IntoQuery,
        options: ExecuteOptions,
    ) -> Result<QueryResult, Error> {
        let query = query.into_query()?;
        if let Some(number) = self.owner {
            poll_fn(|cx| {
                let owners = &self.core.owners;
                owners.hand_over(number, Owner::task(cx.waker()));
                Poll::Ready(())
            })
            .await;
        }
        let inner = Arc::clone(&self.inner);
        let (options, _guard) = if self.core.only_reads(&query.text) {
            CancelOnDrop::arm(options)
        } else {
            (options, None)
        };
        let work = move || inner.execute(query, options);
        self.core.lanes.run(Lane::Inside, work).await
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
    /// As [`execute`](Self::execute).
    pub fn execute_with_options_blocking(
        &self,
        query: impl IntoQuery,
        options: ExecuteOptions,
    ) -> Result<QueryResult, Error> {
        let query = query.into_query()?;
        if let Some(number) = self.owner {
            self.core.owners.hand_over(number, Owner::thread());
        }
        self.inner.execute(query, options)
    }

    /// Calls `visit` with every document of a collection, `_id` included, in the order of the ids,
    /// until it breaks. Memory does not grow with the collection. No statement can run in the
    /// transaction meanwhile: it gets [`ErrorKind::StoreTransactionBusy`].
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
        let mut used = self.inner.enter(Purpose::Scan)?;
        used.transaction()
            .scan(&name, &mut visit)
            .map_err(|e| Error::store(e, ""))
    }

    /// Makes it all visible and durable. Gives the local commit number, `None` if nothing changed.
    ///
    /// # Errors
    /// If the log cannot be written; nothing of the transaction is then visible.
    pub async fn commit(self) -> Result<Option<u64>, Error> {
        let core = Arc::clone(&self.core);
        core.lanes
            .run(Lane::Inside, move || self.commit_blocking())
            .await
    }

    /// [`commit`](Self::commit) on the calling thread.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_blocking(mut self) -> Result<Option<u64>, Error> {
        let transaction = self.inner.enter(Purpose::End)?.take();
        // Before the next one can begin: it may belong to this thread as well.
        self.disown();
        transaction.commit().map_err(|e| Error::store(e, ""))
    }

    /// Forgets everything.
    pub fn rollback(self) {
        drop(self);
    }

    fn disown(&mut self) {
        if let Some(number) = self.owner.take() {
            self.core.owners.remove(number);
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.disown();
        self.inner.discard();
    }
}

/// The store's transaction, used by one at a time.
#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Away while it is used, and gone once it has ended.
    transaction: Option<idem_store::Transaction>,
    use_now: Option<Purpose>,
    /// Stops the statement that runs.
    running: Option<Cancellation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Statement,
    Scan,
    End,
}

/// The transaction in use; it goes back when this is dropped.
struct Used<'a> {
    inner: &'a Inner,
    transaction: Option<idem_store::Transaction>,
}

impl Inner {
    fn new(transaction: idem_store::Transaction) -> Self {
        Self {
            state: Mutex::new(State {
                transaction: Some(transaction),
                use_now: None,
                running: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the statements before, but for no scan: what that calls may be what waits here.
    fn enter(&self, purpose: Purpose) -> Result<Used<'_>, Error> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                matches!(state.use_now, Some(Purpose::Statement | Purpose::End))
            })
            .unwrap_or_else(PoisonError::into_inner);
        if state.use_now.is_some() {
            return Err(Error::new(
                ErrorKind::StoreTransactionBusy,
                "a scan of the transaction runs; use the transaction when that has ended",
            ));
        }
        let transaction = state.transaction.take().ok_or_else(ended)?;
        state.use_now = Some(purpose);
        // Who waits looks again: for a scan it waits no longer.
        self.changed.notify_all();
        Ok(Used {
            inner: self,
            transaction: Some(transaction),
        })
    }

    fn execute(&self, query: Query, options: ExecuteOptions) -> Result<QueryResult, Error> {
        let mut used = self.enter(Purpose::Statement)?;
        let cancellation = Cancellation::new();
        self.lock().running = Some(cancellation.clone());
        let options = options.into_store().cancellation(cancellation);
        used.transaction()
            .execute_with(&query.text, query.args, &options)
            .map(QueryResult::from)
            .map_err(|e| Error::store(e, &query.text))
    }

    /// Rolls back, after the statement that runs elsewhere was stopped.
    fn discard(&self) {
        if let Some(running) = &self.lock().running {
            running.cancel();
        }
        let transaction = self
            .changed
            .wait_while(self.lock(), |state| state.use_now.is_some())
            .unwrap_or_else(PoisonError::into_inner)
            .transaction
            .take();
        drop(transaction);
    }
}

impl Used<'_> {
    fn transaction(&mut self) -> &mut idem_store::Transaction {
        let transaction = self.transaction.as_mut();
        transaction.expect("it is here until it is taken, which ends the use")
    }

    fn take(mut self) -> idem_store::Transaction {
        let transaction = self.transaction.take();
        transaction.expect("it is here until it is taken, which ends the use")
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.transaction = self.transaction.take();
        state.use_now = None;
        state.running = None;
        self.inner.changed.notify_all();
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::StoreTransactionEnded,
        "the transaction has already ended",
    )
}

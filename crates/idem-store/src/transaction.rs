//! Transactions as the caller sees them.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread::ThreadId,
    time::{Duration, Instant},
};

use idem_model::{CollectionName, Object};
use idem_query::Source as _;

use crate::{core::Core, error::StoreError, query::QueryResult, work::Work};

/// A transaction that is open for longer than this is named in the log: others wait for it.
const SLOW: Duration = Duration::from_secs(1);

/// Settings of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    pub(crate) is_read_only: bool,
    pub(crate) hint: Option<String>,
    pub(crate) is_thread_free: bool,
}

impl TransactionOptions {
    /// Read and write, without a hint.
    #[must_use]
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

    /// The transaction is used from more than one thread. By default the thread that begins a
    /// transaction may not begin another nor call [`Store::execute`](crate::Store::execute) until it
    /// has ended, and gets an error if it tries, where it would otherwise wait for itself. A caller
    /// that moves transactions between threads must keep that rule itself.
    #[must_use]
    pub fn thread_free(mut self, is_thread_free: bool) -> Self {
        self.is_thread_free = is_thread_free;
        self
    }
}

/// An open transaction. Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    work: Option<Work>,
    core: Arc<Core>,
    options: TransactionOptions,
    thread: Option<ThreadId>,
    began: Instant,
}

impl Transaction {
    pub(crate) fn begin(core: Arc<Core>, options: TransactionOptions) -> Result<Self, StoreError> {
        core.open_transactions.check()?;
        let work = if options.is_read_only {
            Work::read(Arc::clone(&core))?
        } else {
            Work::write(Arc::clone(&core))?
        };
        let thread = (!options.is_thread_free).then(|| core.open_transactions.insert());
        Ok(Self {
            work: Some(work),
            core,
            options,
            thread,
            began: Instant::now(),
        })
    }

    /// The settings it was begun with.
    #[must_use]
    pub fn options(&self) -> &TransactionOptions {
        &self.options
    }

    /// Runs a statement inside the transaction. A statement that fails changes nothing and leaves
    /// the transaction open.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::execute`](crate::Store::execute); a mutation in a read-only
    /// transaction is [`StoreError::ReadOnly`].
    pub fn execute(&mut self, text: &str, args: Object) -> Result<QueryResult, StoreError> {
        self.core.poison.check()?;
        let parsed = self.core.statements.parse(text)?;
        let started = Instant::now();
        let work = self
            .work
            .as_mut()
            .expect("a transaction works until its end");
        let unix_ms = work.now_ms;
        let result = if !parsed.statement.is_mutating() {
            work.run_read(&parsed.statement, &args)
        } else if self.options.is_read_only {
            Err(StoreError::ReadOnly)
        } else {
            work.run_mutation(&parsed.statement, &args)
        };
        let items = result.as_ref().ok().map(|result| result.items.len());
        let history = &self.core.history;
        history.record(Arc::clone(&parsed.text), unix_ms, started.elapsed(), items);
        result
    }

    /// Calls `visit` with every document of a collection, `_id` included, in the order of the ids,
    /// until it breaks. An unknown collection is empty. Memory does not grow with the collection.
    ///
    /// # Errors
    /// [`StoreError`] if reading failed.
    pub fn scan(
        &self,
        collection: &CollectionName,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.core.poison.check()?;
        let work = self.work.as_ref();
        work.expect("a transaction works until its end").scan(
            collection,
            &idem_query::Fields::All,
            visit,
        )
    }

    /// Makes everything visible and durable at once, and gives the local commit; `None` if no
    /// document had changed.
    ///
    /// # Errors
    /// [`StoreError`] if the commit could not be written; nothing of it is then visible, unless the
    /// store is poisoned.
    pub fn commit(mut self) -> Result<Option<u64>, StoreError> {
        let work = self.work.take().expect("a transaction works until its end");
        if self.options.is_read_only {
            return Ok(None);
        }
        self.core.poison.check()?;
        let committed = work.commit_visible()?;
        // Observers may run on this thread now, and may use the store.
        self.end();
        match committed {
            Some(committed) => {
                committed.acknowledge(&self.core)?;
                Ok(committed.commit)
            }
            None => Ok(None),
        }
    }

    /// Discards everything; the same as dropping the transaction.
    pub fn rollback(self) {}

    fn end(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            self.core.open_transactions.remove(thread);
        }
        let open_for = self.began.elapsed();
        if open_for > SLOW {
            tracing::warn!(
                hint = self.options.hint.as_deref().unwrap_or("none"),
                ms = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX),
                "a transaction was open for long"
            );
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.end();
    }
}

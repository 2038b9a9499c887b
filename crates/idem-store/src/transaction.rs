//! Transactions as the caller sees them.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread::ThreadId,
    time::{Duration, Instant},
};

use idem_model::{CollectionName, Object};
use idem_query::Source as _;

use crate::{
    core::Core,
    error::StoreError,
    query::{self, QueryResult},
    requests::{ExecuteOptions, Summary},
    work::Work,
};

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
    /// `None` once it has ended.
    began: Option<Instant>,
}

impl Transaction {
    pub(crate) fn begin(core: Arc<Core>, options: TransactionOptions) -> Result<Self, StoreError> {
        core.open_transactions.check()?;
        let work = if options.is_read_only {
            Work::read(Arc::clone(&core))?
        } else {
            let mut work = Work::write(Arc::clone(&core), &core.patience())?;
            if let Some(writing) = &mut work.writing {
                writing.turn.name(options.hint.as_deref());
                writing.turn.rest();
            }
            work
        };
        let thread = (!options.is_thread_free).then(|| core.open_transactions.insert());
        Ok(Self {
            work: Some(work),
            core,
            options,
            thread,
            began: Some(Instant::now()),
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
        self.execute_with(text, args, &ExecuteOptions::default())
    }

    /// As [`Transaction::execute`], with settings for this statement. One that was stopped changes
    /// nothing and leaves the transaction open.
    ///
    /// # Errors
    /// As [`Transaction::execute`].
    pub fn execute_with(
        &mut self,
        text: &str,
        args: Object,
        options: &ExecuteOptions,
    ) -> Result<QueryResult, StoreError> {
        self.core.poison.check()?;
        let running = query::begin(&self.core, text, options)?;
        let request = running.request();
        let work = self
            .work
            .as_mut()
            .expect("a transaction works until its end");
        let _working = work.writing.as_ref().map(|writing| writing.turn.work());
        let result = if !request.statement().is_mutating() {
            work.run_request(request, &args)
        } else if self.options.is_read_only {
            Err(StoreError::ReadOnly)
        } else {
            request.has_turn();
            work.run_mutation(request, args)
        };
        running.finish(Summary::of(&result));
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
        let work = work.expect("a transaction works until its end");
        let all = &idem_query::Fields::All;
        match &work.writing {
            None => work.scan(collection, all, visit),
            Some(writing) => work.scan(collection, all, &mut |fields| {
                // The caller may do anything in there, also wait for somebody who waits for this.
                writing.turn.rest();
                visit(fields)
            }),
        }
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
        if let Some(writing) = &work.writing {
            writing.turn.resume();
        }
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
        let Some(began) = self.began.take() else {
            return;
        };
        let open_for = began.elapsed();
        if open_for >= Duration::from_millis(self.core.tuning().slow_transaction_ms) {
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

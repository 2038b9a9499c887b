//! Transactions as the caller sees them.

use idem_model::Object;

use crate::{error::StoreError, query::QueryResult};

/// Settings of one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    pub(crate) is_read_only: bool,
    pub(crate) hint: Option<String>,
    pub(crate) is_thread_free: bool,
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
pub struct Transaction {}

impl Transaction {
    /// Runs a statement inside the transaction. A statement that fails changes nothing and leaves
    /// the transaction open.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::execute`](crate::Store::execute); a mutation in a read-only
    /// transaction is [`StoreError::ReadOnly`].
    pub fn execute(&mut self, _text: &str, _args: Object) -> Result<QueryResult, StoreError> {
        unimplemented!()
    }

    /// Makes everything visible and durable at once, and gives the local commit; `None` if nothing
    /// had changed.
    ///
    /// # Errors
    /// [`StoreError`] if the commit could not be written; nothing of it is then visible.
    pub fn commit(self) -> Result<Option<u64>, StoreError> {
        unimplemented!()
    }

    /// Discards everything; the same as dropping the transaction.
    pub fn rollback(self) {}
}

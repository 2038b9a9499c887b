//! Several statements as one commit.

use crate::{
    error::Error,
    query::{IntoQuery, QueryResult},
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
#[derive(Debug)]
pub struct Transaction {
    options: TransactionOptions,
}

impl Transaction {
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

    /// Makes it all visible and durable. Gives the local commit number, `None` if nothing changed.
    ///
    /// # Errors
    /// If the log cannot be written; nothing of the transaction is then visible.
    pub async fn commit(self) -> Result<Option<u64>, Error> {
        unimplemented!()
    }

    /// [`commit`](Self::commit) on the calling thread.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_blocking(self) -> Result<Option<u64>, Error> {
        unimplemented!()
    }

    /// Forgets everything.
    pub fn rollback(self) {
        drop(self);
    }
}

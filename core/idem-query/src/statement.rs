//! A parsed statement and what a caller may ask it before running it.

use idem_model::{CollectionName, Object};

use crate::{error::QueryError, selector::Selector};

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatementKind {
    /// Reads rows.
    Select,
    /// Adds documents.
    Insert,
    /// Edits documents.
    Update,
    /// Removes documents everywhere.
    Delete,
    /// Forgets documents on this peer.
    Evict,
    /// Makes an index.
    CreateIndex,
    /// Removes an index.
    DropIndex,
    /// Changes a system parameter.
    AlterSystem,
    /// Reads system parameters.
    Show,
    /// Describes how another statement would run.
    Explain,
}

/// A statement whose text was parsed and whose names are resolved. It holds no arguments and may be
/// kept and run many times, from many threads.
#[derive(Debug, Clone)]
pub struct Statement {
    kind: StatementKind,
    collections: Vec<CollectionName>,
}

/// Parses and binds one statement. The cost is linear in the text.
///
/// # Errors
/// [`QueryError`] with the position of what is wrong.
pub fn parse(_text: &str) -> Result<Statement, QueryError> {
    unimplemented!()
}

impl Statement {
    /// What it does.
    pub fn kind(&self) -> StatementKind {
        self.kind
    }

    /// Whether it needs [`crate::execute_mut`].
    pub fn is_mutating(&self) -> bool {
        !matches!(
            self.kind,
            StatementKind::Select | StatementKind::Show | StatementKind::Explain
        )
    }

    /// The collections it reads or writes, each once, without those of the `system` namespace.
    pub fn collections(&self) -> &[CollectionName] {
        &self.collections
    }

    /// The statement as a subscription: `SELECT * FROM c [alias] [WHERE ..]` and nothing else.
    ///
    /// # Errors
    /// [`QueryError`] that names the clause which a subscription cannot have, or a missing argument.
    pub fn subscription(&self, _args: &Object) -> Result<Selector, QueryError> {
        unimplemented!()
    }
}

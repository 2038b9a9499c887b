//! Local edits of a document.

use idem_model::FieldPath;

/// What [`crate::Document::apply`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Nothing: the stamp was not used.
    Unchanged,
    /// The document changed, and its version covers the stamp (INSERT INITIAL alone has its own).
    Changed,
}

/// Why an operation cannot be applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// INSERT with [`idem_model::InsertConflict::Fail`] where the document is there.
    #[error("a document with this id is already there")]
    AlreadyExists,
    /// A field declared a counter was given something else than an integer.
    #[error("{path} is a counter and takes an integer, not a value of type {found}")]
    NotACounterValue {
        /// Which field.
        path: FieldPath,
        /// The type that was given.
        found: &'static str,
    },
    /// A field declared a map was given something else than an object.
    #[error("{path} is a map and takes an object, not a value of type {found}")]
    NotAMapValue {
        /// Which field.
        path: FieldPath,
        /// The type that was given.
        found: &'static str,
    },
    /// A counter would leave the range of 64-bit integers.
    #[error("the counter {path} would leave the range of 64-bit integers")]
    CounterOverflow {
        /// Which field.
        path: FieldPath,
    },
    /// The value would nest deeper than documents may.
    #[error("{path} would nest {levels} levels deep, over the limit of {limit}")]
    TooDeep {
        /// Which field.
        path: FieldPath,
        /// The levels of the whole document at that field.
        levels: usize,
        /// [`idem_model::limits::NESTING_LEVELS_MAX`].
        limit: usize,
    },
    /// EVICT forgets a document on one peer: the store removes it, there is nothing to merge.
    #[error("evicting is not an edit of the document")]
    NotAnEdit,
}

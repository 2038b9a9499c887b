//! Checks of what an operation writes, before anything is changed.

use idem_model::{FieldKind, FieldOp, FieldPath, Object, Value, limits};

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

/// The declared kinds of a statement.
#[derive(Clone, Copy)]
pub(super) struct Kinds<'a>(&'a [(FieldPath, FieldKind)]);

impl<'a> Kinds<'a> {
    pub(super) fn new(declared: &'a [(FieldPath, FieldKind)]) -> Self {
        Self(declared)
    }

    /// The kind declared for `path`. Statements declare few, so a search beats a table.
    pub(super) fn at(self, path: &[&str]) -> Option<FieldKind> {
        self.0
            .iter()
            .find(|(declared, _)| declared.segments() == path)
            .map(|(_, kind)| *kind)
    }
}

pub(super) fn check_op(op: &FieldOp) -> Result<(), ApplyError> {
    let FieldOp::Set { path, value, kind } = op else {
        return Ok(());
    };
    check_depth(path, value)?;
    kind.map_or(Ok(()), |kind| check_kind(path, kind, value))
}

pub(super) fn check_fields(
    fields: &Object,
    kinds: &[(FieldPath, FieldKind)],
) -> Result<(), ApplyError> {
    for (name, value) in fields {
        // The path is made for an error only: this runs for each field of each INSERT.
        if 1 + value.nesting_levels() > limits::NESTING_LEVELS_MAX {
            check_depth(&FieldPath::field(name), value)?;
        }
    }
    for (path, kind) in kinds {
        if let Some(value) = path.find(fields) {
            check_kind(path, *kind, value)?;
        }
    }
    Ok(())
}

fn check_depth(path: &FieldPath, value: &Value) -> Result<(), ApplyError> {
    let levels = path.segments().len() + value.nesting_levels();
    if levels <= limits::NESTING_LEVELS_MAX {
        return Ok(());
    }
    Err(ApplyError::TooDeep {
        path: path.clone(),
        levels,
        limit: limits::NESTING_LEVELS_MAX,
    })
}

fn check_kind(path: &FieldPath, kind: FieldKind, value: &Value) -> Result<(), ApplyError> {
    let found = value.type_name();
    match (kind, value) {
        (FieldKind::Counter, Value::Int(_)) | (FieldKind::Map, Value::Object(_)) => Ok(()),
        (FieldKind::Counter, _) => Err(ApplyError::NotACounterValue {
            path: path.clone(),
            found,
        }),
        (FieldKind::Map, _) => Err(ApplyError::NotAMapValue {
            path: path.clone(),
            found,
        }),
        _ => Ok(()),
    }
}

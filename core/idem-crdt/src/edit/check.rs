//! Checks of what an operation writes, before anything is changed.

use idem_model::{Declared, FieldKind, FieldOp, FieldPath, KindError, Object, Value, limits};

use crate::kinds::Kinds;

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
    /// A write that the kinds declared for the collection do not allow.
    #[error(transparent)]
    Declared(#[from] KindError),
    /// A counter would leave the range of 64-bit integers.
    #[error("the counter {path} would leave the range of 64-bit integers")]
    CounterOverflow {
        /// Which field.
        path: FieldPath,
    },
    /// A float that is not finite, which documents do not hold.
    #[error("{path} would hold a number that is not finite")]
    NotFinite {
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

pub(super) fn check_op(
    op: &FieldOp,
    declared: &[(FieldPath, FieldKind)],
) -> Result<(), ApplyError> {
    let (path, given) = match op {
        FieldOp::Set { path, kind, .. } => (path, *kind),
        FieldOp::Increment { path, .. } | FieldOp::Restart { path, .. } => {
            (path, Some(FieldKind::Counter))
        }
        _ => return Ok(()),
    };
    let declared = Declared::new(declared);
    declared.check_place(path, given)?;
    if let FieldOp::Set { value, kind, .. } = op {
        check_depth(path, value)?;
        if !value.is_finite() {
            return Err(ApplyError::NotFinite { path: path.clone() });
        }
        kind.map_or(Ok(()), |kind| check_kind(path, kind, value))?;
        declared.at(path.segments()).check_value(path, value)?;
    }
    Ok(())
}

pub(super) fn check_fields(fields: &Object, kinds: Kinds<'_>) -> Result<(), ApplyError> {
    for (name, value) in fields {
        // The path is made for an error only: this runs for each field of each INSERT.
        if 1 + value.nesting_levels() > limits::NESTING_LEVELS_MAX {
            check_depth(&FieldPath::field(name), value)?;
        }
        if !value.is_finite() {
            let path = FieldPath::field(name);
            return Err(ApplyError::NotFinite { path });
        }
    }
    let top = Declared::new(kinds.declared());
    for (path, kind) in kinds.statement() {
        top.check_place(path, Some(*kind))?;
        if let Some(value) = path.find(fields) {
            check_kind(path, *kind, value)?;
        }
    }
    for (name, value) in fields {
        let at = top.below(name);
        if at.own().is_some() {
            at.check_value(&FieldPath::field(name), value)?;
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
    // What a token must be is the query layer's to know; here an attachment is a register.
    if kind == FieldKind::Attachment || kind.takes(value) {
        return Ok(());
    }
    let path = path.clone();
    let found = value.type_name();
    Err(match kind {
        FieldKind::Counter => ApplyError::NotACounterValue { path, found },
        _ => ApplyError::NotAMapValue { path, found },
    })
}

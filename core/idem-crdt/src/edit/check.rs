//! Checks of what an operation writes, before anything is changed.

use idem_model::{FieldKind, FieldOp, FieldPath, Object, Value, limits};

use crate::kinds::{Declared, Kinds};

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
    /// A write as another kind than the collection declares.
    #[error("{path} cannot be written like this: {declared} is declared {kind}")]
    DeclaredOtherwise {
        /// Where it would write.
        path: FieldPath,
        /// The path that the declaration is about: the same, or one above.
        declared: FieldPath,
        /// The declared kind.
        kind: FieldKind,
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
    let at = check_place(path, given, declared)?;
    if let FieldOp::Set { value, kind, .. } = op {
        check_depth(path, value)?;
        kind.map_or(Ok(()), |kind| check_kind(path, kind, value))?;
        check_declared(&mut path.segments().to_vec(), value, at)?;
    }
    Ok(())
}

pub(super) fn check_fields(fields: &Object, kinds: Kinds<'_>) -> Result<(), ApplyError> {
    for (name, value) in fields {
        // The path is made for an error only: this runs for each field of each INSERT.
        if 1 + value.nesting_levels() > limits::NESTING_LEVELS_MAX {
            check_depth(&FieldPath::field(name), value)?;
        }
    }
    for (path, kind) in kinds.statement() {
        check_place(path, Some(*kind), kinds.declared())?;
        if let Some(value) = path.find(fields) {
            check_kind(path, *kind, value)?;
        }
    }
    let top = Declared::new(kinds.declared());
    let mut path = Vec::new();
    for (name, value) in fields {
        path.push(name.clone());
        check_declared(&mut path, value, top.below(name))?;
        path.pop();
    }
    Ok(())
}

/// Whether something of kind `given` may be written at `path`; gives what is declared there.
fn check_place<'a>(
    path: &FieldPath,
    given: Option<FieldKind>,
    declared: &'a [(FieldPath, FieldKind)],
) -> Result<Declared<'a>, ApplyError> {
    let mut at = Declared::new(declared);
    let other = |depth: usize, kind| {
        let segments = path.segments()[..depth].to_vec();
        let declared = FieldPath::new(segments).unwrap_or_else(|_| path.clone());
        Err(ApplyError::DeclaredOtherwise {
            path: path.clone(),
            declared,
            kind,
        })
    };
    for (depth, name) in path.segments().iter().enumerate() {
        match at.own() {
            // The top of a document is a map.
            Some(kind) if depth > 0 && kind != FieldKind::Map => return other(depth, kind),
            _ => at = at.below(name),
        }
    }
    match (at.own(), given) {
        (Some(kind), Some(given)) if kind != given => other(path.segments().len(), kind),
        _ => Ok(at),
    }
}

/// Whether a value fits the kinds declared for its place and below.
fn check_declared(
    path: &mut Vec<String>,
    value: &Value,
    at: Declared<'_>,
) -> Result<(), ApplyError> {
    let Some(kind) = at.own() else {
        return Ok(());
    };
    let to_path = |path: &[String]| FieldPath::new(path.to_vec()).ok();
    if !fits(kind, value)
        && let Some(path) = to_path(path)
    {
        return check_kind(&path, kind, value);
    }
    if let (FieldKind::Map, Value::Object(fields)) = (kind, value) {
        for (name, value) in fields {
            path.push(name.clone());
            check_declared(path, value, at.below(name))?;
            path.pop();
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

fn fits(kind: FieldKind, value: &Value) -> bool {
    match kind {
        FieldKind::Counter => matches!(value, Value::Int(_)),
        FieldKind::Map => matches!(value, Value::Object(_)),
        _ => true,
    }
}

fn check_kind(path: &FieldPath, kind: FieldKind, value: &Value) -> Result<(), ApplyError> {
    if fits(kind, value) {
        return Ok(());
    }
    let path = path.clone();
    let found = value.type_name();
    Err(match kind {
        FieldKind::Counter => ApplyError::NotACounterValue { path, found },
        _ => ApplyError::NotAMapValue { path, found },
    })
}

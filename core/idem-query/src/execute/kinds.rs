//! CREATE COLLECTION, and the kinds that hold while a statement runs.

use std::sync::Arc;

use idem_model::{CollectionName, Declared, FieldKind, FieldOp, FieldPath, KindError, Object};

use super::change::wrong_kind;
use crate::{
    error::{ErrorKind, ExecuteError, QueryError},
    eval::Env,
    source::{IndexInfo, IndexKey, Source, Target},
    span::Span,
};

/// The kinds that a collection declares, beside those of a statement on it.
pub(super) struct Typed(Arc<[(FieldPath, FieldKind)]>);

impl Typed {
    /// The kinds of now. A statement may declare kinds itself, and agrees with the collection where
    /// that has declared them.
    pub(super) fn of<S: Source>(
        source: &S,
        collection: &CollectionName,
        statement: &[(FieldPath, FieldKind)],
    ) -> Result<Self, ExecuteError<S::Error>> {
        let declared = source.declared(collection).map_err(ExecuteError::Source)?;
        let top = Declared::new(&declared);
        for (path, kind) in statement {
            if let Err(error) = top.check_place(path, Some(*kind)) {
                return Err(disagreement(collection, *kind, &error).into());
            }
        }
        Ok(Self(declared))
    }

    /// Whether an index holds what a statement sees that declares `kinds` itself: none of them is about
    /// a field of the index, but for those that the collection declares as well.
    pub(super) fn are_shown_by(&self, kinds: &[(FieldPath, FieldKind)], index: &IndexInfo) -> bool {
        let is_declared = |path: &FieldPath| {
            let at = self.0.binary_search_by(|(declared, _)| declared.cmp(path));
            at.is_ok()
        };
        let mut own = kinds.iter().filter(|(path, _)| !is_declared(path));
        own.all(|(path, _)| {
            index.fields().iter().all(|field| match &field.key {
                IndexKey::Path(key) => !key.contains(path) && !path.contains(key),
                // An expression may look at anything.
                _ => false,
            })
        })
    }

    /// Whether a document may be written.
    pub(super) fn check_document(&self, fields: &Object) -> Result<(), QueryError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let top = Declared::new(&self.0);
        for (name, value) in fields {
            let at = top.below(name);
            if at.own().is_some() {
                at.check_value(&FieldPath::field(name), value)
                    .map_err(|error| refused(&error))?;
            }
        }
        Ok(())
    }

    /// Whether a document may be edited like this.
    pub(super) fn check_edit(&self, op: &FieldOp) -> Result<(), QueryError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let top = Declared::new(&self.0);
        let place = |path: &FieldPath, given| {
            let checked = top.check_place(path, given);
            checked.map_err(|error| unsupported(&error))
        };
        match op {
            FieldOp::Set { path, value, kind } => {
                place(path, *kind)?;
                let at = top.at(path.segments());
                at.check_value(path, value).map_err(|error| refused(&error))
            }
            FieldOp::Increment { path, .. } | FieldOp::Restart { path, .. } => {
                place(path, Some(FieldKind::Counter))
            }
            _ => Ok(()),
        }
    }
}

fn disagreement(collection: &CollectionName, given: FieldKind, error: &KindError) -> QueryError {
    let message = match error {
        KindError::Place {
            path,
            declared,
            kind,
        } if path == declared => format!(
            "`{path}` is a {given} in this statement, and `{collection}` declares it as {kind}"
        ),
        KindError::Place {
            path,
            declared,
            kind,
        } => format!(
            "`{path}` is a {given} in this statement, and `{collection}` declares `{declared}` \
             above it as {kind}"
        ),
        other => other.to_string(),
    };
    QueryError::new(ErrorKind::Invalid, message)
        .with_hint("a declaration holds for all statements; leave the kind out")
}

fn unsupported(error: &KindError) -> QueryError {
    let KindError::Place {
        path,
        declared,
        kind,
    } = error
    else {
        return QueryError::new(ErrorKind::Unsupported, error.to_string());
    };
    let hint = match kind {
        FieldKind::Map => "an object with declared fields is written field by field",
        FieldKind::Counter => "a counter is written by APPLY, or by SET to an integer",
        _ => "it is written as a whole, with SET",
    };
    let message = if path == declared {
        format!("Unsupported DML operation on {kind} field `{path}`")
    } else {
        format!("Unsupported DML operation on {kind} field `{declared}`: it has no `{path}`")
    };
    QueryError::new(ErrorKind::Unsupported, message).with_hint(hint)
}

/// The error of the same mistake under a kind that the statement declares.
fn refused(error: &KindError) -> QueryError {
    match error {
        KindError::Value { path, kind, found } => wrong_kind(path, *kind, found),
        other => QueryError::new(ErrorKind::ArgumentsInvalid, other.to_string()),
    }
}

/// Runs CREATE COLLECTION.
pub(super) fn declare<T: Target>(
    collection: &CollectionName,
    kinds: &[(FieldPath, FieldKind)],
    if_not_exists: bool,
    span: Span,
    env: &Env<'_>,
    target: &mut T,
) -> Result<(), ExecuteError<T::Error>> {
    let declared = target.declared(collection).map_err(ExecuteError::Source)?;
    let known = |path: &FieldPath| {
        let at = declared.binary_search_by(|(other, _)| other.cmp(path));
        at.ok().map(|at| declared[at].1)
    };
    let mut missing = Vec::with_capacity(kinds.len());
    for (path, kind) in kinds {
        match known(path) {
            None => missing.push((path.clone(), *kind)),
            Some(other) if other == *kind => {}
            Some(other) if if_not_exists => env.warn(span, || {
                format!("`{path}` stays a {other}, as it is declared, and did not become a {kind}")
            }),
            Some(other) => {
                let message = format!(
                    "`{path}` of `{collection}` is declared {other} and cannot become a {kind}"
                );
                return Err(QueryError::new(ErrorKind::Execution, message)
                    .at(span.position(env.text))
                    .with_hint("CREATE COLLECTION IF NOT EXISTS leaves it as it is")
                    .into());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    target
        .declare(collection, &missing)
        .map_err(ExecuteError::Source)
}

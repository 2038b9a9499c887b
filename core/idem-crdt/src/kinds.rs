//! Kinds that were declared for paths: by a statement, and for the whole collection.

use idem_model::{Declared, FieldKind, FieldPath, Value};

/// The kinds that hold for one edit: the statement's own, which are few, and those declared for the
/// collection. Where both name a path they agree, or the edit is refused.
#[derive(Clone, Copy)]
pub(crate) struct Kinds<'a> {
    statement: &'a [(FieldPath, FieldKind)],
    declared: &'a [(FieldPath, FieldKind)],
}

impl<'a> Kinds<'a> {
    /// `declared` rises strictly by path.
    pub(crate) fn new(
        statement: &'a [(FieldPath, FieldKind)],
        declared: &'a [(FieldPath, FieldKind)],
    ) -> Self {
        Self {
            statement,
            declared,
        }
    }

    /// The statement's own kinds.
    pub(crate) fn statement(self) -> &'a [(FieldPath, FieldKind)] {
        self.statement
    }

    /// The kinds declared for the collection.
    pub(crate) fn declared(self) -> &'a [(FieldPath, FieldKind)] {
        self.declared
    }

    /// The kind that holds at `path`.
    pub(crate) fn at<S: AsRef<str>>(self, path: &[S]) -> Option<FieldKind> {
        let is_it = |(declared, _): &&(FieldPath, FieldKind)| {
            declared.segments().len() == path.len()
                && declared
                    .segments()
                    .iter()
                    .zip(path)
                    .all(|(a, b)| a == b.as_ref())
        };
        let own = self.statement.iter().find(is_it);
        own.map(|(_, kind)| *kind)
            .or_else(|| self.declared_at(path))
    }

    fn declared_at<S: AsRef<str>>(self, path: &[S]) -> Option<FieldKind> {
        Declared::new(self.declared).at(path).own()
    }
}

/// Whether a value is written otherwise than it would be without the declaration.
pub(crate) fn has_effect(kind: FieldKind, value: &Value) -> bool {
    match kind {
        FieldKind::Map => false,
        FieldKind::Counter => matches!(value, Value::Int(_)),
        _ => matches!(value, Value::Object(_)),
    }
}

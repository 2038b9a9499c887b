//! Kinds that were declared for paths: by a statement, and for the whole collection.

use idem_model::{FieldKind, FieldPath, Value};

/// The kinds declared for a collection, at one place of a document and below it.
///
/// They rise by path, so those below a name lie side by side and going down costs two searches.
#[derive(Clone, Copy)]
pub(crate) struct Declared<'a> {
    entries: &'a [(FieldPath, FieldKind)],
    /// Segments that all of `entries` share: how far down this is.
    depth: usize,
}

impl<'a> Declared<'a> {
    pub(crate) const NONE: Declared<'static> = Declared {
        entries: &[],
        depth: 0,
    };

    /// At the top of a document. `entries` rise strictly by path.
    pub(crate) fn new(entries: &'a [(FieldPath, FieldKind)]) -> Self {
        debug_assert!(
            entries.is_sorted_by(|(a, _), (b, _)| a < b),
            "declared kinds rise by path"
        );
        Self { entries, depth: 0 }
    }

    /// The kind of this place: the one declared for it, which is the first as the shortest path, or a
    /// map where something below it is declared.
    pub(crate) fn own(self) -> Option<FieldKind> {
        let (path, kind) = self.entries.first()?;
        let is_here = path.segments().len() == self.depth;
        Some(if is_here { *kind } else { FieldKind::Map })
    }

    /// What is declared for `name` at this place and below it.
    pub(crate) fn below(self, name: &str) -> Self {
        if self.entries.is_empty() {
            return Self::NONE;
        }
        let from = self
            .entries
            .partition_point(|entry| self.segment(entry) < Some(name));
        let rest = &self.entries[from..];
        let len = rest.partition_point(|entry| self.segment(entry) == Some(name));
        Self {
            entries: &rest[..len],
            depth: self.depth + 1,
        }
    }

    fn segment(self, entry: &(FieldPath, FieldKind)) -> Option<&str> {
        entry.0.segments().get(self.depth).map(String::as_str)
    }
}

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
        let top = Declared::new(self.declared);
        path.iter()
            .fold(top, |at, name| at.below(name.as_ref()))
            .own()
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

//! Kinds that a collection declares for paths, and what may be written under them.

use crate::{operation::FieldKind, path::FieldPath, value::Value};

/// The kinds declared for a collection, at one place of its documents and below it.
///
/// They rise by path, so those below a name lie side by side and going down costs two searches.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    entries: &'a [(FieldPath, FieldKind)],
    /// Segments that all of `entries` share: how far down this is.
    depth: usize,
}

/// Why something cannot be written where kinds are declared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// A value that the kind does not take.
    #[error("{path} is declared {kind} and does not take a value of type {found}")]
    Value {
        /// Which field.
        path: FieldPath,
        /// Its kind.
        kind: FieldKind,
        /// The type that was given.
        found: &'static str,
    },
    /// A write as another kind, or below a field that has nothing below it.
    #[error("{path} cannot be written like this: {declared} is declared {kind}")]
    Place {
        /// Where it would write.
        path: FieldPath,
        /// The declared path: the same, or one above.
        declared: FieldPath,
        /// The declared kind.
        kind: FieldKind,
    },
}

impl<'a> Declared<'a> {
    /// Nothing is declared.
    pub const NONE: Declared<'static> = Declared {
        entries: &[],
        depth: 0,
    };

    /// At the top of a document. `entries` rise strictly by path.
    pub fn new(entries: &'a [(FieldPath, FieldKind)]) -> Self {
        debug_assert!(
            entries.is_sorted_by(|(a, _), (b, _)| a < b),
            "declared kinds rise by path"
        );
        Self { entries, depth: 0 }
    }

    /// The kind of this place: the one declared for it, which is the first as the shortest path, or a
    /// map where something below it is declared.
    pub fn own(self) -> Option<FieldKind> {
        let (path, kind) = self.entries.first()?;
        let is_here = path.segments().len() == self.depth;
        Some(if is_here { *kind } else { FieldKind::Map })
    }

    /// What is declared for `name` at this place and below it.
    pub fn below(self, name: &str) -> Self {
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

    /// What is declared for the place at `path` below this one.
    pub fn at<S: AsRef<str>>(self, path: &[S]) -> Self {
        path.iter().fold(self, |at, name| at.below(name.as_ref()))
    }

    fn segment(self, entry: &(FieldPath, FieldKind)) -> Option<&str> {
        entry.0.segments().get(self.depth).map(String::as_str)
    }

    /// From the top of a document: whether something, of the kind `given` if that is known, may be
    /// written at `path`.
    ///
    /// # Errors
    /// [`KindError::Place`].
    pub fn check_place(self, path: &FieldPath, given: Option<FieldKind>) -> Result<(), KindError> {
        let mut at = self;
        let other = |depth: usize, kind| {
            let segments = path.segments()[..depth].to_vec();
            Err(KindError::Place {
                path: path.clone(),
                declared: FieldPath::new(segments).unwrap_or_else(|_| path.clone()),
                kind,
            })
        };
        for (depth, name) in path.segments().iter().enumerate() {
            match at.own() {
                // The document itself is a map, whatever is declared in it.
                Some(kind) if depth > 0 && kind != FieldKind::Map => return other(depth, kind),
                _ => at = at.below(name),
            }
        }
        match (at.own(), given) {
            (Some(kind), Some(given)) if kind != given => other(path.segments().len(), kind),
            _ => Ok(()),
        }
    }

    /// Whether a value fits what is declared for this place, which is at `path`, and below it.
    ///
    /// # Errors
    /// [`KindError::Value`].
    pub fn check_value(self, path: &FieldPath, value: &Value) -> Result<(), KindError> {
        let Some(kind) = self.own() else {
            return Ok(());
        };
        if !kind.takes(value) {
            return Err(KindError::Value {
                path: path.clone(),
                kind,
                found: value.type_name(),
            });
        }
        if let (FieldKind::Map, Value::Object(fields)) = (kind, value) {
            for (name, value) in fields {
                let below = self.below(name);
                if let (Some(_), Ok(path)) = (below.own(), path.child(name)) {
                    below.check_value(&path, value)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn path(text: &str) -> FieldPath {
        FieldPath::new(text.split('.').map(str::to_owned).collect()).unwrap()
    }

    #[test]
    fn kinds_are_found_by_place_and_imply_maps_above() {
        let kinds = [
            (path("a"), FieldKind::Register),
            (path("a-"), FieldKind::Counter),
            (path("b.c"), FieldKind::Counter),
            (path("b.c2"), FieldKind::Register),
            (path("b.d.e"), FieldKind::Counter),
        ];
        let top = Declared::new(&kinds);
        let check = |at: &str, kind| assert_eq!(top.at(path(at).segments()).own(), kind, "{at}");
        check("a", Some(FieldKind::Register));
        check("a-", Some(FieldKind::Counter));
        check("a.x", None);
        check("b", Some(FieldKind::Map));
        check("b.c", Some(FieldKind::Counter));
        check("b.c2", Some(FieldKind::Register));
        check("b.d", Some(FieldKind::Map));
        check("b.d.e", Some(FieldKind::Counter));
        check("b.d.e.f", None);
        check("b.x", None);
        check("c", None);
    }

    #[test]
    fn writes_are_held_to_what_is_declared() {
        let kinds = [
            (path("n"), FieldKind::Counter),
            (path("o.n"), FieldKind::Counter),
            (path("w"), FieldKind::Register),
        ];
        let top = Declared::new(&kinds);
        let place = |at: &str, kind| top.check_place(&path(at), kind).map_err(|e| e.to_string());
        assert_eq!(place("n", Some(FieldKind::Counter)), Ok(()));
        assert_eq!(place("x.y", Some(FieldKind::Map)), Ok(()));
        let refused = "n cannot be written like this: n is declared COUNTER";
        assert_eq!(place("n", Some(FieldKind::Map)), Err(refused.to_owned()));
        let refused = "w.x.y cannot be written like this: w is declared REGISTER";
        assert_eq!(place("w.x.y", None), Err(refused.to_owned()));
        let refused = "o cannot be written like this: o is declared MAP";
        assert_eq!(
            place("o", Some(FieldKind::Counter)),
            Err(refused.to_owned())
        );

        let value = |at: &str, text: &str| {
            let value = json::parse(text).unwrap();
            let result = top.at(path(at).segments()).check_value(&path(at), &value);
            result.map_err(|e| e.to_string())
        };
        assert_eq!(value("n", "1"), Ok(()));
        assert_eq!(value("o", r#"{"n":1,"x":"y"}"#), Ok(()));
        assert_eq!(value("w", r#"{"n":"x"}"#), Ok(()));
        assert_eq!(value("other", "[]"), Ok(()));
        assert_eq!(
            value("n", "'x'".replace('\'', "\"").as_str()),
            Err("n is declared COUNTER and does not take a value of type string".to_owned())
        );
        assert_eq!(
            value("o", r#"{"n":null}"#),
            Err("o.n is declared COUNTER and does not take a value of type null".to_owned())
        );
        assert_eq!(
            value("o", "[1]"),
            Err("o is declared MAP and does not take a value of type array".to_owned())
        );
    }
}

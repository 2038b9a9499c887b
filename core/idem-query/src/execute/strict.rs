//! `dql_strict_mode`: an object is a register where no kind is declared for its path, by the statement
//! or by CREATE COLLECTION. Outside of this mode it is a map.

use idem_model::{CollectionName, FieldKind, FieldPath, Object, Value};

use super::system;
use crate::{
    bound::{Action, Edit},
    error::{ErrorKind, ExecuteError, QueryError},
    source::Source,
};

/// The declared kinds of a collection, in strict mode.
#[derive(Debug)]
pub(super) struct Strict {
    kinds: Vec<(FieldPath, FieldKind)>,
}

impl Strict {
    /// `None` outside of strict mode. `kinds` are those that the statement declares.
    pub(super) fn of<S: Source>(
        collection: &CollectionName,
        kinds: &[(FieldPath, FieldKind)],
        source: &S,
    ) -> Result<Option<Self>, ExecuteError<S::Error>> {
        if !system::flag("dql_strict_mode", source)? {
            return Ok(None);
        }
        let declared = source.declared(collection).map_err(ExecuteError::Source)?;
        let kinds = kinds.iter().chain(declared.iter()).cloned().collect();
        Ok(Some(Self { kinds }))
    }

    /// The kind that the statement, else the collection, declares for a path.
    fn kind(&self, path: &FieldPath) -> Option<FieldKind> {
        let found = self.kinds.iter().find(|(declared, _)| declared == path);
        found.map(|(_, kind)| *kind)
    }

    /// The kinds that a document is inserted with: `kinds`, and those of its objects that nothing
    /// declares.
    pub(super) fn insert_kinds(
        &self,
        kinds: &[(FieldPath, FieldKind)],
        fields: &Object,
    ) -> Vec<(FieldPath, FieldKind)> {
        let mut all = kinds.to_vec();
        let mut names = Vec::new();
        self.registers(fields, &mut names, &mut all);
        all
    }

    fn registers<'f>(
        &self,
        fields: &'f Object,
        names: &mut Vec<&'f str>,
        kinds: &mut Vec<(FieldPath, FieldKind)>,
    ) {
        for (name, value) in fields {
            let Value::Object(inner) = value else {
                continue;
            };
            names.push(name);
            // A document that nests too deep for a path is refused elsewhere.
            if let Ok(path) = FieldPath::new(names.iter().map(|&name| name.to_owned()).collect()) {
                match self.kind(&path) {
                    None => kinds.push((path, FieldKind::Register)),
                    Some(FieldKind::Map) => self.registers(inner, names, kinds),
                    Some(_) => {}
                }
            }
            names.pop();
        }
    }

    /// The kind that SET writes a field as, if the statement does not say it.
    pub(super) fn set_kind(&self, path: &FieldPath) -> Option<FieldKind> {
        match self.kind(path) {
            None => Some(FieldKind::Register),
            // The declaration of the collection decides.
            Some(_) => None,
        }
    }

    /// Whether the edits are of declared fields: parts of maps, and counters.
    pub(super) fn check(&self, edits: &[Edit], text: &str) -> Result<(), QueryError> {
        for edit in edits {
            let segments = edit.path.segments();
            for length in 1..segments.len() {
                let above = FieldPath::new(segments[..length].to_vec());
                let above = above.expect("a part of a path is one");
                if self.kind(&above) != Some(FieldKind::Map) {
                    let message = format!("Unsupported DML operation on REGISTER field `{above}`");
                    return Err(QueryError::new(ErrorKind::Invalid, message)
                        .at(edit.span.position(text))
                        .with_hint(format!(
                            "in strict mode it must be declared: UPDATE COLLECTION c ({above} MAP) .."
                        )));
                }
            }
            let counts = matches!(edit.action, Action::Increment(_) | Action::Restart(_));
            if counts && self.kind(&edit.path) != Some(FieldKind::Counter) {
                let path = &edit.path;
                let message = format!("`{path}` is not declared as a COUNTER");
                return Err(QueryError::new(ErrorKind::Invalid, message)
                    .at(edit.span.position(text))
                    .with_hint(format!(
                        "in strict mode it must be declared: UPDATE COLLECTION c ({path} COUNTER) .."
                    )));
            }
        }
        Ok(())
    }
}

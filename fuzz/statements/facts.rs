//! What a store knows of a document besides its fields: its version, and what was written to its
//! fields in conflict.

use std::collections::BTreeMap;

use idem_model::{CollectionName, DocId, FieldPath, Object, Value};

/// Where versions and conflicts come from.
#[derive(Debug)]
pub(crate) enum Facts {
    /// There are none.
    Absent,
    /// They are made up, the same for the same document.
    Invented,
    /// What a store told.
    Told(BTreeMap<(CollectionName, DocId), Told>),
}

/// What a store told of a document.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) version: Option<Object>,
    /// By the path as it is written.
    pub(crate) conflicts: BTreeMap<String, Vec<Value>>,
}

impl Facts {
    pub(crate) fn version(&self, collection: &CollectionName, id: &DocId) -> Option<Object> {
        match self {
            Self::Absent => None,
            Self::Invented => {
                let number = i64::try_from(id.to_key().len()).unwrap_or(0);
                Some(Object::from([
                    ("a".to_owned(), Value::Int(number)),
                    ("b".to_owned(), id.as_value().clone()),
                    ("c".to_owned(), collection.as_str().into()),
                ]))
            }
            Self::Told(all) => all.get(&(collection.clone(), id.clone()))?.version.clone(),
        }
    }

    pub(crate) fn conflicts(
        &self,
        collection: &CollectionName,
        id: &DocId,
        path: &FieldPath,
        value: Option<&Value>,
    ) -> Option<Vec<Value>> {
        match self {
            Self::Absent => None,
            Self::Invented => value.map(|value| match id.as_value() {
                Value::Int(number) if number % 3 == 1 => vec![value.clone(), Value::Null],
                _ => Vec::new(),
            }),
            Self::Told(all) => {
                let told = all.get(&(collection.clone(), id.clone()))?;
                told.conflicts.get(&path.to_string()).cloned()
            }
        }
    }
}

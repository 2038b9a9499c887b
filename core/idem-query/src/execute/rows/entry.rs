//! What the entries of an index tell.

use idem_model::{DecodeError, DocId, Object, Value, key};

use crate::{
    error::{ErrorKind, QueryError},
    source::{IndexField, IndexInfo, IndexKey},
};

/// The smallest place of an index behind an entry.
pub(super) fn behind((key, id): (&[u8], &DocId)) -> Vec<u8> {
    let mut place = at((key, id));
    place.push(0);
    place
}

/// The place of an entry in its index.
pub(super) fn at((key, id): (&[u8], &DocId)) -> Vec<u8> {
    [key, &id.to_key()].concat()
}

/// Whether a document can have more than one entry.
pub(super) fn repeats(index: &IndexInfo) -> bool {
    let mut fields = index.fields().iter();
    fields.any(|field| matches!(field.key, IndexKey::Elements(_)))
}

/// The fields that an entry holds, as the document has them, and its id.
pub(super) fn decode(index: &IndexInfo, key: &[u8], id: &DocId) -> Result<Object, QueryError> {
    let mut row = Object::new();
    let mut rest = key;
    for field in index.fields() {
        let (value, len) = element(rest, field).map_err(|error| no_key(index, &error))?;
        rest = &rest[len..];
        if let (IndexKey::Path(path), Some(value)) = (&field.key, value) {
            put(&mut row, path.segments(), value);
        }
    }
    row.insert("_id".to_owned(), id.as_value().clone());
    Ok(row)
}

fn element(bytes: &[u8], field: &IndexField) -> Result<(Option<Value>, usize), DecodeError> {
    if !field.descending {
        return key::decode(bytes);
    }
    let len = key::number_ends(bytes, true, &mut |_| {})?;
    let upright: Vec<u8> = bytes[..len].iter().map(|byte| !byte).collect();
    key::decode(&upright)
}

/// Puts a value at a path. Of two indexed paths one may be above the other; both say the same then.
fn put(fields: &mut Object, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            fields.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = fields
                .entry(first.clone())
                .or_insert_with(|| Value::Object(Object::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

pub(super) fn no_key(index: &IndexInfo, error: &DecodeError) -> QueryError {
    let message = format!("an entry of index `{}` is no key: {error}", index.name());
    QueryError::new(ErrorKind::Execution, message)
}

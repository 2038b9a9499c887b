//! Which blobs documents refer to.

use std::collections::BTreeSet;

use idem_model::{BlobId, Object, Value};
use idem_store::{ExecuteOptions, Store, StoreError};

/// Every blob that some document of the store has a token of: an object with an `id` that is the name of a
/// blob, wherever it stands. Reads all documents.
pub(super) fn referenced(store: &Store) -> Result<BTreeSet<BlobId>, StoreError> {
    let mut found = BTreeSet::new();
    let names = store.execute("SELECT name FROM system:collections", Object::new())?;
    let names: Vec<String> = names
        .items
        .into_iter()
        .filter_map(|mut row| match row.remove("name") {
            Some(Value::String(name)) => Some(name),
            _ => None,
        })
        .collect();
    for name in names {
        let text = format!("SELECT * FROM `{}`", name.replace('`', "``"));
        let options = ExecuteOptions::new();
        store.stream(&text, &Object::new(), &options, &mut |row| {
            row.values().for_each(|value| collect(value, &mut found));
            true
        })?;
    }
    Ok(found)
}

/// Documents nest to a bounded depth, and so does this.
fn collect(value: &Value, found: &mut BTreeSet<BlobId>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(id)) = fields.get("id")
                && let Ok(id) = id.parse()
            {
                found.insert(id);
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

//! The system collections: what a store tells about itself.

use std::{collections::BTreeMap, ops::ControlFlow, sync::PoisonError};

use idem_kv::Snapshot;
use idem_model::{CollectionName, DocId, Object, Value};

use crate::{
    error::StoreError,
    head::FORMAT_VERSION,
    tables::{self, SYSTEM},
    work::{Work, stored_row},
};

/// The rows of `system:NAME`; `None` for a name that is not known here.
pub(crate) fn rows(work: &Work, name: &str) -> Result<Option<Vec<Object>>, StoreError> {
    Ok(Some(match name {
        "collections" => collections(work)?,
        "indexes" => indexes(work)?,
        "system_info" => system_info(work)?,
        "system_parameters" => parameters(work),
        "dual" => vec![Object::new()],
        "data_sync_info" => data_sync_info(work),
        "request_history" => work.core.history.rows(),
        "oversized_documents" => oversized_documents(work)?,
        // Filled once peers that were away longer than tombstones live are told apart.
        "quarantine" => Vec::new(),
        _ => return Ok(None),
    }))
}

fn collections(work: &Work) -> Result<Vec<Object>, StoreError> {
    let catalog = work.catalog();
    let mut documents: BTreeMap<&CollectionName, u64> = BTreeMap::new();
    for (name, ordinal) in catalog.collections().filter(|(name, _)| !name.is_system()) {
        documents.insert(name, work.documents_in(ordinal)?);
    }
    // Another peer may have declared what is not in use here yet.
    for name in catalog.declared.keys() {
        documents.entry(name).or_default();
    }
    let rows = documents.into_iter().map(|(name, documents)| {
        let mut row = row([
            ("name", name.as_str().into()),
            ("documents", int(documents)),
        ]);
        if let Some(kinds) = catalog.declared.get(name) {
            let kinds = kinds.iter();
            let types = kinds.map(|(path, kind)| (path.to_string(), kind.name().into()));
            row.insert("types".to_owned(), Value::Object(types.collect()));
        }
        row
    });
    Ok(rows.collect())
}

fn indexes(work: &Work) -> Result<Vec<Object>, StoreError> {
    let mut rows = Vec::new();
    for (collection, ordinal) in work.catalog().collections() {
        for index in work.catalog().indexes(ordinal) {
            let fields = index.info.fields().iter().map(|field| {
                let direction = if field.descending { "desc" } else { "asc" };
                Value::Object(row([
                    ("field", Value::from(field.key.text())),
                    ("direction", direction.into()),
                ]))
            });
            let state = if work.is_complete(index.id)? {
                "ready"
            } else {
                "unused: a value is too large for it"
            };
            rows.push(row([
                ("name", index.info.name().into()),
                ("collection", collection.as_str().into()),
                ("fields", Value::Array(fields.collect())),
                ("state", state.into()),
            ]));
        }
    }
    Ok(rows)
}

fn system_info(work: &Work) -> Result<Vec<Object>, StoreError> {
    let core = &work.core;
    let durability = format!("{:?}", core.settings.durability).to_lowercase();
    let info = [
        ("version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("format_version", int(FORMAT_VERSION.into())),
        ("actor", core.head().actor.to_string().into()),
        ("durability", durability.into()),
        ("last_commit", int(core.progress.last_commit())),
        ("durable_commit", int(core.progress.durable_commit())),
        ("pending_bytes", int(core.overlay.pending_bytes())),
        ("observers", int(core.observers.len() as u64)),
    ];
    Ok(info
        .into_iter()
        .map(|(key, value)| row([("key", key.into()), ("value", value)]))
        .collect())
}

fn parameters(work: &Work) -> Vec<Object> {
    let parameters = work.catalog().parameters.iter();
    parameters
        .map(|(name, value)| row([("name", name.as_str().into()), ("value", value.clone())]))
        .collect()
}

/// Documents that merging made larger than a local write may.
fn oversized_documents(work: &Work) -> Result<Vec<Object>, StoreError> {
    let [from, to] = tables::OVERSIZED_RANGE;
    let mut keys = Vec::new();
    work.view
        .snapshot
        .scan(SYSTEM, &[from], Some(&[to]), false, &mut |key, _| {
            keys.push(key[1..].to_vec());
            ControlFlow::Continue(())
        })?;
    let mut rows = Vec::new();
    for key in keys {
        let corrupt = |error| StoreError::corrupt("document key", &error);
        let (collection, id) = tables::split_document(&key).map_err(corrupt)?;
        let id = DocId::from_key(id).map_err(corrupt)?;
        let name = work.catalog().name(collection);
        let bytes = stored_row(&work.view.snapshot, &key)?.map_or(0, |row| row.body().len());
        rows.push(row([
            ("collection", name.map_or("", |name| name.as_str()).into()),
            ("id", id.into_value()),
            ("bytes", int(bytes as u64)),
        ]));
    }
    Ok(rows)
}

fn data_sync_info(work: &Work) -> Vec<Object> {
    let provider = work
        .core
        .data_sync_info
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    provider.map(|rows| rows()).unwrap_or_default()
}

fn row<const N: usize>(fields: [(&str, Value); N]) -> Object {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

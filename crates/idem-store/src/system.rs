//! The system collections: what a store tells about itself.

mod bundle;
mod info;
mod replication;

pub(crate) use self::bundle::support_bundle;
pub use self::replication::PeerSync;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use idem_kv::Snapshot;
use idem_model::{CollectionName, DocId, Object, Value};

use crate::{
    catalog::Index,
    core::Provider,
    error::StoreError,
    tables::{self, SYSTEM},
    work::{Work, stored_row},
};

/// What is behind `system:`.
pub(crate) const NAMES: [&str; 13] = [
    "active_requests",
    "collections",
    "data_sync_info",
    "dual",
    "indexes",
    "oversized_documents",
    "quarantine",
    "request_history",
    "shared_statements",
    "sync_degradations",
    "system_info",
    "system_parameters",
    "transports_info",
];

/// The rows of `system:NAME`; `None` for a name that is not known here.
pub(crate) fn rows(work: &Work, name: &str) -> Result<Option<Vec<Object>>, StoreError> {
    Ok(Some(match name {
        "collections" => collections(work)?,
        "indexes" => indexes(work)?,
        "system_info" => info::system_info(work)?,
        "system_parameters" => parameters(work),
        "dual" => vec![Object::new()],
        "data_sync_info" => replication::data_sync_info(work)?,
        "transports_info" => replication::transports_info(work),
        "sync_degradations" => replication::sync_degradations(work)?,
        "active_requests" => work.core.requests.active_rows(),
        "request_history" => work.core.requests.history_rows(),
        "shared_statements" => work.core.statements.rows(),
        "oversized_documents" => oversized_documents(work)?,
        "quarantine" => work.quarantine_rows()?,
        _ => return Ok(None),
    }))
}

/// Ends what a row of `system:NAME` is about; `false` if rows of this collection stay.
pub(crate) fn forget(work: &Work, name: &str, row: &Object) -> bool {
    let id = match row.get("id") {
        Some(Value::Int(id)) => u64::try_from(*id).unwrap_or(0),
        _ => 0,
    };
    let requests = &work.core.requests;
    // One that has ended meanwhile is as the caller wants it.
    match name {
        "active_requests" => requests.kill(id),
        "request_history" => requests.forget(id),
        _ => return false,
    };
    true
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
    let catalog = work.catalog();
    let mut rows = Vec::new();
    for (collection, ordinal) in catalog.collections() {
        for index in catalog.indexes(ordinal) {
            rows.push(index_row(work, collection, ordinal, index)?);
        }
    }
    for (id, purge) in &catalog.purges {
        let collection = catalog.name(purge.collection);
        let collection = collection.map_or("", |name| name.as_str());
        let mut row = row([
            // The name is free again, so another index may have it.
            ("_id", format!("{collection}.{}#{id}", purge.name).into()),
            ("collection", collection.into()),
            ("name", purge.name.as_str().into()),
            ("state", "dropping".into()),
            ("progress", progress(purge.done, purge.total)),
            ("entries", int(purge.total.saturating_sub(purge.done))),
        ]);
        add_failure(work, *id, &mut row);
        rows.push(row);
    }
    Ok(rows)
}

fn index_row(
    work: &Work,
    collection: &CollectionName,
    ordinal: u32,
    index: &Index,
) -> Result<Object, StoreError> {
    let name = index.info.name();
    let fields = index.info.fields().iter().map(|field| {
        let direction = if field.descending { "desc" } else { "asc" };
        Value::Object(row([
            ("direction", direction.into()),
            ("key", field.key.text().into()),
        ]))
    });
    let (state, progress) = match &index.build {
        None => ("ready", Value::Float(1.0)),
        Some(build) => ("building", progress(build.done, build.total)),
    };
    let distinct = index.tally.distinct.iter().map(|&count| int(count));
    let mut row = row([
        ("_id", format!("{collection}.{name}").into()),
        ("collection", collection.as_str().into()),
        ("name", name.into()),
        ("fields", Value::Array(fields.collect())),
        ("state", state.into()),
        ("progress", progress),
        ("entries", int(index.entries(work.documents_in(ordinal)?))),
        ("distinct_keys", Value::Array(distinct.collect())),
    ]);
    if index.build.is_none() && !work.is_whole(index.id)? {
        let problem = "not used: a document has a value too large for it";
        row.insert("problem".to_owned(), problem.into());
    }
    add_failure(work, index.id, &mut row);
    Ok(row)
}

fn add_failure(work: &Work, index: u32, row: &mut Object) {
    if let Some(failure) = work.core.indexing.failure(index) {
        row.insert("problem".to_owned(), failure.into());
    }
}

/// From 0 to below 1 in thousandths: 1 is for what is done.
fn progress(done: u64, total: u64) -> Value {
    let thousandths = u128::from(done) * 1000 / u128::from(total.max(1));
    let thousandths = u16::try_from(thousandths).unwrap_or(u16::MAX).min(999);
    Value::Float(f64::from(thousandths) / 1000.0)
}

fn parameters(work: &Work) -> Vec<Object> {
    let parameters = work.catalog().parameters().iter();
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

/// What another layer tells, if it does.
fn provided<T>(provider: &Mutex<Option<Provider<T>>>) -> Vec<T> {
    let provider = provider
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    provider.map(|rows| rows()).unwrap_or_default()
}

pub(crate) fn row<const N: usize>(fields: [(&str, Value); N]) -> Object {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub(crate) fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

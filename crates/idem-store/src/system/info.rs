//! `system:system_info`: one row for each thing that is known about the store.

use idem_model::{Object, Value};

use super::{collections, int, parameters, provided, row};
use crate::{
    error::StoreError,
    evictions::Marks,
    head::FORMAT_VERSION,
    tombstones::{self, Removed},
    work::Work,
};

/// Rows of `namespace`, `key`, `value` and `timestamp`, the time of reading in milliseconds.
pub(super) fn system_info(work: &Work) -> Result<Vec<Object>, StoreError> {
    let mut rows = Vec::new();
    let mut add = |namespace: &str, key: String, value: Value| {
        rows.push(row([
            ("namespace", namespace.into()),
            ("key", key.into()),
            ("value", value),
        ]));
    };
    add(
        "core",
        "idem_sdk_version".to_owned(),
        env!("CARGO_PKG_VERSION").into(),
    );
    for (key, value) in store(work) {
        add("store", key.to_owned(), value);
    }
    for (key, value) in kept(work)? {
        add("store", key.to_owned(), value);
    }
    let core = &work.core;
    let log_bytes = core.log.stats().allocated_bytes;
    for (part, bytes) in [
        ("engine", core.overlay.engine().stats().file_bytes),
        ("log", log_bytes),
        ("total", core.disk_bytes()),
    ] {
        add("store", format!("fs_usage_{part}_bytes"), int(bytes));
    }
    for mut collection in collections(work)? {
        let name = collection.remove("name").unwrap_or_default();
        let documents = collection.remove("documents").unwrap_or_default();
        let key = format!("collection_num_docs[{}]", name.as_str().unwrap_or_default());
        add("store", key, documents);
    }
    for mut parameter in parameters(work) {
        let name = parameter.remove("name").unwrap_or_default();
        let name = name.as_str().unwrap_or_default();
        let key = format!("non_default_system_parameter[{name}]");
        add("core", key, parameter.remove("value").unwrap_or_default());
    }
    rows.extend(provided(&core.system_info));
    for row in &mut rows {
        row.insert("timestamp".to_owned(), int(work.now_ms));
    }
    Ok(rows)
}

/// What is kept of documents that are not here, or do not travel.
fn kept(work: &Work) -> Result<[(&'static str, Value); 5], StoreError> {
    let snapshot = &work.view.snapshot;
    let removed = Removed::stored(snapshot)?;
    Ok([
        ("tombstones", int(tombstones::count(snapshot)?)),
        ("tombstones_removed", int(removed.count)),
        ("gc_floor", int(removed.floor.unix_ms())),
        ("evict_markers", int(Marks::stored(snapshot)?.markers)),
        ("quarantined_documents", int(work.quarantine_len()?)),
    ])
}

/// What is known about the store as a whole.
pub(super) fn store(work: &Work) -> [(&'static str, Value); 7] {
    let core = &work.core;
    let durability = format!("{:?}", core.settings.durability).to_lowercase();
    [
        ("format_version", int(FORMAT_VERSION.into())),
        ("actor", core.head().actor.to_string().into()),
        ("durability", durability.into()),
        ("last_commit", int(core.progress.last_commit())),
        ("durable_commit", int(core.progress.durable_commit())),
        ("pending_bytes", int(core.overlay.pending_bytes())),
        ("observers", int(core.observers.len() as u64)),
    ]
}

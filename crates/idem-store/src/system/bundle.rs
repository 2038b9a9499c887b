//! What a person needs to know who helps with a store, and nothing of what is in its documents.

use idem_model::{Object, Value};

use super::{collections, indexes, info, int, oversized_documents, parameters, row};
use crate::{error::StoreError, work::Work};

/// Statements of the history that are shown, the last ones: some 100 KiB at most.
const REQUESTS_MAX: usize = 100;

/// The row of `system_request_support_bundle()`: no document, no argument, no literal of a statement.
pub(crate) fn support_bundle(work: &Work) -> Result<Object, StoreError> {
    let core = &work.core;
    let indexes = indexes(work)?;
    let history = core.requests.history_rows();
    let warnings = warnings(work, &indexes, &history)?;
    let requests = history.into_iter().take(REQUESTS_MAX).map(without_values);
    let objects = |rows: Vec<Object>| Value::Array(rows.into_iter().map(Value::Object).collect());
    let store = info::store(work).into_iter();
    let store = store
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Ok(row([
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("created", int(work.now_ms)),
        ("store", Value::Object(store)),
        ("disk_bytes", int(core.disk_bytes())),
        ("collections", objects(collections(work)?)),
        ("indexes", objects(indexes)),
        ("parameters", objects(parameters(work))),
        (
            "active_requests",
            int(core.requests.active_rows().len() as u64),
        ),
        ("request_history", objects(requests.collect())),
        ("warnings", warnings.into()),
    ]))
}

/// A row of the history with `?` in the place of the literals of its statement.
fn without_values(mut row: Object) -> Object {
    let text = row.get("statement").and_then(Value::as_str);
    let shown = text.and_then(idem_query::without_literals);
    let shown = shown.unwrap_or_else(|| "(not shown)".to_owned());
    row.insert("statement".to_owned(), shown.into());
    row
}

/// What is not as it should be.
fn warnings(
    work: &Work,
    indexes: &[Object],
    history: &[Object],
) -> Result<Vec<String>, StoreError> {
    let text = |row: &Object, name: &str| {
        let text = row.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut warnings: Vec<String> = indexes
        .iter()
        .filter(|index| index.contains_key("problem"))
        .map(|index| format!("index {}: {}", text(index, "_id"), text(index, "problem")))
        .collect();
    let oversized = oversized_documents(work)?.len();
    if oversized > 0 {
        warnings.push(format!("{oversized} documents are over the size limit"));
    }
    let failed = history.iter().filter(|row| row.contains_key("error"));
    let failed = failed.count();
    if failed > 0 {
        warnings.push(format!(
            "{failed} of the last {} statements failed",
            history.len()
        ));
    }
    Ok(warnings)
}

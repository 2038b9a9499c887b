//! EXECUTE FUNCTION: what a store can be asked to do.

use std::sync::Arc;

use idem_model::{CollectionName, DocId, Object, Value};
use idem_query::{ErrorKind, QueryError};

use crate::{
    core::Core,
    error::StoreError,
    quarantine,
    system::{self, int, row},
    work::Work,
};

const CHECKPOINT: &str = "system_checkpoint";
const COMPACT: &str = "system_compact";
const QUARANTINE_DROP: &str = "quarantine_drop";
const QUARANTINE_KEEP: &str = "quarantine_keep";
const SUPPORT_BUNDLE: &str = "system_request_support_bundle";

/// Every function, by name.
pub(crate) const NAMES: [&str; 5] = [
    QUARANTINE_DROP,
    QUARANTINE_KEEP,
    CHECKPOINT,
    COMPACT,
    SUPPORT_BUNDLE,
];

/// Calls the function of a name in lower case; `None` if there is none.
pub(crate) fn call(
    work: &mut Work,
    name: &str,
    args: &[Value],
) -> Result<Option<Vec<Object>>, StoreError> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    if name == QUARANTINE_KEEP || name == QUARANTINE_DROP {
        let documents = decide(work, name, args)?;
        return Ok(Some(vec![row([("documents", int(documents))])]));
    }
    if !args.is_empty() {
        let message = format!("{name}() takes no arguments");
        return Err(QueryError::new(ErrorKind::ArgumentsInvalid, message).into());
    }
    match name {
        CHECKPOINT => checkpoint(&work.core).map(Some),
        COMPACT if work.pending.has_savepoint() => Err(alone(name).into()),
        COMPACT => {
            work.pending.small.compacts = true;
            Ok(Some(Vec::new()))
        }
        _ => Ok(Some(vec![system::support_bundle(work)?])),
    }
}

fn alone(name: &str) -> QueryError {
    let message = format!("{name}() cannot run within a longer transaction");
    QueryError::new(ErrorKind::Execution, message).with_hint("run it as a statement of its own")
}

/// Decides on the documents of a collection that are in quarantine, or on one of them.
fn decide(work: &Work, name: &str, args: &[Value]) -> Result<u64, StoreError> {
    let invalid = |message: String| {
        let hint = format!("{name}('cars') or {name}('cars', id)");
        QueryError::new(ErrorKind::ArgumentsInvalid, message).with_hint(hint)
    };
    let (collection, id) = match args {
        [collection] => (collection, None),
        [collection, id] => (collection, Some(id)),
        _ => {
            let message = format!("{name}() takes a collection, or a collection and an id");
            return Err(invalid(message).into());
        }
    };
    let collection = collection.as_str().map(CollectionName::new);
    let Some(Ok(collection)) = collection else {
        return Err(invalid(format!("{name}() takes the name of a collection")).into());
    };
    let id = id.map(|id| DocId::new(id.clone())).transpose();
    let id = id.map_err(|error| invalid(error.to_string()))?;
    if work.writing.is_some() {
        return Err(alone(name).into());
    }
    let is_kept = name == QUARANTINE_KEEP;
    match work.catalog().ordinal(&collection) {
        Some(ordinal) => quarantine::decide(&work.core, ordinal, id.as_ref(), is_kept),
        None => Ok(0),
    }
}

/// Moves what is committed from the log into the engine.
fn checkpoint(core: &Core) -> Result<Vec<Object>, StoreError> {
    let before = core.overlay.pending_bytes();
    core.flush()?;
    let after = core.overlay.pending_bytes();
    Ok(vec![row([
        ("flushed_bytes", int(before.saturating_sub(after))),
        ("pending_bytes", int(after)),
        ("durable_commit", int(core.progress.durable_commit())),
    ])])
}

/// Gives unused space of the engine back to the file system; does nothing while somebody reads.
pub(crate) fn compact(core: &Arc<Core>) -> Result<Object, StoreError> {
    core.flush()?;
    let engine_bytes = || int(core.overlay.engine().stats().file_bytes);
    let before = engine_bytes();
    let is_smaller = core.overlay.compact()?;
    Ok(row([
        ("compacted", Value::Bool(is_smaller)),
        ("engine_bytes_before", before),
        ("engine_bytes", engine_bytes()),
    ]))
}

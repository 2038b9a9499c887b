//! EXECUTE FUNCTION: what a store can be asked to do.

use std::sync::Arc;

use idem_model::{Object, Value};
use idem_query::{ErrorKind, QueryError};

use crate::{
    core::Core,
    error::StoreError,
    system::{self, int, row},
    work::Work,
};

const CHECKPOINT: &str = "system_checkpoint";
const COMPACT: &str = "system_compact";
const SUPPORT_BUNDLE: &str = "system_request_support_bundle";

/// Every function, by name.
pub(crate) const NAMES: [&str; 3] = [CHECKPOINT, COMPACT, SUPPORT_BUNDLE];

/// Calls the function of a name in lower case; `None` if there is none.
pub(crate) fn call(
    work: &mut Work,
    name: &str,
    args: &[Value],
) -> Result<Option<Vec<Object>>, StoreError> {
    if !NAMES.contains(&name) {
        return Ok(None);
    }
    if !args.is_empty() {
        let message = format!("{name}() takes no arguments");
        return Err(QueryError::new(ErrorKind::ArgumentsInvalid, message).into());
    }
    match name {
        CHECKPOINT => checkpoint(&work.core).map(Some),
        COMPACT if work.pending.has_savepoint() => {
            let message = format!("{name}() cannot run within a longer transaction");
            let hint = "run it as a statement of its own";
            let error = QueryError::new(ErrorKind::Execution, message).with_hint(hint);
            Err(error.into())
        }
        COMPACT => {
            work.pending.small.compacts = true;
            Ok(Some(Vec::new()))
        }
        _ => Ok(Some(vec![system::support_bundle(work)?])),
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

//! Deleting the entries of an index that was dropped, one batch at a time.

use std::{ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::limits;

use crate::{
    catalog::Purge,
    core::Core,
    error::StoreError,
    patience::Patience,
    tables::{self, INDEX},
    work::Work,
};

/// Deletes the next entries, in one transaction that also notes how far it came.
pub(super) fn step(core: &Arc<Core>, id: u32, patience: &Patience) -> Result<(), StoreError> {
    let mut work = Work::write(Arc::clone(core), patience)?;
    let Some(purge) = work.catalog().purges.get(&id).cloned() else {
        return Ok(());
    };
    // Begins behind what is deleted: memory and log still know of it, and would be read over.
    let from = match &purge.after[..] {
        [] => tables::index_prefix(id).to_vec(),
        after => [after, &[0]].concat(),
    };
    let to = tables::index_prefix(id + 1);
    let mut keys = Vec::new();
    let mut is_end = true;
    work.view
        .snapshot
        .scan(INDEX, &from, Some(&to), false, &mut |key, _| {
            if keys.len() == limits::INDEX_PURGE_ENTRIES {
                is_end = false;
                return ControlFlow::Break(());
            }
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
    let next = (!is_end).then(|| Purge {
        after: keys.last().cloned().unwrap_or_default(),
        done: purge.done + keys.len() as u64,
        ..purge
    });
    for key in keys {
        work.pending.put_index_entry(key, None);
    }
    work.pending
        .small
        .system
        .insert(tables::index_purge(id), next.as_ref().map(Purge::encode));
    work.change_catalog(|catalog| match next {
        Some(next) => catalog.purges.insert(id, next),
        None => catalog.purges.remove(&id),
    });
    super::commit(core, work)?;
    if is_end {
        core.indexing.forget(id);
    }
    Ok(())
}

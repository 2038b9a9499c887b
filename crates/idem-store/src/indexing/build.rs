//! Building an index, one batch of documents at a time.

use std::sync::Arc;

use crate::{
    catalog::Build,
    core::Core,
    entries::{self, Room, Stretch},
    error::StoreError,
    patience::Patience,
    tables,
    work::Work,
};

/// Takes in the next documents of a build, in one transaction that also notes how far it came. Does
/// nothing if the index is complete or gone.
pub(super) fn step(core: &Arc<Core>, id: u32, patience: &Patience) -> Result<(), StoreError> {
    let mut work = Work::write(Arc::clone(core), patience)?;
    let Some((collection, index)) = work.catalog().index(id) else {
        return Ok(());
    };
    let Some(build) = index.build.clone() else {
        return Ok(());
    };
    let stretch = Stretch {
        collection,
        after: &build.after,
        end: Some(&build.end),
    };
    let room = Room {
        documents: core.settings.index_batch_documents,
        bytes: core.settings.index_batch_bytes,
    };
    let portion = entries::read(&work, index, stretch, room)?;
    let next = (!portion.is_end).then(|| Build {
        after: portion.after,
        done: build.done + portion.documents,
        ..build
    });
    for (key, value) in portion.entries {
        work.pending.put_index_entry(key, Some(value));
    }
    let is_ready = next.is_none();
    work.pending
        .small
        .system
        .insert(tables::index_build(id), next.as_ref().map(Build::encode));
    work.change_catalog(|catalog| {
        let index = catalog.index_mut(id).expect("it was there above");
        index.build = next;
    });
    if is_ready {
        core.indexing.completed(id);
    }
    super::commit(core, work)
}

//! Collections that hold what a subscription to some fields brings.
//!
//! Such a collection holds parts of the documents of another one, of which peers hold the whole. They
//! merge among each other and with nothing else, so nothing is written to them here, they do not travel
//! from here as documents of this peer, and each such collection belongs to one projection for good. They
//! travel under a name that follows from the projection, under which they are found here as well.
//!
//! That a document was deleted is never forgotten in them: a source that was away would bring it back, and
//! there is nobody whom this peer could ask on its behalf.

use std::{ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::{
    CollectionName, DecodeError,
    codec::{Reader, put_bytes},
    limits,
};
use idem_query::Selector;

use crate::{
    core::Core,
    error::StoreError,
    tables::{self, DOCUMENTS},
    work::Work,
};

/// What a collection holds that belongs to a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Projection {
    /// The name under which its documents travel.
    pub(crate) travelling: CollectionName,
    /// The collection that has the whole documents.
    pub(crate) source: CollectionName,
    /// Which fields: a statement without condition.
    pub(crate) text: String,
}

impl Projection {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, self.travelling.as_str().as_bytes());
        put_bytes(&mut out, self.source.as_str().as_bytes());
        put_bytes(&mut out, self.text.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        fn name(reader: &mut Reader<'_>) -> Result<CollectionName, DecodeError> {
            let at = reader.position();
            let name = reader.text("collection name", limits::COLLECTION_NAME_BYTES_MAX)?;
            CollectionName::new(name).map_err(|_| DecodeError::Invalid {
                what: "collection name",
                at,
            })
        }
        let mut reader = Reader::new(bytes);
        let projection = Self {
            travelling: name(&mut reader)?,
            source: name(&mut reader)?,
            text: reader
                .text("projection", limits::SUBSCRIPTION_STATEMENT_BYTES_MAX)?
                .to_owned(),
        };
        reader.finish()?;
        Ok(projection)
    }
}

/// Gives a projection the collection `name`, or finds the one that it has.
pub(crate) fn declare(
    core: &Arc<Core>,
    name: &CollectionName,
    travelling: &CollectionName,
    selector: &Selector,
) -> Result<(), StoreError> {
    core.open_transactions.check()?;
    if is_declared(&Work::read(Arc::clone(core))?, name, travelling)? {
        return Ok(());
    }
    let mut work = Work::write(Arc::clone(core), &core.patience())?;
    if is_declared(&work, name, travelling)? {
        return Ok(());
    }
    if name.is_system() {
        return Err(StoreError::ReservedCollection { name: name.clone() });
    }
    let ordinal = match work.catalog().ordinal(name) {
        Some(ordinal) => ordinal,
        None => work.intern(name),
    };
    let projection = Projection {
        travelling: travelling.clone(),
        source: selector.collection().clone(),
        text: selector.canonical_projection(),
    };
    let system = &mut work.pending.small.system;
    system.insert(tables::projection(ordinal), Some(projection.encode()));
    work.change_catalog(|catalog| catalog.insert_projection(ordinal, projection));
    work.commit()?;
    Ok(())
}

/// Whether the projection has this collection.
///
/// # Errors
/// If it has another one, or the collection holds anything else.
fn is_declared(
    work: &Work,
    name: &CollectionName,
    travelling: &CollectionName,
) -> Result<bool, StoreError> {
    let catalog = work.catalog();
    if let Some(had) = catalog.ordinal(travelling).and_then(|it| catalog.name(it)) {
        return match had == name {
            true => Ok(true),
            false => Err(StoreError::ProjectionElsewhere {
                name: name.clone(),
                collection: had.clone(),
            }),
        };
    }
    let Some(ordinal) = catalog.ordinal(name) else {
        return Ok(false);
    };
    let mut is_in_use = catalog.projection(ordinal).is_some();
    let (from, to) = (ordinal.to_be_bytes(), (ordinal + 1).to_be_bytes());
    work.view
        .snapshot
        .scan(DOCUMENTS, &from, Some(&to), false, &mut |_, _| {
            is_in_use = true;
            ControlFlow::Break(())
        })?;
    match is_in_use {
        true => Err(StoreError::CollectionInUse { name: name.clone() }),
        false => Ok(false),
    }
}

impl Work {
    /// Whether a collection holds what a subscription to some fields brings.
    pub(crate) fn is_projection(&self, collection: u32) -> bool {
        self.catalog().projection(collection).is_some()
    }

    /// # Errors
    /// [`StoreError::Projected`] for a collection that is not written to here.
    pub(crate) fn check_writable(&self, name: &CollectionName) -> Result<(), StoreError> {
        let catalog = self.catalog();
        let ordinal = catalog.ordinal(name);
        match ordinal.and_then(|ordinal| catalog.projection(ordinal)) {
            None => Ok(()),
            Some(projection) => Err(StoreError::Projected {
                name: name.clone(),
                source_collection: projection.source.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_as_they_were_written() {
        let name = |name| CollectionName::new(name).unwrap();
        let projection = Projection {
            travelling: name("__projection_0123"),
            source: name("products"),
            text: "SELECT d._id, d.name FROM products AS d".to_owned(),
        };
        let bytes = projection.encode();
        assert_eq!(Projection::decode(&bytes).unwrap(), projection);
        for end in 0..bytes.len() {
            assert!(Projection::decode(&bytes[..end]).is_err());
        }
    }
}

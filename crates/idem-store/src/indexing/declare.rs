//! CREATE INDEX and DROP INDEX inside their transaction.

use idem_model::limits;
use idem_query::{ErrorKind, IndexInfo, IndexSpec, QueryError};

use super::tally::Counting;
use crate::{
    catalog::{Build, Index, Purge, Tally, encode_index},
    entries::{self, Portion, Room, Stretch},
    error::StoreError,
    pending::Awaited,
    tables,
    work::Work,
};

impl Work {
    /// Makes an index whose name is free: whole if the collection is small, else as one that is to be
    /// built behind this transaction.
    pub(crate) fn add_index(&mut self, collection: u32, spec: IndexSpec) -> Result<(), StoreError> {
        let count = self.catalog().indexes(collection).len();
        if count >= limits::INDEXES_PER_COLLECTION_MAX {
            let message = format!(
                "collection `{}` has {count} indexes, which is the limit",
                spec.collection
            );
            return Err(QueryError::new(ErrorKind::Execution, message).into());
        }
        let id = self.catalog().next_index();
        let mut index = Index {
            id,
            info: IndexInfo::new(spec),
            build: None,
            tally: Tally::default(),
        };
        let definition = encode_index(collection, index.info.spec());
        self.pending
            .small
            .system
            .insert(tables::index_definition(id), Some(definition));
        let stretch = Stretch {
            collection,
            after: &[],
            end: None,
        };
        let room = Room {
            documents: self.core.settings.index_inline_documents,
            bytes: limits::INDEX_INLINE_BYTES_MAX,
        };
        let portion = entries::read(self, &index, stretch, room)?;
        if portion.is_end {
            self.add_whole(&mut index, portion)?;
        } else {
            let build = Build {
                after: Vec::new(),
                end: entries::last_id(self, collection)?,
                done: 0,
                total: self.documents_in(collection)?,
            };
            self.pending
                .small
                .system
                .insert(tables::index_build(id), Some(build.encode()));
            self.pending.small.awaited = Some(Awaited {
                index: id,
                info: index.info.clone(),
            });
            index.build = Some(build);
        }
        self.change_catalog(|catalog| catalog.insert_index(collection, index));
        Ok(())
    }

    fn add_whole(&mut self, index: &mut Index, mut portion: Portion) -> Result<(), StoreError> {
        portion.entries.sort_unstable();
        let mut counting = Counting::new(index.id, &index.info, 0);
        for (key, value) in portion.entries {
            counting.count_entry(&key, &value)?;
            self.pending.put_index_entry(key, Some(value));
        }
        index.tally = counting.tally(portion.documents);
        self.pending
            .small
            .system
            .insert(tables::index_tally(index.id), Some(index.tally.encode()));
        Ok(())
    }

    /// Removes an index by its name; its entries are deleted behind this transaction. Returns whether
    /// it was there.
    pub(crate) fn remove_index(&mut self, collection: u32, name: &str) -> Result<bool, StoreError> {
        let Some(index) = self.change_catalog(|catalog| catalog.remove_index(collection, name))
        else {
            return Ok(false);
        };
        let id = index.id;
        let purge = Purge {
            collection,
            name: name.to_owned(),
            after: Vec::new(),
            done: 0,
            total: index.entries(self.documents_in(collection)?),
        };
        let system = &mut self.pending.small.system;
        system.insert(tables::index_definition(id), None);
        system.insert(tables::index_build(id), None);
        system.insert(tables::index_tally(id), None);
        system.insert(tables::index_purge(id), Some(purge.encode()));
        let awaited = &mut self.pending.small.awaited;
        if awaited.as_ref().is_some_and(|awaited| awaited.index == id) {
            *awaited = None;
        }
        self.change_catalog(|catalog| catalog.purges.insert(id, purge));
        Ok(true)
    }
}

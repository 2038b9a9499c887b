//! Whether indexes hold what the documents call for, and nothing else.

use std::collections::BTreeMap;

use idem_kv::Snapshot as _;
use idem_model::{DocId, Object};
use idem_query::Fields;

use super::{Check, each};
use crate::{
    catalog::Index,
    entries,
    error::StoreError,
    source::split_entry,
    tables::{self, DOCUMENTS, INDEX},
    work::Shown,
};

/// Entries by the number of their index.
pub(super) type Counts = BTreeMap<u32, u64>;

impl Check<'_> {
    /// Looks up the entries that a document calls for.
    pub(super) fn entries_of(
        &mut self,
        collection: u32,
        id: &[u8],
        fields: &Object,
    ) -> Result<(), StoreError> {
        let work = self.work;
        for index in work.catalog().indexes(collection) {
            if !index.holds(id) {
                continue;
            }
            for key in entries::keys_of(index, id, fields) {
                match work.view.snapshot.get(INDEX, &key)? {
                    Some(value) if value == entries::value_of(id) => {
                        *self.entries.entry(index.id).or_default() += 1;
                    }
                    Some(_) => {
                        *self.entries.entry(index.id).or_default() += 1;
                        let problem = format!("{} is damaged", name_of(index, id));
                        self.problem(problem);
                    }
                    None => {
                        let problem = format!("{} is missing", name_of(index, id));
                        self.problem(problem);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for entries that no document calls for. Documents are read again only for an index that
    /// has more entries than were looked up.
    pub(super) fn indexes(&mut self) -> Result<(), StoreError> {
        let work = self.work;
        let catalog = work.catalog();
        let mut found = Counts::new();
        each(&work.view, INDEX, &[], None, &mut |key, _| {
            let id = tables::index_of(key)?;
            *found.entry(id).or_default() += 1;
            Ok(())
        })?;
        for (id, count) in found {
            if let Some((collection, index)) = catalog.index(id) {
                if count != self.entries.get(&id).copied().unwrap_or(0) {
                    self.strays(collection, index)?;
                }
            } else if let Some(purge) = catalog.purges.get(&id) {
                let end = [&purge.after[..], &[0]].concat();
                if !purge.after.is_empty() {
                    self.left_over(id, &end)?;
                }
            } else {
                self.problem(format!("{count} entries of index {id}, which is not there"));
            }
        }
        Ok(())
    }

    fn strays(&mut self, collection: u32, index: &Index) -> Result<(), StoreError> {
        let work = self.work;
        let (from, to) = (
            tables::index_prefix(index.id),
            tables::index_prefix(index.id + 1),
        );
        let shown = Shown {
            fields: &Fields::All,
            kinds: work.catalog().kinds(collection),
        };
        let mut strays = Vec::new();
        each(&work.view, INDEX, &from, Some(&to), &mut |key, value| {
            let (_, id) = split_entry(key, value)?;
            let row = work
                .view
                .snapshot
                .get(DOCUMENTS, &tables::document(collection, id));
            let fields = match &row {
                Ok(Some(row)) => shown.row(&tables::document(collection, id), row),
                _ => Ok(None),
            };
            let is_called_for = index.holds(id)
                && fields.ok().flatten().is_some_and(|fields| {
                    entries::keys_of(index, id, &fields).contains(&key.to_vec())
                });
            if !is_called_for && strays.len() < super::PROBLEMS_MAX {
                strays.push(id.to_vec());
            }
            Ok(())
        })?;
        for id in strays {
            self.problem(format!("{} is not called for", name_of(index, &id)));
        }
        Ok(())
    }

    fn left_over(&mut self, index: u32, end: &[u8]) -> Result<(), StoreError> {
        let from = tables::index_prefix(index);
        let mut count = 0_u64;
        each(&self.work.view, INDEX, &from, Some(end), &mut |_, _| {
            count += 1;
            Ok(())
        })?;
        if count > 0 {
            self.problem(format!(
                "{count} entries of the dropped index {index} are left"
            ));
        }
        Ok(())
    }
}

fn name_of(index: &Index, id: &[u8]) -> String {
    let id = DocId::from_key(id).map_or_else(|_| format!("{id:02x?}"), |id| id.to_string());
    format!(
        "the entry of document {id} in index `{}` of collection {}",
        index.info.name(),
        index.info.collection()
    )
}

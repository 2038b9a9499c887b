//! Reading what the remote is sent, under the names under which it travels.

use std::collections::BTreeSet;

use idem_model::{CollectionName, DocumentKey, limits};

use super::Source;
use crate::{
    failure::Failure,
    replica::{ChangeBatch, Changed, Replica},
};

impl Source {
    /// The changes after `after` of what travels under `name`.
    pub(super) fn read<R: Replica>(
        &self,
        replica: &R,
        name: &CollectionName,
        after: u64,
        held_to: u64,
    ) -> Result<ChangeBatch, Failure> {
        let collection = self.projections.stored(name);
        let bytes = limits::TRANSFER_BATCH_BYTES;
        let batch = replica.changed_since(collection, after, held_to.min(after), bytes);
        let mut batch = batch.map_err(|error| Failure::store(&error))?;
        if !self.projections.is_empty() {
            let names = BTreeSet::from([name]);
            batch.groups = self.rename(batch.groups, &names, |_, _| true);
        }
        Ok(batch)
    }

    /// As [`Replica::changed_documents`], of keys under which documents travel.
    pub(super) fn read_documents<R: Replica>(
        &self,
        replica: &R,
        keys: &[DocumentKey],
        held_to: u64,
    ) -> Result<(Vec<Vec<Changed>>, usize), Failure> {
        let bytes = limits::TRANSFER_BATCH_BYTES;
        if self.projections.is_empty() {
            let read = replica.changed_documents(keys, held_to, bytes);
            return read.map_err(|error| Failure::store(&error));
        }
        let stored: Vec<_> = keys
            .iter()
            .map(|it| self.projections.stored_key(it))
            .collect();
        let read = replica.changed_documents(&stored, held_to, bytes);
        let (groups, consumed) = read.map_err(|error| Failure::store(&error))?;
        let names = keys.iter().map(|key| &key.collection).collect();
        let asked: BTreeSet<_> = keys.iter().collect();
        // Of two names of one document perhaps only one is lacking.
        let is_lacking = |name: &CollectionName, changed: &Changed| {
            let key = DocumentKey {
                collection: name.clone(),
                id: changed.key.id.clone(),
            };
            changed.commit > held_to || asked.contains(&key)
        };
        Ok((self.rename(groups, &names, is_lacking), consumed))
    }

    /// Gives documents the names under which they travel. Those of a collection that is read for `names`
    /// go under these, as far as they are lacking; what shared a transaction with them, under all names
    /// that are wanted.
    fn rename(
        &self,
        groups: Vec<Vec<Changed>>,
        names: &BTreeSet<&CollectionName>,
        is_lacking: impl Fn(&CollectionName, &Changed) -> bool,
    ) -> Vec<Vec<Changed>> {
        let read: BTreeSet<_> = names.iter().map(|it| self.projections.stored(it)).collect();
        let gives = |name: &CollectionName, changed: &Changed| match read
            .contains(&changed.key.collection)
        {
            true => names.contains(name) && is_lacking(name, changed),
            false => self.live.contains_key(name),
        };
        let groups = groups.into_iter();
        let groups = groups.map(|group| self.projections.rename(group, gives));
        groups.filter(|group| !group.is_empty()).collect()
    }
}

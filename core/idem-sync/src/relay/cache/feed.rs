//! What a relay has written, and what of it goes out together.

use std::{collections::BTreeSet, sync::Arc};

use idem_model::{CollectionName, DocumentKey};

use super::{RelayCache, Row};
use crate::{
    grouping,
    replica::{ChangeBatch, Changed},
};

impl RelayCache {
    pub(super) fn read_feed(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> ChangeBatch {
        let feed = self.feeds.get(collection).into_iter();
        let feed = feed.flat_map(|feed| feed.range((after + 1, 0)..));
        grouping::read_feed(
            feed.map(|((commit, _), key)| (*commit, key)),
            (after, self.commit),
            bytes_max,
            |key| match self.quarantined.contains(key) {
                true => BTreeSet::new(),
                false => self.closure(key, held_to, &|_, _| false),
            },
            |members| self.group_of(members),
        )
    }

    pub(super) fn read_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> (Vec<Vec<Changed>>, usize) {
        let is_held = grouping::held_beside(keys, held_to);
        let is_held = |key: &DocumentKey, row: &Row| is_held(key, row.commit);
        grouping::read_documents(
            keys,
            bytes_max,
            |key| match self.rows.get_key_value(key) {
                Some((key, _)) if !self.quarantined.contains(key) => self.closure(key, 0, &is_held),
                _ => BTreeSet::new(),
            },
            |members| self.group_of(members),
        )
    }

    /// All documents that must travel with `key`, but those that are held.
    pub(super) fn closure(
        &self,
        key: &Arc<DocumentKey>,
        held_to: u64,
        is_held: &dyn Fn(&DocumentKey, &Row) -> bool,
    ) -> BTreeSet<Arc<DocumentKey>> {
        let mut found = BTreeSet::from([Arc::clone(key)]);
        let mut open = vec![Arc::clone(key)];
        // All documents of a group name it, so each would look at all others again.
        let mut seen = BTreeSet::new();
        while let Some(key) = open.pop() {
            let groups = self.rows[&key].groups.iter();
            let groups = groups.filter(|(commit, _)| *commit > held_to);
            for group in groups.filter(|group| seen.insert(**group)) {
                for member in &self.groups[group] {
                    // One that is held says nothing of the others: it may have come another way.
                    let does_travel =
                        !self.quarantined.contains(member) && !is_held(member, &self.rows[member]);
                    if does_travel && found.insert(Arc::clone(member)) {
                        open.push(Arc::clone(member));
                    }
                }
            }
        }
        found
    }

    fn group_of(&self, members: &BTreeSet<Arc<DocumentKey>>) -> Vec<Changed> {
        let changed = members.iter().map(|key| {
            let row = &self.rows[key];
            Changed {
                key: (**key).clone(),
                commit: row.commit,
                document: row.bytes.to_vec(),
            }
        });
        changed.collect()
    }
}

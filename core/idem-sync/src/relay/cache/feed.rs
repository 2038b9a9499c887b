//! What a relay has written, and what of it goes out together.

use std::{collections::BTreeSet, sync::Arc};

use idem_model::{CollectionName, DocumentKey};

use super::{RelayCache, Row};
use crate::replica::{ChangeBatch, Changed};

impl RelayCache {
    pub(super) fn read_feed(
        &self,
        collection: &CollectionName,
        after: u64,
        held_to: u64,
        bytes_max: usize,
    ) -> ChangeBatch {
        let mut batch = ChangeBatch {
            up_to: self.commit.max(after),
            ..ChangeBatch::default()
        };
        let Some(feed) = self.feeds.get(collection) else {
            return batch;
        };
        let mut given = BTreeSet::new();
        let mut bytes = 0;
        let mut last = after;
        for ((commit, _), key) in feed.range((after + 1, 0)..) {
            if bytes >= bytes_max && *commit > last {
                batch.up_to = last;
                batch.more = true;
                break;
            }
            last = *commit;
            if given.contains(key) || self.quarantined.contains(key) {
                continue;
            }
            let members = self.closure(key, held_to, &|_, _| false);
            let group = self.group_of(&members);
            bytes += bytes_of(&group);
            batch.groups.push(group);
            given.extend(members);
        }
        batch
    }

    pub(super) fn read_documents(
        &self,
        keys: &[DocumentKey],
        held_to: u64,
        bytes_max: usize,
    ) -> (Vec<Vec<Changed>>, usize) {
        let wanted: BTreeSet<&DocumentKey> = keys.iter().collect();
        let collections: BTreeSet<&CollectionName> =
            keys.iter().map(|key| &key.collection).collect();
        let is_held = |key: &DocumentKey, row: &Row| {
            row.commit <= held_to && collections.contains(&key.collection) && !wanted.contains(key)
        };
        let mut groups = Vec::new();
        let mut given: BTreeSet<Arc<DocumentKey>> = BTreeSet::new();
        let mut bytes = 0;
        for (consumed, key) in keys.iter().enumerate() {
            if bytes >= bytes_max && !groups.is_empty() {
                return (groups, consumed);
            }
            let Some((key, _)) = self.rows.get_key_value(key) else {
                continue;
            };
            if given.contains(key) || self.quarantined.contains(key) {
                continue;
            }
            let members = self.closure(key, 0, &is_held).into_iter();
            let members = members.filter(|member| given.insert(Arc::clone(member)));
            let members: BTreeSet<_> = members.collect();
            let group = self.group_of(&members);
            bytes += bytes_of(&group);
            groups.push(group);
        }
        (groups, keys.len())
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

fn bytes_of(group: &[Changed]) -> usize {
    group.iter().map(|it| it.document.len()).sum()
}

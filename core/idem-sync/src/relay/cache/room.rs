//! What a relay keeps, what it costs, and what has to go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use idem_crdt::Document;
use idem_model::DocumentKey;

use super::{CURSORS_MAX, GroupId, RelayCache, Row};
use crate::replica::{CursorUpdate, Synced};

/// What a document costs beside its bytes: its key, a row, and its places in three trees.
const ROW_BYTES: usize = 400;

/// What it costs that a document is in a group.
const MEMBER_BYTES: usize = 100;

/// Groups that a document is in, of which none covers another; the oldest are forgotten.
const GROUPS_PER_ROW_MAX: usize = 16;

impl Row {
    fn cost(&self, key: &DocumentKey) -> usize {
        ROW_BYTES + self.bytes.len() + key.collection.as_str().len()
    }
}

impl RelayCache {
    /// Writes documents as one commit. Those in `quarantined` do not travel.
    pub(super) fn write(
        &mut self,
        written: BTreeMap<DocumentKey, (u32, Document)>,
        quarantined: &BTreeSet<DocumentKey>,
    ) {
        if written.is_empty() {
            return;
        }
        self.commit += 1;
        let mut groups: BTreeMap<u32, BTreeSet<Arc<DocumentKey>>> = BTreeMap::new();
        for (key, (group, document)) in written {
            let is_quarantined = quarantined.contains(&key);
            let key = self.write_document(key, &document);
            if is_quarantined {
                self.quarantined.insert(Arc::clone(&key));
            }
            groups.entry(group).or_default().insert(key);
        }
        for (group, members) in groups {
            if members.len() > 1 {
                self.bind((self.commit, group), members);
            }
        }
    }

    fn write_document(&mut self, key: DocumentKey, document: &Document) -> Arc<DocumentKey> {
        self.serial += 1;
        let (key, groups) = match self.rows.remove_entry(&key) {
            Some((key, row)) => {
                self.unlist(&key, &row);
                (key, row.groups)
            }
            None => (Arc::new(key), Vec::new()),
        };
        self.quarantined.remove(&key);
        let row = Row {
            bytes: document.to_bytes().into_boxed_slice(),
            is_present: document.is_present(),
            commit: self.commit,
            serial: self.serial,
            groups,
            source: self.source,
        };
        let cost = row.cost(&key);
        self.bytes += cost;
        let share = self.shares.entry(row.source).or_default();
        share.bytes += cost;
        share.order.insert(row.serial, Arc::clone(&key));
        let feed = self.feeds.entry(key.collection.clone()).or_default();
        feed.insert((row.commit, row.serial), Arc::clone(&key));
        self.rows.insert(Arc::clone(&key), row);
        key
    }

    /// Takes a row out of all lists but that of its groups.
    fn unlist(&mut self, key: &Arc<DocumentKey>, row: &Row) {
        let cost = row.cost(key);
        self.bytes -= cost;
        if let Some(share) = self.shares.get_mut(&row.source) {
            share.bytes -= cost;
            share.order.remove(&row.serial);
            if share.order.is_empty() {
                self.shares.remove(&row.source);
            }
        }
        if let Some(feed) = self.feeds.get_mut(&key.collection) {
            feed.remove(&(row.commit, row.serial));
            if feed.is_empty() {
                self.feeds.remove(&key.collection);
            }
        }
    }

    /// Notes that documents share a transaction. Groups that lie in the new one are superfluous then.
    fn bind(&mut self, id: GroupId, members: BTreeSet<Arc<DocumentKey>>) {
        let earlier = members.iter().flat_map(|it| &self.rows[it].groups);
        let earlier: BTreeSet<GroupId> = earlier.copied().collect();
        for group in earlier {
            if self.groups[&group].is_subset(&members) {
                self.unbind(group);
            }
        }
        let mut forgotten = BTreeSet::new();
        for member in &members {
            let row = self.rows.get_mut(member).expect("it was just written");
            row.groups.push(id);
            if row.groups.len() > GROUPS_PER_ROW_MAX {
                forgotten.insert(row.groups[0]);
            }
        }
        self.bytes += MEMBER_BYTES * members.len();
        self.groups.insert(id, members);
        forgotten.into_iter().for_each(|it| self.unbind(it));
    }

    fn unbind(&mut self, group: GroupId) {
        let members = self.groups.remove(&group).unwrap_or_default();
        self.bytes -= MEMBER_BYTES * members.len();
        for member in members {
            if let Some(row) = self.rows.get_mut(&member) {
                row.groups.retain(|it| *it != group);
            }
        }
    }

    /// Removes all that is known of a document. Gives whether there was anything.
    pub(super) fn remove(&mut self, key: &DocumentKey) -> bool {
        let Some((key, row)) = self.rows.remove_entry(key) else {
            return false;
        };
        self.unlist(&key, &row);
        self.quarantined.remove(&key);
        for group in &row.groups {
            let Some(members) = self.groups.get_mut(group) else {
                continue;
            };
            if members.remove(&key) {
                self.bytes -= MEMBER_BYTES;
            }
            if members.len() == 1 {
                self.unbind(*group);
            }
        }
        true
    }

    /// Evicts what everybody has, as long as half of the room is taken.
    pub(super) fn fit(&mut self) {
        while self.is_filling() {
            let oldest = self
                .shares
                .values()
                .filter_map(|share| share.order.iter().next());
            let oldest = oldest.min_by_key(|(serial, _)| **serial);
            let Some(oldest) = oldest.map(|(_, key)| Arc::clone(key)) else {
                return;
            };
            let mut gone = self.closure(&oldest, 0, &|_, _| false);
            gone.insert(oldest);
            if gone
                .iter()
                .any(|key| self.rows[key].commit > self.confirmed)
            {
                return;
            }
            for key in gone {
                self.evicted += 1;
                self.remove(&key);
            }
        }
    }

    pub(super) fn store_cursors(&mut self, cursors: &[CursorUpdate], synced: &[Synced]) {
        for update in cursors {
            let key = (update.peer, update.subscription);
            self.cursors.insert(key, update.cursor);
        }
        for it in synced {
            let key = (it.peer, it.collection.clone());
            self.synced.insert(key, it.time);
        }
        while self.cursors.len() > CURSORS_MAX {
            self.cursors.pop_first();
        }
        while self.synced.len() > CURSORS_MAX {
            self.synced.pop_first();
        }
    }
}

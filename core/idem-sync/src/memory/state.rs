//! What is held, as it is now or as a crash leaves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use idem_crdt::{Document, deletion_of};
use idem_model::{
    ActorId, CollectionName, DaySums, DeletedDay, DeletedDays, Deletion, DocumentKey, HybridClock,
    PeerId, Timestamp, VersionVector,
};
use idem_wire::SubscriptionId;

use super::{commons::Content, keys::Keys};
use crate::{
    few::Few,
    replica::{Changed, Cursor, CursorUpdate, Gone, Synced},
};

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) actor: ActorId,
    pub(super) clock: HybridClock,
    /// Commits of this actor.
    pub(super) n: u64,
    /// Commits and merges.
    pub(super) commit: u64,
    /// Keys and contents are shared with the other state, and with other replicas.
    pub(super) rows: BTreeMap<Arc<DocumentKey>, Row>,
    pub(super) by_seq: BTreeMap<u64, Keys>,
    pub(super) groups: BTreeMap<GroupId, Keys>,
    pub(super) cursors: Few<(PeerId, SubscriptionId), Cursor>,
    pub(super) evicted: BTreeMap<DocumentKey, Evicted>,
    pub(super) synced: BTreeMap<(PeerId, CollectionName), Timestamp>,
    pub(super) quarantined: BTreeSet<DocumentKey>,
    pub(super) gc_floor: Timestamp,
    /// Up to where it rose because of what no feed told.
    pub(super) learned_floor: Timestamp,
    pub(super) gone: BTreeMap<CollectionName, Gone>,
    pub(super) days: BTreeMap<CollectionName, DeletedDays>,
}

/// What is kept of an evicted document.
#[derive(Clone, Debug)]
pub(super) struct Evicted {
    pub(super) version: VersionVector,
    /// In which subscriptions it counts as held.
    pub(super) subscriptions: BTreeSet<SubscriptionId>,
    /// Whether it was deleted, which nothing else tells any more.
    pub(super) is_buried: bool,
    /// Whether it may have been deleted, though it counts as held.
    pub(super) is_doubtful: bool,
}

/// What a commit makes of a document.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Document {
        group: u32,
        content: Arc<Content>,
    },
    /// It is not here any more, but may count as held.
    Evict(Evicted),
    /// It stays as it is, but does not travel.
    Quarantine,
    /// That it was deleted is forgotten.
    Forget,
}

/// A group of a commit.
pub(super) type GroupId = (u64, u32);

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) content: Arc<Content>,
    pub(super) commit: u64,
    /// The clock at that commit.
    pub(super) time: Timestamp,
    /// Rising.
    pub(super) groups: Vec<GroupId>,
}

impl Row {
    pub(super) fn document(&self) -> &Document {
        self.content.document()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.content.bytes()
    }

    /// How a tombstone counts among others.
    fn deletion(&self, key: &DocumentKey) -> Deletion {
        let deletion = deletion_of(&key.id.to_key(), self.bytes());
        deletion.expect("written by ourselves")
    }
}

/// What one commit or merge wrote.
#[derive(Clone, Debug)]
pub(super) struct Commit {
    pub(super) number: u64,
    pub(super) actor: ActorId,
    pub(super) n: u64,
    pub(super) clock: HybridClock,
    pub(super) writes: Vec<(Arc<DocumentKey>, Write)>,
    pub(super) cursors: Vec<CursorUpdate>,
    pub(super) synced: Vec<Synced>,
    /// What is gone elsewhere.
    pub(super) learned: Option<(CollectionName, VersionVector, Vec<DeletedDay>)>,
    /// Evicted documents of which a peer knew nothing.
    pub(super) doubted: Vec<DocumentKey>,
}

impl State {
    pub(super) fn write(&mut self, commit: &Commit) {
        self.commit = commit.number;
        self.actor = commit.actor;
        self.n = commit.n;
        self.clock = commit.clock;
        for (key, write) in &commit.writes {
            let earlier = self.rows.get(key).map(|row| row.commit);
            if let Some(earlier) = earlier
                && let Some(keys) = self.by_seq.get_mut(&earlier)
            {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_seq.remove(&earlier);
                }
            }
            match write {
                Write::Document { group, content } => {
                    self.write_document(key, (commit.number, *group), content);
                }
                Write::Quarantine => {
                    let content = Arc::clone(&self.rows[key].content);
                    self.write_document(key, (commit.number, 0), &content);
                    self.quarantined.insert(DocumentKey::clone(key));
                }
                Write::Forget => {
                    if let Some(row) = self.rows.remove(key) {
                        self.gc_floor = self.gc_floor.max(row.time);
                        let version = row.document().version();
                        let gone = self.gone.entry(key.collection.clone()).or_default();
                        gone.deleted.join(version);
                        let days = self.days.entry(key.collection.clone()).or_default();
                        days.forget(row.deletion(key));
                        if version.get(self.actor) > 0 {
                            let buried = Evicted {
                                version: version.clone(),
                                subscriptions: BTreeSet::new(),
                                is_buried: true,
                                is_doubtful: false,
                            };
                            self.evicted.insert(DocumentKey::clone(key), buried);
                        }
                    }
                }
                Write::Evict(evicted) => {
                    self.rows.remove(key);
                    self.quarantined.remove(&**key);
                    let gone = self.gone.entry(key.collection.clone()).or_default();
                    let is_remembered =
                        !evicted.subscriptions.is_empty() || evicted.version.get(self.actor) > 0;
                    if evicted.is_buried {
                        gone.deleted.join(&evicted.version);
                        self.raise_floor();
                    } else if evicted.subscriptions.is_empty() {
                        gone.evicted.join(&evicted.version);
                    }
                    if is_remembered {
                        let key = DocumentKey::clone(key);
                        self.evicted.insert(key, evicted.clone());
                    }
                }
            }
        }
        for update in &commit.cursors {
            self.cursors
                .insert((update.peer, update.subscription), update.cursor);
        }
        self.write_synced(&commit.synced);
        if let Some((collection, deleted, days)) = &commit.learned {
            self.write_learned(collection, deleted, days);
        }
        self.write_doubted(&commit.doubted);
    }

    pub(super) fn write_doubted(&mut self, keys: &[DocumentKey]) {
        for key in keys {
            if let Some(evicted) = self.evicted.get_mut(key) {
                evicted.is_doubtful = true;
            }
        }
        if !keys.is_empty() {
            self.raise_floor();
        }
    }

    pub(super) fn write_learned(
        &mut self,
        collection: &CollectionName,
        deleted: &VersionVector,
        days: &[DeletedDay],
    ) {
        let gone = self.gone.entry(collection.clone()).or_default();
        gone.deleted.join(deleted);
        let kept = self.kept_days(collection);
        let heard = self.days.entry(collection.clone()).or_default();
        heard.learn(&kept, days);
        self.raise_floor();
    }

    /// The deletions in a collection of which the tombstones are here.
    pub(super) fn kept_days(&self, collection: &CollectionName) -> DaySums {
        let mut sums = DaySums::new();
        let rows = self.rows.iter();
        for (key, row) in rows.filter(|(key, _)| key.collection == *collection) {
            if !row.document().is_present() {
                row.deletion(key).add_to(&mut sums);
            }
        }
        sums
    }

    /// To now, because of what no feed told.
    pub(super) fn raise_floor(&mut self) {
        self.gc_floor = self.gc_floor.max(self.clock.last());
        self.learned_floor = self.gc_floor;
    }

    pub(super) fn write_synced(&mut self, synced: &[Synced]) {
        for synced in synced {
            let key = (synced.peer, synced.collection.clone());
            self.synced.insert(key, synced.time);
        }
    }

    pub(super) fn write_document(
        &mut self,
        key: &Arc<DocumentKey>,
        group: GroupId,
        content: &Arc<Content>,
    ) {
        let row = self.rows.entry(Arc::clone(key)).or_insert_with(|| Row {
            content: Arc::clone(content),
            commit: 0,
            time: Timestamp::ZERO,
            groups: Vec::new(),
        });
        row.content = Arc::clone(content);
        row.commit = group.0;
        row.time = self.clock.last();
        // The number of a commit rises, and a commit writes a document once.
        row.groups.reserve_exact(1);
        row.groups.push(group);
        self.by_seq.entry(group.0).or_default().insert(key);
        self.groups.entry(group).or_default().insert(key);
        if let Some(evicted) = self.evicted.remove(&**key)
            && !evicted.subscriptions.is_empty()
            && !content.document().version().covers_all(&evicted.version)
        {
            // Another version of it came back, and of that one nothing is kept any more.
            let gone = self.gone.entry(key.collection.clone()).or_default();
            gone.evicted.join(&evicted.version);
        }
        self.quarantined.remove(&**key);
    }

    /// All documents that must travel with `key`, but those that are held.
    pub(super) fn closure(
        &self,
        key: &DocumentKey,
        held_to: u64,
        is_held: &dyn Fn(&DocumentKey, &Row) -> bool,
    ) -> BTreeSet<Arc<DocumentKey>> {
        let (first, _) = self.rows.get_key_value(key).expect("the caller found it");
        let mut found = BTreeSet::from([Arc::clone(first)]);
        let mut open = vec![Arc::clone(first)];
        // All documents of a group name it, so each would look at all others again.
        let mut seen = BTreeSet::new();
        while let Some(key) = open.pop() {
            let groups = &self.rows[&key].groups;
            let groups = &groups[groups.partition_point(|(commit, _)| *commit <= held_to)..];
            for group in groups.iter().filter(|group| seen.insert(**group)) {
                // What was evicted since, or does not travel, does not hold up the others.
                let members = self.groups[group].iter();
                let members = members.filter_map(|member| self.rows.get_key_value(member));
                let members = members.filter(|(member, _)| !self.quarantined.contains(&***member));
                // One that is held says nothing of the others: it may have come another way.
                let members = members.filter(|(member, row)| !is_held(member, row));
                for (member, _) in members {
                    if found.insert(Arc::clone(member)) {
                        open.push(Arc::clone(member));
                    }
                }
            }
        }
        found
    }

    pub(super) fn group_of(&self, members: &BTreeSet<Arc<DocumentKey>>) -> Vec<Changed> {
        let changed = members.iter().map(|key| {
            let row = &self.rows[key];
            Changed {
                key: DocumentKey::clone(key),
                commit: row.commit,
                document: row.bytes().to_vec(),
            }
        });
        changed.collect()
    }
}

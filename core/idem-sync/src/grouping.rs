//! How stores in memory give out what goes together.

use std::{borrow::Borrow, collections::BTreeSet};

use idem_model::{CollectionName, DocumentKey};

use crate::replica::{ChangeBatch, Changed};

/// Whether a document of a commit is held by whoever lacks `keys` of all up to `held_to`.
pub(crate) fn held_beside(
    keys: &[DocumentKey],
    held_to: u64,
) -> impl Fn(&DocumentKey, u64) -> bool + use<'_> {
    let wanted: BTreeSet<&DocumentKey> = keys.iter().collect();
    let collections: BTreeSet<&CollectionName> = keys.iter().map(|key| &key.collection).collect();
    move |key, commit| {
        commit <= held_to && collections.contains(&key.collection) && !wanted.contains(key)
    }
}

/// The groups of the changes in `feed`, which is behind the commit `after` and ends at `up_to`. `members` gives what
/// travels with a document, none if that does not travel itself.
pub(crate) fn read_feed<'a, K: Ord + Clone + 'a>(
    feed: impl Iterator<Item = (u64, &'a K)>,
    (after, up_to): (u64, u64),
    bytes_max: usize,
    members: impl Fn(&K) -> BTreeSet<K>,
    group_of: impl Fn(&BTreeSet<K>) -> Vec<Changed>,
) -> ChangeBatch {
    let mut batch = ChangeBatch {
        up_to: up_to.max(after),
        ..ChangeBatch::default()
    };
    let mut given = BTreeSet::new();
    let mut bytes = 0;
    let mut last = after;
    for (commit, key) in feed {
        if bytes >= bytes_max && commit > last {
            batch.up_to = last;
            batch.more = true;
            break;
        }
        last = commit;
        if given.contains(key) {
            continue;
        }
        let members = members(key);
        if members.is_empty() {
            continue;
        }
        let group = group_of(&members);
        bytes += bytes_of(&group);
        batch.groups.push(group);
        given.extend(members);
    }
    batch
}

/// The groups of documents, each document once, and how many of `keys` they are for.
pub(crate) fn read_documents<K: Ord + Clone + Borrow<DocumentKey>>(
    keys: &[DocumentKey],
    bytes_max: usize,
    members: impl Fn(&DocumentKey) -> BTreeSet<K>,
    group_of: impl Fn(&BTreeSet<K>) -> Vec<Changed>,
) -> (Vec<Vec<Changed>>, usize) {
    let mut groups = Vec::new();
    let mut given: BTreeSet<K> = BTreeSet::new();
    let mut bytes = 0;
    for (consumed, key) in keys.iter().enumerate() {
        if bytes >= bytes_max && !groups.is_empty() {
            return (groups, consumed);
        }
        if given.contains(key) {
            continue;
        }
        let mut members = members(key);
        members.retain(|member| given.insert(member.clone()));
        if members.is_empty() {
            continue;
        }
        let group = group_of(&members);
        bytes += bytes_of(&group);
        groups.push(group);
    }
    (groups, keys.len())
}

fn bytes_of(group: &[Changed]) -> usize {
    group.iter().map(|it| it.document.len()).sum()
}

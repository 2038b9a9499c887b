//! Who shares a transaction with whom (docs/format/disk.md, "Groups").
//!
//! A receiver of documents must never see half of a transaction, though documents are sent in their
//! current state and in the order of their last change. So the documents of one commit form a group,
//! named by commit and a number within it. When a document changes again it leaves its group for one
//! of the later commit; the later group then *links* to the earlier one, for whoever receives the
//! document receives what the earlier commit wrote to it as well, and so needs the others. Following
//! links and members gives what must travel together ([`crate::feed`]).
//!
//! Invariant: from the group that a document is in now, links lead to every kept group that it ever
//! was in. A group all of whose members are in a later one is superfluous: it is deleted, and the later
//! one takes over its links. Links of others to it may stay behind, for the documents that they serve
//! find the later one first. Beyond [`GROUPS_MAX`] the oldest groups are forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use idem_kv::{Batch, Snapshot};
use idem_model::{
    DecodeError,
    codec::{Reader, put_bytes, put_varint},
    limits,
};

use crate::{
    error::StoreError,
    tables::{self, BY_SEQ, GROUPS, GroupPart},
};

/// Groups that are kept. Of some 200 bytes each they take 13 MB at most. A reader that lacks more
/// transactions than that may see an old one by half while it catches up, if its documents have
/// changed since one by one; at the end of the feed all is whole.
pub(crate) const GROUPS_MAX: u64 = 65_536;

/// Oldest groups that one commit forgets when there are too many: more than it adds.
const FORGOTTEN_PER_COMMIT: usize = 4;

/// Earlier groups that are looked at for being superfluous, per group that is made.
const CANDIDATES_MAX: usize = 16;

/// A key of the documents table.
const MEMBER_BYTES_MAX: usize = 4 + limits::DOC_ID_BYTES_MAX;

/// Names a group: the commit, and a number within it from 1.
pub(crate) type GroupId = (u64, u32);

/// What is kept of a group, beside its members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupHead {
    /// How many documents the commit put into it.
    pub(crate) count: u64,
    /// Earlier groups that its members were in.
    pub(crate) links: BTreeSet<GroupId>,
    /// The collections of its members: until the first one leaves, they are found by the order of
    /// arrival; after that they are listed.
    pub(crate) collections: BTreeSet<u32>,
    pub(crate) is_listed: bool,
}

/// A document that a commit puts into a group, or takes out of one for good.
#[derive(Debug)]
pub(crate) struct Move<'a> {
    /// Its key in the documents table.
    pub(crate) key: &'a [u8],
    /// The group it was in.
    pub(crate) from: Option<GroupId>,
    /// The number of its group in the commit; `None` if the document is evicted.
    pub(crate) to: Option<u32>,
}

/// The groups that one commit changes.
pub(crate) struct Grouping<'a> {
    snapshot: &'a dyn Snapshot,
    commit: u64,
    /// How many groups are kept.
    pub(crate) groups: u64,
    heads: BTreeMap<GroupId, Option<GroupHead>>,
    lists: BTreeMap<GroupId, Vec<Vec<u8>>>,
}

impl<'a> Grouping<'a> {
    pub(crate) fn new(snapshot: &'a dyn Snapshot, commit: u64, groups: u64) -> Self {
        Self {
            snapshot,
            commit,
            groups,
            heads: BTreeMap::new(),
            lists: BTreeMap::new(),
        }
    }

    /// Moves documents into the groups of the commit. Returns the numbers of those that are kept; a
    /// document alone and without a past needs none.
    pub(crate) fn join(&mut self, moves: &[Move<'_>]) -> Result<BTreeSet<u32>, StoreError> {
        let mut by_number: BTreeMap<Option<u32>, Vec<&Move<'_>>> = BTreeMap::new();
        for step in moves {
            by_number.entry(step.to).or_default().push(step);
        }
        let mut kept = BTreeSet::new();
        for (number, moves) in by_number {
            let mut left: BTreeMap<GroupId, u64> = BTreeMap::new();
            for id in moves.iter().filter_map(|step| step.from) {
                *left.entry(id).or_default() += 1;
            }
            let mut whole = BTreeSet::new();
            for (&id, &leaving) in &left {
                // A group that comes along whole is superfluous afterwards, and its members need not
                // even be read: those who update much at once do it again and again.
                match number.is_some() && self.is_all_of(id, leaving)? {
                    true => drop(whole.insert(id)),
                    false => self.list(id)?,
                }
            }
            let Some(number) = number else {
                continue;
            };
            let mut members: Vec<&[u8]> = moves.iter().map(|step| step.key).collect();
            members.sort_unstable();
            let links = self.replace(left.into_keys(), &whole, &members)?;
            if members.len() > 1 || !links.is_empty() {
                let collections = members
                    .iter()
                    .filter_map(|key| tables::split_document(key).ok())
                    .map(|(collection, _)| collection);
                let mut collections: Vec<u32> = collections.collect();
                collections.dedup();
                let head = GroupHead {
                    count: members.len() as u64,
                    links,
                    collections: collections.into_iter().collect(),
                    is_listed: false,
                };
                self.heads.insert((self.commit, number), Some(head));
                self.groups += 1;
                kept.insert(number);
            }
        }
        self.forget_oldest()?;
        Ok(kept)
    }

    /// Whether so many documents that leave a group are all that it ever had.
    fn is_all_of(&mut self, id: GroupId, leaving: u64) -> Result<bool, StoreError> {
        let head = self.head(id)?;
        // While it is not listed nobody has left it.
        Ok(head.is_some_and(|head| !head.is_listed && head.count == leaving))
    }

    /// Lists the members of a group before the first one leaves it.
    fn list(&mut self, id: GroupId) -> Result<(), StoreError> {
        let Some(head) = self.head(id)? else {
            return Ok(());
        };
        if !head.is_listed {
            head.is_listed = true;
            let collections = head.collections.clone();
            let members = stored_members(self.snapshot, id, &collections)?;
            self.lists.insert(id, members);
        }
        Ok(())
    }

    /// Turns the groups that were left into links of the one that `members` form, which rise, and
    /// deletes those that it makes superfluous, also behind the first links. Of `whole` it is known.
    fn replace(
        &mut self,
        left: impl Iterator<Item = GroupId>,
        whole: &BTreeSet<GroupId>,
        members: &[&[u8]],
    ) -> Result<BTreeSet<GroupId>, StoreError> {
        let mut links = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo: Vec<(GroupId, bool)> = left.map(|id| (id, true)).collect();
        while let Some((id, is_link)) = todo.pop() {
            // None if it was found superfluous or forgotten before.
            let Some(head) = self.head(id)? else {
                continue;
            };
            let (count, behind) = (head.count, head.links.clone());
            let may_be_within = count <= members.len() as u64;
            if whole.contains(&id) || (may_be_within && self.is_within(id, members)?) {
                self.heads.insert(id, None);
                self.lists.remove(&id);
                self.groups -= 1;
                links.remove(&id);
                todo.extend(behind.into_iter().map(|id| (id, true)));
                continue;
            }
            if is_link {
                links.insert(id);
            }
            if seen.len() < CANDIDATES_MAX && seen.insert(id) && is_link {
                todo.extend(behind.into_iter().map(|id| (id, false)));
            }
        }
        Ok(links)
    }

    fn is_within(&mut self, id: GroupId, members: &[&[u8]]) -> Result<bool, StoreError> {
        let is_member = |key: &Vec<u8>| members.binary_search(&key.as_slice()).is_ok();
        let within = |list: &[Vec<u8>]| list.iter().all(is_member);
        if let Some(list) = self.lists.get(&id) {
            return Ok(within(list));
        }
        let head = self.head(id)?.cloned().unwrap_or_default();
        Ok(within(&members_of(self.snapshot, id, &head)?))
    }

    fn forget_oldest(&mut self) -> Result<(), StoreError> {
        if self.groups <= GROUPS_MAX {
            return Ok(());
        }
        let mut oldest = Vec::new();
        self.snapshot
            .scan(GROUPS, &[], None, false, &mut |key, _| {
                if let Ok(Some(id)) = tables::split_group_head(key) {
                    oldest.push(id);
                }
                if oldest.len() < FORGOTTEN_PER_COMMIT {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        for id in oldest {
            if self.groups > GROUPS_MAX && self.head(id)?.is_some() {
                self.heads.insert(id, None);
                self.lists.remove(&id);
                self.groups -= 1;
            }
        }
        Ok(())
    }

    fn head(&mut self, id: GroupId) -> Result<Option<&mut GroupHead>, StoreError> {
        if !self.heads.contains_key(&id)
            && let Some(head) = stored_head(self.snapshot, id)?
        {
            self.heads.insert(id, Some(head));
        }
        Ok(self.heads.get_mut(&id).and_then(Option::as_mut))
    }

    pub(crate) fn write(self, batch: &mut Batch) {
        for (id, head) in self.heads {
            let key = |part| tables::group(id.0, id.1, part);
            match head {
                // Looked at, but the same as it was.
                Some(_) if id.0 != self.commit && !self.lists.contains_key(&id) => {}
                Some(head) => batch.put(GROUPS, &key(GroupPart::Head), &head.encode()),
                None => {
                    batch.delete(GROUPS, &key(GroupPart::Head));
                    batch.delete(GROUPS, &key(GroupPart::Members));
                }
            }
        }
        for (id, members) in self.lists {
            let key = tables::group(id.0, id.1, GroupPart::Members);
            batch.put(GROUPS, &key, &encode_members(&members));
        }
    }
}

pub(crate) fn stored_head(
    snapshot: &dyn Snapshot,
    id: GroupId,
) -> Result<Option<GroupHead>, StoreError> {
    snapshot
        .get(GROUPS, &tables::group(id.0, id.1, GroupPart::Head))?
        .map(|bytes| GroupHead::decode(&bytes))
        .transpose()
        .map_err(|error| StoreError::corrupt("group", &error))
}

/// The documents-table keys of all that the commit put into the group.
pub(crate) fn members_of(
    snapshot: &dyn Snapshot,
    id: GroupId,
    head: &GroupHead,
) -> Result<Vec<Vec<u8>>, StoreError> {
    if !head.is_listed {
        return stored_members(snapshot, id, &head.collections);
    }
    let bytes = listed_members(snapshot, id)?;
    decode_members(&bytes).map_err(|error| StoreError::corrupt("group members", &error))
}

/// Whether `test` holds for a member. Reads no further than to the first such one, for a group may
/// have thousands.
pub(crate) fn any_member(
    snapshot: &dyn Snapshot,
    id: GroupId,
    head: &GroupHead,
    test: &dyn Fn(&[u8]) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    if !head.is_listed {
        for member in stored_members(snapshot, id, &head.collections)? {
            if test(&member)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    let bytes = listed_members(snapshot, id)?;
    let corrupt = |error| StoreError::corrupt("group members", &error);
    let mut reader = Reader::new(&bytes);
    let limit = limits::TRANSACTION_DOCUMENTS_MAX;
    for _ in 0..reader.count("members", limit, 1).map_err(corrupt)? {
        let member = reader.bytes("member", MEMBER_BYTES_MAX).map_err(corrupt)?;
        if test(member)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn listed_members(snapshot: &dyn Snapshot, id: GroupId) -> Result<Vec<u8>, StoreError> {
    let key = tables::group(id.0, id.1, GroupPart::Members);
    snapshot
        .get(GROUPS, &key)?
        .ok_or_else(|| StoreError::Corrupt {
            what: format!("the members of group {}.{} are missing", id.0, id.1),
        })
}

/// Members of a group that nobody has left, by the order of arrival.
fn stored_members(
    snapshot: &dyn Snapshot,
    id: GroupId,
    collections: &BTreeSet<u32>,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut members = Vec::new();
    for &collection in collections {
        let from = tables::by_seq(collection, id.0, &[]);
        let to = tables::by_seq(collection, id.0 + 1, &[]);
        let mut failure = None;
        snapshot.scan(BY_SEQ, &from, Some(&to), false, &mut |key, value| {
            let number = group_number(value);
            match (number, tables::split_by_seq(key)) {
                (Ok(number), Ok((_, document))) => {
                    if number == Some(id.1) {
                        members.push(tables::document(collection, document));
                    }
                    ControlFlow::Continue(())
                }
                (Err(error), _) | (_, Err(error)) => {
                    failure = Some(StoreError::corrupt("order of arrival", &error));
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), Err)?;
    }
    Ok(members)
}

/// The value of a row in the order of arrival: the group's number, nothing for none.
pub(crate) fn encode_group_number(number: Option<u32>) -> Vec<u8> {
    let mut value = Vec::new();
    if let Some(number) = number {
        put_varint(&mut value, number.into());
    }
    value
}

pub(crate) fn group_number(value: &[u8]) -> Result<Option<u32>, DecodeError> {
    if value.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(value);
    let number = small(reader.varint()?)?;
    reader.finish()?;
    Ok(Some(number))
}

impl GroupHead {
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.is_listed)];
        put_varint(&mut out, self.count);
        put_varint(&mut out, self.collections.len() as u64);
        for &collection in &self.collections {
            put_varint(&mut out, collection.into());
        }
        put_varint(&mut out, self.links.len() as u64);
        for &(commit, number) in &self.links {
            put_varint(&mut out, commit);
            put_varint(&mut out, number.into());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let is_listed = reader.byte()? == 1;
        let count = reader.varint()?;
        let mut head = Self {
            count,
            is_listed,
            ..Self::default()
        };
        for _ in 0..reader.count("collections", limits::TRANSACTION_DOCUMENTS_MAX, 1)? {
            head.collections.insert(small(reader.varint()?)?);
        }
        for _ in 0..reader.count("links", limits::TRANSACTION_DOCUMENTS_MAX, 2)? {
            let commit = reader.varint()?;
            head.links.insert((commit, small(reader.varint()?)?));
        }
        reader.finish()?;
        Ok(head)
    }
}

fn encode_members(members: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, members.len() as u64);
    for member in members {
        put_bytes(&mut out, member);
    }
    out
}

fn decode_members(bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count("members", limits::TRANSACTION_DOCUMENTS_MAX, 1)?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        let member = reader.bytes("member", MEMBER_BYTES_MAX)?;
        members.push(member.to_vec());
    }
    reader.finish()?;
    Ok(members)
}

fn small(number: u64) -> Result<u32, DecodeError> {
    u32::try_from(number).map_err(|_| DecodeError::Invalid {
        what: "number in a group",
        at: 0,
    })
}

//! What becomes of a blob that is not on disk as it was put there.

use idem_model::{BlobKey, BlobPart, GroupSet, blob::PART_HASH_BYTES};

use crate::{
    error::BlobError,
    journal::Journal,
    storage::BlobFile,
    store::{BlobStore, Purpose, Shared, end, file_name, open::TEMPORARY, read_piece},
    tree::{self, Hashes, Trunk},
};

impl BlobStore {
    /// A piece of a whole blob could not be read as it should be. If its content is good, its tree is made
    /// again and the piece is given. If not, what is good of it is kept as the beginning of a fetch.
    pub(crate) fn repair(
        &self,
        key: BlobKey,
        name: &str,
        node: BlobPart,
    ) -> Result<Vec<u8>, BlobError> {
        let damaged = |offset| BlobError::Damaged {
            file: name.to_owned(),
            offset,
        };
        let content = self.shared.open_file(name)?;
        if !tree::has_tree(key) {
            // A read that went wrong once may go well the second time.
            if let Some(piece) = read_piece(key, node, &*content, None, name).unwrap_or(None) {
                return Ok(piece);
            }
            self.shared.rename(name, &file_name(key.id, end::DAMAGED))?;
            self.shared.lock().entries.remove(&key.id);
            return Err(damaged(0));
        }
        let good = self.shared.examine(key, &*content, name)?;
        let Some(good) = good else {
            let file = self.shared.open_file(&file_name(key.id, end::TREE))?;
            let piece = read_piece(key, node, &*content, Some(&*file), name)?;
            return piece.ok_or_else(|| damaged(key.offset_of(node)));
        };
        self.shared.write_journal(key, &good)?;
        // The journal is of no account until the content has the name of a part.
        let mut state = self.shared.lock();
        self.shared.rename(name, &file_name(key.id, end::PART))?;
        if let Some(entry) = state.entries.get_mut(&key.id) {
            entry.is_whole = false;
        }
        let first = good.next_missing(0).unwrap_or(0);
        Err(damaged(first * idem_model::blob::GROUP_BYTES))
    }
}

impl Shared {
    /// Writes a journal that has `groups` in it, durably, in place of one that is there.
    pub(crate) fn write_journal(
        &self,
        key: BlobKey,
        groups: &GroupSet,
    ) -> Result<Journal, BlobError> {
        let name = file_name(key.id, end::JOURNAL);
        let temporary = format!("{TEMPORARY}{}.{}", hex_of(&name), end::JOURNAL);
        let mut journal = Journal::begin(self.create(&temporary)?, &temporary, key.len)?;
        journal.append(groups.runs())?;
        let purpose = self.lock().entries.get(&key.id).map(|it| it.purpose);
        if purpose == Some(Purpose::Own) {
            journal.adopt()?;
        }
        journal.sync()?;
        self.rename(&temporary, &name)?;
        Ok(journal)
    }

    /// Reads all of a blob. `None` if its content is good, in which case its tree was written anew; otherwise
    /// the groups that are good.
    fn examine(
        &self,
        key: BlobKey,
        content: &dyn BlobFile,
        name: &str,
    ) -> Result<Option<GroupSet>, BlobError> {
        let tree_name = file_name(key.id, end::TREE);
        let temporary = format!("{TEMPORARY}{}.{}", hex_of(name), end::TREE);
        let content_bytes = content.len().map_err(BlobError::io("reading", name))?;
        let told = self.storage.open(&tree_name).ok();
        let fresh = self.create(&temporary)?;
        let failed = || BlobError::io("writing", &temporary);
        let mut good = GroupSet::new(key.groups());
        let [mut found, mut claimed] = [Trunk::default(), Trunk::default()];
        for part in tree::parts(key) {
            let len = usize::try_from(key.bytes_of(part)).expect("a batch");
            let mut bytes = vec![0; len];
            // What cannot be read is as good as damaged.
            let there = content_bytes.saturating_sub(key.offset_of(part));
            let there = usize::try_from(there).unwrap_or(len).min(len);
            let _ = content.read_at(key.offset_of(part), &mut bytes[..there]);
            let (hash, hashes) = Hashes::of(key, part, &bytes);
            let written = fresh.write_at(hashes.offset(), hashes.bytes());
            written.map_err(failed())?;
            for (node, hash) in found.push(key, part, hash) {
                let written = fresh.write_at(tree::place(node), &hash);
                written.map_err(failed())?;
            }
            let mut bytes = vec![0; Hashes::bytes_below(key, part)];
            let place = 2 * part.first() * PART_HASH_BYTES as u64;
            if let Some(told) = &told {
                let _ = told.read_at(place, &mut bytes);
            }
            let (hash, told) = Hashes::of_groups(key, part, bytes);
            claimed.push(key, part, hash);
            for group in part.first()..part.first() + key.groups_of(part) {
                let node = key.part_around(group, 0);
                if told.hash(node) == hashes.hash(node) {
                    good.insert(group..group + 1);
                }
            }
        }
        let (above, id) = found.finish(key);
        if id == key.id {
            for (node, hash) in above {
                let written = fresh.write_at(tree::place(node), &hash);
                written.map_err(failed())?;
            }
            fresh.sync().map_err(failed())?;
            self.rename(&temporary, &tree_name)?;
            return Ok(None);
        }
        let _ = self.storage.delete(&temporary);
        if claimed.finish(key).1 != key.id {
            // With neither the content nor its hashes to be trusted, nothing is.
            return Ok(Some(GroupSet::new(key.groups())));
        }
        Ok(Some(good))
    }
}

/// The hexadecimal id in the name of a file.
fn hex_of(name: &str) -> &str {
    name.get(3..67).unwrap_or("repair")
}

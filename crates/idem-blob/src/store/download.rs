//! A blob that comes piece by piece.

use std::{ops::Range, sync::Arc};

use idem_model::{BlobId, BlobKey, BlobPart, GroupSet, limits};

use crate::{
    error::BlobError,
    journal::{Found, Journal},
    storage::BlobFile,
    store::{BlobStore, Entry, Pin, Purpose, Shared, end, file_name, read_piece},
    tree,
};

/// Bytes after which what arrived is made durable: what a crash costs at most of a fetch.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;

/// A blob of which not everything is here, and that is being fetched. Nobody else can fetch it meanwhile.
///
/// Each piece is checked before it is written. What was written is noted after it is durable, so what is
/// noted when a store is opened is there. Dropped before it is finished, it can be gone on with, in this
/// process or a later one.
#[derive(Debug)]
pub struct Download {
    shared: Arc<Shared>,
    key: BlobKey,
    groups: GroupSet,
    body: Body,
    _turn: Turn,
}

/// Makes a fetch the only one of its blob, and keeps the blob from being collected.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    id: BlobId,
    _pin: Pin,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.lock().fetched.remove(&self.id);
    }
}

#[derive(Debug)]
enum Body {
    /// Too small for files before it is whole.
    Memory(Vec<u8>),
    Files(Files),
}

#[derive(Debug)]
struct Files {
    content: Arc<dyn BlobFile>,
    tree: Arc<dyn BlobFile>,
    journal: Journal,
    name: String,
    /// Groups that are written and not durable.
    unsynced: GroupSet,
    unsynced_bytes: u64,
}

/// What [`BlobStore::begin`] found.
#[derive(Debug)]
pub enum Begun {
    /// All of the blob is here.
    Whole,
    /// Something is missing.
    Partial(Box<Download>),
    /// It is being fetched already.
    Busy,
}

impl BlobStore {
    /// Begins to fetch a blob, or goes on where an earlier fetch ended. The room for all of it is reserved
    /// while the fetch lasts.
    ///
    /// # Errors
    /// [`BlobError::Quota`], [`BlobError::Missing`] if a blob of this id and another length is here, or the
    /// storage's error.
    pub fn begin(&self, key: BlobKey, purpose: Purpose, now_ms: u64) -> Result<Begun, BlobError> {
        if self.is_whole(key) {
            if purpose == Purpose::Own {
                self.adopt(key, now_ms)?;
            }
            return Ok(Begun::Whole);
        }
        let mut state = self.shared.lock();
        if state.entries.get(&key.id).is_some_and(|it| it.is_whole) {
            drop(state);
            self.doubt(key.id, now_ms)?;
            state = self.shared.lock();
        }
        let other = state.entries.get(&key.id).filter(|it| it.len != key.len);
        if other.is_some_and(|it| it.purpose == Purpose::Own) && purpose == Purpose::Relay {
            // What a neighbour says does not cost the app what it has.
            return Err(BlobError::Missing { id: key.id });
        }
        if other.is_some() && !state.fetched.contains(&key.id) {
            state.entries.remove(&key.id);
            let files = [end::JOURNAL, end::PART, end::TREE];
            self.shared.discard(key.id, &files);
        }
        // What the app wants once is its own, whoever else asks for it.
        let known = state.entries.get(&key.id).filter(|it| it.len == key.len);
        let is_own = known.is_some_and(|it| it.purpose == Purpose::Own);
        let purpose = if is_own { Purpose::Own } else { purpose };
        if !state.fetched.insert(key.id) {
            return Ok(Begun::Busy);
        }
        drop(state);
        let turn = Turn {
            shared: Arc::clone(&self.shared),
            id: key.id,
            _pin: self.pin(key.id),
        };
        self.make_room(key.len, purpose, key.id)?;
        let (groups, body) = if tree::has_tree(key) {
            let (groups, mut files) = self.begin_files(key)?;
            if purpose == Purpose::Own && !is_own {
                files.journal.adopt()?;
            }
            (groups, Body::Files(files))
        } else {
            let len = usize::try_from(key.len).expect("a small blob");
            (GroupSet::new(key.groups()), Body::Memory(vec![0; len]))
        };
        let mut state = self.shared.lock();
        let entry = Entry {
            len: key.len,
            purpose,
            is_whole: false,
            used_ms: now_ms,
            noted_ms: now_ms,
        };
        state.entries.insert(key.id, entry);
        drop(state);
        Ok(Begun::Partial(Box::new(Download {
            shared: Arc::clone(&self.shared),
            key,
            groups,
            body,
            _turn: turn,
        })))
    }

    /// There is a whole blob of another length than somebody says. Either he is wrong, or the file is.
    fn doubt(&self, id: BlobId, now_ms: u64) -> Result<(), BlobError> {
        let whole = self.shared.lock().entries.get(&id).map(|it| it.len);
        let Some(len) = whole else {
            return Ok(());
        };
        let key = BlobKey { id, len };
        // The last group shows the length.
        match self.piece(key, key.part_around(key.groups() - 1, 0), now_ms) {
            Ok(_) => Err(BlobError::Missing { id }),
            Err(BlobError::Damaged { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn begin_files(&self, key: BlobKey) -> Result<(GroupSet, Files), BlobError> {
        let [part, tree, map] =
            [end::PART, end::TREE, end::JOURNAL].map(|end| file_name(key.id, end));
        let is_known = self.shared.lock().entries.contains_key(&key.id);
        let mut found = None;
        if is_known {
            let journal = self.shared.open_file(&map)?;
            found = Journal::open(journal, &map, key.id)?.filter(|found| found.key == key);
        }
        let (journal, groups, content, hashes) = match found {
            Some(Found {
                journal, groups, ..
            }) => {
                let content = self.shared.open_file(&part)?;
                (journal, groups, content, self.shared.open_file(&tree)?)
            }
            None => {
                // The journal first: an old one must not speak of new files.
                let file = self.shared.create(&map)?;
                let content = self.shared.create(&part)?;
                let hashes = self.shared.create(&tree)?;
                let journal = Journal::begin(file, &map, key.len)?;
                (journal, GroupSet::new(key.groups()), content, hashes)
            }
        };
        let files = Files {
            content,
            tree: hashes,
            journal,
            name: part,
            unsynced: GroupSet::new(key.groups()),
            unsynced_bytes: 0,
        };
        Ok((groups, files))
    }
}

impl Download {
    /// Which blob.
    pub fn key(&self) -> BlobKey {
        self.key
    }

    /// What is here of it.
    pub fn groups(&self) -> &GroupSet {
        &self.groups
    }

    /// Bytes that are here of it.
    pub fn bytes(&self) -> u64 {
        self.key.bytes_in(&self.groups)
    }

    /// Takes a piece in: the hashes of the proof of `node`, then its content. What is here already may come
    /// again.
    ///
    /// # Errors
    /// [`BlobError::Foreign`] if it is no part of the blob; nothing is changed then. [`BlobError::Full`] or
    /// [`BlobError::Io`].
    pub fn write(&mut self, node: BlobPart, piece: &[u8]) -> Result<(), BlobError> {
        let key = self.key;
        let Some(checked) = tree::check(key, node, piece) else {
            return Err(BlobError::Foreign { id: key.id });
        };
        let range = node.first()..node.first() + key.groups_of(node);
        match &mut self.body {
            Body::Memory(bytes) => {
                let start = usize::try_from(key.offset_of(node)).expect("a small blob");
                bytes[start..start + checked.content.len()].copy_from_slice(checked.content);
                self.groups.insert(range);
                return Ok(());
            }
            Body::Files(files) => {
                let failed = || BlobError::io("writing", &files.name);
                if !checked.content.is_empty() {
                    let content = files.content.write_at(key.offset_of(node), checked.content);
                    content.map_err(failed())?;
                }
                for hashes in &checked.below {
                    let below = files.tree.write_at(hashes.offset(), hashes.bytes());
                    below.map_err(failed())?;
                }
                for (node, hash) in &checked.above {
                    let above = files.tree.write_at(tree::place(*node), hash);
                    above.map_err(failed())?;
                }
                files.unsynced.insert(range.clone());
                files.unsynced_bytes += checked.content.len() as u64;
            }
        }
        self.groups.insert(range);
        if let Body::Files(files) = &self.body
            && files.unsynced_bytes >= CHECKPOINT_BYTES
        {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Makes what arrived durable, so that no crash takes it back.
    ///
    /// # Errors
    /// [`BlobError::Full`] or [`BlobError::Io`].
    pub fn checkpoint(&mut self) -> Result<(), BlobError> {
        let Body::Files(files) = &mut self.body else {
            return Ok(());
        };
        if files.unsynced.count() == 0 {
            return Ok(());
        }
        let failed = || BlobError::io("syncing", &files.name);
        files.content.sync().map_err(failed())?;
        files.tree.sync().map_err(failed())?;
        files.journal.append(files.unsynced.runs())?;
        files.journal.sync()?;
        files.unsynced = GroupSet::new(self.key.groups());
        files.unsynced_bytes = 0;
        Ok(())
    }

    /// The piece that carries `node`, as [`BlobStore::piece`], if all of it is here and not too small to be
    /// given away in parts.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`] or the storage's error.
    pub fn piece(&mut self, node: BlobPart) -> Result<Vec<u8>, BlobError> {
        let range = node.first()..node.first() + self.key.groups_of(node);
        let Body::Files(files) = &self.body else {
            return Err(BlobError::Missing { id: self.key.id });
        };
        if !self.groups.contains_all(range.clone()) {
            return Err(BlobError::Missing { id: self.key.id });
        }
        let tree = Some(&*files.tree);
        match read_piece(self.key, node, &*files.content, tree, &files.name) {
            Ok(Some(piece)) => return Ok(piece),
            // A sector of an encrypted file that is not whole is no part of the blob either.
            Err(BlobError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::InvalidData => {}
            Ok(None) => {}
            Err(error) => return Err(error),
        }
        let damaged = BlobError::Damaged {
            file: files.name.clone(),
            offset: self.key.offset_of(node),
        };
        self.forget(range)?;
        Err(damaged)
    }

    /// Takes back that groups are here, in the journal as well.
    fn forget(&mut self, range: Range<u64>) -> Result<(), BlobError> {
        let Body::Files(files) = &mut self.body else {
            return Ok(());
        };
        for group in range {
            self.groups.remove(group);
            files.unsynced.remove(group);
        }
        let mut durable = self.groups.clone();
        for run in files.unsynced.runs() {
            run.for_each(|group| durable.remove(group));
        }
        files.journal = self.shared.write_journal(self.key, &durable)?;
        Ok(())
    }

    /// Makes a blob of which everything is here whole, durably.
    ///
    /// # Errors
    /// [`BlobError::Missing`] if something is missing, [`BlobError::Full`] or [`BlobError::Io`].
    pub fn finish(mut self, now_ms: u64) -> Result<(), BlobError> {
        let id = self.key.id;
        if !self.groups.is_full() {
            return Err(BlobError::Missing { id });
        }
        let store = BlobStore {
            shared: Arc::clone(&self.shared),
        };
        if store.is_whole(self.key) {
            // The app brought it meanwhile. The tree is that of the whole blob.
            self.shared.discard(id, &[end::PART, end::JOURNAL]);
            return Ok(());
        }
        let purpose = self.shared.lock().entries.get(&id).map(|it| it.purpose);
        let purpose = purpose.unwrap_or(Purpose::Relay);
        let name = file_name(id, purpose.end());
        match &mut self.body {
            Body::Memory(bytes) => {
                assert!(self.key.len <= limits::BLOB_WITHOUT_TREE_BYTES_MAX);
                // No journal speaks of it, so a crash before it has its name leaves nothing.
                let part = file_name(id, end::PART);
                let file = self.shared.create(&part)?;
                if !bytes.is_empty() {
                    let written = file.write_at(0, bytes);
                    written.map_err(BlobError::io("writing", &part))?;
                }
                file.sync().map_err(BlobError::io("syncing", &part))?;
                self.shared.rename(&part, &name)?;
            }
            Body::Files(files) => {
                let failed = || BlobError::io("syncing", &files.name);
                files.content.sync().map_err(failed())?;
                files.tree.sync().map_err(failed())?;
                self.shared.rename(&files.name, &name)?;
                self.shared.discard(id, &[end::JOURNAL]);
            }
        }
        let _ = self.shared.storage.touch(&name, now_ms);
        if let Some(entry) = self.shared.lock().entries.get_mut(&id) {
            entry.is_whole = true;
            entry.used_ms = now_ms;
            entry.noted_ms = now_ms;
        }
        Ok(())
    }

    /// From now on the blob is fetched for the app, too.
    ///
    /// # Errors
    /// [`BlobError::Quota`] or the storage's error.
    pub fn adopt(&mut self) -> Result<(), BlobError> {
        let store = BlobStore {
            shared: Arc::clone(&self.shared),
        };
        store.make_room(self.key.len, Purpose::Own, self.key.id)?;
        if let Body::Files(files) = &mut self.body {
            files.journal.adopt()?;
        }
        if let Some(entry) = self.shared.lock().entries.get_mut(&self.key.id) {
            entry.purpose = Purpose::Own;
        }
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let is_partial = state
            .entries
            .get(&self.key.id)
            .is_some_and(|it| !it.is_whole);
        if is_partial && matches!(self.body, Body::Memory(_)) {
            // Nothing of it is on disk.
            state.entries.remove(&self.key.id);
        }
        drop(state);
        if is_partial {
            // What cannot be noted is fetched again.
            let _ = self.checkpoint();
        }
    }
}

//! Making a blob of bytes that come one after the other.

use std::sync::Arc;

use idem_model::{BlobId, BlobKey, limits};

use crate::{
    error::BlobError,
    storage::BlobFile,
    store::{BlobStore, Entry, Purpose, Shared, end, file_name, open::TEMPORARY},
    tree::{self, BATCH_BYTES, BATCH_GROUPS, BATCH_LEVEL, Hashes, PartHash, Trunk},
};

/// A blob in the making. It takes 1 MiB of memory, whatever its length. Dropped before it is finished, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    name: String,
    /// What is not hashed yet: up to a batch.
    pending: Vec<u8>,
    len: u64,
    files: Option<Files>,
    trunk: Trunk,
}

#[derive(Debug)]
struct Files {
    content: Arc<dyn BlobFile>,
    tree: Arc<dyn BlobFile>,
}

impl BlobStore {
    /// Begins a blob of this peer.
    pub fn writer(&self) -> BlobWriter {
        let mut state = self.shared.lock();
        let number = state.next_temporary;
        state.next_temporary += 1;
        BlobWriter {
            shared: Arc::clone(&self.shared),
            name: format!("{TEMPORARY}{number}"),
            pending: Vec::new(),
            len: 0,
            files: None,
            trunk: Trunk::default(),
        }
    }

    /// Stores `content` as a blob of this peer, durably.
    ///
    /// # Errors
    /// As [`BlobWriter::write`] and [`BlobWriter::finish`].
    pub fn insert(&self, content: &[u8], now_ms: u64) -> Result<BlobKey, BlobError> {
        let mut writer = self.writer();
        writer.write(content)?;
        writer.finish(now_ms)
    }
}

impl BlobWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// [`BlobError::Quota`], [`BlobError::Full`] or [`BlobError::Io`]; the blob cannot be finished then.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        let limit = self.shared.options.bytes_max.min(limits::BLOB_BYTES_MAX);
        let len = self.len.saturating_add(bytes.len() as u64);
        if len > limit {
            return Err(BlobError::Quota { bytes: len, limit });
        }
        self.len = len;
        while !bytes.is_empty() {
            let room = batch_bytes() - self.pending.len();
            // A full batch waits until more follows: if nothing does, it is the root.
            if room == 0 {
                self.write_batch(any_key())?;
                continue;
            }
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    /// Stores the blob under the hash of its content, durably.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn finish(mut self, now_ms: u64) -> Result<BlobKey, BlobError> {
        let id = if self.files.is_some() {
            let key = BlobKey {
                id: BlobId([0; 32]),
                len: self.len,
            };
            self.write_batch(key)?;
            let (above, id) = std::mem::take(&mut self.trunk).finish(key);
            self.write_above(&above)?;
            id
        } else {
            let mut key = any_key();
            key.len = self.len;
            let (id, hashes) = tree::root_of_content(key, &self.pending);
            let content = std::mem::take(&mut self.pending);
            let files = self.files()?;
            write(&*files.content, 0, &content, &self.name)?;
            if tree::has_tree(key) {
                for hashes in &hashes {
                    write(&*files.tree, hashes.offset(), hashes.bytes(), &self.name)?;
                }
            }
            id
        };
        let key = BlobKey { id, len: self.len };
        self.install(key, now_ms)?;
        Ok(key)
    }

    fn install(&mut self, key: BlobKey, now_ms: u64) -> Result<(), BlobError> {
        let store = BlobStore {
            shared: Arc::clone(&self.shared),
        };
        if store.is_whole(key) {
            return store.adopt(key, now_ms);
        }
        store.make_room(key.len, Purpose::Own, key.id)?;
        let [content, tree] = self.names();
        let files = self.files()?;
        let failed = || BlobError::io("syncing", &content);
        files.content.sync().map_err(failed())?;
        let state = &mut *self.shared.lock();
        if tree::has_tree(key) {
            files.tree.sync().map_err(failed())?;
            self.shared.rename(&tree, &file_name(key.id, end::TREE))?;
        }
        let name = file_name(key.id, end::OWN);
        self.shared.rename(&content, &name)?;
        let _ = self.shared.storage.touch(&name, now_ms);
        self.shared.discard(key.id, &[end::PART, end::JOURNAL]);
        let entry = Entry {
            len: key.len,
            purpose: Purpose::Own,
            is_whole: true,
            used_ms: now_ms,
            noted_ms: now_ms,
        };
        state.entries.insert(key.id, entry);
        Ok(())
    }

    fn write_batch(&mut self, key: BlobKey) -> Result<(), BlobError> {
        let content = std::mem::take(&mut self.pending);
        let at = match &self.files {
            Some(files) => files.content.len(),
            None => Ok(0),
        };
        let at = at.map_err(BlobError::io("reading", &self.name))?;
        let first = at / BATCH_BYTES * BATCH_GROUPS;
        let node = key.part(first, BATCH_LEVEL).expect("batches are nodes");
        let (hash, hashes) = Hashes::of(key, node, &content);
        let files = self.files()?;
        write(&*files.content, at, &content, &self.name)?;
        write(&*files.tree, hashes.offset(), hashes.bytes(), &self.name)?;
        let above = self.trunk.push(key, node, hash);
        self.write_above(&above)?;
        self.pending = content;
        self.pending.clear();
        Ok(())
    }

    fn write_above(&mut self, above: &[(idem_model::BlobPart, PartHash)]) -> Result<(), BlobError> {
        let files = self.files()?;
        for (node, hash) in above {
            write(&*files.tree, tree::place(*node), hash, &self.name)?;
        }
        Ok(())
    }

    fn names(&self) -> [String; 2] {
        [
            format!("{}.{}", self.name, end::OWN),
            format!("{}.{}", self.name, end::TREE),
        ]
    }

    fn files(&mut self) -> Result<Files, BlobError> {
        if self.files.is_none() {
            let [content, tree] = self.names();
            self.files = Some(Files {
                content: self.shared.create(&content)?,
                tree: self.shared.create(&tree)?,
            });
        }
        let Files { content, tree } = self.files.as_ref().expect("made above");
        Ok(Files {
            content: Arc::clone(content),
            tree: Arc::clone(tree),
        })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.files.is_some() {
            // What was finished has other names by now.
            for name in self.names() {
                let _ = self.shared.storage.delete(&name);
            }
        }
    }
}

/// Stands for the length while it is not known: the nodes so far are those of any longer blob.
fn any_key() -> BlobKey {
    BlobKey {
        id: BlobId([0; 32]),
        len: limits::BLOB_BYTES_MAX,
    }
}

fn batch_bytes() -> usize {
    usize::try_from(BATCH_BYTES).expect("1 MiB")
}

fn write(file: &dyn BlobFile, at: u64, bytes: &[u8], name: &str) -> Result<(), BlobError> {
    if bytes.is_empty() {
        return Ok(());
    }
    file.write_at(at, bytes)
        .map_err(BlobError::io("writing", name))
}

//! The blobs of one peer.

mod collect;
mod download;
mod open;
mod reader;
mod repair;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use idem_model::{BlobId, BlobKey, BlobPart, blob::PART_HASH_BYTES, limits};

use crate::{
    error::BlobError,
    storage::{BlobFile, BlobStorage},
    tree,
};

pub use collect::Collected;
pub use download::{Begun, Download};
pub use open::Opened;
pub use reader::BlobReader;
pub use writer::BlobWriter;

/// How long what no document refers to is kept after it was made or fetched (an hour).
const GRACE_MS: u64 = 60 * 60 * 1000;

/// What blobs for other peers may take together (256 MiB).
const RELAY_BYTES: u64 = 256 * 1024 * 1024;

/// Ends of file names.
pub(crate) mod end {
    /// A whole blob of this peer.
    pub(crate) const OWN: &str = "blob";
    /// A whole blob that is here for other peers.
    pub(crate) const RELAYED: &str = "relay";
    /// A blob of which not everything is here.
    pub(crate) const PART: &str = "part";
    /// What of it is here.
    pub(crate) const JOURNAL: &str = "map";
    /// The hashes of its nodes.
    pub(crate) const TREE: &str = "tree";
    /// Content that was found damaged and is too small to keep parts of.
    pub(crate) const DAMAGED: &str = "bad";
}

/// What a blob is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The app made or fetched it. It stays while a document refers to it.
    Own,
    /// A neighbour asked for it. It stays while there is room.
    Relay,
}

/// Bounds of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobOptions {
    /// Bytes of all blobs together. Default: no bound but the disk.
    pub bytes_max: u64,
    /// Bytes of the blobs that are here for other peers; those used the longest ago go. Default: 256 MiB.
    pub relay_bytes_max: u64,
    /// How long, in milliseconds, a blob is kept that no document refers to. Default: an hour.
    pub grace_ms: u64,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            bytes_max: u64::MAX,
            relay_bytes_max: RELAY_BYTES,
            grace_ms: GRACE_MS,
        }
    }
}

/// How much is in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Blobs, whole or not.
    pub blobs: u64,
    /// Their bytes, counting those that are still to come.
    pub bytes: u64,
    /// Of those, the bytes of blobs that are here for other peers.
    pub relay_bytes: u64,
}

/// The blobs of one peer. Clones share them; all methods can be called from any thread.
///
/// Time is given to each call in Unix milliseconds.
#[derive(Debug, Clone)]
pub struct BlobStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    storage: Arc<dyn BlobStorage>,
    options: BlobOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<BlobId, Entry>,
    /// How many readers, downloads and handles each blob must not be taken from.
    pins: BTreeMap<BlobId, usize>,
    /// What is being fetched.
    fetched: BTreeSet<BlobId>,
    next_temporary: u64,
}

#[derive(Debug)]
struct Entry {
    len: u64,
    purpose: Purpose,
    is_whole: bool,
    used_ms: u64,
    /// What the storage was last told of that.
    noted_ms: u64,
}

/// How often the storage is told that a blob was used.
const NOTE_MS: u64 = 60 * 60 * 1000;

/// Keeps a blob from being collected as long as it is there.
#[derive(Debug)]
pub struct Pin {
    shared: Arc<Shared>,
    id: BlobId,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let count = state.pins.get_mut(&self.id).expect("counted by this pin");
        *count -= 1;
        if *count == 0 {
            state.pins.remove(&self.id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic could leave half changed is a row of a table, and each is changed in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&self, name: &str) -> Result<Arc<dyn BlobFile>, BlobError> {
        let file = self.storage.create(name);
        file.map_err(BlobError::io("creating", name))
    }

    fn open_file(&self, name: &str) -> Result<Arc<dyn BlobFile>, BlobError> {
        let file = self.storage.open(name);
        file.map_err(BlobError::io("opening", name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), BlobError> {
        let renamed = self.storage.rename(from, to);
        renamed.map_err(BlobError::io("renaming", from))
    }

    /// Deletes what may be there. A file that stays is found when the store is opened.
    fn discard(&self, id: BlobId, ends: &[&str]) {
        for end in ends {
            let _ = self.storage.delete(&file_name(id, end));
        }
    }

    fn content_name(&self, id: BlobId) -> Option<String> {
        let state = self.lock();
        let entry = state.entries.get(&id).filter(|entry| entry.is_whole)?;
        Some(file_name(id, entry.purpose.end()))
    }
}

impl Purpose {
    fn end(self) -> &'static str {
        match self {
            Self::Own => end::OWN,
            Self::Relay => end::RELAYED,
        }
    }
}

impl State {
    fn is_pinned(&self, id: BlobId) -> bool {
        self.pins.contains_key(&id)
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for entry in self.entries.values() {
            usage.blobs += 1;
            usage.bytes += entry.len;
            if entry.purpose == Purpose::Relay {
                usage.relay_bytes += entry.len;
            }
        }
        usage
    }
}

impl BlobStore {
    /// Whether all of a blob is here. Nothing is read.
    pub fn is_whole(&self, key: BlobKey) -> bool {
        let state = self.shared.lock();
        let entry = state.entries.get(&key.id);
        entry.is_some_and(|entry| entry.is_whole && entry.len == key.len)
    }

    /// The ids and lengths of all whole blobs, by id.
    pub fn whole_blobs(&self) -> Vec<BlobKey> {
        let state = self.shared.lock();
        let whole = state.entries.iter().filter(|(_, entry)| entry.is_whole);
        whole
            .map(|(id, entry)| BlobKey {
                id: *id,
                len: entry.len,
            })
            .collect()
    }

    /// How much is here.
    pub fn usage(&self) -> Usage {
        self.shared.lock().usage()
    }

    /// Keeps a blob from being collected until the pin is dropped, also one that comes later.
    pub fn pin(&self, id: BlobId) -> Pin {
        *self.shared.lock().pins.entry(id).or_default() += 1;
        Pin {
            shared: Arc::clone(&self.shared),
            id,
        }
    }

    /// The piece that carries `node` of a whole blob: the hashes of its proof, then its content. It was
    /// checked against the id, so what is damaged on disk is never given away.
    ///
    /// # Errors
    /// [`BlobError::Missing`], [`BlobError::Damaged`] once for damage that was found now: what is good of
    /// the blob is kept as the beginning of a fetch; [`BlobError::Io`].
    pub fn piece(&self, key: BlobKey, node: BlobPart, now_ms: u64) -> Result<Vec<u8>, BlobError> {
        let missing = BlobError::Missing { id: key.id };
        if !self.is_whole(key) {
            return Err(missing);
        }
        let Some(name) = self.shared.content_name(key.id) else {
            return Err(missing);
        };
        self.note_use(key.id, now_ms);
        let read = || -> Result<Option<Vec<u8>>, BlobError> {
            let content = self.shared.open_file(&name)?;
            let tree = match tree::has_tree(key) {
                true => Some(self.shared.open_file(&file_name(key.id, end::TREE))?),
                false => None,
            };
            read_piece(key, node, &*content, tree.as_deref(), &name)
        };
        match read() {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => self.repair(key, &name, node),
            Err(BlobError::Io { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound
                        | std::io::ErrorKind::UnexpectedEof
                        | std::io::ErrorKind::InvalidData
                ) =>
            {
                self.repair(key, &name, node)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a whole blob of another peer into the app's own.
    ///
    /// # Errors
    /// [`BlobError::Missing`] if it is not whole, or the storage's error.
    pub fn adopt(&self, key: BlobKey, now_ms: u64) -> Result<(), BlobError> {
        let mut state = self.shared.lock();
        let entry = state.entries.get_mut(&key.id);
        let Some(entry) = entry.filter(|entry| entry.is_whole && entry.len == key.len) else {
            return Err(BlobError::Missing { id: key.id });
        };
        if entry.purpose == Purpose::Relay {
            let own = file_name(key.id, end::OWN);
            self.shared.rename(&file_name(key.id, end::RELAYED), &own)?;
            entry.purpose = Purpose::Own;
        }
        entry.used_ms = now_ms;
        entry.noted_ms = now_ms;
        // A time that is not noted costs the blob its grace, which the app can see coming.
        let _ = self
            .shared
            .storage
            .touch(&file_name(key.id, end::OWN), now_ms);
        Ok(())
    }

    /// Orders what is here for others by use.
    fn note_use(&self, id: BlobId, now_ms: u64) {
        let mut state = self.shared.lock();
        let Some(entry) = state.entries.get_mut(&id) else {
            return;
        };
        if entry.purpose == Purpose::Own {
            return;
        }
        entry.used_ms = entry.used_ms.max(now_ms);
        if entry.used_ms - entry.noted_ms >= NOTE_MS {
            entry.noted_ms = entry.used_ms;
            let _ = self
                .shared
                .storage
                .touch(&file_name(id, end::RELAYED), now_ms);
        }
    }
}

/// Reads the piece that carries `node` and checks it. `None` if what is there is not part of the blob.
fn read_piece(
    key: BlobKey,
    node: BlobPart,
    content: &dyn BlobFile,
    tree: Option<&dyn BlobFile>,
    name: &str,
) -> Result<Option<Vec<u8>>, BlobError> {
    let failed = || BlobError::io("reading", name);
    let len =
        usize::try_from(key.piece_bytes_of(node)).map_err(|_| BlobError::Missing { id: key.id })?;
    let mut piece = vec![0; len];
    let beside = key.proof_of(node);
    let (proof, bytes) = piece.split_at_mut(beside.len() * PART_HASH_BYTES);
    content
        .read_at(key.offset_of(node), bytes)
        .map_err(failed())?;
    match tree {
        Some(tree) => {
            for (node, hash) in beside.iter().zip(proof.chunks_exact_mut(PART_HASH_BYTES)) {
                tree.read_at(tree::place(*node), hash).map_err(failed())?;
            }
        }
        None if beside.is_empty() => {}
        None => fill_proof(key, &beside, content, proof).map_err(failed())?,
    }
    Ok(tree::check(key, node, &piece).is_some().then_some(piece))
}

/// Makes the proof of a node of a blob without a tree from its content.
fn fill_proof(
    key: BlobKey,
    beside: &[BlobPart],
    content: &dyn BlobFile,
    proof: &mut [u8],
) -> std::io::Result<()> {
    assert!(
        key.len <= limits::BLOB_WITHOUT_TREE_BYTES_MAX,
        "a small blob"
    );
    for (node, into) in beside.iter().zip(proof.chunks_exact_mut(PART_HASH_BYTES)) {
        let len = usize::try_from(key.bytes_of(*node)).expect("a small blob");
        let mut bytes = vec![0; len];
        content.read_at(key.offset_of(*node), &mut bytes)?;
        into.copy_from_slice(&tree::Hashes::of(key, *node, &bytes).0);
    }
    Ok(())
}

/// The file of a blob: `ab/abcd...` in hexadecimal, so that no file system confuses two of them, and no
/// directory has more than a 256th of them.
pub(crate) fn file_name(id: BlobId, end: &str) -> String {
    let mut name = String::with_capacity(80);
    let push = |name: &mut String, byte: u8| {
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(digit), 16).expect("below 16"));
        }
    };
    push(&mut name, id.0[0]);
    name.push('/');
    id.0.iter().for_each(|byte| push(&mut name, *byte));
    name.push('.');
    name.push_str(end);
    name
}

//! Opening: what the files say is here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use idem_model::{BlobId, limits};

use crate::{
    error::BlobError,
    journal::{Found, Journal},
    storage::{BlobStorage, FileEntry},
    store::{BlobOptions, BlobStore, Entry, Purpose, Shared, State, end, file_name},
    tree,
};

/// What was found when a store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Opened {
    /// Whole blobs.
    pub whole: u64,
    /// Blobs of which not everything is here.
    pub partial: u64,
    /// Files of what was never finished, which are gone now.
    pub discarded: u64,
}

impl BlobStore {
    /// Opens the blobs in `storage`, which must belong to this store alone. Takes time in proportion to the
    /// number of files, of which only the journals of unfinished blobs are read.
    ///
    /// # Errors
    /// The storage's error.
    pub fn open(
        storage: Arc<dyn BlobStorage>,
        options: BlobOptions,
    ) -> Result<(Self, Opened), BlobError> {
        let mut found: BTreeMap<BlobId, BTreeMap<&'static str, FileEntry>> = BTreeMap::new();
        let mut opened = Opened::default();
        for file in storage.list().map_err(BlobError::io("listing", "blobs"))? {
            match parse(&file.name) {
                Some((id, end)) => {
                    found.entry(id).or_default().insert(end, file);
                }
                None if file.name.starts_with(TEMPORARY) => {
                    opened.discarded += 1;
                    let _ = storage.delete(&file.name);
                }
                // Not one of ours.
                None => {}
            }
        }
        let mut entries = BTreeMap::new();
        for (id, files) in found {
            let mut kept = BTreeSet::from([end::DAMAGED]);
            if let Some(entry) = whole(&files, &mut kept) {
                opened.whole += 1;
                entries.insert(id, entry);
            } else if let Some(entry) = partial(&*storage, id, &files, &mut kept)? {
                opened.partial += 1;
                entries.insert(id, entry);
            }
            for (_, file) in files.iter().filter(|(end, _)| !kept.contains(*end)) {
                opened.discarded += 1;
                let _ = storage.delete(&file.name);
            }
        }
        let state = State {
            entries,
            ..State::default()
        };
        let shared = Arc::new(Shared {
            storage,
            options,
            state: Mutex::new(state),
        });
        Ok((Self { shared }, opened))
    }
}

/// How the names of files begin that nothing else has the content of yet.
pub(crate) const TEMPORARY: &str = "new-";

fn whole(files: &BTreeMap<&str, FileEntry>, kept: &mut BTreeSet<&str>) -> Option<Entry> {
    let mut sorts = [(end::OWN, Purpose::Own), (end::RELAYED, Purpose::Relay)].into_iter();
    let (end, purpose, file) =
        sorts.find_map(|(end, purpose)| Some((end, purpose, files.get(end)?)))?;
    if file.bytes > limits::BLOB_BYTES_MAX {
        return None;
    }
    kept.extend([end, end::TREE]);
    Some(Entry {
        len: file.bytes,
        purpose,
        is_whole: true,
        used_ms: file.used_ms,
        noted_ms: file.used_ms,
    })
}

fn partial(
    storage: &dyn BlobStorage,
    id: BlobId,
    files: &BTreeMap<&str, FileEntry>,
    kept: &mut BTreeSet<&str>,
) -> Result<Option<Entry>, BlobError> {
    let needed = [end::PART, end::JOURNAL, end::TREE];
    if needed.iter().any(|end| !files.contains_key(end)) {
        return Ok(None);
    }
    let name = file_name(id, end::JOURNAL);
    let file = storage.open(&name);
    let file = file.map_err(BlobError::io("opening", &name))?;
    let Some(Found { key, purpose, .. }) = Journal::open(file, &name, id)? else {
        return Ok(None);
    };
    if !tree::has_tree(key) {
        return Ok(None);
    }
    kept.extend(needed);
    let used_ms = files[end::JOURNAL].used_ms;
    Ok(Some(Entry {
        len: key.len,
        purpose,
        is_whole: false,
        used_ms,
        noted_ms: used_ms,
    }))
}

/// The blob and the sort of file that a name stands for.
fn parse(name: &str) -> Option<(BlobId, &'static str)> {
    let (_, rest) = name.split_once('/')?;
    let (hex, found) = rest.split_once('.')?;
    let ends = [
        end::OWN,
        end::RELAYED,
        end::PART,
        end::JOURNAL,
        end::TREE,
        end::DAMAGED,
    ];
    let end = ends.into_iter().find(|end| *end == found)?;
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut id = BlobId([0; 32]);
    for (byte, digits) in id.0.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (file_name(id, end) == name).then_some((id, end))
}

//! A peer that makes, fetches and passes on attachments: the real exchange on the real store.

use std::collections::{BTreeMap, BTreeSet};

use idem_blob::{Begun, BlobError, BlobOptions, BlobStore, Download, MemoryStorage, Opened};
use idem_blob_sync::{Blobs, Exchange, Purpose, Trouble, Written};
use idem_model::{BlobId, BlobKey, BlobPart, GroupSet};

/// What a peer may hold for others: less than all contents together, so that some make way.
pub(super) const RELAY_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long what nothing refers to stays.
pub(super) const GRACE_MS: u64 = 5_000;

/// A peer.
pub(super) struct Peer {
    pub(super) storage: MemoryStorage,
    /// There while its process runs.
    pub(super) process: Option<Process>,
    /// What its documents refer to.
    pub(super) referenced: BTreeSet<BlobId>,
    /// When it is called because of the time.
    pub(super) timer_us: Option<u64>,
    pub(super) bytes_sent: u64,
}

/// What ends with a process.
pub(super) struct Process {
    pub(super) exchange: Exchange,
    pub(super) shelf: Shelf,
}

impl Process {
    pub(super) fn start(storage: &MemoryStorage, seed: u64) -> Result<(Self, Opened), BlobError> {
        let mut options = BlobOptions::default();
        options.relay_bytes_max = RELAY_BYTES_MAX;
        options.grace_ms = GRACE_MS;
        let (store, opened) = BlobStore::open(std::sync::Arc::new(storage.clone()), options)?;
        let process = Self {
            exchange: Exchange::new(seed),
            shelf: Shelf {
                store,
                downloads: BTreeMap::new(),
                now_ms: 0,
                spoils: false,
            },
        };
        Ok((process, opened))
    }

    /// It is gone without having noted anything.
    pub(super) fn die(self) {
        for (_, download) in self.shelf.downloads {
            // What a download does when it is dropped, a dying process does not.
            std::mem::forget(download);
        }
    }
}

/// The store, and what is being fetched into it.
pub(super) struct Shelf {
    pub(super) store: BlobStore,
    downloads: BTreeMap<BlobKey, Download>,
    pub(super) now_ms: u64,
    /// It gives away what is not what it took in.
    pub(super) spoils: bool,
}

fn trouble(error: &BlobError) -> Trouble {
    match error {
        BlobError::Quota { .. } => Trouble::Quota,
        BlobError::Full { .. } => Trouble::DiskFull,
        _ => Trouble::Storage,
    }
}

impl Blobs for Shelf {
    fn is_whole(&mut self, key: BlobKey) -> bool {
        self.store.is_whole(key)
    }

    fn piece(&mut self, key: BlobKey, part: BlobPart) -> Option<Vec<u8>> {
        let piece = match self.downloads.get_mut(&key) {
            Some(download) => download.piece(part),
            None => self.store.piece(key, part, self.now_ms),
        };
        let mut piece = piece.ok()?;
        if self.spoils
            && let Some(byte) = piece.last_mut()
        {
            *byte ^= 1;
        }
        Some(piece)
    }

    fn begin(&mut self, key: BlobKey, purpose: Purpose) -> Result<GroupSet, Trouble> {
        let purpose = match purpose {
            Purpose::App => idem_blob::Purpose::Own,
            Purpose::Neighbour => idem_blob::Purpose::Relay,
        };
        match self.store.begin(key, purpose, self.now_ms) {
            Ok(Begun::Partial(download)) => {
                let groups = download.groups().clone();
                self.downloads.insert(key, *download);
                Ok(groups)
            }
            Ok(_) => Err(Trouble::Storage),
            Err(error) => Err(trouble(&error)),
        }
    }

    fn adopt(&mut self, key: BlobKey) -> Result<(), Trouble> {
        let adopted = match self.downloads.get_mut(&key) {
            Some(download) => download.adopt(),
            None => self.store.adopt(key, self.now_ms),
        };
        adopted.map_err(|error| trouble(&error))
    }

    fn write(&mut self, key: BlobKey, part: BlobPart, piece: &[u8]) -> Written {
        let Some(download) = self.downloads.get_mut(&key) else {
            return Written::Failed(Trouble::Storage);
        };
        match download.write(part, piece) {
            Ok(()) => Written::Kept,
            Err(BlobError::Foreign { .. }) => Written::Foreign,
            Err(error) => Written::Failed(trouble(&error)),
        }
    }

    fn finish(&mut self, key: BlobKey) -> Result<(), Trouble> {
        let Some(download) = self.downloads.remove(&key) else {
            return Err(Trouble::Storage);
        };
        let finished = download.finish(self.now_ms);
        finished.map_err(|error| trouble(&error))
    }

    fn end(&mut self, key: BlobKey) {
        self.downloads.remove(&key);
    }
}

//! The blobs of this peer, as the exchange with neighbours uses them.

use std::collections::BTreeMap;

use idem_blob::{Begun, BlobError, BlobStore, Download};
use idem_blob_sync::{Blobs, Purpose, Trouble, Written};
use idem_model::{BlobKey, BlobPart, GroupSet};

use super::unix_ms;

/// The store, and what is being fetched into it.
pub(super) struct Shelf {
    store: BlobStore,
    downloads: BTreeMap<BlobKey, Download>,
}

impl Shelf {
    pub(super) fn new(store: BlobStore) -> Self {
        Self {
            store,
            downloads: BTreeMap::new(),
        }
    }
}

impl Blobs for Shelf {
    fn is_whole(&mut self, key: BlobKey) -> bool {
        self.store.is_whole(key)
    }

    fn piece(&mut self, key: BlobKey, part: BlobPart) -> Option<Vec<u8>> {
        let piece = match self.downloads.get_mut(&key) {
            Some(download) => download.piece(part),
            None => self.store.piece(key, part, unix_ms()),
        };
        piece.inspect_err(|error| report(key, error)).ok()
    }

    fn begin(&mut self, key: BlobKey, purpose: Purpose) -> Result<GroupSet, Trouble> {
        let purpose = match purpose {
            Purpose::App => idem_blob::Purpose::Own,
            Purpose::Neighbour => idem_blob::Purpose::Relay,
        };
        match self.store.begin(key, purpose, unix_ms()) {
            Ok(Begun::Partial(download)) => {
                let groups = download.groups().clone();
                self.downloads.insert(key, *download);
                Ok(groups)
            }
            // The app brought it between two looks; the next one finds it.
            Ok(_) => Err(Trouble::Storage),
            Err(error) => Err(trouble(key, &error)),
        }
    }

    fn adopt(&mut self, key: BlobKey) -> Result<(), Trouble> {
        match self.downloads.get_mut(&key) {
            Some(download) => download.adopt().map_err(|error| trouble(key, &error)),
            None => {
                let adopted = self.store.adopt(key, unix_ms());
                adopted.map_err(|error| trouble(key, &error))
            }
        }
    }

    fn write(&mut self, key: BlobKey, part: BlobPart, piece: &[u8]) -> Written {
        let Some(download) = self.downloads.get_mut(&key) else {
            return Written::Failed(Trouble::Storage);
        };
        match download.write(part, piece) {
            Ok(()) => Written::Kept,
            Err(BlobError::Foreign { .. }) => Written::Foreign,
            Err(error) => Written::Failed(trouble(key, &error)),
        }
    }

    fn finish(&mut self, key: BlobKey) -> Result<(), Trouble> {
        match self.downloads.remove(&key) {
            Some(download) => download
                .finish(unix_ms())
                .map_err(|error| trouble(key, &error)),
            None => Err(Trouble::Storage),
        }
    }

    fn end(&mut self, key: BlobKey) {
        self.downloads.remove(&key);
    }
}

fn trouble(key: BlobKey, error: &BlobError) -> Trouble {
    report(key, error);
    match error {
        BlobError::Quota { .. } => Trouble::Quota,
        BlobError::Full { .. } => Trouble::DiskFull,
        _ => Trouble::Storage,
    }
}

fn report(key: BlobKey, error: &BlobError) {
    match error {
        BlobError::Missing { .. } => {}
        _ => tracing::warn!(id = %key.id, %error, "attachment"),
    }
}

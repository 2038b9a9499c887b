//! What the tests share.

use std::{cell::RefCell, sync::Arc};

use idem_blob::{
    Begun, BlobOptions, BlobStorage, BlobStore, Download, MemoryStorage, Purpose, SealedStorage,
};
use idem_model::{BlobKey, BlobPart};
use idem_vault::Vault;

thread_local! {
    /// What the stores of this thread are encrypted with.
    static VAULT: RefCell<Option<Vault>> = const { RefCell::new(None) };
}

/// Runs a test on encrypted stores.
pub(crate) fn sealed(test: impl FnOnce()) {
    VAULT.set(Some(Vault::in_memory().unwrap()));
    test();
    VAULT.set(None);
}

/// The storage, encrypted if this thread's are.
pub(crate) fn dressed(storage: impl BlobStorage + 'static) -> Arc<dyn BlobStorage> {
    let storage: Arc<dyn BlobStorage> = Arc::new(storage);
    match VAULT.with_borrow(Clone::clone) {
        Some(vault) => Arc::new(SealedStorage::new(storage, &vault).unwrap()),
        None => storage,
    }
}

/// A time like any other.
pub(crate) const NOW_MS: u64 = 1_760_000_000_000;

pub(crate) fn open(storage: &(impl BlobStorage + Clone + 'static)) -> BlobStore {
    open_with(storage, BlobOptions::default())
}

pub(crate) fn open_with(
    storage: &(impl BlobStorage + Clone + 'static),
    options: BlobOptions,
) -> BlobStore {
    BlobStore::open(dressed(storage.clone()), options)
        .unwrap()
        .0
}

pub(crate) fn in_memory() -> BlobStore {
    open(&MemoryStorage::default())
}

/// Bytes that look like nothing, different for each seed.
pub(crate) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn download(store: &BlobStore, key: BlobKey) -> Download {
    match store.begin(key, Purpose::Own, NOW_MS).unwrap() {
        Begun::Partial(download) => *download,
        other => panic!("{other:?}"),
    }
}

/// Fetches what is missing, in pieces of at most `2^level` groups. Gives how many pieces that took.
pub(crate) fn complete(store: &BlobStore, from: &BlobStore, key: BlobKey, level: u8) -> usize {
    let mut download = download(store, key);
    let mut pieces = 0;
    while let Some(group) = download.groups().next_missing(0) {
        let node = key.part_around(group, level);
        let piece = from.piece(key, node, NOW_MS).unwrap();
        download.write(node, &piece).unwrap();
        pieces += 1;
    }
    download.finish(NOW_MS).unwrap();
    pieces
}

/// All nodes of at most `2^level` groups.
pub(crate) fn nodes(key: BlobKey, level: u8) -> Vec<BlobPart> {
    (0..key.groups())
        .step_by(1 << level)
        .map(|first| key.part_around(first, level))
        .collect()
}

/// The splitmix64 generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

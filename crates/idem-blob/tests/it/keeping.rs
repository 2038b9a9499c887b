//! What stays and what goes.

use std::{
    collections::BTreeSet,
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
};

use idem_blob::{
    Begun, BlobError, BlobOptions, BlobStore, DirectoryStorage, MemoryStorage, Purpose,
};
use idem_model::{BlobId, BlobKey};

use crate::support::{NOW_MS, complete, content, download, in_memory, open, open_with};

const HOUR_MS: u64 = 60 * 60 * 1000;

fn collect(store: &BlobStore, referenced: &[BlobKey], now_ms: u64) -> u64 {
    let ids: BTreeSet<BlobId> = referenced.iter().map(|key| key.id).collect();
    store.collect(&ids, now_ms).unwrap().blobs
}

#[test]
pub(crate) fn what_nothing_refers_to_goes_after_an_hour() {
    let disk = MemoryStorage::default();
    let store = open(&disk);
    let kept = store.insert(&content(100_000, 1), NOW_MS).unwrap();
    let lost = store.insert(&content(90_000, 2), NOW_MS).unwrap();
    let held = store.insert(b"held", NOW_MS).unwrap();
    let read = store.insert(b"read", NOW_MS).unwrap();
    let pin = store.pin(held.id);
    let reader = store.reader(read, NOW_MS).unwrap();
    assert_eq!(collect(&store, &[kept], NOW_MS + HOUR_MS - 1), 0, "not yet");
    assert_eq!(
        collect(&store, &[kept], NOW_MS - HOUR_MS),
        0,
        "a clock that fell"
    );

    // What is left of the time is known after a restart.
    drop((pin, reader, store));
    let store = open(&disk);
    let pin = store.pin(held.id);
    let reader = store.reader(read, NOW_MS).unwrap();
    assert_eq!(collect(&store, &[kept], NOW_MS + HOUR_MS - 1), 0);
    assert_eq!(collect(&store, &[kept], NOW_MS + HOUR_MS), 1);
    assert!(!store.is_whole(lost) && store.is_whole(kept));
    drop((pin, reader));
    assert_eq!(collect(&store, &[kept], NOW_MS + HOUR_MS), 2);
    assert_eq!(store.usage().blobs, 1);
    drop(store);
    assert_eq!(open(&disk).whole_blobs(), [kept]);
}

#[test]
pub(crate) fn a_blob_that_is_made_again_lives_another_hour() {
    let store = in_memory();
    let key = store.insert(b"twice", NOW_MS).unwrap();
    store.insert(b"twice", NOW_MS + HOUR_MS).unwrap();
    assert_eq!(collect(&store, &[], NOW_MS + HOUR_MS + 1), 0);
    assert!(store.is_whole(key));
}

#[test]
pub(crate) fn what_is_fetched_stays_and_what_was_given_up_goes() {
    let from = in_memory();
    let key = from.insert(&content(300_000, 3), NOW_MS).unwrap();
    let store = in_memory();
    let fetch = download(&store, key);
    assert_eq!(collect(&store, &[], NOW_MS + 2 * HOUR_MS), 0);
    drop(fetch);
    assert_eq!(collect(&store, &[key], NOW_MS + 2 * HOUR_MS), 0);
    assert_eq!(collect(&store, &[], NOW_MS + 2 * HOUR_MS), 1);
    complete(&store, &from, key, 4);
}

fn relay(store: &BlobStore, from: &BlobStore, key: BlobKey, now_ms: u64) -> Result<(), BlobError> {
    let Begun::Partial(mut fetch) = store.begin(key, Purpose::Relay, now_ms)? else {
        return Ok(());
    };
    let piece = from.piece(key, key.root(), now_ms)?;
    fetch.write(key.root(), &piece)?;
    fetch.finish(now_ms)
}

#[test]
pub(crate) fn blobs_for_others_make_way_for_each_other_by_use() {
    let from = in_memory();
    let [a, b, c] = [4, 5, 6].map(|seed| from.insert(&content(100_000, seed), NOW_MS).unwrap());
    let huge = from.insert(&content(250_001, 7), NOW_MS).unwrap();
    let mut options = BlobOptions::default();
    options.relay_bytes_max = 250_000;
    let disk = MemoryStorage::default();
    let store = open_with(&disk, options);
    let own = store.insert(&content(400_000, 8), NOW_MS).unwrap();
    relay(&store, &from, a, NOW_MS).unwrap();
    relay(&store, &from, b, NOW_MS + 1).unwrap();
    store.piece(a, a.root(), NOW_MS + 2).unwrap();
    relay(&store, &from, c, NOW_MS + 3).unwrap();
    assert!(store.is_whole(a) && !store.is_whole(b) && store.is_whole(c));
    assert!(matches!(
        relay(&store, &from, huge, NOW_MS),
        Err(BlobError::Quota { limit: 250_000, .. })
    ));
    assert!(store.is_whole(own) && store.usage().relay_bytes == 200_000);

    // What a document refers to is the peer's own, and room for others is there again.
    assert_eq!(collect(&store, &[a, own], NOW_MS + 2 * HOUR_MS), 0);
    relay(&store, &from, b, NOW_MS + 4).unwrap();
    assert!([a, b, c, own].iter().all(|key| store.is_whole(*key)));
    drop(store);
    let store = open_with(&disk, options);
    assert_eq!(store.usage().relay_bytes, 200_000);
    let _pins = [store.pin(b.id), store.pin(c.id)];
    let d = from.insert(&content(100_000, 9), NOW_MS).unwrap();
    assert!(
        relay(&store, &from, d, NOW_MS + 5).is_err(),
        "all are in use"
    );
}

#[test]
pub(crate) fn a_fetch_for_others_becomes_one_for_the_app() {
    let from = in_memory();
    let key = from.insert(&content(200_000, 10), NOW_MS).unwrap();
    let disk = MemoryStorage::default();
    let store = open(&disk);
    let Begun::Partial(mut fetch) = store.begin(key, Purpose::Relay, NOW_MS).unwrap() else {
        panic!("nothing is here");
    };
    assert_eq!(store.usage().relay_bytes, 200_000);
    fetch.adopt().unwrap();
    assert_eq!(store.usage().relay_bytes, 0);
    drop(fetch);
    drop(store);
    let store = open(&disk);
    assert_eq!(store.usage().relay_bytes, 0, "also after a restart");
    complete(&store, &from, key, 4);
    assert_eq!(collect(&store, &[], NOW_MS + HOUR_MS), 1);
}

#[test]
pub(crate) fn all_blobs_together_have_a_bound() {
    let mut options = BlobOptions::default();
    options.bytes_max = 100_000;
    let store = open_with(&MemoryStorage::default(), options);
    store.insert(&content(60_000, 11), NOW_MS).unwrap();
    let error = store.insert(&content(60_000, 12), NOW_MS).unwrap_err();
    assert!(matches!(error, BlobError::Quota { .. }));
    let error = store.writer().write(&content(100_001, 13)).unwrap_err();
    assert!(matches!(error, BlobError::Quota { .. }));
    assert_eq!(store.usage().bytes, 60_000);
}

#[test]
pub(crate) fn a_directory_keeps_what_memory_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blobs");
    let open = || {
        let storage = Arc::new(DirectoryStorage::new(&path));
        BlobStore::open(storage, BlobOptions::default()).unwrap()
    };
    let bytes = content(3_000_000, 14);
    let from = in_memory();
    let wanted = from.insert(&content(700_000, 15), NOW_MS).unwrap();
    let key = {
        let (store, opened) = open();
        assert_eq!(opened, idem_blob::Opened::default());
        assert!(!path.exists(), "no directory before there is a blob");
        let mut abandoned = store.writer();
        abandoned.write(&content(2_000_000, 16)).unwrap();
        std::mem::forget(abandoned);
        let mut fetch = download(&store, wanted);
        let node = wanted.part(0, 4).unwrap();
        let piece = from.piece(wanted, node, NOW_MS).unwrap();
        fetch.write(node, &piece).unwrap();
        store.insert(&bytes, NOW_MS).unwrap()
    };
    let (store, opened) = open();
    assert_eq!((opened.whole, opened.partial, opened.discarded), (1, 1, 2));
    assert_eq!(download(&store, wanted).groups().count(), 16);
    complete(&store, &from, wanted, 4);
    let mut reader = store.reader(key, NOW_MS).unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes);
    reader.seek(SeekFrom::End(-5)).unwrap();
    read.clear();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, bytes[bytes.len() - 5..]);
    assert_eq!(
        collect(&store, &[wanted], NOW_MS + HOUR_MS - 1),
        0,
        "by the time of the file"
    );
    drop(reader);
    assert_eq!(collect(&store, &[wanted], NOW_MS + HOUR_MS), 1);
}

#[test]
fn another_length_leaves_nothing_behind_and_costs_the_app_nothing() {
    let from = in_memory();
    let key = from.insert(&content(700_000, 17), NOW_MS).unwrap();
    let wrong = BlobKey { len: 40_000, ..key };
    for purpose in [Purpose::Own, Purpose::Relay] {
        let disk = MemoryStorage::default();
        let store = open(&disk);
        let Begun::Partial(mut fetch) = store.begin(key, purpose, NOW_MS).unwrap() else {
            panic!("nothing is here");
        };
        let node = key.part(0, 4).unwrap();
        let piece = from.piece(key, node, NOW_MS).unwrap();
        fetch.write(node, &piece).unwrap();
        drop(fetch);
        // A neighbour asks for it with a length that is not its own, and another one says that it has that.
        let begun = store.begin(wrong, Purpose::Relay, NOW_MS);
        assert_eq!(begun.is_err(), purpose == Purpose::Own);
        drop(begun);
        drop(store);
        let (store, opened) = BlobStore::open(Arc::new(disk), BlobOptions::default()).unwrap();
        assert_eq!(opened.discarded, 0, "{purpose:?}");
        assert_eq!(store.usage().blobs, u64::from(purpose == Purpose::Own));
    }
}

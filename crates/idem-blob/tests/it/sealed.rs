//! Encrypted stores: the suites of plain ones on them, and what only they promise.

use std::sync::Arc;

use idem_blob::{
    Begun, BlobError, BlobOptions, BlobStorage, BlobStore, Fault, FaultStorage, MemoryStorage,
    Purpose, SealedStorage,
};
use idem_vault::{StoreKey, Vault};

use crate::{
    damage, faults, fetching, keeping,
    support::{NOW_MS, Random, complete, content, in_memory, nodes, sealed},
};

#[test]
fn faults_and_crashes() {
    sealed(faults::no_fault_and_no_crash_after_it_leaves_anything_wrong);
}

#[test]
fn a_read_that_goes_wrong_once() {
    sealed(faults::a_read_that_goes_wrong_once_does_no_harm);
}

#[test]
fn fetching_and_reading() {
    sealed(fetching::a_blob_is_named_by_its_hash_and_read_back_however_it_came);
    sealed(fetching::no_piece_of_anything_else_is_taken);
    sealed(fetching::the_app_may_bring_what_is_being_fetched);
    sealed(fetching::a_fetch_that_was_dropped_goes_on_where_it_was);
    sealed(fetching::what_is_here_of_an_unfinished_blob_can_be_given_away);
}

#[test]
fn keeping_and_collecting() {
    sealed(keeping::what_nothing_refers_to_goes_after_an_hour);
    sealed(keeping::what_is_fetched_stays_and_what_was_given_up_goes);
    sealed(keeping::blobs_for_others_make_way_for_each_other_by_use);
    sealed(keeping::a_fetch_for_others_becomes_one_for_the_app);
}

#[test]
fn content_and_tree_that_are_both_damaged() {
    sealed(damage::content_and_tree_that_are_both_damaged_are_fetched_again);
}

fn store_on(
    disk: &(impl BlobStorage + Clone + 'static),
    vault: &Vault,
) -> (BlobStore, SealedStorage) {
    let storage = SealedStorage::new(Arc::new(disk.clone()), vault).unwrap();
    let store = BlobStore::open(Arc::new(storage.clone()), BlobOptions::default());
    (store.unwrap().0, storage)
}

#[test]
fn names_and_contents_tell_nothing_and_another_key_sees_nothing() {
    let bytes = b"CONTENTMARKER ".repeat(20_000);
    let disk = MemoryStorage::default();
    let vault = Vault::in_memory().unwrap();
    let (store, _) = store_on(&disk, &vault);
    let key = store.insert(&bytes, NOW_MS).unwrap();
    let other = in_memory().insert(&content(200_000, 7), NOW_MS).unwrap();
    drop(store.begin(other, Purpose::Own, NOW_MS).unwrap());
    let files = disk.list().unwrap();
    assert_eq!(files.len(), 2 + 3);
    let hashes = [key.id.to_string(), other.id.to_string()];
    for file in &files {
        let name = file.name.to_lowercase();
        for part in [
            "blob",
            "tree",
            "part",
            "map",
            &hashes[0][..6],
            &hashes[1][..6],
        ] {
            assert!(!name.contains(part), "{name}");
        }
        let mut raw = vec![0; usize::try_from(file.bytes).unwrap()];
        disk.open(&file.name).unwrap().read_at(0, &mut raw).unwrap();
        for marker in [&b"MARKER"[..], &key.id.0[..6], &other.id.0[..6]] {
            assert!(!raw.windows(marker.len()).any(|it| it == marker), "{name}");
        }
    }
    let (stranger, _) = store_on(&disk, &Vault::in_memory().unwrap());
    assert_eq!(stranger.usage().blobs, 0);
    let (store, _) = store_on(&disk, &vault);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
fn no_flipped_bit_is_served() {
    let mut damaged = 0;
    for (len, rounds) in [(1, 12), (50_000, 40), (300_000, 60)] {
        let bytes = content(len, 1);
        let from = in_memory();
        let key = from.insert(&bytes, NOW_MS).unwrap();
        let mut random = Random(len as u64);
        for round in 0..rounds {
            let disk = MemoryStorage::default();
            let vault = Vault::in_memory().unwrap();
            let (store, _) = store_on(&disk, &vault);
            store.insert(&bytes, NOW_MS).unwrap();
            drop(store);
            let files = disk.list().unwrap();
            let file = &files[random.below(files.len())];
            assert!(disk.flip_bit(&file.name, random.next() % (file.bytes * 8)));
            let (store, _) = store_on(&disk, &vault);
            if !store.is_whole(key) {
                damaged += 1;
                continue;
            }
            match store.read(key, NOW_MS) {
                Ok(read) => assert_eq!(read, bytes, "{len} {round}"),
                Err(BlobError::Damaged { .. }) => {
                    damaged += 1;
                    complete(&store, &from, key, 0);
                    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes, "{len} {round}");
                }
                Err(other) => panic!("{len} {round}: {other}"),
            }
        }
    }
    assert!(damaged > 40, "{damaged}");
}

/// A torn write of the journal costs the last piece only, whatever it had before.
#[test]
fn a_torn_journal_keeps_what_it_had() {
    let bytes = content(1_000_000, 3);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let memory = MemoryStorage::default();
    let vault = Vault::in_memory().unwrap();
    let disk = FaultStorage::wrap(memory.clone());
    let (store, _) = store_on(&disk, &vault);
    let Begun::Partial(mut fetch) = store.begin(key, Purpose::Own, NOW_MS).unwrap() else {
        panic!("nothing is here");
    };
    let nodes = nodes(key, 3);
    for node in &nodes[..5] {
        fetch
            .write(*node, &from.piece(key, *node, NOW_MS).unwrap())
            .unwrap();
        fetch.checkpoint().unwrap();
    }
    let node = nodes[5];
    fetch
        .write(node, &from.piece(key, node, NOW_MS).unwrap())
        .unwrap();
    disk.inject(Fault::Write {
        nth: disk.counts()[0] + 1,
        bytes: 30,
    });
    fetch.checkpoint().unwrap_err();
    let groups = 5 * 8;
    disk.inject(Fault::Sync(disk.counts()[1] + 1));
    drop(fetch);
    drop(store);
    let (store, _) = store_on(&memory, &vault);
    let Begun::Partial(fetch) = store.begin(key, Purpose::Own, NOW_MS).unwrap() else {
        panic!("some is here");
    };
    assert!(
        fetch.groups().count() >= groups,
        "{}",
        fetch.groups().count()
    );
    drop(fetch);
    complete(&store, &from, key, 3);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
fn a_rotation_goes_file_by_file_and_survives_a_fault_at_every_step() {
    let directory = tempfile::tempdir().unwrap();
    let secret = StoreKey::from_bytes([1; 32]);
    let small = content(30_000, 4);
    let large = content(300_000, 5);
    let from = in_memory();
    let fetched = from.insert(&content(200_000, 6), NOW_MS).unwrap();
    let first = nodes(fetched, 2)[0];
    let piece = from.piece(fetched, first, NOW_MS).unwrap();
    let mut strikes = 0;
    for nth in 1.. {
        std::fs::remove_file(directory.path().join(idem_vault::SIDE_FILE)).ok();
        let vault = Vault::create(directory.path(), &secret).unwrap();
        let memory = MemoryStorage::default();
        let disk = FaultStorage::wrap(memory.clone());
        let (store, storage) = store_on(&disk, &vault);
        let keys = [&small, &large].map(|bytes| store.insert(bytes, NOW_MS).unwrap());
        let Begun::Partial(mut fetch) = store.begin(fetched, Purpose::Own, NOW_MS).unwrap() else {
            panic!("nothing is here");
        };
        fetch.write(first, &piece).unwrap();
        fetch.checkpoint().unwrap();
        assert!(storage.stale_files().unwrap().is_empty());
        vault.begin_rotation().unwrap();
        assert_eq!(storage.stale_files().unwrap().len(), 6);
        let [writes, syncs, names, _] = disk.counts();
        let fault = match nth % 3 {
            0 => Fault::Sync(syncs + nth / 3),
            1 => Fault::Name(names + nth / 3 + 1),
            _ => Fault::Write {
                nth: writes + nth / 3 + 1,
                bytes: 50,
            },
        };
        disk.inject(fault);
        let rotate = |storage: &SealedStorage| -> std::io::Result<()> {
            let stale = storage.stale_files()?;
            stale.iter().try_for_each(|name| storage.rekey(name))
        };
        let context = format!("{fault:?}");
        let is_done = rotate(&storage).is_ok();
        strikes += u64::from(!is_done);
        disk.heal();
        if !is_done {
            // What is open is still usable, on both sides of the fault.
            assert_eq!(store.read(keys[1], NOW_MS).unwrap(), large, "{context}");
            drop((fetch, store, storage));
            memory.crash(nth);
            let (store, storage) = store_on(&memory, &vault);
            assert_eq!(store.read(keys[0], NOW_MS).unwrap(), small, "{context}");
            rotate(&storage).expect(&context);
            assert!(storage.stale_files().unwrap().is_empty(), "{context}");
            drop(store);
        } else {
            drop((fetch, store, storage));
        }
        assert!(vault.retire(2).unwrap());
        let vault = Vault::open(directory.path(), &secret).unwrap();
        let (store, _) = store_on(&memory, &vault);
        assert_eq!(store.read(keys[0], NOW_MS).unwrap(), small, "{context}");
        assert_eq!(store.read(keys[1], NOW_MS).unwrap(), large, "{context}");
        let Begun::Partial(fetch) = store.begin(fetched, Purpose::Own, NOW_MS).unwrap() else {
            panic!("some is here");
        };
        assert_eq!(fetch.groups().count(), 4, "{context}");
        drop(fetch);
        complete(&store, &from, fetched, 3);
        if nth > 60 {
            break;
        }
    }
    assert!(strikes > 15, "only {strikes}");
}

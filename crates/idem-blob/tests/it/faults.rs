//! Disks that fail, at every place where they can.

use idem_blob::{
    Begun, BlobError, BlobOptions, BlobStorage, Fault, FaultStorage, MemoryStorage, Purpose,
};
use idem_model::BlobKey;

use crate::support::{NOW_MS, content, dressed, in_memory, nodes, open, open_with};

/// Makes one blob, fetches another and makes a third for others give way, as far as that goes.
fn work(disk: &FaultStorage, made: &[u8], fetched: BlobKey, pieces: &[Vec<u8>]) -> bool {
    let options = BlobOptions::default();
    let Ok((store, _)) = idem_blob::BlobStore::open(dressed(disk.clone()), options) else {
        return false;
    };
    let made = store.insert(made, NOW_MS);
    if let Ok(key) = &made {
        assert!(store.is_whole(*key));
    }
    let fetch = store.begin(fetched, Purpose::Own, NOW_MS);
    let Ok(Begun::Partial(mut fetch)) = fetch else {
        return false;
    };
    let mut is_good = made.is_ok();
    for (node, piece) in nodes(fetched, 2).into_iter().zip(pieces) {
        is_good &= fetch.write(node, piece).is_ok();
        is_good &= fetch.checkpoint().is_ok();
    }
    is_good & fetch.finish(NOW_MS).is_ok()
}

#[test]
pub(crate) fn no_fault_and_no_crash_after_it_leaves_anything_wrong() {
    let made = content(1_200_000, 1);
    let bytes = content(200_000, 2);
    let from = in_memory();
    let fetched = from.insert(&bytes, NOW_MS).unwrap();
    let made_key = from.insert(&made, NOW_MS).unwrap();
    let pieces: Vec<_> = nodes(fetched, 2)
        .into_iter()
        .map(|node| from.piece(fetched, node, NOW_MS).unwrap())
        .collect();

    let count = FaultStorage::wrap(MemoryStorage::default());
    assert!(work(&count, &made, fetched, &pieces), "without a fault");
    let [writes, syncs, names, _] = count.counts();
    assert!(writes > 20 && syncs > 8 && names > 6);
    let faults = (1..=writes)
        .flat_map(|nth| {
            [
                Fault::Write { nth, bytes: 0 },
                Fault::Write { nth, bytes: 9 },
            ]
        })
        .chain((1..=syncs).map(Fault::Sync))
        .chain((1..=names).map(Fault::Name));
    for (seed, fault) in faults.enumerate() {
        let memory = MemoryStorage::default();
        let disk = FaultStorage::wrap(memory.clone());
        disk.inject(fault);
        assert!(!work(&disk, &made, fetched, &pieces), "{fault:?} is told");
        disk.heal();
        memory.crash(seed as u64);
        let store = open(&memory);
        for (key, bytes) in [(made_key, &made), (fetched, &bytes)] {
            if store.is_whole(key) {
                assert_eq!(store.read(key, NOW_MS).unwrap(), *bytes, "{fault:?}");
            } else {
                crate::support::complete(&store, &from, key, 3);
                assert_eq!(store.read(key, NOW_MS).unwrap(), *bytes, "{fault:?}");
            }
        }
        let left = memory.list().unwrap();
        assert_eq!(left.len(), 4, "nothing else is left: {fault:?} {left:?}");
    }
}

#[test]
pub(crate) fn a_full_disk_is_named_and_goes_on_when_there_is_room() {
    let bytes = content(900_000, 3);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let memory = MemoryStorage::default();
    let disk = FaultStorage::wrap(memory.clone());
    disk.inject(Fault::DiskBytes(500_000));
    let store = open_with(&disk, BlobOptions::default());
    let full = store.insert(&content(600_000, 4), NOW_MS).unwrap_err();
    assert!(matches!(full, BlobError::Full { .. }), "{full}");
    assert!(memory.list().unwrap().is_empty(), "the rest of it is gone");

    let disk = FaultStorage::wrap(memory.clone());
    disk.inject(Fault::DiskBytes(500_000));
    let store = open_with(&disk, BlobOptions::default());
    let Begun::Partial(mut fetch) = store.begin(key, Purpose::Own, NOW_MS).unwrap() else {
        panic!("nothing is here");
    };
    let mut written = 0;
    for node in nodes(key, 3) {
        let piece = from.piece(key, node, NOW_MS).unwrap();
        match fetch.write(node, &piece) {
            Ok(()) => written += 1,
            Err(error) => {
                assert!(matches!(error, BlobError::Full { .. }), "{error}");
                break;
            }
        }
    }
    assert_eq!(written, 3);
    disk.heal();
    drop(fetch);
    let rest = crate::support::complete(&store, &from, key, 3);
    assert_eq!(rest, nodes(key, 3).len() - 3);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
pub(crate) fn a_read_that_goes_wrong_once_does_no_harm() {
    let bytes = content(600_000, 5);
    let disk = FaultStorage::wrap(MemoryStorage::default());
    let store = open_with(&disk, BlobOptions::default());
    let key = store.insert(&bytes, NOW_MS).unwrap();
    let [.., before] = disk.counts();
    disk.inject(Fault::ReadFlip(before + 1));
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
    assert!(store.is_whole(key));
}

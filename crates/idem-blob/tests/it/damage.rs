//! Bits that flip on disk.

use idem_blob::{BlobError, BlobStorage, MemoryStorage};

use crate::support::{NOW_MS, Random, complete, content, in_memory, open};

#[test]
pub(crate) fn no_flipped_bit_is_ever_served_and_what_is_good_is_kept() {
    for (len, rounds) in [(1, 8), (50_000, 40), (300_000, 40), (2_600_000, 10)] {
        let bytes = content(len, 1);
        let from = in_memory();
        let key = from.insert(&bytes, NOW_MS).unwrap();
        let mut random = Random(len as u64);
        for round in 0..rounds {
            let disk = MemoryStorage::default();
            let store = open(&disk);
            store.insert(&bytes, NOW_MS).unwrap();
            let files = disk.list().unwrap();
            let file = &files[random.below(files.len())];
            let is_tree = file.name.ends_with(".tree");
            let bit = random.next() % (file.bytes * 8);
            assert!(disk.flip_bit(&file.name, bit));
            match store.read(key, NOW_MS) {
                // A tree is made again; some of its hashes are in no proof that is read here.
                Ok(read) => assert!(is_tree && read == bytes, "{len} {round} {file:?} {bit}"),
                Err(BlobError::Damaged { file, .. }) => {
                    assert!(!is_tree, "{len} {round} {bit}");
                    assert!(file.ends_with(".blob"));
                    assert!(!store.is_whole(key), "not served any more");
                    let pieces = complete(&store, &from, key, 0);
                    assert_eq!(
                        pieces,
                        1.max(if len > 65_536 {
                            1
                        } else {
                            len.div_ceil(16_384)
                        })
                    );
                    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
pub(crate) fn content_and_tree_that_are_both_damaged_are_fetched_again() {
    let bytes = content(900_000, 2);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let disk = MemoryStorage::default();
    let store = open(&disk);
    store.insert(&bytes, NOW_MS).unwrap();
    for file in disk.list().unwrap() {
        assert!(disk.flip_bit(&file.name, 5));
    }
    assert!(matches!(
        store.read(key, NOW_MS),
        Err(BlobError::Damaged { .. })
    ));
    assert_eq!(complete(&store, &from, key, 4), 4, "all of it");
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
pub(crate) fn a_tree_that_is_lost_is_made_again() {
    for lost in [true, false] {
        let bytes = content(900_000, 3);
        let disk = MemoryStorage::default();
        let key = open(&disk).insert(&bytes, NOW_MS).unwrap();
        let tree = disk
            .list()
            .unwrap()
            .into_iter()
            .find(|it| it.name.ends_with(".tree"));
        let tree = tree.unwrap();
        if lost {
            disk.delete(&tree.name).unwrap();
        } else {
            disk.create(&tree.name).unwrap();
        }
        let store = open(&disk);
        assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
        let again = disk.list().unwrap();
        assert!(
            again
                .iter()
                .any(|it| it.name == tree.name && it.bytes == tree.bytes)
        );
    }
}

#[test]
pub(crate) fn content_that_was_cut_off_is_found() {
    let bytes = content(900_000, 4);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let disk = MemoryStorage::default();
    let store = open(&disk);
    store.insert(&bytes, NOW_MS).unwrap();
    let blob = disk
        .list()
        .unwrap()
        .into_iter()
        .find(|it| it.name.ends_with(".blob"));
    let name = blob.unwrap().name;
    let cut = disk.create(&name).unwrap();
    cut.write_at(0, &bytes[..500_000]).unwrap();
    assert!(matches!(
        store.read(key, NOW_MS),
        Err(BlobError::Damaged {
            offset: 491_520,
            ..
        })
    ));
    complete(&store, &from, key, 4);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);

    // With the store closed, the file is what its length says, and so another blob.
    disk.create(&name)
        .unwrap()
        .write_at(0, &bytes[..7])
        .unwrap();
    let store = open(&disk);
    assert!(!store.is_whole(key));
    complete(&store, &from, key, 4);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
pub(crate) fn a_flip_while_a_partial_blob_is_given_away_is_found_and_fetched_again() {
    let bytes = content(600_000, 5);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let disk = MemoryStorage::default();
    let store = open(&disk);
    let mut fetch = crate::support::download(&store, key);
    let node = key.part(0, 4).unwrap();
    let piece = from.piece(key, node, NOW_MS).unwrap();
    fetch.write(node, &piece).unwrap();
    let part = disk
        .list()
        .unwrap()
        .into_iter()
        .find(|it| it.name.ends_with(".part"));
    assert!(disk.flip_bit(&part.unwrap().name, 8 * 100_000));
    assert!(fetch.piece(key.part(0, 0).unwrap()).is_ok());
    assert!(matches!(fetch.piece(node), Err(BlobError::Damaged { .. })));
    assert_eq!(fetch.groups().count(), 0, "all of the node is doubted");
    drop(fetch);
    complete(&store, &from, key, 4);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

//! Blobs that come piece by piece, with crashes between.

use idem_blob::{Begun, BlobError, BlobStorage, MemoryStorage, Purpose};
use idem_model::{BlobId, BlobKey};
use proptest::prelude::*;

use crate::support::{NOW_MS, Random, complete, content, download, in_memory, nodes, open};

const LENGTHS: [usize; 9] = [
    0,
    1,
    16_384,
    65_536,
    65_537,
    300_000,
    1 << 20,
    (1 << 20) + 1,
    3_500_000,
];

#[test]
pub(crate) fn a_blob_is_named_by_its_hash_and_read_back_however_it_came() {
    for len in LENGTHS {
        let bytes = content(len, 1);
        let from = in_memory();
        let key = from.insert(&bytes, NOW_MS).unwrap();
        assert_eq!(key.id, BlobId(*blake3::hash(&bytes).as_bytes()));
        assert_eq!(key.len, len as u64);

        let mut writer = from.writer();
        bytes
            .chunks(777)
            .for_each(|part| writer.write(part).unwrap());
        assert_eq!(writer.finish(NOW_MS).unwrap(), key, "in small steps");
        assert_eq!(from.usage().blobs, 1);

        for level in [0, 2, 4, 24] {
            let to = in_memory();
            assert!(to.read(key, NOW_MS).is_err());
            complete(&to, &from, key, level);
            assert_eq!(to.read(key, NOW_MS).unwrap(), bytes, "{len} {level}");
            let again = in_memory();
            complete(&again, &to, key, 3);
            assert_eq!(
                again.read(key, NOW_MS).unwrap(),
                bytes,
                "a fetched one serves too"
            );
        }
    }
}

#[test]
pub(crate) fn no_piece_of_anything_else_is_taken() {
    let bytes = content(400_000, 2);
    let from = in_memory();
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let other = from.insert(&content(400_000, 3), NOW_MS).unwrap();
    let to = in_memory();
    let mut fetch = download(&to, key);
    for node in nodes(key, 2) {
        let mut wrong = from.piece(other, node, NOW_MS).unwrap();
        let refused = fetch.write(node, &wrong);
        assert!(matches!(refused, Err(BlobError::Foreign { .. })));
        wrong = from.piece(key, node, NOW_MS).unwrap();
        wrong.pop();
        assert!(fetch.write(node, &wrong).is_err());
        assert_eq!(fetch.groups().count(), 0);
    }
    let lying = BlobKey {
        len: key.len - 1,
        ..key
    };
    assert!(from.piece(lying, lying.root(), NOW_MS).is_err());
    assert!(matches!(
        from.begin(lying, Purpose::Own, NOW_MS),
        Err(BlobError::Missing { .. })
    ));
}

#[test]
pub(crate) fn a_blob_is_fetched_once_at_a_time() {
    let from = in_memory();
    let key = from.insert(&content(200_000, 4), NOW_MS).unwrap();
    let to = in_memory();
    let first = download(&to, key);
    assert!(matches!(
        to.begin(key, Purpose::Relay, NOW_MS).unwrap(),
        Begun::Busy
    ));
    drop(first);
    complete(&to, &from, key, 4);
    assert!(matches!(
        to.begin(key, Purpose::Own, NOW_MS).unwrap(),
        Begun::Whole
    ));
}

#[test]
pub(crate) fn the_app_may_bring_what_is_being_fetched() {
    for len in [40_000, 400_000] {
        let bytes = content(len, 5);
        let from = in_memory();
        let key = from.insert(&bytes, NOW_MS).unwrap();
        let disk = MemoryStorage::default();
        let to = open(&disk);
        let mut fetch = download(&to, key);
        let piece = from.piece(key, key.root(), NOW_MS).unwrap();
        fetch.write(key.root(), &piece).unwrap();
        to.insert(&bytes, NOW_MS).unwrap();
        fetch.finish(NOW_MS).unwrap();
        assert_eq!(to.read(key, NOW_MS).unwrap(), bytes);
        drop(to);
        assert_eq!(open(&disk).read(key, NOW_MS).unwrap(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a crash leaves, what is said to be there is there, and what was noted before stays.
    #[test]
    fn what_is_noted_survives_a_crash(
        seed in any::<u64>(),
        len in prop_oneof![Just(65_537_usize), 70_000..400_000_usize, 1_000_000..2_500_000_usize],
        lives in 1..5_usize,
    ) {
        let bytes = content(len, seed);
        let from = in_memory();
        let key = from.insert(&bytes, NOW_MS).unwrap();
        let disk = MemoryStorage::default();
        let mut random = Random(seed);
        let mut noted = 0;
        for life in 0..lives {
            let store = open(&disk);
            let Begun::Partial(mut fetch) = store.begin(key, Purpose::Own, NOW_MS).unwrap() else {
                break;
            };
            prop_assert!(fetch.groups().count() >= noted, "what was noted is known");
            for run in fetch.groups().runs().collect::<Vec<_>>() {
                for group in run {
                    prop_assert!(fetch.piece(key.part_around(group, 0)).is_ok(), "group {group}");
                }
            }
            for _ in 0..random.below(20) {
                let group = random.next() % key.groups();
                let level = u8::try_from(random.below(5)).unwrap();
                let node = key.part_around(group, level);
                let piece = from.piece(key, node, NOW_MS).unwrap();
                fetch.write(node, &piece).unwrap();
                if random.below(6) == 0 {
                    fetch.checkpoint().unwrap();
                    noted = fetch.groups().count();
                }
            }
            if fetch.groups().is_full() && random.below(2) == 0 {
                fetch.finish(NOW_MS).unwrap();
                noted = key.groups();
            } else {
                // As if the process had died: nothing is noted on the way out.
                std::mem::forget(fetch);
            }
            disk.crash(seed ^ life as u64);
        }
        let store = open(&disk);
        if !store.is_whole(key) {
            prop_assert!(download(&store, key).groups().count() >= noted);
            complete(&store, &from, key, 1);
        }
        prop_assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
        let left = disk.list().unwrap();
        prop_assert_eq!(left.len(), 2, "content and tree: {:?}", left);
    }
}

#[test]
pub(crate) fn a_fetch_that_was_dropped_goes_on_where_it_was() {
    let from = in_memory();
    let bytes = content(2_000_000, 6);
    let key = from.insert(&bytes, NOW_MS).unwrap();
    let disk = MemoryStorage::default();
    let half = nodes(key, 4).len() / 2;
    {
        let store = open(&disk);
        let mut fetch = download(&store, key);
        for node in &nodes(key, 4)[..half] {
            let piece = from.piece(key, *node, NOW_MS).unwrap();
            fetch.write(*node, &piece).unwrap();
        }
        assert_eq!(fetch.bytes(), half as u64 * 256 * 1024);
    }
    disk.crash(7);
    let store = open(&disk);
    let rest = complete(&store, &from, key, 4);
    assert_eq!(rest, nodes(key, 4).len() - half);
    assert_eq!(store.read(key, NOW_MS).unwrap(), bytes);
}

#[test]
pub(crate) fn what_is_here_of_an_unfinished_blob_can_be_given_away() {
    let from = in_memory();
    let key = from.insert(&content(1_500_000, 8), NOW_MS).unwrap();
    let middle = in_memory();
    let to = in_memory();
    let mut arriving = download(&middle, key);
    let mut passed_on = download(&to, key);
    for node in nodes(key, 3) {
        assert!(arriving.piece(node).is_err(), "not there yet");
        let piece = from.piece(key, node, NOW_MS).unwrap();
        arriving.write(node, &piece).unwrap();
        let group = key.part_around(node.first(), 0);
        let part = arriving.piece(group).unwrap();
        passed_on.write(group, &part).unwrap();
        let piece = arriving.piece(node).unwrap();
        passed_on.write(node, &piece).unwrap();
    }
    passed_on.finish(NOW_MS).unwrap();
    assert!(to.is_whole(key));
}

//! Flipped bits and cut files under the B-tree: no wrong value is ever served, and what is missing is
//! found by `verify`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idem_kv::{Batch, Durability, Engine, FaultDisk, KvError, RedbEngine, Table};

use crate::support::{Random, Twin, is_sealed, options, scan};

fn written() -> (FaultDisk, Twin, Vec<(u8, Vec<u8>)>) {
    let disk = FaultDisk::default();
    let engine = RedbEngine::open_disk(&disk, &options()).unwrap();
    let mut twin = Twin::default();
    let mut keys = Vec::new();
    let mut random = Random(1);
    for _ in 0..4 {
        let mut batch = Batch::new();
        for _ in 0..150 {
            let table = u8::try_from(random.below(2)).unwrap();
            let key = random.next().to_be_bytes().to_vec();
            let value: Vec<u8> = (0..1 + random.below(300))
                .map(|_| random.below(256) as u8)
                .collect();
            batch.put(Table(table), &key, &value);
            keys.push((table, key));
        }
        engine.commit(&batch, Durability::Durable).unwrap();
        twin.commit(&batch);
    }
    drop(engine);
    (disk, twin, keys)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    named: bool,
    missing: bool,
}

/// Reads everything twice over, by key and in order.
fn read_all(disk: &FaultDisk, twin: &Twin, keys: &[(u8, Vec<u8>)], context: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut note = |result: Result<(), KvError>| match result {
        Ok(()) => {}
        Err(KvError::Corrupt { .. } | KvError::CorruptFile { .. } | KvError::Poisoned) => {
            outcome.named = true;
        }
        // A pointer that leads outside of the file.
        Err(KvError::Io { .. } | KvError::Engine { .. }) => outcome.named = true,
        Err(other) => panic!("{context}: {other}"),
    };
    let engine = match RedbEngine::open_disk(disk, &options()) {
        Ok(engine) => engine,
        Err(error) => {
            note(Err(error));
            return outcome;
        }
    };
    let mut missing = false;
    match engine.snapshot() {
        Err(error) => note(Err(error)),
        Ok(snapshot) => {
            for (table, key) in keys {
                note(snapshot.get(Table(*table), key).map(|found| match found {
                    None => missing = true,
                    Some(value) => {
                        assert_eq!(Some(value), twin.get(*table, key), "{context}: wrong data");
                    }
                }));
            }
            for table in 0..2 {
                for reverse in [false, true] {
                    let found = scan(&*snapshot, table, &[], None, reverse, usize::MAX);
                    note(found.map(|found| {
                        let expected = twin.scan(table, &[], None, reverse);
                        missing |= found.len() < expected.len();
                        for (key, value) in found {
                            assert_eq!(Some(value), twin.get(table, &key), "{context}: wrong data");
                        }
                    }));
                }
            }
        }
    }
    if missing && !outcome.named {
        outcome.missing = true;
        let found = engine.verify();
        assert!(
            found.is_err(),
            "{context}: entries are missing and nothing tells"
        );
    }
    // Closing may meet the damage once more.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(engine)));
    outcome
}

#[test]
pub(crate) fn a_flipped_bit_is_never_served() {
    let (disk, twin, keys) = written();
    let content = disk.content();
    let mut random = Random(2);
    let (mut named, mut missing, mut harmless) = (0, 0, 0);
    let used: Vec<usize> = (0..content.len()).filter(|&at| content[at] != 0).collect();
    for round in 0..400 {
        let byte = used[random.below(used.len())];
        let bit = byte as u64 * 8 + random.next() % 8;
        let copy = disk.copy();
        assert!(copy.flip_bit(bit));
        let outcome = read_all(&copy, &twin, &keys, &format!("round {round}, bit {bit}"));
        match outcome {
            Outcome { named: true, .. } => named += 1,
            Outcome { missing: true, .. } => missing += 1,
            _ => harmless += 1,
        }
    }
    assert!(
        named > 100,
        "{named} named, {missing} missing, {harmless} harmless"
    );
}

/// Whatever `verify` repairs on the way, it does not call a store whole that has lost something.
#[test]
pub(crate) fn what_verifies_holds_everything() {
    let (disk, twin, _) = written();
    let content = disk.content();
    let mut random = Random(3);
    let used: Vec<usize> = (0..content.len()).filter(|&at| content[at] != 0).collect();
    let (mut whole, mut damaged) = (0, 0_u32);
    for round in 0..400 {
        let byte = used[random.below(used.len())];
        let copy = disk.copy();
        assert!(copy.flip_bit(byte as u64 * 8 + random.next() % 8));
        let Ok(engine) = RedbEngine::open_disk(&copy, &options()) else {
            // redb walks the tree when it opens a file in a build with debug assertions.
            damaged += u32::from(is_sealed());
            continue;
        };
        // Whatever this finds, it does not panic.
        if let Ok(snapshot) = engine.snapshot() {
            for table in 0..2 {
                drop(scan(&*snapshot, table, &[], None, false, usize::MAX));
            }
        }
        match engine.verify() {
            Ok(_) => {
                whole += 1;
                twin.check(&*engine.snapshot().unwrap(), &format!("round {round}"));
            }
            Err(_) => damaged += 1,
        }
        let _ = catch_unwind(AssertUnwindSafe(move || drop(engine)));
    }
    assert!(
        whole > 20 && damaged > 100,
        "{whole} whole, {damaged} damaged"
    );
}

#[test]
pub(crate) fn a_cut_file_is_named() {
    let (disk, twin, keys) = written();
    let length = disk.content().len();
    for cut in [1, 100, 4096, length / 2, length - 4096, length - 1] {
        let copy = disk.copy();
        copy.truncate(cut);
        let outcome = read_all(&copy, &twin, &keys, &format!("cut at {cut}"));
        assert!(outcome.named, "cut at {cut}");
    }
    let garbage = FaultDisk::default();
    redb_free_garbage(&garbage);
    let error = RedbEngine::open_disk(&garbage, &options()).unwrap_err();
    assert!(matches!(error, KvError::CorruptFile { .. }), "{error}");
}

/// Turns every bit of a valid file's first page around.
fn redb_free_garbage(disk: &FaultDisk) {
    drop(RedbEngine::open_disk(disk, &options()).unwrap());
    for bit in 0..4096 * 8 {
        assert!(disk.flip_bit(bit));
    }
}

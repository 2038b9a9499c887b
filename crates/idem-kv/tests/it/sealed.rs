//! Encrypted engines: the suites of plain ones on them, and what only they promise.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idem_kv::{
    Batch, DiskFault, Durability, Engine, FaultDisk, KvError, RedbEngine, RedbOptions, Table,
};
use idem_vault::{Cipher, Purpose, Vault};

use crate::{
    conformance, crash, fault, flip,
    support::{Random, Twin, sealed},
};

#[test]
fn conforms() {
    sealed(conformance::redb_engine);
}

#[test]
fn conforms_in_a_file() {
    sealed(conformance::redb_engine_in_a_file);
}

#[test]
fn conforms_below_an_overlay() {
    sealed(conformance::overlay_over_redb);
}

#[test]
fn crashes_at_every_write() {
    sealed(crash::a_crash_at_every_write_leaves_a_prefix_with_all_acknowledged_flushes);
}

#[test]
fn crashes_at_every_sync() {
    sealed(crash::a_crash_at_every_sync_leaves_a_prefix_with_all_acknowledged_flushes);
}

#[test]
fn flips() {
    sealed(flip::a_flipped_bit_is_never_served);
}

#[test]
fn flips_and_verify() {
    sealed(flip::what_verifies_holds_everything);
}

#[test]
fn cuts() {
    sealed(flip::a_cut_file_is_named);
}

#[test]
fn full_disks() {
    sealed(fault::a_full_disk_says_how_much_and_keeps_earlier_data);
}

#[test]
fn failed_syncs() {
    sealed(fault::a_failed_sync_closes_the_engine_until_it_is_reopened);
}

#[test]
fn relaxed_commits() {
    sealed(fault::relaxed_commits_are_lost_with_the_process_until_a_sync);
}

fn with(cipher: &Cipher) -> RedbOptions {
    let mut options = RedbOptions::default();
    options.cipher = Some(cipher.clone());
    // Nothing is read twice from memory.
    options.cache_bytes = 0;
    options
}

/// An engine with content that is easy to find.
fn written(cipher: &Cipher, rounds: usize) -> (FaultDisk, Twin) {
    let disk = FaultDisk::default();
    let engine = RedbEngine::open_disk(&disk, &with(cipher)).unwrap();
    let mut twin = Twin::default();
    for round in 0..rounds {
        let mut batch = Batch::new();
        for number in 0..40 {
            let key = format!("KEYMARKER {} of {round}", number * 7919);
            batch.put(
                Table(0),
                key.as_bytes(),
                "VALUEMARKER ".repeat(number).as_bytes(),
            );
        }
        engine.commit(&batch, Durability::Durable).unwrap();
        twin.commit(&batch);
    }
    (disk, twin)
}

#[test]
fn nothing_of_it_is_on_disk_and_another_key_opens_nothing() {
    let cipher = Vault::in_memory().unwrap().cipher(Purpose::Engine).unwrap();
    let (disk, twin) = written(&cipher, 10);
    let content = disk.content();
    for marker in [&b"MARKER"[..], b"redb", b"overlay"] {
        assert!(!content.windows(marker.len()).any(|it| it == marker));
    }
    let other = Vault::in_memory().unwrap().cipher(Purpose::Engine).unwrap();
    for wrong in [with(&other), RedbOptions::default()] {
        let error = RedbEngine::open_disk(&disk.copy(), &wrong).unwrap_err();
        assert!(matches!(error, KvError::CorruptFile { .. }), "{error}");
        assert!(!error.to_string().contains("MARKER"));
    }
    let engine = RedbEngine::open_disk(&disk, &with(&cipher)).unwrap();
    twin.check(&*engine.snapshot().unwrap(), "with the key");
    // And a plain one does not open with a key.
    let plain = FaultDisk::default();
    drop(RedbEngine::open_disk(&plain, &RedbOptions::default()).unwrap());
    RedbEngine::open_disk(&plain, &with(&cipher)).unwrap_err();
}

/// What may come of a disk that somebody changed: the twin's content, or an error.
fn is_refused(disk: &FaultDisk, cipher: &Cipher, twin: &Twin, context: &str) -> bool {
    let Ok(engine) = RedbEngine::open_disk(disk, &with(cipher)) else {
        return true;
    };
    let found = engine.verify().is_err() || {
        let snapshot = engine.snapshot().unwrap();
        twin.check(&*snapshot, context);
        false
    };
    let _ = catch_unwind(AssertUnwindSafe(move || drop(engine)));
    found
}

/// Where the second sector lies, and how far they are apart.
const DATA_START: usize = 5 * 4096;
const SEALED: usize = 4096 + 44;

#[test]
fn sectors_that_somebody_blanked_or_moved_are_refused() {
    let cipher = Vault::in_memory().unwrap().cipher(Purpose::Engine).unwrap();
    let (disk, twin) = written(&cipher, 10);
    let content = disk.content();
    let sectors = (content.len() - DATA_START) / SEALED;
    let used: Vec<usize> = (0..sectors)
        .filter(|sector| content[DATA_START + sector * SEALED..][..44] != [0; 44])
        .collect();
    assert!(used.len() > 40, "{used:?}");
    let put = |disk: &FaultDisk, sector: usize, bytes: &[u8]| {
        redb::StorageBackend::write(disk, (DATA_START + sector * SEALED) as u64, bytes).unwrap();
        redb::StorageBackend::sync_data(disk).unwrap();
    };
    let (mut blanked, mut moved) = (0, 0);
    for (index, &sector) in used.iter().enumerate() {
        let copy = disk.copy();
        put(&copy, sector, &[0; SEALED]);
        blanked += usize::from(is_refused(
            &copy,
            &cipher,
            &twin,
            &format!("blank {sector}"),
        ));
        let copy = disk.copy();
        let other = used[(index + 1) % used.len()];
        put(
            &copy,
            sector,
            &content[DATA_START + other * SEALED..][..SEALED],
        );
        moved += usize::from(is_refused(&copy, &cipher, &twin, &format!("move {sector}")));
    }
    // The others are free pages.
    assert!(
        blanked > 10 && moved == blanked,
        "{blanked} {moved} of {}",
        used.len()
    );
}

/// Every byte of the head and of both copies of the first page.
#[test]
fn the_first_page_survives_the_loss_of_either_copy() {
    let cipher = Vault::in_memory().unwrap().cipher(Purpose::Engine).unwrap();
    let (disk, twin) = written(&cipher, 3);
    for byte in (0..DATA_START).step_by(7) {
        let copy = disk.copy();
        assert!(copy.flip_bit(byte as u64 * 8 + 3));
        let refused = is_refused(&copy, &cipher, &twin, &format!("byte {byte}"));
        // Only the head has no copy.
        assert_eq!(refused, byte < 32, "byte {byte}");
    }
    let copy = disk.copy();
    for byte in [5000, 3 * 4096 + 500] {
        assert!(copy.flip_bit(byte * 8));
    }
    assert!(is_refused(&copy, &cipher, &twin, "both copies"));
}

/// Rewrites all sectors, as far as the disks let it.
fn rekey(engine: &RedbEngine) -> Result<(), KvError> {
    let mut from = 0;
    loop {
        let progress = engine.rekey(from)?;
        if progress.is_complete() {
            return Ok(());
        }
        assert!(progress.done > from);
        from = progress.done;
    }
}

#[test]
fn a_crash_at_every_step_of_a_rotation_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let key = idem_vault::StoreKey::from_bytes([1; 32]);
    let vault = Vault::create(directory.path(), &key).unwrap();
    let before = vault.cipher(Purpose::Engine).unwrap();
    let (disk, twin) = written(&before, 8);
    vault.begin_rotation().unwrap();
    let both = vault.cipher(Purpose::Engine).unwrap();
    assert!(vault.retire(2).unwrap());
    let only_new = Vault::open(directory.path(), &key).unwrap();
    let only_new = only_new.cipher(Purpose::Engine).unwrap();
    let mut random = Random(5);
    let mut strikes = 0;
    // Faults of the engine's file and of the one beside it.
    for on_journal in [false, true] {
        for nth in 1.. {
            let (data, journal) = (disk.copy(), FaultDisk::default());
            let engine = RedbEngine::open_disks(&data, &journal, &with(&both)).unwrap();
            let struck = if on_journal { &journal } else { &data };
            let fault = match nth % 2 {
                0 => DiskFault::Sync(struck.syncs() + nth / 2),
                _ => DiskFault::Write {
                    nth: struck.writes() + nth / 2 + 1,
                    bytes: random.below(5000),
                },
            };
            struck.inject(fault);
            let done = rekey(&engine);
            let has_failed = struck.has_failed();
            let _ = catch_unwind(AssertUnwindSafe(move || drop(engine)));
            if !has_failed {
                done.unwrap();
                if nth % 2 == 1 {
                    break;
                }
                continue;
            }
            strikes += 1;
            data.heal();
            journal.heal();
            data.crash(nth);
            journal.crash(nth + 1);
            let context = format!("{fault:?} {on_journal}");
            let engine = RedbEngine::open_disks(&data, &journal, &with(&both)).expect(&context);
            twin.check(&*engine.snapshot().unwrap(), &context);
            // It goes on from there, and then the older key is needed no more.
            rekey(&engine).expect(&context);
            assert_eq!(engine.stale_sectors().unwrap(), 0, "{context}");
            drop(engine);
            let engine = RedbEngine::open_disks(&data, &journal, &with(&only_new)).expect(&context);
            twin.check(&*engine.snapshot().unwrap(), &context);
            engine.verify().unwrap();
        }
    }
    assert!(strikes > 6, "only {strikes}");
}

#[test]
fn writers_and_readers_go_on_during_a_rotation() {
    let vault = Vault::in_memory().unwrap();
    let cipher = vault.cipher(Purpose::Engine).unwrap();
    let (disk, mut twin) = written(&cipher, 40);
    let engine = RedbEngine::open_disk(&disk, &with(&cipher)).unwrap();
    assert_eq!(engine.stale_sectors().unwrap(), 0);
    vault.begin_rotation().unwrap();
    assert!(engine.stale_sectors().unwrap() > 100);
    let mut random = Random(9);
    let batches: Vec<Batch> = (0..30).map(|_| random.batch()).collect();
    batches.iter().for_each(|batch| twin.commit(batch));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for batch in &batches {
                engine.commit(batch, Durability::Durable).unwrap();
                engine.verify().unwrap();
            }
        });
        rekey(&engine).unwrap();
        writing.join().unwrap();
    });
    assert_eq!(engine.stale_sectors().unwrap(), 0);
    twin.check(&*engine.snapshot().unwrap(), "afterwards");
}

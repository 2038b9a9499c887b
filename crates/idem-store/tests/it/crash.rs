//! Power loss, failing and full disks, damaged files.

use std::{collections::BTreeMap, panic};

use idem_kv::EngineFault;
use idem_log::Fault;
use idem_model::Object;
use idem_store::{Durability, SimulatedDisk, Store, StoreConfig, StoreError, TransactionOptions};

use crate::fixture::{
    Random, TestClock, assert_sound, chain, documents, is_poisoned, object, run, run_with,
};

fn open(disk: &SimulatedDisk, seed: u64) -> Store {
    let config = StoreConfig::simulated(disk.clone())
        .clock(TestClock::at(5_000).clock())
        .entropy_seed(seed);
    Store::open(config).unwrap()
}

/// How many commits a run tries; some checkpoints lie between them.
const COMMITS: u64 = 12;

/// What a run of commits left behind: each commit writes its number into both of its documents.
#[derive(Default)]
struct Run {
    acknowledged: u64,
    tried: u64,
}

/// Commits until something fails, with checkpoints in between.
fn commit_until_failure(store: &Store, random: &mut Random, limit: u64) -> Run {
    let mut run = Run::default();
    while run.tried < limit {
        run.tried += 1;
        let mut commit = || -> Result<(), StoreError> {
            let mut transaction = store.begin(TransactionOptions::new())?;
            for id in ["x", "y"] {
                let text =
                    "INSERT INTO t DOCUMENTS ({'_id': :id, 'n': :n}) ON ID CONFLICT DO UPDATE";
                let n = run.tried;
                transaction.execute(text, object(&format!("{{\"id\": \"{id}\", \"n\": {n}}}")))?;
            }
            let text =
                "INSERT INTO log DOCUMENTS ({'_id': :n, 'pad': :pad}) ON ID CONFLICT DO UPDATE";
            let pad = "p".repeat(usize::try_from(random.below(3000)).unwrap());
            let args = format!("{{\"n\": {}, \"pad\": \"{pad}\"}}", run.tried);
            transaction.execute(text, object(&args))?;
            transaction.commit()?;
            Ok(())
        };
        if commit().is_err() {
            return run;
        }
        run.acknowledged = run.tried;
        if random.is(15) && store.checkpoint().is_err() {
            return run;
        }
    }
    run
}

fn check_after(store: &Store, run: &Run, what: &str) {
    let found: BTreeMap<String, Object> = documents(store, "t");
    let numbers: Vec<u64> = found
        .values()
        .map(|fields| u64::try_from(fields["n"].as_int().unwrap()).unwrap())
        .collect();
    let kept = match numbers[..] {
        [] => 0,
        [x, y] => {
            assert_eq!(x, y, "{what}: a transaction by half");
            x
        }
        _ => panic!("{what}: {numbers:?}"),
    };
    // The commit under way may have made it to the disk without having been acknowledged.
    assert!(
        (run.acknowledged..=run.tried).contains(&kept),
        "{what}: {kept} is kept, {} was acknowledged, {} tried",
        run.acknowledged,
        run.tried
    );
    let logged = documents(store, "log");
    assert_eq!(logged.len() as u64, kept, "{what}");
    assert_sound(store);
}

#[test]
fn power_loss_at_every_write_loses_nothing_acknowledged() {
    let total = {
        let disk = SimulatedDisk::new();
        let store = open(&disk, 7);
        commit_until_failure(&store, &mut Random(7), COMMITS);
        disk.log().writes() + disk.log().syncs()
    };
    assert!(total > 20, "the run writes: {total}");
    for at in 1..=total {
        for fault in [
            Fault::Write(at),
            Fault::Sync(at),
            Fault::TornWrite {
                nth: at,
                bytes: 100,
            },
        ] {
            let what = format!("{fault:?}");
            let disk = SimulatedDisk::new();
            let config = StoreConfig::simulated(disk.clone())
                .clock(TestClock::at(5_000).clock())
                .entropy_seed(7);
            disk.log().inject(fault);
            let done = match Store::open(config) {
                Ok(store) => commit_until_failure(&store, &mut Random(7), COMMITS),
                // The very first writes make the log.
                Err(_) => Run::default(),
            };
            disk.log().heal();
            disk.crash(at);
            let store = open(&disk, 8);
            check_after(&store, &done, &what);
            // Life goes on, with numbers that were not given before.
            run(&store, "INSERT INTO more DOCUMENTS ({'_id': 1})");
            let more = commit_until_failure(&store, &mut Random(at), 2);
            assert_eq!(more.acknowledged, 2, "{what}");
            assert_sound(&store);
        }
    }
}

#[test]
fn a_killed_process_loses_no_relaxed_commit() {
    let disk = SimulatedDisk::new();
    let config = StoreConfig::simulated(disk.clone()).durability(Durability::Relaxed);
    let store = Store::open(config.clone()).unwrap();
    let run = commit_until_failure(&store, &mut Random(1), 30);
    drop(store);
    check_after(&Store::open(config).unwrap(), &run, "kill");
}

#[test]
fn a_failed_sync_poisons_until_reopened() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    disk.log().inject(Fault::Sync(disk.log().syncs() + 1));
    let error = store
        .execute("INSERT INTO t DOCUMENTS ({'_id': 2})", Object::new())
        .unwrap_err();
    assert!(matches!(error, StoreError::Log(_)), "{error:?}");
    disk.log().heal();
    for text in ["INSERT INTO t DOCUMENTS ({'_id': 3})", "SELECT * FROM t"] {
        let error = store.execute(text, Object::new()).unwrap_err();
        assert!(is_poisoned(&error), "{text}: {error:?}");
        assert!(error.to_string().contains("syncing the log"), "{error}");
    }
    drop(store);
    disk.crash(3);
    let store = open(&disk, 2);
    assert!(documents(&store, "t").contains_key("1"));
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 4})");
    assert_sound(&store);
}

#[test]
fn a_full_disk_refuses_the_commit_and_keeps_the_rest() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'kept', 'v': 1})");
    // No segment can grow any more.
    disk.log().inject(Fault::DiskBytes(0));
    let pad = "x".repeat(100_000);
    let mut refused = None;
    for number in 0..1000 {
        let args = object(&format!("{{\"n\": {number}, \"pad\": \"{pad}\"}}"));
        let text = "INSERT INTO big DOCUMENTS ({'_id': :n, 'pad': :pad})";
        if let Err(error) = store.execute(text, args) {
            refused = Some((number, error));
            break;
        }
    }
    let (number, error) = refused.expect("the disk is full at some point");
    let StoreError::DiskFull { needed_bytes } = error else {
        panic!("{}", chain(&error));
    };
    assert!(needed_bytes >= 100_000, "{needed_bytes}");
    // Reading goes on, and so does writing once there is room.
    assert_eq!(documents(&store, "big").len(), number);
    assert!(documents(&store, "t").contains_key("\"kept\""));
    disk.log().heal();
    run_with(
        &store,
        "INSERT INTO big DOCUMENTS ({'_id': 'later', 'pad': :pad})",
        &format!("{{\"pad\": \"{pad}\"}}"),
    );
    drop(store);
    let store = open(&disk, 2);
    assert_eq!(documents(&store, "big").len(), number + 1);
    assert_sound(&store);
}

#[test]
fn a_failing_engine_loses_nothing() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    for fault in [
        EngineFault::Commit(disk.engine().commits() + 1),
        EngineFault::Full(disk.engine().commits() + 2),
    ] {
        disk.engine().inject(fault);
        let error = store.checkpoint().unwrap_err();
        if matches!(fault, EngineFault::Full(_)) {
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        }
        run(&store, "INSERT INTO t DOCUMENTS ({}) ");
    }
    disk.engine().heal();
    drop(store);
    let store = open(&disk, 1);
    assert_eq!(documents(&store, "t").len(), 3);
    store.checkpoint().unwrap();
    assert_eq!(documents(&store, "t").len(), 3);
    assert_sound(&store);
}

#[test]
fn a_damaged_value_is_named_and_never_served() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 'one', 'v': 1})");
    store.checkpoint().unwrap();
    drop(store);
    let store = open(&disk, 1);
    drop(store);
    // Whichever value of the engine is damaged, at the opening or in a query: what is read is right,
    // or an error.
    let mut damaged = 0;
    for nth in 1..40 {
        let copy = disk.copy();
        copy.engine().inject(EngineFault::Read(nth));
        let read = Store::open(StoreConfig::simulated(copy).entropy_seed(1))
            .map_err(|error| chain(&error))
            .and_then(|store| {
                store
                    .execute("SELECT * FROM t", Object::new())
                    .map_err(|error| chain(&error))
            });
        match read {
            Ok(result) => assert_eq!(result.items[0]["v"].as_int(), Some(1)),
            Err(error) => {
                damaged += 1;
                assert!(error.contains("checksum"), "{error}");
            }
        }
    }
    assert!(damaged > 3, "{damaged}");
}

#[test]
fn a_flipped_bit_in_the_log_is_named() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, 1);
    for number in 0..20 {
        run(
            &store,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}}})"),
        );
    }
    drop(store);
    let files = disk.files().files();
    let (name, _) = files.iter().find(|(_, size)| *size > 0).unwrap();
    let mut named = 0;
    for bit in (0..8 * 12_000).step_by(997) {
        let copy = disk.copy();
        assert!(copy.files().flip_bit(name, bit));
        match Store::open(StoreConfig::simulated(copy.clone()).entropy_seed(1)) {
            Err(error) => {
                named += 1;
                assert!(chain(&error).contains(name), "{}", chain(&error));
            }
            // A bit behind the last frame is nobody's. Damage to the very last frame looks like a write
            // that was cut off, since nothing behind it proves that it was complete.
            Ok(store) => {
                let found = documents(&store, "t");
                assert!(found.len() >= 19, "bit {bit}: {}", found.len());
                assert_sound(&store);
            }
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn a_panic_inside_a_transaction_rolls_back() {
    let store = crate::fixture::memory();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let mut transaction = store.begin(TransactionOptions::new()).unwrap();
        transaction
            .execute("INSERT INTO t DOCUMENTS ({'_id': 1})", Object::new())
            .unwrap();
        panic!("the app's own");
    }));
    assert!(result.is_err());
    assert!(documents(&store, "t").is_empty());
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 2})");
}

//! Opening: the lock, copies and restores, versions, what cannot be opened.

use std::{fs, path::Path};

use idem_store::{OpenError, SimulatedDisk, Store, StoreConfig};

use crate::fixture::{assert_sound, chain, documents, run, send};

fn open(path: &Path) -> Result<Store, OpenError> {
    Store::open(StoreConfig::directory(path))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_store_keeps_its_life_from_opening_to_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/by/opening");
    let mut actor = None;
    for number in 1..=4 {
        let store = open(&path).unwrap();
        assert_eq!(*actor.get_or_insert(store.actor()), store.actor());
        assert_eq!(documents(&store, "t").len(), number - 1);
        run(&store, "INSERT INTO t DOCUMENTS ({})");
        let statistics = store.statistics().unwrap();
        assert!(statistics.disk_bytes > 0);
        assert_eq!(statistics.documents, number as u64);
        match number {
            1 => store.close().unwrap(),
            2 => store.checkpoint().unwrap(),
            _ => {}
        }
    }
    assert_sound(&open(&path).unwrap());
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let error = open(directory.path()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
    drop(store);
    open(directory.path()).unwrap();
}

#[test]
fn what_is_no_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "text").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::NotADirectory { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("file"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_directory_is_named() {
    // Nobody, not even root, makes a directory there.
    let error = open(Path::new("/proc/idem-store")).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
    assert!(
        chain(&error).contains("/proc/idem-store"),
        "{}",
        chain(&error)
    );
}

#[test]
fn a_copy_takes_a_new_actor_and_both_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (path, copied) = (directory.path().join("a"), directory.path().join("b"));
    let original = open(&path).unwrap();
    run(&original, "INSERT INTO t DOCUMENTS ({'_id': 1, 'v': 1})");
    let actor = original.actor();
    original.close().unwrap();
    drop(original);
    copy(&path, &copied);

    let original = open(&path).unwrap();
    let copy = open(&copied).unwrap();
    assert_eq!(original.actor(), actor);
    assert_ne!(copy.actor(), actor);
    // The same number of commits on both, to the same document: one dot for two would lose one.
    run(&original, "UPDATE t SET a = 1 WHERE _id = 1");
    run(&copy, "UPDATE t SET b = 2 WHERE _id = 1");
    send(&original, &copy, "t", 0, usize::MAX);
    send(&copy, &original, "t", 0, usize::MAX);
    assert_eq!(original.digest().unwrap(), copy.digest().unwrap());
    let merged = &documents(&original, "t")["1"];
    assert!(
        merged.contains_key("a") && merged.contains_key("b"),
        "{merged:?}"
    );

    // The copy's own life goes on when it is opened again.
    let actor = copy.actor();
    drop(copy);
    assert_eq!(open(&copied).unwrap().actor(), actor);
}

#[test]
fn a_restore_in_place_takes_a_new_actor() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("a"), directory.path().join("b"));
    let store = open(&path).unwrap();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    let actor = store.actor();
    drop(store);
    copy(&path, &backup);
    let store = open(&path).unwrap();
    assert_eq!(store.actor(), actor);
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    drop(store);
    copy(&backup, &path);
    let store = open(&path).unwrap();
    assert_ne!(
        store.actor(),
        actor,
        "commit 2 may have been seen by others"
    );
    assert_eq!(documents(&store, "t").len(), 1);
}

#[test]
fn parts_of_different_times_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("a"), directory.path().join("b"));
    let store = open(&path).unwrap();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    store.close().unwrap();
    drop(store);
    copy(&path, &backup);
    let store = open(&path).unwrap();
    let actor = store.actor();
    for number in 2..200 {
        let pad = "x".repeat(100_000);
        let text = format!("INSERT INTO t DOCUMENTS ({{'_id': {number}, 'pad': '{pad}'}})");
        run(&store, &text);
        if number % 50 == 0 {
            store.checkpoint().unwrap();
        }
    }
    store.close().unwrap();
    drop(store);

    // An engine from before beside a log that has been trimmed since.
    let mixed = directory.path().join("older-engine");
    copy(&path, &mixed);
    fs::copy(backup.join("idem.redb"), mixed.join("idem.redb")).unwrap();
    let error = open(&mixed).unwrap_err();
    assert!(
        matches!(error, OpenError::Mismatched { .. }),
        "{}",
        chain(&error)
    );

    // A log from before beside a later engine.
    let mixed = directory.path().join("older-log");
    copy(&path, &mixed);
    fs::remove_dir_all(mixed.join("log")).unwrap();
    copy(&backup.join("log"), &mixed.join("log"));
    let error = open(&mixed).unwrap_err();
    assert!(
        matches!(error, OpenError::Mismatched { .. }),
        "{}",
        chain(&error)
    );

    // No log at all: what the engine holds is whole, but a number may have been given that it lacks.
    let mixed = directory.path().join("no-log");
    copy(&path, &mixed);
    fs::remove_dir_all(mixed.join("log")).unwrap();
    let store = open(&mixed).unwrap();
    assert_ne!(store.actor(), actor);
    assert_eq!(documents(&store, "t").len(), 199);
    run(&store, "INSERT INTO t DOCUMENTS ({})");
    drop(store);
    assert_eq!(documents(&open(&mixed).unwrap(), "t").len(), 200);
}

#[test]
fn a_log_of_another_branch_is_told_apart() {
    let open = |disk: &SimulatedDisk| Store::open(StoreConfig::simulated(disk.clone()));
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    run(&store, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    drop(store);
    // Both branches write frames of the same lengths, so that the positions fit.
    let branch = disk.copy();
    let stores = [open(&disk.copy()).unwrap(), open(&branch).unwrap()];
    for store in &stores {
        run(store, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    }
    stores[1].checkpoint().unwrap();
    assert_ne!(stores[0].actor(), stores[1].actor());
}

#[test]
fn a_newer_format_is_refused() {
    let disk = SimulatedDisk::new();
    drop(Store::open(StoreConfig::simulated(disk.clone())).unwrap());
    let store = Store::open(StoreConfig::simulated(disk.clone())).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let mut batch = idem_kv::Batch::new();
    batch.put(idem_kv::Table(4), b"v", &2u32.to_be_bytes());
    idem_kv::Engine::commit(disk.engine(), &batch, idem_kv::Durability::Durable).unwrap();
    let error = Store::open(StoreConfig::simulated(disk)).unwrap_err();
    let OpenError::NewerFormat { found, supported } = error else {
        panic!("{error:?}");
    };
    assert_eq!((found, supported), (2, 1));
}

#[test]
fn a_damaged_engine_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for number in 0..500 {
        run(
            &store,
            &format!("INSERT INTO t DOCUMENTS ({{'_id': {number}, 'v': 'some text'}})"),
        );
    }
    let digest = store.digest().unwrap();
    store.close().unwrap();
    drop(store);
    let file = directory.path().join("idem.redb");
    let whole = fs::read(&file).unwrap();
    let mut detected = 0;
    for flip in 0..12 {
        let mut bytes = whole.clone();
        let at = (flip * 7919 + 4096 * 2) * 31 % bytes.len();
        bytes[at] ^= 1 << (flip % 8);
        fs::write(&file, &bytes).unwrap();
        // Whatever is read is either right or an error; which, depends on what the bit was for.
        let read = open(directory.path())
            .map_err(|error| chain(&error))
            .and_then(|store| store.digest().map_err(|error| chain(&error)));
        match read {
            Ok(read) => assert_eq!(read, digest, "flip at {at}"),
            Err(_) => detected += 1,
        }
        fs::write(&file, &whole).unwrap();
    }
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let cut = open(directory.path()).and_then(|store| Ok(store.digest()?));
    assert!(cut.is_err(), "a cut file cannot be read");
    println!("{detected} of 12 flips detected, the others hit nothing that is read");
}

//! Failing writes, failing syncs and full disks.

use idem_log::{Fault, FaultStorage, Log, LogError, LogOptions, MemoryStorage};

use crate::support::{open, options, replay};

#[test]
fn a_failed_sync_poisons_until_reopened_and_names_its_cause() {
    let disk = MemoryStorage::default();
    let storage = FaultStorage::wrap(disk.clone());
    let (log, _) = open(storage.clone()).unwrap();
    let first = log.append(b"first").unwrap();
    log.sync_to(first).unwrap();

    storage.inject(Fault::Sync(storage.syncs() + 1));
    let second = log.append(b"second").unwrap();
    let error = log.sync_to(second).unwrap_err();
    assert!(
        matches!(
            &error,
            LogError::Io {
                operation: "sync",
                ..
            }
        ),
        "{error}"
    );
    storage.heal();

    let check = |error: LogError| {
        let LogError::Poisoned {
            operation: "sync",
            file,
            source,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(file, "segment-00000001");
        assert_eq!(source.to_string(), "injected sync fault");
    };
    check(log.append(b"third").unwrap_err());
    check(log.sync_to(second).unwrap_err());
    check(log.flush_to_os(second).unwrap_err());
    check(log.read(0, |_, _| unreachable!()).unwrap_err());
    check(log.prepare().unwrap_err());
    assert_eq!(log.durable(), first);
    log.sync_to(first)
        .expect("what was durable before is still so");

    disk.crash(1);
    let (log, _) = open(storage).unwrap();
    assert_eq!(replay(&log, 0).unwrap()[0], (first, b"first".to_vec()));
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again_on_reopening() {
    let disk = MemoryStorage::default();
    let storage = FaultStorage::wrap(disk.clone());
    let (log, _) = open(storage.clone()).unwrap();
    for payload in [&b"first"[..], b"second"] {
        let position = log.append(payload).unwrap();
        log.sync_to(position).unwrap();
    }
    storage.inject(Fault::Sync(storage.syncs() + 1));
    let third = log.append(b"third").unwrap();
    log.sync_to(third).unwrap_err();
    disk.forget_unsynced();

    let (log, recovery) = open(disk.clone()).unwrap();
    assert_eq!((recovery.end, log.durable()), (third, third));
    let fourth = log.append(b"fourth").unwrap();
    log.sync_to(fourth).unwrap();
    disk.crash(1);
    let (log, recovery) = open(disk).unwrap();
    assert_eq!((recovery.end, recovery.torn), (fourth, None));
    assert_eq!(replay(&log, 0).unwrap().len(), 4);
}

#[test]
fn a_failed_or_torn_write_poisons_and_is_cut_on_reopening() {
    for fault in [0, 4, 7, 16, 20] {
        let disk = MemoryStorage::default();
        let storage = FaultStorage::wrap(disk.clone());
        let (log, _) = open(storage.clone()).unwrap();
        let first = log.append(b"first").unwrap();
        log.sync_to(first).unwrap();
        storage.inject(Fault::TornWrite {
            nth: storage.writes() + 1,
            bytes: fault,
        });
        let second = log.append(b"second").unwrap();
        log.sync_to(second).unwrap_err();
        let poisoned = log.append(b"third").unwrap_err();
        assert!(
            matches!(
                poisoned,
                LogError::Poisoned {
                    operation: "write",
                    ..
                }
            ),
            "{poisoned}"
        );
        storage.heal();

        let (log, recovery) = open(storage).unwrap();
        assert_eq!(recovery.torn.is_some(), fault > 0);
        assert_eq!(recovery.end, first);
        assert_eq!(replay(&log, 0).unwrap(), [(first, b"first".to_vec())]);
    }
}

#[test]
fn all_that_wait_for_a_failing_sync_fail() {
    let storage = FaultStorage::wrap(MemoryStorage::default());
    let (log, _) = open(storage.clone()).unwrap();
    storage.inject(Fault::Sync(storage.syncs() + 1));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| log.append(b"x").and_then(|position| log.sync_to(position))))
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap_err();
        }
    });
    assert_eq!(log.durable(), 0);
}

#[test]
fn a_full_disk_refuses_the_frame_and_the_log_goes_on() {
    let storage = FaultStorage::wrap(MemoryStorage::default());
    storage.inject(Fault::DiskBytes(3 * 8192));
    let (log, _) = open(storage.clone()).unwrap();
    let mut written = Vec::new();
    let error = loop {
        match log.append(&[7; 1000]) {
            Ok(position) => written.push((position, vec![7; 1000])),
            Err(error) => break error,
        }
    };
    let LogError::Full { needed: 8192, .. } = &error else {
        panic!("{error}")
    };
    assert!(error.is_full());
    assert_eq!(written.len(), 12);

    // What fits into the rest of the segment still does.
    let small = log.append(b"small").unwrap();
    written.push((small, b"small".to_vec()));
    log.sync_to(small).unwrap();
    assert_eq!(replay(&log, 0).unwrap(), written);

    // A trim makes room, and so does a larger disk.
    log.trim(small).unwrap();
    let next = log.append(&[8; 1000]).unwrap();
    log.sync_to(next).unwrap();
    storage.heal();
    let large = log.append(&[9; 20_000]).unwrap();
    log.sync_to(large).unwrap();
    drop(log);
    let (log, recovery) = open(storage).unwrap();
    assert_eq!((recovery.end, recovery.torn), (large, None));
    assert_eq!(replay(&log, next).unwrap(), [(large, vec![9; 20_000])]);
}

#[test]
fn a_log_that_cannot_be_created_says_how_much_it_needs() {
    let storage = FaultStorage::wrap(MemoryStorage::default());
    storage.inject(Fault::DiskBytes(100));
    let error = Log::open(Box::new(storage.clone()), LogOptions::default()).unwrap_err();
    assert!(
        matches!(
            error,
            LogError::Full {
                needed: 262_144,
                ..
            }
        ),
        "{error}"
    );
    storage.heal();
    let (_, recovery) = Log::open(Box::new(storage), LogOptions::default()).unwrap();
    assert!(recovery.created);
}

#[test]
fn positions_outside_the_log_are_refused() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    let position = log.append(b"frame").unwrap();
    let error = log.read(position + 1, |_, _| unreachable!()).unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { .. }), "{error}");
    let inside = log.read(position - 1, |_, _| unreachable!()).unwrap_err();
    assert!(matches!(inside, LogError::Corrupt { .. }), "{inside}");
    log.sync_to(position).unwrap();
    drop(log);
    let ahead = Log::open(Box::new(storage), options().start(position + 1)).unwrap_err();
    assert!(matches!(ahead, LogError::OutOfRange { .. }), "{ahead}");
}

#[test]
fn a_log_can_begin_at_any_position() {
    let storage = MemoryStorage::default();
    let (log, recovery) = Log::open(Box::new(storage.clone()), options().start(1 << 40)).unwrap();
    assert_eq!((recovery.start, recovery.end), (1 << 40, 1 << 40));
    let position = log.append(b"frame").unwrap();
    assert_eq!(position, (1 << 40) + 16 + 5);
    log.sync_to(position).unwrap();
    drop(log);
    let (log, _) = open(storage).unwrap();
    assert_eq!(
        replay(&log, 1 << 40).unwrap(),
        [(position, b"frame".to_vec())]
    );
}

#[test]
fn a_frame_that_turns_bad_while_open_is_named_by_read() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    let first = log.append(&[1; 50]).unwrap();
    let second = log.append(&[2; 50]).unwrap();
    log.sync_to(second).unwrap();
    assert!(storage.flip_bit("segment-00000001", (4096 + first + 20) * 8));
    let mut seen = Vec::new();
    let error = log
        .read(0, |end, _| {
            seen.push(end);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap_err();
    let LogError::Corrupt { file, offset } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (file.as_str(), offset, seen),
        ("segment-00000001", 4096 + first, vec![first])
    );
}

#[test]
fn segments_are_used_again_in_place() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    let mut sizes = Vec::new();
    for round in 0..200_u8 {
        let position = log.append(&[round; 1000]).unwrap();
        log.sync_to(position).unwrap();
        log.trim(position).unwrap();
        sizes.push(storage.files().len());
        // What earlier uses left behind is not taken for the remains of a write.
        let (_, recovery) = open(storage.copy()).unwrap();
        assert_eq!((recovery.end, recovery.torn), (position, None));
    }
    assert_eq!(
        *sizes.last().unwrap(),
        2,
        "one that is filled, one that was"
    );
    assert!(log.start() > 190_000);
}

#[test]
fn spare_segments_beyond_the_cap_are_deleted_once_no_header_needs_them() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    let append_all = |count: u32| {
        let positions: Vec<_> = (0..count)
            .map(|_| log.append(&[1; 1000]).unwrap())
            .collect();
        positions[positions.len() - 1]
    };
    let position = append_all(40);
    log.sync_to(position).unwrap();
    assert_eq!(storage.files().len(), 10);
    log.trim(position).unwrap();
    // The newest header still calls them live: a crash now must not miss them.
    assert_eq!(storage.files().len(), 10);
    let position = append_all(4);
    log.sync_to(position).unwrap();
    log.trim(position).unwrap();
    // Three spare ones, and the one that is filled.
    assert_eq!(storage.files().len(), 4);
    let (log, recovery) = open(storage.copy()).unwrap();
    assert_eq!(recovery.torn, None);
    assert_eq!(recovery.end, position);
    assert!(replay(&log, recovery.start).is_ok());
}

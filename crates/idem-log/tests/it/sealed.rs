//! Encrypted logs: the suites of plain ones on them, and what only they promise.

use idem_log::{Log, LogError, MemoryStorage};
use idem_vault::{FRAME_OVERHEAD_BYTES, Purpose, Vault};

use crate::{
    model_crash, model_flip,
    support::{open, options, replay, sealed},
};

#[test]
fn crashes_at_every_write() {
    sealed(model_crash::a_crash_at_every_write_keeps_what_was_acknowledged);
}

#[test]
fn crashes_at_every_sync() {
    sealed(model_crash::a_crash_at_every_sync_keeps_what_was_acknowledged);
}

#[test]
fn many_lives() {
    sealed(model_crash::many_lives_with_crashes_between);
}

#[test]
fn every_flip() {
    sealed(model_flip::every_flip_is_named_or_harmless);
}

#[test]
fn a_missing_segment() {
    sealed(model_flip::a_missing_segment_is_named);
}

#[test]
fn no_payload_is_on_disk_and_another_key_reads_none() {
    let disk = MemoryStorage::default();
    let vault = Vault::in_memory().unwrap();
    let cipher = vault.cipher(Purpose::Log).unwrap();
    let with = || options().cipher(cipher.clone());
    let (log, _) = Log::open(Box::new(disk.clone()), with()).unwrap();
    let content = b"nobody shall read this";
    let end = log.append_parts(&[&content[..6], &content[6..]]).unwrap();
    assert_eq!(end, (16 + content.len() + FRAME_OVERHEAD_BYTES) as u64);
    log.sync_to(end).unwrap();
    drop(log);

    // Without the key the payload is what is on disk.
    let (raw, _) = open(disk.clone()).unwrap();
    let found = replay(&raw, 0).unwrap();
    for part in content.windows(4) {
        assert!(!found[0].1.windows(4).any(|it| it == part));
    }
    drop(raw);
    let other = Vault::in_memory().unwrap().cipher(Purpose::Log).unwrap();
    let (log, _) = Log::open(Box::new(disk.clone()), options().cipher(other)).unwrap();
    assert!(matches!(replay(&log, 0), Err(LogError::Corrupt { .. })));
    drop(log);
    let (log, _) = Log::open(Box::new(disk), with()).unwrap();
    assert_eq!(replay(&log, 0).unwrap(), [(end, content.to_vec())]);
}

/// Whoever can write to the disk can make checksums fit; he cannot move what is sealed.
#[test]
fn a_frame_that_somebody_moved_is_refused() {
    let vault = Vault::in_memory().unwrap();
    let cipher = vault.cipher(Purpose::Log).unwrap();
    let disk = MemoryStorage::default();
    let with = || options().cipher(cipher.clone());
    let (log, _) = Log::open(Box::new(disk.clone()), with()).unwrap();
    for payload in [b"one", b"two"] {
        log.append(payload).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let raw = replay(&open(disk).unwrap().0, 0).unwrap();
    let rewritten = |order: [usize; 2], id: u64| {
        let disk = MemoryStorage::default();
        let (log, _) = Log::open(Box::new(disk.clone()), options().id(id)).unwrap();
        for index in order {
            log.append(&raw[index].1).unwrap();
        }
        log.close().unwrap();
        drop(log);
        let (log, _) = Log::open(Box::new(disk), with()).unwrap();
        replay(&log, 0)
    };
    assert_eq!(rewritten([0, 1], 77).unwrap().len(), 2);
    for (order, id) in [([1, 0], 77), ([0, 0], 77), ([1, 1], 77), ([0, 1], 78)] {
        let found = rewritten(order, id);
        assert!(
            matches!(found, Err(LogError::Corrupt { .. })),
            "{order:?} {id}"
        );
    }
}

//! Flipped bits and cut files: found and named, or harmless; never served.

use std::fs;

use idem_log::{DirectoryStorage, LogError, MemoryStorage, Position};

use crate::support::{Random, open, replay};

type Frames = Vec<(Position, Vec<u8>)>;

/// A log of several segments, some of them used before, with every frame acknowledged.
fn written(seed: u64, closed: bool) -> (MemoryStorage, Frames, Position) {
    let mut random = Random(seed);
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    let mut frames = Frames::new();
    let mut trimmed = 0;
    for round in 0..60 {
        let payload = random.payload();
        let position = log.append(&payload).unwrap();
        log.sync_to(position).unwrap();
        frames.push((position, payload));
        if round == 30 {
            trimmed = position;
            log.trim(position).unwrap();
        }
    }
    if closed {
        log.close().unwrap();
    }
    frames.retain(|(end, _)| *end > trimmed);
    (storage, frames, trimmed)
}

/// Whether the damage was reported in any way. Panics if a wrong frame was served.
fn check_damaged(storage: MemoryStorage, frames: &Frames, from: Position, context: &str) -> bool {
    let found = open(storage).and_then(|(log, recovery)| {
        let found = replay(&log, from)?;
        Ok((found, recovery))
    });
    match found {
        Err(LogError::Corrupt { .. } | LogError::UnknownVersion { .. }) => true,
        // A log that lost its end does not reach where the engine says it was.
        Err(LogError::OutOfRange { .. }) => true,
        Err(other) => panic!("{context}: {other}"),
        Ok((found, recovery)) => {
            assert!(found.len() <= frames.len(), "{context}");
            assert_eq!(
                found[..],
                frames[..found.len()],
                "{context}: wrong data was served"
            );
            assert!(
                found.len() == frames.len() || recovery.torn.is_some(),
                "{context}: lost silently"
            );
            assert!(
                found.len() + 1 >= frames.len(),
                "{context}: more than the last frame was cut"
            );
            recovery.torn.is_some()
        }
    }
}

#[test]
pub(crate) fn every_flip_is_named_or_harmless() {
    let mut detected = 0;
    for seed in 0..4 {
        let closed = seed % 2 == 0;
        let (storage, frames, from) = written(seed, closed);
        let mut random = Random(seed + 1000);
        for (name, bytes) in storage.files() {
            let bits = (0..52 * 8)
                .chain((512 * 8)..(512 + 52) * 8)
                .chain((0..300).map(|_| (4096 + random.below(bytes - 4096)) * 8 + random.below(8)));
            for bit in bits.collect::<Vec<_>>() {
                let copy = storage.copy();
                assert!(copy.flip_bit(&name, bit));
                let context = format!("seed {seed}, {name}, bit {bit} of byte {}", bit / 8);
                detected += usize::from(check_damaged(copy, &frames, from, &context));
            }
        }
    }
    assert!(detected > 300, "only {detected} flips hit anything");
}

#[test]
pub(crate) fn after_a_close_every_flip_in_a_frame_is_an_error() {
    let storage = MemoryStorage::default();
    let (log, _) = open(storage.clone()).unwrap();
    for payload in [&b"one"[..], b"two", b"three"] {
        let position = log.append(payload).unwrap();
        log.sync_to(position).unwrap();
    }
    let end = log.end();
    log.close().unwrap();
    for bit in 0..end * 8 {
        let copy = storage.copy();
        assert!(copy.flip_bit("segment-00000001", 4096 * 8 + bit));
        let error = open(copy).unwrap_err();
        assert!(
            matches!(error, LogError::Corrupt { .. }),
            "bit {bit}: {error}"
        );
    }
}

#[test]
pub(crate) fn a_missing_segment_is_named() {
    let (storage, frames, from) = written(3, false);
    let mut errors = 0;
    for (name, _) in storage.files() {
        let copy = storage.copy();
        idem_log::LogStorage::delete(&copy, &name).unwrap();
        let opened = open(copy).and_then(|(log, _)| replay(&log, from));
        match opened {
            Ok(found) if found == frames => {}
            // The newest segment cannot be missed by what is left of the log, but by its owner, who
            // knows a position in it.
            Ok(found) => assert_eq!(found[..], frames[..found.len()]),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 2);
}

#[test]
pub(crate) fn a_cut_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (log, _) = open(DirectoryStorage::open(&path).unwrap()).unwrap();
    let mut end = 0;
    for payload in [[1; 3000], [2; 3000], [3; 3000]] {
        end = log.append(&payload).unwrap();
        log.sync_to(end).unwrap();
    }
    drop(log);
    let (log, recovery) = open(DirectoryStorage::open(&path).unwrap()).unwrap();
    assert_eq!((recovery.end, replay(&log, 0).unwrap().len()), (end, 3));
    drop(log);
    for name in ["segment-00000001", "segment-00000003"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        for length in [8191, 6000, 4096] {
            fs::write(&file, &whole[..length]).unwrap();
            let error = open(DirectoryStorage::open(&path).unwrap()).unwrap_err();
            let LogError::Corrupt {
                file: named,
                offset,
            } = error
            else {
                panic!("{error}")
            };
            assert_eq!((named.as_str(), offset), (name, length as u64));
        }
        fs::write(&file, &whole).unwrap();
    }
    // The rest of the directory is left alone.
    fs::write(path.join("notes.txt"), "mine").unwrap();
    open(DirectoryStorage::open(&path).unwrap()).unwrap();
    assert!(path.join("notes.txt").exists());
}

//! A log whose file was damaged: opening names the damage or gives frames that were written.

use std::{ops::ControlFlow, sync::Arc};

use idem_log::{Log, LogOptions, LogStorage, MemoryStorage};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "log_open",
    run,
    seeds: || vec![file_of(&[]), file_of(FRAMES), file_of(&FRAMES[..1])],
};

/// What the seeds hold; damage can lose frames at the end, and never makes another one.
const FRAMES: &[&[u8]] = &[b"", b"the first frame", b"second", &[7; 300]];

fn options() -> LogOptions {
    LogOptions::default().segment_bytes(8 << 10).id(1)
}

/// The only file of a log with these frames, without the room behind them.
fn file_of(frames: &[&[u8]]) -> Vec<u8> {
    let storage = MemoryStorage::default();
    let (log, _) = Log::open(Box::new(storage.clone()), options()).expect("a new log");
    for frame in frames {
        let position = log.append(frame).expect("memory has room");
        log.sync_to(position).expect("memory syncs");
    }
    drop(log);
    let name = storage.list().expect("memory lists").remove(0);
    let segment = storage.open(&name).expect("it was listed");
    let len = usize::try_from(segment.len().expect("memory")).expect("it is small");
    let mut bytes = vec![0; len];
    segment.read_at(0, &mut bytes).expect("within the file");
    bytes
}

fn run(data: &[u8]) -> Verdict {
    let storage = MemoryStorage::default();
    // The name that the log itself gives its first file.
    let (log, _) = Log::open(Box::new(storage.clone()), options()).expect("a new log");
    drop(log);
    let name = storage.list().expect("memory lists").remove(0);
    storage.delete(&name).expect("it was listed");
    let segment: Arc<dyn idem_log::Segment> = storage.create(&name).expect("the name is free");
    segment.write_at(0, data).expect("memory has room");
    segment.sync_data().expect("memory syncs");
    drop(segment);

    let Ok((log, _)) = Log::open(Box::new(storage.clone()), options()) else {
        return Verdict::Rejected;
    };
    let before = payloads(&log);
    for payload in &before {
        assert!(FRAMES.contains(&payload.as_slice()), "{payload:?}");
    }
    let position = log.append(b"after").expect("memory has room");
    log.sync_to(position).expect("memory syncs");
    drop(log);
    let (log, recovery) = Log::open(Box::new(storage), options()).expect("it was open before");
    assert_eq!(recovery.torn, None, "the log was repaired");
    let after = payloads(&log);
    assert_eq!(after.split_last(), Some((&b"after".to_vec(), &before[..])));
    Verdict::Accepted
}

fn payloads(log: &Log) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    log.read(log.start(), |_, payload| {
        payloads.push(payload.to_vec());
        ControlFlow::Continue(())
    })
    .expect("what was opened can be read");
    payloads
}

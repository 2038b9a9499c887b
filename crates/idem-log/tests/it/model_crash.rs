//! A log under random work and crashes at every write and sync, against a list of frames.

use idem_log::{Fault, FaultStorage, Log, MemoryStorage, Position};

use crate::support::{Random, open, replay};

/// What must be on disk, and what may be.
#[derive(Debug, Default)]
struct Twin {
    frames: Vec<(Position, Vec<u8>)>,
    acknowledged: Position,
    trimmed: Position,
}

impl Twin {
    /// Compares with a log that was reopened after a crash, and goes on from what survived.
    fn recover(&mut self, log: &Log, context: &str) {
        let from = self.trimmed.max(log.start());
        assert!(
            log.start() <= self.trimmed || self.trimmed == 0,
            "{context}"
        );
        let found = replay(log, from).expect(context);
        assert!(
            log.end() >= self.acknowledged,
            "{context}: acknowledged frames are lost"
        );
        let expected: Vec<_> = self
            .frames
            .iter()
            .filter(|(end, _)| *end > from)
            .cloned()
            .collect();
        assert!(
            found.len() <= expected.len(),
            "{context}: frames that were never appended"
        );
        assert_eq!(
            found[..],
            expected[..found.len()],
            "{context}: not a prefix"
        );
        let end = log.end();
        self.frames.retain(|(frame_end, _)| *frame_end <= end);
        self.acknowledged = end;
    }
}

/// One step of work. Fails when the injected fault strikes.
fn step(log: &Log, twin: &mut Twin, random: &mut Random) -> Result<(), idem_log::LogError> {
    match random.below(12) {
        0..6 => {
            let payload = random.payload();
            let position = log.append(&payload)?;
            twin.frames.push((position, payload));
        }
        6..9 => {
            let position = twin
                .frames
                .last()
                .map_or(0, |(end, _)| *end)
                .max(log.durable());
            log.sync_to(position)?;
            twin.acknowledged = position;
        }
        9 => log.flush_to_os(log.end())?,
        10 => {
            let before = random.below(log.durable() + 1).max(twin.trimmed);
            // A frame's end, so that a replay can begin there.
            let ends = twin
                .frames
                .iter()
                .map(|(end, _)| *end)
                .filter(|end| *end <= before);
            twin.trimmed = ends.max().unwrap_or(twin.trimmed).max(twin.trimmed);
            log.trim(twin.trimmed)?;
        }
        _ => log.prepare()?,
    }
    Ok(())
}

/// The fault, counted from now on.
fn later(fault: Fault, storage: &FaultStorage) -> Fault {
    match fault {
        Fault::Write(nth) => Fault::Write(storage.writes() + nth),
        Fault::TornWrite { nth, bytes } => Fault::TornWrite {
            nth: storage.writes() + nth,
            bytes,
        },
        Fault::Sync(nth) => Fault::Sync(storage.syncs() + nth),
        other => other,
    }
}

/// Works until the `nth` write or sync fails, loses power, and checks what is left; several times.
fn crash_at(seed: u64, faults: &[Fault]) -> bool {
    let mut random = Random(seed);
    let disk = MemoryStorage::default();
    let mut twin = Twin::default();
    let mut all_struck = true;
    for (life, &fault) in faults.iter().enumerate() {
        let context = format!("seed {seed}, life {life}, {fault:?} of {faults:?}");
        let storage = FaultStorage::wrap(disk.clone());
        let (log, _) = open(storage.clone()).expect(&context);
        twin.recover(&log, &context);
        storage.inject(later(fault, &storage));
        let struck = (0..120).any(|_| step(&log, &mut twin, &mut random).is_err());
        all_struck &= struck;
        disk.crash(seed ^ life as u64);
    }
    let (log, _) = open(disk.clone()).expect("after the last crash");
    twin.recover(&log, &format!("seed {seed}, {faults:?}"));
    // It must be possible to go on, and to find that again.
    let position = log.append(b"last").unwrap();
    log.sync_to(position).unwrap();
    twin.frames.push((position, b"last".to_vec()));
    twin.acknowledged = position;
    disk.crash(seed);
    let (log, recovery) = open(disk).expect("after going on");
    assert_eq!(recovery.end, position);
    twin.recover(&log, "after going on");
    all_struck
}

#[test]
pub(crate) fn a_crash_at_every_write_keeps_what_was_acknowledged() {
    for seed in 0..3 {
        let last = (1..)
            .find(|&nth| !crash_at(seed, &[Fault::Write(nth)]))
            .unwrap();
        assert!(last > 20, "only {last} writes");
        for nth in 1..last {
            for bytes in [4, 16, 60] {
                crash_at(seed, &[Fault::TornWrite { nth, bytes }]);
            }
        }
    }
}

#[test]
pub(crate) fn a_crash_at_every_sync_keeps_what_was_acknowledged() {
    for seed in 0..6 {
        let last = (1..)
            .find(|&nth| !crash_at(seed, &[Fault::Sync(nth)]))
            .unwrap();
        assert!(last > 10, "only {last} syncs");
    }
}

#[test]
pub(crate) fn many_lives_with_crashes_between() {
    for seed in 100..250 {
        let mut random = Random(seed);
        let faults: Vec<_> = (0..6)
            .map(|_| match random.below(3) {
                0 => Fault::Write(1 + random.below(40)),
                1 => Fault::Sync(1 + random.below(30)),
                _ => Fault::TornWrite {
                    nth: 1 + random.below(40),
                    bytes: usize::try_from(random.below(5000)).unwrap(),
                },
            })
            .collect();
        crash_at(seed, &faults);
    }
}

#[test]
pub(crate) fn a_frame_behind_a_lost_one_does_not_come_back_when_the_log_has_grown_to_it() {
    let mut met = 0;
    for seed in 0..40 {
        let disk = MemoryStorage::default();
        let (log, _) = open(disk.clone()).unwrap();
        // Two writes, of which a crash may keep the second alone.
        for payload in [&b"lost"[..], b"kept"] {
            let position = log.append(payload).unwrap();
            log.flush_to_os(position).unwrap();
        }
        disk.crash(seed);
        let (log, recovery) = open(disk.clone()).unwrap();
        met += usize::from(recovery.end == 0 && recovery.torn.is_some_and(|torn| torn.bytes > 20));
        if recovery.end > 0 {
            continue;
        }
        drop(log);
        // The next frame ends where the second began, and is cut off before what would hide it.
        let storage = FaultStorage::wrap(disk.clone());
        let (log, _) = open(storage.clone()).unwrap();
        storage.inject(Fault::TornWrite {
            nth: storage.writes() + 1,
            bytes: 16 + 4,
        });
        let position = log.append(b"next").unwrap();
        log.sync_to(position).unwrap_err();
        let (log, _) = open(disk).unwrap();
        assert_eq!(
            replay(&log, 0).unwrap(),
            [(position, b"next".to_vec())],
            "seed {seed}"
        );
    }
    assert!(met > 2, "only {met} crashes kept the second alone");
}

//! The overlay over the B-tree with power lost at every write and sync.

use idem_kv::{Batch, DiskFault, FaultDisk, Overlay, RedbEngine};

use crate::support::{Random, Twin, options};

fn open(disk: &FaultDisk) -> Overlay {
    let engine = RedbEngine::open_disk(disk, &options()).expect("reopening");
    Overlay::open(Box::new(engine)).expect("reopening")
}

/// What the log would hold: every batch with its position.
#[derive(Default)]
struct History {
    batches: Vec<(u64, Batch)>,
}

impl History {
    fn twin_at(&self, position: u64) -> Twin {
        let mut twin = Twin::default();
        for (_, batch) in self.batches.iter().filter(|(at, _)| *at <= position) {
            twin.commit(batch);
        }
        twin
    }

    fn end(&self) -> u64 {
        self.batches.last().map_or(0, |(position, _)| *position)
    }
}

/// Works until the fault strikes, loses power, reopens, replays and compares; several times over.
/// Returns whether the fault struck.
fn crash_at(seed: u64, make: impl Fn(&FaultDisk) -> DiskFault) -> bool {
    let mut random = Random(seed);
    let disk = FaultDisk::default();
    let mut history = History::default();
    let mut acknowledged = 0;
    let mut all_struck = true;
    for life in 0..3 {
        let context = format!("seed {seed}, life {life}");
        let overlay = open(&disk);
        let flushed = overlay.flushed_position();
        assert!(
            flushed >= acknowledged,
            "{context}: an acknowledged flush is lost"
        );
        let known = flushed == 0 || history.batches.iter().any(|(at, _)| *at == flushed);
        assert!(known, "{context}: position {flushed} was never committed");
        history
            .twin_at(flushed)
            .check(&overlay.snapshot().unwrap(), &context);
        for (position, batch) in history.batches.iter().filter(|(at, _)| *at > flushed) {
            overlay.apply(batch, *position);
        }
        history
            .twin_at(u64::MAX)
            .check(&overlay.snapshot().unwrap(), &context);

        let fault = make(&disk);
        disk.inject(fault);
        for _ in 0..6 {
            for _ in 0..1 + random.below(3) {
                let batch = random.batch();
                let position = history.end() + 10;
                overlay.apply(&batch, position);
                history.batches.push((position, batch));
            }
            match overlay.flush(|_| Ok(())) {
                Ok(position) => acknowledged = position,
                // What was applied is still seen.
                Err(error) => {
                    let snapshot = overlay.snapshot();
                    if let Ok(snapshot) = snapshot {
                        assert_eq!(snapshot.position(), history.end(), "{context}: {error}");
                    }
                    break;
                }
            }
        }
        all_struck &= disk.has_failed();
        // Whatever closing the engine writes fails too: the power is off.
        drop(overlay);
        disk.crash(seed ^ life);
        disk.heal();
    }
    let overlay = open(&disk);
    let flushed = overlay.flushed_position();
    assert!(flushed >= acknowledged);
    history
        .twin_at(flushed)
        .check(&overlay.snapshot().unwrap(), "after the last crash");
    overlay.verify().unwrap();
    all_struck
}

#[test]
pub(crate) fn a_crash_at_every_write_leaves_a_prefix_with_all_acknowledged_flushes() {
    let mut nth = 1;
    while crash_at(nth, |disk| DiskFault::Write {
        nth: disk.writes() + nth,
        bytes: 0,
    }) {
        let bytes = usize::try_from(nth * 97 % 4096).unwrap();
        crash_at(nth + 500, |disk| DiskFault::Write {
            nth: disk.writes() + nth,
            bytes,
        });
        nth += 1;
    }
    assert!(nth > 20, "only {nth} writes");
}

#[test]
pub(crate) fn a_crash_at_every_sync_leaves_a_prefix_with_all_acknowledged_flushes() {
    for seed in 0..4 {
        let mut nth = 1;
        while crash_at(seed * 1000 + nth, |disk| {
            DiskFault::Sync(disk.syncs() + nth)
        }) {
            nth += 1;
        }
        assert!(nth > 8, "only {nth} syncs");
    }
}

//! Readers, a writer and flushes at the same time.

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use idem_kv::{
    Batch, Durability, Engine, EngineStats, KvError, MemoryEngine, Overlay, RedbEngine,
    RedbOptions, Snapshot, Table, VerifyReport,
};

const COMMITS: u64 = 1500;
const LEFT: Table = Table(0);
const RIGHT: Table = Table(5);

/// Snapshots that a reader goes back to.
const HELD: usize = 4;

/// The writer puts its round under one key of each table and moves one key along a third: whoever
/// reads must find both equal, never older than before, and exactly one key; also in a snapshot of
/// before. Only one of the tables has a row cache.
fn run(engine: Box<dyn Engine>) {
    let overlay = Overlay::open(engine)
        .unwrap()
        .with_row_cache(LEFT, 1024 * 1024);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=COMMITS {
                let mut batch = Batch::new();
                batch.put(LEFT, b"round", &round.to_be_bytes());
                batch.put(RIGHT, b"round", &round.to_be_bytes());
                batch.delete(LEFT, format!("walker {:06}", round - 1).as_bytes());
                batch.put(LEFT, format!("walker {round:06}").as_bytes(), b"");
                overlay.apply(&batch, round);
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                overlay.flush(|_| Ok(())).unwrap();
            }
        });
        for reverse in [false, true] {
            let (overlay, done) = (&overlay, &done);
            scope.spawn(move || {
                let mut seen = 0;
                let mut held = std::collections::VecDeque::new();
                while !done.load(Ordering::SeqCst) {
                    let snapshot = overlay.snapshot().unwrap();
                    seen = check(&snapshot, reverse, seen);
                    for before in &held {
                        check(before, reverse, 0);
                    }
                    held.push_back(snapshot);
                    if held.len() > HELD {
                        held.pop_front();
                    }
                }
            });
        }
    });
    overlay.flush(|_| Ok(())).unwrap();
    assert_eq!(check(&overlay.snapshot().unwrap(), false, 0), COMMITS);
}

fn check(snapshot: &idem_kv::OverlaySnapshot, reverse: bool, seen: u64) -> u64 {
    let mut left = None;
    snapshot
        .read(LEFT, b"round", &mut |value| left = Some(value.to_vec()))
        .unwrap();
    assert_eq!(left, snapshot.get(RIGHT, b"round").unwrap());
    let Some(left) = left else { return seen };
    let round = u64::from_be_bytes(left.try_into().unwrap());
    assert_eq!(round, snapshot.position());
    assert!(round >= seen);
    let mut walkers = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        walkers.push(String::from_utf8(key.to_vec()).unwrap());
        ControlFlow::Continue(())
    };
    snapshot
        .scan(LEFT, b"walker", None, reverse, visit)
        .unwrap();
    assert_eq!(walkers, [format!("walker {round:06}")]);
    for walker in [round - 1, round, round + 1] {
        let key = format!("walker {walker:06}");
        let is_there = snapshot.read(LEFT, key.as_bytes(), &mut |_| {}).unwrap();
        assert_eq!(is_there, walker == round, "{walker} in {round}");
    }
    round
}

#[test]
fn over_memory() {
    run(Box::new(MemoryEngine::new()));
}

#[test]
fn over_redb() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine");
    run(Box::new(
        RedbEngine::open(path, &RedbOptions::default()).unwrap(),
    ));
}

/// What a test waits for something that must not happen.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// An engine whose second snapshot (the first is the overlay's, at opening) waits at two barriers.
#[derive(Debug)]
struct Hesitant {
    inner: MemoryEngine,
    snapshots: std::sync::atomic::AtomicU64,
    barriers: std::sync::Arc<[Barrier; 2]>,
}

impl Engine for Hesitant {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError> {
        if self.snapshots.fetch_add(1, Ordering::SeqCst) == 1 {
            self.barriers[0].wait();
            self.barriers[1].wait();
        }
        self.inner.snapshot()
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        self.inner.commit(batch, durability)
    }

    fn sync(&self) -> Result<(), KvError> {
        self.inner.sync()
    }

    fn verify(&self) -> Result<VerifyReport, KvError> {
        self.inner.verify()
    }

    fn compact(&self) -> Result<bool, KvError> {
        self.inner.compact()
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

#[test]
fn a_reader_that_is_slow_to_take_the_engines_snapshot_gets_that_of_its_view() {
    let barriers = std::sync::Arc::new([Barrier::new(2), Barrier::new(2)]);
    let engine = Hesitant {
        inner: MemoryEngine::new(),
        snapshots: std::sync::atomic::AtomicU64::new(0),
        barriers: std::sync::Arc::clone(&barriers),
    };
    let overlay = Overlay::open(Box::new(engine)).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| overlay.snapshot().unwrap());
        barriers[0].wait();
        // The reader has its view and its position, 0, but not the engine's snapshot yet.
        let mut batch = Batch::new();
        batch.put(LEFT, b"key", b"later");
        overlay.apply(&batch, 7);
        let flush = scope.spawn(|| overlay.flush(|_| Ok(())).unwrap());
        // A flush that did not wait for the reader would be through long before this.
        let patience = std::time::Instant::now();
        while !flush.is_finished() && patience.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        barriers[1].wait();
        assert_eq!(flush.join().unwrap(), 7);
        let snapshot = reader.join().unwrap();
        assert_eq!(snapshot.position(), 0);
        assert_eq!(snapshot.get(LEFT, b"key").unwrap(), None);
    });
}

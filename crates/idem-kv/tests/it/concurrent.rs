//! Readers, a writer and flushes at the same time.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use idem_kv::{Batch, Engine, MemoryEngine, Overlay, RedbEngine, RedbOptions, Snapshot, Table};

const COMMITS: u64 = 1500;
const LEFT: Table = Table(0);
const RIGHT: Table = Table(5);

/// The writer puts its round under one key of each table and moves one key along a third: whoever
/// reads must find both equal, never older than before, and exactly one key.
fn run(engine: Box<dyn Engine>) {
    let overlay = Overlay::open(engine).unwrap();
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
                while !done.load(Ordering::SeqCst) {
                    let snapshot = overlay.snapshot().unwrap();
                    seen = check(&snapshot, reverse, seen);
                }
            });
        }
    });
    overlay.flush(|_| Ok(())).unwrap();
    assert_eq!(check(&overlay.snapshot().unwrap(), false, 0), COMMITS);
}

fn check(snapshot: &idem_kv::OverlaySnapshot, reverse: bool, seen: u64) -> u64 {
    let left = snapshot.get(LEFT, b"round").unwrap();
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

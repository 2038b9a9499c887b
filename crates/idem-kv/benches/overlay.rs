//! What the overlay costs beside the engine: `cargo bench -p idem-kv`.
//!
//! Documents of 300 bytes in a B-tree of 100,000; medians of seven rounds.

use std::hint::black_box;
use std::time::Instant;

use idem_kv::{Batch, Overlay, RedbEngine, RedbOptions, Snapshot, Table};

const DOCUMENTS: Table = Table(0);
const INDEX: Table = Table(1);
const COUNT: u64 = 100_000;
const ROUNDS: usize = 7;
const READS: u64 = 20_000;
const COMMITS: u64 = 5_000;

fn main() {
    let directory = tempfile::tempdir().expect("a directory for the file");
    let path = directory.path().join("engine");
    let mut options = RedbOptions::default();
    options.cache_bytes = 64 << 20;
    let engine = RedbEngine::open(path, &options).expect("an engine");
    let overlay = Overlay::open(Box::new(engine)).expect("an overlay");
    let mut position = 0;
    for number in 0..COUNT {
        position += 400;
        overlay.apply(&document(number), position);
        if overlay.pending_bytes() > 4 << 20 {
            overlay.flush(|_| Ok(())).expect("a flush");
        }
    }
    overlay.flush(|_| Ok(())).expect("a flush");

    let mut figures: [Vec<f64>; 6] = Default::default();
    for round in 0..ROUNDS as u64 {
        let engine = overlay.engine();
        figures[0].push(nanoseconds(READS, |_| drop(black_box(overlay.snapshot()))));
        let read = |number| key(number * 7919 % COUNT);
        figures[1].push(nanoseconds(READS, |number| {
            let snapshot = overlay.snapshot().expect("a snapshot");
            assert!(
                snapshot
                    .get(DOCUMENTS, &read(number))
                    .expect("a value")
                    .is_some()
            );
        }));
        figures[2].push(nanoseconds(READS, |number| {
            let snapshot = engine.snapshot().expect("a snapshot");
            assert!(
                snapshot
                    .get(DOCUMENTS, &read(number))
                    .expect("a value")
                    .is_some()
            );
        }));
        let batches: Vec<_> = (0..COMMITS)
            .map(|number| document(COUNT + round * COMMITS + number))
            .collect();
        figures[3].push(nanoseconds(COMMITS, |number| {
            position += 400;
            overlay.apply(&batches[usize::try_from(number).expect("small")], position);
        }));
        figures[4].push(nanoseconds(READS, |number| {
            let snapshot = overlay.snapshot().expect("a snapshot");
            assert!(
                snapshot
                    .get(DOCUMENTS, &read(number))
                    .expect("a value")
                    .is_some()
            );
        }));
        figures[5].push(
            nanoseconds(1, |_| {
                overlay.flush(|_| Ok(())).expect("a flush");
            }) / COMMITS as f64,
        );
    }
    report(figures);
}

fn report(figures: [Vec<f64>; 6]) {
    let names = [
        "snapshot",
        "snapshot and get, overlay empty",
        "snapshot and get, engine alone",
        "apply of one document",
        "snapshot and get, 5,000 documents in the overlay",
        "flush, for each of 5,000 documents",
    ];
    for (name, mut figures) in names.iter().zip(figures) {
        figures.sort_unstable_by(f64::total_cmp);
        println!("{name:<50} {:>8.0} ns", figures[ROUNDS / 2]);
    }
}

fn key(number: u64) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    [
        &1_u32.to_be_bytes()[..],
        &mixed.to_be_bytes(),
        &number.to_be_bytes(),
    ]
    .concat()
}

fn document(number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(DOCUMENTS, &key(number), &[7; 300]);
    batch.put(
        INDEX,
        &[&number.to_be_bytes()[..], &key(number)].concat(),
        b"",
    );
    batch
}

/// Nanoseconds for each of `count` calls.
fn nanoseconds(count: u64, mut call: impl FnMut(u64)) -> f64 {
    let begin = Instant::now();
    (0..count).for_each(&mut call);
    begin.elapsed().as_secs_f64() * 1e9 / count as f64
}

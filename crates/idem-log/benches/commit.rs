//! What a durable commit costs beside what the disk costs: `cargo bench -p idem-log`.
//!
//! The rounds of all candidates are interleaved, and medians are printed. `TMPDIR` chooses the disk.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use idem_log::{DirectoryStorage, Log, LogOptions};

const PAYLOAD_BYTES: usize = 400;
const ROUNDS: usize = 7;
const COMMITS: usize = 600;
const THREADS: usize = 32;

fn main() {
    let directory = tempfile::tempdir().expect("a directory for the files");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.path().join("raw"))
        .expect("a file");
    file.write_all_at(&vec![0; 4 << 20], 0)
        .expect("room for the file");
    file.sync_all().expect("a sync");
    let storage = DirectoryStorage::open(directory.path().join("log")).expect("a directory");
    let (log, _) = Log::open(Box::new(storage), LogOptions::default()).expect("a log");

    let payload = [7; PAYLOAD_BYTES];
    let mut raw = Vec::new();
    let mut single = Vec::new();
    let mut raw_p50 = Vec::new();
    let mut single_p50 = Vec::new();
    let mut many = Vec::new();
    let mut many_syncs = Vec::new();
    for _ in 0..ROUNDS {
        let mut offset = 0;
        let (rate, p50) = run(|| {
            let bytes = [7; PAYLOAD_BYTES + 32];
            file.write_all_at(&bytes, offset % (4 << 20) / 512 * 512)
                .expect("a write");
            file.sync_data().expect("a sync");
            offset += 416;
        });
        raw.push(rate);
        raw_p50.push(p50);
        let (rate, p50) = run(|| {
            let position = log.append(&payload).expect("an append");
            log.sync_to(position).expect("a sync");
        });
        single.push(rate);
        single_p50.push(p50);
        log.trim(log.durable()).expect("a trim");
        log.prepare().expect("a segment");

        let syncs = log.stats().syncs;
        many.push(run_threads(&log, &payload));
        let syncs = log.stats().syncs - syncs;
        many_syncs.push((THREADS * COMMITS) as f64 / syncs as f64);
        log.trim(log.durable()).expect("a trim");
        log.prepare().expect("a segment");
    }
    println!(
        "write + fdatasync, 1 thread   {:>9.0} /s   p50 {:>5.1} us",
        median(&mut raw),
        median(&mut raw_p50)
    );
    println!(
        "append + sync_to, 1 thread    {:>9.0} /s   p50 {:>5.1} us",
        median(&mut single),
        median(&mut single_p50)
    );
    println!(
        "append + sync_to, {THREADS} threads  {:>9.0} /s   {:.1} commits per fdatasync",
        median(&mut many),
        median(&mut many_syncs)
    );
}

/// Commits from many threads at once. Returns commits per second.
fn run_threads(log: &Log, payload: &[u8]) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..COMMITS {
                    let position = log.append(payload).expect("an append");
                    log.sync_to(position).expect("a sync");
                }
            });
        }
    });
    (THREADS * COMMITS) as f64 / begin.elapsed().as_secs_f64()
}

/// Runs `commit` over and over. Returns commits per second and the median in microseconds.
fn run(mut commit: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<Duration> = (0..COMMITS)
        .map(|_| {
            let begin = Instant::now();
            commit();
            begin.elapsed()
        })
        .collect();
    let total: Duration = times.iter().sum();
    times.sort_unstable();
    (
        COMMITS as f64 / total.as_secs_f64(),
        times[COMMITS / 2].as_secs_f64() * 1e6,
    )
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

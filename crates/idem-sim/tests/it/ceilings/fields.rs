//! What meshes of phones and of local networks reach, under the figures that large ones are held to.
//!
//! The scenarios are those of `scenarios/large`, with fewer peers and writes, so that a run takes seconds, and
//! with still fewer in a debug build. docs/simulator.md, "Large fields", has the commands for their full size.

use idem_sim::{Options, Report, Scenario, run_with};

/// A scenario, how much of it is run here, and what it must reach.
struct Row {
    file: &'static str,
    peers: usize,
    writes: u64,
    /// Writes per second, over all peers.
    pace: u64,
    /// What it reaches, in microseconds.
    reaches: fn(&Report) -> u64,
    /// At most, in microseconds.
    ceiling: fn(&Options) -> u64,
}

/// A debug build is slow: it makes so many times fewer writes, in the same time.
const PART: u64 = if cfg!(debug_assertions) { 4 } else { 1 };

const ROWS: [Row; 3] = [
    Row {
        file: include_str!("../../../scenarios/large/field.toml"),
        peers: 20,
        writes: 40,
        pace: 10,
        reaches: |report| report.latency_p99_us,
        ceiling: |_| 6_000_000,
    },
    Row {
        file: include_str!("../../../scenarios/large/motion.toml"),
        peers: 20,
        writes: 40,
        pace: 5,
        reaches: |report| report.latency_max_us,
        ceiling: |_| 60_000_000,
    },
    Row {
        file: include_str!("../../../scenarios/large/split.toml"),
        peers: 16,
        writes: 400,
        // So slow that the halves forget each other: a picture of before counts for two minutes.
        pace: 3,
        reaches: |report| report.converged_us - report.healed_us,
        ceiling: |options| 3 * pure_transfer_us(options),
    },
];

/// Islands find each other within this time, also over radios.
const JOINED_US_MAX: u64 = 10_000_000;

/// When the islands of a field were joined, counted from when it healed.
fn joined_us(report: &Report) -> u64 {
    report.mesh.as_ref().expect("it is a field").joined_us
}

/// How long a mesh that was split could not but take: a discovery that asks once a second, a question and its
/// answer over the first link across, and what was written on one side over that link. The time of a document
/// on the wire is that of its text and of what it takes beside that.
fn pure_transfer_us(options: &Options) -> u64 {
    let lan = options.field.expect("it is a field").lan;
    let bytes = options.writes / 2 * (options.text_bytes as u64 + DOCUMENT_BYTES);
    DISCOVERY_US + 2 * lan.latency_us.1 + bytes * 1_000_000 / lan.bytes_per_second
}

/// A discovery in a local network asks once in this time.
const DISCOVERY_US: u64 = 1_000_000;

/// What a document takes beside its text, at least: its id, its version and its times.
const DOCUMENT_BYTES: u64 = 80;

fn options(row: &Row, seed: u64) -> Options {
    let scenario = Scenario::parse(row.file).expect("it comes along");
    let mut options = scenario.options(Some(row.peers), seed);
    options.writes = row.writes / PART;
    // Pauses are drawn up to the longest one, so they are half of it on average.
    options.write_pause_us_max = 2_000_000 * PART / row.pace;
    options
}

#[test]
fn fields() {
    let mut broken = Vec::new();
    println!(
        "{:>5} {:>6} {:>12} {:>12}  field",
        "peers", "writes", "us", "ceiling"
    );
    for row in &ROWS {
        let options = options(row, 1);
        let report = run_with(&options, None);
        let report = report.unwrap_or_else(|it| panic!("{it}: {}", it.violation));
        let (reached, ceiling) = ((row.reaches)(&report), (row.ceiling)(&options));
        let about = row.file.lines().next().unwrap_or_default();
        println!(
            "{:>5} {:>6} {reached:>12} {ceiling:>12}  {about}",
            row.peers, options.writes
        );
        if reached > ceiling || report.pairs.0 != report.pairs.1 {
            let (pairs, done) = report.pairs;
            broken.push(format!(
                "{about}: {reached} us, {done} of {pairs} deliveries"
            ));
        }
        let joined_us = joined_us(&report);
        if joined_us > JOINED_US_MAX {
            broken.push(format!("{about}: joined after {joined_us} us"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

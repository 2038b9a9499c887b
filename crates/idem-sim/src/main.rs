//! Runs seeds: `cargo run -p idem-sim -- [--seeds N] [--seed N]`.
//!
//! `--seeds` says how many (default 200), `--seed` which is the first. Without `--seed` the clock
//! chooses, so that every run tries others; what failed is printed with the seed that repeats it.

use std::{
    process::ExitCode,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Seeds without `--seeds`.
const SEEDS: u64 = 200;

/// Failures after which it stops: more of them rarely tell more.
const FAILURES_MAX: usize = 5;

fn main() -> ExitCode {
    let (first, count) = match choose(std::env::args().skip(1)) {
        Ok(choice) => choice,
        Err(message) => {
            eprintln!("idem-sim: {message}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let (mut transactions, mut faults, mut frames) = (0, 0, 0);
    let mut failures = 0;
    for seed in first..first.saturating_add(count) {
        match idem_sim::run(seed) {
            Ok(report) => {
                transactions += report.acknowledged;
                faults += report.faults;
                frames += report.frames;
            }
            Err(failure) => {
                println!("{failure}: {}", failure.violation);
                println!("again: cargo run -p idem-sim -- --seeds 1 --seed {seed}");
                failures += 1;
            }
        }
        if failures >= FAILURES_MAX {
            break;
        }
    }
    println!(
        "{count} seeds from {first}: {transactions} transactions, {faults} faults, {frames} frames, \
         {failures} failures, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The first seed and how many.
fn choose(mut arguments: impl Iterator<Item = String>) -> Result<(u64, u64), String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let (mut first, mut count) = (clock.map_or(0, |time| time.as_secs()), SEEDS);
    while let Some(argument) = arguments.next() {
        let text = arguments.next().unwrap_or_default();
        let number = text.parse();
        let number = number.map_err(|_| format!("{argument} needs a number"))?;
        match argument.as_str() {
            "--seeds" => count = number,
            "--seed" => first = number,
            other => {
                return Err(format!(
                    "{other} is not known; there are --seeds and --seed"
                ));
            }
        }
    }
    Ok((first, count))
}

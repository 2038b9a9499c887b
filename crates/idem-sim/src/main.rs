//! Runs seeds: `cargo run -p idem-sim -- [--scenario NAME] [--peers N] [--seeds N] [--seed N]`.
//!
//! `--scenario` names one that comes along, a file, or `all`; `--peers` is the number of honest peers in place of
//! the scenario's; `--seeds` says how many (default 200) of each, and of `all` a tenth of those in fields, which take
//! ten times as long; `--seed` which is the first. Without `--seed` the clock chooses, so that every run tries others;
//! what failed is printed with the words that repeat it. `idem sim` tells more about single runs.

use std::{
    num::NonZeroUsize,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use idem_sim::{Report, Scenario, run_with};

/// Seeds without `--seeds`.
const SEEDS: u64 = 200;

/// Of `all`, one in so many seeds of a scenario in a field is run: one takes a second.
const FIELD_SHARE: u64 = 10;

/// Failures after which it stops: more of them rarely tell more.
const FAILURES_MAX: u64 = 5;

/// What is asked for.
struct Choice {
    names: Vec<String>,
    is_all: bool,
    first: u64,
    count: u64,
    peers: Option<usize>,
}

/// Sums over runs.
#[derive(Default)]
struct Sums {
    runs: u64,
    transactions: u64,
    faults: u64,
    frames: u64,
    failures: u64,
}

fn main() -> ExitCode {
    let choice = match choose(std::env::args().skip(1)) {
        Ok(choice) => choice,
        Err(message) => {
            eprintln!("idem-sim: {message}");
            return ExitCode::from(2);
        }
    };
    let mut failures = 0;
    for name in &choice.names {
        failures += run_all(name, &choice).failures;
    }
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the seeds of a scenario on all processors.
fn run_all(name: &str, choice: &Choice) -> Sums {
    let first = choice.first;
    let count = count_of(name, choice);
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let sums = Mutex::new(Sums::default());
    let lock = || sums.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let scenario = load(name).expect("it was checked");
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count || lock().failures >= FAILURES_MAX {
                return;
            }
            let seed = first.saturating_add(seed);
            let outcome = run_with(&scenario.options(choice.peers, seed), None);
            let mut sums = lock();
            sums.runs += 1;
            match outcome {
                Ok(report) => {
                    sums.transactions += report.acknowledged;
                    sums.faults += report.faults;
                    sums.frames += report.frames;
                    if count == 1 {
                        tell(&report);
                    }
                }
                Err(failure) => {
                    println!("{name}: {failure}: {}", failure.violation);
                    println!(
                        "again: cargo run -p idem-sim -- --scenario {name} --seeds 1 --seed {seed}"
                    );
                    sums.failures += 1;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{name}: {} seeds from {first}: {} transactions, {} faults, {} frames, {} failures, {:.1} s",
        sums.runs,
        sums.transactions,
        sums.faults,
        sums.frames,
        sums.failures,
        started.elapsed().as_secs_f64()
    );
    sums
}

fn count_of(name: &str, choice: &Choice) -> u64 {
    let scenario = load(name).expect("it was checked");
    let is_field = scenario.options(choice.peers, choice.first).field.is_some();
    if choice.is_all && is_field {
        choice.count.div_ceil(FIELD_SHARE)
    } else {
        choice.count
    }
}

/// A scenario that comes along, or a file.
fn load(name: &str) -> Result<Scenario, String> {
    if let Some(scenario) = Scenario::ready(name) {
        return Ok(scenario);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let ready: Vec<&str> = Scenario::ready_names().collect();
        let ready = ready.join(", ");
        format!("{name} is no file ({error}), and no scenario; there are all, {ready}")
    })?;
    Scenario::parse(&text).map_err(|error| format!("{name}: {error}"))
}

/// What a single run came to, in microseconds and bytes.
fn tell(report: &Report) {
    println!(
        "p50 {} us, p99 {} us, slowest {} us, converged {} us after the faults, {} of {} deliveries",
        report.latency_p50_us,
        report.latency_p99_us,
        report.latency_max_us,
        report.converged_us.saturating_sub(report.healed_us),
        report.pairs.1,
        report.pairs.0,
    );
    let bytes: u64 = report.bytes_sent_by.iter().sum();
    println!(
        "{} bytes by each peer, {} documents sent, {} told nothing, simulated {} s",
        bytes / report.peers as u64,
        report.documents_sent,
        report.documents_unchanged,
        report.simulated_us / 1_000_000,
    );
    if let Some(mesh) = &report.mesh {
        println!(
            "joined {} us, known {} us, link life {} us, {} links made, {} dials, {} links at most, {} bytes of presence",
            mesh.joined_us,
            mesh.known_us,
            mesh.link_life_us,
            mesh.links_made,
            mesh.dials,
            mesh.links_max,
            mesh.gossip_bytes,
        );
    }
}

fn choose(mut arguments: impl Iterator<Item = String>) -> Result<Choice, String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut choice = Choice {
        names: vec!["mixed".to_owned()],
        is_all: false,
        first: clock.map_or(0, |time| time.as_secs()),
        count: SEEDS,
        peers: None,
    };
    let ready: Vec<String> = Scenario::ready_names().map(str::to_owned).collect();
    while let Some(argument) = arguments.next() {
        let text = arguments.next().unwrap_or_default();
        let number = || {
            let number = text.parse();
            number.map_err(|_| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seeds" => choice.count = number()?,
            "--seed" => choice.first = number()?,
            "--peers" => choice.peers = usize::try_from(number()?).ok(),
            "--scenario" if text == "all" => {
                choice.names.clone_from(&ready);
                choice.is_all = true;
            }
            "--scenario" => {
                load(&text)?;
                choice.names = vec![text];
            }
            other => {
                return Err(format!(
                    "{other} is not known; there are --scenario, --peers, --seeds and --seed"
                ));
            }
        }
    }
    Ok(choice)
}

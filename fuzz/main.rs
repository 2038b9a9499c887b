//! Runs the fuzz targets for a while: `cargo run -p idem-fuzz -- [--seconds N] [--seed N] [TARGET..]`.
//!
//! The seconds are shared by all chosen targets. Without `--seed` the clock chooses; the seed is
//! printed, and the same seed tries the same inputs again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use idem_fuzz::{Budget, Crash, Fuzzer, TARGETS, Target};

/// Seconds without `--seconds`.
const SECONDS: u64 = 60;

/// What a target may take beyond its share before it is called hung.
const GRACE: Duration = Duration::from_secs(60);

/// Random scripts among which there is one for every operator of plans.
const INPUTS_FOR_ALL: u64 = 1_500;

/// What panicked last, for a thread that died outside of a target.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

struct Choice {
    seconds: u64,
    seed: u64,
    targets: Vec<Target>,
}

fn main() -> ExitCode {
    let choice = match choose(std::env::args().skip(1)) {
        Ok(choice) => choice,
        Err(message) => {
            eprintln!("idem-fuzz: {message}");
            return ExitCode::from(2);
        }
    };
    // Panics are findings here, printed in one line each below.
    std::panic::set_hook(Box::new(|panic| {
        let mut last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        *last = panic.to_string();
    }));
    let count = u32::try_from(choice.targets.len()).unwrap_or(u32::MAX);
    let share = Duration::from_secs(choice.seconds) / count.max(1);
    println!("fuzzing with seed {}", choice.seed);
    let mut good = true;
    for target in &choice.targets {
        good &= run(*target, choice.seed, share);
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn choose(mut arguments: impl Iterator<Item = String>) -> Result<Choice, String> {
    let mut choice = Choice {
        seconds: SECONDS,
        seed: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
        targets: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().unwrap_or_default();
            text.parse::<u64>()
                .map_err(|_| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seconds" => choice.seconds = number()?,
            "--seed" => choice.seed = number()?,
            name => choice.targets.push(
                *TARGETS
                    .iter()
                    .find(|target| target.name == name)
                    .ok_or_else(|| format!("no target is called {name}"))?,
            ),
        }
    }
    if choice.targets.is_empty() {
        choice.targets = TARGETS.to_vec();
    }
    Ok(choice)
}

/// Runs one target on a thread of its own, so that a hung one is noticed.
fn run(target: Target, seed: u64, share: Duration) -> bool {
    let started = Instant::now();
    let (sender, receiver) = mpsc::sync_channel(1);
    let body = move || {
        let outcome = Fuzzer::new(target, seed).run(Budget::Time(share));
        // Nobody listens any more if we were called hung.
        let _ = sender.send(outcome);
    };
    let thread = thread::Builder::new().name(target.name.to_owned());
    if let Err(error) = thread.spawn(body) {
        println!("{:<20} cannot be started: {error}", target.name);
        return false;
    }
    match receiver.recv_timeout(share + GRACE) {
        Ok(Ok(tally)) => {
            println!(
                "{:<20} {:>9} inputs, {:>9} accepted, {:.1} s",
                target.name,
                tally.inputs,
                tally.accepted,
                started.elapsed().as_secs_f64()
            );
            if let Some(tallies) = idem_fuzz::tallies(target.name) {
                println!("{tallies}");
            }
            let never = idem_fuzz::never_planned(target.name);
            if never.is_empty() || tally.inputs < INPUTS_FOR_ALL {
                return true;
            }
            println!(
                "{:<20} FAILED: in no plan: {}",
                target.name,
                never.join(", ")
            );
            false
        }
        Ok(Err(crash)) => {
            println!("{:<20} FAILED: {}", target.name, crash.reason);
            match write(&target, &crash) {
                Ok(path) => println!("{:<20} input is in {}", "", path.display()),
                Err(error) => println!("{:<20} {error}: {:?}", "", crash.input),
            }
            false
        }
        Err(RecvTimeoutError::Timeout) => {
            println!("{:<20} HANGS; this seed finds the input again", target.name);
            false
        }
        Err(RecvTimeoutError::Disconnected) => {
            let last = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{:<20} FAILED before the first input: {last}", target.name);
            false
        }
    }
}

/// Writes the input where `cargo test` replays it.
fn write(target: &Target, crash: &Crash) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../vectors/crashers")
        .join(target.name);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{:016x}", fingerprint(&crash.input)));
    fs::write(&path, &crash.input)?;
    Ok(path)
}

/// FNV-1a: names the file by its content, so that the same input is written once.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

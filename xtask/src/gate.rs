//! The steps of the gate, in the order in which they run: cheap ones first.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use crate::{
    metadata::Graph,
    step::{self, Outcome, Report, cargo, has_program, has_subcommand, judge, succeeds},
    tidy,
};

/// Seconds that all fuzz targets share.
const FUZZ_SECONDS: &str = "60";

/// Targets whose inputs are whole scripts of statements, which take longer, and the seconds they share.
const SCRIPT_TARGETS: [&str; 4] = [
    "statement_parse",
    "statement_run",
    "statement_compare",
    "store_compare",
];
const SCRIPT_SECONDS: &str = "240";

/// Seeds of each scenario of the simulator in one run of the gate.
const SIMULATION_SEEDS: &str = "200";

/// The first of them, beyond those that the tests of the simulator run. The gate is repeatable: the
/// same code passes or fails every time. Run the two programs without `--seed` to try what is new.
const FIRST_SEED: &str = "1000";

/// One step: its name, what it holds, and its body.
struct Step {
    name: &'static str,
    holds: &'static str,
    body: fn(&Path) -> Outcome,
}

const STEPS: &[Step] = &[
    Step {
        name: "tidy",
        holds: "layers, lengths, names, licences, ASCII and the other rules of the house",
        body: tidy::run,
    },
    Step {
        name: "fmt",
        holds: "every file is formatted",
        body: fmt,
    },
    Step {
        name: "clippy",
        holds: "no warning in any target of any crate",
        body: clippy,
    },
    Step {
        name: "test",
        holds: "unit, property, model, golden, cost and end-to-end tests",
        body: test,
    },
    Step {
        name: "doctest",
        holds: "the examples in the documentation run",
        body: doctest,
    },
    Step {
        name: "doc",
        holds: "the documentation builds without a warning",
        body: doc,
    },
    Step {
        name: "features",
        holds: "crates with features build with none, the default and all of them",
        body: features,
    },
    Step {
        name: "fuzz",
        holds: "no decoder or parser panics on 60 s of broken input, and no query differs from its naive twin",
        body: fuzz,
    },
    Step {
        name: "simulate",
        holds: "200 seeds of every scenario, 20 in fields, keep every promise, and two peers say no more than they may",
        body: simulate,
    },
];

/// The names of all steps in their order.
pub(crate) fn all_names() -> Vec<&'static str> {
    STEPS.iter().map(|step| step.name).collect()
}

/// The text of `cargo xtask help`.
pub(crate) fn usage() -> String {
    let mut text = String::from("cargo xtask ci         runs the whole gate\n");
    text.push_str("cargo xtask STEP..     runs the named steps:\n");
    for step in STEPS {
        text.push_str(&format!("  {:<10} {}\n", step.name, step.holds));
    }
    text
}

/// Runs the named steps, all of them even after a failure, and closes with a summary.
pub(crate) fn run(root: &Path, names: &[&str]) -> ExitCode {
    let strict = step::is_strict();
    let reports: Vec<Report> = STEPS
        .iter()
        .filter(|step| names.contains(&step.name))
        .map(|step| step::run(step.name, || (step.body)(root)))
        .collect();
    let (text, good) = step::summary(&reports, strict);
    println!("{text}");
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn fmt(root: &Path) -> Outcome {
    if !has_subcommand(root, "fmt") {
        return lacking("rustfmt");
    }
    judge(succeeds(&mut cargo(root, &["fmt", "--all", "--check"])))
}

fn clippy(root: &Path) -> Outcome {
    if !has_subcommand(root, "clippy") {
        return lacking("clippy");
    }
    let words = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    judge(succeeds(&mut cargo(root, &words)))
}

fn lacking(component: &str) -> Outcome {
    Outcome::Skipped(format!(
        "{component} is not installed; it is a component of the toolchain in rust-toolchain.toml"
    ))
}

/// What property tests draw their cases from.
const RANDOM_SEED: &str = "PROPTEST_RNG_SEED";

/// nextest where it is installed, because it runs the binaries beside each other; else cargo.
fn test(root: &Path) -> Outcome {
    let words: &[&str] = if has_subcommand(root, "nextest") {
        &[
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]
    } else {
        &[
            "test",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]
    };
    let mut command = cargo(root, words);
    // A gate that is red once stays red, and one that is green was not lucky. Whoever runs the tests
    // without it gets other cases every time, and whoever sets a seed gets those.
    if std::env::var_os(RANDOM_SEED).is_none() {
        command.env(RANDOM_SEED, "1");
    }
    let good = succeeds(&mut command);
    // The tests themselves pass without these, and their output is not shown when they pass.
    let lacking = [
        (
            !has_program("python3"),
            "comparison of documents with their twin",
            "python3 does not start; it runs the independent model of merging",
        ),
        (
            !has_namespaces(),
            "tests on networks of their own",
            "`unshare` with user namespaces, `ip` or `tc` is lacking or not allowed",
        ),
    ];
    let lacking = lacking.into_iter().filter(|(is_lacking, ..)| *is_lacking);
    let lacking = lacking.map(|(_, what, reason)| println!("{}", step::shout(what, reason)));
    judge(good && (lacking.count() == 0 || !step::is_strict()))
}

/// Whether tests may make networks of their own, as crates/idem-cli/tests/it/lan/world.rs does.
fn has_namespaces() -> bool {
    let make = "mount -t tmpfs tmpfs /run && mount -t proc proc /run && \
                ip link add x type veth peer name y && tc -V";
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--map-root-user", "--net", "--mount", "--pid", "--fork"])
        .args(["sh", "-c", make])
        .stdin(Stdio::null());
    unshare.output().is_ok_and(|ran| ran.status.success())
}

fn doctest(root: &Path) -> Outcome {
    let words = ["test", "--workspace", "--locked", "--no-fail-fast", "--doc"];
    judge(succeeds(&mut cargo(root, &words)))
}

fn doc(root: &Path) -> Outcome {
    let words = ["doc", "--workspace", "--locked", "--no-deps"];
    let mut command = cargo(root, &words);
    command.env("RUSTDOCFLAGS", "-D warnings");
    judge(succeeds(&mut command))
}

/// The feature that needs the headers of libdbus.
const BLUETOOTH: &str = "ble";

/// The feature that brings more packages than all else together.
const INTERNET: &str = "internet";

/// `default` is what every other step builds, so only none and all are left. What [`INTERNET`] brings would be built
/// for each crate anew, since what they ask of tokio differs; so it is built once, for all of them.
fn features(root: &Path) -> Outcome {
    let graph = match Graph::load(root) {
        Ok(graph) => graph,
        Err(error) => {
            println!("{error}");
            return Outcome::Failed;
        }
    };
    let with_features: Vec<_> = graph
        .ours()
        .into_iter()
        .filter(|package| !package.features.is_empty())
        .collect();
    if with_features.is_empty() {
        println!("no crate has features");
    }
    let mut probe = Command::new("pkg-config");
    let has_libdbus = probe.args(["--exists", "dbus-1"]).status();
    let has_libdbus = has_libdbus.is_ok_and(|status| status.success());
    let mut good = true;
    let mut online = vec!["clippy".to_owned(), "--locked".to_owned()];
    for package in with_features {
        if !has_libdbus && package.features.contains(BLUETOOTH) {
            println!(
                "NOT BUILT: feature {BLUETOOTH} of {}, there is no libdbus here (Debian: libdbus-1-dev)",
                package.name
            );
        }
        if package.features.contains(INTERNET) {
            let feature = format!("{}/{INTERNET}", package.name);
            let words = ["--package", &package.name, "--features", &feature];
            online.extend(words.map(str::to_owned));
        }
        let is_built = |name: &&String| *name != INTERNET && (has_libdbus || *name != BLUETOOTH);
        let all = package.features.iter().filter(is_built);
        let all: Vec<_> = all.map(String::as_str).collect();
        let all = all.join(",");
        for choice in [&["--no-default-features"][..], &["--features", &all]] {
            let package = ["clippy", "--locked", "--package", &package.name];
            let words = [&package[..], choice, &["--", "-D", "warnings"]].concat();
            good &= succeeds(&mut cargo(root, &words));
        }
    }
    online.extend(["--all-targets", "--", "-D", "warnings"].map(str::to_owned));
    let online: Vec<&str> = online.iter().map(String::as_str).collect();
    good &= succeeds(&mut cargo(root, &online));
    judge(good)
}

fn fuzz(root: &Path) -> Outcome {
    let all = fuzz_for(root, FUZZ_SECONDS, &[]);
    judge(fuzz_for(root, SCRIPT_SECONDS, &SCRIPT_TARGETS) && all)
}

fn fuzz_for(root: &Path, seconds: &str, targets: &[&str]) -> bool {
    let words = [
        "run",
        "--locked",
        "--quiet",
        "--package",
        "idem-fuzz",
        "--",
        "--seconds",
        seconds,
        "--seed",
        FIRST_SEED,
    ];
    succeeds(&mut cargo(root, &[&words[..], targets].concat()))
}

/// In release, which is ten times as fast as a debug build and holds the documents that the ceilings
/// are about.
fn simulate(root: &Path) -> Outcome {
    let ceilings = [
        "test",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "idem-sim",
        "--test",
        "it",
        "ceilings",
        "--",
        "--nocapture",
    ];
    let within = succeeds(&mut cargo(root, &ceilings));
    let words = [
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "idem-sim",
        "--",
        "--scenario",
        "all",
        "--seeds",
        SIMULATION_SEEDS,
        "--seed",
        FIRST_SEED,
    ];
    judge(succeeds(&mut cargo(root, &words)) && within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_names_every_step_and_no_step_twice() {
        let names = all_names();
        for (at, name) in names.iter().enumerate() {
            assert!(usage().contains(name));
            assert!(!names[..at].contains(name), "{name} is there twice");
        }
    }
}

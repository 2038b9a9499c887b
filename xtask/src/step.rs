//! One step of the gate: what it is called, how it ended, how long it took.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything held.
    Passed,
    /// Something did not hold; what, has been printed.
    Failed,
    /// It could not run here, for this reason.
    Skipped(String),
}

/// A step that has ended.
#[derive(Debug)]
pub(crate) struct Report {
    /// The step's name.
    pub(crate) name: &'static str,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Wall clock.
    pub(crate) duration: Duration,
}

/// Runs a step between a heading and its measured time.
pub(crate) fn run(name: &'static str, body: impl FnOnce() -> Outcome) -> Report {
    println!("\n==> {name}");
    let started = Instant::now();
    let outcome = body();
    let duration = started.elapsed();
    if let Outcome::Skipped(reason) = &outcome {
        println!("{}", shout(name, reason));
    }
    Report {
        name,
        outcome,
        duration,
    }
}

/// Whether a lacking tool is a failure and not only a loud word: `CI=true`.
pub(crate) fn is_strict() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// A frame that nobody overlooks around what did not run.
pub(crate) fn shout(name: &str, reason: &str) -> String {
    let line = "*".repeat(72);
    format!("{line}\n*** SKIPPED: {name}\n*** {reason}\n{line}")
}

/// The closing table, and whether every step passed.
///
/// A skipped step counts as passed unless `strict`.
pub(crate) fn summary(reports: &[Report], strict: bool) -> (String, bool) {
    let mut text = String::from("\n==> summary\n");
    let mut good = true;
    for report in reports {
        let word = match &report.outcome {
            Outcome::Passed => "ok".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::Skipped(reason) => format!("SKIPPED  {reason}"),
        };
        good &= match report.outcome {
            Outcome::Passed => true,
            Outcome::Failed => false,
            Outcome::Skipped(_) => !strict,
        };
        let seconds = report.duration.as_secs_f64();
        text.push_str(&format!("  {:<10} {seconds:>7.1} s  {word}\n", report.name));
    }
    let total: Duration = reports.iter().map(|report| report.duration).sum();
    let verdict = if good { "ok" } else { "FAILED" };
    text.push_str(&format!(
        "  {:<10} {:>7.1} s  {verdict}",
        "total",
        total.as_secs_f64()
    ));
    (text, good)
}

/// A `cargo` command in the workspace's folder, without standard input.
///
/// It is the cargo that runs us, so that no other toolchain slips in.
pub(crate) fn cargo(root: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null());
    command
}

/// Says what runs, runs it with our own output, and tells whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    println!("$ cargo {}", words.join(" "));
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("cannot be started: {error}");
            false
        }
    }
}

/// Whether `NAME --version` answers, for programs that are not cargo's.
pub(crate) fn has_program(name: &str) -> bool {
    Command::new(name)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// `Passed` or `Failed`.
pub(crate) fn judge(good: bool) -> Outcome {
    if good {
        Outcome::Passed
    } else {
        Outcome::Failed
    }
}

/// Whether `cargo NAME --version` answers, that is, whether the subcommand is installed.
pub(crate) fn has_subcommand(root: &Path, name: &str) -> bool {
    cargo(root, &[name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome) -> Report {
        Report {
            name: "clippy",
            outcome,
            duration: Duration::from_millis(1500),
        }
    }

    #[test]
    fn a_failed_step_fails_the_gate() {
        let (text, good) = summary(&[report(Outcome::Passed), report(Outcome::Failed)], false);
        assert!(!good);
        assert!(text.contains("clippy         1.5 s  FAILED"), "{text}");
    }

    #[test]
    fn a_skipped_step_fails_only_the_strict_gate() {
        let reports = [report(Outcome::Skipped("not installed".into()))];
        assert!(summary(&reports, false).1);
        let (text, good) = summary(&reports, true);
        assert!(!good);
        assert!(text.contains("SKIPPED  not installed"), "{text}");
    }
}

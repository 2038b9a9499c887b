//! `idem doctor`: what works on this machine and with this store, and what to do about the rest.

mod link;
mod machine;
mod store;

use std::{io, path::PathBuf};

use idem::Object;

use crate::{
    args::{DoctorArgs, Format, StoreKeyArgs},
    exit::{CliError, ExitStatus},
    output::{format_or_default, plain_table, print_rows},
    query::stdout_error,
};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warn,
    Fail,
    /// Fails because another process has the store open, which has its own exit code.
    Locked,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail | Self::Locked => "fail",
        }
    }
}

/// The outcome of one check.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self {
            check,
            verdict: Verdict::Warn,
            found: found.into(),
            advice: Some(advice.to_owned()),
        }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(check, found, advice)
        }
    }

    fn row(&self) -> Object {
        let mut row = Object::from([
            ("check".to_owned(), self.check.into()),
            ("verdict".to_owned(), self.verdict.text().into()),
            ("found".to_owned(), self.found.as_str().into()),
        ]);
        if let Some(advice) = &self.advice {
            row.insert("advice".to_owned(), advice.as_str().into());
        }
        row
    }
}

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), CliError> {
    let directory = (!args.store.memory).then(|| args.store.store.clone());
    let mut findings = examine(directory, &args.store.key);
    findings.extend(link::check(&args.store, &args.database, &args.connect));
    print(&findings, format_or_default(args.format)).map_err(stdout_error)?;
    match findings.iter().map(|finding| finding.verdict).max() {
        Some(Verdict::Locked) => Err(CliError::new(
            ExitStatus::Locked,
            "the store is open in another process",
        )),
        Some(Verdict::Fail) => Err(CliError::failed("something does not work; see above")),
        _ => Ok(()),
    }
}

fn examine(directory: Option<PathBuf>, key: &StoreKeyArgs) -> Vec<Finding> {
    let mut findings = vec![machine::version()];
    match &directory {
        Some(directory) => findings.extend(store::check(directory, key)),
        None => findings.push(Finding::ok("store", "in memory, as asked")),
    }
    let disk = directory.as_deref().filter(|path| path.is_dir());
    let disk = disk.map_or_else(std::env::temp_dir, PathBuf::from);
    findings.push(machine::disk_space(&disk));
    findings.push(machine::fsync_latency(&disk));
    findings.push(machine::clock(&disk));
    findings.push(machine::loopback());
    findings.push(machine::ports());
    findings.push(machine::multicast());
    findings
}

fn print(findings: &[Finding], format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if format != Format::Table {
        let rows: Vec<_> = findings.iter().map(Finding::row).collect();
        return print_rows(&mut out, format, &rows);
    }
    let mut table = plain_table();
    table.set_header(["check", "", "found", "what to do"]);
    for finding in findings {
        table.add_row([
            finding.check,
            finding.verdict.text(),
            &finding.found,
            finding.advice.as_deref().unwrap_or(""),
        ]);
    }
    io::Write::write_fmt(&mut out, format_args!("{table}\n"))
}

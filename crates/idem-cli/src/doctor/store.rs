//! The checks of a store directory.

use std::{path::Path, time::Instant};

use idem::{ErrorKind, Idem};

use super::{Finding, Verdict};
use crate::{
    args::{DurabilityChoice, StoreArgs, StoreKeyArgs},
    exit::{ExitStatus, chain},
    opening::open_offline,
};

const STORE: &str = "store";

/// Opens the store if there is one, and reads all of it.
pub(super) fn check(directory: &Path, key: &StoreKeyArgs) -> Vec<Finding> {
    match directory.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::ok(
                STORE,
                format!(
                    "{} is not there yet; first use creates it",
                    directory.display()
                ),
            )];
        }
        Err(error) => {
            return vec![Finding::fail(
                STORE,
                format!("{} cannot be read: {error}", directory.display()),
                "give a --store directory that this user may read and write",
            )];
        }
        Ok(mut entries) => {
            if entries.next().is_none() {
                return vec![Finding::ok(
                    STORE,
                    format!("{} is empty", directory.display()),
                )];
            }
        }
    }
    let start = Instant::now();
    let choice = StoreArgs {
        store: directory.to_owned(),
        memory: false,
        key: key.clone(),
    };
    match open_offline(&choice, DurabilityChoice::Durable) {
        Ok(idem) => {
            let opened = start.elapsed();
            let mut findings = vec![Finding::ok(
                STORE,
                format!(
                    "{} opens in {:.1} ms",
                    directory.display(),
                    opened.as_secs_f64() * 1e3
                ),
            )];
            findings.push(encryption(&idem));
            findings.push(contents(&idem));
            findings.push(sizes(&idem));
            if let Err(error) = idem.close_blocking() {
                findings.push(Finding::fail("close", chain(&error), "check the disk"));
            }
            findings
        }
        Err(error) => {
            let locked = error.status() == ExitStatus::Locked;
            let mut finding = Finding::fail(
                STORE,
                chain(&error),
                error.advice().unwrap_or("the cause names what is wrong"),
            );
            if locked {
                finding.verdict = Verdict::Locked;
            }
            vec![finding]
        }
    }
}

fn encryption(idem: &Idem) -> Finding {
    let text = match idem.encryption().map(|it| it.status()) {
        None => "not encrypted at rest".to_owned(),
        Some(status) if status.data_keys.len() > 1 => format!(
            "encrypted at rest ({}); a rotation to data key {} is under way",
            status.scheme, status.current_data_key
        ),
        Some(status) => format!("encrypted at rest ({})", status.scheme),
    };
    Finding::ok("encryption", text)
}

fn contents(idem: &Idem) -> Finding {
    let start = Instant::now();
    match idem.store().verify_blocking() {
        Ok(count) => Finding::ok(
            "checksums",
            format!(
                "{count} values read and correct in {:.0} ms",
                start.elapsed().as_secs_f64() * 1e3
            ),
        ),
        Err(error) => {
            let advice = if error.kind() == ErrorKind::StoreCorrupt {
                "bytes on disk changed by themselves: copy what is readable with `idem export`, \
                 check the disk, and let a fresh store fill from another peer"
            } else {
                "the cause names what is wrong"
            };
            Finding::fail("checksums", chain(&error), advice)
        }
    }
}

fn sizes(idem: &Idem) -> Finding {
    let statistics = match idem.store().statistics() {
        Ok(statistics) => statistics,
        Err(error) => return Finding::fail("size", chain(&error), "the cause names what is wrong"),
    };
    Finding::ok(
        "size",
        format!(
            "{:.1} MiB on disk, {} commits, all up to {} durable",
            statistics.disk_bytes as f64 / f64::from(1 << 20),
            statistics.last_commit,
            statistics.durable_commit
        ),
    )
}

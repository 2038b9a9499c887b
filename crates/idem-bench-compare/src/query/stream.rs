//! How much memory a SELECT over very many documents takes when its rows are not collected.

use std::fs;

use idem::{ConnectMode, DatabaseId, Durability, Idem, IdemConfig};

use super::{Effort, airports::Airports, idem_side};
use crate::{engines::Failure, report::Row};

pub(super) const WORKLOAD: &str = "streamed-select-memory";

const STREAMED: &str = "SELECT * FROM airports";
const MIB_MAX: f64 = 16.0;
/// The store's cache of pages fills within the first rows, and is none of the statement's.
const PAGE_CACHE_BYTES: usize = 4 * 1024 * 1024;
/// The share of the rows after which memory is watched, as a divisor.
const WARM_PART: u64 = 10;
/// Rows between two looks at the memory.
const LOOK_ROWS: u64 = 1_000;

/// Streams every document and watches the memory of the process.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Row, Failure> {
    let directory = tempfile::tempdir()?;
    let config = IdemConfig::new(DatabaseId([5; 16]), ConnectMode::Offline)
        .with_persistence_directory(directory.path().join("idem"))
        .with_cache_bytes(PAGE_CACHE_BYTES)
        .with_durability(Durability::Relaxed);
    let idem = Idem::open_sync(config)?;
    let airports = Airports::new(effort.streamed);
    tell(&format!("{WORKLOAD}: storing {} airports", airports.count));
    idem_side::fill(&idem, &airports)?;
    let (mut rows, mut warm, mut growth) = (0, None, None);
    for row in idem.store().stream(STREAMED)? {
        row?;
        rows += 1;
        if rows % LOOK_ROWS == 0 && rows >= effort.streamed / WARM_PART {
            let now = resident_mib();
            let before = *warm.get_or_insert(now);
            let grown = now.zip(before).map(|(now, before)| now - before);
            growth = grown.map(|grown: f64| grown.max(growth.unwrap_or(0.0)));
        }
    }
    idem.close_blocking()?;
    tell(&format!("{WORKLOAD}: {growth:?} MiB over {rows} rows"));
    Ok(Row {
        workload: WORKLOAD,
        unit: "MiB of growth behind the first tenth",
        idem: growth,
        other: None,
        other_name: "",
        ratio: 0.0,
        durability: super::READ_ONLY,
        errors: 0,
        verified: rows == effort.streamed,
        goal: "flat: under 16 MiB",
        reached: growth.is_some_and(|mib| mib < MIB_MAX),
    })
}

/// Memory of this process, where the system tells it.
fn resident_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

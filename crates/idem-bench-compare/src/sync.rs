//! Replication between two processes over TCP on loopback.
//!
//! Both peers are children of this process, which tells them by lines on stdin what to do and reads
//! their answers, so that what it does itself is in no figure. The workloads:
//!
//! - the first sync of a peer that holds nothing, for several numbers of documents;
//! - how long a commit takes to be seen by the observer of the other peer, there and back, with both
//!   classes of durability;
//! - an attachment of 100 MB, alone, and the latency of small commits beside attachments;
//! - a storm of changes on few documents, with the memory of both peers and the time after which they
//!   agree.
//!
//! The documents of both peers are compared by a digest after each round.

mod blob;
mod child;
mod first;
mod live;
mod pair;
mod storm;

use std::time::Duration;

use idem::DatabaseId;

use crate::{engines::Failure, report::Row};

pub(crate) use child::{Class, run as run_child};

const DATABASE: DatabaseId = DatabaseId([2; 16]);
const ALL: &str = "SELECT * FROM docs";
const DURABLE: &str = "durable on both sides (fsync)";
const RELAXED: &str = "relaxed on both sides (operating system, fsync within 50 ms)";
/// How long anything may take before the run is given up.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How much work a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of the first sync and of the latencies.
    pub(crate) rounds: usize,
    /// The first syncs with more documents than this are left out.
    pub(crate) documents_max: u64,
    /// Commits on either side in one round of the latencies.
    pub(crate) commits: u64,
    /// Megabytes of an attachment.
    pub(crate) attachment_mb: u64,
    /// How long the storm lasts.
    pub(crate) storm: Duration,
}

impl Effort {
    /// What the goals are about; `is_large` adds the first sync of a million documents.
    pub(crate) fn full(rounds: usize, is_large: bool) -> Self {
        Self {
            rounds,
            documents_max: if is_large { 1_000_000 } else { 100_000 },
            commits: 500,
            attachment_mb: 100,
            storm: Duration::from_secs(8),
        }
    }

    /// Far too little for a figure: it shows that everything runs and is right.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        documents_max: 1_000,
        commits: 20,
        attachment_mb: 1,
        storm: Duration::from_millis(400),
    };
}

/// Runs the workloads whose name begins with `only`; `tell` is told what goes on.
pub(crate) fn run(effort: Effort, only: &str, tell: impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let is_wanted = |name: &str| name.starts_with(only) || only.starts_with(name);
    if is_wanted(first::WORKLOAD) {
        rows.extend(first::run(effort, only, &tell)?);
    }
    if is_wanted(live::WORKLOAD) {
        rows.extend(live::run(effort, &tell)?);
    }
    if is_wanted(blob::WORKLOAD) {
        rows.extend(blob::run(effort, &tell)?);
    }
    if is_wanted(storm::WORKLOAD) {
        rows.extend(storm::run(effort, &tell)?);
    }
    Ok(rows)
}

//! When each write reached each peer that wants it.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::{DocumentKey, VersionVector};

/// Writes on their way.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    open: BTreeMap<DocumentKey, Vec<Open>>,
    /// When each (peer, write) pair came to be.
    written_us: Vec<u64>,
    /// When each of them was done.
    delivered_us: Vec<u64>,
    /// How long each write took to reach the last peer.
    latencies_us: Vec<u64>,
    /// When the faults ended.
    healed_us: Option<u64>,
    /// When the last pair of a write was done that was made before that.
    converged_us: u64,
}

#[derive(Debug)]
struct Open {
    version: VersionVector,
    at_us: u64,
    missing: BTreeSet<usize>,
}

impl Deliveries {
    /// A peer wrote a document, which has this version now; `missing` are the others who want it.
    pub(crate) fn written(
        &mut self,
        now_us: u64,
        key: DocumentKey,
        version: VersionVector,
        missing: BTreeSet<usize>,
    ) {
        self.written_us.extend(missing.iter().map(|_| now_us));
        if missing.is_empty() {
            return;
        }
        self.open.entry(key).or_default().push(Open {
            version,
            at_us: now_us,
            missing,
        });
    }

    /// The faults have ended.
    pub(crate) fn heal(&mut self, now_us: u64) {
        self.healed_us = Some(now_us);
    }

    /// When that was.
    pub(crate) fn healed_us(&self) -> Option<u64> {
        self.healed_us
    }

    /// A peer holds this version of a document now.
    pub(crate) fn seen(
        &mut self,
        now_us: u64,
        peer: usize,
        key: &DocumentKey,
        version: &VersionVector,
    ) {
        let Some(open) = self.open.get_mut(key) else {
            return;
        };
        for write in open.iter_mut() {
            if version.covers_all(&write.version) && write.missing.remove(&peer) {
                self.delivered_us.push(now_us);
                if self
                    .healed_us
                    .is_none_or(|healed_us| write.at_us < healed_us)
                {
                    self.converged_us = now_us;
                }
                if write.missing.is_empty() {
                    self.latencies_us.push(now_us - write.at_us);
                }
            }
        }
        open.retain(|write| !write.missing.is_empty());
        if open.is_empty() {
            self.open.remove(key);
        }
    }

    /// The peers agree, so what nobody holds is gone for good: it was lost with a process before it was
    /// acknowledged, or with a disk that a backup replaced. Returns how many pairs that are.
    pub(crate) fn give_up_open(&mut self) -> u64 {
        let open = std::mem::take(&mut self.open);
        let mut lost = 0;
        for write in open.into_values().flatten() {
            let count = write.missing.len();
            let first = self.written_us.partition_point(|it| *it < write.at_us);
            self.written_us.drain(first..first + count);
            lost += count as u64;
        }
        lost
    }

    /// Whether anybody waits for anything in a document.
    pub(crate) fn is_open(&self, key: &DocumentKey) -> bool {
        self.open.contains_key(key)
    }

    /// The time within which `percent` of the writes reached every peer; 0 if there were none.
    pub(crate) fn latency_us(&self, percent: usize) -> u64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(0)
    }

    /// When the last pair of a write was done that was made before the faults ended.
    pub(crate) fn converged_us(&self) -> u64 {
        self.converged_us
    }

    /// When the last pair was done.
    fn last_us(&self) -> u64 {
        self.delivered_us.last().copied().unwrap_or(0)
    }

    /// When half of all pairs was done.
    pub(crate) fn half_us(&self) -> u64 {
        let at = self.delivered_us.len() / 2;
        self.delivered_us.get(at).copied().unwrap_or(0)
    }

    /// How many pairs there are, and how many of them are done.
    pub(crate) fn pairs(&self) -> (u64, u64) {
        (self.written_us.len() as u64, self.delivered_us.len() as u64)
    }

    /// At up to `points` moments: the time, and which share of all pairs had come to be and was done,
    /// in thousandths.
    pub(crate) fn curve(&self, points: u64) -> Vec<CurvePoint> {
        let total = self.written_us.len() as u64;
        let end_us = self
            .last_us()
            .max(self.written_us.last().copied().unwrap_or(0));
        if total == 0 {
            return Vec::new();
        }
        let share = |times: &[u64], at_us| {
            let count = times.partition_point(|it| *it <= at_us) as u64;
            u16::try_from(count * 1000 / total).expect("a share")
        };
        let step_us = end_us.div_ceil(points).max(1);
        let moments = (0..=end_us.div_ceil(step_us)).map(|at| at * step_us);
        moments
            .map(|at_us| CurvePoint {
                at_us,
                written: share(&self.written_us, at_us),
                delivered: share(&self.delivered_us, at_us),
            })
            .collect()
    }
}

/// A point of the convergence curve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CurvePoint {
    /// Simulated microseconds since the start.
    pub at_us: u64,
    /// Thousandths of all (peer, write) pairs of the run that had been written.
    pub written: u16,
    /// Thousandths that had been delivered.
    pub delivered: u16,
}

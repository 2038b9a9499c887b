//! A storm of changes on few documents.

use crate::{
    engines::Failure,
    report::Row,
    sync::{Class, DURABLE, Effort, pair::Pair},
};

/// What the names of its rows begin with.
pub(super) const WORKLOAD: &str = "storm";

/// Documents that are changed again and again.
pub(super) const DOCUMENTS: u64 = 1_000;
/// Documents of one commit, always the same together.
pub(super) const PER_COMMIT: u64 = 50;
/// Threads that commit.
pub(super) const WRITERS: u64 = 4;

const UPDATES_PER_S: u64 = 50_000;
const CONVERGED_MS_MAX: f64 = 1_000.0;
/// Memory may differ by so much between the second quarter of the storm and its last.
const GROWTH_MIB_MAX: f64 = 8.0;

/// Runs the storm once.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let mut pair = Pair::start(Class::Durable)?;
    pair.sender.ask(&format!("fill {DOCUMENTS}"))?;
    let address = pair.sender.ask("listen")?;
    pair.receiver.ask(&format!("first {address}"))?;
    pair.receiver.ask("sample")?;
    let ms = effort.storm.as_millis();
    let storm = pair
        .sender
        .ask_numbers(&format!("storm {ms} {UPDATES_PER_S}"))?;
    let [updates, took_nanos, ended_at, last, of_sender @ ..] = &storm[..] else {
        return Err("figures of the storm are missing".into());
    };
    let agreed_at = pair.receiver.ask_numbers(&format!("agree {last}"))?;
    let agreed_at = *agreed_at.first().ok_or("no figure")?;
    let of_receiver = pair.receiver.ask_numbers("sampled")?;
    let verified = pair.is_equal(DOCUMENTS)?;
    pair.end()?;
    let rate = *updates as f64 / (*took_nanos as f64 / 1e9);
    let converged_ms = agreed_at.saturating_sub(*ended_at) as f64 / 1e6;
    let (sender, receiver) = (Memory::of(of_sender)?, Memory::of(&of_receiver)?);
    tell(&format!(
        "storm: {rate:.0} updates/s, agreed {converged_ms:.0} ms after its end; sender {sender}, receiver {receiver}"
    ));
    let row = |workload, unit, figure: f64, goal, reached| Row {
        workload,
        unit,
        idem: Some(figure),
        other: None,
        other_name: "",
        ratio: 0.0,
        durability: DURABLE,
        errors: 0,
        verified,
        goal,
        reached,
    };
    let memory = |workload, memory: &Memory| {
        row(
            workload,
            "MiB of growth from the second quarter of the storm to the last",
            memory.growth_mib(),
            "flat: under 8 MiB",
            memory.growth_mib() < GROWTH_MIB_MAX,
        )
    };
    let peak = |workload, memory: &Memory| {
        row(workload, "MiB of memory at most", memory.peak_mib, "", true)
    };
    Ok(vec![
        row(
            "storm-updates",
            "updates/s",
            rate,
            "50,000 updates/s",
            rate >= 0.98 * UPDATES_PER_S as f64,
        ),
        row(
            "storm-converged",
            "ms from the end of the storm until both peers agree",
            converged_ms,
            "under 1,000 ms",
            converged_ms < CONVERGED_MS_MAX,
        ),
        memory("storm-sender-growth", &sender),
        memory("storm-receiver-growth", &receiver),
        peak("storm-sender-peak", &sender),
        peak("storm-receiver-peak", &receiver),
    ])
}

/// The resident memory of a process while the storm lasted.
struct Memory {
    before_mib: f64,
    after_mib: f64,
    peak_mib: f64,
}

impl Memory {
    /// `samples` are KiB in the order of time.
    fn of(samples: &[u64]) -> Result<Self, Failure> {
        let mib: Vec<f64> = samples.iter().map(|kib| *kib as f64 / 1024.0).collect();
        if mib.is_empty() {
            return Err("no samples of memory".into());
        }
        let quarter = mib.len().div_ceil(4);
        let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        let second = &mib[quarter.min(mib.len() - 1)..(2 * quarter).min(mib.len()).max(1)];
        Ok(Self {
            before_mib: most(if second.is_empty() { &mib } else { second }),
            after_mib: most(&mib[mib.len() - quarter..]),
            peak_mib: most(&mib),
        })
    }

    fn growth_mib(&self) -> f64 {
        (self.after_mib - self.before_mib).max(0.0)
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} MiB, later {:.1}, at most {:.1}",
            self.before_mib, self.after_mib, self.peak_mib
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_comes_behind_the_second_quarter() {
        let growth = |samples: &[u64]| Memory::of(samples).unwrap().growth_mib();
        let mib = 1024;
        assert!(Memory::of(&[]).is_err());
        assert_eq!(growth(&[mib]), 0.0);
        assert_eq!(growth(&[mib, 2 * mib]), 0.0);
        assert_eq!(growth(&[mib, 9 * mib, 9 * mib, 9 * mib]), 0.0);
        assert_eq!(growth(&[mib, 2 * mib, 9 * mib, 3 * mib]), 1.0);
        assert_eq!(
            growth(&[9 * mib, 9 * mib, 2 * mib, 2 * mib, mib, mib, mib, 3 * mib]),
            1.0
        );
    }
}

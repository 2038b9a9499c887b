//! How much memory a SELECT over very many documents takes when its rows are not collected.

use super::Effort;
use crate::{engines::Failure, report::Row};

pub(super) const WORKLOAD: &str = "streamed-select-memory";

/// The store gives a result as a whole, so there is nothing to measure.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Row, Failure> {
    tell(&format!(
        "{WORKLOAD}: not yet: a result of {} rows is collected",
        effort.streamed
    ));
    Ok(Row {
        workload: WORKLOAD,
        unit: "MiB of growth",
        idem: None,
        other: None,
        other_name: "",
        ratio: 0.0,
        durability: super::READ_ONLY,
        errors: 0,
        verified: true,
        goal: "flat: under 16 MiB",
        reached: false,
    })
}

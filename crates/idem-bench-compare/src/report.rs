//! What is printed: one row a workload.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// What stands in the place of a figure that cannot be taken.
const NOT_YET: &str = "not yet";

/// The outcome of one workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// Stable name.
    pub(crate) workload: &'static str,
    /// Unit of both figures.
    pub(crate) unit: &'static str,
    /// Median of Idem; `None` where it cannot do the work yet.
    pub(crate) idem: Option<f64>,
    /// Median of the other side, or its published figure; `None` where nothing stands beside.
    pub(crate) other: Option<f64>,
    /// What stands beside.
    pub(crate) other_name: &'static str,
    /// How many times better Idem is: `idem / other` where more is better, `other / idem` where less
    /// is.
    pub(crate) ratio: f64,
    /// What an acknowledgement meant, on both sides.
    pub(crate) durability: &'static str,
    /// Operations that failed, on both sides together.
    pub(crate) errors: u64,
    /// Whether the results were counted afterwards and right, on both sides.
    pub(crate) verified: bool,
    /// What the figure of Idem must reach, in words.
    #[serde(skip)]
    pub(crate) goal: &'static str,
    /// Whether it does.
    #[serde(skip)]
    pub(crate) reached: bool,
}

/// Which figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

impl Better {
    /// How many times better `idem` is than `other`; 0 without figures.
    pub(crate) fn ratio(self, idem: f64, other: f64) -> f64 {
        let (above, below) = match self {
            Self::More => (idem, other),
            Self::Less => (other, idem),
        };
        if below > 0.0 { above / below } else { 0.0 }
    }
}

/// The middle of the figures; 0 of none.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

/// The figure below which `of_100` of 100 figures lie; 0 of none.
pub(crate) fn percentile(figures: &[f64], of_100: u32) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = sorted.len() * of_100 as usize / 100;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).copied().unwrap_or_default()
}

/// Prints the rows: one JSON object a line, or a table.
///
/// # Errors
/// Those of writing to stdout.
pub(crate) fn print(rows: &[Row], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for row in rows {
            serde_json::to_writer(&mut out, row)?;
            out.write_all(b"\n")?;
        }
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "workload", "idem", "beside", "unit", "ratio", "goal", "reached", "errors", "verified",
    ]);
    for row in rows {
        table.add_row([
            row.workload.to_owned(),
            row.idem.map_or_else(|| NOT_YET.to_owned(), shown),
            row.other.map_or_else(
                || row.other_name.to_owned(),
                |figure| format!("{} ({})", shown(figure), row.other_name),
            ),
            row.unit.to_owned(),
            if row.ratio > 0.0 {
                format!("{:.2}x", row.ratio)
            } else {
                String::new()
            },
            row.goal.to_owned(),
            if row.reached { "yes" } else { "NO" }.to_owned(),
            row.errors.to_string(),
            if row.verified { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    for column in [1, 4, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    writeln!(out, "{table}")
}

fn shown(figure: f64) -> String {
    if figure >= 100.0 {
        format!("{figure:.0}")
    } else if figure >= 1.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        let hundred: Vec<f64> = (0..100).rev().map(f64::from).collect();
        assert_eq!(percentile(&[], 50), 0.0);
        assert_eq!(percentile(&hundred, 50), 50.0);
        assert_eq!(percentile(&hundred, 99), 99.0);
        assert_eq!(percentile(&hundred[..1], 99), 99.0);
        assert_eq!(Better::More.ratio(10.0, 5.0), 2.0);
        assert_eq!(Better::Less.ratio(10.0, 5.0), 0.5);
        assert_eq!(Better::More.ratio(1.0, 0.0), 0.0);
    }
}

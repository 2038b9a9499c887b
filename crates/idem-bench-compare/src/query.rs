//! Queries beside SQLite: one store of airports on each side, the same statements, the same answers.
//!
//! SQLite holds the documents twice, as JSON text and as JSONB, with the same expression indexes; both
//! run every statement, and the faster of the two stands beside Idem.

mod airports;
mod crowd;
mod idem_side;
mod live;
mod nothing;
mod parse;
mod sqlite_side;
mod stream;
mod works;

use std::time::Instant;

use idem::Object;

use crate::{
    engines::Failure,
    query::{
        airports::Airports,
        idem_side::IdemSide,
        sqlite_side::{Form, SqliteSide},
        works::{Check, WORKS, Work},
    },
    report::{Better, Row, median},
};

/// The arguments of a statement by name.
type Args = Vec<(&'static str, idem::Value)>;

const TEXT: &str = "SQLite 3, JSON text";
const JSONB: &str = "SQLite 3, JSONB";
/// Both sides: a commit is acknowledged when it is on disk.
const DURABLE: &str = "durable (fsync before the acknowledgement)";
const READ_ONLY: &str = "reads only";
/// What either side may keep in memory of its file: all of it.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// How much work a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds on each side.
    pub(crate) rounds: usize,
    /// Airports in the collection.
    pub(crate) documents: u64,
    /// Documents that are streamed while the memory is watched.
    pub(crate) streamed: u64,
    /// Commits under an observer.
    pub(crate) observed: u32,
}

impl Effort {
    /// What the goals are about.
    pub(crate) fn full(rounds: usize) -> Self {
        Self {
            rounds,
            documents: 100_000,
            streamed: 1_000_000,
            observed: 300,
        }
    }

    /// Far too little for a figure: it shows that everything runs and is right.
    pub(crate) const QUICK: Self = Self {
        rounds: 1,
        documents: 3_000,
        streamed: 3_000,
        observed: 10,
    };
}

/// What the figure must be.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// At least so many times as fast as the other side.
    Ratio(f64),
    /// Less than this, in the unit of the row.
    Below(f64),
}

/// The answer of one statement.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Answer {
    rows: usize,
    /// Over the contents of the rows, in their order only where the statement has one.
    checksum: u64,
}

/// Runs every workload whose name contains `only`; `tell` is told what goes on.
pub(crate) fn run(effort: Effort, only: &str, tell: impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let wanted = |name: &str| name.contains(only);
    let mut rows = Vec::new();
    if WORKS.iter().any(|work| wanted(work.workload)) {
        let airports = Airports::new(effort.documents);
        let directory = tempfile::tempdir()?;
        let sides = Sides::open(directory.path(), &airports, &tell)?;
        for work in WORKS.iter().filter(|work| wanted(work.workload)) {
            rows.push(compare(work, &sides, &airports, effort.rounds, &tell)?);
        }
    }
    if wanted(live::WORKLOAD) {
        rows.push(live::run(effort, &tell)?);
    }
    if wanted(crowd::WORKLOAD) {
        rows.push(crowd::run(effort, &tell)?);
    }
    if wanted(stream::WORKLOAD) {
        rows.push(stream::run(effort, &tell)?);
    }
    rows.extend(parse::run(effort, wanted)?);
    Ok(rows)
}

struct Sides {
    idem: IdemSide,
    text: SqliteSide,
    jsonb: SqliteSide,
}

impl Sides {
    fn open(
        directory: &std::path::Path,
        airports: &Airports,
        tell: &impl Fn(&str),
    ) -> Result<Self, Failure> {
        tell(&format!("storing {} airports on each side", airports.count));
        Ok(Self {
            idem: IdemSide::open(&directory.join("idem"), airports)?,
            text: SqliteSide::open(&directory.join("text.sqlite"), Form::Text, airports)?,
            jsonb: SqliteSide::open(&directory.join("jsonb.sqlite"), Form::Jsonb, airports)?,
        })
    }
}

/// One system.
trait Side {
    /// A result as an app gets it.
    type Result: IntoRows;

    /// Runs the statement.
    fn call(&self, work: &Work, args: &Args) -> Result<Self::Result, Failure>;

    /// What a statement that writes left behind.
    fn check(&self, check: &Check) -> Result<Vec<Object>, Failure>;
}

/// A result that can be compared, which is not part of the figure.
trait IntoRows {
    /// The rows by the names of their columns.
    fn into_rows(self) -> Vec<Object>;
}

/// One system's rounds of one workload.
#[derive(Default)]
struct Figures {
    ms: Vec<f64>,
    answers: Vec<Answer>,
}

impl Figures {
    fn ms(&self) -> f64 {
        median(&self.ms)
    }

    /// One round; the figure is the time of one call. The first round warms up and is only verified.
    fn play(
        &mut self,
        work: &Work,
        airports: &Airports,
        round: usize,
        side: &impl Side,
    ) -> Result<(), Failure> {
        let first = round as u64 * work.calls;
        let all_args: Vec<Args> = (first..first + work.calls)
            .map(|number| (work.args)(airports, number))
            .collect();
        let mut taken = 0.0;
        for args in &all_args {
            let start = Instant::now();
            let result = std::hint::black_box(side.call(work, args)?);
            taken += start.elapsed().as_secs_f64() * 1e3;
            self.answers
                .push(answer(&result.into_rows(), work.is_ordered));
        }
        if round > 0 {
            self.ms.push(taken / work.calls as f64);
        }
        if let Some(check) = &work.check {
            self.answers.push(answer(&side.check(check)?, true));
        }
        Ok(())
    }
}

fn compare(
    work: &Work,
    sides: &Sides,
    airports: &Airports,
    rounds: usize,
    tell: &impl Fn(&str),
) -> Result<Row, Failure> {
    let (mut idem, mut text, mut jsonb) =
        (Figures::default(), Figures::default(), Figures::default());
    let mut can = true;
    for round in 0..=rounds {
        // A statement that Idem cannot run yet is told, not failed: SQLite's figure stands alone.
        if can && let Err(error) = idem.play(work, airports, round, &sides.idem) {
            match error.downcast_ref::<idem::Error>() {
                Some(found) if idem_side::is_not_yet(found) => {
                    tell(&format!("{}: not yet: {found}", work.workload));
                    can = false;
                }
                _ => return Err(error),
            }
        }
        text.play(work, airports, round, &sides.text)?;
        jsonb.play(work, airports, round, &sides.jsonb)?;
    }
    tell(&format!(
        "{}: idem {:.3} ms, SQLite text {:.3} ms, SQLite JSONB {:.3} ms",
        work.workload,
        idem.ms(),
        text.ms(),
        jsonb.ms()
    ));
    let is_same = text.answers == jsonb.answers && (!can || text.answers == idem.answers);
    let rows: usize = text.answers.iter().map(|answer| answer.rows).sum();
    let (other, other_name) = if text.ms() <= jsonb.ms() {
        (text.ms(), TEXT)
    } else {
        (jsonb.ms(), JSONB)
    };
    let ratio = Better::Less.ratio(idem.ms(), other);
    Ok(Row {
        workload: work.workload,
        unit: "ms a statement",
        idem: can.then(|| idem.ms()),
        other: Some(other),
        other_name,
        ratio,
        durability: if work.check.is_some() {
            DURABLE
        } else {
            READ_ONLY
        },
        errors: 0,
        verified: is_same && rows > 0,
        goal: work.goal_text,
        reached: can
            && match work.goal {
                Goal::Ratio(least) => ratio >= least,
                Goal::Below(most) => idem.ms() < most,
            },
    })
}

/// What a result says, whoever gave it: a number counts by its value, and null as absent.
fn answer(rows: &[Object], is_ordered: bool) -> Answer {
    let mut checksum = 0u64;
    for row in rows {
        let mut hash = 0xcbf2_9ce4_8422_2325;
        for (name, value) in row {
            let text = match value {
                idem::Value::Null => continue,
                idem::Value::String(text) => text.clone(),
                other => other
                    .as_f64()
                    .map_or_else(|| format!("{other:?}"), |n| format!("{n:.6}")),
            };
            for byte in name.bytes().chain([0]).chain(text.bytes()).chain([1]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        let before = if is_ordered {
            checksum.wrapping_mul(31)
        } else {
            checksum
        };
        checksum = before.wrapping_add(crate::documents::mix(hash));
    }
    Answer {
        rows: rows.len(),
        checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_where_rows_do() {
        let row = |n: i64| Object::from([("n".to_owned(), idem::Value::Int(n))]);
        let float = Object::from([
            ("absent".to_owned(), idem::Value::Null),
            ("n".to_owned(), idem::Value::Float(1.0)),
        ]);
        assert_eq!(answer(&[row(1)], true), answer(&[float], true));
        assert_ne!(answer(&[row(1)], true), answer(&[row(2)], true));
        let (there, back) = ([row(1), row(2)], [row(2), row(1)]);
        assert_eq!(answer(&there, false), answer(&back, false));
        assert_ne!(answer(&there, true), answer(&back, true));
        assert_ne!(answer(&[row(1)], false), answer(&[row(1), row(1)], false));
    }
}

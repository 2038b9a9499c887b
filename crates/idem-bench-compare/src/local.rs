//! Durable writes and point reads beside SQLite.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    documents::{self, CATEGORIES},
    engines::{Engine, Failure, IdemEngine, SqliteEngine, Writer},
    metadata,
    report::{Better, Row, median},
};

const SQLITE: &str = "SQLite 3 (WAL, synchronous=FULL, JSON text, expression index)";
const DURABLE: &str = "durable (fsync before the acknowledgement)";
/// Documents that are there before the point reads.
const READ_DOCUMENTS: u64 = 20_000;

/// How much work a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds on each side.
    pub(crate) rounds: usize,
    /// Multiplies the operations of a round.
    pub(crate) scale: f64,
}

/// One kind of work.
struct Work {
    workload: &'static str,
    threads: u64,
    per_commit: u64,
    operations: u64,
    kind: Kind,
    goal: &'static str,
    ratio_min: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Read,
}

const WORKS: [Work; 4] = [
    Work {
        workload: "durable-insert-1-writer",
        threads: 1,
        per_commit: 1,
        operations: 4_000,
        kind: Kind::Insert,
        goal: "1.0x",
        ratio_min: 1.0,
    },
    Work {
        workload: "durable-insert-32-writers",
        threads: 32,
        per_commit: 1,
        operations: 6_400,
        kind: Kind::Insert,
        goal: "5x",
        ratio_min: 5.0,
    },
    Work {
        workload: "durable-insert-100-per-commit",
        threads: 1,
        per_commit: 100,
        operations: 40_000,
        kind: Kind::Insert,
        goal: "1.5x",
        ratio_min: 1.5,
    },
    Work {
        workload: "point-read-by-id",
        threads: 1,
        per_commit: 1,
        operations: 40_000,
        kind: Kind::Read,
        goal: "0.7x",
        ratio_min: 0.7,
    },
];

/// Runs every workload; `tell` is told what goes on.
pub(crate) fn run(effort: Effort, tell: impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for work in &WORKS {
        rows.push(compare(work, effort, &tell)?);
    }
    rows.extend(metadata::rows());
    Ok(rows)
}

/// What one round on one side gave.
struct Round {
    per_second: f64,
    errors: u64,
    verified: bool,
}

fn compare(work: &Work, effort: Effort, tell: &impl Fn(&str)) -> Result<Row, Failure> {
    let (mut idem, mut sqlite) = (Vec::new(), Vec::new());
    for round in 1..=effort.rounds {
        idem.push(play::<IdemEngine>(work, effort)?);
        sqlite.push(play::<SqliteEngine>(work, effort)?);
        let last = |rounds: &[Round]| rounds.last().map_or(0.0, |round| round.per_second);
        tell(&format!(
            "{} round {round}/{}: idem {:.0}/s, SQLite {:.0}/s",
            work.workload,
            effort.rounds,
            last(&idem),
            last(&sqlite)
        ));
    }
    let middle = |rounds: &[Round]| {
        let figures: Vec<_> = rounds.iter().map(|round| round.per_second).collect();
        median(&figures)
    };
    let (of_idem, of_sqlite) = (middle(&idem), middle(&sqlite));
    let ratio = Better::More.ratio(of_idem, of_sqlite);
    let all = || idem.iter().chain(&sqlite);
    Ok(Row {
        workload: work.workload,
        unit: match work.kind {
            Kind::Insert => "documents/s",
            Kind::Read => "reads/s",
        },
        idem: Some(of_idem),
        other: Some(of_sqlite),
        other_name: SQLITE,
        ratio,
        durability: DURABLE,
        errors: all().map(|round| round.errors).sum(),
        verified: all().all(|round| round.verified),
        goal: work.goal,
        reached: ratio >= work.ratio_min,
    })
}

fn play<E: Engine>(work: &Work, effort: Effort) -> Result<Round, Failure> {
    let directory = tempfile::tempdir()?;
    let engine = E::open(directory.path())?;
    let lot = work.threads * work.per_commit;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a number of operations, rounded"
    )]
    let scaled = (work.operations as f64 * effort.scale) as u64;
    let operations = scaled.max(1).div_ceil(lot) * lot;
    let (elapsed, errors, documents) = match work.kind {
        Kind::Insert => {
            let (elapsed, errors) = insert(&engine, work, operations)?;
            (elapsed, errors, operations)
        }
        Kind::Read => {
            let stored = READ_DOCUMENTS.min(operations);
            fill(&engine, stored)?;
            let (elapsed, errors) = read(&engine, stored, operations)?;
            (elapsed, errors, stored)
        }
    };
    let verified = engine.count()? == documents && categories_are_right(&engine, documents)?;
    Ok(Round {
        per_second: operations as f64 / elapsed.as_secs_f64(),
        errors,
        verified,
    })
}

/// Every category holds the documents whose number falls on it.
fn categories_are_right<E: Engine>(engine: &E, documents: u64) -> Result<bool, Failure> {
    let categories = u64::try_from(CATEGORIES)?;
    for category in 0..categories {
        let expected = documents / categories + u64::from(documents % categories > category);
        if engine.count_category(i64::try_from(category)?)? != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Inserts from as many threads as the work says; the clock starts when all are ready.
fn insert<E: Engine>(engine: &E, work: &Work, operations: u64) -> Result<(Duration, u64), Failure> {
    let share = operations / work.threads;
    let per_commit = usize::try_from(work.per_commit)?;
    let barrier = std::sync::Barrier::new(usize::try_from(work.threads)? + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..work.threads)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || -> Result<u64, Failure> {
                    let range = thread * share..(thread + 1) * share;
                    // Both sides get their documents ready made, and by value as an app gives them.
                    let commits = in_commits(range.map(E::prepare), per_commit);
                    let writer = engine.writer();
                    barrier.wait();
                    let mut writer = writer?;
                    let failed = commits
                        .into_iter()
                        .filter_map(|commit| writer.insert(commit).err());
                    Ok(failed.count() as u64)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let mut errors = 0;
        for thread in threads {
            errors += thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok((start.elapsed(), errors))
    })
}

fn fill<E: Engine>(engine: &E, count: u64) -> Result<(), Failure> {
    let mut writer = engine.writer()?;
    in_commits((0..count).map(E::prepare), 1000)
        .into_iter()
        .try_for_each(|commit| writer.insert(commit))
}

/// The documents of each commit.
fn in_commits<D>(mut documents: impl Iterator<Item = D>, per_commit: usize) -> Vec<Vec<D>> {
    let mut commits = Vec::new();
    loop {
        let commit: Vec<D> = documents.by_ref().take(per_commit).collect();
        if commit.is_empty() {
            return commits;
        }
        commits.push(commit);
    }
}

fn read<E: Engine>(engine: &E, stored: u64, reads: u64) -> Result<(Duration, u64), Failure> {
    let ids: Vec<_> = (0..reads)
        .map(|number| documents::id(documents::mix(number) % stored))
        .collect();
    let mut reader = engine.writer()?;
    let start = Instant::now();
    let mut errors = 0;
    for id in &ids {
        errors += u64::from(!reader.read(id).unwrap_or(false));
    }
    Ok((start.elapsed(), errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far too little work for a figure: it shows that both sides do it and are counted.
    const LITTLE: Effort = Effort {
        rounds: 1,
        scale: 0.01,
    };

    fn check<E: Engine>() {
        for work in &WORKS {
            let round = play::<E>(work, LITTLE).unwrap();
            assert!(round.verified, "{}", work.workload);
            assert_eq!(round.errors, 0, "{}", work.workload);
            assert!(round.per_second > 0.0);
        }
    }

    #[test]
    fn sqlite_does_every_workload() {
        check::<SqliteEngine>();
    }

    #[test]
    fn idem_does_every_workload() {
        check::<IdemEngine>();
    }

    /// More documents in a category than an index is read in one go.
    fn count<E: Engine>(documents: u64) {
        let directory = tempfile::tempdir().unwrap();
        let engine = E::open(directory.path()).unwrap();
        fill(&engine, documents).unwrap();
        assert_eq!(engine.count().unwrap(), documents);
        assert!(categories_are_right(&engine, documents).unwrap());
        assert!(!categories_are_right(&engine, documents + 1).unwrap());
    }

    #[test]
    fn a_lost_document_shows() {
        count::<SqliteEngine>(250);
        count::<IdemEngine>(15_050);
    }
}

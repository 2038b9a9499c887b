//! What a small statement costs before it runs.

use std::time::Instant;

use idem::{Durability, Object};
use rusqlite::Connection;

use super::{Effort, READ_ONLY, idem_side, nothing::Nothing};
use crate::{
    engines::Failure,
    report::{Better, Row, median},
};

const DQL: &str = "SELECT _id, name FROM airports WHERE country = :country AND elevation_ft > 100 \
                   ORDER BY name LIMIT 10";
const SQL: &str = "SELECT id, json_extract(body, '$.name') FROM airports \
                   WHERE json_extract(body, '$.country') = :country \
                   AND json_extract(body, '$.elevation_ft') > 100 \
                   ORDER BY json_extract(body, '$.name') LIMIT 10";
const PARSED_US_MAX: f64 = 10.0;
const CACHED_US_MAX: f64 = 1.0;
/// Statements of a round.
const STATEMENTS: u32 = 2_000;

/// Parsing and binding; finding a parsed statement by its text and choosing its access path, without
/// running it; and the whole run of a statement that was seen before on a store without the collection,
/// its bookkeeping included.
pub(super) fn run(effort: Effort, wanted: impl Fn(&str) -> bool) -> Result<Vec<Row>, Failure> {
    let directory = tempfile::tempdir()?;
    let idem = idem_side::open(&directory.path().join("idem"), Durability::Durable)?;
    let sqlite = Connection::open_in_memory()?;
    sqlite.execute_batch("CREATE TABLE airports (id TEXT PRIMARY KEY, body TEXT NOT NULL)")?;
    let mut rows = Vec::new();
    if wanted("parse-small") {
        let of_idem = median_us(effort, || {
            idem_query::parse(std::hint::black_box(DQL))?;
            Ok(())
        })?;
        let of_sqlite = median_us(effort, || {
            sqlite.prepare(std::hint::black_box(SQL))?;
            Ok(())
        })?;
        rows.push(row(
            "parse-small",
            "us to parse and bind",
            of_idem,
            (of_sqlite, "SQLite 3, prepare"),
            ("under 10 us", PARSED_US_MAX),
        ));
    }
    if wanted("plan-cached") {
        let found = median_us(effort, find()?)?;
        let planned = plan_us(effort)?;
        let of_sqlite = median_us(effort, || {
            sqlite.prepare_cached(std::hint::black_box(SQL))?;
            Ok(())
        })?;
        rows.push(row(
            "plan-cached",
            "us to find and plan",
            found + planned,
            (of_sqlite, "SQLite 3, to find what is prepared"),
            ("under 1 us", CACHED_US_MAX),
        ));
    }
    if wanted("run-cached-on-nothing") {
        let of_idem = median_us(effort, || {
            let args = Object::from([("country".to_owned(), "NZ".into())]);
            idem.store().execute_blocking((DQL, args))?;
            Ok(())
        })?;
        let of_sqlite = median_us(effort, || {
            let mut statement = sqlite.prepare_cached(SQL)?;
            let mut found = statement.query(&[(":country", "NZ")])?;
            found.next()?;
            Ok(())
        })?;
        rows.push(row(
            "run-cached-on-nothing",
            "us to find, plan and run",
            of_idem,
            (of_sqlite, "SQLite 3, prepared and kept"),
            ("", f64::INFINITY),
        ));
    }
    idem.close_blocking()?;
    Ok(rows)
}

/// Looks up a statement that a store has seen before.
fn find() -> Result<impl FnMut() -> Result<(), Failure>, Failure> {
    let store = idem_store::Store::open(idem_store::StoreConfig::memory())?;
    Ok(move || {
        store.reads_only(std::hint::black_box(DQL))?;
        Ok(())
    })
}

/// The microseconds that the choice of the access path takes by the clock of PROFILE.
fn plan_us(effort: Effort) -> Result<f64, Failure> {
    let statement = idem_query::parse(&format!("PROFILE {DQL}"))?;
    let args = Object::from([("country".to_owned(), "NZ".into())]);
    let nothing = Nothing::with_index("airports", "country")?;
    let start = Instant::now();
    let clock = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut figures = Vec::new();
    for round in 0..=effort.rounds {
        let mut nanos = 0;
        for _ in 0..STATEMENTS {
            let context = idem_query::Context::new(&args, 0).with_clock(&clock, 0);
            let output = idem_query::execute(std::hint::black_box(&statement), &context, &nothing)?;
            nanos += planning(&output.items).ok_or("PROFILE gives no time of planning")?;
        }
        if round > 0 {
            figures.push(nanos as f64 / 1e3 / f64::from(STATEMENTS));
        }
    }
    Ok(median(&figures))
}

fn planning(rows: &[Object]) -> Option<i64> {
    let profile = rows.last()?.get("~request_profile")?.as_object()?;
    let times = profile.get("times")?.as_object()?;
    times.get("plan")?.as_int()
}

/// The median over the rounds of the microseconds that one call takes.
fn median_us(
    effort: Effort,
    mut call: impl FnMut() -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let mut figures = Vec::new();
    for round in 0..=effort.rounds {
        let start = Instant::now();
        for _ in 0..STATEMENTS {
            call()?;
        }
        if round > 0 {
            figures.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(STATEMENTS));
        }
    }
    Ok(median(&figures))
}

fn row(
    workload: &'static str,
    unit: &'static str,
    idem: f64,
    (other, other_name): (f64, &'static str),
    (goal, us_max): (&'static str, f64),
) -> Row {
    Row {
        workload,
        unit,
        idem: Some(idem),
        other: Some(other),
        other_name,
        ratio: Better::Less.ratio(idem, other),
        durability: READ_ONLY,
        errors: 0,
        verified: true,
        goal,
        reached: idem < us_max,
    }
}

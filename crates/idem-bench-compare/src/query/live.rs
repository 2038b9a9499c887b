//! How long after a commit an observer in the same process is called.

use std::{sync::mpsc, time::Duration, time::Instant};

use idem::{Durability, Object, QueryResult, TransactionOptions, Value};

use super::{Effort, airports::Airports, idem_side};
use crate::{
    engines::Failure,
    report::{Row, median},
};

pub(super) const WORKLOAD: &str = "observer-p50";

const P50_MS_MAX: f64 = 0.2;
/// How long a callback may take before the run is given up.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// No index has the field: whoever runs the query again for every commit reads all documents.
const OBSERVED: &str = "SELECT _id, name, elevation_ft FROM airports WHERE name = :name";
const UPDATE: &str = "UPDATE airports SET elevation_ft = :n WHERE _id = :id";

/// Commits to a document of a live query over all airports, one at a time.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Row, Failure> {
    let directory = tempfile::tempdir()?;
    let idem = idem_side::open(&directory.path().join("idem"), Durability::Relaxed)?;
    let airports = Airports::new(effort.documents);
    idem_side::fill(&idem, &airports)?;
    let watched = airports.document(effort.documents / 2);
    let (id, name) = (watched["_id"].clone(), watched["name"].clone());
    let args = Object::from([("name".to_owned(), name)]);
    let (sender, calls) = mpsc::channel::<(Instant, QueryResult)>();
    let observer = idem
        .store()
        .register_observer((OBSERVED, args), move |result| {
            // The receiver is gone only when the run is over.
            let _ = sender.send((Instant::now(), result));
        })?;
    calls.recv_timeout(WAIT_MAX)?;
    let mut times = Vec::new();
    let mut verified = true;
    for number in 0..i64::from(effort.observed) {
        let args = Object::from([
            ("n".to_owned(), Value::Int(-1_000_000 - number)),
            ("id".to_owned(), id.clone()),
        ]);
        let transaction = idem.store().begin_blocking(TransactionOptions::new())?;
        transaction.execute_blocking((UPDATE, args))?;
        let start = Instant::now();
        transaction.commit_blocking()?;
        let (called, result) = calls.recv_timeout(WAIT_MAX)?;
        times.push(called.saturating_duration_since(start).as_secs_f64() * 1e3);
        let mut rows = result.iter();
        let seen = rows.find(|row| row.field("_id") == Some(&id));
        verified &=
            seen.and_then(|row| row.field("elevation_ft")?.as_int()) == Some(-1_000_000 - number);
    }
    drop(observer);
    idem.close_blocking()?;
    let p50 = median(&times);
    tell(&format!("{WORKLOAD}: {p50:.3} ms"));
    Ok(Row {
        workload: WORKLOAD,
        unit: "ms from the commit to the callback",
        idem: Some(p50),
        other: None,
        other_name: "SQLite has no live queries",
        ratio: 0.0,
        durability: "relaxed (handed to the operating system)",
        errors: 0,
        verified,
        goal: "under 0.2 ms",
        reached: p50 < P50_MS_MAX,
    })
}

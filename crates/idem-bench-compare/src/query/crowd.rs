//! What a thousand observers cost a commit that concerns one of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use idem::{Durability, Idem, Object, StoreObserver, Value};

use super::{Effort, airports::Airports, idem_side};
use crate::{
    engines::Failure,
    report::{Row, median},
};

pub(super) const WORKLOAD: &str = "observers-1000";

const OBSERVERS_MAX: u64 = 1000;
const RATIO_MAX: f64 = 1.2;
/// How long a callback may take before the run is given up.
const WAIT_MAX: Duration = Duration::from_secs(30);

const OBSERVED: &str = "SELECT _id, elevation_ft FROM airports WHERE ident = :ident ORDER BY _id";
const UPDATE: &str = "UPDATE airports SET elevation_ft = :n WHERE _id = :id";

/// Commits to two stores in turn, of which one is observed.
pub(super) fn run(effort: Effort, tell: &impl Fn(&str)) -> Result<Row, Failure> {
    let directory = tempfile::tempdir()?;
    let airports = Airports::new(effort.documents.min(10_000));
    let observers_max = OBSERVERS_MAX.min(effort.documents / 10);
    let open = |name: &str| -> Result<Idem, Failure> {
        let idem = idem_side::open(&directory.path().join(name), Durability::Relaxed)?;
        idem_side::fill(&idem, &airports)?;
        let index = "CREATE INDEX by_ident ON airports (ident)";
        idem.store().execute_blocking(index)?;
        Ok(idem)
    };
    let (alone, watched) = (open("alone")?, open("watched")?);
    let calls = Arc::new(AtomicU64::new(0));
    let (sender, called) = mpsc::channel();
    let mut observers = Vec::new();
    for number in 0..observers_max {
        let ident = mark(&[&alone, &watched], &airports, number)?;
        observers.push(observe(&watched, ident, number, &calls, &sender)?);
    }
    for _ in 0..observers_max {
        called.recv_timeout(WAIT_MAX)?;
    }
    let (mut alone_ms, mut watched_ms) = (Vec::new(), Vec::new());
    let mut verified = true;
    for commit in 0..u64::from(effort.observed) * 4 {
        let number = commit * 7 % observers_max;
        let id = airports.document(number)["_id"].clone();
        let time = |idem: &Idem| -> Result<f64, Failure> {
            let args = Object::from([
                (
                    "n".to_owned(),
                    Value::Int(-1_000_000 - commit.cast_signed()),
                ),
                ("id".to_owned(), id.clone()),
            ]);
            let start = Instant::now();
            idem.store().execute_blocking((UPDATE, args))?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        alone_ms.push(time(&alone)?);
        watched_ms.push(time(&watched)?);
        verified &= called.recv_timeout(WAIT_MAX)? == number;
    }
    verified &= calls.load(Ordering::Relaxed) == observers_max + u64::from(effort.observed) * 4;
    drop(observers);
    alone.close_blocking()?;
    watched.close_blocking()?;
    let ratio = median(&watched_ms) / median(&alone_ms);
    tell(&format!(
        "{WORKLOAD}: {:.4} ms beside {:.4} ms without observers",
        median(&watched_ms),
        median(&alone_ms)
    ));
    Ok(Row {
        workload: WORKLOAD,
        unit: "ms for a commit",
        idem: Some(median(&watched_ms)),
        other: Some(median(&alone_ms)),
        other_name: "Idem without observers",
        ratio,
        durability: "relaxed (handed to the operating system)",
        errors: 0,
        verified,
        goal: "at most 1.2x",
        reached: ratio <= RATIO_MAX,
    })
}

/// Gives an airport an ident that no other has.
fn mark(stores: &[&Idem], airports: &Airports, number: u64) -> Result<String, Failure> {
    let ident = format!("observed {number}");
    for idem in stores {
        let args = Object::from([
            ("ident".to_owned(), Value::from(ident.as_str())),
            ("id".to_owned(), airports.document(number)["_id"].clone()),
        ]);
        let text = "UPDATE airports SET ident = :ident WHERE _id = :id";
        idem.store().execute_blocking((text, args))?;
    }
    Ok(ident)
}

/// Observes the airport of an ident; its number is sent with every call.
fn observe(
    idem: &Idem,
    ident: String,
    number: u64,
    calls: &Arc<AtomicU64>,
    sender: &mpsc::Sender<u64>,
) -> Result<StoreObserver, Failure> {
    let args = Object::from([("ident".to_owned(), Value::from(ident))]);
    let (calls, sender) = (Arc::clone(calls), sender.clone());
    let observer = idem.store().register_observer((OBSERVED, args), move |_| {
        calls.fetch_add(1, Ordering::Relaxed);
        // The receiver is gone only when the run is over.
        let _ = sender.send(number);
    })?;
    Ok(observer)
}

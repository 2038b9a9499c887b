//! The first sync and the live latency between two processes over TCP on loopback.
//!
//! This process receives in the first workload and commits in the second; a child of the same program
//! is the other peer. The child is told what to do by its arguments, prints lines for this process,
//! and ends when its stdin does.

mod child;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey, TransportConfig};

use crate::{
    documents::CATEGORIES,
    engines::{Failure, count, count_category},
    report::{Better, Row, median},
};

pub(crate) use child::run as run_child;

const DATABASE: DatabaseId = DatabaseId([2; 16]);
const ALL: &str = "SELECT * FROM docs";
const DURABLE: &str = "durable on both sides (fsync)";
/// PouchDB over HTTP: 0.7 to 2.0 thousand documents a second, the range of published measurements of
/// replication into PouchDB (design issue "The main job, end to end"). Its upper end stands in the row.
const POUCHDB_DOCUMENTS_PER_S: f64 = 2_000.0;
const DOCUMENTS_PER_S_MIN: f64 = 30_000.0;
const LATENCY_MS_MAX: f64 = 3.0;
/// How long anything may take before the run is given up.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How often the count on the receiver is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How much work a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Rounds of the first sync.
    pub(crate) rounds: usize,
    /// Documents of the first sync.
    pub(crate) documents: u64,
    /// Commits that the latency is the median of.
    pub(crate) commits: u64,
}

/// Runs both workloads; `tell` is told what goes on.
pub(crate) fn run(effort: Effort, tell: impl Fn(&str)) -> Result<Vec<Row>, Failure> {
    let mut rates = Vec::new();
    let mut verified = true;
    for round in 1..=effort.rounds {
        let (rate, right) = first_sync(effort.documents)?;
        tell(&format!(
            "first sync round {round}/{}: {rate:.0} documents/s",
            effort.rounds
        ));
        rates.push(rate);
        verified &= right;
    }
    let rate = median(&rates);
    let first = Row {
        workload: "first-sync",
        unit: "documents/s",
        idem: Some(rate),
        other: Some(POUCHDB_DOCUMENTS_PER_S),
        other_name: "PouchDB over HTTP, published 0.7-2.0k",
        ratio: Better::More.ratio(rate, POUCHDB_DOCUMENTS_PER_S),
        durability: "durable on the receiver (fsync)",
        errors: 0,
        verified,
        goal: "30,000 documents/s",
        reached: rate >= DOCUMENTS_PER_S_MIN && effort.documents >= 100_000,
    };
    let latency = live_latency(effort.commits)?;
    tell(&format!(
        "live latency: {:.2} ms",
        latency.idem.unwrap_or_default()
    ));
    Ok(vec![first, latency])
}

/// The configuration of either peer.
fn config(directory: &Path) -> IdemConfig {
    let key = SharedKey::from_secret("the two processes of one benchmark");
    IdemConfig::new(DATABASE, ConnectMode::SharedKey { key }).with_persistence_directory(directory)
}

/// A receiver that knows nothing fills from a sender that has everything.
fn first_sync(documents: u64) -> Result<(f64, bool), Failure> {
    let directory = tempfile::tempdir()?;
    let mut sender = Other::start(&[
        "sender",
        &directory.path().join("sender").to_string_lossy(),
        &documents.to_string(),
    ])?;
    let address = sender.line()?;
    let idem = Idem::open_sync(config(&directory.path().join("receiver")))?;
    idem.store()
        .execute_blocking(crate::engines::CREATE_INDEX)?;
    let subscription = idem.sync().register_subscription(ALL)?;
    idem.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    let start = Instant::now();
    idem.sync().start()?;
    loop {
        let statistics = idem.store().statistics()?;
        let durable = statistics.durable_commit >= statistics.last_commit;
        if durable && count(idem.store())? >= documents {
            break;
        }
        if start.elapsed() > WAIT_MAX {
            let arrived = count(idem.store())?;
            return Err(format!("only {arrived} of {documents} documents arrived").into());
        }
        thread::sleep(LOOK_INTERVAL);
    }
    let elapsed = start.elapsed();
    let digest: String = idem
        .store()
        .digest_blocking()?
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let categories = u64::try_from(CATEGORIES)?;
    let expected = documents / categories + u64::from(documents % categories > 1);
    let right = count_category(idem.store(), 1)? == expected && sender.line()? == digest;
    drop(subscription);
    sender.end()?;
    idem.close_blocking()?;
    Ok((documents as f64 / elapsed.as_secs_f64(), right))
}

/// Commits here, and the time at which the observer of the other process was called.
fn live_latency(commits: u64) -> Result<Row, Failure> {
    let directory = tempfile::tempdir()?;
    let idem = Idem::open_sync(config(&directory.path().join("writer")))?;
    idem.store()
        .execute_blocking(crate::engines::CREATE_INDEX)?;
    idem.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    idem.sync().start()?;
    let address = idem
        .sync()
        .tcp_addresses()
        .first()
        .copied()
        .ok_or("no listener")?;
    let mut observer = Other::start(&[
        "observer",
        &directory.path().join("observer").to_string_lossy(),
        &address.to_string(),
    ])?;
    let document = crate::documents::document(0);
    let insert = "INSERT INTO docs DOCUMENTS (:d)";
    let args = idem::Object::from([("d".to_owned(), idem::Value::Object(document))]);
    idem.store().execute_blocking((insert, args))?;
    // The first line says that the document has arrived.
    observer.line()?;
    let mut times = Vec::new();
    let mut right = true;
    for number in 1..=i64::try_from(commits)? {
        let update = "UPDATE docs SET price = :n WHERE _id = :id";
        let args = idem::Object::from([
            ("n".to_owned(), number.into()),
            ("id".to_owned(), crate::documents::id(0).into()),
        ]);
        let start = unix_nanos();
        idem.store().execute_blocking((update, args))?;
        let line = observer.line()?;
        let (seen, at) = line.split_once(' ').ok_or("a line without time")?;
        right &= seen.parse() == Ok(number);
        times.push(at.parse::<u128>()?.saturating_sub(start) as f64 / 1e6);
    }
    observer.end()?;
    idem.close_blocking()?;
    let p50 = median(&times);
    Ok(Row {
        workload: "live-latency-p50",
        unit: "ms from the start of the commit to the observer",
        idem: Some(p50),
        other: Some(LATENCY_MS_MAX),
        other_name: "the limit that was set; nothing comparable is published",
        ratio: Better::Less.ratio(p50, LATENCY_MS_MAX),
        durability: DURABLE,
        errors: 0,
        verified: right,
        goal: "under 3 ms",
        reached: p50 < LATENCY_MS_MAX,
    })
}

/// Nanoseconds since 1970: the one clock that two processes share.
fn unix_nanos() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos())
}

/// The other process.
struct Other {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(args: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("peer")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("stdout is piped")),
            child,
        })
    }

    /// The next line that it prints.
    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the other peer ended early".into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn end(mut self) -> Result<(), Failure> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the other peer ended with {status}").into())
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

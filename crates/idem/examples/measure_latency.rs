//! Goal: measure the time from a durable commit on one peer to the observer's call on another.
//!
//! Command: `cargo run --release -p idem --example measure_latency`
//!
//! Expected output: one line such as `2000 commits: p50 0.5 ms, p99 1.4 ms, max 3.0 ms`.

use std::{
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey, TransportConfig};
use serde_json::json;

const COMMITS: i64 = 2000;
const WAIT: Duration = Duration::from_secs(30);

fn peer(directory: &Path) -> Result<Idem, idem::Error> {
    let key = SharedKey::from_secret("two peers in one process");
    let mode = ConnectMode::SharedKey { key };
    let config = IdemConfig::new(DatabaseId([1; 16]), mode).with_persistence_directory(directory);
    Idem::open_sync(config)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let (a, b) = (peer(directories[0].path())?, peer(directories[1].path())?);
    let (send, seen) = mpsc::channel();
    let _observer = b
        .store()
        .register_observer("SELECT n FROM ticks", move |result| {
            let n = result
                .get_item(0)
                .and_then(|item| item.field("n")?.as_int());
            let _ = send.send((n, Instant::now()));
        })?;
    let _subscription = b.sync().register_subscription("SELECT * FROM ticks")?;
    a.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    a.sync().start()?;
    let address = a.sync().tcp_addresses()[0].to_string();
    b.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    b.sync().start()?;

    let insert = "INSERT INTO ticks DOCUMENTS ({'_id': 'clock', 'n': 0})";
    a.store().execute_blocking(insert)?;
    while seen.recv_timeout(WAIT)?.0 != Some(0) {}
    let mut times = Vec::new();
    for n in 1..=COMMITS {
        let start = Instant::now();
        let update = ("UPDATE ticks SET n = :n", json!({ "n": n }));
        a.store().execute_blocking(update)?;
        loop {
            let (seen_n, at) = seen.recv_timeout(WAIT)?;
            if seen_n == Some(n) {
                times.push((at - start).as_secs_f64() * 1000.0);
                break;
            }
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{COMMITS} commits: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

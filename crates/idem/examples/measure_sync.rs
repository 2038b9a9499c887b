//! Goal: measure how fast one process fills another over TCP, durably.
//!
//! Command: `cargo run --release -p idem --example measure_sync 100000`
//!
//! Expected output: one line such as `100000 documents in 2.0 s: 50000 documents/s, identical: true`.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use idem::{
    ConditionKind, ConnectMode, DatabaseId, Idem, IdemConfig, InsertConflict, Object, SharedKey,
    TransportConfig,
};

type Failure = Box<dyn std::error::Error>;

fn peer(directory: &str) -> Result<Idem, Failure> {
    let key = SharedKey::from_secret("two processes on one machine");
    let mode = ConnectMode::SharedKey { key };
    let config = IdemConfig::new(DatabaseId([1; 16]), mode).with_persistence_directory(directory);
    Ok(Idem::open_sync(config)?)
}

/// A document of about 300 bytes as JSON.
fn document(number: i64) -> Object {
    let id = format!("document-{number:08}");
    Object::from([
        ("_id".to_owned(), id.as_str().into()),
        ("price".to_owned(), (number * 7).into()),
        ("text".to_owned(), id.repeat(14).as_str().into()),
    ])
}

/// The other process: fills a store, says where it listens and what it holds, and waits.
fn serve(directory: &str, documents: i64) -> Result<(), Failure> {
    let idem = peer(directory)?;
    for first in (0..documents).step_by(1000) {
        let batch = (first..documents.min(first + 1000)).map(document).collect();
        let store = idem.store();
        store.insert_many_blocking("docs", batch, InsertConflict::Fail)?;
    }
    idem.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    idem.sync().start()?;
    println!("{}", idem.sync().tcp_addresses()[0]);
    println!("{:?}", idem.store().digest_blocking()?);
    // Ends with the process that reads what this one prints.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(idem.close_blocking()?)
}

fn measure(documents: &str) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let mut server = Command::new(std::env::current_exe()?)
        .args(["serve", &path("sender"), documents])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().ok_or("no stdout")?).lines();
    let address = lines.next().ok_or("the server ended")??;
    let digest = lines.next().ok_or("the server ended")??;

    let idem = peer(&path("receiver"))?;
    let (send, caught_up) = mpsc::channel();
    let _observer = idem.observe_transport_conditions(move |condition| {
        if condition.kind == ConditionKind::CaughtUp {
            let _ = send.send(());
        }
    });
    let _subscription = idem.sync().register_subscription("SELECT * FROM docs")?;
    idem.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    let start = Instant::now();
    idem.sync().start()?;
    caught_up.recv_timeout(Duration::from_secs(120))?;
    let last = idem.store().statistics()?.last_commit;
    while idem.store().statistics()?.durable_commit < last {}
    let seconds = start.elapsed().as_secs_f64();
    let rate = documents.parse::<f64>()? / seconds;
    let identical = format!("{:?}", idem.store().digest_blocking()?) == digest;
    println!(
        "{documents} documents in {seconds:.1} s: {rate:.0} documents/s, identical: {identical}"
    );
    drop(server.stdin.take());
    server.wait()?;
    Ok(idem.close_blocking()?)
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", directory, documents] => serve(directory, documents.parse()?),
        [documents] => measure(documents),
        _ => measure("100000"),
    }
}

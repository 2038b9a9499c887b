//! The other peer of the sync workloads, in its own process.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::mpsc,
};

use idem::{Idem, InsertConflict, TransportConfig};

use super::{ALL, config, unix_nanos};
use crate::{
    documents,
    engines::{CREATE_INDEX, Failure},
    program::PeerRole,
};

/// Documents of one commit while the sender fills.
const FILL_DOCUMENTS: u64 = 1000;

/// Plays a role until stdin ends.
pub(crate) fn run(role: &PeerRole) -> Result<(), Failure> {
    match role {
        PeerRole::Sender {
            directory,
            documents,
        } => send(directory, *documents),
        PeerRole::Observer { directory, address } => observe(directory, address),
    }
}

/// Holds the documents; prints its address, and its digest for the check afterwards.
fn send(directory: &Path, documents: u64) -> Result<(), Failure> {
    let idem = Idem::open_sync(config(directory))?;
    idem.store().execute_blocking(CREATE_INDEX)?;
    for first in (0..documents).step_by(usize::try_from(FILL_DOCUMENTS)?) {
        let last = documents.min(first + FILL_DOCUMENTS);
        let batch = (first..last).map(documents::document).collect();
        idem.store()
            .insert_many_blocking("docs", batch, InsertConflict::Fail)?;
    }
    let digest: String = idem
        .store()
        .digest_blocking()?
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    idem.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    idem.sync().start()?;
    let address = idem
        .sync()
        .tcp_addresses()
        .first()
        .copied()
        .ok_or("no listener")?;
    let mut out = io::stdout().lock();
    writeln!(out, "{address}\n{digest}")?;
    out.flush()?;
    wait_for_end();
    idem.close_blocking()?;
    Ok(())
}

/// Observes; prints `price nanoseconds` each time that the observer is called with a document.
fn observe(directory: &Path, address: &str) -> Result<(), Failure> {
    let idem = Idem::open_sync(config(directory))?;
    idem.store().execute_blocking(CREATE_INDEX)?;
    let (sender, called) = mpsc::sync_channel(1024);
    let observer = idem.store().register_observer(ALL, move |result| {
        let at = unix_nanos();
        let price = result
            .get_item(0)
            .and_then(|item| item.field("price")?.as_int());
        if let Some(price) = price {
            // Full only if this process hangs; then the run ends by its own limit.
            let _ = sender.try_send((price, at));
        }
    })?;
    let printer = std::thread::Builder::new()
        .name("bench-printer".to_owned())
        .spawn(move || {
            let mut out = io::stdout().lock();
            for (price, at) in called {
                if writeln!(out, "{price} {at}")
                    .and_then(|()| out.flush())
                    .is_err()
                {
                    return;
                }
            }
        })?;
    let subscription = idem.sync().register_subscription(ALL)?;
    idem.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    idem.sync().start()?;
    wait_for_end();
    drop((observer, subscription));
    idem.close_blocking()?;
    printer.join().map_err(|_| "the printer panicked")?;
    Ok(())
}

fn wait_for_end() {
    // Any error of stdin means that the other process is gone.
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
}

//! Goal: let two peers edit the same document without a link, then link them and watch both agree.
//!
//! Command: `cargo run -p idem --example sync_two_peers`
//!
//! Expected output:
//! ```text
//! linked: true
//! desk:  {"_id":"lamp","lit":true,"room":"attic","switched":2}
//! phone: {"_id":"lamp","lit":true,"room":"attic","switched":2}
//! identical: true
//! ```

use std::{sync::mpsc, time::Duration};

use idem::TransportConfig;
use idem::{ConditionKind, ConnectMode, DatabaseId, Error, Idem, IdemConfig, SharedKey};

const WAIT: Duration = Duration::from_secs(30);

fn peer() -> Result<Idem, Error> {
    // A real app takes 32 random bytes and keeps them secret.
    let key = SharedKey::from_secret("correct horse battery staple");
    let mode = ConnectMode::SharedKey { key };
    let idem = Idem::open_sync(IdemConfig::new(DatabaseId([1; 16]), mode))?;
    // Kept, so it lives as long as the peer.
    idem.sync()
        .register_subscription("SELECT * FROM lamps")?
        .keep();
    Ok(idem)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (desk, phone) = (peer()?, peer()?);
    let insert = "INSERT INTO lamps INITIAL DOCUMENTS ({'_id': 'lamp', 'lit': false})";
    let switch = "UPDATE lamps APPLY switched INCREMENT BY 1";
    for statement in [insert, switch, "UPDATE lamps SET lit = true"] {
        desk.store().execute_blocking(statement)?;
    }
    for statement in [insert, switch, "UPDATE lamps SET room = 'attic'"] {
        phone.store().execute_blocking(statement)?;
    }

    let (send, conditions) = mpsc::channel();
    let _observer = phone.observe_transport_conditions(move |condition| {
        // Failing means that nobody listens any more.
        let _ = send.send(condition.kind);
    });
    desk.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    desk.sync().start()?;
    let address = desk.sync().tcp_addresses()[0].to_string();
    phone.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    phone.sync().start()?;
    println!(
        "linked: {}",
        conditions.recv_timeout(WAIT)? == ConditionKind::Linked
    );

    let (send, changes) = mpsc::channel();
    let mut observers = Vec::new();
    for idem in [&desk, &phone] {
        let send = send.clone();
        observers.push(
            idem.store()
                .register_observer("SELECT * FROM lamps", move |_| {
                    let _ = send.send(());
                })?,
        );
    }
    while desk.store().digest_blocking()? != phone.store().digest_blocking()? {
        changes.recv_timeout(WAIT)?;
    }
    for (name, idem) in [("desk: ", &desk), ("phone:", &phone)] {
        let result = idem.store().execute_blocking("SELECT * FROM lamps")?;
        println!("{name} {}", result.items()[0].json_string());
    }
    let digests = [&desk, &phone].map(|idem| idem.store().digest_blocking().ok());
    println!(
        "identical: {}",
        digests[0].is_some() && digests[0] == digests[1]
    );
    Ok(())
}

//! Peers that pass on what they do not subscribe to.

use std::time::Duration;

use idem::{Idem, TransportConfig};

use crate::fixture::{count, dial, memory, rows, run, wait_until};

/// Three peers in a row: those at the ends subscribe, the middle one has its own interests.
fn row(configure: impl FnOnce(&mut TransportConfig)) -> [Idem; 3] {
    let [a, b, c] = [(); 3].map(|()| memory());
    for idem in [&a, &c] {
        let subscribed = idem.sync().register_subscription("SELECT * FROM cars");
        subscribed.unwrap().keep();
    }
    let mut config = TransportConfig::new().with_tcp_listener("127.0.0.1:0");
    configure(&mut config);
    b.set_transport_config(config).unwrap();
    b.sync().start().unwrap();
    let address = b.sync().tcp_addresses()[0].to_string();
    dial(&a, &address);
    dial(&c, &address);
    [a, b, c]
}

#[test]
fn two_peers_meet_over_one_with_other_interests() {
    let [a, b, c] = row(|_| {});
    run(
        &a,
        "INSERT INTO cars DOCUMENTS ({'_id': '1', 'color': 'red'})",
    );
    wait_until("it arrives", || count(&c, "cars") == 1);
    run(&c, "UPDATE cars SET color = 'blue' WHERE _id = '1'");
    run(&c, "INSERT INTO cars DOCUMENTS ({'_id': '2'})");
    wait_until("the way back works as well", || {
        count(&a, "cars") == 2
            && rows(&a, "SELECT color FROM cars WHERE _id = '1'") == ["{\"color\":\"blue\"}"]
    });
    run(&a, "DELETE FROM cars WHERE _id = '2'");
    wait_until("it is deleted", || count(&c, "cars") == 1);
    // Nobody between sees anything of it.
    assert_eq!(count(&b, "cars"), 0);
    assert!(rows(&b, "SELECT * FROM system:collections WHERE name = 'cars'").is_empty());
    // And nobody takes the word of a relay for a copy that lasts.
    run(&a, "INSERT INTO cars DOCUMENTS ({'_id': '3'})");
    wait_until("it arrives", || count(&c, "cars") == 2);
    let seen = rows(&a, "SELECT * FROM system:data_sync_info");
    let relay = idem::PeerId(blake3::derive_key(
        "idem relay id, version 1",
        &b.peer_key().0,
    ));
    assert!(
        !seen.iter().any(|row| row.contains(&relay.to_string())),
        "{seen:?}"
    );
    let awaited = |peer| {
        let limit = Duration::from_millis(50);
        a.sync().await_synced_blocking(peer, 1, limit)
    };
    assert!(awaited(relay).is_err() && awaited(c.peer_key()).is_err());
}

#[test]
fn who_does_not_relay_passes_nothing_on() {
    let [a, b, c] = row(|config| config.peer_to_peer.relay.cache_bytes = 0);
    run(&a, "INSERT INTO cars DOCUMENTS ({'_id': '1'})");
    // What the one between subscribes to itself passes on as ever, so that by then all else would have.
    let query = "SELECT * FROM bikes";
    let subscribed = [&a, &b, &c].map(|idem| idem.sync().register_subscription(query).unwrap());
    run(&a, "INSERT INTO bikes DOCUMENTS ({'_id': '1'})");
    wait_until("it arrives", || count(&c, "bikes") == 1);
    assert_eq!(count(&c, "cars"), 0);
    drop(subscribed);
}

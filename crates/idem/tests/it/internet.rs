//! Links over the internet, on the loopback interface.

use idem::{ConditionKind, ConnectionKind, ErrorKind, Idem, TransportConfig};

use crate::fixture::{conditions, count, memory, open, run, wait_for_kind, wait_until};

/// Takes links, and gives what others name to dial it.
fn listen(idem: &Idem) -> String {
    let config = TransportConfig::new().with_internet_listener("127.0.0.1:0");
    idem.set_transport_config(config).unwrap();
    idem.sync().start().unwrap();
    wait_until("the endpoint is open", || {
        idem.sync().internet_address().is_some()
    });
    idem.sync().internet_address().unwrap()
}

fn dial(idem: &Idem, address: &str) {
    let mut config = TransportConfig::new().with_internet_peer(address);
    config.connect.retry_interval = std::time::Duration::from_millis(20);
    idem.set_transport_config(config).unwrap();
    idem.sync().start().unwrap();
}

fn subscribe(idem: &Idem) {
    let all = idem.sync().register_subscription("SELECT * FROM t");
    all.unwrap().keep();
}

#[test]
fn two_peers_sync_and_find_each_other_again_at_another_port() {
    let folder = tempfile::tempdir().unwrap();
    let (host, guest) = (open(folder.path()), memory());
    subscribe(&host);
    subscribe(&guest);
    let (heard, _observer) = conditions(&host);
    let address = listen(&host);
    let told = wait_for_kind(&heard, ConditionKind::Listening);
    assert_eq!(told.address.as_deref(), Some(address.as_str()));
    dial(&guest, &address);
    run(&host, "INSERT INTO t DOCUMENTS ({'_id': 1})");
    run(&guest, "INSERT INTO t DOCUMENTS ({'_id': 2})");
    wait_until("both have both", || {
        count(&host, "t") == 2 && count(&guest, "t") == 2
    });
    let seen = guest.presence().graph().remote_peers;
    assert_eq!(seen[0].connections[0].kind, ConnectionKind::Internet);
    let (heard, _observer) = conditions(&guest);
    host.close_blocking().unwrap();
    drop(host);
    wait_for_kind(&heard, ConditionKind::Unlinked);

    let host = open(folder.path());
    subscribe(&host);
    let again = listen(&host);
    let key = |address: &str| address.split_once('@').unwrap().0.to_owned();
    assert_eq!(key(&again), key(&address));
    assert_ne!(again, address);
    dial(&guest, &again);
    run(&guest, "INSERT INTO t DOCUMENTS ({'_id': 3})");
    wait_until("it has what came meanwhile", || count(&host, "t") == 3);
}

#[test]
fn what_cannot_be_used_is_an_error_at_once() {
    let idem = memory();
    for config in [
        TransportConfig::new().with_internet_listener("localhost:4040"),
        TransportConfig::new().with_internet_peer("127.0.0.1:4040"),
        TransportConfig::new().with_internet_peer("iroh:00@127.0.0.1:4040"),
    ] {
        let error = idem.set_transport_config(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValidationConfiguration);
    }
}

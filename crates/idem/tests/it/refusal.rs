//! Peers that must not sync: each side hears why.

use std::io::Write as _;

use idem::{ConditionKind, ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey};

use crate::fixture::{conditions, config, dial, listen, memory, wait_for_kind};

/// Lets `stranger` dial a good peer, and gives what each of them hears.
fn both_hear(stranger: &Idem, kind: ConditionKind) {
    let host = memory();
    let (at_host, _host_observer) = conditions(&host);
    let (at_stranger, _stranger_observer) = conditions(stranger);
    dial(stranger, &listen(&host));
    let condition = wait_for_kind(&at_stranger, kind);
    assert!(condition.address.is_some());
    wait_for_kind(&at_host, kind);
    assert!(host.presence().graph().remote_peers.is_empty());
    assert!(stranger.presence().graph().remote_peers.is_empty());
}

#[test]
fn another_shared_key() {
    let stranger = Idem::open_sync(config(2)).unwrap();
    both_hear(&stranger, ConditionKind::KeyMismatch);
}

#[test]
fn another_database() {
    let key = SharedKey::from_bytes([1; 32]);
    let mode = ConnectMode::SharedKey { key };
    let stranger = Idem::open_sync(IdemConfig::new(DatabaseId([8; 16]), mode)).unwrap();
    both_hear(&stranger, ConditionKind::DatabaseMismatch);
}

#[test]
fn the_peer_itself() {
    let idem = memory();
    let (heard, _observer) = conditions(&idem);
    let address = listen(&idem);
    idem.update_transport_config(|config| config.connect.tcp_servers.push(address))
        .unwrap();
    wait_for_kind(&heard, ConditionKind::SelfLink);
}

#[test]
fn garbage_and_another_version() {
    let host = memory();
    let (heard, _observer) = conditions(&host);
    let address = listen(&host);
    let mut garbage = std::net::TcpStream::connect(&address).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    wait_for_kind(&heard, ConditionKind::NotAPeer);
    let mut newer = std::net::TcpStream::connect(&address).unwrap();
    newer.write_all(b"\xf5idem\r\n\0\xff\x00\xff\x01").unwrap();
    wait_for_kind(&heard, ConditionKind::VersionMismatch);
}

#[test]
fn nobody_at_the_address() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let idem = memory();
    let (heard, _observer) = conditions(&idem);
    dial(&idem, &address);
    let condition = wait_for_kind(&heard, ConditionKind::Unreachable);
    assert_eq!(condition.address.as_deref(), Some(address.as_str()));
    // The listener comes up later, and the peer is still trying.
    let host = memory();
    let transport = idem::TransportConfig::new().with_tcp_listener(address);
    host.set_transport_config(transport).unwrap();
    host.sync().start().unwrap();
    wait_for_kind(&heard, ConditionKind::Linked);
}

#[test]
fn an_address_in_use_is_an_error() {
    let host = memory();
    let address = listen(&host);
    let other = memory();
    other
        .set_transport_config(idem::TransportConfig::new().with_tcp_listener(address))
        .unwrap();
    let error = other.sync().start().unwrap_err();
    assert_eq!(error.kind(), idem::ErrorKind::SyncListen);
    assert!(!other.sync().is_active());
}

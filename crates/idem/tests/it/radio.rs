//! Peers that meet over simulated Bluetooth.

use std::{sync::Arc, time::Duration};

use idem::{
    BleAdvert, BleBackend, BleError, BleFuture, BleRadio, ConditionKind, ConnectionKind, Idem,
    Medium,
};
use idem_transport::{SimulatedAir, SimulatedAirConfig, SimulatedAntenna};

use crate::fixture::{
    conditions, config, count, dial, listen, run, wait_equal, wait_for_kind, wait_until,
};

/// A peer whose radio is `backend`, which is on, and which wants all cars.
fn peer(backend: impl BleBackend) -> Idem {
    let idem = Idem::open_sync(config(1).with_bluetooth_backend(Arc::new(backend))).unwrap();
    let subscribed = idem.sync().register_subscription("SELECT * FROM cars");
    subscribed.unwrap().keep();
    idem.update_transport_config(|config| config.peer_to_peer.bluetooth_le.enabled = true)
        .unwrap();
    idem
}

fn insert(idem: &Idem, id: &str, bytes: usize) {
    // Nothing makes it smaller on its way.
    let digits =
        (0..bytes as u64).map(|at| (at * at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & 0xf);
    let pad: String = digits.map(|digit| format!("{digit:x}")).collect();
    run(
        idem,
        &format!("INSERT INTO cars DOCUMENTS ({{'_id': '{id}', 'pad': '{pad}'}})"),
    );
}

fn start(peers: &[Idem]) {
    for (idem, id) in peers.iter().zip(0..) {
        insert(idem, &format!("of {id}"), 10);
        idem.sync().start().unwrap();
    }
}

fn wait_all_hold(peers: &[Idem], cars: usize) {
    for idem in peers {
        wait_until("all cars are here", || count(idem, "cars") == cars);
    }
}

fn two(config: SimulatedAirConfig) -> (SimulatedAir, [SimulatedAntenna; 2]) {
    let air = SimulatedAir::new(config);
    let antennas = [air.antenna([0.0, 0.0]), air.antenna([5.0, 0.0])];
    (air, antennas)
}

#[test]
fn peers_in_reach_find_each_other_and_sync() {
    let mut air = SimulatedAirConfig::default();
    air.advert_loss = 0.3;
    let (air, antennas) = two(air);
    let peers = antennas.map(peer);
    start(&peers);
    wait_all_hold(&peers, 2);
    wait_equal(&peers[0], &peers[1]);
    let graph = peers[0].presence().graph();
    let other = graph.peer(peers[1].peer_key()).unwrap();
    assert_eq!(other.connections[0].kind, ConnectionKind::Bluetooth);
    assert_eq!(graph.links[0].medium, Some(Medium::Ble));
    // Both may have dialled at once; one link stays.
    wait_until("one connection is left", || air.connection_count() == 1);
}

/// Connecting takes so long that the second one dials before it hears of the first one.
#[test]
fn of_two_links_that_both_dialled_one_stays() {
    let mut air = SimulatedAirConfig::default();
    // Longer than one leaves dialling to the other.
    air.connect_delay = Duration::from_millis(2200);
    let (air, antennas) = two(air);
    let peers = antennas.map(peer);
    start(&peers);
    wait_all_hold(&peers, 2);
    wait_until("one connection is left", || {
        air.made_count() == (2, 0) && air.connection_count() == 1
    });
    insert(&peers[0], "one more", 10);
    wait_all_hold(&peers, 3);
}

#[test]
fn a_row_of_peers_syncs_from_end_to_end_without_channels() {
    let mut air = SimulatedAirConfig::default();
    air.gatt_datagram_bytes = 20;
    let air = SimulatedAir::new(air);
    let at = [[0.0, 0.0], [25.0, 0.0], [50.0, 0.0], [75.0, 0.0]];
    let peers = at.map(|at| peer(air.antenna(at).without_channels()));
    start(&peers);
    wait_all_hold(&peers, 4);
    let (channels, gatt) = air.made_count();
    assert!(channels == 0 && gatt >= 3);
}

#[test]
fn a_connection_that_breaks_in_the_middle_is_made_anew() {
    let (air, antennas) = two(SimulatedAirConfig::default());
    let peers = antennas.map(peer);
    start(&peers);
    wait_all_hold(&peers, 2);
    for (broken, id) in (3..).zip(["a", "b", "c"]) {
        // In the middle of the 100 datagrams of it.
        air.break_all_after(30);
        insert(&peers[0], id, 100_000);
        wait_all_hold(&peers, broken);
    }
    wait_equal(&peers[0], &peers[1]);
    let (channels, _) = air.made_count();
    assert!(channels >= 4, "{channels} connections, so none broke");
}

#[test]
fn who_is_out_of_reach_syncs_when_it_comes_back() {
    let (air, antennas) = two(SimulatedAirConfig::default());
    let walker = antennas[1].clone();
    let peers = antennas.map(peer);
    start(&peers);
    wait_all_hold(&peers, 2);
    let (heard, _observer) = conditions(&peers[0]);
    walker.move_to([1000.0, 0.0]);
    wait_for_kind(&heard, ConditionKind::Lost);
    insert(&peers[0], "meanwhile", 10);
    assert_eq!(air.connection_count(), 0);
    walker.move_to([5.0, 0.0]);
    wait_all_hold(&peers, 3);
}

#[test]
fn a_network_is_preferred_and_the_radio_stands_by() {
    let (air, antennas) = two(SimulatedAirConfig::default());
    let peers = antennas.map(peer);
    let [a, b] = &peers;
    start(&peers);
    wait_all_hold(&peers, 2);
    let keep = |config: &mut idem::TransportConfig| {
        config.peer_to_peer.bluetooth_le.enabled = true;
    };
    let address = listen(a);
    a.update_transport_config(keep).unwrap();
    dial(b, &address);
    b.update_transport_config(keep).unwrap();
    wait_until("both media", || {
        let graph = a.presence().graph();
        let kinds = graph.peer(b.peer_key()).map(|peer| peer.connections.len());
        kinds == Some(2)
    });
    air.break_all();
    insert(a, "over the network", 10);
    wait_all_hold(&peers, 3);
}

#[test]
fn bluetooth_that_is_switched_off_ends_its_links() {
    let (air, antennas) = two(SimulatedAirConfig::default());
    let peers = antennas.map(peer);
    start(&peers);
    wait_all_hold(&peers, 2);
    peers[0]
        .update_transport_config(|config| config.peer_to_peer.bluetooth_le.enabled = false)
        .unwrap();
    wait_until("no connection is left", || air.connection_count() == 0);
    wait_until("nobody is seen", || {
        peers[1].presence().graph().remote_peers.is_empty()
    });
}

/// Bluetooth that does not work.
#[derive(Debug)]
struct Broken;

impl BleBackend for Broken {
    fn start(&self, _: BleAdvert) -> BleFuture<'_, Box<dyn BleRadio>> {
        Box::pin(async { Err(BleError::failed("the antenna is broken: bend it back")) })
    }
}

#[test]
fn bluetooth_that_does_not_work_is_told_and_all_else_does() {
    let [a, b] = [peer(Broken), peer(Broken)];
    let (heard, _observer) = conditions(&a);
    let address = listen(&a);
    a.update_transport_config(|config| config.peer_to_peer.bluetooth_le.enabled = true)
        .unwrap();
    let told = wait_for_kind(&heard, ConditionKind::DiscoveryTroubled);
    assert_eq!(told.message, "the antenna is broken: bend it back");
    dial(&b, &address);
    insert(&b, "1", 10);
    wait_until("they sync", || count(&a, "cars") == 1);
}

#[cfg(not(feature = "ble"))]
#[test]
fn a_build_without_bluetooth_says_so() {
    let idem = crate::fixture::memory();
    let (heard, _observer) = conditions(&idem);
    idem.update_transport_config(|config| config.peer_to_peer.bluetooth_le.enabled = true)
        .unwrap();
    idem.sync().start().unwrap();
    let told = wait_for_kind(&heard, ConditionKind::DiscoveryTroubled);
    assert!(
        told.message.contains("this build has no Bluetooth"),
        "{}",
        told.message
    );
}

/// No test has a radio, so this one ends where there is no bluetoothd, or no adapter. It must not be worse.
#[cfg(all(feature = "ble", target_os = "linux"))]
#[test]
fn without_a_radio_bluetooth_says_what_is_missing() {
    let idem = crate::fixture::memory();
    let (heard, _observer) = conditions(&idem);
    idem.update_transport_config(|config| config.peer_to_peer.bluetooth_le.enabled = true)
        .unwrap();
    idem.sync().start().unwrap();
    let told = heard.wait_for("what became of it", |condition| {
        let kinds = [ConditionKind::DiscoveryTroubled, ConditionKind::Listening];
        kinds.contains(&condition.kind)
    });
    println!("{}", told.message);
    if told.kind == ConditionKind::DiscoveryTroubled {
        let remedies = ["bluetoothd", "plug one in", "rfkill"];
        let has_remedy = remedies.iter().any(|remedy| told.message.contains(remedy));
        assert!(has_remedy, "{}", told.message);
    }
}

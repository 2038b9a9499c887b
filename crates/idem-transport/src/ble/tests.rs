//! Peers that meet in simulated air, on a clock that jumps to the next thing that is waited for.

use std::time::Duration;

use idem_model::{DatabaseId, Lane};
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    error::LinkError,
    identity::{LinkCredentials, LinkIdentity, SharedSecret},
    link::{Link, LinkKind},
};

const DATABASE: DatabaseId = DatabaseId([1; 16]);

fn on_jumping_clock(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async { timeout(Duration::from_secs(3600), work).await.unwrap() });
}

fn credentials(identity: u8, key: u8) -> LinkCredentials {
    LinkCredentials::new(
        LinkIdentity::from_secret(&[identity; 32]),
        DATABASE,
        &SharedSecret::new([key; 32]),
        "test",
    )
}

/// A scout at an antenna, for the peer with the hash `[id; 8]`.
async fn scout(antenna: &SimulatedAntenna, id: u8) -> BleScout {
    BleScout::start(antenna, DATABASE, [id; 8]).await.unwrap()
}

/// The next peer that is found.
async fn found(scout: &mut BleScout) -> (BlePlace, [u8; 8]) {
    loop {
        if let BleSighting::Found { place, peer, .. } = scout.next().await.unwrap() {
            return (place, peer);
        }
    }
}

async fn incoming(scout: &mut BleScout) -> BleIncoming {
    loop {
        if let BleSighting::Incoming(incoming) = scout.next().await.unwrap() {
            return incoming;
        }
    }
}

/// The first antenna finds the second one, and both shake hands.
async fn meet(
    (a, b): (&mut BleScout, &mut BleScout),
    keys: [u8; 2],
) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let (place, _) = found(a).await;
    let [ours, theirs] = [credentials(1, keys[0]), credentials(2, keys[1])];
    tokio::join!(place.connect(&ours), async {
        incoming(b).await.handshake(&theirs).await
    })
}

async fn linked(a: &mut BleScout, b: &mut BleScout) -> [Link; 2] {
    let (at_a, at_b) = meet((a, b), [7, 7]).await;
    [at_a.unwrap(), at_b.unwrap()]
}

fn frame(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Two antennas that hear each other.
fn two(config: SimulatedAirConfig) -> (SimulatedAir, [SimulatedAntenna; 2]) {
    let air = SimulatedAir::new(config);
    let antennas = [air.antenna([0.0, 0.0]), air.antenna([5.0, 0.0])];
    (air, antennas)
}

#[test]
fn peers_find_each_other_and_talk_over_a_channel() {
    on_jumping_clock(async {
        let (air, [a, b]) = two(SimulatedAirConfig::default());
        let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
        assert_eq!(found(&mut at_b).await.1, [1; 8]);
        let [mut ours, mut theirs] = linked(&mut at_a, &mut at_b).await;
        assert_eq!(ours.properties().kind, LinkKind::Ble);
        assert_eq!(air.made_count(), (1, 0));
        ours.send(Lane::Bulk, frame(200_000)).await.unwrap();
        theirs.send(Lane::Interactive, frame(5)).await.unwrap();
        let (at_theirs, at_ours) = tokio::join!(theirs.recv(), ours.recv());
        assert_eq!(at_theirs.unwrap(), Some((Lane::Bulk, frame(200_000))));
        assert_eq!(at_ours.unwrap(), Some((Lane::Interactive, frame(5))));
        drop(ours);
        assert_eq!(theirs.recv().await.unwrap(), None, "a goodbye");
        drop(theirs);
        while air.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_small_frame_does_not_wait_for_a_large_one() {
    on_jumping_clock(async {
        // 400 kbit/s, so the large one takes 4 s.
        let (_air, [a, b]) = two(SimulatedAirConfig {
            bytes_per_second: 50_000,
            ..SimulatedAirConfig::default()
        });
        let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
        let [ours, mut theirs] = linked(&mut at_a, &mut at_b).await;
        ours.send(Lane::Bulk, frame(200_000)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sent = Instant::now();
        ours.send(Lane::Interactive, frame(100)).await.unwrap();
        let (lane, _) = theirs.recv().await.unwrap().unwrap();
        assert_eq!(lane, Lane::Interactive);
        let took = sent.elapsed();
        assert!(took < Duration::from_millis(300), "{took:?}");
        assert_eq!(theirs.recv().await.unwrap().unwrap().0, Lane::Bulk);
        let took = sent.elapsed();
        assert!(took < Duration::from_millis(4200), "{took:?}");
    });
}

#[test]
fn gatt_does_where_channels_do_not() {
    for is_announced in [false, true] {
        on_jumping_clock(async {
            // The smallest that there is.
            let (air, [a, b]) = two(SimulatedAirConfig {
                gatt_datagram_bytes: DATAGRAM_BYTES_MIN,
                ..SimulatedAirConfig::default()
            });
            let b = if is_announced {
                b.with_broken_channels()
            } else {
                b.without_channels()
            };
            let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
            let [ours, mut theirs] = linked(&mut at_a, &mut at_b).await;
            assert_eq!(air.made_count(), (0, 1));
            ours.send(Lane::Bulk, frame(50_000)).await.unwrap();
            let (_, arrived) = theirs.recv().await.unwrap().unwrap();
            assert_eq!(arrived, frame(50_000));
        });
    }
}

#[test]
fn adverts_that_are_lost_only_take_longer() {
    on_jumping_clock(async {
        let mut took = Vec::new();
        for seed in 0..20 {
            let (_air, [a, b]) = two(SimulatedAirConfig {
                seed,
                advert_loss: 0.3,
                ..SimulatedAirConfig::default()
            });
            let start = Instant::now();
            let (mut at_a, _at_b) = (scout(&a, 1).await, scout(&b, 2).await);
            found(&mut at_a).await;
            took.push(start.elapsed());
        }
        assert!(
            took.iter().any(|it| *it >= Duration::from_millis(20)),
            "none was lost"
        );
        assert!(
            took.iter().all(|it| *it < Duration::from_millis(400)),
            "{took:?}"
        );
    });
}

#[test]
fn who_walks_away_is_lost_and_then_gone() {
    on_jumping_clock(async {
        let (air, [a, b]) = two(SimulatedAirConfig::default());
        let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
        let [mut ours, _theirs] = linked(&mut at_a, &mut at_b).await;
        let left = Instant::now();
        b.move_to([100.0, 0.0]);
        assert_eq!(ours.recv().await.unwrap_err().reason(), "lost");
        assert_eq!(air.connection_count(), 0);
        let told = at_a.next().await.unwrap();
        assert!(matches!(told, BleSighting::Vanished(_)), "{told:?}");
        assert!(left.elapsed() >= Duration::from_secs(29));
        b.move_to([1.0, 0.0]);
        found(&mut at_a).await;
    });
}

/// In the middle of a frame, of a record, and of the handshake.
#[test]
fn a_connection_that_breaks_anywhere_is_lost_and_made_anew() {
    for datagrams in [1, 2, 3, 7, 20, 60] {
        on_jumping_clock(async {
            let (air, [a, b]) = two(SimulatedAirConfig::default());
            let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
            let [ours, mut theirs] = linked(&mut at_a, &mut at_b).await;
            air.break_all_after(datagrams);
            ours.send(Lane::Bulk, frame(100_000)).await.unwrap();
            let error = theirs.recv().await.unwrap_err();
            assert_eq!(error.reason(), "lost", "{error}");
            drop((ours, theirs));
            // Where it was found before, it still is.
            let place = BlePlace::clone(&found_again(&air, &a, &mut at_a).await);
            let [ours, theirs] = [credentials(1, 7), credentials(2, 7)];
            let (ours, theirs) = tokio::join!(place.connect(&ours), async {
                incoming(&mut at_b).await.handshake(&theirs).await
            });
            drop((ours.unwrap(), theirs.unwrap()));
        });
    }
}

/// The other peer as a scout that is started anew finds it.
async fn found_again(
    air: &SimulatedAir,
    antenna: &SimulatedAntenna,
    at: &mut BleScout,
) -> BlePlace {
    assert_eq!(air.connection_count(), 0);
    *at = scout(antenna, 1).await;
    found(at).await.0
}

#[test]
fn strangers_are_not_found_and_those_without_the_key_get_no_link() {
    on_jumping_clock(async {
        let (air, [a, b]) = two(SimulatedAirConfig::default());
        let stranger = air.antenna([1.0, 1.0]);
        let other = DatabaseId([2; 16]);
        let mut at_stranger = BleScout::start(&stranger, other, [3; 8]).await.unwrap();
        let (mut at_a, mut at_b) = (scout(&a, 1).await, scout(&b, 2).await);
        let looked = timeout(Duration::from_secs(60), at_stranger.next()).await;
        assert!(looked.is_err(), "{looked:?}");
        let (ours, theirs) = meet((&mut at_a, &mut at_b), [7, 8]).await;
        assert_eq!(ours.unwrap_err().reason(), "key-mismatch");
        assert_eq!(theirs.unwrap_err().reason(), "key-mismatch");
    });
}

#[test]
fn a_device_that_is_not_there_is_unreachable() {
    on_jumping_clock(async {
        let (_air, [a, b]) = two(SimulatedAirConfig::default());
        let (mut at_a, at_b) = (scout(&a, 1).await, scout(&b, 2).await);
        let (place, _) = found(&mut at_a).await;
        drop(at_b);
        let error = place.connect(&credentials(1, 7)).await.unwrap_err();
        assert_eq!(error.reason(), "unreachable");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "the radio of the other device is off");
    });
}

/// Whoever connects and sends what is no opening, or nothing.
#[test]
fn garbage_on_a_bearer_ends_the_link() {
    for (garbage, reason) in [
        (vec![0, 1, 4, b'G', b'E', b'T', b' '], "not-a-peer"),
        (vec![9, 9], "malformed"),
        (vec![], "malformed"),
    ] {
        on_jumping_clock(async {
            let from = BleAddress("somebody".to_owned());
            let (bearer, _outgoing, arrived) = BleBearer::with_ends(from, 100);
            arrived.send(garbage).await.unwrap();
            let incoming = BleIncoming::of(bearer);
            let error = incoming.handshake(&credentials(2, 7)).await.unwrap_err();
            assert_eq!(error.reason(), reason);
        });
    }
}

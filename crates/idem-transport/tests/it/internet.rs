//! Links over QUIC, on the loopback interface.

use std::net::SocketAddr;

use idem_transport::{
    InternetAddress, InternetConfig, InternetEndpoint, Lane, Link, LinkCredentials, LinkError,
    LinkIdentity, LinkKind, Role,
};

use crate::{DATABASE, credentials, on_runtime};

async fn endpoint(identity: u8, bind: &str) -> InternetEndpoint {
    let config = InternetConfig {
        bind: bind.parse().unwrap(),
        relays: Vec::new(),
        is_listening: true,
    };
    let identity = LinkIdentity::from_secret(&[identity; 32]);
    InternetEndpoint::bind(&identity, &config).await.unwrap()
}

fn both() -> (LinkCredentials, LinkCredentials) {
    (credentials(1, DATABASE, 7), credentials(2, DATABASE, 7))
}

/// The address of an endpoint as a text that is given to another peer.
fn told(endpoint: &InternetEndpoint) -> InternetAddress {
    endpoint.address().to_string().parse().unwrap()
}

type Met = (Result<Link, LinkError>, Result<Link, LinkError>);

/// What becomes of a dial, here and there.
async fn meet(a: &InternetEndpoint, b: &InternetEndpoint, keys: [&LinkCredentials; 2]) -> Met {
    let address = told(b);
    tokio::join!(a.connect(&address, keys[0]), async {
        b.accept().await.unwrap().handshake(keys[1]).await
    })
}

#[test]
fn a_link_carries_frames_and_a_goodbye() {
    on_runtime(async {
        let (a, b) = (
            endpoint(1, "127.0.0.1:0").await,
            endpoint(2, "127.0.0.1:0").await,
        );
        let (of_a, of_b) = both();
        let (at_a, at_b) = meet(&a, &b, [&of_a, &of_b]).await;
        let (mut at_a, mut at_b) = (at_a.unwrap(), at_b.unwrap());
        assert_eq!(at_a.properties().kind, LinkKind::Internet);
        assert_eq!(at_a.properties().remote_peer, of_b.identity().peer_id());
        assert_eq!(at_b.properties().remote_peer, of_a.identity().peer_id());
        assert_eq!(at_b.properties().role, Role::Responder);
        let from = at_b.properties().address.unwrap();
        assert_eq!(from, a.address().sockets()[0]);
        for len in [1, 1000, 200_000] {
            let frame = vec![7; len];
            at_a.send(Lane::Bulk, frame.clone()).await.unwrap();
            at_b.send(Lane::Bulk, frame.clone()).await.unwrap();
            assert_eq!(
                at_b.recv().await.unwrap(),
                Some((Lane::Bulk, frame.clone()))
            );
            assert_eq!(at_a.recv().await.unwrap(), Some((Lane::Bulk, frame)));
        }
        at_a.send(Lane::Interactive, b"last".to_vec())
            .await
            .unwrap();
        drop(at_a);
        let last = at_b.recv().await.unwrap();
        assert_eq!(last, Some((Lane::Interactive, b"last".to_vec())));
        assert_eq!(at_b.recv().await.unwrap(), None, "it said goodbye");
    });
}

#[test]
fn strangers_hear_why_they_are_refused() {
    on_runtime(async {
        let (a, b) = (
            endpoint(1, "127.0.0.1:0").await,
            endpoint(2, "127.0.0.1:0").await,
        );
        let (of_a, _) = both();
        let other_key = credentials(2, DATABASE, 8);
        let (at_a, at_b) = meet(&a, &b, [&of_a, &other_key]).await;
        assert_eq!(at_a.unwrap_err().reason(), "key-mismatch");
        assert_eq!(at_b.unwrap_err().reason(), "key-mismatch");
        let itself = a.connect(&told(&a), &of_a).await.unwrap_err();
        assert_eq!(itself.reason(), "self-link");
    });
}

#[test]
fn who_is_at_an_address_proves_it() {
    on_runtime(async {
        let (a, b) = (
            endpoint(1, "127.0.0.1:0").await,
            endpoint(2, "127.0.0.1:0").await,
        );
        let other = endpoint(3, "127.0.0.1:0").await;
        let (of_a, of_b) = both();
        // The key of another endpoint, at the place of this one.
        let (key, _) = told(&other).to_string().split_once('@').map(own).unwrap();
        let (_, way) = told(&b).to_string().split_once('@').map(own).unwrap();
        let forged: InternetAddress = format!("{key}@{way}").parse().unwrap();
        let serve = async { b.accept().await.unwrap().handshake(&of_b).await };
        let (at_a, at_b) = tokio::join!(a.connect(&forged, &of_a), serve);
        assert_eq!(at_a.unwrap_err().reason(), "unreachable");
        assert!(at_b.is_err());
    });
}

fn own((key, way): (&str, &str)) -> (String, String) {
    (key.to_owned(), way.to_owned())
}

#[test]
fn a_peer_that_starts_again_has_the_same_key_and_is_linked_with_anew() {
    on_runtime(async {
        let (a, b) = (
            endpoint(1, "127.0.0.1:0").await,
            endpoint(2, "127.0.0.1:0").await,
        );
        let (of_a, of_b) = both();
        let (at_a, at_b) = meet(&a, &b, [&of_a, &of_b]).await;
        let (mut at_a, at_b) = (at_a.unwrap(), at_b.unwrap());
        let before = told(&b);
        b.close().await;
        assert!(!matches!(at_a.recv().await, Ok(Some(_))));
        drop((at_a, at_b));
        let again = endpoint(2, "127.0.0.1:0").await;
        let key = |address: &InternetAddress| address.to_string()[..69].to_owned();
        assert_eq!(key(&told(&again)), key(&before));
        assert_ne!(told(&again).sockets(), before.sockets());
        let (at_a, at_b) = meet(&a, &again, [&of_a, &of_b]).await;
        assert!(at_a.is_ok() && at_b.is_ok(), "{at_a:?} {at_b:?}");
        // The port that it had before may be named too.
        let sockets = told(&again).sockets().to_vec();
        let all: Vec<String> = before
            .sockets()
            .iter()
            .chain(&sockets)
            .map(SocketAddr::to_string)
            .collect();
        let both_ways: InternetAddress = format!("{}@{}", key(&before), all.join(","))
            .parse()
            .unwrap();
        let serve = async { again.accept().await.unwrap().handshake(&of_b).await };
        let (at_a, at_b) = tokio::join!(a.connect(&both_ways, &of_a), serve);
        assert!(at_a.is_ok() && at_b.is_ok(), "{at_a:?} {at_b:?}");
    });
}

//! Who is there, as peers see it over real links.

use idem::{ErrorKind, Idem, Medium, PeerKind};
use serde_json::json;

use crate::fixture::{Heard, config, dial, listen, memory, wait_until};

fn named(name: &str) -> Idem {
    Idem::open_sync(config(1).with_device_name(name)).unwrap()
}

/// Three peers in a row, of which the middle one listens.
fn row() -> [Idem; 3] {
    let [a, b, c] = ["a", "b", "c"].map(named);
    let address = listen(&b);
    dial(&a, &address);
    dial(&c, &address);
    [a, b, c]
}

/// The keys of the ends of all links that `idem` sees.
fn links(idem: &Idem) -> Vec<[String; 2]> {
    let graph = idem.presence().graph();
    let name = |key| graph.peer(key).unwrap().device_name.clone();
    let mut links: Vec<_> = graph
        .links
        .iter()
        .map(|link| link.peers.map(name))
        .collect();
    links.iter_mut().for_each(|ends| ends.sort());
    links.sort();
    links
}

#[test]
fn the_ends_of_a_row_see_each_other() {
    let [a, b, c] = row();
    let expected = [["a", "b"], ["b", "c"]].map(|ends| ends.map(str::to_owned));
    for idem in [&a, &b, &c] {
        wait_until("all are seen", || links(idem) == expected);
    }
    let graph = a.presence().graph();
    assert!(
        graph
            .links
            .iter()
            .all(|link| link.medium == Some(Medium::Lan))
    );
    let far = graph.peer(c.peer_key()).unwrap();
    assert_eq!((far.distance, far.kind), (2, PeerKind::SmallPeer));
    assert_eq!(far.os, std::env::consts::OS);
    assert!(far.connections.is_empty());
    let near = graph.peer(b.peer_key()).unwrap();
    assert_eq!((near.distance, near.connections.len()), (1, 1));
    c.close_blocking().unwrap();
    wait_until("one is gone", || {
        let graph = a.presence().graph();
        graph.remote_peers.len() == 1 && graph.links.len() == 1
    });
    a.sync().stop();
    let alone = a.presence().graph();
    assert!(alone.remote_peers.is_empty() && alone.links.is_empty());
}

#[test]
fn metadata_travels_over_a_peer_between() {
    let [a, _b, c] = row();
    let heard = Heard::new();
    let push = heard.clone();
    let key = c.peer_key();
    let observer = a.presence().observe(move |graph| {
        let seat = graph
            .peer(key)
            .map(|peer| peer.metadata.get("seat").cloned());
        push.push(seat);
    });
    let observer = observer.unwrap();
    heard.wait_for("the first picture, without it", Option::is_none);
    let set = |seat: &str| {
        let metadata = json!({"seat": seat});
        c.presence().set_peer_metadata(&metadata).unwrap();
    };
    set("14C");
    heard.wait_for("the metadata", |seat| *seat == Some(Some("14C".into())));
    set("2A");
    heard.wait_for("the next one", |seat| *seat == Some(Some("2A".into())));
    drop(observer);
    let count = heard.all().len();
    c.sync().stop();
    wait_until("c is gone", || a.presence().graph().peer(key).is_none());
    assert_eq!(heard.all().len(), count, "it was called when it was gone");
}

#[test]
fn metadata_that_is_too_long_or_no_object_is_refused() {
    let idem = memory();
    let fits = json!({"a": "x".repeat(4096 - 8)});
    idem.presence().set_peer_metadata(&fits).unwrap();
    for (metadata, words) in [
        (json!({"a": "x".repeat(4096 - 7)}), "4097 bytes"),
        (json!([1, 2]), "object"),
    ] {
        let error = idem.presence().set_peer_metadata(&metadata).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValidationValue);
        assert!(error.to_string().contains(words), "{error}");
    }
    let kept = idem.presence().peer_metadata();
    assert_eq!(kept["a"].as_str().unwrap().len(), 4088);
    idem.presence().set_peer_metadata(&json!({})).unwrap();
    assert!(idem.presence().graph().local_peer.metadata.is_empty());
}

/// A peer that was told to dial an address twice, and many that dial one hub: a mesh that looks for nobody
/// ends no link.
#[test]
fn a_hub_keeps_all_who_dial_it() {
    let hub = memory();
    let address = listen(&hub);
    let peers: Vec<_> = (0..24).map(|_| memory()).collect();
    for peer in &peers {
        dial(peer, &address);
    }
    wait_until("all are seen by all", || {
        let graphs = peers.iter().map(|peer| peer.presence().graph());
        let mut counts = graphs.map(|graph| (graph.remote_peers.len(), graph.links.len()));
        counts.all(|counts| counts == (24, 24))
    });
    let graph = hub.presence().graph();
    assert!(
        graph
            .remote_peers
            .iter()
            .all(|peer| peer.connections.len() == 1)
    );
}

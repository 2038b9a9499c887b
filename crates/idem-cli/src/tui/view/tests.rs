//! Screens as they are drawn, line by line. `IDEM_BLESS=1` writes them.

use std::path::PathBuf;

use idem::Object;
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::tui::{
    mesh::{Mesh, MeshPeer},
    snapshot::Journal,
};

fn lines(snapshot: &Snapshot, view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(snapshot, view, frame.area(), frame.buffer_mut()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let rows = (0..height).map(|y| {
        let row = (0..width).map(|x| buffer[(x, y)].symbol());
        row.collect::<String>().trim_end().to_owned()
    });
    rows.collect()
}

#[track_caller]
fn check(name: &str, snapshot: &Snapshot, view: &View, (width, height): (u16, u16)) {
    let mut drawn = lines(snapshot, view, width, height).join("\n");
    drawn.push('\n');
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/screens/{name}.txt"));
    if std::env::var_os("IDEM_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(drawn, expected, "{name}; write it with IDEM_BLESS=1");
}

fn link(peer: &str, medium: &str, address: &str, trip: f64, in_out: (f64, f64)) -> LinkRow {
    LinkRow {
        peer: peer.to_owned(),
        medium: medium.to_owned(),
        address: address.to_owned(),
        is_inbound: address.starts_with('['),
        round_trip_ms: (trip > 0.0).then_some(trip),
        received: in_out.0,
        sent: in_out.1,
        behind: (trip > 0.0).then_some(trip as u64 * 17),
        up: Duration::from_secs(trip as u64 * 997),
    }
}

fn shop_events() -> Journal {
    let mut events = Journal::default();
    let event = |code: &str, address: &str, message: &str| {
        let fields = [("code", code), ("address", address), ("message", message)];
        let fields = fields.map(|(name, text)| (name.to_owned(), text.into()));
        Object::from(fields)
    };
    let refused = event(
        "link/unreachable",
        "10.0.0.9:4040",
        "nobody answers at 10.0.0.9:4040: connection refused (os error 111) (10 times in a row)",
    );
    events.write("link", &refused, 1_700_000_000_000);
    let came = Object::from([
        ("name".to_owned(), "scale".into()),
        ("peer".to_owned(), "77ab12cd".into()),
    ]);
    let came = Object::from([("came".to_owned(), vec![idem::Value::Object(came)].into())]);
    events.write("presence", &came, 1_700_000_004_500);
    let up = event("link/up", "10.0.0.5:4040", "linked with peer 4f2a..");
    events.write("link", &up, 1_700_000_009_000);
    events
}

fn shop_mesh() -> Mesh {
    let mesh_peer = |label: &str, distance| MeshPeer {
        label: label.to_owned(),
        distance,
    };
    Mesh {
        peers: vec![
            mesh_peer("012345", 0),
            mesh_peer("till 4f2a91", 1),
            mesh_peer("kitchen 9c01ee", 1),
            mesh_peer("a very long device name 31337f", 1),
            mesh_peer("scale 77ab12", 1),
            mesh_peer("tablet 51", 2),
            mesh_peer("tablet 52", 2),
            mesh_peer("printer 60", 2),
            mesh_peer("bar 70", 3),
            mesh_peer("bar 71", 3),
        ],
        links: vec![
            [0, 1],
            [0, 2],
            [0, 3],
            [0, 4],
            [1, 2],
            [1, 5],
            [2, 6],
            [4, 7],
            [5, 8],
            [6, 8],
            [8, 9],
        ],
    }
}

/// A till in a shop: three links, one address that is wrong, and nine peers behind.
fn shop() -> Snapshot {
    Snapshot {
        peer: "0123456789abcdef0123456789abcdef".to_owned(),
        database: "8f2ad2c4-5b1e-4c55-9d3e-0f6d1c7a9b10".to_owned(),
        store: "./till".to_owned(),
        up: Duration::from_secs(3_723),
        links: vec![
            link(
                "till 4f2a91",
                "tcp",
                "10.0.0.5:4040",
                0.8,
                (12_345.0, 2_400.0),
            ),
            link(
                "kitchen 9c01ee",
                "tcp",
                "[fe80::1%2]:50123",
                3.25,
                (0.0, 0.0),
            ),
            link(
                "a very long device name 31337f",
                "websocket",
                "ws://shop.example.org:8080/sync",
                141.0,
                (999_950.0, 1.2e9),
            ),
            link("scale 77ab12", "tcp", "10.0.0.7:4040", 0.0, (60.0, 60.0)),
        ],
        waiting: vec![WaitingRow {
            medium: "tcp".to_owned(),
            address: "10.0.0.9:4040".to_owned(),
            state: "waiting".to_owned(),
            because: "nobody answers at 10.0.0.9:4040: connection refused".to_owned(),
        }],
        mesh: shop_mesh(),
        events: shop_events(),
    }
}

#[test]
fn screens_are_drawn_as_they_were() {
    let (shop, view) = (shop(), View::default());
    check("shop", &shop, &view, (80, 24));
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let drawn = lines(&shop, &view, 80, 24).join("\n");
    assert!(reference.contains(&drawn), "docs/cli.md shows another one");
    check("shop_wide", &shop, &view, (132, 40));
    let by_rate = View {
        sort: Sort::Received,
        first: 1,
        is_help: false,
    };
    check("shop_sorted", &shop, &by_rate, (100, 16));
    let help = View {
        is_help: true,
        ..view
    };
    check("help", &shop, &help, (80, 24));
    check("too_small", &shop, &view, (39, 24));
    check("alone", &Snapshot::default(), &view, (80, 24));
}

/// What others say of themselves does not get at the terminal.
#[test]
fn names_cannot_write_to_the_terminal() {
    let mut snapshot = shop();
    snapshot.links[0].peer = "\u{1b}[2J\u{7}evil\r\n".to_owned();
    snapshot.mesh.peers[1].label = "\u{1b}]0;title\u{7}".to_owned();
    let drawn = lines(&snapshot, &View::default(), 80, 24).concat();
    assert!(!drawn.contains(char::is_control), "{drawn:?}");
    assert!(drawn.contains("evil"));
}

#[test]
fn the_picture_does_not_depend_on_the_order_of_links() {
    let snapshot = shop();
    let mut turned = snapshot.clone();
    turned.mesh.links.reverse();
    for link in &mut turned.mesh.links {
        link.reverse();
    }
    let view = View::default();
    assert_eq!(
        lines(&snapshot, &view, 80, 24),
        lines(&turned, &view, 80, 24)
    );
}

proptest! {
    /// However large the terminal and the mesh are, all is inside.
    #[test]
    fn every_size_is_drawn(
        (width, height) in (1u16..200, 1u16..60),
        peers in proptest::collection::vec((0u16..7, "\\PC{0,30}"), 0..80),
        links in proptest::collection::vec((0usize..80, 0usize..80), 0..200),
        first in 0usize..100,
        is_help in any::<bool>(),
    ) {
        let mut snapshot = shop();
        let count = peers.len();
        snapshot.mesh.peers = peers
            .into_iter()
            .map(|(distance, label)| MeshPeer { label, distance })
            .collect();
        let inside = links.into_iter().filter(|(a, b)| *a < count && *b < count);
        snapshot.mesh.links = inside.map(|(a, b)| [a, b]).collect();
        let view = View { first, is_help, sort: Sort::Behind };
        prop_assert_eq!(lines(&snapshot, &view, width, height).len(), usize::from(height));
    }
}

//! Gossip of a mesh: what decodes, encodes to the same frame, and a mesh takes or refuses any of it.

use std::time::Duration;

use idem_mesh::{
    Gossip, Interest, InterestConfig, LinkId, LinkUp, Medium, Mesh, MeshConfig, MeshLimits,
    PeerHash, PresenceRecord, RecordLink, SignedRecord, Signer, SubscriptionId, Way,
};
use idem_model::{DatabaseId, PeerId};

use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "gossip_decode",
    run,
    seeds: || frames().iter().map(Gossip::to_bytes).collect(),
};

const DATABASE: DatabaseId = DatabaseId([7; 16]);
const NEIGHBOUR: PeerId = PeerId([2; 32]);

/// Believes every signature, so that broken records get further than their signature.
#[derive(Debug)]
struct Believer;

impl Signer for Believer {
    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [1; 64]
    }

    fn holds(&self, _: &PeerId, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
}

fn records() -> Vec<SignedRecord> {
    let record = |byte| PresenceRecord {
        seq: 5,
        lifetime_s: 90,
        name: "Gate 7".to_owned(),
        links: vec![RecordLink {
            peer: PeerHash::of(DATABASE, NEIGHBOUR),
            medium: 1,
        }],
        interests: vec![[byte; 4]],
        metadata: vec![byte; 10],
        ..PresenceRecord::default()
    };
    let signed = |byte| SignedRecord::new(DATABASE, PeerId([byte; 32]), &record(byte), &Believer);
    vec![signed(2), signed(3)]
}

fn have() -> Gossip {
    let mut entries: Vec<_> = records()
        .iter()
        .map(|it| (PeerHash::of(DATABASE, it.peer), 5))
        .collect();
    entries.sort_unstable();
    Gossip::Have(entries)
}

fn frames() -> Vec<Gossip> {
    let mut sums = Box::new([0; 64]);
    sums[9] = 1;
    vec![
        Gossip::Summary(sums),
        have(),
        Gossip::Want(vec![PeerHash::of(DATABASE, NEIGHBOUR)]),
        Gossip::Records(records().into_iter().map(|it| (3, it)).collect()),
        Gossip::Interest {
            is_first: true,
            entries: vec![Interest {
                hops: 1,
                up: 15,
                is_carried: false,
                statement: "SELECT * FROM c AS d".to_owned(),
            }],
        },
        Gossip::NoInterest(vec![SubscriptionId([7; 32])]),
        Gossip::Gateways(vec![Way {
            gateway: PeerHash::of(DATABASE, NEIGHBOUR),
            distance: 0,
            is_by_receiver: false,
            carried: 0,
        }]),
        Gossip::Demand {
            gateway: PeerHash::of(DATABASE, NEIGHBOUR),
            statements: vec!["SELECT * FROM c AS d".to_owned()],
        },
    ]
}

fn run(data: &[u8]) -> Verdict {
    let gossip = Gossip::decode(data);
    if let Ok(gossip) = &gossip
        && !matches!(gossip, Gossip::Extension(_))
    {
        assert_eq!(gossip.to_bytes(), data, "one frame has one form");
    }
    let config = MeshConfig {
        database: DATABASE,
        local: PeerId([1; 32]),
        seed: 1,
        started_ms: 1,
        limits: MeshLimits::default(),
        interest: InterestConfig::default(),
    };
    let mut now = Duration::ZERO;
    let mut mesh = Mesh::new(now, config, Box::new(Believer));
    let up = LinkUp {
        link: LinkId(1),
        peer: NEIGHBOUR,
        medium: Medium::Lan,
        address: None,
        is_inbound: true,
        is_configured: false,
    };
    mesh.handle_link_up(now, up);
    let taken = mesh.handle_gossip(now, NEIGHBOUR, &have().to_bytes());
    taken.expect("an announcement is nothing bad");
    let taken = mesh.handle_gossip(now, NEIGHBOUR, data);
    assert!(
        gossip.is_ok() || taken.is_err(),
        "what cannot be read is not taken"
    );
    for _ in 0..20 {
        while mesh.poll_action().is_some() {}
        now = mesh.poll_timeout().map_or(now, |at| at.max(now));
        mesh.handle_timeout(now);
    }
    assert!(mesh.graph().peers.len() <= 3);
    if taken.is_ok() {
        Verdict::Accepted
    } else {
        Verdict::Rejected
    }
}

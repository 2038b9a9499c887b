//! Neighbours that lie, forge, repeat and flood.

use std::time::Duration;

use idem_mesh::{
    Action, CloseCause, Gossip, GossipError, InterestConfig, LinkId, LinkUp, Medium, Mesh,
    MeshConfig, MeshEvent, MeshLimits, PeerHash, PeerKind, PresenceRecord, RecordLink,
    SignedRecord, Way,
};
use idem_model::limits;

use crate::{key::Key, toy::DATABASE};

const SECOND: Duration = Duration::from_secs(1);

trait Writes {
    fn hash(&self) -> PeerHash;
    fn record(&self, seq: u64, links: &[PeerHash]) -> SignedRecord;
}

impl Writes for Key {
    fn hash(&self) -> PeerHash {
        PeerHash::of(DATABASE, self.peer())
    }

    fn record(&self, seq: u64, links: &[PeerHash]) -> SignedRecord {
        let link = |peer: &PeerHash| RecordLink {
            peer: *peer,
            medium: 1,
        };
        let mut links: Vec<_> = links.iter().map(link).collect();
        links.sort_unstable();
        let record = PresenceRecord {
            seq,
            lifetime_s: 90,
            links,
            ..PresenceRecord::default()
        };
        SignedRecord::new(DATABASE, self.peer(), &record, self)
    }
}

/// A mesh with one neighbour, whose part the test plays.
struct Scene {
    mesh: Mesh,
    key: Key,
    neighbour: Key,
    now: Duration,
    said: Vec<Gossip>,
    closed: Vec<CloseCause>,
    events: Vec<MeshEvent>,
}

impl Scene {
    fn new() -> Self {
        let (key, neighbour) = (Key::new(0), Key::new(1));
        let config = MeshConfig {
            database: DATABASE,
            local: key.peer(),
            seed: 1,
            started_ms: 1_000,
            limits: MeshLimits::default(),
            interest: InterestConfig::default(),
        };
        let mesh = Mesh::new(Duration::ZERO, config, Box::new(key.clone()));
        let mut scene = Self {
            mesh,
            key,
            neighbour,
            now: Duration::ZERO,
            said: Vec::new(),
            closed: Vec::new(),
            events: Vec::new(),
        };
        scene.link(1);
        scene
    }

    fn link(&mut self, link: u64) {
        let up = LinkUp {
            link: LinkId(link),
            peer: self.neighbour.peer(),
            medium: Medium::Lan,
            address: None,
            is_inbound: true,
            is_configured: false,
        };
        self.mesh.handle_link_up(self.now, up);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(action) = self.mesh.poll_action() {
            match action {
                Action::Gossip { bytes, .. } => {
                    let gossip = Gossip::decode(&bytes).expect("a mesh speaks well");
                    assert_eq!(gossip.to_bytes(), bytes);
                    self.said.push(gossip);
                }
                Action::Close { link, cause } => {
                    self.closed.push(cause);
                    self.mesh.handle_link_down(self.now, link);
                }
                _ => {}
            }
        }
        while let Some(event) = self.mesh.poll_event() {
            self.events.push(event);
        }
    }

    fn say(&mut self, gossip: &Gossip) -> Result<(), GossipError> {
        self.say_bytes(&gossip.to_bytes())
    }

    fn say_bytes(&mut self, bytes: &[u8]) -> Result<(), GossipError> {
        let result = self
            .mesh
            .handle_gossip(self.now, self.neighbour.peer(), bytes);
        self.poll();
        result
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.mesh.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.mesh.handle_timeout(self.now);
            self.poll();
        }
        self.now = end;
    }

    /// Announces records and brings those that are asked for.
    fn bring(&mut self, mut records: Vec<(u64, SignedRecord)>) -> Result<(), GossipError> {
        records.sort_unstable_by_key(|(_, it)| PeerHash::of(DATABASE, it.peer));
        for part in records.chunks(limits::GOSSIP_ENTRIES_MAX) {
            let entry = |(seq, it): &(u64, SignedRecord)| (PeerHash::of(DATABASE, it.peer), *seq);
            self.say(&Gossip::Have(part.iter().map(entry).collect()))?;
        }
        loop {
            let wanted: Vec<_> = std::mem::take(&mut self.said)
                .into_iter()
                .filter_map(|it| {
                    if let Gossip::Want(hashes) = it {
                        Some(hashes)
                    } else {
                        None
                    }
                })
                .flatten()
                .collect();
            if wanted.is_empty() {
                return Ok(());
            }
            for part in wanted.chunks(50) {
                let found = part.iter().filter_map(|hash| {
                    let mut all = records.iter();
                    all.find(|(_, it)| PeerHash::of(DATABASE, it.peer) == *hash)
                });
                let found = found.map(|(_, it)| (0, it.clone())).collect();
                self.say(&Gossip::Records(found))?;
            }
        }
    }

    fn assert_left(&self) {
        assert_eq!(self.closed, [CloseCause::Misbehaved]);
        let told = |it: &MeshEvent| matches!(it, MeshEvent::Misbehaved { .. });
        assert!(self.events.iter().any(told), "{:?}", self.events);
        assert_eq!(self.mesh.link_count(Medium::Lan), 0);
    }
}

#[test]
fn an_honest_record_is_taken_and_shown() {
    let mut scene = Scene::new();
    let own = scene.key.hash();
    let (near, far) = (scene.neighbour.clone(), Key::new(2));
    let records = vec![
        (5, near.record(5, &[own, far.hash()])),
        (6, far.record(6, &[near.hash()])),
    ];
    scene.bring(records).expect("honest");
    let graph = scene.mesh.graph();
    assert_eq!(graph.peer(far.peer()).expect("it is there").distance, 2);
    assert_eq!(graph.links.len(), 2);
}

#[test]
fn a_link_that_only_one_end_claims_is_not_believed() {
    let mut scene = Scene::new();
    let own = scene.key.hash();
    let (near, far) = (scene.neighbour.clone(), Key::new(2));
    // Somebody is said to be near by its neighbour, and says itself that it has no links.
    let records = vec![
        (5, near.record(5, &[own, far.hash()])),
        (6, far.record(6, &[])),
    ];
    scene.bring(records).expect("nothing forbidden");
    assert_eq!(scene.mesh.record_count(), 2);
    assert!(scene.mesh.graph().peer(far.peer()).is_none());
}

#[test]
fn a_forged_record_ends_the_link() {
    let mut scene = Scene::new();
    let victim = Key::new(2).peer();
    let record = PresenceRecord {
        seq: 9,
        lifetime_s: 90,
        ..PresenceRecord::default()
    };
    let forged = SignedRecord::new(DATABASE, victim, &record, &scene.neighbour);
    let result = scene.bring(vec![(9, forged)]);
    assert_eq!(result, Err(GossipError::Forged { peer: victim }));
    scene.assert_left();
    assert_eq!(scene.mesh.record_count(), 0);
    // And it does not come back for ten minutes.
    scene.closed.clear();
    scene.link(2);
    scene.assert_left();
    scene.wait(SECOND * 601);
    scene.link(3);
    assert_eq!(scene.mesh.link_count(Medium::Lan), 1);
}

/// Of what a neighbour says of gateways counts what is signed, and as long as that does.
#[test]
fn a_gateway_is_one_as_long_as_its_record_says_so() {
    let mut scene = Scene::new();
    let gateway = Key::new(2);
    let way = Way {
        gateway: gateway.hash(),
        distance: 3,
        is_by_receiver: false,
        carried: 0,
    };
    let ways = Gossip::Gateways(vec![way]);
    let distance = |scene: &Scene| scene.mesh.interests().gateway_distance();
    scene.say(&ways).expect("it is well formed");
    assert_eq!(distance(&scene), None, "nobody signed that");
    let record = |seq, kind| {
        let record = PresenceRecord {
            seq,
            lifetime_s: 90,
            kind,
            ..PresenceRecord::default()
        };
        SignedRecord::new(DATABASE, gateway.peer(), &record, &gateway)
    };
    let kinds = [
        (PeerKind::default(), None),
        (PeerKind::BigPeer, Some(4)),
        (PeerKind::default(), None),
        (PeerKind::BigPeer, Some(4)),
    ];
    for (seq, (kind, expected)) in (1..).zip(kinds) {
        let brought = scene.bring(vec![(seq, record(seq, kind))]);
        brought.expect("it is signed");
        assert_eq!(distance(&scene), expected, "record {seq}");
    }
    scene.wait(SECOND * 60);
    scene.say(&ways).expect("it is well formed");
    assert_eq!(distance(&scene), Some(4));
    scene.wait(SECOND * 60);
    assert_eq!(distance(&scene), None, "its record is over");
    scene.say(&ways).expect("it is well formed");
    assert_eq!(distance(&scene), None);
}

#[test]
fn a_record_of_another_database_is_a_forged_one() {
    let mut scene = Scene::new();
    let key = Key::new(2);
    let record = PresenceRecord {
        seq: 9,
        lifetime_s: 90,
        ..PresenceRecord::default()
    };
    let elsewhere = idem_model::DatabaseId([8; 16]);
    let foreign = SignedRecord::new(elsewhere, key.peer(), &record, &key);
    let result = scene.bring(vec![(9, foreign)]);
    assert_eq!(result, Err(GossipError::Forged { peer: key.peer() }));
}

#[test]
fn a_record_in_the_name_of_this_peer_is_noticed() {
    let mut scene = Scene::new();
    let forged = PresenceRecord {
        seq: u64::MAX / 2,
        lifetime_s: 90,
        ..PresenceRecord::default()
    };
    let forged = SignedRecord::new(DATABASE, scene.key.peer(), &forged, &scene.neighbour);
    let result = scene.bring(vec![(u64::MAX / 2, forged)]);
    let peer = scene.key.peer();
    assert_eq!(result, Err(GossipError::Forged { peer }));
    scene.assert_left();

    // A copy of this peer, or an earlier life with a clock ahead, signs with its key.
    let mut scene = Scene::new();
    scene.wait(SECOND * 3);
    let double = scene.key.record(1 << 40, &[]);
    scene
        .bring(vec![(1 << 40, double)])
        .expect("it is signed well");
    let from = scene.neighbour.peer();
    assert!(scene.events.contains(&MeshEvent::Double { from }));
    // Its own record goes above it.
    scene.said.clear();
    scene.wait(SECOND * 30);
    let own = scene.key.hash();
    let above = scene
        .said
        .iter()
        .any(|it| matches!(it, Gossip::Have(entries) if entries.contains(&(own, (1 << 40) + 2))));
    assert!(above, "{:?}", scene.said);
}

#[test]
fn what_nobody_asked_for_ends_the_link() {
    let mut scene = Scene::new();
    let records = vec![(0, Key::new(2).record(5, &[]))];
    assert_eq!(
        scene.say(&Gossip::Records(records)),
        Err(GossipError::Unasked)
    );
    scene.assert_left();
}

#[test]
fn a_replayed_record_changes_nothing() {
    let mut scene = Scene::new();
    let own = scene.key.hash();
    let near = scene.neighbour.clone();
    let (earlier, later) = (near.record(5, &[]), near.record(6, &[own]));
    scene.bring(vec![(6, later)]).expect("honest");
    // Announced with a number that it has not.
    scene
        .bring(vec![(7, earlier)])
        .expect("it may have mixed something up");
    let graph = scene.mesh.graph();
    assert_eq!(graph.peers.len(), 2);
    assert_eq!(scene.mesh.record_count(), 1);
    scene.said.clear();
    scene
        .say(&Gossip::Want(vec![near.hash()]))
        .expect("a question");
    let Some(Gossip::Records(records)) = scene.said.pop() else {
        panic!("an answer");
    };
    assert_eq!(records[0].1.read().expect("a record").seq, 6);
}

#[test]
fn a_record_that_is_passed_on_for_ever_ends() {
    let mut scene = Scene::new();
    let record = Key::new(2).record(5, &[]);
    scene.bring(vec![(5, record.clone())]).expect("honest");
    scene.wait(SECOND * 60);
    scene.said.clear();
    scene
        .say(&Gossip::Want(vec![Key::new(2).hash()]))
        .expect("a question");
    let Some(Gossip::Records(records)) = scene.said.pop() else {
        panic!("an answer");
    };
    assert!((60..=62).contains(&records[0].0), "{} s old", records[0].0);
    scene.wait(SECOND * 35);
    assert_eq!(scene.mesh.record_count(), 1, "only its own is left");
}

#[test]
fn a_flood_of_announcements_ends_the_link() {
    let mut scene = Scene::new();
    let mut announced = 0;
    let result = (0..1000u64).try_for_each(|round| {
        let mut entries: Vec<_> = (0..1000u64)
            .map(|at| {
                (
                    PeerHash::from_bytes((round * 1000 + at + 1).to_be_bytes()),
                    1,
                )
            })
            .collect();
        entries.sort_unstable();
        announced += entries.len();
        scene.say(&Gossip::Have(entries))
    });
    assert_eq!(result, Err(GossipError::Flood));
    assert!(announced < 20_000);
    scene.assert_left();
}

#[test]
fn thousands_of_identities_get_in_slowly_and_never_push_out_who_is_linked() {
    let mut scene = Scene::new();
    let own = scene.key.hash();
    let near = scene.neighbour.clone();
    let made_up: Vec<_> = (10..3010)
        .map(|it| (1, Key::new(it).record(1, &[near.hash()])))
        .collect();
    let honest = vec![(5, near.record(5, &[own]))];
    scene.bring(honest).expect("honest");
    scene.bring(made_up).expect("each of them is signed");
    let most = usize::try_from(limits::GOSSIP_INTRODUCED_PER_MINUTE_MAX).expect("a few");
    assert!(scene.mesh.record_count() <= most + 1);
    // Nobody shows them: the neighbour does not claim to be linked with them, and could with 64 only.
    assert_eq!(scene.mesh.graph().peers.len(), 2);
}

#[test]
fn any_bytes_are_gossip_or_an_error() {
    use proptest::prelude::*;
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..6u8)| {
        let mut scene = Scene::new();
        let mut frame = vec![kind];
        frame.extend(bytes);
        let result = scene.say_bytes(&frame);
        prop_assert_eq!(result.is_err(), scene.mesh.link_count(Medium::Lan) == 0);
    });
    let mut scene = Scene::new();
    let long = vec![0x80; limits::GOSSIP_BYTES_MAX + 1];
    assert!(scene.say_bytes(&long).is_err());
}

//! Whatever happens, a mesh keeps its limits and asks for nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_mesh::{
    Action, AddressId, DialFailure, Found, InterestConfig, LinkId, LinkUp, Medium, Mesh,
    MeshConfig, MeshLimits, PeerHash, Signer,
};
use idem_model::{DatabaseId, PeerId, limits};
use proptest::prelude::*;

const DATABASE: DatabaseId = DatabaseId([7; 16]);
const LOCAL: PeerId = PeerId([100; 32]);

/// Signs nothing: what links do does not depend on it.
#[derive(Debug)]
struct Stamp;

impl Signer for Stamp {
    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [0; 64]
    }

    fn holds(&self, _: &PeerId, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Find {
        address: u64,
        knows_peer: bool,
        is_configured: bool,
    },
    Vanish {
        address: u64,
    },
    /// Answers the oldest dial, with a link or without.
    Answer(Option<DialFailure>),
    Inbound {
        peer: u8,
        medium: Medium,
    },
    /// Takes down a link, the first from here on.
    Down {
        from: u64,
    },
    Wait {
        ms: u64,
    },
}

fn medium() -> impl Strategy<Value = Medium> {
    prop::sample::select(Medium::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let failure = prop::sample::select(vec![
        DialFailure::Unreachable,
        DialFailure::Full,
        DialFailure::Denied,
        DialFailure::Mismatch,
        DialFailure::SelfLink,
    ]);
    prop_oneof![
        5 => (0..60u64, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(address, knows_peer, is_configured)| Step::Find { address, knows_peer, is_configured }
        ),
        1 => (0..60u64).prop_map(|address| Step::Vanish { address }),
        6 => prop::option::weighted(0.2, failure).prop_map(Step::Answer),
        3 => (0..40u8, medium()).prop_map(|(peer, medium)| Step::Inbound { peer, medium }),
        2 => (0..200u64).prop_map(|from| Step::Down { from }),
        5 => (0..20_000u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

fn peer(number: u8) -> PeerId {
    // Some smaller and some larger than the local one.
    PeerId([number * 5; 32])
}

/// Address A leads to peer A % 40, over a medium that follows from A.
fn behind(address: u64) -> (PeerId, Medium) {
    let at = usize::try_from(address / 20).expect("below 3");
    let number = u8::try_from(address % 40).expect("below 40");
    (
        peer(number),
        [Medium::Lan, Medium::Ble, Medium::Internet][at],
    )
}

/// What the test knows of a mesh, kept by itself.
struct Owner {
    mesh: Mesh,
    now: Duration,
    next_link: u64,
    configured: BTreeSet<AddressId>,
    dials: Vec<AddressId>,
    dialled_at: BTreeMap<AddressId, Duration>,
    links: BTreeMap<LinkId, (PeerId, Medium, Option<AddressId>)>,
    preferred: BTreeMap<PeerId, LinkId>,
}

impl Owner {
    fn new(seed: u64) -> Self {
        Self {
            mesh: Mesh::new(
                Duration::ZERO,
                MeshConfig {
                    database: DATABASE,
                    local: LOCAL,
                    seed,
                    started_ms: 1,
                    limits: MeshLimits::default(),
                    interest: InterestConfig::default(),
                },
                Box::new(Stamp),
            ),
            now: Duration::ZERO,
            next_link: 0,
            configured: BTreeSet::new(),
            dials: Vec::new(),
            dialled_at: BTreeMap::new(),
            links: BTreeMap::new(),
            preferred: BTreeMap::new(),
        }
    }

    fn up(&mut self, peer: PeerId, medium: Medium, address: Option<AddressId>) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (peer, medium, address));
        let is_inbound = address.is_none();
        self.mesh.handle_link_up(
            self.now,
            LinkUp {
                link,
                peer,
                medium,
                address,
                is_inbound,
                is_configured: false,
            },
        );
    }

    fn down(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.mesh.handle_link_down(self.now, link);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Find {
                address,
                knows_peer,
                is_configured,
            } => {
                let (peer, medium) = behind(address);
                let address = AddressId(address);
                if is_configured {
                    self.configured.insert(address);
                }
                self.mesh.handle_found(
                    self.now,
                    Found {
                        address,
                        medium,
                        peer: knows_peer.then(|| PeerHash::of(DATABASE, peer)),
                        is_configured,
                        signal_dbm: None,
                    },
                );
            }
            Step::Vanish { address } => self.mesh.handle_vanished(self.now, AddressId(address)),
            Step::Answer(failure) => {
                if self.dials.is_empty() {
                    return;
                }
                let address = self.dials.remove(0);
                match failure {
                    Some(failure) => self.mesh.handle_dial_failed(self.now, address, failure),
                    None => {
                        let (peer, medium) = behind(address.0);
                        self.up(peer, medium, Some(address));
                    }
                }
            }
            Step::Inbound {
                peer: number,
                medium,
            } => self.up(peer(number), medium, None),
            Step::Down { from } => {
                if let Some((link, _)) = self.links.range(LinkId(from)..).next() {
                    self.down(*link);
                }
            }
            Step::Wait { ms } => {
                self.give_up_dials();
                self.now += Duration::from_millis(ms);
                if self.mesh.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.mesh.handle_timeout(self.now);
                    assert!(
                        self.mesh.poll_timeout().is_none_or(|at| at > self.now),
                        "time stands"
                    );
                }
            }
        }
    }

    /// A handshake ends at some time; a mesh that hears of no end after 50 s takes the dial for failed.
    fn give_up_dials(&mut self) {
        let limit = self.now.saturating_sub(Duration::from_secs(25));
        let (late, dials) = self
            .dials
            .iter()
            .partition(|it| self.dialled_at[it] <= limit);
        self.dials = dials;
        let late: Vec<AddressId> = late;
        for address in late {
            let failure = DialFailure::Unreachable;
            self.mesh.handle_dial_failed(self.now, address, failure);
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.mesh.poll_action() {
            match action {
                Action::Dial(address) => {
                    assert!(
                        !self.dials.contains(&address),
                        "{address:?} is dialled twice"
                    );
                    let is_linked = self.links.values().any(|(.., it)| *it == Some(address));
                    assert!(!is_linked, "{address:?} is linked already");
                    self.dials.push(address);
                    self.dialled_at.insert(address, self.now);
                }
                Action::Close { link, .. } => {
                    assert!(self.links.contains_key(&link), "{link:?} is up");
                    self.down(link);
                }
                Action::Prefer { peer, link } => {
                    self.preferred.insert(peer, link);
                }
                Action::Gossip { peer, bytes } => {
                    assert!(self.links.values().any(|it| it.0 == peer), "it is linked");
                    assert!(bytes.len() <= limits::GOSSIP_BYTES_MAX);
                }
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.mesh.poll_event() {
            assert!(!event.to_string().is_empty());
        }
    }

    fn check(&self) {
        let limits = MeshLimits::default();
        for medium in Medium::ALL {
            let links: Vec<_> = self.links.values().filter(|it| it.1 == medium).collect();
            let wanted: BTreeSet<_> = self.configured.iter().map(|it| behind(it.0)).collect();
            let free = links.iter().filter(|it| !wanted.contains(&(it.0, it.1)));
            assert!(
                free.count() <= limits.of(medium).max,
                "too many over {medium}"
            );
            assert_eq!(links.len(), self.mesh.link_count(medium));
            let peers: BTreeSet<_> = links.iter().map(|it| it.0).collect();
            assert_eq!(
                peers.len(),
                links.len(),
                "two links to one peer over {medium}"
            );
            let is_free = |it: &&AddressId| !self.configured.contains(*it);
            let dials = self
                .dials
                .iter()
                .filter(|it| behind(it.0).1 == medium)
                .filter(is_free);
            // One repairs, beside those that fill.
            assert!(dials.count() <= limits::MESH_DIALS_AT_ONCE + 1);
        }
        for (link, (peer, ..)) in &self.links {
            let best = self
                .preferred
                .get(peer)
                .expect("each peer has a link to be used");
            assert_eq!(self.links[best].0, *peer);
            assert!(
                self.links[best].1 <= self.links[link].1,
                "a better link is there"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn limits_hold_and_nothing_is_asked_twice(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut owner = Owner::new(seed);
        for step in steps {
            owner.step(&step);
            owner.act();
            owner.check();
        }
    }

    #[test]
    fn links_reach_the_target_when_dials_succeed(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut owner = Owner::new(seed);
        for step in steps {
            owner.step(&step);
            owner.act();
        }
        for address in 0..20 {
            owner.step(&Step::Find { address, knows_peer: true, is_configured: false });
        }
        // The longest pause is an hour and a half.
        for _ in 0..300 {
            owner.step(&Step::Wait { ms: 20_000 });
            owner.act();
            owner.step(&Step::Answer(None));
            owner.act();
            owner.check();
        }
        let target = MeshLimits::default().lan.target;
        prop_assert!(owner.mesh.link_count(Medium::Lan) >= target);
    }
}

/// A hub that many peers were told to dial, some of them twice, and that looks for nobody.
#[test]
fn links_that_apps_asked_for_stay() {
    let mut owner = Owner::new(1);
    for number in 0..80u64 {
        let up = LinkUp {
            link: LinkId(number),
            peer: peer(u8::try_from(number % 40 + 1).expect("below 41")),
            medium: Medium::Lan,
            address: None,
            is_inbound: true,
            is_configured: true,
        };
        // Peer 20 is the local one.
        if up.peer != LOCAL {
            owner.mesh.handle_link_up(owner.now, up);
        }
    }
    for _ in 0..600 {
        owner.now += Duration::from_secs(1);
        owner.mesh.handle_timeout(owner.now);
        while let Some(action) = owner.mesh.poll_action() {
            let is_close = matches!(action, Action::Close { .. });
            assert!(!is_close, "{action:?} after {:?}", owner.now);
        }
    }
    assert_eq!(owner.mesh.link_count(Medium::Lan), 78);
    // Who comes unasked has the room of a mesh beside them.
    let max = u64::try_from(limits::MESH_LAN_LINKS_MAX).expect("small");
    for number in 0..=max {
        let up = LinkUp {
            link: LinkId(100 + number),
            peer: PeerId([u8::try_from(201 + number).expect("small"); 32]),
            medium: Medium::Lan,
            address: None,
            is_inbound: true,
            is_configured: false,
        };
        owner.mesh.handle_link_up(owner.now, up);
    }
    let actions = std::iter::from_fn(|| owner.mesh.poll_action());
    let closed = actions.filter_map(|action| match action {
        Action::Close { link, .. } => Some(link),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), [LinkId(100 + max)]);
}

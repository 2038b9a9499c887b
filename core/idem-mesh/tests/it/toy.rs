//! A network made of nothing but delays, with many meshes on it, in virtual time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_mesh::{
    Action, AddressId, CloseCause, DialFailure, Found, InterestConfig, LinkId, LinkUp, Medium,
    Mesh, MeshConfig, MeshEvent, MeshLimits, OwnRecord, PeerHash, Signer,
};
use idem_model::{DatabaseId, PeerId};

pub(crate) const DATABASE: DatabaseId = DatabaseId([7; 16]);

const DIAL: Duration = Duration::from_millis(20);
const NOBODY_THERE: Duration = Duration::from_secs(1);
const HOP: Duration = Duration::from_millis(3);

/// Stands for ed25519 where a million signatures would take minutes: whoever can read this can forge it.
#[derive(Debug)]
pub(crate) struct ToySigner(pub(crate) PeerId);

impl ToySigner {
    fn mark(peer: &PeerId, message: &[u8]) -> [u8; 64] {
        let mut hasher = blake3::Hasher::new_keyed(&peer.0);
        let mut mark = [0; 64];
        hasher.update(message).finalize_xof().fill(&mut mark);
        mark
    }
}

impl Signer for ToySigner {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Self::mark(&self.0, message)
    }

    fn holds(&self, peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool {
        Self::mark(peer, message) == *signature
    }
}

pub(crate) fn peer_id(at: usize) -> PeerId {
    PeerId(*blake3::hash(&(at as u64).to_be_bytes()).as_bytes())
}

#[derive(Debug)]
enum Event {
    Timer(usize),
    Dialled {
        from: usize,
        to: usize,
    },
    Frame {
        from: usize,
        to: usize,
        bytes: Vec<u8>,
    },
    Found {
        at: usize,
        other: usize,
    },
    Down {
        at: usize,
        link: LinkId,
    },
}

pub(crate) struct ToyPeer {
    pub(crate) mesh: Mesh,
    /// Its links, and who is at the other end.
    pub(crate) links: BTreeMap<LinkId, usize>,
    pub(crate) group: usize,
    finds: Vec<usize>,
    timer: Option<Duration>,
}

pub(crate) struct Toy {
    pub(crate) now: Duration,
    pub(crate) peers: Vec<ToyPeer>,
    pub(crate) gossip_bytes: u64,
    pub(crate) closed: BTreeMap<CloseCause, usize>,
    pub(crate) dials: usize,
    pub(crate) events: Vec<(usize, MeshEvent)>,
    queue: BTreeMap<(Duration, u64), Event>,
    indices: BTreeMap<PeerId, usize>,
    count: u64,
    random: u64,
    is_deaf: bool,
}

impl Toy {
    /// So many peers, each of which sees `sight` others within the first five seconds.
    pub(crate) fn new(count: usize, sight: usize, seed: u64) -> Self {
        let mut toy = Self {
            now: Duration::ZERO,
            peers: Vec::new(),
            gossip_bytes: 0,
            closed: BTreeMap::new(),
            dials: 0,
            events: Vec::new(),
            queue: BTreeMap::new(),
            indices: (0..count).map(|at| (peer_id(at), at)).collect(),
            count: 0,
            random: seed,
            is_deaf: false,
        };
        for at in 0..count {
            let config = MeshConfig {
                database: DATABASE,
                local: peer_id(at),
                seed: toy.draw(u64::MAX),
                started_ms: 1_790_000_000_000,
                limits: MeshLimits::default(),
                interest: InterestConfig::default(),
            };
            let mut mesh = Mesh::new(toy.now, config, Box::new(ToySigner(peer_id(at))));
            mesh.set_own(
                toy.now,
                OwnRecord {
                    name: format!("toy {at}"),
                    ..OwnRecord::default()
                },
            );
            toy.peers.push(ToyPeer {
                mesh,
                links: BTreeMap::new(),
                group: 0,
                finds: Vec::new(),
                timer: None,
            });
        }
        for at in 0..count {
            for _ in 0..sight {
                let other = toy.index(count);
                if other != at {
                    toy.peers[at].finds.push(other);
                    let wait = Duration::from_millis(toy.draw(5000));
                    toy.push(wait, Event::Found { at, other });
                }
            }
            toy.settle(at);
        }
        toy
    }

    fn draw(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.draw(end as u64)).expect("below a usize")
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + after, self.count), event);
    }

    pub(crate) fn run_until(&mut self, end: Duration) {
        while let Some(next) = self.queue.first_entry() {
            if next.key().0 > end {
                break;
            }
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs while all gossip is lost.
    pub(crate) fn run_deaf(&mut self, time: Duration) {
        self.is_deaf = true;
        self.run_for(time);
        self.is_deaf = false;
    }

    /// Runs until `is_done`, looking each half second; gives how long that took.
    pub(crate) fn run_while(
        &mut self,
        limit: Duration,
        is_done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        while self.now < start + limit {
            self.run_for(Duration::from_millis(500));
            if is_done(self) {
                return Some(self.now - start);
            }
        }
        None
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        let at = match event {
            Event::Timer(at) => {
                if self.peers[at].timer.is_none_or(|timer| timer > now) {
                    return;
                }
                self.peers[at].timer = None;
                let mesh = &mut self.peers[at].mesh;
                mesh.handle_timeout(now);
                assert!(mesh.poll_timeout() > Some(now), "time goes on");
                at
            }
            Event::Found { at, other } => {
                if self.peers[at].group != self.peers[other].group {
                    return;
                }
                self.peers[at].mesh.handle_found(now, found(other));
                at
            }
            Event::Dialled { from, to } => {
                self.dialled(from, to);
                from
            }
            Event::Frame { from, to, bytes } => {
                if !self.is_deaf && self.peers[from].links.values().any(|it| *it == to) {
                    self.gossip_bytes += bytes.len() as u64;
                    let id = peer_id(from);
                    let result = self.peers[to].mesh.handle_gossip(now, id, &bytes);
                    result.expect("everybody here is honest");
                }
                to
            }
            Event::Down { at, link } => {
                self.down(at, link);
                at
            }
        };
        self.settle(at);
    }

    fn dialled(&mut self, from: usize, to: usize) {
        let address = AddressId(to as u64);
        if self.peers[from].group != self.peers[to].group {
            let failure = DialFailure::Unreachable;
            self.peers[from]
                .mesh
                .handle_dial_failed(self.now, address, failure);
            return;
        }
        self.count += 1;
        let link = LinkId(self.count);
        for (at, other, address) in [(to, from, None), (from, to, Some(address))] {
            self.peers[at].links.insert(link, other);
            self.peers[at].mesh.handle_link_up(
                self.now,
                LinkUp {
                    link,
                    peer: peer_id(other),
                    medium: Medium::Lan,
                    address,
                    is_inbound: address.is_none(),
                    is_configured: false,
                },
            );
        }
        self.settle(to);
    }

    fn down(&mut self, at: usize, link: LinkId) {
        if self.peers[at].links.remove(&link).is_some() {
            self.peers[at].mesh.handle_link_down(self.now, link);
        }
    }

    /// Does what the mesh asks for.
    fn settle(&mut self, at: usize) {
        while let Some(action) = self.peers[at].mesh.poll_action() {
            match action {
                Action::Dial(address) => {
                    self.dials += 1;
                    let to = usize::try_from(address.0).expect("an index");
                    let is_there = self.peers[at].group == self.peers[to].group;
                    let wait = if is_there { DIAL } else { NOBODY_THERE };
                    self.push(wait, Event::Dialled { from: at, to });
                }
                Action::Close { link, cause } => {
                    *self.closed.entry(cause).or_default() += 1;
                    let other = self.peers[at].links[&link];
                    self.down(at, link);
                    self.push(HOP, Event::Down { at: other, link });
                }
                Action::Gossip { peer, bytes } => {
                    let to = self.indices[&peer];
                    self.push(
                        HOP,
                        Event::Frame {
                            from: at,
                            to,
                            bytes,
                        },
                    );
                }
                _ => {}
            }
        }
        while let Some(event) = self.peers[at].mesh.poll_event() {
            if event != MeshEvent::PresenceChanged {
                self.events.push((at, event));
            }
        }
        let next = self.peers[at].mesh.poll_timeout();
        if let Some(next) = next
            && self.peers[at].timer.is_none_or(|timer| timer > next)
        {
            self.peers[at].timer = Some(next);
            self.push(next.saturating_sub(self.now), Event::Timer(at));
        }
    }

    /// Parts the network: nobody of one group reaches, or sees, anybody of another.
    pub(crate) fn part(&mut self, group: impl Fn(usize) -> usize) {
        for at in 0..self.peers.len() {
            self.peers[at].group = group(at);
        }
        for at in 0..self.peers.len() {
            let cut: Vec<_> = self.peers[at]
                .links
                .iter()
                .filter(|(_, other)| group(**other) != group(at))
                .map(|(link, _)| *link)
                .collect();
            cut.iter().for_each(|link| self.down(at, *link));
            for other in self.peers[at].finds.clone() {
                if group(other) == group(at) {
                    let wait = Duration::from_millis(self.draw(1000));
                    self.push(wait, Event::Found { at, other });
                } else {
                    self.peers[at]
                        .mesh
                        .handle_vanished(self.now, AddressId(other as u64));
                }
            }
            self.settle(at);
        }
    }

    /// How many peers the largest set has in which each reaches each other over links.
    pub(crate) fn largest_island(&self) -> usize {
        let mut seen = BTreeSet::new();
        let mut largest = 0;
        for start in 0..self.peers.len() {
            let before = seen.len();
            let mut open = vec![start];
            while let Some(at) = open.pop() {
                if seen.insert(at) {
                    open.extend(self.peers[at].links.values());
                }
            }
            largest = largest.max(seen.len() - before);
        }
        largest
    }

    pub(crate) fn degrees(&self) -> (usize, usize, usize) {
        let degrees = self.peers.iter().map(|it| it.links.len());
        let sum: usize = degrees.clone().sum();
        let (min, max) = (degrees.clone().min(), degrees.max());
        (min.unwrap_or(0), sum / self.peers.len(), max.unwrap_or(0))
    }

    /// Whether some peers, all over the mesh, see so many others.
    pub(crate) fn some_see(&self, count: usize) -> bool {
        let step = (self.peers.len() / 16).max(1);
        let mut some = self.peers.iter().step_by(step);
        some.all(|peer| peer.mesh.graph().peers.len() == count)
    }
}

fn found(other: usize) -> Found {
    Found {
        address: AddressId(other as u64),
        medium: Medium::Lan,
        peer: Some(PeerHash::of(DATABASE, peer_id(other))),
        is_configured: false,
        signal_dbm: None,
    }
}

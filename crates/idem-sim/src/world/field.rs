//! Meshes in a field: what discoveries see, and the links that meshes ask for.
//!
//! It does what `idem` does with the same `Mesh`: tells it what was found and which links there are, dials
//! and closes for it, and hands its gossip to sessions. Links come up after a time, over radios whose time
//! all links share (`radio`), and end when two peers have walked apart, which each of them notices by itself.

mod check;
mod discovery;
mod links;
mod radio;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_mesh::{
    Action, AddressId, InterestConfig, Medium, Mesh, MeshConfig, MeshEvent, MeshLimits, OwnRecord,
};
use idem_model::PeerId;

use super::{Checked, Happening, World};
use crate::{
    canary::Canary,
    check::Violation,
    field::{FieldOptions, Place, Plane, SimulatedSigner},
    options::Options,
    peer::{DATABASE, number_of},
    random::Random,
};

pub use report::{MeshPicture, MeshReport};

/// The peers in the plane.
#[derive(Debug)]
pub(crate) struct Field {
    options: FieldOptions,
    plane: Plane,
    /// The meshes of the processes that run.
    meshes: Vec<Option<Box<Mesh>>>,
    timers_us: Vec<Option<u64>>,
    /// Meshes that have been told something since they were asked what to do.
    stirred: BTreeSet<usize>,
    /// Who could see whom when it was looked at last, the smaller number first.
    reach: BTreeSet<(usize, usize, Medium)>,
    /// Whether that has changed for another reason than somebody's walk.
    is_reach_outdated: bool,
    edge_of: BTreeMap<(usize, usize), usize>,
    /// Links that at least one side believes in.
    links: BTreeMap<u64, FieldLink>,
    links_of: Vec<BTreeSet<u64>>,
    /// Whether the radio of a peer is on the air.
    is_on_air: Vec<bool>,
    /// Peers whose interfaces are gone.
    is_gone: Vec<bool>,
    /// Sessions without a link, the oldest first.
    suspended: Vec<VecDeque<usize>>,
    /// Meshes say and do nothing any more: what is left are sessions that come to rest.
    is_frozen: bool,
    tally: Tally,
    /// At the end of the faults, and at rest.
    pictures: [MeshPicture; 2],
}

/// A link of the field.
#[derive(Clone, Copy, Debug)]
struct FieldLink {
    edge: usize,
    medium: Medium,
    up_us: u64,
    /// Which sides have been asked by their mesh to end it.
    is_closing: [bool; 2],
}

/// Sums over a run.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    dials: u64,
    links: u64,
    lives: u64,
    lives_us: u64,
    gossip_bytes: u64,
    joined_us: Option<u64>,
    known_us: u64,
    links_max: usize,
}

impl Field {
    pub(super) fn new(options: &Options) -> Option<Self> {
        let field = options.field?;
        let peers = options.peers;
        let honest = options.conducts.iter().filter(|it| it.is_honest()).count();
        let mut random = Random::new(options.seed ^ 0xf1e1d);
        Some(Self {
            plane: Plane::new(&mut random, &field, honest, peers),
            options: field,
            meshes: (0..peers).map(|_| None).collect(),
            timers_us: vec![None; peers],
            stirred: BTreeSet::new(),
            reach: BTreeSet::new(),
            is_reach_outdated: true,
            edge_of: BTreeMap::new(),
            links: BTreeMap::new(),
            links_of: vec![BTreeSet::new(); peers],
            is_on_air: vec![false; peers],
            is_gone: vec![false; peers],
            suspended: vec![VecDeque::new(); peers],
            is_frozen: false,
            tally: Tally::default(),
            pictures: Default::default(),
        })
    }

    /// What the mesh of a peer keeps to.
    fn limits(&self) -> MeshLimits {
        let defaults = MeshLimits::default();
        let Some(links) = self.options.links else {
            return defaults;
        };
        MeshLimits {
            lan: links,
            ble: links,
            ..defaults
        }
    }

    fn mesh(&mut self, peer: usize) -> Option<&mut Mesh> {
        let mesh = self.meshes[peer].as_deref_mut()?;
        self.stirred.insert(peer);
        Some(mesh)
    }
}

/// How a peer is named towards the mesh of another one.
fn address(peer: usize, medium: Medium) -> AddressId {
    AddressId(peer as u64 * 2 + u64::from(medium == Medium::Ble))
}

/// Who is behind a name.
fn behind(address: AddressId) -> (usize, Medium) {
    let medium = match address.0 % 2 {
        0 => Medium::Lan,
        _ => Medium::Ble,
    };
    (usize::try_from(address.0 / 2).expect("a peer"), medium)
}

impl World {
    /// The field of a run that has one.
    fn field(&mut self) -> &mut Field {
        self.field.as_mut().expect("only called in a field")
    }

    /// Whether meshes decide over links.
    pub(super) fn has_meshes(&self) -> bool {
        self.field.as_ref().is_some_and(|field| !field.is_frozen)
    }

    /// Lets the peers find each other before anything is written.
    pub(super) fn settle_in_field(&mut self) -> Checked {
        let Some(FieldOptions {
            settle_us,
            is_split,
            ..
        }) = self.options.field
        else {
            return Ok(());
        };
        self.schedule(0, Happening::Look);
        self.run_until(settle_us)?;
        if is_split {
            self.faults += 1;
            let wall = self.halves(false);
            self.wall(wall);
        }
        Ok(())
    }

    /// The peers of one half of the plane: the left one, or the lower one.
    pub(super) fn halves(&mut self, is_across: bool) -> Vec<bool> {
        let now_us = self.now_us;
        let places = self.field().plane.places(now_us);
        let at = |place: &Place| if is_across { place.y } else { place.x };
        let mut sorted: Vec<u64> = places.iter().map(at).collect();
        sorted.sort_unstable();
        let middle = sorted[sorted.len() / 2];
        places.iter().map(|place| at(place) < middle).collect()
    }

    /// Who is near whom may have changed.
    pub(super) fn look_again(&mut self) {
        if let Some(field) = &mut self.field {
            field.is_reach_outdated = true;
        }
    }

    /// All faults of a field end: hostile peers are gone, interfaces are back, and all are at home, where
    /// radios reach from each to the next one.
    pub(super) fn heal_field(&mut self) {
        if self.field.is_none() {
            return;
        }
        self.field().pictures[0] = self.mesh_picture();
        for peer in 0..self.peers.len() {
            if !self.peers[peer].is_honest() {
                self.crash(peer);
            }
        }
        let field = self.field();
        field.plane.go_home();
        field.is_gone.fill(false);
        field.is_reach_outdated = true;
    }

    /// Gives a process that starts its mesh, which knows nobody.
    pub(super) fn start_mesh(&mut self, peer: usize) {
        let (now, seed) = (self.now(), self.random.next());
        let started_ms = self.peers[peer].wall_ms(self.now_us);
        let local = self.peers[peer].id();
        let is_greedy = self.canary == Some(Canary::IgnoreLimits);
        let field = self.field();
        let mut limits = field.limits();
        if is_greedy {
            limits.ble.target = 64;
            limits.ble.max = 64;
        }
        let config = MeshConfig {
            database: DATABASE,
            local,
            seed,
            started_ms,
            limits,
            interest: InterestConfig::default(),
        };
        let mut mesh = Mesh::new(now, config, Box::new(SimulatedSigner(local)));
        let own = OwnRecord {
            name: format!("peer {peer}"),
            ..OwnRecord::default()
        };
        mesh.set_own(now, own);
        field.meshes[peer] = Some(Box::new(mesh));
        field.stirred.insert(peer);
        // It is seen anew, and sees anew.
        field.reach.retain(|(a, b, _)| *a != peer && *b != peer);
        field.is_reach_outdated = true;
    }

    /// What a mesh knew is gone with its process.
    pub(super) fn stop_mesh(&mut self, peer: usize) {
        if let Some(field) = &mut self.field {
            field.meshes[peer] = None;
            field.timers_us[peer] = None;
            field.suspended[peer].clear();
            field.links_of[peer].clear();
            field.is_reach_outdated = true;
        }
    }

    pub(super) fn mesh_timer(&mut self, peer: usize) {
        let now_us = self.now_us;
        let field = self.field();
        // A timer that was set anew goes off later.
        if field.timers_us[peer] == Some(now_us) {
            field.timers_us[peer] = None;
            field.stirred.insert(peer);
        }
    }

    /// Does what meshes want that have been told something.
    pub(super) fn settle_meshes(&mut self) -> Checked {
        while let Some(field) = &mut self.field
            && let Some(peer) = field.stirred.pop_first()
        {
            if !field.is_frozen {
                self.drive_mesh(peer)?;
            }
        }
        Ok(())
    }

    fn drive_mesh(&mut self, peer: usize) -> Checked {
        let now = self.now();
        let is_busy = self.is_healed || self.is_busy(peer);
        let Some(mesh) = self.field().meshes[peer].as_deref_mut() else {
            return Ok(());
        };
        mesh.set_busy(is_busy);
        mesh.handle_timeout(now);
        let mut actions = Vec::new();
        while let Some(action) = mesh.poll_action() {
            actions.push(action);
        }
        let mut accused = Vec::new();
        while let Some(event) = mesh.poll_event() {
            if let MeshEvent::Misbehaved { peer, error } = event {
                accused.push((peer, error.to_string()));
            }
        }
        let timeout = mesh.poll_timeout();
        self.set_mesh_timer(peer, timeout);
        let mut told = BTreeSet::new();
        for action in actions {
            match action {
                Action::Dial(address) => self.dial(peer, address),
                Action::Close { link, .. } => self.close(peer, link.0),
                Action::Gossip { peer: to, bytes } => told.extend(self.tell(peer, to, bytes)),
                // A session chooses among its links itself.
                _ => {}
            }
        }
        for (by, what) in accused {
            let by = number_of(by);
            if self.peers[peer].is_honest() && self.peers[by].is_honest() {
                return Err(Violation::Slandered {
                    peer: by,
                    by: peer,
                    what,
                });
            }
        }
        for edge in told {
            self.pump(peer, Some(edge))?;
        }
        self.check_limits(peer)
    }

    /// Whether a link of a peer has more to carry than it can. After the faults all count as busy: no link
    /// is exchanged any more, so that there is a picture to agree on.
    fn is_busy(&self, peer: usize) -> bool {
        let field = self.field.as_ref().expect("only called in a field");
        field.links_of[peer].iter().any(|link| {
            let edge = field.links.get(link).map(|it| &self.edges[it.edge]);
            edge.is_some_and(|edge| {
                let side = edge.side_of(peer).expect("an end of the edge");
                !edge.has_room(*link, 1 - side)
            })
        })
    }

    fn set_mesh_timer(&mut self, peer: usize, timeout: Option<Duration>) {
        let now_us = self.now_us;
        let at_us = timeout.map(|at| {
            let micros = at.as_nanos().div_ceil(1000);
            u64::try_from(micros).expect("a short run").max(now_us + 1)
        });
        let field = self.field();
        if field.timers_us[peer] == at_us {
            return;
        }
        field.timers_us[peer] = at_us;
        if let Some(at_us) = at_us {
            self.schedule(at_us - now_us, Happening::MeshTimer { peer });
        }
    }

    /// Hands gossip to the session with a neighbour; returns its edge if it leaves.
    fn tell(&mut self, peer: usize, to: PeerId, mut bytes: Vec<u8>) -> Option<usize> {
        let to = number_of(to);
        match self.canary {
            Some(Canary::HidePresence) if peer == 0 => return None,
            Some(Canary::SpoilGossip) if peer == 0 => *bytes.last_mut()? ^= 1,
            _ => {}
        }
        let field = self.field();
        let edge = *field.edge_of.get(&(peer.min(to), peer.max(to)))?;
        field.tally.gossip_bytes += bytes.len() as u64;
        let session = self.peers[peer].sessions.get_mut(&edge)?;
        // Where it cannot be sent now, the meshes begin anew once the session is established.
        session.gossip(&bytes).then_some(edge)
    }

    /// A neighbour's session hands over gossip.
    pub(super) fn hear(&mut self, peer: usize, edge: usize, bytes: &[u8]) {
        let (now, from) = (self.now(), self.remote_of(peer, edge));
        if let Some(field) = &mut self.field
            && let Some(mesh) = field.mesh(peer)
        {
            // The mesh tells of what breaks a rule, and asks for the end of the links.
            let _ = mesh.handle_gossip(now, from, bytes);
        }
    }

    /// What was said to a neighbour before may be lost.
    pub(super) fn speak_anew(&mut self, peer: usize, edge: usize) {
        let (now, from) = (self.now(), self.remote_of(peer, edge));
        if let Some(field) = &mut self.field
            && let Some(mesh) = field.mesh(peer)
        {
            mesh.handle_gossip_lost(now, from);
        }
    }

    pub(super) fn remote_of(&self, peer: usize, edge: usize) -> PeerId {
        let [a, b] = self.edges[edge].options.peers;
        self.peers[if a == peer { b } else { a }].id()
    }
}

//! The run: what happens next, and to whom.

mod absence;
mod confirmed;
mod faults;
mod field;
mod network;
mod relaying;
mod run;
mod scopes;
mod verdict;
mod windows;
mod writing;

use std::{collections::BTreeMap, time::Duration};

use idem_mesh::Medium;
use idem_model::SyncScope;

use crate::{
    app::{App, AppFactory},
    canary::Canary,
    check::{Oracle, Violation},
    delivery::Deliveries,
    network::Edge,
    options::Options,
    peer::Peer,
    random::Random,
    workload::COLLECTIONS,
};

use field::Field;
use scopes::Borders;

pub use field::{MeshPicture, MeshReport};
pub use run::{Failure, Report, run, run_with};

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    Frame {
        edge: usize,
        link: u64,
        side: usize,
        bytes: Vec<u8>,
    },
    Write,
    Forge {
        peer: usize,
    },
    Fsync {
        peer: usize,
        life: u64,
    },
    Timer {
        peer: usize,
        edge: usize,
    },
    /// The timer of what a peer relays.
    Relay {
        peer: usize,
    },
    /// A timer of an application.
    Wake {
        peer: usize,
        life: u64,
        token: u64,
    },
    CutEdge {
        edge: usize,
    },
    CutLink {
        edge: usize,
        link: u64,
    },
    Down {
        edge: usize,
        link: u64,
        side: usize,
    },
    Raise {
        edge: usize,
    },
    Crash {
        peer: usize,
    },
    Restart {
        peer: usize,
    },
    Split {
        for_us: u64,
    },
    Join {
        wall: u64,
    },
    Jump {
        peer: usize,
        by_ms: i64,
    },
    Backup {
        peer: usize,
    },
    Restore {
        peer: usize,
    },
    Copy {
        from: usize,
        to: usize,
    },
    /// Somebody sets with which peers a collection syncs.
    Scope {
        peer: usize,
        collection: usize,
        scope: SyncScope,
    },
    /// It is looked at who is near whom.
    Look,
    /// The discovery of a peer looks whether another one is there.
    Sight {
        peer: usize,
        other: usize,
        medium: Medium,
    },
    /// A dial has come to an end.
    Dialled {
        from: usize,
        to: usize,
        medium: Medium,
        life: u64,
    },
    MeshTimer {
        peer: usize,
    },
    /// Packets have been sent over radios.
    OffAir {
        edge: usize,
        link: u64,
        side: usize,
        bytes: u64,
    },
    /// The interfaces of a peer are gone.
    Vanish {
        peer: usize,
    },
    Reappear {
        peer: usize,
    },
}

impl Happening {
    fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::CutEdge { .. }
                | Self::CutLink { .. }
                | Self::Raise { .. }
                | Self::Crash { .. }
                | Self::Restart { .. }
                | Self::Split { .. }
                | Self::Join { .. }
                | Self::Jump { .. }
                | Self::Backup { .. }
                | Self::Restore { .. }
                | Self::Copy { .. }
                | Self::Scope { .. }
                | Self::Forge { .. }
                | Self::Vanish { .. }
                | Self::Reappear { .. }
        )
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) options: Options,
    canary: Option<Canary>,
    pub(crate) random: Random,
    pub(crate) now_us: u64,
    /// What is to happen, by time and then by when it was decided.
    agenda: BTreeMap<(u64, u64), Happening>,
    decided: u64,
    pub(crate) peers: Vec<Peer>,
    edges: Vec<Edge>,
    /// The edges of each peer.
    edges_of: Vec<Vec<usize>>,
    /// The plane in which the peers are, if they are in one. Its edges come as links come.
    field: Option<Field>,
    /// When a document last became another one on a peer.
    changed_us: u64,
    /// Peers that see only each other, by the number of the wall around them.
    walls: BTreeMap<u64, Vec<bool>>,
    wall_last: u64,
    link_last: u64,
    writes_left: u64,
    serial: i64,
    is_healed: bool,
    /// What a crash has brought to light.
    broken: Option<Violation>,
    oracle: Oracle,
    borders: Borders,
    pub(crate) deliveries: Deliveries,
    trace: blake3::Hasher,
    events: u64,
    frames: u64,
    acknowledged: u64,
    faults: u64,
    link_bytes_max: u64,
    queued_bytes_max: u64,
    relay_bytes_max: u64,
    /// Applications, by peer; without them the workload writes.
    apps: Vec<Option<Box<dyn App>>>,
    pub(crate) app_factory: Option<AppFactory>,
}

pub(crate) type Checked = Result<(), Violation>;

impl World {
    pub(crate) fn new(options: Options, canary: Option<Canary>) -> Self {
        let everything: Vec<String> = COLLECTIONS
            .iter()
            .map(|name| format!("SELECT * FROM {name}"))
            .collect();
        Self::with(options, canary, &everything)
    }

    /// A world in which every peer subscribes to `statements`.
    pub(crate) fn with(options: Options, canary: Option<Canary>, statements: &[String]) -> Self {
        // One peer has the bug; the others show it.
        let bug_of = |number| match canary {
            Some(
                Canary::BreakGroups
                | Canary::KeepActor
                | Canary::HideFloor
                | Canary::ForgetEvictions,
            ) => canary,
            _ if number == 0 => canary,
            _ => None,
        };
        let peers = 0..options.peers;
        let peers = peers.map(|number| Peer::new(number, &options, statements, bug_of(number)));
        let mut edges_of = vec![Vec::new(); options.peers];
        for (number, edge) in options.edges.iter().enumerate() {
            for peer in edge.peers {
                edges_of[peer].push(number);
            }
        }
        let edges = options.edges.iter().cloned().map(Edge::new);
        let peers_without_apps = (0..options.peers).map(|_| None).collect();
        Self {
            canary,
            random: Random::new(options.seed),
            now_us: 0,
            agenda: BTreeMap::new(),
            decided: 0,
            peers: peers.collect(),
            edges: edges.collect(),
            edges_of,
            field: Field::new(&options),
            changed_us: 0,
            walls: BTreeMap::new(),
            wall_last: 0,
            link_last: 0,
            writes_left: options.writes,
            serial: 0,
            is_healed: false,
            broken: None,
            oracle: Oracle::default(),
            borders: Borders::default(),
            deliveries: Deliveries::default(),
            trace: blake3::Hasher::new(),
            events: 0,
            frames: 0,
            acknowledged: 0,
            faults: 0,
            link_bytes_max: 0,
            queued_bytes_max: 0,
            relay_bytes_max: 0,
            apps: peers_without_apps,
            app_factory: None,
            options,
        }
    }

    // The agenda.

    pub(crate) fn schedule(&mut self, delay_us: u64, happening: Happening) {
        self.decided += 1;
        let at = (self.now_us.saturating_add(delay_us), self.decided);
        self.agenda.insert(at, happening);
    }

    pub(crate) fn run_until(&mut self, end_us: u64) -> Checked {
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > end_us {
                break;
            }
            self.now_us = entry.key().0;
            let happening = entry.remove();
            self.happen(happening)?;
        }
        self.now_us = end_us;
        Ok(())
    }

    /// Runs until nothing is left to happen.
    pub(crate) fn run_to_rest(&mut self) -> Checked {
        let (events, since_us) = (self.events, self.now_us);
        let events_max = run::REST_EVENTS_PER_PEER * (self.peers.len() as u64 + 2);
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            self.now_us = at;
            self.happen(happening)?;
            let events = self.events - events;
            let passed_us = self.now_us - since_us;
            if events > events_max || passed_us > self.options.rest_us_max {
                return Err(Violation::Unrest {
                    events,
                    seconds: passed_us / 1_000_000,
                });
            }
        }
        Ok(())
    }

    // What happens.

    fn happen(&mut self, happening: Happening) -> Checked {
        self.events += 1;
        self.note(&happening);
        self.act(happening)?;
        self.settle_meshes()
    }

    fn act(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Frame {
                edge,
                link,
                side,
                bytes,
            } => return self.deliver(edge, (link, side), &bytes),
            Happening::Write => return self.write(),
            Happening::Forge { peer } => return self.forge(peer),
            Happening::Fsync { peer, life } if self.peers[peer].life == life => {
                return self.fsync(peer);
            }
            Happening::Fsync { .. } => {}
            Happening::Timer { peer, edge } => return self.timer(peer, edge),
            Happening::Relay { peer } => return self.carrier_timer(peer),
            Happening::Wake { peer, life, token } => return self.wake(peer, life, token),
            Happening::CutEdge { edge } => self.cut_and_raise(edge),
            Happening::CutLink { edge, link } => self.end_of_life(edge, link),
            Happening::Down { edge, link, side } => return self.down(edge, link, side),
            Happening::Raise { edge } => return self.raise(edge),
            Happening::Crash { peer } => self.crash(peer),
            Happening::Restart { peer } => return self.restart(peer),
            Happening::Split { for_us } => self.split(for_us),
            Happening::Join { wall } => self.join(wall),
            Happening::Jump { peer, by_ms } => self.jump(peer, by_ms),
            Happening::Backup { peer } => self.back_up(peer),
            Happening::Restore { peer } => self.restore(peer),
            Happening::Copy { from, to } => self.copy(from, to),
            Happening::Scope {
                peer,
                collection,
                scope,
            } => return self.set_scope(peer, collection, scope),
            Happening::Look => self.look_out(),
            Happening::Sight {
                peer,
                other,
                medium,
            } => self.see(peer, other, medium),
            Happening::Dialled {
                from,
                to,
                medium,
                life,
            } => return self.dialled((from, to), medium, life),
            Happening::MeshTimer { peer } => self.mesh_timer(peer),
            Happening::OffAir {
                edge,
                link,
                side,
                bytes,
            } => self.off_air(edge, (link, side), bytes),
            Happening::Vanish { peer } => self.vanish(peer),
            Happening::Reappear { peer } => self.reappear(peer),
        }
        self.broken.take().map_or(Ok(()), Err)
    }

    fn note(&mut self, happening: &Happening) {
        self.trace.update(&self.now_us.to_be_bytes());
        if let Happening::Frame {
            edge, side, bytes, ..
        } = happening
        {
            self.trace.update(&(*edge as u64).to_be_bytes());
            self.trace.update(&(*side as u64).to_be_bytes());
            self.trace.update(bytes);
        } else {
            self.trace.update(format!("{happening:?}").as_bytes());
        }
    }

    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }
}

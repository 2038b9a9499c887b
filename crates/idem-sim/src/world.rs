//! The run: what happens next, and to whom.

use std::{collections::BTreeMap, time::Duration};

use idem_model::{DocumentKey, DocumentOp, limits};
use idem_sync::{CloseReason, Event, LinkId, LinkProperties, Replica};

use crate::{
    canary::Canary,
    check::{Oracle, Violation, Written, check_pairs},
    network::Edge,
    options::Options,
    peer::Peer,
    random::Random,
    workload::{self, Transaction},
};

/// Rest must come within this time after everything healed. A few retransmissions and cursor delays
/// fit many times.
const REST_US_MAX: u64 = 300_000_000;

/// Rest must come within this many events after everything healed.
const REST_EVENTS_MAX: u64 = 50_000;

/// What a run came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over everything that happened.
    pub trace: [u8; 32],
    /// How many events there were.
    pub events: u64,
    /// How many frames were handed over.
    pub frames: u64,
    /// How many transactions were acknowledged.
    pub acknowledged: u64,
    /// How many links were cut and processes killed.
    pub faults: u64,
    /// How much time passed, in simulated microseconds.
    pub simulated_us: u64,
}

/// A run that broke a promise.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed} fails after {simulated_us} us; replay with SIM_SEED={seed}; {options:?}")]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// When it was found, in simulated microseconds.
    pub simulated_us: u64,
    /// What the seed stands for.
    pub options: Box<Options>,
    /// What was broken.
    #[source]
    pub violation: Violation,
}

/// Runs a seed.
///
/// # Errors
/// [`Failure`] if a checker found something.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    run_with(&Options::from_seed(seed), None)
}

/// Runs chosen options, with a planted bug for those who want to see whether it is found.
///
/// # Errors
/// [`Failure`] if a checker found something.
pub fn run_with(options: &Options, canary: Option<Canary>) -> Result<Report, Box<Failure>> {
    let mut world = World::new(options.clone(), canary);
    world.run().map_err(|violation| {
        Box::new(Failure {
            seed: options.seed,
            simulated_us: world.now_us,
            options: Box::new(options.clone()),
            violation,
        })
    })
}

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    Frame {
        edge: usize,
        link: u64,
        side: usize,
        bytes: Vec<u8>,
    },
    Write,
    Fsync {
        peer: usize,
        life: u64,
    },
    Timer {
        peer: usize,
        edge: usize,
    },
    Cut {
        edge: usize,
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
}

#[derive(Debug)]
struct World {
    options: Options,
    canary: Option<Canary>,
    random: Random,
    now_us: u64,
    /// What is to happen, by time and then by when it was decided.
    agenda: BTreeMap<(u64, u64), Happening>,
    decided: u64,
    peers: Vec<Peer>,
    edges: Vec<Edge>,
    link_last: u64,
    writes_left: u64,
    serial: i64,
    is_healed: bool,
    oracle: Oracle,
    trace: blake3::Hasher,
    events: u64,
    frames: u64,
    acknowledged: u64,
    faults: u64,
}

type Checked = Result<(), Violation>;

impl World {
    fn new(options: Options, canary: Option<Canary>) -> Self {
        // One peer has the bug; the others show it.
        let bug_of = |number| match canary {
            Some(canary) if number == 0 || canary == Canary::BreakGroups => Some(canary),
            _ => None,
        };
        let peers = 0..options.peers;
        let peers = peers.map(|number| Peer::new(number, &options, bug_of(number)));
        let edges = options.edges.iter().map(|(a, b)| Edge::new([*a, *b]));
        Self {
            canary,
            random: Random::new(options.seed),
            now_us: 0,
            agenda: BTreeMap::new(),
            decided: 0,
            peers: peers.collect(),
            edges: edges.collect(),
            link_last: 0,
            writes_left: options.writes,
            serial: 0,
            is_healed: false,
            oracle: Oracle::default(),
            trace: blake3::Hasher::new(),
            events: 0,
            frames: 0,
            acknowledged: 0,
            faults: 0,
            options,
        }
    }

    fn run(&mut self) -> Result<Report, Violation> {
        for peer in 0..self.peers.len() {
            self.start(peer);
        }
        self.schedule(0, Happening::Write);
        let faulty_us = self.plan_faults();
        self.run_until(faulty_us)?;
        self.heal()?;
        self.run_to_rest()?;
        self.check_all()?;
        self.check_deletion()?;
        Ok(Report {
            seed: self.options.seed,
            trace: *self.trace.finalize().as_bytes(),
            events: self.events,
            frames: self.frames,
            acknowledged: self.acknowledged,
            faults: self.faults,
            simulated_us: self.now_us,
        })
    }

    // The agenda.

    fn schedule(&mut self, delay_us: u64, happening: Happening) {
        self.decided += 1;
        let at = (self.now_us + delay_us, self.decided);
        self.agenda.insert(at, happening);
    }

    /// Decides on faults; returns how long they last.
    fn plan_faults(&mut self) -> u64 {
        let writing_us = self.options.writes * self.options.write_pause_us_max / 2;
        let faulty_us = writing_us + 1_000_000;
        let seconds = faulty_us / 1_000_000;
        for edge in 0..self.edges.len() {
            let delay = self.random.below(200_000);
            self.schedule(delay, Happening::Raise { edge });
        }
        for _ in 0..self.options.cuts * seconds {
            let edge = self.random.index(self.edges.len());
            let delay = self.random.below(faulty_us);
            self.schedule(delay, Happening::Cut { edge });
        }
        for _ in 0..self.options.crashes * seconds {
            let peer = self.random.index(self.peers.len());
            let delay = self.random.below(faulty_us);
            self.schedule(delay, Happening::Crash { peer });
        }
        faulty_us
    }

    fn run_until(&mut self, end_us: u64) -> Checked {
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

    /// Ends all faults: every process runs, every edge has a link, every write is made.
    fn heal(&mut self) -> Checked {
        self.is_healed = true;
        let is_fault = |happening: &Happening| {
            matches!(
                happening,
                Happening::Cut { .. }
                    | Happening::Raise { .. }
                    | Happening::Crash { .. }
                    | Happening::Restart { .. }
            )
        };
        self.agenda.retain(|_, happening| !is_fault(happening));
        for peer in 0..self.peers.len() {
            if !self.peers[peer].is_alive {
                self.happen(Happening::Restart { peer })?;
            }
        }
        for edge in 0..self.edges.len() {
            if self.canary == Some(Canary::Isolate) && self.edges[edge].peers.contains(&0) {
                self.cut(edge, false);
                continue;
            }
            self.happen(Happening::Raise { edge })?;
        }
        Ok(())
    }

    /// Runs until nothing is left to happen.
    fn run_to_rest(&mut self) -> Checked {
        let (events, since_us) = (self.events, self.now_us);
        while let Some(((at, _), happening)) = self.agenda.pop_first() {
            self.now_us = at;
            self.happen(happening)?;
            let events = self.events - events;
            let passed_us = self.now_us - since_us;
            if events > REST_EVENTS_MAX || passed_us > REST_US_MAX {
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
        match happening {
            Happening::Frame {
                edge,
                link,
                side,
                bytes,
            } => self.deliver(edge, link, side, &bytes),
            Happening::Write => self.write(),
            Happening::Fsync { peer, life } => {
                if self.peers[peer].life == life {
                    self.fsync(peer)?;
                }
                Ok(())
            }
            Happening::Timer { peer, edge } => self.timer(peer, edge),
            Happening::Cut { edge } => {
                self.faults += 1;
                self.cut(edge, true);
                let delay = self.random.below(500_000);
                self.schedule(delay, Happening::Raise { edge });
                Ok(())
            }
            Happening::Down { edge, link, side } => self.down(edge, link, side),
            Happening::Raise { edge } => self.raise(edge),
            Happening::Crash { peer } => {
                self.crash(peer);
                Ok(())
            }
            Happening::Restart { peer } => {
                self.start(peer);
                for edge in 0..self.edges.len() {
                    if self.edges[edge].side_of(peer).is_some() {
                        self.raise(edge)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn note(&mut self, happening: &Happening) {
        self.trace.update(&self.now_us.to_be_bytes());
        if let Happening::Frame {
            edge, side, bytes, ..
        } = happening
        {
            self.trace.update(&[*edge as u8, *side as u8]);
            self.trace.update(bytes);
        } else {
            self.trace.update(format!("{happening:?}").as_bytes());
        }
    }

    fn write(&mut self) -> Checked {
        if self.writes_left == 0 {
            return Ok(());
        }
        self.writes_left -= 1;
        let pause = self.random.below(self.options.write_pause_us_max);
        self.schedule(pause, Happening::Write);
        let peer = self.random.index(self.peers.len());
        self.serial += 1;
        let transaction = workload::draw(&mut self.random, &self.options, self.serial);
        if self.peers[peer].is_alive {
            self.commit(peer, transaction)?;
        }
        Ok(())
    }

    fn commit(&mut self, peer: usize, transaction: Transaction) -> Checked {
        self.peers[peer].set_now_us(self.now_us);
        let disk = &mut self.peers[peer].disk;
        let Some(commit) = disk.commit(&transaction.operations) else {
            return Ok(());
        };
        let mut states: BTreeMap<DocumentKey, Vec<u8>> = BTreeMap::new();
        for (key, _) in transaction.operations {
            if let Some(state) = disk.state(&key) {
                states.insert(key, state);
            }
        }
        self.peers[peer].written.push(Written {
            commit,
            states: states.into_iter().collect(),
            tallied: transaction.tallied,
        });
        check_pairs(peer, &self.peers[peer].disk, &self.options)?;
        self.make_durable_later(peer)
    }

    /// What a peer's store holds will be durable soon.
    fn make_durable_later(&mut self, peer: usize) -> Checked {
        if !self.peers[peer].is_syncing {
            self.peers[peer].is_syncing = true;
            let delay = self.random.between(0, self.options.fsync_us_max);
            let life = self.peers[peer].life;
            self.schedule(delay, Happening::Fsync { peer, life });
        }
        self.acknowledge(peer);
        self.pump(peer)
    }

    fn fsync(&mut self, peer: usize) -> Checked {
        self.peers[peer].is_syncing = false;
        self.peers[peer].disk.make_durable();
        self.acknowledge(peer);
        let now = self.now();
        let Peer { disk, sessions, .. } = &mut self.peers[peer];
        for session in sessions.values_mut() {
            session.handle_commit(now, disk);
        }
        self.pump(peer)
    }

    fn acknowledge(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        let durable = peer.disk.durable_commit();
        let (done, open) = std::mem::take(&mut peer.written)
            .into_iter()
            .partition(|written| written.commit <= durable);
        peer.written = open;
        let done: Vec<Written> = done;
        self.acknowledged += done.len() as u64;
        done.into_iter().for_each(|it| self.oracle.acknowledge(it));
    }

    fn deliver(&mut self, edge: usize, link: u64, side: usize, bytes: &[u8]) -> Checked {
        self.edges[edge].arrive(link, side);
        let [a, b] = self.edges[edge].peers;
        let (receiver, sender) = if side == 0 { (a, b) } else { (b, a) };
        if self.edges[edge].up[side].contains(&link) {
            self.frames += 1;
            self.peers[receiver].set_now_us(self.now_us);
            let now = self.now();
            let Peer { disk, sessions, .. } = &mut self.peers[receiver];
            let before = disk.last_commit();
            let session = sessions.get_mut(&edge).expect("a link has a session");
            session.handle_frame(now, disk, LinkId(link), bytes);
            let changed = disk.last_commit() != before;
            if changed {
                check_pairs(receiver, &self.peers[receiver].disk, &self.options)?;
            }
            self.make_durable_later(receiver)?;
            if changed && self.canary == Some(Canary::ReactToChanges) {
                self.serial += 1;
                self.commit(receiver, workload::reaction(self.serial))?;
            }
        }
        self.pump(sender)
    }

    fn timer(&mut self, peer: usize, edge: usize) -> Checked {
        let now = self.now();
        let now_us = self.now_us;
        let Peer {
            disk,
            sessions,
            timers_us,
            ..
        } = &mut self.peers[peer];
        // A timer that was set anew goes off later.
        if timers_us.get(&edge) != Some(&now_us) {
            return Ok(());
        }
        timers_us.remove(&edge);
        if let Some(session) = sessions.get_mut(&edge) {
            session.handle_timeout(now, disk);
        }
        self.pump(peer)
    }

    // Faults.

    /// Takes all links of an edge away; the two sides may notice at different times.
    fn cut(&mut self, edge: usize, may_lag: bool) {
        for side in 0..2 {
            for link in self.edges[edge].up[side].clone() {
                self.edges[edge].cut.insert(link);
                let lags = may_lag && self.random.chance(50);
                let delay = if lags { self.random.below(100_000) } else { 0 };
                self.schedule(delay, Happening::Down { edge, link, side });
            }
        }
        // What is on its way is lost, and so is what a side sends that has not noticed.
        let lost_edge = edge;
        let lost = &mut self.edges[lost_edge];
        self.agenda.retain(|_, happening| match happening {
            Happening::Frame {
                edge, link, side, ..
            } if *edge == lost_edge => {
                lost.arrive(*link, *side);
                false
            }
            _ => true,
        });
    }

    fn down(&mut self, edge: usize, link: u64, side: usize) -> Checked {
        let peer = self.edges[edge].peers[side];
        if self.edges[edge].up[side].remove(&link) {
            let now = self.now();
            if let Some(session) = self.peers[peer].sessions.get_mut(&edge) {
                session.handle_link_down(now, LinkId(link));
            }
        }
        // A link with one end has none.
        let other = 1 - side;
        if self.edges[edge].up[other].contains(&link) {
            let delay = self.random.below(50_000);
            self.schedule(
                delay,
                Happening::Down {
                    edge,
                    link,
                    side: other,
                },
            );
        }
        self.pump(peer)
    }

    /// Gives an edge one more link, if both processes run.
    fn raise(&mut self, edge: usize) -> Checked {
        let [a, b] = self.edges[edge].peers;
        // A side may not have noticed yet that a link is cut. Such links must not keep a good one
        // away, or an edge could stay without any.
        let Edge { up, cut, .. } = &self.edges[edge];
        let is_full = up.iter().any(|up| up.difference(cut).count() >= 3);
        if !self.peers[a].is_alive || !self.peers[b].is_alive || is_full {
            return Ok(());
        }
        self.link_last += 1;
        let link = self.link_last;
        let now = self.now();
        for (side, peer) in [(0, a), (1, b)] {
            self.edges[edge].up[side].insert(link);
            let sessions = &mut self.peers[peer].sessions;
            let session = sessions.get_mut(&edge).expect("it runs");
            session.handle_link_up(now, LinkId(link), LinkProperties::default());
        }
        self.pump(a)?;
        self.pump(b)
    }

    fn crash(&mut self, peer: usize) {
        if !self.peers[peer].is_alive {
            return;
        }
        self.faults += 1;
        for edge in 0..self.edges.len() {
            if let Some(side) = self.edges[edge].side_of(peer) {
                self.cut(edge, false);
                self.edges[edge].up[side].clear();
            }
        }
        let it = &mut self.peers[peer];
        it.is_alive = false;
        it.is_syncing = false;
        it.life += 1;
        it.sessions.clear();
        it.timers_us.clear();
        it.disk.crash();
        // What was not durable was never acknowledged, and may be gone. What the disk kept all the
        // same is there for good.
        let kept = it.disk.last_commit();
        let written = std::mem::take(&mut it.written);
        for written in written.into_iter().filter(|it| it.commit <= kept) {
            self.oracle.acknowledge(written);
        }
        let delay = self.random.between(10_000, 1_000_000);
        self.schedule(delay, Happening::Restart { peer });
    }

    fn start(&mut self, peer: usize) {
        self.peers[peer].is_alive = true;
        for edge in 0..self.edges.len() {
            if let Some(side) = self.edges[edge].side_of(peer) {
                let remote = self.peers[self.edges[edge].peers[1 - side]].id();
                self.peers[peer].start_session(edge, remote, &mut self.random);
            }
        }
    }

    // Sessions.

    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us)
    }

    /// Does with a peer's sessions what their owner must do after every call.
    fn pump(&mut self, peer: usize) -> Checked {
        let edges: Vec<usize> = self.peers[peer].sessions.keys().copied().collect();
        for edge in edges {
            self.pump_frames(peer, edge);
            self.pump_events(peer, edge)?;
            let now_us = self.now_us;
            let it = &mut self.peers[peer];
            let session = &it.sessions[&edge];
            let known = session.stats().known_versions;
            if known > limits::KNOWN_VERSIONS_MAX as u64 {
                return Err(Violation::Unbounded { peer, count: known });
            }
            let timeout = session.poll_timeout().map(|timeout| {
                let micros = u64::try_from(timeout.as_micros()).expect("a short run");
                micros.max(now_us + 1)
            });
            let before = it.timers_us.get(&edge).copied();
            if timeout != before {
                match timeout {
                    Some(at_us) => {
                        it.timers_us.insert(edge, at_us);
                        self.schedule(at_us - now_us, Happening::Timer { peer, edge });
                    }
                    None => {
                        it.timers_us.remove(&edge);
                    }
                }
            }
        }
        Ok(())
    }

    fn pump_frames(&mut self, peer: usize, edge: usize) {
        let now = self.now();
        let side = self.edges[edge].side_of(peer).expect("an end of the edge");
        let it = &mut self.peers[peer];
        let session = it.sessions.get_mut(&edge).expect("asked for its sessions");
        loop {
            let link = session.active_link().map_or(0, |link| link.0);
            if !self.edges[edge].has_room(link, 1 - side, &self.options) {
                return;
            }
            let Some(transmit) = session.poll_transmit(now, &it.disk) else {
                return;
            };
            let link = transmit.link.0;
            let is_up = self.edges[edge].up[1 - side].contains(&link);
            if !is_up || self.edges[edge].cut.contains(&link) {
                continue;
            }
            let at_us = self.edges[edge].send(
                self.now_us,
                link,
                1 - side,
                transmit.lane,
                &self.options,
                self.is_healed,
                &mut self.random,
            );
            self.decided += 1;
            self.agenda.insert(
                (at_us, self.decided),
                Happening::Frame {
                    edge,
                    link,
                    side: 1 - side,
                    bytes: transmit.frame,
                },
            );
        }
    }

    fn pump_events(&mut self, peer: usize, edge: usize) -> Checked {
        let session = self.peers[peer].sessions.get_mut(&edge);
        let session = session.expect("asked for its sessions");
        while let Some(event) = session.poll_event() {
            if let Event::Closed { reason, detail, .. } = event
                && reason != CloseReason::Goodbye
            {
                return Err(Violation::GaveUp {
                    peer,
                    reason: reason.code(),
                    detail,
                });
            }
        }
        Ok(())
    }

    // Checks at the end.

    fn check_all(&mut self) -> Checked {
        self.oracle.check(self.peers.iter().map(|peer| &peer.disk))
    }

    /// One peer is away while another deletes; nothing comes back when it returns.
    fn check_deletion(&mut self) -> Checked {
        let away = self.random.index(self.peers.len());
        let other = (away + 1) % self.peers.len();
        for edge in 0..self.edges.len() {
            if self.edges[edge].side_of(away).is_some() {
                self.cut(edge, false);
            }
        }
        self.run_to_rest()?;
        let states = self.peers[other].disk.states();
        let present = |key: &&DocumentKey| self.peers[other].disk.fields(key).is_some();
        let is_pair = |key: &DocumentKey| key.id.to_string().contains("pair");
        let doomed = states.keys().filter(present).filter(|key| !is_pair(key));
        let doomed: Vec<DocumentKey> = doomed.cloned().collect();
        for key in &doomed {
            let transaction = Transaction {
                operations: vec![(key.clone(), DocumentOp::Delete)],
                tallied: Vec::new(),
            };
            self.commit(other, transaction)?;
        }
        self.run_to_rest()?;
        for edge in 0..self.edges.len() {
            if self.edges[edge].side_of(away).is_some() {
                self.raise(edge)?;
            }
        }
        self.run_to_rest()?;
        for (number, peer) in self.peers.iter().enumerate() {
            let is_back = |key: &&DocumentKey| peer.disk.fields(key).is_some();
            if let Some(key) = doomed.iter().find(is_back) {
                return Err(Violation::Revived {
                    peer: number,
                    key: key.clone(),
                });
            }
        }
        Ok(())
    }
}

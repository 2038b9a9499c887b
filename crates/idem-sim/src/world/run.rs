//! A run from its start to its verdict.

use idem_model::limits;

use super::{Checked, Happening, World, field::MeshReport};
use crate::{
    attachments::Attachments,
    canary::Canary,
    check::Violation,
    delivery::CurvePoint,
    options::{Faults, Options},
};

/// Rest must come within so many events for each peer after everything healed.
pub(super) const REST_EVENTS_PER_PEER: u64 = 3_000;

/// In larger fields nothing is deleted in the end: every document would travel once more.
const DELETION_PEERS_MAX: usize = 100;

/// Points of a convergence curve.
const CURVE_POINTS: u64 = 240;

/// What a run came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over everything that happened.
    pub trace: [u8; 32],
    /// How many peers there were.
    pub peers: usize,
    /// How many events there were.
    pub events: u64,
    /// How many frames were handed over.
    pub frames: u64,
    /// How many transactions were acknowledged.
    pub acknowledged: u64,
    /// How many faults there were: links cut, processes killed, clocks that jumped and so on.
    pub faults: u64,
    /// How much time passed, in simulated microseconds.
    pub simulated_us: u64,
    /// When everything healed, in simulated microseconds. Some writes may be made later.
    pub healed_us: u64,
    /// When every write that was made before had reached every peer, in simulated microseconds.
    pub converged_us: u64,
    /// When half of the (peer, write) pairs that were not lost were done, in simulated microseconds.
    pub half_us: u64,
    /// The time within which half of the writes had reached every peer that wants them.
    pub latency_p50_us: u64,
    /// The time within which 99 of 100 had.
    pub latency_p99_us: u64,
    /// The longest that a write took to reach every peer that wants it.
    pub latency_max_us: u64,
    /// (peer, write) pairs of the run that were not lost, and those of them that were delivered.
    pub pairs: (u64, u64),
    /// Pairs of writes that were lost: with a process before they were acknowledged, or with a disk that
    /// a backup replaced.
    pub pairs_lost: u64,
    /// Bytes of frames that each peer sent.
    pub bytes_sent_by: Vec<u64>,
    /// Documents that were sent.
    pub documents_sent: u64,
    /// Documents that told their receiver nothing.
    pub documents_unchanged: u64,
    /// How often a session went on over another link with what was under way, counted by both sides.
    pub moves: u64,
    /// The most bytes that were on their way over one link in one direction.
    pub link_bytes_max: u64,
    /// The most bytes that a session held of frames that came in or were to leave.
    pub queued_bytes_max: u64,
    /// What became of the mesh, in a field.
    pub mesh: Option<MeshReport>,
    /// The most bytes that a peer held for others.
    pub relay_bytes_max: u64,
    /// Bytes of frames of sessions of relays that all peers sent.
    pub relayed_bytes: u64,
    /// The share of (peer, write) pairs that were delivered, over time.
    pub curve: Vec<CurvePoint>,
}

/// A run that broke a promise.
#[derive(Debug, thiserror::Error)]
#[error("seed {seed} fails after {simulated_us} us")]
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
    if options.attachments.contents > 0 {
        let mut run = Attachments::new(options, canary);
        return run.run().map_err(|violation| {
            Box::new(Failure {
                seed: options.seed,
                simulated_us: run.now_us,
                options: Box::new(options.clone()),
                violation,
            })
        });
    }
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

impl World {
    fn run(&mut self) -> Result<Report, Violation> {
        if self.options.absences.rounds > 0 {
            return self.run_absences();
        }
        self.start_all()?;
        self.draw_scopes()?;
        self.settle_in_field()?;
        self.schedule(self.options.write_after_us, Happening::Write);
        let faulty_us = self.plan_faults();
        self.run_until(self.now_us + faulty_us)?;
        let healed_us = self.now_us;
        self.deliveries.heal(healed_us);
        self.heal()?;
        if self.has_meshes() {
            self.rest_in_field()?;
        }
        self.run_to_rest()?;
        let converged_us = self.deliveries.converged_us();
        self.check_all()?;
        self.check_windows()?;
        let report = self.report(healed_us, converged_us);
        if self.peers.len() <= DELETION_PEERS_MAX || self.options.field.is_none() {
            self.check_deletion()?;
            self.check_windows()?;
        }
        Ok(Report {
            trace: *self.trace.finalize().as_bytes(),
            events: self.events,
            frames: self.frames,
            simulated_us: self.now_us,
            ..report
        })
    }

    pub(crate) fn start_all(&mut self) -> Checked {
        for peer in 0..self.peers.len() {
            self.start(peer)?;
        }
        for edge in 0..self.edges.len() {
            for _ in 0..self.edges[edge].options.links {
                let delay = self.random.below(200_000);
                self.schedule(delay, Happening::Raise { edge });
            }
        }
        Ok(())
    }

    pub(super) fn report(&mut self, healed_us: u64, converged_us: u64) -> Report {
        let pairs_lost = self.deliveries.give_up_open();
        let stats: Vec<_> = self.peers.iter().map(|peer| peer.stats()).collect();
        Report {
            seed: self.options.seed,
            trace: [0; 32],
            peers: self.peers.len(),
            events: self.events,
            frames: self.frames,
            acknowledged: self.acknowledged,
            faults: self.faults,
            simulated_us: self.now_us,
            healed_us,
            converged_us,
            half_us: self.deliveries.half_us(),
            latency_p50_us: self.deliveries.latency_us(50),
            latency_p99_us: self.deliveries.latency_us(99),
            latency_max_us: self.deliveries.latency_us(100),
            pairs: self.deliveries.pairs(),
            pairs_lost,
            bytes_sent_by: stats.iter().map(|it| it.bytes_sent).collect(),
            documents_sent: stats.iter().map(|it| it.documents_sent).sum(),
            documents_unchanged: stats.iter().map(|it| it.documents_unchanged).sum(),
            moves: stats.iter().map(|it| it.moves).sum(),
            link_bytes_max: self.link_bytes_max,
            queued_bytes_max: self.queued_bytes_max,
            mesh: self.mesh_report(),
            relay_bytes_max: self.relay_bytes_max,
            relayed_bytes: self.peers.iter().map(|it| it.relayed_bytes).sum(),
            curve: self.deliveries.curve(CURVE_POINTS),
        }
    }

    /// Decides on faults; returns how long they last.
    fn plan_faults(&mut self) -> u64 {
        let pauses_us = self.options.writes * self.options.write_pause_us_max / 2;
        let writing_us = self.options.write_after_us + pauses_us;
        let faulty_us = writing_us + self.options.faults_us;
        let seconds = faulty_us.div_ceil(1_000_000);
        let Faults {
            cuts,
            crashes,
            partitions,
            partition_us,
            clock_jumps,
            clock_jump_ms_max,
            restores,
            copies,
            ..
        } = self.options.faults;
        let honest: Vec<usize> = (0..self.peers.len())
            .filter(|peer| self.peers[*peer].is_honest())
            .collect();
        for _ in 0..cuts * seconds {
            // In a field the edges are not known before.
            let edge = match self.edges.len() {
                0 => self.random.index(usize::MAX),
                edges => self.random.index(edges),
            };
            self.schedule_within(faulty_us, Happening::CutEdge { edge });
        }
        for _ in 0..crashes * seconds {
            let peer = self.random.index(self.peers.len());
            self.schedule_within(faulty_us, Happening::Crash { peer });
        }
        for _ in 0..partitions {
            let for_us = self.random.within(partition_us);
            self.schedule_within(faulty_us, Happening::Split { for_us });
        }
        for _ in 0..clock_jumps * seconds {
            let peer = self.random.index(self.peers.len());
            let by_ms = self.random.between(0, 2 * clock_jump_ms_max).cast_signed();
            let by_ms = by_ms - clock_jump_ms_max.cast_signed();
            self.schedule_within(faulty_us, Happening::Jump { peer, by_ms });
        }
        for _ in 0..restores {
            let peer = honest[self.random.index(honest.len())];
            let at = self.random.below(faulty_us);
            self.schedule(at / 2, Happening::Backup { peer });
            self.schedule(at, Happening::Restore { peer });
        }
        for _ in 0..copies {
            let from = honest[self.random.index(honest.len())];
            let to = honest[self.random.index(honest.len())];
            if from != to {
                self.schedule_within(faulty_us, Happening::Copy { from, to });
            }
        }
        for _ in 0..self.options.scopes.changes * seconds {
            let happening = self.draw_scope();
            self.schedule_within(faulty_us, happening);
        }
        let vanishings = self.options.field.map_or(0, |field| field.vanishings);
        for _ in 0..vanishings * seconds {
            let peer = self.random.index(self.peers.len());
            self.schedule_within(faulty_us, Happening::Vanish { peer });
        }
        for peer in 0..self.peers.len() {
            if self.peers[peer].twin.is_some() {
                for _ in 0..5 {
                    self.schedule_within(faulty_us, Happening::Forge { peer });
                }
            }
        }
        faulty_us
    }

    fn schedule_within(&mut self, end_us: u64, happening: Happening) {
        let delay = self.random.below(end_us.max(1));
        self.schedule(delay, happening);
    }

    /// Ends all faults: every process runs, every edge of honest peers has its links, every write is
    /// made, all sync scopes are open, and hostile peers are gone.
    pub(crate) fn heal(&mut self) -> Checked {
        self.is_healed = true;
        self.heal_field();
        self.agenda.retain(|_, happening| !happening.is_fault());
        self.walls.clear();
        for edge in 0..self.edges.len() {
            if self.is_hostile(edge) && !self.has_meshes() {
                self.cut(edge, false);
            }
        }
        for peer in 0..self.peers.len() {
            if !self.peers[peer].is_alive && self.peers[peer].is_honest() {
                self.happen(Happening::Restart { peer })?;
            }
        }
        for edge in 0..self.edges.len() {
            if self.has_meshes() {
                break;
            }
            let peers = self.edges[edge].options.peers;
            if self.canary == Some(Canary::Isolate) && peers.contains(&0) {
                self.cut(edge, false);
                continue;
            }
            while !self.is_hostile(edge) && !self.is_full(edge) {
                self.happen(Happening::Raise { edge })?;
            }
        }
        self.open_scopes();
        Ok(())
    }

    /// What of a session must never grow over its limit.
    pub(super) fn check_bounds(&mut self, peer: usize, edge: usize) -> Checked {
        let it = &self.peers[peer];
        let Some(session) = it.sessions.get(&edge) else {
            return Ok(());
        };
        let stats = session.stats();
        let queued = stats.queued_bytes + it.hoard_bytes;
        self.queued_bytes_max = self.queued_bytes_max.max(queued);
        let bounds = [
            (
                "remembered versions",
                stats.known_versions,
                limits::KNOWN_VERSIONS_MAX as u64,
            ),
            ("bytes of frames in memory", queued, QUEUED_BYTES_MAX),
        ];
        for (what, count, limit) in bounds {
            if count > limit {
                return Err(Violation::Unbounded {
                    peer,
                    what,
                    count,
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// Bytes that a session may hold of frames that came in or are to leave, with the documents of the
/// workload: a batch for each lane, a few thousand short requests, and room.
const QUEUED_BYTES_MAX: u64 = 2 * 1024 * 1024;

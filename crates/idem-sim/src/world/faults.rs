//! What goes wrong.

use super::{Checked, Happening, World};
use crate::check::{Written, version};

impl World {
    // Links.

    pub(super) fn cut_and_raise(&mut self, edge: usize) {
        self.faults += 1;
        if self.has_meshes() {
            self.cut_some_in_field(edge);
            return;
        }
        // Of several links, one may die alone.
        let is_alone = self.edges[edge].links.len() > 1 && self.random.chance(50);
        if is_alone {
            let links: Vec<u64> = self.edges[edge].links.keys().copied().collect();
            let link = links[self.random.index(links.len())];
            self.cut_link(edge, link, true);
        } else {
            self.cut(edge, true);
        }
        for _ in 0..self.edges[edge].options.links {
            let delay = self.random.below(500_000);
            self.schedule(delay, Happening::Raise { edge });
        }
    }

    /// A link has lived long enough; another one comes after a while.
    pub(super) fn end_of_life(&mut self, edge: usize, link: u64) {
        self.faults += 1;
        self.cut_link(edge, link, true);
        if self.has_meshes() {
            return;
        }
        let pause = self
            .random
            .exponential(self.options.faults.link_life_us / 4);
        self.schedule(pause, Happening::Raise { edge });
    }

    /// Takes all links of an edge away; the two sides may notice at different times.
    pub(super) fn cut(&mut self, edge: usize, may_lag: bool) {
        let links: Vec<u64> = self.edges[edge].links.keys().copied().collect();
        for link in links {
            self.cut_link(edge, link, may_lag);
        }
    }

    /// What is on its way is lost, and so is what a side sends that has not noticed.
    fn cut_link(&mut self, edge: usize, link: u64, may_lag: bool) {
        if self.has_meshes() {
            self.cut_in_field(edge, link);
            return;
        }
        let Some(it) = self.edges[edge].links.get_mut(&link) else {
            return;
        };
        it.is_cut = true;
        for side in 0..2 {
            let lags = may_lag && self.random.chance(50);
            let delay = if lags { self.random.below(100_000) } else { 0 };
            self.schedule(delay, Happening::Down { edge, link, side });
        }
    }

    /// The peers fall into two parts.
    pub(super) fn split(&mut self, for_us: u64) {
        self.faults += 1;
        let wall = if self.has_meshes() {
            let is_across = self.random.chance(50);
            self.halves(is_across)
        } else {
            self.peers.iter().map(|_| self.random.chance(50)).collect()
        };
        let wall = self.wall(wall);
        self.schedule(for_us, Happening::Join { wall });
    }

    /// Separates those that are marked from those that are not; returns the number of the wall.
    pub(crate) fn wall(&mut self, is_inside: Vec<bool>) -> u64 {
        // In a field, links that cross the wall fall silent when it is looked at who is near whom.
        let has_meshes = self.has_meshes();
        self.look_again();
        for edge in 0..self.edges.len() {
            if has_meshes {
                break;
            }
            let [a, b] = self.edges[edge].options.peers;
            if is_inside[a] != is_inside[b] {
                self.cut(edge, true);
            }
        }
        self.wall_last += 1;
        self.walls.insert(self.wall_last, is_inside);
        self.wall_last
    }

    pub(crate) fn join(&mut self, wall: u64) {
        self.walls.remove(&wall);
        self.look_again();
        for edge in 0..self.edges.len() {
            if !self.has_meshes() && !self.is_full(edge) {
                let delay = self.random.below(100_000);
                self.schedule(delay, Happening::Raise { edge });
            }
        }
    }

    // Processes.

    pub(crate) fn crash(&mut self, peer: usize) {
        if !self.peers[peer].is_alive {
            return;
        }
        self.faults += 1;
        for edge in self.edges_of[peer].clone() {
            let side = self.edges[edge].side_of(peer).expect("an end of the edge");
            self.cut(edge, false);
            for link in self.edges[edge].links.values_mut() {
                link.is_up[side] = false;
            }
        }
        self.stop_mesh(peer);
        let it = &mut self.peers[peer];
        it.stop();
        if let Some(app) = self.apps.get_mut(peer) {
            *app = None;
        }
        let it = &mut self.peers[peer];
        it.disk.crash();
        it.twin.iter_mut().for_each(|twin| twin.crash());
        let broken = self.find_not_held(peer);
        self.broken = self.broken.take().or(broken);
        let it = &mut self.peers[peer];
        // What was not durable was never acknowledged, and may be gone. What the disk kept all the
        // same is there for good.
        let kept = it.disk.last_commit();
        let written = std::mem::take(&mut it.written).into_iter();
        let kept: Vec<Written> = written.filter(|it| it.commit <= kept).collect();
        kept.into_iter().for_each(|it| self.oracle.acknowledge(it));
        self.note_scopes(peer);
        let delay = self.random.between(10_000, 1_000_000);
        self.schedule(delay, Happening::Restart { peer });
    }

    pub(super) fn restart(&mut self, peer: usize) -> Checked {
        if self.peers[peer].is_alive {
            return Ok(());
        }
        self.start(peer)?;
        if self.has_meshes() {
            return Ok(());
        }
        for edge in self.edges_of[peer].clone() {
            for _ in 0..self.edges[edge].options.links {
                self.raise(edge)?;
            }
        }
        Ok(())
    }

    pub(super) fn start(&mut self, peer: usize) -> Checked {
        self.peers[peer].is_alive = true;
        if self.has_meshes() {
            // Sessions come with links.
            self.start_mesh(peer);
            return self.start_app(peer);
        }
        for edge in self.edges_of[peer].clone() {
            let side = self.edges[edge].side_of(peer).expect("an end of the edge");
            let remote = self.peers[self.edges[edge].options.peers[1 - side]].id();
            self.peers[peer].start_session(edge, remote, &mut self.random);
        }
        self.start_carrier(peer);
        self.start_app(peer)
    }

    // Clocks and disks.

    pub(super) fn jump(&mut self, peer: usize, by_ms: i64) {
        self.faults += 1;
        self.peers[peer].skew_ms += by_ms;
    }

    /// A copy of the disk is made while the process is down.
    pub(super) fn back_up(&mut self, peer: usize) {
        self.crash(peer);
        let it = &mut self.peers[peer];
        it.backup = Some(it.disk.copy());
    }

    /// The copy takes the place of the disk.
    pub(super) fn restore(&mut self, peer: usize) {
        self.crash(peer);
        let it = &mut self.peers[peer];
        let actor = it.renewed_actor();
        if let Some(backup) = it.backup.take() {
            it.disk.restore(&backup, actor);
            match self.options.absences.rounds {
                0 => self.doubt(),
                _ => self.oracle.lose(peer, None),
            }
        }
    }

    /// An empty disk takes the place of a peer's.
    pub(super) fn reinstall(&mut self, peer: usize) {
        self.crash(peer);
        let it = &mut self.peers[peer];
        let actor = it.renewed_actor();
        if let Some(empty) = &it.empty {
            it.disk.restore(empty, actor);
            self.oracle.lose(peer, None);
        }
    }

    /// A copy of one peer's disk takes the place of another's.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        self.crash(from);
        self.crash(to);
        let copy = self.peers[from].disk.copy();
        let it = &mut self.peers[to];
        let actor = it.renewed_actor();
        it.disk.restore(&copy, actor);
        self.doubt();
    }

    /// After a disk went back in time: whatever no fsynced disk of an honest peer holds may be gone.
    fn doubt(&mut self) {
        let peers = &self.peers;
        self.oracle.doubt(|key, written| {
            let peers = peers.iter().filter(|it| it.is_honest());
            peers.filter(|it| !it.disk.is_dirty()).any(|it| {
                let state = it.disk.state(key);
                state.is_some_and(|state| version(&state).covers_all(written))
            })
        });
    }
}

//! Links that meshes ask for, and how they end.

use idem_mesh::{AddressId, DialFailure, LinkUp, Medium};
use idem_model::{LinkId, limits};

use super::{Field, FieldLink, Happening, World, address, behind};
use crate::{
    network::{Edge, EdgeOptions, Link, LinkModel},
    world::Checked,
};

/// Connecting over Bluetooth takes so long.
const CONNECT_BLE_US: (u64, u64) = (500_000, 5_000_000);

/// Connecting over a local network, with the handshake.
const CONNECT_LAN_US: (u64, u64) = (2_000, 20_000);

/// Of 100 dials over Bluetooth that could go well, so many do not.
const FAILED_PERCENT: u64 = 5;

/// After this time of silence an end of a Bluetooth link gives it up.
const SUPERVISION_US: (u64, u64) = (2_000_000, 6_000_000);

/// An end of a link in a local network does, unless the system says so before.
const IDLE_US: (u64, u64) = (
    limits::LINK_IDLE_TIMEOUT_MS * 700,
    limits::LINK_IDLE_TIMEOUT_MS * 1000,
);

/// From the end of a process to its neighbours' hearing of it from the system.
const RESET_US: (u64, u64) = (1_000, 100_000);

impl Field {
    fn model(&self, medium: Medium) -> LinkModel {
        match medium {
            Medium::Ble => self.options.radio.expect("the field has radios"),
            _ => self.options.lan,
        }
    }
}

/// The place of a medium among the links to the same peer.
fn rank(medium: Medium) -> u32 {
    match medium {
        Medium::Lan => 1,
        _ => 3,
    }
}

impl World {
    pub(super) fn dial(&mut self, from: usize, address: AddressId) {
        let (to, medium) = behind(address);
        self.field().tally.dials += 1;
        let delay = match medium {
            Medium::Ble => self.random.within(CONNECT_BLE_US),
            _ => self.random.within(CONNECT_LAN_US),
        };
        let life = self.peers[from].life;
        self.schedule(
            delay,
            Happening::Dialled {
                from,
                to,
                medium,
                life,
            },
        );
    }

    pub(in crate::world) fn dialled(
        &mut self,
        (from, to): (usize, usize),
        medium: Medium,
        life: u64,
    ) -> Checked {
        let now = self.now();
        if self.peers[from].life != life || !self.peers[from].is_alive {
            return Ok(());
        }
        let has_failed = medium == Medium::Ble && self.random.chance(FAILED_PERCENT);
        if !has_failed && self.is_near(from, to, medium) {
            return self.connect(from, to, medium);
        }
        if let Some(mesh) = self.field().mesh(from) {
            let failure = DialFailure::Unreachable;
            mesh.handle_dial_failed(now, address(to, medium), failure);
        }
        Ok(())
    }

    fn connect(&mut self, from: usize, to: usize, medium: Medium) -> Checked {
        let (now, now_us) = (self.now(), self.now_us);
        let edge = self.edge_between(from, to, medium);
        self.link_last += 1;
        let link = self.link_last;
        let model = self.field().model(medium);
        let mut state = Link::up();
        state.model = Some(model);
        state.is_radio = medium == Medium::Ble;
        self.edges[edge].links.insert(link, state);
        let field = self.field();
        field.tally.links += 1;
        field.links.insert(
            link,
            FieldLink {
                edge,
                medium,
                up_us: now_us,
                is_closing: [false; 2],
            },
        );
        for peer in [from, to] {
            self.field().links_of[peer].insert(link);
            self.awaken(peer, edge);
            let mut properties = model.properties();
            properties.rank = rank(medium);
            let (session, _) = self.peers[peer].face(edge).expect("it was just started");
            session.handle_link_up(now, LinkId(link), properties);
            let other = if peer == from { to } else { from };
            let up = LinkUp {
                link: LinkId(link),
                peer: self.peers[other].id(),
                medium,
                address: (peer == from).then(|| address(to, medium)),
                is_inbound: peer == to,
                is_configured: false,
            };
            if let Some(mesh) = self.field().mesh(peer) {
                mesh.handle_link_up(now, up);
            }
        }
        self.note_islands();
        let mean = self.options.faults.link_life_us;
        if mean > 0 && !self.is_healed {
            let life = self.random.exponential(mean);
            self.schedule(life, Happening::CutLink { edge, link });
        }
        self.pump(from, Some(edge))?;
        self.pump(to, Some(edge))
    }

    fn edge_between(&mut self, a: usize, b: usize, medium: Medium) -> usize {
        let pair = (a.min(b), a.max(b));
        let next = self.edges.len();
        let model = self.field().model(medium);
        let edge = *self.field().edge_of.entry(pair).or_insert(next);
        if edge == next {
            let options = EdgeOptions::new(pair.0, pair.1, model);
            self.edges.push(Edge::new(options));
            self.edges_of[a].push(edge);
            self.edges_of[b].push(edge);
        }
        edge
    }

    /// Sees to it that a peer has a session with the other end of an edge.
    pub(in crate::world) fn awaken(&mut self, peer: usize, edge: usize) {
        self.field().suspended[peer].retain(|it| *it != edge);
        if !self.peers[peer].sessions.contains_key(&edge) {
            let remote = self.remote_of(peer, edge);
            self.peers[peer].start_session(edge, remote, &mut self.random);
        }
    }

    /// A mesh ends a link: the other end hears of it.
    pub(super) fn close(&mut self, peer: usize, link: u64) {
        let Some(it) = self.field().links.get(&link).copied() else {
            return;
        };
        let edge = it.edge;
        let side = self.edges[edge].side_of(peer).expect("an end of the edge");
        if let Some(it) = self.field().links.get_mut(&link) {
            it.is_closing[side] = true;
        }
        self.schedule(1_000, Happening::Down { edge, link, side });
    }

    /// Nothing passes over a link any more, and nobody tells either end.
    pub(super) fn silence(&mut self, link: u64) {
        let Some(FieldLink { edge, medium, .. }) = self.field().links.get(&link).copied() else {
            return;
        };
        let delay = match medium {
            Medium::Ble => SUPERVISION_US,
            _ => IDLE_US,
        };
        self.end_in_silence(edge, link, delay);
    }

    /// Some link of the field is cut, as a number says that was drawn before there were any.
    pub(in crate::world) fn cut_some_in_field(&mut self, number: usize) {
        let links = &self.field().links;
        let some = links
            .iter()
            .nth(number.checked_rem(links.len()).unwrap_or(0));
        if let Some((link, edge)) = some.map(|(link, it)| (*link, it.edge)) {
            self.cut_in_field(edge, link);
        }
    }

    /// A link of the field is cut: a radio falls silent, and in a local network the system says so.
    pub(in crate::world) fn cut_in_field(&mut self, edge: usize, link: u64) {
        let Some(FieldLink { medium, .. }) = self.field().links.get(&link).copied() else {
            return;
        };
        let delay = match medium {
            Medium::Ble => SUPERVISION_US,
            _ => RESET_US,
        };
        self.end_in_silence(edge, link, delay);
    }

    fn end_in_silence(&mut self, edge: usize, link: u64, delay_us: (u64, u64)) {
        let it = self.edges[edge].links.get_mut(&link);
        let Some(it) = it.filter(|it| !it.is_cut) else {
            return;
        };
        it.is_cut = true;
        it.is_silent = true;
        for side in 0..2 {
            let delay = self.random.within(delay_us);
            self.schedule(delay, Happening::Down { edge, link, side });
        }
    }

    /// No end of a link believes in it any more.
    pub(in crate::world) fn forget_link(&mut self, link: u64) {
        let now_us = self.now_us;
        if let Some(field) = &mut self.field
            && let Some(it) = field.links.remove(&link)
        {
            field.tally.lives += 1;
            field.tally.lives_us += now_us - it.up_us;
        }
    }

    /// One end of a link believes in it no longer.
    pub(in crate::world) fn leave_link(&mut self, peer: usize, edge: usize, link: u64) {
        let now = self.now();
        let Some(field) = &mut self.field else {
            return;
        };
        field.links_of[peer].remove(&link);
        if let Some(mesh) = field.mesh(peer) {
            mesh.handle_link_down(now, LinkId(link));
        }
        let is_linked = |link: &u64| field.links.get(link).is_some_and(|it| it.edge == edge);
        if field.is_frozen || field.links_of[peer].iter().any(is_linked) {
            return;
        }
        // Those that have been without a link for the longest time are forgotten, as `idem` does.
        field.suspended[peer].push_back(edge);
        while field.suspended[peer].len() > limits::SESSIONS_SUSPENDED_MAX {
            let oldest = field.suspended[peer].pop_front().expect("there are some");
            self.peers[peer].drop_session(oldest);
        }
    }

    // Interfaces.

    /// The interfaces of a peer are gone in the middle of whatever they do.
    pub(in crate::world) fn vanish(&mut self, peer: usize) {
        self.faults += 1;
        self.field().is_gone[peer] = true;
        self.field().is_reach_outdated = true;
        for link in self.field().links_of[peer].clone() {
            self.silence(link);
        }
        let delay = self.random.within((500_000, 10_000_000));
        self.schedule(delay, Happening::Reappear { peer });
    }

    pub(in crate::world) fn reappear(&mut self, peer: usize) {
        self.field().is_gone[peer] = false;
        self.field().is_reach_outdated = true;
    }
}

//! Frames, links and sessions.

use idem_model::{Lane, limits};
use idem_sync::{CloseReason, Event, LinkId};

use super::{Checked, Happening, World};
use crate::{
    canary::Canary,
    check::{Violation, check_pairs, version},
    network::Link,
    random::Random,
    workload,
};

/// A link that a session gave up is closed after this time, in microseconds: its goodbye fits in.
const FAREWELL_US: u64 = 50_000;

/// How many ranks links have.
const RANKS: u64 = 3;

impl World {
    // Frames.

    pub(super) fn deliver(
        &mut self,
        edge: usize,
        (link, side): (u64, usize),
        bytes: &[u8],
    ) -> Checked {
        let is_taken = self.edges[edge].arrive(link, side, bytes.len() as u64);
        let [a, b] = self.edges[edge].options.peers;
        let (receiver, sender) = if side == 0 { (a, b) } else { (b, a) };
        if is_taken && self.peers[receiver].is_alive {
            self.frames += 1;
            self.take(receiver, edge, link, bytes)?;
        }
        self.pump(sender, Some(edge))
    }

    fn take(&mut self, receiver: usize, edge: usize, link: u64, bytes: &[u8]) -> Checked {
        let now = self.now();
        let now_us = self.now_us;
        let peer = &mut self.peers[receiver];
        peer.set_now_us(now_us);
        if self.canary == Some(Canary::HoardFrames) && receiver == 0 {
            peer.hoard_bytes += 100 * bytes.len() as u64;
        }
        if !self.take_relayed(receiver, edge, link, bytes) {
            let peer = &mut self.peers[receiver];
            let (session, disk) = peer.face(edge).expect("a link has a session");
            session.handle_frame(now, disk, LinkId(link), bytes);
        }
        self.check_borders(receiver, edge)?;
        let peer = &mut self.peers[receiver];
        let (_, disk) = peer.face(edge).expect("a link has a session");
        let changed = disk.take_changed();
        let is_dirty = disk.is_dirty();
        if !changed.is_empty() && peer.is_honest() {
            for key in &changed {
                if !self.deliveries.is_open(key) {
                    continue;
                }
                let state = peer.disk.state(key).expect("it was just changed");
                self.deliveries
                    .seen(now_us, receiver, key, &version(&state));
            }
            check_pairs(receiver, &peer.disk, &self.options)?;
        }
        if is_dirty {
            self.make_durable_later(receiver);
        }
        if !changed.is_empty() {
            self.changed_us = now_us;
        }
        self.pump(receiver, Some(edge))?;
        if changed.is_empty() {
            return Ok(());
        }
        if self.canary == Some(Canary::ReactToChanges) {
            self.serial += 1;
            self.commit(receiver, workload::reaction(self.serial))?;
        }
        self.tell_app(receiver, &changed)
    }

    pub(super) fn timer(&mut self, peer: usize, edge: usize) -> Checked {
        let now = self.now();
        let now_us = self.now_us;
        let it = &mut self.peers[peer];
        // A timer that was set anew goes off later.
        if it.timers_us.get(&edge) != Some(&now_us) {
            return Ok(());
        }
        it.timers_us.remove(&edge);
        if let Some((session, disk)) = it.face(edge) {
            session.handle_timeout(now, disk);
            if disk.is_dirty() {
                self.make_durable_later(peer);
            }
        }
        if let Some(reader) = &mut self.peers[peer].reader {
            reader.handle_timeout(now, edge);
        }
        self.pump(peer, Some(edge))
    }

    // Links.

    pub(super) fn down(&mut self, edge: usize, link: u64, side: usize) -> Checked {
        let Some(it) = self.edges[edge].links.get_mut(&link) else {
            return Ok(());
        };
        let was_up = std::mem::take(&mut it.is_up[side]);
        let is_told = !it.is_silent;
        // A link with one end has none.
        it.is_cut = true;
        let other = 1 - side;
        let is_other_up = it.is_up[other];
        if !is_other_up {
            self.edges[edge].links.remove(&link);
            self.forget_link(link);
        }
        if !was_up {
            return Ok(());
        }
        let peer = self.edges[edge].options.peers[side];
        let now = self.now();
        if let Some((session, _)) = self.peers[peer].face(edge) {
            session.handle_link_down(now, LinkId(link));
        }
        self.carrier_link_down(peer, link);
        self.offer_links(edge, side);
        self.leave_link(peer, edge, link);
        if is_other_up && is_told {
            let delay = self.random.below(50_000);
            let side = other;
            self.schedule(delay, Happening::Down { edge, link, side });
        }
        self.pump(peer, Some(edge))
    }

    /// Gives an edge one more link, if both processes run and nothing keeps them apart.
    pub(super) fn raise(&mut self, edge: usize) -> Checked {
        let [a, b] = self.edges[edge].options.peers;
        let is_apart = self.walls.values().any(|wall| wall[a] != wall[b]);
        let are_alive = self.peers[a].is_alive && self.peers[b].is_alive;
        // Who starts anew in the end does not meet hostile peers again, which are gone.
        let is_gone = self.is_healed && self.is_hostile(edge) && !self.has_meshes();
        if !are_alive || is_apart || is_gone || self.is_full(edge) {
            return Ok(());
        }
        if self.field.is_some() {
            // Those that were without a link for long are forgotten there.
            [a, b].into_iter().for_each(|peer| self.awaken(peer, edge));
        }
        self.link_last += 1;
        let link = self.link_last;
        let now = self.now();
        let state = Link::up();
        self.edges[edge].links.insert(link, state);
        let towards = self.edges[edge].options.towards;
        let has_ranks = self.edges[edge].options.links > 1;
        let rank = |random: &mut Random| match has_ranks {
            true => u32::try_from(random.below(RANKS)).expect("few"),
            false => 0,
        };
        for (side, peer) in [(0, a), (1, b)] {
            let (session, _) = self.peers[peer].face(edge).expect("it runs");
            let mut properties = towards[1 - side].properties();
            properties.rank = rank(&mut self.random);
            session.handle_link_up(now, LinkId(link), properties);
            self.carrier_link_up(edge, link, side);
        }
        self.rank_anew(edge);
        let mean = self.options.faults.link_life_us;
        if mean > 0 && !self.is_healed {
            let life = self.random.exponential(mean);
            self.schedule(life, Happening::CutLink { edge, link });
        }
        self.pump(a, Some(edge))?;
        self.pump(b, Some(edge))
    }

    /// Offers a session the links again that it may have had no room for.
    fn offer_links(&mut self, edge: usize, side: usize) {
        let it = &self.edges[edge];
        let properties = it.options.towards[1 - side].properties();
        let is_good = |link: &Link| link.is_up[side] && !link.is_given_up[side];
        let up = it.links.iter().filter(|(_, link)| is_good(link));
        let up: Vec<u64> = up.map(|(link, _)| *link).collect();
        let (peer, now) = (it.options.peers[side], self.now());
        if up.len() < limits::LINKS_PER_SESSION_MAX {
            return;
        }
        if let Some((session, _)) = self.peers[peer].face(edge) {
            for link in up {
                session.handle_link_up(now, LinkId(link), properties);
            }
        }
    }

    /// Where there are several links, a side changes its mind about one of them now and then.
    fn rank_anew(&mut self, edge: usize) {
        let links: Vec<u64> = self.edges[edge].links.keys().copied().collect();
        if self.edges[edge].options.links == 1 || !self.random.chance(30) {
            return;
        }
        let (link, side) = (links[self.random.index(links.len())], self.random.index(2));
        let rank = self.random.below(RANKS);
        let (peer, now) = (self.edges[edge].options.peers[side], self.now());
        if let Some((session, _)) = self.peers[peer].face(edge) {
            session.handle_link_rank(now, LinkId(link), u32::try_from(rank).expect("few"));
        }
    }

    /// Whether an edge has the links that it may have. A side may not have noticed yet that a link is
    /// cut: such links must not keep a good one away, but a session takes only so many.
    pub(super) fn is_full(&self, edge: usize) -> bool {
        let edge = &self.edges[edge];
        edge.carrying() >= edge.options.links
    }

    pub(super) fn is_hostile(&self, edge: usize) -> bool {
        let peers = self.edges[edge].options.peers.iter();
        peers.into_iter().any(|peer| !self.peers[*peer].is_honest())
    }

    /// Whether nothing is lost any more: in a field radios lose packets until the meshes fall silent.
    fn is_lossless(&self) -> bool {
        self.is_healed && !self.has_meshes()
    }

    // Sessions.

    /// Does with a peer's sessions, or with one of them, what their owner must do after every call.
    pub(super) fn pump(&mut self, peer: usize, only: Option<usize>) -> Checked {
        let edges: Vec<usize> = match only {
            // What comes over one link says how far a window goes over all of them.
            Some(edge) if self.peers[peer].reader.is_none() => vec![edge],
            _ => self.edges_of[peer].clone(),
        };
        for edge in edges {
            if !self.peers[peer].sessions.contains_key(&edge) {
                continue;
            }
            self.pump_frames(peer, edge)?;
            self.pump_events(peer, edge)?;
            self.turn_window(peer, edge)?;
            self.check_bounds(peer, edge)?;
            let now_us = self.now_us;
            let it = &mut self.peers[peer];
            let window = it.reader.as_ref().and_then(|it| it.poll_timeout(edge));
            let timeouts = [it.sessions[&edge].poll_timeout(), window];
            let timeout = timeouts.into_iter().flatten().min().map(|timeout| {
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
        self.pump_carrier(peer)
    }

    pub(super) fn pump_frames(&mut self, peer: usize, edge: usize) -> Checked {
        let now = self.now();
        let side = self.edges[edge].side_of(peer).expect("an end of the edge");
        let to = 1 - side;
        loop {
            let (session, disk) = self.peers[peer].face(edge).expect("looked up before");
            if let Some(link) = session.active_link()
                && self.edges[edge].links.contains_key(&link.0)
                && !self.edges[edge].has_room(link.0, to)
            {
                return Ok(());
            }
            let Some(transmit) = session.poll_transmit(now, disk) else {
                return Ok(());
            };
            let link = transmit.link.0;
            let mouth = &mut self.peers[peer].mouth;
            for said in mouth.say(transmit.lane, transmit.frame, &mut self.random) {
                self.send_frame(peer, edge, link, said)?;
            }
        }
    }

    /// Sends a frame over a link.
    pub(super) fn send_frame(
        &mut self,
        peer: usize,
        edge: usize,
        link: u64,
        (lane, bytes): (Lane, Vec<u8>),
    ) -> Checked {
        let to = 1 - self.edges[edge].side_of(peer).expect("an end of the edge");
        let Some((lane, bytes)) = self.broadcast(edge, (link, to), (lane, bytes)) else {
            return self.check_link(peer, edge, (link, to));
        };
        let is_lossless = self.is_lossless();
        let arrival_us = self.edges[edge].send(
            self.now_us,
            (link, to),
            (lane, bytes.len() as u64),
            is_lossless,
            &mut self.random,
        );
        if let Some(at_us) = arrival_us {
            self.schedule(
                at_us - self.now_us,
                Happening::Frame {
                    edge,
                    link,
                    side: to,
                    bytes,
                },
            );
        }
        self.check_link(peer, edge, (link, to))
    }

    /// What is under way over a link is bounded by the credit of both lanes, and some requests.
    fn check_link(&mut self, peer: usize, edge: usize, way: (u64, usize)) -> Checked {
        let limit = 3 * u64::from(limits::LANE_CREDIT_BYTES);
        let count = self.edges[edge].under_way(way);
        self.link_bytes_max = self.link_bytes_max.max(count);
        if count > limit && self.peers[peer].is_honest() {
            return Err(Violation::Unbounded {
                peer,
                what: "bytes under way over a link",
                count,
                limit,
            });
        }
        Ok(())
    }

    fn pump_events(&mut self, peer: usize, edge: usize) -> Checked {
        let is_hostile = self.is_hostile(edge);
        let (mut given_up, mut gossip, mut is_anew) = (Vec::new(), Vec::new(), false);
        loop {
            let (session, _) = self.peers[peer].face(edge).expect("looked up before");
            let Some(event) = session.poll_event() else {
                break;
            };
            self.tell_interests(peer, edge, &event);
            self.tell_window(peer, edge, &event);
            let (link, reason, detail) = match event {
                Event::Closed {
                    link,
                    reason,
                    detail,
                    ..
                } => (link, reason, detail),
                Event::Gossip(bytes) => {
                    gossip.push(bytes);
                    continue;
                }
                Event::Established { .. } | Event::Moved { .. } => {
                    is_anew = true;
                    continue;
                }
                _ => continue,
            };
            let state = self.edges[edge].links.get(&link.0);
            let is_dead = state.is_none_or(|it| it.is_cut);
            // Who gets back what it evicted takes a new actor, and starts again.
            let is_expected = matches!(
                reason,
                CloseReason::Goodbye | CloseReason::ActorRenewed | CloseReason::Lost
            );
            let is_expected = is_expected || is_dead && reason == CloseReason::Timeout;
            if !is_expected && !is_hostile {
                return Err(Violation::GaveUp {
                    peer,
                    reason: reason.code(),
                    detail,
                });
            }
            given_up.push(link.0);
        }
        for bytes in gossip {
            self.hear(peer, edge, &bytes);
        }
        if is_anew {
            self.speak_anew(peer, edge);
        }
        for link in given_up {
            self.give_up_link(peer, edge, link);
        }
        Ok(())
    }

    /// Closes a link after what there is to say on it, and makes another one.
    pub(super) fn give_up_link(&mut self, peer: usize, edge: usize, link: u64) {
        let side = self.edges[edge].side_of(peer).expect("an end of the edge");
        if let Some(it) = self.edges[edge].links.get_mut(&link) {
            it.is_given_up[side] = true;
        }
        self.schedule(FAREWELL_US, Happening::Down { edge, link, side });
        if !self.is_healed && self.field.is_none() {
            let delay = FAREWELL_US + self.random.between(100_000, 500_000);
            self.schedule(delay, Happening::Raise { edge });
        }
    }
}

//! Peers that relay for others, and what becomes of their frames.

use idem_mesh::{Gossip, PeerHash};
use idem_model::PeerId;
use idem_sync::{CloseReason, Event, LinkId, RelayEvent, RelayKind, relay_kind};

use super::{Checked, Happening, World};
use crate::{carrier::Carrier, check::Violation, conduct::Conduct, peer::DATABASE};

/// Bytes in front of the message of a relay's frame.
const MARK_BYTES: usize = 2;

impl World {
    /// Gives a process that starts its relay, where there are relays.
    pub(super) fn start_carrier(&mut self, peer: usize) {
        let it = &self.peers[peer];
        if self.options.relays.interested.is_empty() || it.twin.is_some() {
            return;
        }
        let (id, relays) = (it.id(), &self.options.relays);
        let is_gateway = relays.gateways.get(peer) == Some(&true);
        // There are no records here: all know who says that it is one.
        let gateways = self.peers.iter().zip(&relays.gateways);
        let known = gateways.filter(|(_, is_gateway)| **is_gateway);
        let known = known
            .map(|(it, _)| PeerHash::of(DATABASE, it.id()))
            .collect();
        let (wanted, random) = (it.wanted(), &mut self.random);
        let carrier = Carrier::new(id, wanted, (relays, is_gateway), &known, random);
        self.peers[peer].carrier = Some(Box::new(carrier));
    }

    pub(super) fn carrier_link_up(&mut self, edge: usize, link: u64, side: usize) {
        let options = &self.edges[edge].options;
        let properties = options.towards[1 - side].properties();
        let [peer, other] = [options.peers[side], options.peers[1 - side]];
        let (now, remote) = (self.now(), self.peers[other].id());
        if let Some(carrier) = &mut self.peers[peer].carrier {
            for relay in carrier.relays() {
                relay.handle_link_up(now, remote, LinkId(link), properties);
            }
        }
    }

    pub(super) fn carrier_link_down(&mut self, peer: usize, link: u64) {
        let now = self.now();
        if let Some(carrier) = &mut self.peers[peer].carrier {
            for relay in carrier.relays() {
                relay.handle_link_down(now, LinkId(link));
            }
        }
    }

    /// A frame came in; gives whether it was one of a relay's session.
    pub(super) fn take_relayed(
        &mut self,
        peer: usize,
        edge: usize,
        link: u64,
        bytes: &[u8],
    ) -> bool {
        let Some(kind) = relay_kind(bytes) else {
            return false;
        };
        let (now, now_us) = (self.now(), self.now_us);
        let it = &mut self.peers[peer];
        let Some(mut carrier) = it.carrier.take() else {
            return true;
        };
        let relay = match kind {
            RelayKind::Interest => &mut carrier.relay,
            RelayKind::Gateway => &mut carrier.uplink,
        };
        relay.set_now_ms(it.wall_ms(now_us));
        if let Some((_, disk)) = it.face(edge) {
            relay.handle_frame(now, disk, LinkId(link), bytes);
        }
        it.carrier = Some(carrier);
        true
    }

    /// What a session with a neighbour says that matters for relaying.
    pub(super) fn tell_interests(&mut self, peer: usize, edge: usize, event: &Event) {
        let (now, remote) = (self.now(), self.remote_of(peer, edge));
        let is_hostile = self.is_hostile(edge);
        let Some(carrier) = &mut self.peers[peer].carrier else {
            return;
        };
        let interests = &mut carrier.interests;
        match event {
            Event::Established { .. } | Event::Moved { .. } => {
                interests.greet(now, remote, false);
            }
            Event::Suspended => interests.leave(now, remote),
            Event::Gossip(bytes) => {
                let heard = Gossip::decode(bytes).ok();
                let heard = heard.map(|gossip| interests.handle(now, remote, &gossip));
                let is_good = matches!(heard, Some(Ok(())));
                assert!(is_good || is_hostile, "honest peers keep to the rules");
            }
            _ => {}
        }
    }

    /// Something is durable that was not.
    pub(super) fn tell_carrier(&mut self, peer: usize) {
        let now = self.now();
        let it = &mut self.peers[peer];
        if let Some(carrier) = &mut it.carrier {
            for relay in carrier.relays() {
                relay.handle_commit(now, &mut it.disk);
            }
        }
    }

    pub(super) fn carrier_timer(&mut self, peer: usize) -> Checked {
        let (now, now_us) = (self.now(), self.now_us);
        let it = &mut self.peers[peer];
        let wall_ms = it.wall_ms(now_us);
        let Some(carrier) = &mut it.carrier else {
            return Ok(());
        };
        // A timer that was set anew goes off later.
        if carrier.timer_us.take_if(|at| *at == now_us).is_some() {
            for relay in carrier.relays() {
                relay.set_now_ms(wall_ms);
                relay.handle_timeout(now, &mut it.disk);
            }
            carrier.interests.handle_timeout(now);
        }
        self.pump_carrier(peer)
    }

    /// Does with what a peer relays what its owner must do after every call.
    pub(super) fn pump_carrier(&mut self, peer: usize) -> Checked {
        if self.peers[peer].carrier.is_none() {
            return Ok(());
        }
        self.pump_interests(peer)?;
        for edge in self.edges_of[peer].clone() {
            self.pump_relayed(peer, edge)?;
        }
        self.pump_relay_events(peer)?;
        let (now_us, limit) = (self.now_us, self.options.relays.cache_bytes as u64);
        let carrier = self.peers[peer].carrier.as_mut().expect("looked up before");
        let stats = carrier.relays().map(|it| it.stats().bytes);
        let bytes = stats.into_iter().max().unwrap_or(0);
        let timeout = carrier.poll_timeout().map(|timeout| {
            let micros = u64::try_from(timeout.as_micros()).expect("a short run");
            micros.max(now_us + 1)
        });
        let before = std::mem::replace(&mut carrier.timer_us, timeout);
        if let Some(at_us) = timeout.filter(|_| timeout != before) {
            self.schedule(at_us - now_us, Happening::Relay { peer });
        }
        self.relay_bytes_max = self.relay_bytes_max.max(bytes);
        if bytes > limit {
            return Err(Violation::Unbounded {
                peer,
                what: "bytes that it relays in memory",
                count: bytes,
                limit,
            });
        }
        Ok(())
    }

    /// Says what neighbours are to be told, and does what they want.
    fn pump_interests(&mut self, peer: usize) -> Checked {
        let edges = self.edges_of[peer].clone();
        let remotes: Vec<PeerId> = edges.iter().map(|it| self.remote_of(peer, *it)).collect();
        let now = self.now();
        let mut said = Vec::new();
        if let Some(carrier) = &mut self.peers[peer].carrier {
            said.extend(std::iter::from_fn(|| carrier.interests.poll()));
            carrier.follow(now, &remotes);
        }
        for (to, mut bytes) in said {
            if self.options.conducts[peer] == Conduct::Liar {
                bytes = forged(&bytes);
            }
            let at = remotes.iter().position(|it| *it == to);
            let edge = edges[at.expect("said to a neighbour")];
            if let Some((session, _)) = self.peers[peer].face(edge)
                && session.gossip(&bytes)
            {
                self.pump_frames(peer, edge)?;
            }
        }
        Ok(())
    }

    fn pump_relayed(&mut self, peer: usize, edge: usize) -> Checked {
        let (now, remote) = (self.now(), self.remote_of(peer, edge));
        let to = 1 - self.edges[edge].side_of(peer).expect("an end of the edge");
        loop {
            let mut links = self.edges[edge].links.keys();
            if !links.all(|link| self.edges[edge].has_room(*link, to)) {
                return Ok(());
            }
            let it = &mut self.peers[peer];
            let carrier = it.carrier.as_deref_mut();
            let Some(relay) = carrier.and_then(|it| it.stirred(remote)) else {
                return Ok(());
            };
            let Some(transmit) = relay.poll_transmit(now, remote, &it.disk) else {
                continue;
            };
            let mark = transmit.frame[..MARK_BYTES].to_vec();
            let message = transmit.frame[MARK_BYTES..].to_vec();
            let said = match message.is_empty() {
                true => vec![(transmit.lane, message)],
                false => it.mouth.say(transmit.lane, message, &mut self.random),
            };
            for (lane, message) in said {
                let bytes = [&mark[..], &message].concat();
                self.peers[peer].relayed_bytes += bytes.len() as u64;
                self.send_frame(peer, edge, transmit.link.0, (lane, bytes))?;
            }
        }
    }

    fn pump_relay_events(&mut self, peer: usize) -> Checked {
        loop {
            let it = &mut self.peers[peer];
            let carrier = it.carrier.as_deref_mut();
            let event = carrier.and_then(Carrier::poll_event);
            let Some(event) = event else {
                return Ok(());
            };
            let RelayEvent::Broken {
                link,
                reason,
                detail,
            } = event
            else {
                continue;
            };
            let mut edges = self.edges_of[peer].iter().copied();
            let edge = edges.find(|edge| self.edges[*edge].links.contains_key(&link.0));
            let Some(edge) = edge else { continue };
            // What a relay got from a hostile peer it may pass on.
            let is_expected = reason == CloseReason::Timeout && !self.is_healed;
            if !self.is_hostile(edge) && !is_expected {
                return Err(Violation::GaveUp {
                    peer,
                    reason: reason.code(),
                    detail,
                });
            }
            self.give_up_link(peer, edge, link.0);
        }
    }
}

/// What a liar makes of what it should say: it is beside every gateway.
fn forged(bytes: &[u8]) -> Vec<u8> {
    match Gossip::decode(bytes) {
        Ok(Gossip::Gateways(mut ways)) => {
            ways.iter_mut().for_each(|way| way.distance = 1);
            Gossip::Gateways(ways).to_bytes()
        }
        _ => bytes.to_vec(),
    }
}

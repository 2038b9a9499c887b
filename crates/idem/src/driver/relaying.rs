//! What this peer passes on for its neighbours, over the links of its sessions.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use idem_auth::Permit;
use idem_mesh::Interests;
use idem_model::PeerId;
use idem_sync::{
    LinkId, Priority, Relay, RelayEvent, RelayKind, Replica, SubscriptionTerms, Transmit,
    relay_kind,
};
use idem_transport::TrySendError;

use super::{Driver, FRAMES_PER_TURN, SESSION_LANES, flush, unix_ms};
use crate::transport::{ConditionKind, TransportCondition};

/// The relays of this peer, and what waits for its links.
pub(super) struct Relaying {
    relays: [Part; 2],
}

/// One of the relays.
struct Part {
    kind: RelayKind,
    relay: Relay,
    /// Frames that their links had no room for.
    unsent: BTreeMap<PeerId, Transmit>,
}

impl Relaying {
    /// With a relay of each kind.
    pub(super) fn new(relay: impl Fn(RelayKind) -> Relay) -> Self {
        let part = |kind| Part {
            kind,
            relay: relay(kind),
            unsent: BTreeMap::new(),
        };
        Self {
            relays: [RelayKind::Interest, RelayKind::Gateway].map(part),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let times = self.relays.iter().map(|it| it.relay.poll_timeout());
        times.flatten().min()
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Relay> {
        self.relays.iter_mut().map(|it| &mut it.relay)
    }

    /// What a peer may read, from now on.
    pub(super) fn set_permit(&mut self, now: Duration, peer: PeerId, permit: Option<&Arc<Permit>>) {
        for relay in self.each() {
            relay.set_permit(now, peer, permit.cloned());
        }
    }

    fn poll_event(&mut self) -> Option<RelayEvent> {
        self.each().find_map(Relay::poll_event)
    }

    /// Whether there may be something to send to a peer.
    fn has_work(&self, peer: PeerId) -> bool {
        self.relays.iter().any(|it| it.has_work(peer))
    }
}

impl Part {
    fn has_work(&self, peer: PeerId) -> bool {
        self.unsent.contains_key(&peer) || self.relay.is_stirred(peer)
    }
}

impl Driver {
    pub(super) fn relay_link_up(
        &mut self,
        now: Duration,
        peer: PeerId,
        link: LinkId,
        properties: idem_sync::LinkProperties,
    ) {
        for relay in self.relaying.each() {
            relay.handle_link_up(now, peer, link, properties);
        }
    }

    /// A link is gone, or given up.
    pub(super) fn relay_link_down(&mut self, now: Duration, link: LinkId) {
        for part in &mut self.relaying.relays {
            part.unsent.retain(|_, it| it.link != link);
            part.relay.handle_link_down(now, link);
        }
    }

    /// A frame of a relay came in.
    pub(super) fn relay_frame(&mut self, link: LinkId, frame: &[u8]) {
        let now = self.now();
        let kind = relay_kind(frame);
        let mut parts = self.relaying.relays.iter_mut();
        if let Some(Part { relay, .. }) = parts.find(|it| Some(it.kind) == kind) {
            relay.set_now_ms(unix_ms());
            relay.handle_frame(now, &mut self.replica, link, frame);
        }
    }

    /// Follows commits and time.
    pub(super) fn relay_time(&mut self, now: Duration, has_commit: bool) {
        if has_commit {
            for relay in self.relaying.each() {
                relay.handle_commit(now, &mut self.replica);
            }
            self.declare_carried();
        }
        for part in &mut self.relaying.relays {
            let relay = &mut part.relay;
            if relay.poll_timeout().is_some_and(|at| at <= now) {
                relay.set_now_ms(unix_ms());
                relay.handle_timeout(now, &mut self.replica);
            }
        }
    }

    /// Asks relays for what the app wants too. Who is a gateway has it brought by those for gateways alone.
    pub(super) fn relay_own(&mut self, now: Duration) {
        let selectors = self.board.selectors().into_values();
        let own = selectors.map(|(selector, on_leave)| {
            let priority = Priority::Normal;
            (selector, SubscriptionTerms { priority, on_leave })
        });
        let own: Vec<_> = own.collect();
        for Part { kind, relay, .. } in &mut self.relaying.relays {
            if *kind == RelayKind::Gateway || !self.meeting.is_gateway() {
                relay.set_own(now, own.iter().cloned());
            }
        }
    }

    /// Relays what neighbours want, if that has changed.
    pub(super) fn relay_wanted(&mut self, now: Duration) {
        if !self.meeting.take_interests_changed() {
            return;
        }
        let interests = self.meeting.interests();
        for Part { kind, relay, .. } in &mut self.relaying.relays {
            match kind {
                RelayKind::Interest => follow(now, relay, interests, self.peers.keys()),
                RelayKind::Gateway => follow_up(now, relay, interests, self.peers.keys()),
            }
        }
        self.declare_carried();
    }

    /// What is relayed is typed as the declarations here say, which every peer holds.
    fn declare_carried(&mut self) {
        for Part { relay, .. } in &mut self.relaying.relays {
            for collection in relay.carried_collections() {
                // Without them a condition may be about another kind, until the next commit.
                if let Ok(kinds) = self.replica.declared(&collection) {
                    relay.declare(&collection, kinds);
                }
            }
        }
    }

    /// Whether something is to be relayed to a peer whose links have room.
    pub(super) fn may_relay(&self) -> bool {
        let mut peers = self.peers.keys();
        peers.any(|peer| self.relaying.has_work(*peer) && self.has_relay_room(*peer))
    }

    fn has_relay_room(&self, peer: PeerId) -> bool {
        let links = self.peers.get(&peer).into_iter().flat_map(|it| &it.links);
        let mut states = links.filter_map(|link| self.links.get(link));
        states.all(|state| {
            SESSION_LANES
                .iter()
                .all(|lane| state.sender.has_room(*lane))
        })
    }

    /// Sends what the sessions of relays have to send, as far as links have room, and does what they ask for.
    pub(super) fn relay_all(&mut self) {
        let now = self.now();
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let mut used = None;
            for _ in 0..FRAMES_PER_TURN {
                if !self.relaying.has_work(peer) || !self.has_relay_room(peer) {
                    break;
                }
                let mut parts = self.relaying.relays.iter_mut();
                let Some(Part { relay, unsent, .. }) = parts.find(|it| it.has_work(peer)) else {
                    break;
                };
                let next = unsent.remove(&peer);
                let next = next.or_else(|| relay.poll_transmit(now, peer, &self.replica));
                let Some(Transmit { link, lane, frame }) = next else {
                    continue;
                };
                if used.is_some_and(|it| it != link) {
                    flush(&self.links, used);
                }
                used = Some(link);
                let Some(state) = self.links.get(&link) else {
                    continue;
                };
                // A link that closed meanwhile says so by itself.
                if let Err(TrySendError::Full(frame)) = state.sender.try_queue(lane, frame) {
                    unsent.insert(peer, Transmit { link, lane, frame });
                }
            }
            flush(&self.links, used);
        }
        while let Some(event) = self.relaying.poll_event() {
            let RelayEvent::Broken {
                link,
                reason,
                detail,
            } = event
            else {
                continue;
            };
            let kind = ConditionKind::ProtocolViolated;
            let message = format!("relaying ended ({}): {detail}", reason.code());
            let condition = TransportCondition::new(kind, message);
            let peer = self.links.get(&link).map(|it| it.properties.remote_peer);
            self.conditions.push(match peer {
                Some(peer) => condition.with(peer),
                None => condition,
            });
            self.give_up(link);
        }
    }

    /// Says goodbye for the relay.
    pub(super) fn relay_goodbye(&mut self, now: Duration) {
        self.relaying.each().for_each(|relay| relay.close(now));
        self.relay_all();
    }
}

/// Relays what neighbours want.
fn follow<'a>(
    now: Duration,
    relay: &mut Relay,
    interests: &Interests,
    peers: impl Iterator<Item = &'a PeerId>,
) {
    let carried: Vec<_> = interests.carried().collect();
    let carried = carried.iter().map(|it| (it.subscription, &*it.statement));
    relay.set_carried(now, carried, interests.together().cloned());
    for peer in peers {
        let at_main = interests.wanted_at(*peer).map(|it| it.subscription);
        let at_relay = interests.wanted_at_relay(*peer).map(|it| it.subscription);
        let (at_main, at_relay) = (at_main.collect(), at_relay.collect());
        relay.set_wanted(now, *peer, at_main, at_relay, interests.serves(*peer));
    }
}

/// Relays what gateways want.
fn follow_up<'a>(
    now: Duration,
    relay: &mut Relay,
    interests: &Interests,
    peers: impl Iterator<Item = &'a PeerId>,
) {
    let carried: Vec<_> = interests.carried_up().collect();
    let carried = carried.iter().map(|it| (it.subscription, &*it.statement));
    relay.set_carried(now, carried, interests.together_up());
    for peer in peers {
        let at_main = interests.wanted_up_at(*peer);
        let at_relay = interests.wanted_up_at_relay(*peer);
        let serves = interests.serves_gateway(*peer);
        relay.set_wanted(now, *peer, at_main, at_relay, serves);
    }
}

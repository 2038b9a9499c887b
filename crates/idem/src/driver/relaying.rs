//! What this peer passes on for its neighbours, over the links of its sessions.

use std::{collections::BTreeMap, time::Duration};

use idem_model::PeerId;
use idem_sync::{LinkId, Priority, Relay, RelayEvent, Replica, SubscriptionTerms, Transmit};
use idem_transport::TrySendError;

use super::{Driver, FRAMES_PER_TURN, SESSION_LANES, flush, unix_ms};
use crate::transport::{ConditionKind, TransportCondition};

/// The relay of this peer, and what waits for its links.
pub(super) struct Relaying {
    relay: Relay,
    /// Frames that their links had no room for.
    unsent: BTreeMap<PeerId, Transmit>,
}

impl Relaying {
    pub(super) fn new(relay: Relay) -> Self {
        Self {
            relay,
            unsent: BTreeMap::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.relay.poll_timeout()
    }

    /// Whether there may be something to send to a peer.
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
        let relay = &mut self.relaying.relay;
        relay.handle_link_up(now, peer, link, properties);
    }

    /// A link is gone, or given up.
    pub(super) fn relay_link_down(&mut self, now: Duration, link: LinkId) {
        self.relaying.unsent.retain(|_, it| it.link != link);
        self.relaying.relay.handle_link_down(now, link);
    }

    /// A frame of a relay came in.
    pub(super) fn relay_frame(&mut self, link: LinkId, frame: &[u8]) {
        let now = self.now();
        let relay = &mut self.relaying.relay;
        relay.set_now_ms(unix_ms());
        relay.handle_frame(now, &mut self.replica, link, frame);
    }

    /// Follows commits and time.
    pub(super) fn relay_time(&mut self, now: Duration, has_commit: bool) {
        if has_commit {
            let relay = &mut self.relaying.relay;
            relay.handle_commit(now, &mut self.replica);
            self.declare_carried();
        }
        let relay = &mut self.relaying.relay;
        if relay.poll_timeout().is_some_and(|at| at <= now) {
            relay.set_now_ms(unix_ms());
            relay.handle_timeout(now, &mut self.replica);
        }
    }

    /// Asks relays for what the app wants too.
    pub(super) fn relay_own(&mut self, now: Duration) {
        let selectors = self.board.selectors().into_values();
        let own = selectors.map(|(selector, on_leave)| {
            let priority = Priority::Normal;
            (selector, SubscriptionTerms { priority, on_leave })
        });
        self.relaying.relay.set_own(now, own);
    }

    /// Relays what neighbours want, if that has changed.
    pub(super) fn relay_wanted(&mut self, now: Duration) {
        if !self.meeting.take_interests_changed() {
            return;
        }
        let interests = self.meeting.interests();
        let carried: Vec<_> = interests.carried().collect();
        let carried = carried.iter().map(|it| (it.subscription, &*it.statement));
        let together = interests.together().cloned();
        self.relaying.relay.set_carried(now, carried, together);
        for peer in self.peers.keys() {
            let at_main = interests.wanted_at(*peer).map(|it| it.subscription);
            let at_relay = interests.wanted_at_relay(*peer).map(|it| it.subscription);
            let (at_main, at_relay) = (at_main.collect(), at_relay.collect());
            let serves = interests.serves(*peer);
            let relay = &mut self.relaying.relay;
            relay.set_wanted(now, *peer, at_main, at_relay, serves);
        }
        self.declare_carried();
    }

    /// What is relayed is typed as the declarations here say, which every peer holds.
    fn declare_carried(&mut self) {
        for collection in self.relaying.relay.carried_collections() {
            // Without them a condition may be about another kind, until the next commit.
            if let Ok(kinds) = self.replica.declared(&collection) {
                self.relaying.relay.declare(&collection, kinds);
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
                let Relaying { relay, unsent } = &mut self.relaying;
                let next = unsent.remove(&peer);
                let next = next.or_else(|| relay.poll_transmit(now, peer, &self.replica));
                let Some(Transmit { link, lane, frame }) = next else {
                    break;
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
        while let Some(event) = self.relaying.relay.poll_event() {
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
        self.relaying.relay.close(now);
        self.relay_all();
    }
}

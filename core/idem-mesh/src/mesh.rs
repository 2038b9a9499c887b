//! The state of the mesh as one peer sees it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use idem_model::{DatabaseId, LinkId, PeerId, limits};

use crate::{
    candidates::{Candidates, LINK_LIFE_MIN, REST},
    choose::{Chooser, Decision, Insight, Insights, Pass},
    event::{Action, CloseCause, DialFailure, Found, LinkUp, MeshEvent},
    links::{LinkState, Links},
    names::{AddressId, Medium, MeshLimits, PeerHash},
    random::Random,
};

/// What a mesh is for.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// What all its peers belong to.
    pub database: DatabaseId,
    /// This peer.
    pub local: PeerId,
    /// Feeds every choice that is not determined otherwise; draw it at random per start.
    pub seed: u64,
    /// How many links it keeps.
    pub limits: MeshLimits,
}

/// The state of the mesh as one peer sees it.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    random: Random,
    candidates: Candidates,
    links: Links,
    chooser: Chooser,
    choose_at: Option<Duration>,
    preferred: BTreeMap<PeerId, LinkId>,
    actions: VecDeque<Action>,
    events: VecDeque<MeshEvent>,
}

impl Mesh {
    /// A mesh of this peer alone.
    pub fn new(config: MeshConfig) -> Self {
        let mut random = Random::new(config.seed);
        Self {
            chooser: Chooser::new(&mut random),
            random,
            config,
            candidates: Candidates::default(),
            links: Links::default(),
            choose_at: None,
            preferred: BTreeMap::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    // Input.

    /// A discovery sees a peer, or sees it still.
    pub fn handle_found(&mut self, now: Duration, found: Found) {
        if !self.candidates.find(now, &found) {
            let limit = limits::MESH_ADDRESSES_MAX;
            self.push_event(MeshEvent::TooManyAddresses { limit });
        }
        self.choose_at = Some(now);
    }

    /// No discovery sees the address any more. A link that there is stays.
    pub fn handle_vanished(&mut self, now: Duration, address: AddressId) {
        self.candidates.vanish(address);
        self.choose_at = Some(now);
    }

    /// An address that was to be dialled gave no link.
    pub fn handle_dial_failed(&mut self, now: Duration, address: AddressId, failure: DialFailure) {
        if self.candidates.is_dialling(address) {
            self.candidates
                .fail(now, address, failure, &mut self.random);
        }
        self.choose_at = Some(now);
    }

    /// A link is up, whoever dialled it.
    pub fn handle_link_up(&mut self, now: Duration, up: LinkUp) {
        let hash = PeerHash::of(self.config.database, up.peer);
        if let Some(address) = up.address {
            self.candidates.link(address, hash);
        }
        let state = LinkState {
            peer: up.peer,
            hash,
            medium: up.medium,
            address: up.address,
            is_inbound: up.is_inbound,
            up_at: now,
            closing: None,
        };
        self.links.insert(up.link, state);
        self.choose_at = Some(now);
        if up.peer == self.config.local {
            self.close(up.link, CloseCause::SelfLink);
            return;
        }
        if let Some(surplus) = self.links.surplus(self.config.local, up.link) {
            self.close(surplus, CloseCause::Duplicate);
        } else if self.is_over(&up) && !self.make_room(now, &up) {
            self.close(up.link, CloseCause::Full);
            self.push_event(MeshEvent::Refused {
                peer: up.peer,
                medium: up.medium,
                cause: CloseCause::Full,
            });
        }
        self.prefer(up.peer);
    }

    /// A link is down, whoever ended it.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        let Some(state) = self.links.remove(link) else {
            return;
        };
        self.choose_at = Some(now);
        if let Some(address) = state.address {
            self.release(now, address, &state);
        }
        self.prefer(state.peer);
    }

    /// The time of [`Mesh::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.choose_at.is_some_and(|at| at <= now) {
            self.choose(now);
        }
    }

    // Commands.

    /// Whether there is a lot to send: no link is exchanged meanwhile.
    pub fn set_busy(&mut self, is_busy: bool) {
        self.chooser.set_busy(is_busy);
    }

    // Output.

    /// What to do next; call until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        self.events.pop_front()
    }

    /// When to call [`Mesh::handle_timeout`] and then poll again, whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.choose_at
    }

    // Getters.

    /// How many links there are, without those that are being ended.
    pub fn link_count(&self, medium: Medium) -> usize {
        self.links.count(medium)
    }

    /// How many addresses are kept in mind.
    pub fn address_count(&self) -> usize {
        self.candidates.len()
    }

    // Links.

    /// Whether a link is one too many. Those to configured addresses never are.
    fn is_over(&self, up: &LinkUp) -> bool {
        let max = self.config.limits.of(up.medium).max;
        let hash = PeerHash::of(self.config.database, up.peer);
        self.links.count(up.medium) > max && !self.candidates.is_configured(hash, up.medium)
    }

    /// Ends another link for one that joins an island.
    fn make_room(&mut self, now: Duration, up: &LinkUp) -> bool {
        let hash = PeerHash::of(self.config.database, up.peer);
        if !Nothing.of(hash, up.medium).is_elsewhere {
            return false;
        }
        let mut pass = Pass {
            now,
            candidates: &self.candidates,
            links: &self.links,
            limits: self.config.limits,
            insights: &Nothing,
            random: &mut self.random,
            decisions: Vec::new(),
        };
        let worst = pass.expendable(up.medium, |_| true);
        worst.is_some_and(|link| {
            self.close(link, CloseCause::Replaced);
            true
        })
    }

    fn close(&mut self, link: LinkId, cause: CloseCause) {
        if let Some(state) = self.links.close(link, cause) {
            self.actions.push_back(Action::Close { link, cause });
            self.prefer(state.peer);
        }
    }

    /// Lets the address of a link that is gone be dialled again, in time.
    fn release(&mut self, now: Duration, address: AddressId, state: &LinkState) {
        match state.closing {
            Some(CloseCause::SelfLink) => {
                let failure = DialFailure::SelfLink;
                self.candidates
                    .fail(now, address, failure, &mut self.random);
            }
            Some(CloseCause::Misbehaved) => {
                let failure = DialFailure::Mismatch;
                self.candidates
                    .fail(now, address, failure, &mut self.random);
            }
            Some(_) => {
                let pause = self.random.around(REST);
                self.candidates.unlink(now, address, pause);
            }
            None if now.saturating_sub(state.up_at) < LINK_LIFE_MIN => {
                let failure = DialFailure::Unreachable;
                self.candidates
                    .fail(now, address, failure, &mut self.random);
            }
            None => {
                // Many lose a hub at the same moment, and should not come back as one.
                let pause = self.random.up_to(Duration::from_secs(1));
                self.candidates.unlink(now, address, pause);
            }
        }
    }

    /// Names the link of a peer that is to be used, if that is another one now.
    fn prefer(&mut self, peer: PeerId) {
        let best = self.links.preferred(peer);
        if best == self.preferred.get(&peer).copied() {
            return;
        }
        match best {
            Some(link) => {
                self.preferred.insert(peer, link);
                self.actions.push_back(Action::Prefer { peer, link });
            }
            None => {
                self.preferred.remove(&peer);
            }
        }
    }

    fn choose(&mut self, now: Duration) {
        self.candidates.expire(now, &mut self.random);
        let mut pass = Pass {
            now,
            candidates: &self.candidates,
            links: &self.links,
            limits: self.config.limits,
            insights: &Nothing,
            random: &mut self.random,
            decisions: Vec::new(),
        };
        self.chooser.run(&mut pass);
        for decision in pass.decisions {
            match decision {
                Decision::Dial(address) => {
                    self.candidates.dial(now, address);
                    self.actions.push_back(Action::Dial(address));
                }
                Decision::Close(link, cause) => self.close(link, cause),
            }
        }
        let next = self.chooser.next_at(now);
        let next = self.candidates.next_at(now).map_or(next, |at| at.min(next));
        self.choose_at = Some(next);
    }

    fn push_event(&mut self, event: MeshEvent) {
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= limits::MESH_EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

/// Nothing is known of anybody.
struct Nothing;

impl Insights for Nothing {
    fn of(&self, _: PeerHash, _: Medium) -> Insight {
        Insight::default()
    }

    fn is_bridge(&self, _: PeerHash) -> bool {
        false
    }

    fn island(&self) -> usize {
        1
    }
}

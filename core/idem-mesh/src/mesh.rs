//! The state of the mesh as one peer sees it.

mod insights;
mod picture;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use idem_model::{DatabaseId, LinkId, PeerId, limits};

use crate::{
    candidates::{Candidates, LINK_LIFE_MIN, REST},
    choose::{Chooser, Decision, Pass},
    event::{Action, CloseCause, DialFailure, Found, LinkUp, MeshEvent},
    gossip::{Exchange, GossipError},
    interests::{InterestConfig, Interests},
    links::{LinkState, Links},
    names::{AddressId, Medium, MeshLimits, PeerHash},
    publish::Publisher,
    random::Random,
    record::{OwnRecord, RecordLink, SignedRecord, Signer},
    survey::Survey,
};
use insights::Known;

/// A neighbour that broke a rule is not linked with for so long.
const SHUN: Duration = Duration::from_secs(10 * 60);

/// What a mesh is for.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// What all its peers belong to.
    pub database: DatabaseId,
    /// This peer.
    pub local: PeerId,
    /// Feeds every choice that is not determined otherwise; draw it at random per start.
    pub seed: u64,
    /// When this peer started, in milliseconds since 1970: its records of this life are newer than those
    /// of earlier ones.
    pub started_ms: u64,
    /// How many links it keeps.
    pub limits: MeshLimits,
    /// How far what it subscribes to is relayed, and whether it relays.
    pub interest: InterestConfig,
}

/// The state of the mesh as one peer sees it.
///
/// The methods come in four kinds:
///
/// - `handle_*` take in what happened: discoveries, links, gossip, time;
/// - `set_*` are what the app wants;
/// - `poll_*` give what must be done;
/// - the rest looks only.
///
/// After any call of the first two kinds, poll in this order: [`Mesh::poll_action`] and
/// [`Mesh::poll_event`] until they give `None`, and [`Mesh::poll_timeout`] once, which replaces the timer set
/// before. `now` is the time since any fixed moment of the owner's choice; it must not fall.
#[derive(Debug)]
pub struct Mesh {
    config: MeshConfig,
    signer: Box<dyn Signer>,
    random: Random,
    candidates: Candidates,
    links: Links,
    chooser: Chooser,
    choose_at: Option<Duration>,
    preferred: BTreeMap<PeerId, LinkId>,
    exchange: Exchange,
    interests: Interests,
    publisher: Publisher,
    survey: Survey,
    /// How far peers are from the gateways, and one link more.
    gateways: Survey,
    /// Whether links or records have changed since the survey.
    is_survey_outdated: bool,
    surveyed_at: Duration,
    shunned: BTreeMap<PeerId, Duration>,
    actions: VecDeque<Action>,
    events: VecDeque<MeshEvent>,
}

impl Mesh {
    /// A mesh of this peer alone.
    pub fn new(now: Duration, config: MeshConfig, signer: Box<dyn Signer>) -> Self {
        let mut random = Random::new(config.seed);
        let mut mesh = Self {
            signer,
            chooser: Chooser::new(now, &mut random),
            random,
            candidates: Candidates::default(),
            links: Links::default(),
            choose_at: None,
            preferred: BTreeMap::new(),
            exchange: Exchange::new(config.database, config.local),
            interests: Interests::new(config.interest),
            publisher: Publisher::new(now, config.started_ms),
            survey: Survey::default(),
            gateways: Survey::default(),
            is_survey_outdated: true,
            surveyed_at: now,
            shunned: BTreeMap::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        };
        mesh.look_around(now);
        mesh
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
            is_configured: up.is_configured,
            up_at: now,
            closing: None,
        };
        self.links.insert(up.link, state);
        self.choose_at = Some(now);
        if up.peer == self.config.local {
            self.close(now, up.link, CloseCause::SelfLink);
            return;
        }
        if self.is_shunned(now, up.peer) {
            self.refuse(now, &up, CloseCause::Misbehaved);
            return;
        }
        if let Some(surplus) = self.links.surplus(self.config.local, up.link) {
            self.close(now, surplus, CloseCause::Duplicate);
        } else if self.is_over(&up) && !self.make_room(now, &up) {
            self.refuse(now, &up, CloseCause::Full);
        }
        self.links_changed(now, up.peer);
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
        if state.closing.is_none() {
            self.links_changed(now, state.peer);
            // What was under way on it may be lost.
            self.handle_gossip_lost(now, state.peer);
        }
    }

    /// Bytes of a neighbour's [`Action::Gossip`].
    ///
    /// # Errors
    /// [`GossipError`] if the neighbour breaks a rule. The mesh then asks for the end of its links, and tells
    /// of it with [`MeshEvent::Misbehaved`]; there is nothing left to do for the owner.
    pub fn handle_gossip(
        &mut self,
        now: Duration,
        peer: PeerId,
        bytes: &[u8],
    ) -> Result<(), GossipError> {
        let survey = &self.survey;
        let distance = |hash| survey.distance(hash);
        let signer = &*self.signer;
        let heard = self.exchange.handle(now, peer, bytes, signer, &distance);
        self.follow_gateways(now);
        let heard = heard.and_then(|heard| {
            if let Some(gossip) = &heard.interest {
                self.interests.handle(now, peer, gossip)?;
                self.interests_changed();
            }
            Ok(heard)
        });
        match heard {
            Ok(heard) => {
                if heard.has_changed {
                    self.presence_changed();
                }
                if let Some(seq) = heard.double {
                    self.meet_double(now, peer, seq);
                }
                Ok(())
            }
            Err(error) => {
                let told = error.clone();
                self.push_event(MeshEvent::Misbehaved { peer, error: told });
                self.shun(now, peer);
                Err(error)
            }
        }
    }

    /// Bytes of an [`Action::Gossip`] could not be sent, or the exchange with the neighbour starts anew for
    /// another reason: both compare what they know once more.
    pub fn handle_gossip_lost(&mut self, now: Duration, peer: PeerId) {
        if self.exchange.has(peer) {
            self.greet(now, peer);
        }
    }

    /// The time of [`Mesh::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.exchange.handle_timeout(now) {
            self.presence_changed();
            self.follow_gateways(now);
        }
        self.interests.handle_timeout(now);
        self.interests_changed();
        self.publish(now);
        if self.choose_at.is_some_and(|at| at <= now) {
            self.choose(now);
        }
    }

    // Commands.

    /// What others are to see of this peer. A change is told to all within seconds, unless there are many.
    pub fn set_own(&mut self, now: Duration, own: OwnRecord) {
        self.publisher.set_own(now, own, &mut self.random);
    }

    /// What this peer subscribes to, as canonical statements. The first `limits::PRESENCE_INTERESTS_MAX` in the
    /// order of their names are told to all, and links with peers that share some are preferred. Neighbours
    /// hear of them as [`Interests::set_own`] says.
    pub fn set_interests<'a>(
        &mut self,
        now: Duration,
        statements: impl IntoIterator<Item = &'a str>,
    ) {
        self.interests.set_own(now, statements);
        self.interests_changed();
        let brief = self.interests.own();
        let brief = brief.map(|it| *it.0.first_chunk().expect("a name has 32 bytes"));
        let brief = brief.collect();
        self.publisher.set_interests(now, brief, &mut self.random);
    }

    /// Whether there is a lot to send: no link is exchanged meanwhile.
    pub fn set_busy(&mut self, is_busy: bool) {
        self.chooser.set_busy(is_busy);
    }

    // Output.

    /// What to do next; call until `None`.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| {
            let gossip = self.exchange.poll().or_else(|| self.interests.poll());
            let (peer, bytes) = gossip?;
            Some(Action::Gossip { peer, bytes })
        })
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        self.events.pop_front()
    }

    /// When to call [`Mesh::handle_timeout`] and then poll again, whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let times = [
            self.choose_at,
            self.exchange.next_at(),
            self.interests.poll_timeout(),
            self.publisher.next_at(),
        ];
        times.into_iter().flatten().min()
    }

    // Getters.

    /// This peer.
    pub fn local(&self) -> PeerId {
        self.config.local
    }

    /// What neighbours subscribe to, and what is relayed for them; [`MeshEvent::InterestsChanged`] tells when to
    /// look again.
    pub fn interests(&self) -> &Interests {
        &self.interests
    }

    /// How many links there are, without those that are being ended.
    pub fn link_count(&self, medium: Medium) -> usize {
        self.links.count(medium)
    }

    /// From when on an address may be dialled again; `None` while it is dialled or linked, or not known.
    pub fn retry_at(&self, address: AddressId) -> Option<Duration> {
        self.candidates.retry_at(address)
    }

    /// How many addresses are kept in mind.
    pub fn address_count(&self) -> usize {
        self.candidates.len()
    }

    /// How many records are known, this peer's own among them.
    pub fn record_count(&self) -> usize {
        self.exchange.table.len()
    }

    // Links.

    /// Whether a link is one too many. Those to configured addresses never are.
    fn is_over(&self, up: &LinkUp) -> bool {
        let max = self.config.limits.of(up.medium).max;
        let hash = PeerHash::of(self.config.database, up.peer);
        let is_free = !up.is_configured && !self.candidates.is_configured(hash, up.medium);
        is_free && self.links.count_free(up.medium) > max
    }

    fn refuse(&mut self, now: Duration, up: &LinkUp, cause: CloseCause) {
        self.close(now, up.link, cause);
        let (peer, medium) = (up.peer, up.medium);
        self.push_event(MeshEvent::Refused {
            peer,
            medium,
            cause,
        });
    }

    /// Ends another link for one that joins an island.
    fn make_room(&mut self, now: Duration, up: &LinkUp) -> bool {
        let hash = PeerHash::of(self.config.database, up.peer);
        // Without the new link: it joins an island if nothing else leads there.
        let own = PeerHash::of(self.config.database, self.config.local);
        let others = self.links.live().filter(|(link, _)| *link != up.link);
        let others: Vec<_> = others.map(|(_, state)| state.hash).collect();
        let survey = Survey::new(own, &others, &self.exchange.table, None);
        if survey.distance(hash).is_some() {
            return false;
        }
        let worst = self.decide(now, |_, pass| pass.expendable(up.medium, |_| true));
        worst.is_some_and(|worst| {
            self.close(now, worst, CloseCause::Replaced);
            true
        })
    }

    fn close(&mut self, now: Duration, link: LinkId, cause: CloseCause) {
        if let Some(state) = self.links.close(link, cause) {
            self.actions.push_back(Action::Close { link, cause });
            self.links_changed(now, state.peer);
        }
    }

    /// Lets the address of a link that is gone be dialled again, in time.
    fn release(&mut self, now: Duration, address: AddressId, state: &LinkState) {
        let failure = match state.closing {
            Some(CloseCause::SelfLink) => Some(DialFailure::SelfLink),
            Some(CloseCause::Misbehaved) => Some(DialFailure::Mismatch),
            Some(_) => None,
            // The other side may have ended it because it has no room.
            None if now.saturating_sub(state.up_at) < LINK_LIFE_MIN => {
                Some(DialFailure::Unreachable)
            }
            None => None,
        };
        if let Some(failure) = failure {
            let random = &mut self.random;
            self.candidates.fail(now, address, failure, random);
            return;
        }
        let pause = if state.closing.is_some() {
            self.random.around(REST)
        } else {
            // Many lose a hub at the same moment, and should not come back as one.
            self.random.up_to(Duration::from_secs(1))
        };
        self.candidates.unlink(now, address, pause);
    }

    /// Follows a change of the links of a peer.
    fn links_changed(&mut self, now: Duration, peer: PeerId) {
        let best = self.links.preferred(peer);
        if best != self.preferred.get(&peer).copied() {
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
        if best.is_none() {
            self.exchange.leave(now, peer);
            self.interests.leave(now, peer);
            self.interests_changed();
        } else if !self.exchange.has(peer) {
            self.greet(now, peer);
        }
        let links = self.links.live().map(|(_, state)| RecordLink {
            peer: state.hash,
            medium: state.medium.code(),
        });
        let links = links.collect();
        self.publisher.set_links(now, links, &mut self.random);
        self.presence_changed();
    }

    fn greet(&mut self, now: Duration, peer: PeerId) {
        let is_slow = self.is_slow(peer);
        self.exchange.greet(now, peer, is_slow);
        self.interests.greet(now, peer, is_slow);
    }

    /// Lets those gateways count of which a record is known.
    fn follow_gateways(&mut self, now: Duration) {
        if self.exchange.table.take_gateways_changed() {
            let gateways = self.exchange.table.gateways().iter().copied();
            self.interests.set_gateways(now, gateways.collect());
            self.interests_changed();
        }
    }

    fn interests_changed(&mut self) {
        if self.interests.take_changed() && !self.events.contains(&MeshEvent::InterestsChanged) {
            self.push_event(MeshEvent::InterestsChanged);
        }
    }

    /// Whether a neighbour is linked over Bluetooth only.
    fn is_slow(&self, peer: PeerId) -> bool {
        let mut links = self.links.of_peer(peer);
        links.all(|(_, state)| state.medium == Medium::Ble)
    }

    fn choose(&mut self, now: Duration) {
        self.candidates.expire(now, &mut self.random);
        let is_due = self.chooser.is_repair_due(now);
        if is_due || now >= self.surveyed_at + survey_pause(self.survey.len()) {
            self.look_around(now);
        }
        let decisions = self.decide(now, |chooser, pass| {
            chooser.run(pass);
            std::mem::take(&mut pass.decisions)
        });
        for decision in decisions {
            match decision {
                Decision::Dial(address) => {
                    self.candidates.dial(now, address);
                    self.actions.push_back(Action::Dial(address));
                }
                Decision::Close(link, cause) => self.close(now, link, cause),
            }
        }
        let next = self.chooser.next_at(now);
        let next = self.candidates.next_at(now).map_or(next, |at| at.min(next));
        self.choose_at = Some(next);
    }

    fn decide<T>(
        &mut self,
        now: Duration,
        decide: impl FnOnce(&mut Chooser, &mut Pass<'_>) -> T,
    ) -> T {
        let insights = Known {
            table: &self.exchange.table,
            survey: &self.survey,
            gateways: &self.gateways,
            links: &self.links,
            own: PeerHash::of(self.config.database, self.config.local),
            interests: self.publisher.interests(),
        };
        let mut pass = Pass {
            now,
            candidates: &self.candidates,
            links: &self.links,
            limits: self.config.limits,
            insights: &insights,
            random: &mut self.random,
            decisions: Vec::new(),
        };
        decide(&mut self.chooser, &mut pass)
    }

    // Presence.

    /// Signs and spreads a new record, if one is due.
    fn publish(&mut self, now: Duration) {
        let peers = self.exchange.table.len();
        let Some(record) = self.publisher.poll(now, peers, &mut self.random) else {
            return;
        };
        let MeshConfig {
            database, local, ..
        } = self.config;
        let signed = SignedRecord::new(database, local, &record, &*self.signer);
        self.exchange.publish(now, signed, record);
        self.presence_changed();
    }

    /// Surveys who can be reached, if that may have changed.
    fn look_around(&mut self, now: Duration) {
        if !self.is_survey_outdated {
            return;
        }
        let own = PeerHash::of(self.config.database, self.config.local);
        let neighbours: Vec<_> = self.links.live().map(|(_, state)| state.hash).collect();
        self.survey = Survey::new(own, &neighbours, &self.exchange.table, None);
        let gateways = self.exchange.table.gateways().iter().copied();
        let gateways: Vec<_> = gateways.filter(|hash| *hash != own).collect();
        self.gateways = match gateways.is_empty() {
            true => Survey::default(),
            false => Survey::new(own, &gateways, &self.exchange.table, None),
        };
        self.is_survey_outdated = false;
        self.surveyed_at = now;
    }

    fn presence_changed(&mut self) {
        self.is_survey_outdated = true;
        if !self.events.contains(&MeshEvent::PresenceChanged) {
            self.push_event(MeshEvent::PresenceChanged);
        }
    }

    /// Somebody has a newer record of this peer than the one that it published last: one of an earlier life
    /// with another clock, or of a copy.
    fn meet_double(&mut self, now: Duration, from: PeerId, seq: u64) {
        if seq > self.publisher.seq() {
            self.push_event(MeshEvent::Double { from });
        }
        self.publisher.pass(now, seq, &mut self.random);
    }

    fn is_shunned(&mut self, now: Duration, peer: PeerId) -> bool {
        self.shunned.retain(|_, until| *until > now);
        self.shunned.contains_key(&peer)
    }

    /// Ends all links of a peer, and accepts none for a while.
    fn shun(&mut self, now: Duration, peer: PeerId) {
        self.shunned.retain(|_, until| *until > now);
        if self.shunned.len() >= limits::MESH_SHUNNED_PEERS_MAX {
            let soonest = self.shunned.iter().min_by_key(|(_, until)| **until);
            if let Some(peer) = soonest.map(|(peer, _)| *peer) {
                self.shunned.remove(&peer);
            }
        }
        self.shunned.insert(peer, now + SHUN);
        let links: Vec<_> = self.links.of_peer(peer).map(|(link, _)| link).collect();
        for link in links {
            self.close(now, link, CloseCause::Misbehaved);
        }
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

/// So long a survey is used before the next one, unless more depends on it.
fn survey_pause(peers: usize) -> Duration {
    let peers = u32::try_from(peers).unwrap_or(u32::MAX);
    Duration::from_secs(1).max(Duration::from_millis(20).saturating_mul(peers))
}

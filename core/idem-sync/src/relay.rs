//! Passing on for others what this peer does not subscribe to itself.
//!
//! Towards its neighbours a peer that relays is a second peer, its *relay*, with an id and a store of its
//! own: an ordinary session of it with the neighbour, or with the neighbour's relay, goes over the same
//! links as that of the two peers, its frames marked by two bytes. So nothing of what is relayed is in the
//! peer's store, and the rules of sessions hold for relays as well.
//!
//! ```text
//!    subscriber            relaying peer               anybody
//!    main <----- Served : Serving  relay  Serving : Served -----> main
//!    main <--------------------->  main  <----------------------> main
//! ```

mod cache;
mod side;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use idem_auth::Permit;
use idem_model::{
    ActorId, CollectionName, DatabaseId, FieldKind, FieldPath, LinkId, Object, PeerId,
};
use idem_query::Selector;
use idem_wire::SubscriptionId;

use self::{
    cache::RelayCache,
    side::{Face, Neighbour, Side, Start},
};
use crate::{
    event::{CloseReason, Event},
    replica::Replica,
    session::{LinkProperties, Session, SessionConfig, SubscriptionTerms, Transmit},
    wanted::{Ends, subscription_id_of},
};

pub use side::{RelayKind, is_relay_frame, relay_kind};

/// A session that ended is begun anew after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// A neighbour that brings more than there is room for may have to wait for so long; it would give up after a
/// minute.
const HOLD_MAX: Duration = Duration::from_secs(20);

/// A relay that begins anew after less than this rests, twice as long each time, up to [`REST_DOUBLINGS_MAX`]
/// times: it may never have room for what it is to carry.
const LIFE_MIN: Duration = Duration::from_mins(1);

const REST_DOUBLINGS_MAX: u32 = 9;

/// Bytes that a frame is longer than the message in it.
const MARK_BYTES: u32 = 2;

/// What a [`Relay`] is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayConfig {
    /// What all peers belong to.
    pub database: DatabaseId,
    /// This peer, not its relay.
    pub local: PeerId,
    /// Draw it at random for each start of the process: what the relay held before is gone.
    pub actor: ActorId,
    /// Feeds every choice that is not determined otherwise; draw it at random per start.
    pub seed: u64,
    /// What the relay may hold, in bytes (default: `limits::RELAY_CACHE_BYTES`). 0 relays nothing.
    pub cache_bytes: usize,
    /// What it is for (default: what neighbours subscribe to).
    pub kind: RelayKind,
}

/// Something that the owner of a [`Relay`] has to act on.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RelayEvent {
    /// Something is wrong with a neighbour, or its relay: the owner ends the link as it does after
    /// [`Event::Closed`].
    Broken {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
        /// More words for people.
        detail: String,
    },
}

/// What a relay holds and does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct RelayStats {
    /// Bytes of what it holds, with what it costs to hold it.
    pub bytes: u64,
    /// Documents that it holds, tombstones among them.
    pub documents: u64,
    /// Documents that it evicted for want of room, because everybody had them.
    pub evicted: u64,
    /// How often it began, the first time included: again where that did not give room.
    pub lives: u64,
    /// Subscriptions that it carries.
    pub carried: u64,
    /// Sessions of this peer or its relay with relays, and of its relay with others.
    pub sessions: u64,
}

/// The id under which the relay of a peer speaks.
pub fn relay_id(peer: PeerId) -> PeerId {
    PeerId(blake3::derive_key("idem relay id, version 1", &peer.0))
}

/// The id under which the relay of a peer for gateways speaks.
fn uplink_id(peer: PeerId) -> PeerId {
    PeerId(blake3::derive_key("idem uplink id, version 1", &peer.0))
}

/// The relay of a peer, and the sessions of the peer itself with the relays of its neighbours.
///
/// It is used like a [`Session`]; one serves all neighbours. The owner decides what is relayed
/// ([`Relay::set_carried`], [`Relay::set_wanted`]), hands in the frames for which [`is_relay_frame`] holds,
/// and the store of the peer, which is never asked for anything that is relayed.
///
/// After any call, call [`Relay::poll_transmit`] for the neighbours of which [`Relay::is_stirred`] says that
/// there may be something, [`Relay::poll_event`] until `None`, and [`Relay::poll_timeout`] once.
#[derive(Debug)]
pub struct Relay {
    config: RelayConfig,
    cache: RelayCache,
    carried: BTreeMap<SubscriptionId, Selector>,
    /// The parts of `carried` that have nothing to do with each other.
    together: Vec<BTreeSet<SubscriptionId>>,
    own: BTreeMap<SubscriptionId, (Selector, SubscriptionTerms)>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    peers: BTreeMap<LinkId, PeerId>,
    /// What neighbours may read that may not read everything.
    permits: BTreeMap<PeerId, Arc<Permit>>,
    /// Numbers what sessions take for links.
    starts: u64,
    /// The commit that all sessions were told of.
    told: u64,
    /// When it began anew, and how often that was soon after the last time.
    born_at: Duration,
    short_lives: u32,
    /// How long neighbours have waited for room at most.
    held_until: Option<Duration>,
    evicted_before: u64,
    /// Up to which commit somebody nearer to a gateway had everything, of a relay for gateways.
    delivered: u64,
    lives: u64,
    events: VecDeque<RelayEvent>,
}

impl Relay {
    /// A relay without neighbours.
    pub fn new(config: RelayConfig) -> Self {
        Self {
            cache: RelayCache::new(config.actor, config.cache_bytes),
            config,
            carried: BTreeMap::new(),
            together: Vec::new(),
            own: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            peers: BTreeMap::new(),
            permits: BTreeMap::new(),
            starts: 0,
            told: 0,
            born_at: Duration::ZERO,
            short_lives: 0,
            held_until: None,
            evicted_before: 0,
            delivered: 0,
            lives: 1,
            events: VecDeque::new(),
        }
    }

    // Input.

    /// A link to a neighbour is up.
    pub fn handle_link_up(
        &mut self,
        now: Duration,
        peer: PeerId,
        link: LinkId,
        mut properties: LinkProperties,
    ) {
        properties.frame_bytes_max = properties.frame_bytes_max.saturating_sub(MARK_BYTES);
        self.peers.insert(link, peer);
        let neighbour = self.neighbours.entry(peer).or_default();
        neighbour.add_link(link, properties);
        self.settle(now, peer);
    }

    /// A link is gone, or is to be used no more.
    pub fn handle_link_down(&mut self, now: Duration, link: LinkId) {
        let Some(peer) = self.peers.remove(&link) else {
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.remove_link(now, link);
        if neighbour.is_gone() {
            self.neighbours.remove(&peer);
        } else {
            self.settle(now, peer);
        }
    }

    /// A frame for which [`is_relay_frame`] holds. It may hold anything.
    pub fn handle_frame<R: Replica>(
        &mut self,
        now: Duration,
        main: &mut R,
        link: LinkId,
        frame: &[u8],
    ) {
        let Some(peer) = self.peers.get(&link).copied() else {
            return;
        };
        let Some((face, number, message)) = side::read(frame) else {
            return;
        };
        if face != Face::Served && self.config.cache_bytes == 0 {
            return;
        }
        if !self.accept(now, peer, link, (face, number), message.is_empty()) {
            return;
        }
        let neighbour = self.neighbours.get_mut(&peer).expect("it has a link");
        neighbour.is_stirred = true;
        let Some(side) = &mut neighbour.sides[face as usize] else {
            return;
        };
        let Some(start) = side.start.filter(|_| !message.is_empty()) else {
            return;
        };
        match face {
            Face::Served => side.session.handle_frame(now, main, start.inner, message),
            Face::Serving | Face::Passing => {
                self.cache.set_source(peer);
                let cache = &mut self.cache;
                side.session.handle_frame(now, cache, start.inner, message);
                // The other relay has yet to hear what is carried here. With a part of what it wants it would
                // get a part of transactions.
                let is_carried = {
                    let mut wanted = side.session.remote_subscriptions();
                    wanted.all(|id| self.carried.contains_key(&id))
                };
                if face == Face::Passing && !is_carried {
                    side.session.close(now);
                }
            }
        }
        self.follow_cache(now);
    }

    /// The peer's store has more that is durable.
    pub fn handle_commit<R: Replica>(&mut self, now: Duration, main: &mut R) {
        for neighbour in self.neighbours.values_mut() {
            if let Some(side) = &mut neighbour.sides[Face::Served as usize] {
                side.session.handle_commit(now, main);
                neighbour.is_stirred = true;
            }
        }
    }

    /// The time of [`Relay::poll_timeout`] has come.
    pub fn handle_timeout<R: Replica>(&mut self, now: Duration, main: &mut R) {
        for neighbour in self.neighbours.values_mut() {
            for (face, side) in neighbour.sides.iter_mut().enumerate() {
                let Some(side) = side else { continue };
                if side.session.poll_timeout().is_none_or(|at| at > now) {
                    continue;
                }
                neighbour.is_stirred = true;
                match face == Face::Served as usize {
                    true => side.session.handle_timeout(now, main),
                    false => side.session.handle_timeout(now, &mut self.cache),
                }
            }
        }
        if self.held_until.is_some_and(|at| at <= now) {
            self.renew(now);
        }
        self.settle_all(now);
    }

    // Commands.

    /// The clock on the wall, in milliseconds since 1970.
    pub fn set_now_ms(&mut self, now_ms: u64) {
        self.cache.set_now_ms(now_ms);
    }

    /// The kinds that a collection declares, as the peer's own store has them.
    pub fn declare(&mut self, collection: &CollectionName, kinds: Arc<[(FieldPath, FieldKind)]>) {
        self.cache.declare(collection, kinds);
    }

    /// What this peer subscribes to, also at the relays of its neighbours.
    pub fn set_own(
        &mut self,
        now: Duration,
        own: impl IntoIterator<Item = (Selector, SubscriptionTerms)>,
    ) {
        let named = |(selector, terms)| (subscription_id_of(&selector), (selector, terms));
        let whole = own.into_iter().filter(|(it, _)| it.projection().is_none());
        self.own = whole.map(named).collect();
        self.settle_all(now);
    }

    /// What is carried, with canonical statements, which may be anything, and the sets of it that some neighbour
    /// wants together: of each that it wants a part of, it is to be asked for all. Where something is not carried
    /// any more, or more goes together than before, the relay begins anew. Call [`Relay::set_wanted`] for every
    /// neighbour after that.
    pub fn set_carried<'a>(
        &mut self,
        now: Duration,
        carried: impl IntoIterator<Item = (SubscriptionId, &'a str)>,
        together: impl IntoIterator<Item = BTreeSet<SubscriptionId>>,
    ) {
        let mut before = std::mem::take(&mut self.carried);
        let sets: Vec<_> = together.into_iter().collect();
        // Of what was taken in of a part, half of a transaction may be here.
        let is_in_one = |set: &BTreeSet<_>| self.together.iter().any(|it| set.is_subset(it));
        let is_apart = |set: &BTreeSet<_>| set.iter().all(|id| !before.contains_key(id));
        let is_torn = !sets.iter().all(|set| is_apart(set) || is_in_one(set));
        self.together = sets;
        for (id, statement) in carried {
            let known = before.remove(&id);
            let selector = known.or_else(|| selector_of(id, statement));
            self.carried.extend(selector.map(|selector| (id, selector)));
        }
        // Others believe to be here what would be forgotten.
        if !before.is_empty() || is_torn {
            self.begin_anew(now, PAUSE);
        }
    }

    /// What the relay wants at a neighbour and at the neighbour's relay, and whether it has something for the
    /// neighbour. What is not carried is left out.
    pub fn set_wanted(
        &mut self,
        now: Duration,
        peer: PeerId,
        at_main: BTreeSet<SubscriptionId>,
        at_relay: BTreeSet<SubscriptionId>,
        serves: bool,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.at_main = at_main;
            neighbour.at_relay = at_relay;
            neighbour.serves = serves;
            self.settle(now, peer);
        }
    }

    /// What a neighbour may read, as [`Session::set_permit`]: it holds for what this peer sends to the
    /// neighbour's relay, and for what is relayed to either of them.
    pub fn set_permit(&mut self, now: Duration, peer: PeerId, permit: Option<Arc<Permit>>) {
        match &permit {
            Some(permit) => self.permits.insert(peer, Arc::clone(permit)),
            None => self.permits.remove(&peer),
        };
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            for side in neighbour.sides.iter_mut().flatten() {
                side.session.set_permit(now, permit.clone());
            }
            neighbour.is_stirred = true;
        }
    }

    /// Says goodbye in all sessions.
    pub fn close(&mut self, now: Duration) {
        for neighbour in self.neighbours.values_mut() {
            let sides = neighbour.sides.iter_mut().flatten();
            sides.for_each(|side| side.session.close(now));
            neighbour.is_stirred = true;
        }
    }

    // Output.

    /// Whether there may be something to send to a neighbour.
    pub fn is_stirred(&self, peer: PeerId) -> bool {
        let neighbour = self.neighbours.get(&peer);
        neighbour.is_some_and(|it| it.is_stirred)
    }

    /// The next frame to a neighbour; call until `None`, as long as the link takes frames.
    pub fn poll_transmit<R: Replica>(
        &mut self,
        now: Duration,
        peer: PeerId,
        main: &R,
    ) -> Option<Transmit> {
        self.make_room(now, peer);
        let neighbour = self.neighbours.get_mut(&peer)?;
        for face in Face::ALL {
            let Some(side) = &mut neighbour.sides[face as usize] else {
                continue;
            };
            if let Some(transmit) = side.poll_call(face) {
                return Some(transmit);
            }
            let polled = match face {
                Face::Served => side.session.poll_transmit(now, main),
                Face::Serving | Face::Passing => side.session.poll_transmit(now, &self.cache),
            };
            if let Some(transmit) = polled.and_then(|it| side.mark(face, it)) {
                return Some(transmit);
            }
        }
        neighbour.is_stirred = false;
        self.take_events(now, peer);
        None
    }

    /// What happened; call until `None`.
    pub fn poll_event(&mut self) -> Option<RelayEvent> {
        self.events.pop_front()
    }

    /// When to call [`Relay::handle_timeout`], whatever happens before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let times = self.neighbours.values().flat_map(Neighbour::timeouts);
        times.chain(self.held_until).min()
    }

    // Getters.

    /// The collections of which something is carried.
    pub fn carried_collections(&self) -> BTreeSet<CollectionName> {
        let carried = self.carried.values();
        carried.map(|it| it.collection().clone()).collect()
    }

    /// Counters.
    pub fn stats(&self) -> RelayStats {
        let neighbours = self.neighbours.values();
        RelayStats {
            bytes: self.cache.bytes() as u64,
            documents: self.cache.documents() as u64,
            evicted: self.evicted_before + self.cache.evicted(),
            lives: self.lives,
            carried: self.carried.len() as u64,
            sessions: neighbours
                .map(|it| it.sides.iter().flatten().count() as u64)
                .sum(),
        }
    }

    /// The sessions that there are now.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        let neighbours = self.neighbours.values();
        neighbours.flat_map(|it| it.sides.iter().flatten().map(|side| &side.session))
    }

    // Sessions.

    /// Whether a frame is of a session that there is now, which may be one that the other side just began.
    fn accept(
        &mut self,
        now: Duration,
        peer: PeerId,
        link: LinkId,
        (face, number): (Face, u8),
        is_call: bool,
    ) -> bool {
        let is_leader = self.is_leader(peer, face);
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return false;
        };
        let side = neighbour.sides[face as usize].as_deref();
        let start = side.and_then(|side| side.start);
        let is_chooser = is_leader && neighbour.needs(face);
        let Some(last) = neighbour.last(link, face) else {
            return false;
        };
        if number <= *last {
            // Of one that is over, or of this one.
            return start.is_some_and(|it| (it.link, it.number) == (link, number));
        }
        if is_chooser && is_call && start.is_some_and(|it| it.link != link) {
            // The other side hears on which link it goes on.
            return false;
        }
        *last = number;
        self.begin(now, peer, face, link, number);
        true
    }

    fn is_leader(&self, peer: PeerId, face: Face) -> bool {
        let (local, remote) = self.ids(peer, face);
        local < remote
    }

    fn ids(&self, peer: PeerId, face: Face) -> (PeerId, PeerId) {
        let Ends {
            is_local_relay,
            is_remote_relay,
        } = face.ends();
        let id = |is_relay: bool, peer| match self.config.kind {
            _ if !is_relay => peer,
            RelayKind::Interest => relay_id(peer),
            RelayKind::Gateway => uplink_id(peer),
        };
        (
            id(is_local_relay, self.config.local),
            id(is_remote_relay, peer),
        )
    }

    /// Begins a session, or goes on with one that lost its link.
    fn begin(&mut self, now: Duration, peer: PeerId, face: Face, link: LinkId, number: u8) {
        self.starts += 1;
        let (local, remote) = self.ids(peer, face);
        let is_leader = local < remote;
        let inner = LinkId(self.starts);
        let kind = self.config.kind;
        let mut hasher = blake3::Hasher::new_derive_key("idem relay seed, version 1");
        hasher.update(&self.config.seed.to_be_bytes());
        hasher.update(&self.starts.to_be_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        let config = SessionConfig {
            database: self.config.database,
            local,
            remote,
            seed: u64::from_be_bytes(seed),
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let Some(properties) = neighbour.properties(link) else {
            return;
        };
        let side = neighbour.sides[face as usize].get_or_insert_with(|| {
            let mut session = Session::between(config, face.ends());
            session.set_permit(now, self.permits.get(&peer).cloned());
            Box::new(Side::new(session, kind))
        });
        if let Some(before) = side.start.take() {
            side.session.handle_link_down(now, before.inner);
        }
        if face.ends().is_local_relay {
            side.session.set_forgetful();
        }
        let start = Start {
            link,
            number,
            inner,
        };
        side.start = Some(start);
        side.is_call_due = !is_leader;
        side.session.handle_link_up(now, inner, properties);
        neighbour.is_stirred = true;
        self.ask(peer, face);
    }

    /// Makes the sessions with a neighbour what they should be. What is to be ended ends when its goodbye is out.
    fn settle(&mut self, now: Duration, peer: PeerId) {
        for face in Face::ALL {
            let Some(neighbour) = self.neighbours.get_mut(&peer) else {
                return;
            };
            let is_needed = neighbour.needs(face) && self.config.cache_bytes > 0;
            // What relays pass to each other may be wanted on one side only.
            let is_useless = match face {
                Face::Served => false,
                Face::Serving => !is_needed,
                Face::Passing => !is_needed && self.carried.is_empty(),
            };
            let side = neighbour.sides[face as usize].as_deref_mut();
            let may_begin = side
                .as_ref()
                .is_none_or(|side| side.start.is_none() && side.not_before <= now);
            match side {
                Some(side) if is_useless => {
                    side.session.close(now);
                    neighbour.is_stirred = true;
                }
                _ if is_needed && may_begin => {
                    if let Some((link, number)) = neighbour.next_start(face) {
                        self.begin(now, peer, face, link, number);
                    }
                }
                _ => {}
            }
            self.ask(peer, face);
        }
    }

    fn settle_all(&mut self, now: Duration) {
        for peer in self.neighbours.keys().copied().collect::<Vec<_>>() {
            self.settle(now, peer);
        }
    }

    /// Subscribes to what is wanted in a session, and to nothing else.
    fn ask(&mut self, peer: PeerId, face: Face) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let Some(side) = &mut neighbour.sides[face as usize] else {
            return;
        };
        let default = SubscriptionTerms::default();
        let carried = |ids: &BTreeSet<SubscriptionId>| -> Vec<_> {
            let carried = ids
                .iter()
                .filter_map(|id| Some((*id, self.carried.get(id)?)));
            carried.map(|(id, it)| (id, it, default)).collect()
        };
        let wanted: Vec<_> = match face {
            Face::Serving => carried(&neighbour.at_main),
            Face::Passing => carried(&neighbour.at_relay),
            Face::Served => {
                let own = self.own.iter();
                own.map(|(id, (selector, terms))| (*id, selector, *terms))
                    .collect()
            }
        };
        neighbour.is_stirred |= side.ask(&wanted);
    }

    fn take_events(&mut self, now: Duration, peer: PeerId) {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        let mut is_renewed = false;
        for face in Face::ALL {
            let is_needed = neighbour.needs(face);
            let Some(side) = &mut neighbour.sides[face as usize] else {
                continue;
            };
            while let Some(event) = side.session.poll_event() {
                match event {
                    Event::Established { .. } if face != Face::Served => {
                        is_renewed |= side.session.remote_collections().next().is_some();
                    }
                    Event::RemoteSubscribed { .. } if face != Face::Served => is_renewed = true,
                    Event::Closed {
                        reason,
                        detail,
                        link,
                        ..
                    } if side.start.is_some_and(|start| start.inner == link) => {
                        let start = side.start.take().expect("just seen");
                        side.not_before = side.rest_until.max(now + PAUSE);
                        let is_harmless = matches!(
                            reason,
                            CloseReason::Goodbye | CloseReason::ActorRenewed | CloseReason::Lost
                        );
                        if !is_harmless {
                            let link = start.link;
                            self.events.push_back(RelayEvent::Broken {
                                link,
                                reason,
                                detail,
                            });
                        }
                    }
                    _ => {}
                }
            }
            if side.start.is_none() && !is_needed {
                neighbour.sides[face as usize] = None;
            }
        }
        // It may lack what is gone here.
        if is_renewed && self.cache.evicted() > 0 {
            self.renew(now);
        }
    }

    // The cache.

    /// Evicts what everybody has, if there is little room, and has a neighbour wait that needs much.
    fn make_room(&mut self, now: Duration, peer: PeerId) {
        if self.cache.is_filling() {
            let sides = self.neighbours.values().flat_map(|it| &it.sides[1..]);
            let served = sides.flatten().filter(|side| {
                let session = &side.session;
                let wants = session.remote_collections().next().is_some();
                side.start.is_some() && (wants || !session.is_established())
            });
            let confirmed = served.map(|side| side.session.confirmed_commit().unwrap_or(0));
            let confirmed: Option<u64> = confirmed.min();
            let confirmed = match self.config.kind {
                RelayKind::Interest => confirmed.unwrap_or(u64::MAX),
                RelayKind::Gateway => {
                    // Who is not here now has to get it all the same.
                    self.delivered = confirmed.unwrap_or(self.delivered);
                    self.delivered
                }
            };
            let evicted = self.cache.evicted();
            self.cache.set_confirmed(confirmed);
            if self.cache.evicted() > evicted {
                // There is room again for those that wait.
                let neighbours = self.neighbours.values_mut();
                neighbours.for_each(|it| it.is_stirred = true);
            }
        }
        if self.cache.set_source(peer) {
            self.held_until.get_or_insert(now + HOLD_MAX);
        } else if !self.cache.is_full() {
            self.held_until = None;
        }
    }

    /// Begins anew with nothing: the sessions of the relay end, and begin again after a rest.
    fn renew(&mut self, now: Duration) {
        let is_soon = now < self.born_at + LIFE_MIN;
        self.short_lives = match is_soon {
            true => (self.short_lives + 1).min(REST_DOUBLINGS_MAX),
            false => 0,
        };
        let rest = PAUSE * 2u32.pow(self.short_lives);
        self.born_at = now + rest;
        self.begin_anew(now, rest);
    }

    fn begin_anew(&mut self, now: Duration, rest: Duration) {
        self.held_until = None;
        self.evicted_before += self.cache.evicted();
        self.lives += 1;
        self.delivered = 0;
        let collections = self.carried_collections();
        self.cache.renew(&collections);
        self.told = 0;
        for neighbour in self.neighbours.values_mut() {
            for side in neighbour.sides[1..].iter_mut().flatten() {
                // It ends, because the store is another one.
                side.session.handle_commit(now, &mut self.cache);
                side.rest_until = now + rest;
                neighbour.is_stirred = true;
            }
        }
    }

    /// Tells all sessions what is new in the cache.
    fn follow_cache(&mut self, now: Duration) {
        if self.cache.is_over() {
            self.renew(now);
        }
        if self.cache.commit() == self.told {
            return;
        }
        self.told = self.cache.commit();
        for neighbour in self.neighbours.values_mut() {
            for side in neighbour.sides[1..].iter_mut().flatten() {
                side.session.handle_commit(now, &mut self.cache);
                neighbour.is_stirred = true;
            }
        }
    }
}

/// What a canonical statement selects; `None` if it is none, or not the one of that name.
fn selector_of(id: SubscriptionId, statement: &str) -> Option<Selector> {
    let statement = idem_query::parse(statement).ok()?;
    let selector = statement.subscription(&Object::new()).ok()?;
    // The source of a projection has whole documents, which nobody asked to be relayed.
    let is_relayed = selector.projection().is_none() && subscription_id_of(&selector) == id;
    is_relayed.then_some(selector)
}

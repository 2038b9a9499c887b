//! The mesh decides whom to link with among those that discoveries find, and this makes it happen.
//!
//! The driver tells a [`Meeting`] what was found, which links there are and what neighbours say, and then
//! asks which links to end and what to say. What the [`Mesh`] wants dialled is dialled in tasks of their own, which tell the driver of
//! the links.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use idem_mesh::{
    Action, AddressId, DialFailure, Found, InterestConfig, Interests, LinkUp, Medium, Mesh,
    MeshConfig, MeshEvent, MeshLimits, PeerHash, PeerKind, Signer,
};
use idem_model::{DatabaseId, LinkId, PeerId};
use idem_transport::{LinkError, LinkIdentity, LinkKind, LinkProperties, Role, signature_holds};
use tokio::runtime::Handle;

use crate::{
    driver::unix_ms,
    inbox::Inbox,
    links::{self, Ground, Origin},
    media::Spot,
    picture::Picture,
    transport::{ConditionKind, PeerToPeerConfig, TransportCondition},
    ways::{Use, Way},
};

/// How long the peer with the larger hash leaves dialling to the other one: two that find each other at
/// the same moment need one link.
const COURTESY: Duration = Duration::from_millis(250);

/// The same over a radio, which takes seconds to connect.
const RADIO_COURTESY: Duration = Duration::from_secs(2);

/// Of two links between the same peers, the second one may still have been dialled at the same time if it
/// was accepted so soon after the first one was up: the time that a network takes for the first packet.
const SIMULTANEOUS: Duration = Duration::from_secs(1);

/// How often it is looked whether links still have the address of this machine that they began with.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The app is shown changes of the mesh at most so often: many come at once, and none is urgent.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);

/// What was found, and what the mesh makes of it.
pub(crate) struct Meeting {
    ground: Arc<Ground>,
    handle: Handle,
    database: DatabaseId,
    local: PeerId,
    picture: Arc<Picture>,
    mesh: Mesh,
    /// Whether this peer looks for others. If not, all links are what an app asked for.
    is_gateway: bool,
    is_discovering: bool,
    /// Whether it looks for others with its radio.
    is_scanning: bool,
    places: BTreeMap<AddressId, Place>,
    /// By the names that the discovery gives.
    names: BTreeMap<String, AddressId>,
    /// When the mesh hears of those that it has not heard of.
    held: BTreeSet<(Duration, AddressId)>,
    links: BTreeMap<LinkId, Known>,
    next_address: u64,
    look_at: Duration,
    endings: Vec<Ending>,
    /// What neighbours are to be told.
    gossip: Vec<(PeerId, Vec<u8>)>,
    /// When the app is shown how the mesh has changed, if it has.
    show_at: Option<Duration>,
    have_interests_changed: bool,
    shown_at: Option<Duration>,
}

/// Where a peer says that it is.
struct Place {
    peer: PeerHash,
    spot: Spot,
    signal_dbm: Option<i8>,
    way: Arc<Way>,
}

struct Known {
    peer: PeerId,
    kind: LinkKind,
    role: Role,
    /// Whether an app asked for it, here or there, as far as that can be told.
    is_configured: bool,
    /// The address of this machine that it began with, if that may go.
    here: Option<SocketAddr>,
    there: Option<IpAddr>,
    address: Option<AddressId>,
    up_at: Instant,
}

/// A link to be ended.
pub(crate) struct Ending {
    pub(crate) link: LinkId,
    pub(crate) because: String,
    /// Whether nobody can hear a goodbye any more.
    pub(crate) is_lost: bool,
}

impl Meeting {
    pub(crate) fn new(
        ground: Arc<Ground>,
        handle: Handle,
        database: DatabaseId,
        local: PeerId,
        picture: Arc<Picture>,
        peer_to_peer: &PeerToPeerConfig,
    ) -> Self {
        let mut seed = [0; 8];
        // The seed spreads choices; without randomness the peers choose alike.
        let _ = getrandom::fill(&mut seed);
        let mut limits = MeshLimits::default();
        limits.lan.max = peer_to_peer.lan.links_max;
        limits.lan.target = limits.lan.target.min(limits.lan.max);
        let config = MeshConfig {
            database,
            local,
            seed: u64::from_le_bytes(seed),
            started_ms: unix_ms(),
            limits,
            interest: InterestConfig {
                is_relaying: peer_to_peer.relay.bytes() > 0,
                gateway: peer_to_peer.gateway.then(|| PeerHash::of(database, local)),
                ..InterestConfig::default()
            },
        };
        let identity = ground.credentials.identity().clone();
        let mut meeting = Self {
            ground,
            handle,
            database,
            local,
            picture,
            mesh: Mesh::new(Duration::ZERO, config, Box::new(Identity(identity))),
            is_gateway: peer_to_peer.gateway,
            is_discovering: false,
            is_scanning: false,
            places: BTreeMap::new(),
            names: BTreeMap::new(),
            held: BTreeSet::new(),
            links: BTreeMap::new(),
            next_address: 0,
            look_at: Duration::ZERO,
            endings: Vec::new(),
            gossip: Vec::new(),
            show_at: None,
            have_interests_changed: false,
            shown_at: None,
        };
        meeting.show_own(Duration::ZERO);
        meeting
    }

    /// Begins to look for peers, or ends it. Links stay as they are, but those over a radio that is not used.
    pub(crate) fn set_discovering(&mut self, now: Duration, medium: Medium, is_on: bool) {
        match medium {
            Medium::Ble => self.is_scanning = is_on,
            _ => self.is_discovering = is_on,
        }
        let (gone, places) = std::mem::take(&mut self.places)
            .into_iter()
            .partition(|(_, place)| place.spot.medium() == medium);
        let gone: BTreeMap<_, Place> = gone;
        self.places = places;
        self.names.retain(|_, address| !gone.contains_key(address));
        self.held.retain(|(_, address)| !gone.contains_key(address));
        for address in gone.into_keys() {
            self.mesh.handle_vanished(now, address);
        }
        if medium == Medium::Ble && !is_on {
            let links = self.links.iter().filter(|(_, it)| it.kind == LinkKind::Ble);
            for link in links.map(|(link, _)| *link).collect::<Vec<_>>() {
                self.give_up(now, link, "Bluetooth is not used any more");
            }
        }
    }

    /// Shows this peer to others as the app wants it.
    pub(crate) fn show_own(&mut self, now: Duration) {
        let mut own = self.picture.own();
        if self.is_gateway {
            own.kind = PeerKind::BigPeer;
        }
        self.mesh.set_own(now, own);
    }

    /// Says what this peer subscribes to, as canonical statements.
    pub(crate) fn set_interests<'a>(
        &mut self,
        now: Duration,
        statements: impl IntoIterator<Item = &'a str>,
    ) {
        self.mesh.set_interests(now, statements);
    }

    /// Whether links have more to carry than they can: none is exchanged for another one meanwhile.
    pub(crate) fn set_busy(&mut self, is_busy: bool) {
        self.mesh.set_busy(is_busy);
    }

    /// Whether what is relayed is something else than when this was asked last.
    pub(crate) fn take_interests_changed(&mut self) -> bool {
        std::mem::take(&mut self.have_interests_changed)
    }

    /// Whether this peer is a gateway.
    pub(crate) fn is_gateway(&self) -> bool {
        self.is_gateway
    }

    /// What neighbours want, and what of it is relayed.
    pub(crate) fn interests(&self) -> &Interests {
        self.mesh.interests()
    }

    /// A discovery sees a peer. It keeps to [`idem_model::limits::DISCOVERED_PEERS_MAX`].
    pub(crate) fn found(
        &mut self,
        now: Duration,
        name: String,
        peer: [u8; 8],
        (spot, signal_dbm): (Spot, Option<i8>),
    ) {
        let own = PeerHash::of(self.database, self.local);
        let peer = PeerHash::from_bytes(peer);
        // What was found before the end of looking may come behind it.
        let (is_on, courtesy) = match spot.medium() {
            Medium::Ble => (self.is_scanning, RADIO_COURTESY),
            _ => (self.is_discovering, COURTESY),
        };
        if peer == own || !is_on {
            return;
        }
        let next = AddressId(self.next_address);
        let address = *self.names.entry(name).or_insert(next);
        if address == next {
            self.next_address += 1;
        } else {
            // What failed elsewhere may go well here.
            self.mesh.handle_vanished(now, address);
        }
        let courtesy = if own < peer { Duration::ZERO } else { courtesy };
        let named = spot.to_string();
        let known = self.places.remove(&address);
        let way = known
            .map(|place| place.way)
            .inspect(|way| way.move_to(named.clone()));
        let place = Place {
            peer,
            way: way.unwrap_or_else(|| self.ground.ways.open(spot.transport(), Use::Found, named)),
            spot,
            signal_dbm,
        };
        self.places.insert(address, place);
        self.held.retain(|(_, held)| *held != address);
        self.held.insert((now + courtesy, address));
    }

    pub(crate) fn vanished(&mut self, now: Duration, name: &str) {
        if let Some(address) = self.names.remove(name) {
            self.places.remove(&address);
            self.held.retain(|(_, held)| *held != address);
            self.mesh.handle_vanished(now, address);
        }
    }

    pub(crate) fn link_up(
        &mut self,
        now: Duration,
        link: LinkId,
        properties: &LinkProperties,
        origin: Origin,
    ) {
        let known = Known {
            peer: properties.remote_peer,
            kind: properties.kind,
            role: properties.role,
            // Whoever finds this peer on the network knows its port for TCP.
            is_configured: origin.found.is_none()
                && properties.kind != LinkKind::Ble
                && (properties.role == Role::Initiator
                    || properties.kind != LinkKind::Tcp
                    || !self.is_discovering),
            here: properties
                .local_address
                .filter(|address| !address.ip().is_loopback()),
            there: properties.address.map(|address| address.ip()),
            address: origin.found,
            up_at: Instant::now(),
        };
        self.drop_left_behind(now, &known, origin.accepted_at);
        self.links.insert(link, known);
        self.tell_link_up(now, link);
        self.show_soon(now);
    }

    pub(crate) fn link_down(&mut self, now: Duration, link: LinkId) {
        self.links.remove(&link);
        self.mesh.handle_link_down(now, link);
        self.show_soon(now);
    }

    pub(crate) fn dial_failed(&mut self, now: Duration, address: AddressId, error: &LinkError) {
        self.mesh
            .handle_dial_failed(now, address, links::failure(error));
        let Some(place) = self.places.get(&address) else {
            return;
        };
        let condition = TransportCondition::from_failure(error).at(&place.spot);
        self.ground.tell_failure(&place.way, condition);
        if let Some(at) = self.mesh.retry_at(address) {
            place.way.wait(at.saturating_sub(now));
        }
    }

    /// The queue of the driver.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.ground.inbox
    }

    /// When to call [`act`](Self::act) again.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let held = self.held.first().map(|(at, _)| *at);
        let mesh = self.mesh.poll_timeout();
        let may_go = self.links.values().any(|known| known.here.is_some());
        let look = may_go.then_some(self.look_at);
        let times = [held, mesh, look, self.show_at];
        times.into_iter().flatten().min()
    }

    /// Dials whom the mesh wants. Gives the links that are to be ended.
    pub(crate) fn act(&mut self, now: Duration) -> Vec<Ending> {
        self.look(now);
        self.release(now);
        self.mesh.handle_timeout(now);
        while let Some(action) = self.mesh.poll_action() {
            match action {
                Action::Dial(address) => {
                    if let Some(place) = self.places.get(&address) {
                        self.handle.spawn(links::dial_found(
                            Arc::clone(&self.ground),
                            address,
                            place.spot.clone(),
                            Arc::clone(&place.way),
                        ));
                    } else {
                        // Whoever vanished is not dialled.
                        let failure = DialFailure::Unreachable;
                        self.mesh.handle_dial_failed(now, address, failure);
                    }
                }
                Action::Close { link, cause } => self.endings.push(Ending {
                    link,
                    because: cause.to_string(),
                    is_lost: false,
                }),
                Action::Gossip { peer, bytes } => self.gossip.push((peer, bytes)),
                // A session chooses among its links itself.
                _ => {}
            }
        }
        while let Some(event) = self.mesh.poll_event() {
            let mut who = None;
            let kind = match &event {
                MeshEvent::PresenceChanged => {
                    self.show_soon(now);
                    continue;
                }
                MeshEvent::InterestsChanged => {
                    self.have_interests_changed = true;
                    continue;
                }
                MeshEvent::Refused { peer, .. } => {
                    who = Some(*peer);
                    ConditionKind::Full
                }
                MeshEvent::Misbehaved { peer, .. } => {
                    who = Some(*peer);
                    ConditionKind::ProtocolViolated
                }
                _ => ConditionKind::DiscoveryTroubled,
            };
            let mut condition = TransportCondition::new(kind, event.to_string());
            condition.peer = who;
            self.ground.conditions.push(condition);
        }
        if self.show_at.is_some_and(|at| at <= now) {
            self.show_at = None;
            self.shown_at = Some(now);
            self.picture.show(self.mesh.graph());
        }
        std::mem::take(&mut self.endings)
    }

    fn show_soon(&mut self, now: Duration) {
        let at = self.shown_at.map_or(now, |at| at + SHOW_INTERVAL);
        self.show_at.get_or_insert(at);
    }

    /// What neighbours are to be told, since it was asked for last.
    pub(crate) fn take_gossip(&mut self) -> Vec<(PeerId, Vec<u8>)> {
        std::mem::take(&mut self.gossip)
    }

    /// A neighbour says something about who is there. What breaks a rule ends its links.
    pub(crate) fn hear(&mut self, now: Duration, peer: PeerId, bytes: &[u8]) {
        // The mesh tells of it, and asks for the end of the links.
        let _ = self.mesh.handle_gossip(now, peer, bytes);
    }

    /// What was said to a neighbour before may be lost.
    pub(crate) fn speak_anew(&mut self, now: Duration, peer: PeerId) {
        self.mesh.handle_gossip_lost(now, peer);
    }

    /// Tells the mesh of the places whose time has come.
    fn release(&mut self, now: Duration) {
        while let Some(held) = self.held.first().copied().filter(|(at, _)| *at <= now) {
            self.held.remove(&held);
            let (_, address) = held;
            let Some(place) = self.places.get(&address) else {
                continue;
            };
            let found = Found {
                address,
                medium: place.spot.medium(),
                peer: Some(place.peer),
                is_configured: false,
                signal_dbm: place.signal_dbm,
            };
            self.mesh.handle_found(now, found);
        }
    }

    /// Ends the links of an address that this machine does not have any more: nothing comes on them, and
    /// the system tells nobody.
    fn look(&mut self, now: Duration) {
        if self.look_at > now || self.links.is_empty() {
            return;
        }
        self.look_at = now + LOOK_INTERVAL;
        let dead = self.links.iter();
        let dead: Vec<_> = dead
            .filter(|(_, known)| known.here.is_some_and(is_gone))
            .map(|(link, _)| *link)
            .collect();
        for link in dead {
            let because = "this machine does not have its address any more";
            self.give_up(now, link, because);
        }
    }

    /// Ends the links of a peer that it has lost, or left behind when it moved: who connects although
    /// there has been a link for a while does not have that any more, and one is nowhere that it does not
    /// say it is.
    ///
    /// This is believed only of a peer that has just proved who it is: anybody may forge what is said on
    /// the network.
    fn drop_left_behind(&mut self, now: Duration, added: &Known, accepted_at: Option<Instant>) {
        if added.is_configured || added.kind != LinkKind::Tcp {
            return;
        }
        let hash = PeerHash::of(self.database, added.peer);
        let mut places = self.places.values().filter(|place| place.peer == hash);
        let place = places.find_map(|place| match &place.spot {
            Spot::Lan(addresses) => Some(addresses),
            Spot::Ble(_) => None,
        });
        let is_there = |ip: Option<IpAddr>| {
            let mut addresses = place.into_iter().flatten();
            ip.is_some_and(|ip| addresses.any(|address| address.ip() == ip))
        };
        let left = self.links.iter().filter(|(_, known)| {
            let is_lost = accepted_at.is_some_and(|at| at > known.up_at + SIMULTANEOUS);
            let is_left = is_there(added.there) && !is_there(known.there);
            let is_other = known.is_configured || known.peer != added.peer;
            !is_other && known.kind == LinkKind::Tcp && (is_lost || is_left)
        });
        for link in left.map(|(link, _)| *link).collect::<Vec<_>>() {
            let because = "the peer has left it and is linked anew";
            self.give_up(now, link, because);
        }
    }

    fn give_up(&mut self, now: Duration, link: LinkId, because: &str) {
        self.link_down(now, link);
        self.endings.push(Ending {
            link,
            because: because.to_owned(),
            is_lost: true,
        });
    }

    fn tell_link_up(&mut self, now: Duration, link: LinkId) {
        if let Some(known) = self.links.get(&link) {
            let up = LinkUp {
                link,
                peer: known.peer,
                medium: match known.kind {
                    LinkKind::Memory => Medium::Memory,
                    LinkKind::Tcp => Medium::Lan,
                    LinkKind::Ble => Medium::Ble,
                    _ => Medium::Internet,
                },
                address: known.address,
                is_inbound: known.role == Role::Responder,
                is_configured: known.is_configured,
            };
            self.mesh.handle_link_up(now, up);
        }
    }
}

/// Signs what the mesh says of this peer.
#[derive(Debug)]
struct Identity(LinkIdentity);

impl Signer for Identity {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }

    fn holds(&self, peer: &PeerId, message: &[u8], signature: &[u8; 64]) -> bool {
        signature_holds(peer, message, signature)
    }
}

/// Whether this machine does not have the address any more.
fn is_gone(mut address: SocketAddr) -> bool {
    address.set_port(0);
    // Only an address that there is can be bound.
    let bound = UdpSocket::bind(address);
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_this_machine_has_is_not_gone() {
        assert!(!is_gone("127.0.0.1:4040".parse().unwrap()));
        // Reserved for documentation.
        assert!(is_gone("203.0.113.7:4040".parse().unwrap()));
    }
}

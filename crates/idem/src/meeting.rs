//! Peers that discoveries find: whom to link with, and how.
//!
//! The driver tells a [`Meeting`] what was found and which links there are. It dials who should be
//! dialled, in tasks of their own, which tell the driver of the links.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use idem_model::{DatabaseId, PeerId, limits};
use idem_sync::LinkId;
use idem_transport::{LinkError, Refusal};
use tokio::runtime::Handle;

use crate::{
    links::{self, Ground},
    transport::TransportCondition,
};

/// The first pause after an address gave no link. It doubles with each failure, up to 64 times this.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// How long the peer with the larger name leaves dialling to the other one: two that find each other at
/// the same moment need one link.
const COURTESY: Duration = Duration::from_secs(1);

/// A peer in eight bytes, as discoveries name it. Others than those of its database cannot tell that two
/// of them are of one peer.
pub(crate) fn peer_hash(database: DatabaseId, peer: PeerId) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("idem mesh peer, version 1");
    hasher.update(&database.0);
    hasher.update(&peer.0);
    let hash = hasher.finalize();
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// What was found and where it is dialled.
pub(crate) struct Meeting {
    ground: Arc<Ground>,
    handle: Handle,
    database: DatabaseId,
    local: [u8; 8],
    /// By the names that the discovery gives.
    places: BTreeMap<String, Place>,
    /// The peers of links.
    linked: BTreeMap<LinkId, [u8; 8]>,
    /// Whether something changed since the last look.
    is_stirred: bool,
    /// When there may be somebody to dial, as of the last look.
    next_at: Option<Duration>,
}

struct Place {
    peer: [u8; 8],
    addresses: Vec<SocketAddr>,
    failures: u32,
    /// The last reason that the app was told.
    reported: Option<&'static str>,
    /// When it may be dialled, `None` while it is.
    ready_at: Option<Duration>,
}

impl Meeting {
    pub(crate) fn new(
        ground: Arc<Ground>,
        handle: Handle,
        database: DatabaseId,
        local: PeerId,
    ) -> Self {
        Self {
            ground,
            handle,
            database,
            local: peer_hash(database, local),
            places: BTreeMap::new(),
            linked: BTreeMap::new(),
            is_stirred: false,
            next_at: None,
        }
    }

    /// A discovery sees a peer. It keeps to [`limits::DISCOVERED_PEERS_MAX`].
    pub(crate) fn found(
        &mut self,
        now: Duration,
        instance: String,
        peer: [u8; 8],
        addresses: Vec<SocketAddr>,
    ) {
        if peer == self.local {
            return;
        }
        self.is_stirred = true;
        let wait = if self.local < peer {
            Duration::ZERO
        } else {
            COURTESY
        };
        let place = self.places.entry(instance).or_insert(Place {
            peer,
            addresses: Vec::new(),
            failures: 0,
            reported: None,
            ready_at: Some(now + wait),
        });
        place.peer = peer;
        if place.addresses != addresses {
            place.addresses = addresses;
            // What failed elsewhere may go well here.
            place.failures = 0;
            place.ready_at = place.ready_at.map(|at| at.min(now + wait));
        }
    }

    pub(crate) fn vanished(&mut self, instance: &str) {
        self.places.remove(instance);
    }

    pub(crate) fn link_up(&mut self, link: LinkId, peer: PeerId) {
        self.is_stirred = true;
        self.linked.insert(link, peer_hash(self.database, peer));
    }

    pub(crate) fn link_down(&mut self, now: Duration, link: LinkId) {
        let Some(peer) = self.linked.remove(&link) else {
            return;
        };
        self.is_stirred = true;
        let wait = if self.local < peer {
            Duration::ZERO
        } else {
            COURTESY
        };
        for place in self.places.values_mut().filter(|it| it.peer == peer) {
            place.ready_at = place.ready_at.map(|at| at.max(now + wait));
        }
    }

    /// A dial ended: with a failure, or with the end of the link that it made.
    pub(crate) fn dialled(&mut self, now: Duration, instance: &str, failure: Option<&LinkError>) {
        self.is_stirred = true;
        let Some(place) = self.places.get_mut(instance) else {
            return;
        };
        let Some(error) = failure else {
            place.failures = 0;
            place.reported = None;
            place.ready_at = Some(now + links::jittered(COURTESY));
            return;
        };
        if place.reported != Some(error.reason()) {
            place.reported = Some(error.reason());
            let mut condition = TransportCondition::from_failure(error);
            if let Some(address) = place.addresses.first() {
                condition = condition.at(address);
            }
            self.ground.conditions.push(condition);
        }
        let pause = match error {
            // Whatever is wrong there will be wrong for long.
            LinkError::Refused {
                refusal: Refusal::SelfLink | Refusal::Denied | Refusal::KeyMismatch,
                ..
            }
            | LinkError::DatabaseMismatch
            | LinkError::NotAPeer => RETRY_MIN * 64,
            _ => RETRY_MIN * 2u32.pow(place.failures.min(6)),
        };
        place.failures += 1;
        place.ready_at = Some(now + links::jittered(pause));
    }

    /// When to call [`dial`](Self::dial).
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if self.is_stirred {
            return Some(Duration::ZERO);
        }
        self.next_at
    }

    /// Dials those whose time has come. Costs nothing as long as nothing has changed and no time has.
    pub(crate) fn dial(&mut self, now: Duration) {
        if !self.is_stirred && self.next_at.is_none_or(|at| at > now) {
            return;
        }
        let taken = self.dial_ready(now);
        let waiting = self.places.values();
        let waiting = waiting.filter(|place| !taken.contains(&place.peer));
        self.next_at = waiting.filter_map(|place| place.ready_at).min();
        self.is_stirred = false;
    }

    /// Gives the peers that are linked or dialled now.
    fn dial_ready(&mut self, now: Duration) -> BTreeSet<[u8; 8]> {
        let mut taken: BTreeSet<_> = self.linked.values().copied().collect();
        let dialling = self.places.values().filter(|it| it.ready_at.is_none());
        let mut room = limits::LINKS_MAX.saturating_sub(taken.len());
        for place in dialling {
            taken.insert(place.peer);
            room = room.saturating_sub(1);
        }
        for (instance, place) in &mut self.places {
            let is_ready = place.ready_at.is_some_and(|at| at <= now);
            if !is_ready || taken.contains(&place.peer) {
                continue;
            }
            if room == 0 {
                place.ready_at = Some(now + links::jittered(RETRY_MIN));
                continue;
            }
            room -= 1;
            taken.insert(place.peer);
            place.ready_at = None;
            self.handle.spawn(links::dial_found(
                Arc::clone(&self.ground),
                instance.clone(),
                place.addresses.clone(),
            ));
        }
        taken
    }
}

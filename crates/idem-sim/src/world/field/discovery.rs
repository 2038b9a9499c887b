//! Who is near whom, and when discoveries see it.

use idem_mesh::{Found, Medium, PeerHash};

use super::{Field, Happening, World, address};
use crate::{
    canary::Canary,
    conduct::Conduct,
    field::{Place, pairs_within},
    peer::DATABASE,
};

/// How often it is looked at who is near whom.
const LOOK_US: u64 = 500_000;

/// An advertisement over Bluetooth is heard after 0.1 to 10 s: two peers that look at different times may
/// miss each other for long.
const HEARD_BLE_US: (u64, u64) = (100_000, 10_000_000);

/// mDNS answers at once, or after a question that is repeated each second.
const HEARD_LAN_US: (u64, u64) = (10_000, 1_000_000);

/// Who is not heard any more is taken for gone after this time.
const UNHEARD_US: (u64, u64) = (5_000_000, 10_000_000);

/// Out of 100 looks, in so many a peer that walks hears others anew: each 10 s.
const AGAIN_PERCENT: u64 = 5;

/// A link lasts a little further than a discovery sees.
const STRETCH_PERCENT: u64 = 110;

impl Field {
    /// Whether two places are in one local network.
    fn shares_lan(&self, a: Place, b: Place) -> bool {
        let lan = |place: Place| place.x * self.options.lans as u64 / self.plane.side.max(1);
        self.options.lans > 0 && lan(a) == lan(b)
    }

    /// Whether a link between two places works.
    fn carries(&self, a: Place, b: Place, medium: Medium) -> bool {
        match medium {
            Medium::Ble => {
                let range = self.options.range_mm * STRETCH_PERCENT / 100;
                a.square_to(b) <= range.pow(2)
            }
            _ => self.shares_lan(a, b),
        }
    }
}

/// A number that looks random and belongs to a pair of peers.
fn lot(a: usize, b: usize) -> u64 {
    let mixed = ((a as u64) << 32 | b as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

impl World {
    /// Whether two peers could have a link over a medium.
    pub(super) fn is_near(&self, a: usize, b: usize, medium: Medium) -> bool {
        let field = self.field.as_ref().expect("only called in a field");
        let [from, to] = [a, b].map(|peer| field.plane.place(peer, self.now_us));
        self.is_within_walls(a, b) && field.carries(from, to, medium)
    }

    fn is_within_walls(&self, a: usize, b: usize) -> bool {
        let field = self.field.as_ref().expect("only called in a field");
        let is_there = |peer: usize| self.peers[peer].is_alive && !field.is_gone[peer];
        let is_apart = self.walls.values().any(|wall| wall[a] != wall[b]);
        is_there(a) && is_there(b) && !is_apart
    }

    /// Looks who is near whom now, and what that changes.
    pub(in crate::world) fn look_out(&mut self) {
        let now_us = self.now_us;
        let mut random = self.random.clone();
        let field = self.field();
        field.plane.walk_on(now_us, &mut random);
        let is_moving = field.plane.is_moving();
        let is_due = is_moving || std::mem::take(&mut field.is_reach_outdated);
        self.random = random;
        if is_due {
            self.look_around();
        }
        self.schedule(LOOK_US, Happening::Look);
    }

    fn look_around(&mut self) {
        let reach = self.pairs_near();
        let is_moving = self.field().plane.is_moving();
        let before = std::mem::replace(&mut self.field().reach, reach.clone());
        for (a, b, medium) in before.difference(&reach) {
            self.sight(*a, *b, *medium, UNHEARD_US);
        }
        for (a, b, medium) in &reach {
            if !before.contains(&(*a, *b, *medium)) {
                let delay = match medium {
                    Medium::Ble => HEARD_BLE_US,
                    _ => HEARD_LAN_US,
                };
                self.sight(*a, *b, *medium, delay);
            } else if is_moving && self.random.chance(AGAIN_PERCENT) {
                self.sight(*a, *b, *medium, HEARD_LAN_US);
            }
        }
        let links = self.field().links.iter();
        let links: Vec<_> = links
            .map(|(link, it)| (*link, it.edge, it.medium))
            .collect();
        for (link, edge, medium) in links {
            let [a, b] = self.edges[edge].options.peers;
            if !self.is_near(a, b, medium) {
                self.silence(link);
            }
        }
    }

    /// Both ends of a pair look at each other after a while.
    fn sight(&mut self, a: usize, b: usize, medium: Medium, delay_us: (u64, u64)) {
        for (peer, other) in [(a, b), (b, a)] {
            let delay = self.random.within(delay_us);
            self.schedule(
                delay,
                Happening::Sight {
                    peer,
                    other,
                    medium,
                },
            );
        }
    }

    pub(in crate::world) fn see(&mut self, peer: usize, other: usize, medium: Medium) {
        if self.canary == Some(Canary::HideStrangers) && (peer == 0 || other == 0) {
            return;
        }
        let now = self.now();
        let liar = self.peers[other].conduct == Conduct::Liar;
        // A liar advertises that it is somebody else.
        let shown = if liar {
            self.random.index(self.peers.len())
        } else {
            other
        };
        let hash = PeerHash::of(DATABASE, self.peers[shown].id());
        let pair = (peer.min(other), peer.max(other), medium);
        let now_us = self.now_us;
        let field = self.field();
        let [here, there] = [peer, other].map(|it| field.plane.place(it, now_us));
        let far = here.square_to(there).isqrt() * 50 / field.options.range_mm.max(1);
        let is_there = field.reach.contains(&pair);
        let Some(mesh) = field.mesh(peer) else {
            return;
        };
        if !is_there {
            mesh.handle_vanished(now, address(other, medium));
            return;
        }
        // From -40 dBm beside each other to -90 dBm where frames begin to be lost.
        let signal_dbm = -40 - i8::try_from(far.min(50)).expect("at most 50");
        mesh.handle_found(
            now,
            Found {
                address: address(other, medium),
                medium,
                peer: Some(hash),
                is_configured: false,
                signal_dbm: (medium == Medium::Ble).then_some(signal_dbm),
            },
        );
    }

    /// Who could see whom now.
    pub(super) fn pairs_near(&self) -> std::collections::BTreeSet<(usize, usize, Medium)> {
        let field = self.field.as_ref().expect("only called in a field");
        let places = field.plane.places(self.now_us);
        let mut reach = std::collections::BTreeSet::new();
        if field.options.radio.is_some() {
            let pairs = pairs_within(&places, field.options.range_mm).into_iter();
            reach.extend(pairs.map(|(a, b)| (a, b, Medium::Ble)));
        }
        if let Some(there) = places.len().checked_div(field.options.lans) {
            // Of a large network each hears of some others only.
            let there = there.max(1) as u64;
            let sight = field.options.lan_sight as u64;
            for a in 0..places.len() {
                for b in a + 1..places.len() {
                    let is_heard = there <= sight || lot(a, b) % there < sight;
                    if is_heard && field.shares_lan(places[a], places[b]) {
                        reach.insert((a, b, Medium::Lan));
                    }
                }
            }
        }
        reach.retain(|(a, b, _)| self.is_within_walls(*a, *b));
        reach
    }
}

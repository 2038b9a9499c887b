//! What was found and is still there, within bounds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use idem_model::{DatabaseId, limits};
use mdns_sd::ScopedIp;

use super::{DiscoveryEvent, advert::Texts};

/// Peers that there is something to tell of. Those that are not there any more count too.
const CHANGED_MAX: usize = 2 * limits::DISCOVERED_PEERS_MAX;

/// The peers that were found, by instance.
#[derive(Debug)]
pub(super) struct Sightings {
    database: DatabaseId,
    /// The instance that this peer is itself.
    own: String,
    found: BTreeMap<String, Sighting>,
    changed: BTreeSet<String>,
    trouble: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sighting {
    peer: [u8; 8],
    addresses: Vec<SocketAddr>,
}

impl Sightings {
    pub(super) fn new(database: DatabaseId, own: String) -> Self {
        Self {
            database,
            own,
            found: BTreeMap::new(),
            changed: BTreeSet::new(),
            trouble: None,
        }
    }

    /// Somebody says that it is there.
    pub(super) fn see(&mut self, instance: &str, texts: &Texts<'_>, addresses: Vec<SocketAddr>) {
        if instance == self.own || addresses.is_empty() {
            return;
        }
        let Some(peer) = texts.peer_of(self.database, instance) else {
            return;
        };
        let sighting = Sighting { peer, addresses };
        let known = self.found.get(instance);
        // Whoever was there first stays: peers that are found are announced again and again.
        let has_room = self.found.len() < limits::DISCOVERED_PEERS_MAX
            && (self.changed.len() < CHANGED_MAX || self.changed.contains(instance));
        if known == Some(&sighting) || known.is_none() && !has_room {
            return;
        }
        self.found.insert(instance.to_owned(), sighting);
        self.changed.insert(instance.to_owned());
    }

    /// It is not there any more.
    pub(super) fn lose(&mut self, instance: &str) {
        if self.found.remove(instance).is_some() {
            self.changed.insert(instance.to_owned());
        }
    }

    /// Nobody can be found, and nobody tells what becomes of those that were.
    pub(super) fn trouble(&mut self, message: String) {
        self.trouble = Some(message);
        let lost = std::mem::take(&mut self.found);
        self.changed.extend(lost.into_keys());
    }

    /// What there is to tell.
    pub(super) fn poll_event(&mut self) -> Option<DiscoveryEvent> {
        if let Some(message) = self.trouble.take() {
            return Some(DiscoveryEvent::Troubled { message });
        }
        let instance = self.changed.pop_first()?;
        Some(match self.found.get(&instance) {
            Some(sighting) => DiscoveryEvent::Found {
                peer: sighting.peer,
                addresses: sighting.addresses.clone(),
                instance,
            },
            None => DiscoveryEvent::Vanished { instance },
        })
    }
}

/// The places that can be dialled at all, the best first, as many as are kept.
pub(super) fn ranked<'a>(places: impl Iterator<Item = (&'a ScopedIp, u16)>) -> Vec<SocketAddr> {
    let dialled = places.filter_map(|(ip, port)| address(ip, port));
    let mut ranked: Vec<_> = dialled.map(|address| (rank(&address), address)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    let kept = ranked.into_iter().take(limits::DISCOVERED_ADDRESSES_MAX);
    kept.map(|(_, address)| address).collect()
}

fn address(ip: &ScopedIp, port: u16) -> Option<SocketAddr> {
    let scope = match ip {
        ScopedIp::V6(ip) => ip.scope_id().index,
        _ => 0,
    };
    let address = match ip.to_ip_addr() {
        IpAddr::V4(ip) if ip.is_broadcast() => return None,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        ip => SocketAddr::new(ip, port),
    };
    let ip = address.ip();
    let is_one = port != 0 && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast();
    is_one.then_some(address)
}

/// IPv4 first, which every network has that peers share; then what needs no interface to be named.
fn rank(address: &SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 3,
        IpAddr::V6(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::advert::Advert, *};

    const OURS: DatabaseId = DatabaseId([1; 16]);

    fn advert(database: DatabaseId, number: u16) -> Advert {
        let mut random = [0; 16];
        random[..2].copy_from_slice(&number.to_be_bytes());
        Advert::new(database, [7; 8], random)
    }

    fn see(sightings: &mut Sightings, advert: &Advert, addresses: &[&str]) {
        let [(_, version), (_, database), (_, peer)] = advert.texts();
        let texts = Texts {
            version: Some(version),
            database: Some(database),
            peer: Some(peer),
        };
        let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
        sightings.see(advert.instance(), &texts, addresses);
    }

    fn found(advert: &Advert, addresses: &[&str]) -> DiscoveryEvent {
        DiscoveryEvent::Found {
            instance: advert.instance().to_owned(),
            peer: [7; 8],
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn only_what_is_news_is_told() {
        let (own, other) = (advert(OURS, 1), advert(OURS, 2));
        let mut sightings = Sightings::new(OURS, own.instance().to_owned());
        see(&mut sightings, &own, &["10.0.0.1:1"]);
        see(
            &mut sightings,
            &advert(DatabaseId([2; 16]), 3),
            &["10.0.0.3:1"],
        );
        see(&mut sightings, &other, &[]);
        assert_eq!(sightings.poll_event(), None);
        see(&mut sightings, &other, &["10.0.0.2:1"]);
        see(&mut sightings, &other, &["10.0.0.2:1"]);
        assert_eq!(sightings.poll_event(), Some(found(&other, &["10.0.0.2:1"])));
        see(&mut sightings, &other, &["10.0.0.2:1"]);
        assert_eq!(sightings.poll_event(), None);
        see(&mut sightings, &other, &["10.0.0.2:1", "10.0.1.2:1"]);
        sightings.lose(other.instance());
        sightings.lose(other.instance());
        sightings.trouble("too much".to_owned());
        let message = "too much".to_owned();
        assert_eq!(
            sightings.poll_event(),
            Some(DiscoveryEvent::Troubled { message })
        );
        let instance = other.instance().to_owned();
        assert_eq!(
            sightings.poll_event(),
            Some(DiscoveryEvent::Vanished { instance })
        );
        assert_eq!(sightings.poll_event(), None);
    }

    #[test]
    fn places_that_cannot_be_dialled_are_left_out() {
        let places = |texts: &[&str], port| {
            let ips: Vec<ScopedIp> = texts
                .iter()
                .map(|text| text.parse::<IpAddr>().unwrap().into())
                .collect();
            let ranked = ranked(ips.iter().map(|ip| (ip, port)));
            ranked.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let good = [
            "fe80::1",
            "fd00::1",
            "169.254.1.1",
            "192.168.1.2",
            "10.0.0.1",
        ];
        let ranked = [
            "10.0.0.1:5",
            "192.168.1.2:5",
            "[fd00::1]:5",
            "169.254.1.1:5",
            "[fe80::1]:5",
        ];
        assert_eq!(places(&good, 5), ranked);
        assert!(places(&good, 0).is_empty());
        let bad = [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "ff02::fb",
            "255.255.255.255",
        ];
        assert!(places(&bad, 5).is_empty());
        let many: Vec<String> = (1..100).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(places(&many, 5).len(), limits::DISCOVERED_ADDRESSES_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever is announced and taken back, in whatever order: what is kept is bounded, and who
        /// follows the events knows exactly what is there.
        #[test]
        fn a_forger_fills_no_memory(
            steps in proptest::collection::vec((0..4000u16, 0..8u8, 0..3u8), 0..6000),
            polled in 0..4u8,
        ) {
            let mut sightings = Sightings::new(OURS, advert(OURS, 5000).instance().to_owned());
            let mut told = BTreeMap::new();
            let mut tell = |sightings: &mut Sightings| match sightings.poll_event() {
                Some(DiscoveryEvent::Found { instance, peer, addresses }) => {
                    told.insert(instance, Sighting { peer, addresses });
                    true
                }
                Some(DiscoveryEvent::Vanished { instance }) => {
                    told.remove(&instance);
                    true
                }
                _ => false,
            };
            for (number, what, place) in steps {
                let advert = advert(OURS, number);
                match what {
                    0 => sightings.lose(advert.instance()),
                    _ => see(&mut sightings, &advert, &[&format!("10.0.0.{place}:1")]),
                }
                if what < polled {
                    tell(&mut sightings);
                }
                prop_assert!(sightings.found.len() <= limits::DISCOVERED_PEERS_MAX);
                prop_assert!(sightings.changed.len() <= CHANGED_MAX + limits::DISCOVERED_PEERS_MAX);
            }
            while tell(&mut sightings) {}
            prop_assert_eq!(told, sightings.found);
        }
    }
}

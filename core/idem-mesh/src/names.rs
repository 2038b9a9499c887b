//! How a mesh names addresses, peers and media.

use std::fmt;

use idem_model::{DatabaseId, PeerId, limits};

/// Names an address that can be dialled; the owner chooses it, and knows what is behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AddressId(pub u64);

/// A peer in eight bytes, as discoveries and presence records name it.
///
/// It is the start of a hash over the database id and the peer id, so that strangers cannot tell whether
/// two of them, seen in different databases, belong to one peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerHash(u64);

impl PeerHash {
    /// The hash of `peer` in `database` (docs/format/presence.md, "Names").
    pub fn of(database: DatabaseId, peer: PeerId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("idem mesh peer, version 1");
        hasher.update(&database.0);
        hasher.update(&peer.0);
        let hash = hasher.finalize();
        Self::from_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }

    /// Its bytes, which are in the order of the hashes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for PeerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for PeerHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerHash({self})")
    }
}

/// What a link runs over. The order is that of preference where a peer is linked over several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Medium {
    /// Inside one process.
    Memory,
    /// A local network.
    Lan,
    /// The internet.
    Internet,
    /// Bluetooth Low Energy.
    Ble,
}

impl Medium {
    /// All of them, the preferred first.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Lan, Self::Internet, Self::Ble];

    /// Its number on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Lan => 1,
            Self::Ble => 2,
            Self::Internet => 3,
            Self::Memory => 4,
        }
    }

    /// The medium of a number on the wire; `None` for one of a later version.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|medium| medium.code() == code)
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Lan => "LAN",
            Self::Internet => "internet",
            Self::Ble => "Bluetooth LE",
        })
    }
}

/// How many links of one medium a mesh keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MediumLimits {
    /// It dials until it has so many.
    pub target: usize,
    /// It accepts no more than so many. Addresses that are configured are dialled in any case.
    pub max: usize,
}

/// The limits of all media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MeshLimits {
    /// Default: 6 and 16.
    pub lan: MediumLimits,
    /// Default: 3 and 7.
    pub ble: MediumLimits,
    /// Default: 1 and 4.
    pub internet: MediumLimits,
    /// Default: as for a LAN.
    pub memory: MediumLimits,
}

impl MeshLimits {
    /// Those of `medium`.
    pub fn of(&self, medium: Medium) -> MediumLimits {
        match medium {
            Medium::Memory => self.memory,
            Medium::Lan => self.lan,
            Medium::Internet => self.internet,
            Medium::Ble => self.ble,
        }
    }
}

impl Default for MeshLimits {
    fn default() -> Self {
        let lan = MediumLimits {
            target: limits::MESH_LAN_LINKS_TARGET,
            max: limits::MESH_LAN_LINKS_MAX,
        };
        Self {
            lan,
            ble: MediumLimits {
                target: limits::MESH_BLE_LINKS_TARGET,
                max: limits::MESH_BLE_LINKS_MAX,
            },
            internet: MediumLimits {
                target: limits::MESH_INTERNET_LINKS_TARGET,
                max: limits::MESH_INTERNET_LINKS_MAX,
            },
            memory: lan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_medium_has_a_number_of_its_own() {
        for medium in Medium::ALL {
            assert_eq!(Medium::from_code(medium.code()), Some(medium));
        }
        assert_eq!(Medium::from_code(0), None);
    }

    #[test]
    fn a_peer_has_another_hash_in_another_database() {
        let hash = |database| PeerHash::of(DatabaseId([database; 16]), PeerId([1; 32]));
        assert_ne!(hash(1), hash(2));
    }
}

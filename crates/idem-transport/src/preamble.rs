//! The first bytes of a link, in clear: enough to tell who should not talk to whom, and no more.

use std::fmt;

use idem_model::DatabaseId;

use crate::{certified::LinkMode, error::LinkError};

/// The oldest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;

/// The newest protocol version that this build speaks.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

/// Begins with a byte that no text protocol begins with, and holds a line end that a text mode
/// transfer would alter.
const MAGIC: [u8; 8] = *b"\xf5idem\r\n\0";

/// Magic and versions. This part has the same form in every protocol version.
pub(crate) const HEAD_BYTES: usize = 12;

/// The whole preamble: head, 16 random bytes, 32 bytes of tag.
pub(crate) const PREAMBLE_BYTES: usize = HEAD_BYTES + 16 + 32;

/// Versions from `min` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl VersionRange {
    /// What this build speaks.
    pub const OURS: Self = Self {
        min: PROTOCOL_VERSION_MIN,
        max: PROTOCOL_VERSION_MAX,
    };

    /// The newest version in both ranges.
    pub fn common(self, other: Self) -> Option<u16> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(version)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// What a side says first.
///
/// The tag is a keyed hash of fresh random bytes under the database id and the mode of its peers. A peer
/// of the database can check it; anybody else can neither read the id or the mode from it nor see that two
/// connections belong to the same database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    versions: VersionRange,
    nonce: [u8; 16],
    tag: [u8; 32],
}

impl Preamble {
    /// The preamble of a peer of `database`. `nonce` is random.
    pub fn new(
        versions: VersionRange,
        database: DatabaseId,
        mode: LinkMode,
        nonce: [u8; 16],
    ) -> Self {
        Self {
            versions,
            nonce,
            tag: *tag(database, mode, &nonce).as_bytes(),
        }
    }

    /// The bytes on the wire.
    pub fn to_bytes(&self) -> [u8; 60] {
        let mut out = [0; PREAMBLE_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&self.versions.min.to_be_bytes());
        out[10..12].copy_from_slice(&self.versions.max.to_be_bytes());
        out[12..28].copy_from_slice(&self.nonce);
        out[28..].copy_from_slice(&self.tag);
        out
    }

    /// Reads the versions from the first 12 bytes of a preamble of any version.
    ///
    /// # Errors
    /// [`LinkError::NotAPeer`] if the magic is not there or the range is empty.
    pub fn decode_versions(head: &[u8; 12]) -> Result<VersionRange, LinkError> {
        let versions = VersionRange {
            min: u16::from_be_bytes([head[8], head[9]]),
            max: u16::from_be_bytes([head[10], head[11]]),
        };
        if head[..8] != MAGIC || versions.min > versions.max {
            return Err(LinkError::NotAPeer);
        }
        Ok(versions)
    }

    /// Reads a whole preamble.
    ///
    /// # Errors
    /// As [`Preamble::decode_versions`].
    pub fn decode(bytes: &[u8; 60]) -> Result<Self, LinkError> {
        let (head, rest) = bytes
            .split_first_chunk::<HEAD_BYTES>()
            .expect("60 is more than 12");
        let (nonce, rest) = rest.split_first_chunk::<16>().expect("48 is more than 16");
        Ok(Self {
            versions: Self::decode_versions(head)?,
            nonce: *nonce,
            tag: *rest.first_chunk::<32>().expect("32 bytes are left"),
        })
    }

    /// The mode of the sender, if it knows the id of `database`.
    pub fn mode_in(&self, database: DatabaseId) -> Option<LinkMode> {
        // `blake3::Hash` compares in constant time.
        let is_of = |mode: &LinkMode| tag(database, *mode, &self.nonce) == self.tag;
        LinkMode::ALL.into_iter().find(is_of)
    }

    /// The versions that the sender speaks.
    pub fn versions(&self) -> VersionRange {
        self.versions
    }
}

fn tag(database: DatabaseId, mode: LinkMode, nonce: &[u8; 16]) -> blake3::Hash {
    let key = blake3::derive_key(mode.contexts().0, &database.0);
    blake3::keyed_hash(&key, nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_meet_at_the_newest() {
        let range = |min, max| VersionRange { min, max };
        let check = |a: VersionRange, b: VersionRange, expected| {
            assert_eq!(a.common(b), expected, "{a} and {b}");
            assert_eq!(b.common(a), expected, "{b} and {a}");
        };
        check(range(1, 1), range(1, 1), Some(1));
        check(range(1, 3), range(2, 5), Some(3));
        check(range(1, 2), range(3, 4), None);
    }

    #[test]
    fn tags_name_their_database_and_mode_only() {
        for mode in LinkMode::ALL {
            let one = Preamble::new(VersionRange::OURS, DatabaseId([1; 16]), mode, [9; 16]);
            assert_eq!(one.mode_in(DatabaseId([1; 16])), Some(mode));
            assert_eq!(one.mode_in(DatabaseId([2; 16])), None);
            assert_eq!(Preamble::decode(&one.to_bytes()).unwrap(), one);
            let replayed = Preamble {
                nonce: [8; 16],
                ..one
            };
            assert_eq!(replayed.mode_in(DatabaseId([1; 16])), None);
        }
    }

    #[test]
    fn garbage_is_not_a_peer() {
        let (database, mode) = (DatabaseId([1; 16]), LinkMode::SharedKey);
        let mut bytes = Preamble::new(VersionRange::OURS, database, mode, [9; 16]).to_bytes();
        bytes[0] ^= 1;
        assert!(matches!(Preamble::decode(&bytes), Err(LinkError::NotAPeer)));
        assert!(matches!(
            Preamble::decode(&[b'G'; 60]),
            Err(LinkError::NotAPeer)
        ));
    }

    #[test]
    fn tags_are_made_as_they_were() {
        let hashes = include_str!("../../../vectors/wire/hashes.txt");
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let database: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let nonce: [u8; 16] = std::array::from_fn(|at| u8::try_from(0x20 + at).unwrap());
        for (mode, name) in LinkMode::ALL.into_iter().zip([
            "",
            ", certificates",
            ", certificates and key",
            ", development",
        ]) {
            let preamble = Preamble::new(VersionRange::OURS, DatabaseId(database), mode, nonce);
            let (tag, database, nonce) = (hex(&preamble.tag), hex(&database), hex(&nonce));
            let line =
                format!("tag of a preamble{name} | database {database} random {nonce} | {tag}\n");
            assert!(hashes.contains(&line), "{line}");
        }
    }
}

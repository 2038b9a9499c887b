//! Items: a document at a version in twelve bytes.

use std::{convert::Infallible, fmt, hash::Hasher};

use idem_model::{ActorId, CollectionName, DecodeError, DocId, Dot, VersionVector, codec::Reader};
use siphasher::sip::SipHasher24;

// What a hashed text is, in its first byte, so that no two kinds of texts are ever equal.
const HASH_OF_KEY: u8 = 1;
const HASH_OF_VERSION: u8 = 2;
const HASH_OF_ITEM: u8 = 3;

/// The key of all hashes of a sketch: a secret that the peers of a database share and replace now and
/// then, so that two versions which happen to look equal do not do so for ever, and strangers cannot
/// make such versions. Two sketches can be compared only under the same salt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Salt {
    fn hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_key(&self.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// A document at a version. Ordered by tag, then version.
///
/// An evicted document counts at the version that was held, so its item is the one of the document.
/// A tombstone has the version of its deletion, which no document that is present has; it needs no
/// mark of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    /// Hash of the document's collection and id. A hint where to look and no more: among 100,000
    /// documents there is about one pair with the same tag.
    pub tag: [u8; 4],
    /// Hash of the document's key and its version vector.
    pub version: [u8; 8],
}

impl Item {
    /// Bytes of an item.
    pub const BYTES: usize = 12;

    /// The item of a document. Two documents, or two versions of one, have the same item with a
    /// probability of 2^-64, or 2^-96 if neither shares its key with the other.
    pub fn of(
        salt: &Salt,
        collection: &CollectionName,
        id: &DocId,
        version: &VersionVector,
    ) -> Self {
        Self::of_key(salt, collection, &id.to_key(), version)
    }

    /// [`Item::of`] for an id given as the bytes of [`DocId::to_key`], as indexes hold it.
    pub fn of_key(
        salt: &Salt,
        collection: &CollectionName,
        id_key: &[u8],
        version: &VersionVector,
    ) -> Self {
        Self::at(salt, key_hash(salt, collection, id_key), version)
    }

    /// The item of a document that is named by the hash of its key.
    pub(crate) fn at(salt: &Salt, key: KeyedHash, version: &VersionVector) -> Self {
        let Ok(item) = Self::try_at(salt, key, version.iter().map(Ok::<_, Infallible>));
        item
    }

    /// [`Item::at`] for a version as [`VersionVector::encode`] writes it, without the limit on actors:
    /// documents merge beyond what a message may name.
    pub(crate) fn at_encoded(
        salt: &Salt,
        key: KeyedHash,
        version: &[u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(version);
        let count = reader.varint()?;
        let dots = (0..count).map(|_| {
            let actor = ActorId(reader.array()?);
            let n = reader.varint()?;
            Ok(Dot { actor, n })
        });
        Self::try_at(salt, key, dots)
    }

    fn try_at<E>(
        salt: &Salt,
        key: KeyedHash,
        version: impl Iterator<Item = Result<Dot, E>>,
    ) -> Result<Self, E> {
        // The version is bound to the key. Documents of one transaction have equal version vectors:
        // with a hash of the vector alone, two of them that both went from one version to another
        // would cancel out, and two with equal tags would be one item.
        let mut hasher = salt.hasher();
        let mut start = [HASH_OF_VERSION; 9];
        start[1..].copy_from_slice(&key);
        hasher.write(&start);
        for dot in version {
            let dot = dot?;
            let mut entry = [0; 24];
            entry[..16].copy_from_slice(&dot.actor.0);
            entry[16..].copy_from_slice(&dot.n.to_le_bytes());
            hasher.write(&entry);
        }
        Ok(Self {
            tag: tag_of(key),
            version: hasher.finish().to_le_bytes(),
        })
    }

    /// Tag, then version.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.tag);
        bytes[4..].copy_from_slice(&self.version);
        bytes
    }

    /// Reads [`Item::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, version @ ..] = bytes;
        Self {
            tag: [a, b, c, d],
            version,
        }
    }

    /// The hash that says which symbols the item is part of, and that proves it when it is found.
    pub(super) fn hash(self, salt: &Salt) -> u64 {
        let mut text = [HASH_OF_ITEM; 1 + Self::BYTES];
        text[1..].copy_from_slice(&self.to_bytes());
        salt.hasher().hash(&text)
    }
}

/// The hash of a document's key under a salt. Items of the document begin with its first four bytes.
pub type KeyedHash = [u8; 8];

/// Names a document, given its id as the bytes of [`DocId::to_key`].
pub fn key_hash(salt: &Salt, collection: &CollectionName, id_key: &[u8]) -> KeyedHash {
    let name = collection.as_str().as_bytes();
    let name_bytes = u8::try_from(name.len()).expect("a name has at most 128 bytes");
    let mut hasher = salt.hasher();
    hasher.write(&[HASH_OF_KEY, name_bytes]);
    hasher.write(name);
    hasher.write(id_key);
    hasher.finish().to_le_bytes()
}

/// What the items of a document begin with.
pub(crate) fn tag_of(key: KeyedHash) -> [u8; 4] {
    let [a, b, c, d, ..] = key;
    [a, b, c, d]
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item(")?;
        self.tag
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(":")?;
        self.version
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

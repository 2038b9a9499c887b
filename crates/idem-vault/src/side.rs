//! The side file of a store: its data keys, wrapped under the app's key.
//!
//! `docs/format/disk.md`, "Encryption", has the layout.

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::{VaultError, cipher::NONCE_BYTES, key::KeyDerivation};

/// The name of the side file in the directory of a store.
pub const SIDE_FILE: &str = "idem.keys";

const MAGIC: &[u8; 8] = b"idemkeys";
const VERSION: u8 = 1;
/// XChaCha20-Poly1305 for content, BLAKE3 for deriving keys and hashing names.
const SCHEME: u8 = 1;
const NO_DERIVATION: u8 = 0;
const ARGON2ID: u8 = 1;

const HEAD_BYTES: usize = 8 + 4 + 16 + 8 + 16;
const ENTRY_BYTES: usize = 4 + NONCE_BYTES + 32 + 16;
const TAIL_BYTES: usize = 32 + 8;

/// Data keys that a store may have at a time. Two while one takes the place of the other; a rotation that
/// begins before the last one ended adds one more.
pub(crate) const KEYS_MAX: usize = 16;

/// What a side file says without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SideFacts {
    /// How content is sealed.
    pub scheme: &'static str,
    /// The random name of the store that the keys are of.
    pub store_id: [u8; 16],
    /// How a passphrase becomes the key, if the store has one.
    pub derivation: Option<KeyDerivation>,
    /// The ids of its data keys. More than one means that a rotation has not ended.
    pub keys: Vec<u32>,
    /// The id of the key that new data is sealed under.
    pub current: u32,
}

/// A data key in the clear.
pub(crate) type Secret = (u32, Zeroizing<[u8; 32]>);

/// A decoded side file.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) facts: SideFacts,
    pub(crate) salt: [u8; 16],
    entries: Vec<Entry>,
    signed: Vec<u8>,
    mac: [u8; 32],
}

#[derive(Clone)]
struct Entry {
    id: u32,
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; 32],
    tag: [u8; 16],
}

/// What stands before the keys, and what every key is bound to.
fn encode_head(store_id: &[u8; 16], derivation: Option<KeyDerivation>, salt: &[u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(MAGIC);
    let kind = match derivation {
        None => NO_DERIVATION,
        Some(_) => ARGON2ID,
    };
    bytes.extend_from_slice(&[VERSION, SCHEME, kind, 0]);
    bytes.extend_from_slice(store_id);
    let costs = derivation.map_or([0, 0], |it| [it.memory_kib, it.rounds]);
    costs
        .iter()
        .for_each(|cost| bytes.extend_from_slice(&cost.to_be_bytes()));
    bytes.extend_from_slice(salt);
    bytes
}

fn signing_key(wrapping: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(
        "idem 2026-11 store: key file mac",
        wrapping,
    ))
}

/// The bytes of a side file.
pub(crate) fn encode(
    store_id: &[u8; 16],
    derivation: Option<(KeyDerivation, [u8; 16])>,
    current: u32,
    keys: &[Secret],
    wrapping: &[u8; 32],
    mut nonce: impl FnMut() -> Result<[u8; NONCE_BYTES], VaultError>,
) -> Result<Vec<u8>, VaultError> {
    assert!(
        (1..=KEYS_MAX).contains(&keys.len()),
        "bounded by the caller"
    );
    let salt = derivation.map_or([0; 16], |(_, salt)| salt);
    let mut bytes = encode_head(store_id, derivation.map(|(costs, _)| costs), &salt);
    let head = bytes.clone();
    let aead = XChaCha20Poly1305::new(wrapping.into());
    bytes.extend_from_slice(&current.to_be_bytes());
    let count = u32::try_from(keys.len()).expect("bounded above");
    bytes.extend_from_slice(&count.to_be_bytes());
    for (id, secret) in keys {
        let nonce = nonce()?;
        let mut wrapped = Zeroizing::new(**secret);
        let place = [&head[..], &id.to_be_bytes()].concat();
        let tag = aead
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &place, &mut *wrapped)
            .expect("32 bytes");
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&*wrapped);
        bytes.extend_from_slice(&tag);
    }
    let mac = blake3::keyed_hash(&signing_key(wrapping), &bytes);
    bytes.extend_from_slice(mac.as_bytes());
    let check = blake3::hash(&bytes);
    bytes.extend_from_slice(&check.as_bytes()[..8]);
    Ok(bytes)
}

/// Reads a side file without its key. Strict: it takes nothing that [`encode`] would not have written.
pub(crate) fn decode(bytes: &[u8]) -> Result<Side, VaultError> {
    let short = || VaultError::corrupt("it is too short");
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(short)?;
    if !head.starts_with(MAGIC) {
        return Err(VaultError::corrupt("it does not begin as one"));
    }
    let [version, scheme, kind, reserved] = [head[8], head[9], head[10], head[11]];
    let (body, check) = bytes.split_last_chunk::<8>().ok_or_else(short)?;
    let is_whole = blake3::hash(body).as_bytes()[..8] == *check;
    let unsupported = |what: &str, number: u8| {
        // One that fits its checksum was written so; else it is damage.
        match is_whole || version > VERSION {
            true => VaultError::UnsupportedScheme {
                what: format!("{what} {number}"),
            },
            false => VaultError::corrupt("it is damaged"),
        }
    };
    if version != VERSION {
        return Err(unsupported("version", version));
    }
    if !is_whole {
        return Err(VaultError::corrupt("it is damaged"));
    }
    if scheme != SCHEME {
        return Err(unsupported("scheme", scheme));
    }
    if kind > ARGON2ID {
        return Err(unsupported("derivation", kind));
    }
    let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().expect("in the head"));
    let store_id: [u8; 16] = *head[12..].first_chunk().expect("in the head");
    let salt: [u8; 16] = *head[36..].first_chunk().expect("in the head");
    let costs = KeyDerivation {
        memory_kib: number(28),
        rounds: number(32),
    };
    let derivation = (kind == ARGON2ID).then_some(costs);
    if derivation.is_some_and(|costs| !costs.is_valid()) {
        return Err(VaultError::corrupt(
            "its costs of a passphrase are out of range",
        ));
    }
    if reserved != 0 || encode_head(&store_id, derivation, &salt) != head {
        return Err(VaultError::corrupt("it is not in its one form"));
    }
    if derivation.is_none() && salt != [0; 16] {
        return Err(VaultError::corrupt("it is not in its one form"));
    }
    let (signed, tail) = bytes
        .split_at_checked(bytes.len().saturating_sub(TAIL_BYTES))
        .filter(|(signed, _)| signed.len() >= HEAD_BYTES + 8)
        .ok_or_else(short)?;
    let (current, entries) = decode_list(&rest[..signed.len() - HEAD_BYTES])?;
    Ok(Side {
        facts: SideFacts {
            scheme: "XChaCha20-Poly1305, BLAKE3",
            store_id,
            derivation,
            keys: entries.iter().map(|entry| entry.id).collect(),
            current,
        },
        salt,
        entries,
        signed: signed.to_vec(),
        mac: *tail.first_chunk().expect("32 of 40 bytes"),
    })
}

/// Which key is current, and all of them.
fn decode_list(listed: &[u8]) -> Result<(u32, Vec<Entry>), VaultError> {
    let current = u32::from_be_bytes(*listed.first_chunk().expect("checked above"));
    let count = u32::from_be_bytes(*listed[4..].first_chunk().expect("checked above"));
    let entries = &listed[8..];
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 || count > KEYS_MAX || entries.len() != count * ENTRY_BYTES {
        return Err(VaultError::corrupt(
            "its list of keys does not fit its length",
        ));
    }
    let entries: Vec<Entry> = entries.chunks_exact(ENTRY_BYTES).map(entry).collect();
    let rises = entries.is_sorted_by(|one, two| one.id < two.id);
    // Whoever is current is the last one; an id of 0 would look like a sector that was never written.
    if !rises || entries[0].id == 0 || entries[count - 1].id != current {
        return Err(VaultError::corrupt("its list of keys is not in order"));
    }
    Ok((current, entries))
}

fn entry(bytes: &[u8]) -> Entry {
    Entry {
        id: u32::from_be_bytes(*bytes.first_chunk().expect("an entry")),
        nonce: *bytes[4..].first_chunk().expect("an entry"),
        wrapped: *bytes[28..].first_chunk().expect("an entry"),
        tag: *bytes[60..].first_chunk().expect("an entry"),
    }
}

impl Side {
    /// The data keys.
    pub(crate) fn unwrap(&self, wrapping: &[u8; 32]) -> Result<Vec<Secret>, VaultError> {
        let wrong = || VaultError::invalid("the key is not that of this store");
        let aead = XChaCha20Poly1305::new(wrapping.into());
        let head = &self.signed[..HEAD_BYTES];
        let mut keys = Vec::new();
        for entry in &self.entries {
            let mut secret = Zeroizing::new(entry.wrapped);
            let place = [head, &entry.id.to_be_bytes()].concat();
            aead.decrypt_in_place_detached(
                XNonce::from_slice(&entry.nonce),
                &place,
                &mut *secret,
                Tag::from_slice(&entry.tag),
            )
            .map_err(|_| match keys.is_empty() {
                true => wrong(),
                false => VaultError::corrupt("one of its keys was put in by somebody else"),
            })?;
            keys.push((entry.id, secret));
        }
        let mac = blake3::keyed_hash(&signing_key(wrapping), &self.signed);
        if mac != blake3::Hash::from(self.mac) {
            return Err(VaultError::corrupt(
                "its list of keys was changed by somebody else",
            ));
        }
        Ok(keys)
    }
}

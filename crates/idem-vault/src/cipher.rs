//! Sealing and opening, each purpose with keys of its own.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use chacha20poly1305::{AeadInPlace as _, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::VaultError;

/// Bytes of a [`Seal`]: key id, nonce, tag.
pub const SEAL_BYTES: usize = 4 + NONCE_BYTES + 16;

/// Bytes of a nonce of XChaCha20-Poly1305.
pub(crate) const NONCE_BYTES: usize = 24;

/// What stands beside sealed bytes: the id of the key, big-endian, the nonce and the tag. It is no secret.
pub type Seal = [u8; SEAL_BYTES];

/// What is sealed. Each purpose has keys of its own, so that bytes of one never pass for those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sectors of the engine's file.
    Engine,
    /// Frames of the log.
    Log,
    /// Sectors of the content of attachments.
    Blobs,
    /// The names of those files.
    Names,
    /// Who the peer is.
    Identity,
}

const PURPOSES: [Purpose; 5] = [
    Purpose::Engine,
    Purpose::Log,
    Purpose::Blobs,
    Purpose::Names,
    Purpose::Identity,
];

impl Purpose {
    fn contexts(self) -> [&'static str; 2] {
        match self {
            Self::Engine => [
                "idem 2026-11 store: engine",
                "idem 2026-11 store: engine mac",
            ],
            Self::Log => ["idem 2026-11 store: log", "idem 2026-11 store: log mac"],
            Self::Blobs => ["idem 2026-11 store: blobs", "idem 2026-11 store: blobs mac"],
            Self::Names => ["idem 2026-11 store: names", "idem 2026-11 store: names mac"],
            Self::Identity => [
                "idem 2026-11 store: identity",
                "idem 2026-11 store: identity mac",
            ],
        }
    }
}

/// Sealed bytes are not what was written there, or were written under a key that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("encrypted bytes are damaged, or not from this store")]
pub struct Unsealed;

impl From<Unsealed> for std::io::Error {
    fn from(error: Unsealed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The data keys that a store has now.
pub(crate) struct Ring {
    pub(crate) current: u32,
    pub(crate) keys: Vec<DataKey>,
}

/// One data key and what follows from it.
pub(crate) struct DataKey {
    pub(crate) id: u32,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    purposes: [PurposeKeys; PURPOSES.len()],
}

struct PurposeKeys {
    /// Wipes its key when dropped.
    aead: XChaCha20Poly1305,
    mac: Zeroizing<[u8; 32]>,
}

impl DataKey {
    pub(crate) fn new(id: u32, secret: Zeroizing<[u8; 32]>) -> Self {
        let purposes = PURPOSES.map(|purpose| {
            let [key, mac] = purpose.contexts();
            let key = Zeroizing::new(blake3::derive_key(key, &*secret));
            PurposeKeys {
                aead: XChaCha20Poly1305::new((&*key).into()),
                mac: Zeroizing::new(blake3::derive_key(mac, &*secret)),
            }
        });
        Self {
            id,
            secret,
            purposes,
        }
    }

    fn of(&self, purpose: Purpose) -> &PurposeKeys {
        &self.purposes[purpose as usize]
    }
}

impl Ring {
    fn key(&self, id: u32) -> Option<&DataKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    fn newest(&self) -> &DataKey {
        self.key(self.current)
            .expect("the current key is in the ring")
    }
}

/// Where ciphers find the keys, which a rotation replaces.
pub(crate) type SharedRing = Arc<RwLock<Arc<Ring>>>;

/// Seals and opens for one purpose, from any thread. Clones share their nonces.
#[derive(Clone)]
pub struct Cipher {
    ring: SharedRing,
    purpose: Purpose,
    nonces: Arc<Nonces>,
}

/// Nonces that never repeat, without asking the system each time.
struct Nonces {
    opening: [u8; 16],
    count: AtomicU64,
}

impl Nonces {
    fn next(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..16].copy_from_slice(&self.opening);
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        assert!(count < u64::MAX, "2^64 seals take centuries");
        nonce[16..].copy_from_slice(&count.to_be_bytes());
        nonce
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher({:?})", self.purpose)
    }
}

impl Cipher {
    pub(crate) fn new(ring: SharedRing, purpose: Purpose) -> Result<Self, VaultError> {
        let mut opening = [0; 16];
        getrandom::fill(&mut opening).map_err(|_| VaultError::Entropy)?;
        Ok(Self::with_nonces(ring, purpose, opening))
    }

    pub(crate) fn with_nonces(ring: SharedRing, purpose: Purpose, opening: [u8; 16]) -> Self {
        let nonces = Arc::new(Nonces {
            opening,
            count: AtomicU64::new(0),
        });
        Self {
            ring,
            purpose,
            nonces,
        }
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key that seals now.
    pub fn current_key(&self) -> u32 {
        self.ring().current
    }

    /// Encrypts `bytes` in place and binds them to `place`, which has to be given again to open them.
    pub fn seal(&self, place: &[u8], bytes: &mut [u8]) -> Seal {
        let nonce = self.nonces.next();
        self.seal_with(place, bytes, &nonce)
    }

    fn seal_with(&self, place: &[u8], bytes: &mut [u8], nonce: &[u8; NONCE_BYTES]) -> Seal {
        let ring = self.ring();
        let key = ring.newest();
        let tag = key
            .of(self.purpose)
            .aead
            .encrypt_in_place_detached(XNonce::from_slice(nonce), place, bytes)
            .expect("sealed pieces are far below 256 GiB");
        let mut seal = [0; SEAL_BYTES];
        seal[..4].copy_from_slice(&key.id.to_be_bytes());
        seal[4..28].copy_from_slice(nonce);
        seal[28..].copy_from_slice(&tag);
        seal
    }

    /// Decrypts `bytes` in place if they are what was sealed for `place`. Otherwise they are as they were.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open(&self, place: &[u8], seal: &Seal, bytes: &mut [u8]) -> Result<(), Unsealed> {
        let ring = self.ring();
        let key = ring.key(key_of(seal)).ok_or(Unsealed)?;
        let nonce = XNonce::from_slice(&seal[4..28]);
        let tag = Tag::from_slice(&seal[28..]);
        let opened = key
            .of(self.purpose)
            .aead
            .decrypt_in_place_detached(nonce, place, bytes, tag);
        opened.map_err(|_| Unsealed)
    }

    /// A short keyed hash of `parts`, under the key `id`.
    pub(crate) fn mac(&self, id: u32, parts: &[&[u8]]) -> Result<[u8; 32], Unsealed> {
        let ring = self.ring();
        let key = ring.key(id).ok_or(Unsealed)?;
        let mut hasher = blake3::Hasher::new_keyed(&key.of(self.purpose).mac);
        for part in parts {
            hasher.update(part);
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Seals deterministically under the key `id`: equal bytes have equal seals, and nothing else is told.
    pub(crate) fn seal_named(&self, id: u32, bytes: &mut [u8]) -> Result<[u8; 40], Unsealed> {
        let mac = self.mac(id, &[bytes])?;
        let ring = self.ring();
        let key = ring.key(id).ok_or(Unsealed)?;
        let nonce: [u8; NONCE_BYTES] = *mac.first_chunk().expect("24 of 32 bytes");
        let tag = key
            .of(self.purpose)
            .aead
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), &[], bytes)
            .expect("names are short");
        let mut sealed = [0; 40];
        sealed[..NONCE_BYTES].copy_from_slice(&nonce);
        sealed[NONCE_BYTES..].copy_from_slice(&tag);
        Ok(sealed)
    }

    pub(crate) fn open_named(
        &self,
        id: u32,
        sealed: &[u8; 40],
        bytes: &mut [u8],
    ) -> Result<(), Unsealed> {
        let mut seal = [0; SEAL_BYTES];
        seal[..4].copy_from_slice(&id.to_be_bytes());
        seal[4..].copy_from_slice(sealed);
        self.open(&[], &seal, bytes)
    }
}

/// The id of the key that made a seal.
pub(crate) fn key_of(seal: &Seal) -> u32 {
    u32::from_be_bytes(*seal.first_chunk().expect("four bytes"))
}

//! The keys of one store while it is open.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use zeroize::Zeroizing;

use crate::{
    Cipher, KeyDerivation, Purpose, SIDE_FILE, SideFacts, StoreKey, VaultError,
    cipher::{DataKey, NONCE_BYTES, Ring, SharedRing},
    side::{self, KEYS_MAX, Secret, Side},
};

/// A side file that is larger is none.
const SIDE_FILE_BYTES_MAX: u64 = 4096;

/// Whether a directory holds an encrypted store, as far as its side file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// There is no side file.
    Plain,
    /// There is one.
    Encrypted(SideFacts),
}

/// The keys of an open store. Clones share them.
#[derive(Clone)]
pub struct Vault {
    shared: Arc<Shared>,
}

struct Shared {
    ring: SharedRing,
    /// Held while the side file is replaced.
    side: Mutex<Held>,
}

struct Held {
    /// None for a store that lives in memory.
    path: Option<PathBuf>,
    store_id: [u8; 16],
    derivation: Option<(KeyDerivation, [u8; 16])>,
    wrapping: Zeroizing<[u8; 32]>,
    current: u32,
    /// The keys in the side file. The ring may have more: what is still open may need them.
    keys: Vec<Secret>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// Reads what the side file in `directory` says without its key.
    ///
    /// # Errors
    /// [`VaultError::MetadataCorrupt`], [`VaultError::UnsupportedScheme`], [`VaultError::Io`].
    pub fn inspect(directory: &Path) -> Result<Presence, VaultError> {
        Ok(match read(&directory.join(SIDE_FILE))? {
            None => Presence::Plain,
            Some(side) => Presence::Encrypted(side.facts),
        })
    }

    /// Opens the keys of the store in `directory`.
    ///
    /// # Errors
    /// [`VaultError::KeyUnexpected`] if there is no side file, [`VaultError::KeyInvalid`], and as
    /// [`inspect`](Self::inspect).
    pub fn open(directory: &Path, key: &StoreKey) -> Result<Self, VaultError> {
        let path = directory.join(SIDE_FILE);
        let side = read(&path)?.ok_or(VaultError::KeyUnexpected)?;
        let Side { facts, salt, .. } = &side;
        let derivation = facts.derivation.map(|costs| (costs, *salt));
        let wrapping = key.wrapping_key(&facts.store_id, derivation)?;
        let keys = side.unwrap(&wrapping)?;
        Ok(Self::of(Held {
            path: Some(path),
            store_id: facts.store_id,
            derivation,
            wrapping,
            current: facts.current,
            keys,
        }))
    }

    /// Makes the keys of a store in `directory`, which has no side file.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Entropy`], [`VaultError::KeyInvalid`].
    pub fn create(directory: &Path, key: &StoreKey) -> Result<Self, VaultError> {
        let mut store_id = [0; 16];
        getrandom::fill(&mut store_id).map_err(|_| VaultError::Entropy)?;
        let derivation = salted(key)?;
        let held = Held {
            path: Some(directory.join(SIDE_FILE)),
            store_id,
            derivation,
            wrapping: key.wrapping_key(&store_id, derivation)?,
            current: 1,
            keys: vec![(1, random_secret()?)],
        };
        held.write()?;
        Ok(Self::of(held))
    }

    /// Keys that nothing keeps: for tests, and for what lives in memory.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn in_memory() -> Result<Self, VaultError> {
        Ok(Self::of(Held {
            path: None,
            store_id: [0; 16],
            derivation: None,
            wrapping: random_secret()?,
            current: 1,
            keys: vec![(1, random_secret()?)],
        }))
    }

    fn of(held: Held) -> Self {
        let keys = held.keys.iter();
        let keys = keys.map(|(id, secret)| DataKey::new(*id, secret.clone()));
        let ring = Arc::new(Ring {
            current: held.current,
            keys: keys.collect(),
        });
        Self {
            shared: Arc::new(Shared {
                ring: Arc::new(RwLock::new(ring)),
                side: Mutex::new(held),
            }),
        }
    }

    /// What seals for one purpose. To be made once for each opening.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn cipher(&self, purpose: Purpose) -> Result<Cipher, VaultError> {
        Cipher::new(Arc::clone(&self.shared.ring), purpose)
    }

    /// What the side file says.
    pub fn facts(&self) -> SideFacts {
        let held = self.held();
        SideFacts {
            scheme: "XChaCha20-Poly1305, BLAKE3",
            store_id: held.store_id,
            derivation: held.derivation.map(|(costs, _)| costs),
            keys: held.keys.iter().map(|(id, _)| *id).collect(),
            current: held.current,
        }
    }

    /// Whether data may still be under an older key.
    pub fn is_rotating(&self) -> bool {
        self.held().keys.len() > 1
    }

    /// Adds a data key, durably, and seals with it from now on. What was sealed before has to be sealed anew
    /// by whoever keeps it, and then [`retire`](Self::retire) drops the older keys.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Entropy`]; the key that seals is the one before.
    pub fn begin_rotation(&self) -> Result<u32, VaultError> {
        let mut held = self.held();
        if held.keys.len() >= KEYS_MAX {
            return Err(VaultError::corrupt("too many rotations are under way"));
        }
        let id = held.current + 1;
        let secret = random_secret()?;
        let mut next = held.copy();
        next.keys.push((id, secret.clone()));
        next.current = id;
        next.write()?;
        *held = next;
        let mut ring = self.ring();
        let mut keys: Vec<DataKey> = ring.keys.iter().map(DataKey::copy).collect();
        keys.push(DataKey::new(id, secret));
        *ring = Arc::new(Ring { current: id, keys });
        Ok(id)
    }

    /// Drops all data keys but the one that seals from the side file. What is still sealed under them on disk
    /// cannot be read after the next opening, by nobody. Does nothing, and gives false, if it is another one
    /// than `current` that seals: then a rotation began since the caller looked.
    ///
    /// # Errors
    /// [`VaultError::Io`].
    pub fn retire(&self, current: u32) -> Result<bool, VaultError> {
        let mut held = self.held();
        if held.current != current {
            return Ok(false);
        }
        let mut next = held.copy();
        next.keys.retain(|(id, _)| *id == current);
        next.write()?;
        *held = next;
        Ok(true)
    }

    /// Locks the store with another key. Data is not touched.
    ///
    /// # Errors
    /// [`VaultError::Io`], [`VaultError::Entropy`], [`VaultError::KeyInvalid`].
    pub fn change_key(&self, key: &StoreKey) -> Result<(), VaultError> {
        let mut held = self.held();
        let mut next = held.copy();
        next.derivation = salted(key)?;
        next.wrapping = key.wrapping_key(&next.store_id, next.derivation)?;
        next.write()?;
        *held = next;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // It is replaced as a whole.
        self.shared
            .side
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> std::sync::RwLockWriteGuard<'_, Arc<Ring>> {
        self.shared
            .ring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataKey {
    fn copy(&self) -> Self {
        Self::new(self.id, self.secret.clone())
    }
}

impl Held {
    fn copy(&self) -> Self {
        Self {
            path: self.path.clone(),
            store_id: self.store_id,
            derivation: self.derivation,
            wrapping: self.wrapping.clone(),
            current: self.current,
            keys: self.keys.clone(),
        }
    }

    /// Writes the side file beside the one that is there, and puts it in its place.
    fn write(&self) -> Result<(), VaultError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let bytes = side::encode(
            &self.store_id,
            self.derivation,
            self.current,
            &self.keys,
            &self.wrapping,
            || {
                let mut nonce = [0; NONCE_BYTES];
                getrandom::fill(&mut nonce).map_err(|_| VaultError::Entropy)?;
                Ok(nonce)
            },
        )?;
        replace(path, &bytes).map_err(VaultError::io("write", path))
    }
}

fn salted(key: &StoreKey) -> Result<Option<(KeyDerivation, [u8; 16])>, VaultError> {
    let Some(costs) = key.derivation() else {
        return Ok(None);
    };
    if !costs.is_valid() {
        return Err(VaultError::invalid(
            "the costs of the passphrase are out of range",
        ));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| VaultError::Entropy)?;
    Ok(Some((costs, salt)))
}

fn random_secret() -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|_| VaultError::Entropy)?;
    Ok(secret)
}

fn read(path: &Path) -> Result<Option<Side>, VaultError> {
    let failed = || VaultError::io("read", path);
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(failed())?,
    };
    if found.len() > SIDE_FILE_BYTES_MAX {
        return Err(VaultError::corrupt("it is too long"));
    }
    side::decode(&fs::read(path).map_err(failed())?).map(Some)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("keys.part");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    // Other systems open no directories, and journal them by themselves.
    #[cfg(unix)]
    if let Some(parent) = std::path::absolute(path)?.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The key that an app has.

use std::{fmt, fs, io::Write as _, path::Path};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::VaultError;

const HEAD: &str = "idem store key 1";

/// The largest key file that is looked at.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// The largest memory that a side file may ask for, in KiB: 1 GiB. A thief who writes a larger number must
/// not bring a device down.
pub(crate) const MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most rounds that a side file may ask for.
pub(crate) const ROUNDS_MAX: u32 = 64;

/// The secret that opens an encrypted store. It is wiped from memory when dropped, and never printed.
///
/// Whoever loses it has lost the store: there is no other way in.
#[derive(Clone)]
pub struct StoreKey(Secret);

#[derive(Clone)]
enum Secret {
    Bytes(Zeroizing<[u8; 32]>),
    Passphrase(Zeroizing<String>, KeyDerivation),
}

/// How a passphrase becomes a key: Argon2id. It stands in the side file, so a store opens with what it was
/// made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyDerivation {
    /// Memory in KiB. Default: 65,536, which is 64 MiB; from 8 to 1,048,576. Each guess of a thief takes as much.
    pub memory_kib: u32,
    /// Rounds. Default: 3, together about 0.2 s on a desktop; from 1 to 64.
    pub rounds: u32,
}

impl Default for KeyDerivation {
    fn default() -> Self {
        // RFC 9106, the second recommended choice, with one lane: phones gain nothing from four.
        Self {
            memory_kib: 64 * 1024,
            rounds: 3,
        }
    }
}

impl KeyDerivation {
    pub(crate) fn is_valid(self) -> bool {
        (8..=MEMORY_KIB_MAX).contains(&self.memory_kib) && (1..=ROUNDS_MAX).contains(&self.rounds)
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

impl StoreKey {
    /// Takes 32 bytes of good randomness.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::Bytes(Zeroizing::new(bytes)))
    }

    /// Draws one from the system's randomness.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn generate() -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(|_| VaultError::Entropy)?;
        Ok(Self(Secret::Bytes(bytes)))
    }

    /// Derives the key from a passphrase with Argon2id, when a store is opened. That takes time and memory on
    /// purpose, and makes guessing dear, not impossible: six random words are good, a word is none.
    pub fn from_passphrase(passphrase: &str) -> Self {
        Self::from_passphrase_with(passphrase, KeyDerivation::default())
    }

    /// [`from_passphrase`](Self::from_passphrase) with other costs for a store that has to be made. A store
    /// that is there has its own.
    pub fn from_passphrase_with(passphrase: &str, derivation: KeyDerivation) -> Self {
        Self(Secret::Passphrase(
            Zeroizing::new(passphrase.to_owned()),
            derivation,
        ))
    }

    /// Reads a file that [`write_file`](Self::write_file) wrote.
    ///
    /// # Errors
    /// [`VaultError::Io`]; [`VaultError::KeyInvalid`] if the file is damaged or no key file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, VaultError> {
        let path = path.as_ref();
        let failed = || VaultError::io("read", path);
        let bytes = fs::metadata(path).map_err(failed())?.len();
        let invalid = |what: &str| VaultError::invalid(format!("{} {what}", path.display()));
        if bytes > KEY_FILE_BYTES_MAX {
            return Err(invalid("is not a key file of a store"));
        }
        let text = Zeroizing::new(fs::read(path).map_err(failed())?);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(invalid("is not a key file of a store"));
        }
        let (Some(key), Some(check)) = (
            lines.next().and_then(from_hex::<32>),
            lines.next().and_then(from_hex::<4>),
        ) else {
            return Err(invalid("is a damaged key file"));
        };
        if check_of(&key) != *check {
            return Err(invalid("is a damaged key file"));
        }
        Ok(Self(Secret::Bytes(key)))
    }

    /// Writes a new file that holds the key, readable by its owner only. A passphrase has no file.
    ///
    /// # Errors
    /// [`VaultError::Io`], also if the file is there; [`VaultError::KeyInvalid`] for a passphrase.
    pub fn write_file(&self, path: impl AsRef<Path>) -> Result<(), VaultError> {
        let path = path.as_ref();
        let Secret::Bytes(key) = &self.0 else {
            return Err(VaultError::invalid("a passphrase is not kept in a file"));
        };
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(HEAD);
        text.push('\n');
        push_hex(&mut text, &**key);
        text.push('\n');
        push_hex(&mut text, &check_of(key));
        text.push('\n');
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(VaultError::io("create", path))?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(VaultError::io("write", path))
    }

    /// What a store is made with: nothing for bytes, the costs for a passphrase.
    pub(crate) fn derivation(&self) -> Option<KeyDerivation> {
        match &self.0 {
            Secret::Bytes(_) => None,
            Secret::Passphrase(_, derivation) => Some(*derivation),
        }
    }

    /// The key that wraps the data keys of the store `id`.
    pub(crate) fn wrapping_key(
        &self,
        id: &[u8; 16],
        derivation: Option<(KeyDerivation, [u8; 16])>,
    ) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let mut secret = Zeroizing::new([0; 48]);
        match (&self.0, derivation) {
            (Secret::Bytes(bytes), None) => secret[..32].copy_from_slice(&**bytes),
            (Secret::Passphrase(passphrase, _), Some((costs, salt))) => {
                let params = Params::new(costs.memory_kib, costs.rounds, 1, Some(32));
                let params = params.map_err(|_| {
                    VaultError::invalid("the costs of the passphrase are out of range")
                })?;
                let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let derived =
                    argon.hash_password_into(passphrase.as_bytes(), &salt, &mut secret[..32]);
                derived.map_err(|_| VaultError::invalid("the passphrase cannot be used"))?;
            }
            (Secret::Bytes(_), Some(_)) => {
                return Err(VaultError::invalid(
                    "the key does not open the store, which is locked with a passphrase",
                ));
            }
            (Secret::Passphrase(..), None) => {
                return Err(VaultError::invalid(
                    "the passphrase does not open the store, which is locked with a key of 32 bytes",
                ));
            }
        }
        secret[32..].copy_from_slice(id);
        let key = blake3::derive_key("idem 2026-11 store: wrapping of data keys", &*secret);
        Ok(Zeroizing::new(key))
    }
}

/// Tells a damaged key file from a wrong one. Four bytes of a hash say nothing of 32 random ones.
fn check_of(key: &[u8; 32]) -> [u8; 4] {
    let hash = blake3::derive_key("idem 2026-11 store key file: check", key);
    [hash[0], hash[1], hash[2], hash[3]]
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("below 16"));
        }
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..2 * N).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_comes_back_and_damage_is_named_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = StoreKey::from_bytes([7; 32]);
        key.write_file(&path).unwrap();
        let found = StoreKey::from_file(&path).unwrap();
        let id = [1; 16];
        assert_eq!(
            *found.wrapping_key(&id, None).unwrap(),
            *key.wrapping_key(&id, None).unwrap()
        );
        assert!(
            matches!(key.write_file(&path), Err(VaultError::Io { .. })),
            "never overwritten"
        );

        let text = fs::read(&path).unwrap();
        for at in 0..text.len() {
            for change in [1, 2, 0x20] {
                let mut damaged = text.clone();
                damaged[at] ^= change;
                fs::write(&path, &damaged).unwrap();
                match StoreKey::from_file(&path) {
                    Err(error) => {
                        assert!(matches!(error, VaultError::KeyInvalid { .. }), "{error}");
                        assert!(!error.to_string().contains("0707"), "{error}");
                    }
                    // Upper case of a digit, another kind of line end at the end.
                    Ok(found) => assert_eq!(
                        *found.wrapping_key(&id, None).unwrap(),
                        *key.wrapping_key(&id, None).unwrap(),
                        "byte {at}"
                    ),
                }
            }
        }
        for cut in 0..text.len() - 1 {
            fs::write(&path, &text[..cut]).unwrap();
            StoreKey::from_file(&path).unwrap_err();
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_a_key_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        StoreKey::generate().unwrap().write_file(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn nothing_prints_a_key() {
        let key = StoreKey::from_bytes([0xAB; 32]);
        assert_eq!(format!("{key:?}"), "StoreKey(..)");
        let key = StoreKey::from_passphrase("correct horse");
        assert_eq!(format!("{key:?}"), "StoreKey(..)");
    }
}

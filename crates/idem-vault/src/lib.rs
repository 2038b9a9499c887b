//! Encryption at rest: the keys of a store, and what seals and opens the bytes of its files.
//!
//! An app has a [`StoreKey`]. With it a [`Vault`] opens the side file `idem.keys` of a store, which holds the
//! store's data keys, each wrapped under the app's key. From the data keys follow [`Cipher`]s, one per
//! [`Purpose`], which engine, log, blobs and identity seal with. So the app's key can be changed without
//! touching data, the data keys can be replaced in the background, and a store whose side file is gone is
//! wiped. `docs/format/disk.md` ("Encryption") describes the bytes, `docs/security.md` what it is good for.
//!
//! This crate knows no files but the side file and key files: where sealed bytes lie is up to whoever seals.
//!
//! # Invariants
//!
//! - No secret is printed, logged, or part of an error; secrets are wiped from memory when dropped.
//! - No nonce is used twice under one key: each cipher draws 16 random bytes when it is made and counts in
//!   the other 8.
//! - The side file is replaced wholly or not at all.
//!
//! ```
//! use idem_vault::{Purpose, StoreKey, Vault};
//!
//! # fn main() -> Result<(), idem_vault::VaultError> {
//! let vault = Vault::in_memory()?;
//! let cipher = vault.cipher(Purpose::Identity)?;
//! let mut bytes = *b"a secret";
//! let seal = cipher.seal(b"where it lies", &mut bytes);
//! assert_ne!(bytes, *b"a secret");
//! cipher.open(b"where it lies", &seal, &mut bytes)?;
//! assert_eq!(bytes, *b"a secret");
//! assert!(cipher.open(b"elsewhere", &seal, &mut bytes).is_err());
//! # Ok(())
//! # }
//! ```

mod cipher;
mod error;
mod frame;
mod key;
mod names;
mod sector;
mod side;
mod vault;

pub use cipher::{Cipher, Purpose, SEAL_BYTES, Seal, Unsealed};
pub use error::VaultError;
pub use frame::FRAME_OVERHEAD_BYTES;
pub use key::{KeyDerivation, StoreKey};
pub use names::Names;
pub use sector::{FileId, SEALED_SECTOR_BYTES, SECTOR_BYTES};
pub use side::{SIDE_FILE, SideFacts};
pub use vault::{Presence, Vault};

//! How a peer is opened.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use idem_model::DatabaseId;
use idem_transport::BleBackend;
use idem_vault::StoreKey;
use zeroize::Zeroizing;

use crate::{attachment::AttachmentConfig, auth::AuthorityConfig, identity::NO_DATABASE};

/// A database-wide secret: whoever has it may sync with every peer of the database.
///
/// It is wiped from memory when dropped, and never printed.
#[derive(Clone)]
pub struct SharedKey(Zeroizing<[u8; 32]>);

impl SharedKey {
    /// Takes 32 bytes of good randomness.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Derives a key from a text. The text must be hard to guess (four random words at the very
    /// least): a peer that is lured to an attacker's address gives him something to test guesses on.
    pub fn from_secret(secret: &str) -> Self {
        Self::from_bytes(blake3::derive_key(
            "idem 2026 shared key from text",
            secret.as_bytes(),
        ))
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

/// Who may sync with this peer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectMode {
    /// Peers that hold the same secret, with nobody else involved.
    SharedKey {
        /// The database-wide secret.
        key: SharedKey,
    },
    /// Peers that show a certificate which an authority of the database signed. Works offline as long as certificates
    /// last.
    Authority(AuthorityConfig),
    /// Peers that know the same token. For playgrounds: whoever reads the app's code has it, and everything is open
    /// to them; each start says so in the log and in the events of links.
    Development {
        /// The token, as of [`SharedKey::from_secret`]. Peers with a shared key of the same text do not meet it.
        token: SharedKey,
    },
    /// Nobody: the store works, [`Sync::start`](crate::Sync::start) is an error.
    Offline,
}

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// On disk (fsync): it survives power loss. Concurrent commits share one fsync.
    #[default]
    Durable,
    /// Handed to the operating system: it survives a kill of the process, and is on disk within
    /// 50 ms. Nothing is sent to another peer before it is on disk; while one is linked, it is written
    /// there at once, and the commit still does not wait for it.
    Relaxed,
}

/// How to open an [`Idem`](crate::Idem). Every setting but the database id and the mode has a
/// working default.
#[derive(Debug, Clone)]
pub struct IdemConfig {
    pub(crate) database_id: DatabaseId,
    pub(crate) connect: ConnectMode,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) encryption_key: Option<StoreKey>,
    pub(crate) durability: Durability,
    pub(crate) device_name: String,
    pub(crate) cache_bytes: usize,
    pub(crate) attachments: AttachmentConfig,
    pub(crate) bluetooth: Option<Arc<dyn BleBackend>>,
}

impl IdemConfig {
    /// A peer of the database `database_id`, in memory until a directory is given.
    pub fn new(database_id: DatabaseId, connect: ConnectMode) -> Self {
        Self {
            database_id,
            connect,
            directory: None,
            encryption_key: None,
            durability: Durability::default(),
            device_name: "idem".to_owned(),
            cache_bytes: 16 * 1024 * 1024,
            attachments: AttachmentConfig::new(),
            bluetooth: None,
        }
    }

    /// A peer of whatever database its directory belongs to, that does not sync: for tools that read
    /// and write a store. A directory that it makes belongs to the first database that opens it.
    pub fn local() -> Self {
        Self::new(NO_DATABASE, ConnectMode::Offline)
    }

    /// Keeps the store in `directory`, which is created if it is not there. One process at a time
    /// may have it open. Default: none, everything is in memory and gone with the handle.
    #[must_use]
    pub fn with_persistence_directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Encrypts all that the directory holds: documents, indexes, log, attachments and who the peer is.
    /// Default: none, nothing is encrypted. A directory is encrypted from the first opening on or not at all;
    /// a wrong key, a missing one and one too many are errors of their own
    /// ([`ErrorKind::EncryptionKeyInvalid`](crate::ErrorKind::EncryptionKeyInvalid), ..). Danger: whoever loses the key has lost the store. A store in memory needs no key.
    #[must_use]
    pub fn with_encryption_key(mut self, key: StoreKey) -> Self {
        self.encryption_key = Some(key);
        self
    }

    /// When commits are acknowledged. Default: [`Durability::Durable`].
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The name that other peers see, cut to 24 bytes. Default: `idem`.
    #[must_use]
    pub fn with_device_name(mut self, name: impl Into<String>) -> Self {
        self.device_name = name.into();
        self
    }

    /// Memory for caches, in bytes: a third for documents that are read by their ids or through an
    /// index, the rest for the storage engine's pages. Default: 16 MiB. Small devices do well with
    /// 4 MiB; more than twice the size of the data is wasted.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Bounds of attachments. Default: [`AttachmentConfig::new`].
    #[must_use]
    pub fn with_attachments(mut self, attachments: AttachmentConfig) -> Self {
        self.attachments = attachments;
        self
    }

    /// Uses `backend` for [`BluetoothLeConfig`](crate::BluetoothLeConfig), where this crate knows no Bluetooth
    /// or the app knows it better. Default: that of the system, in a build with the feature `ble` on Linux.
    #[must_use]
    pub fn with_bluetooth_backend(mut self, backend: Arc<dyn BleBackend>) -> Self {
        self.bluetooth = Some(backend);
        self
    }

    /// The database id.
    pub fn database_id(&self) -> DatabaseId {
        self.database_id
    }
}

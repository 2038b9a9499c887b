//! What can go wrong with keys.

use std::{io, path::PathBuf, sync::Arc};

use crate::Unsealed;

/// Why a store's keys cannot be used. No variant carries a secret. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The store is encrypted and no key was given.
    #[error("the store is encrypted: a key is needed to open it")]
    KeyRequired,
    /// A key was given for a store that is not encrypted.
    #[error(
        "the store is not encrypted, but a key was given: open it without one, or copy it into a store that \
         is encrypted"
    )]
    KeyUnexpected,
    /// The key does not open the store, or is no key.
    #[error("{reason}")]
    KeyInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A later version of Idem wrote the store's keys.
    #[error("the store is encrypted in a way that this version does not know ({what})")]
    UnsupportedScheme {
        /// What is not known.
        what: String,
    },
    /// The side file with the store's data keys is damaged or missing.
    #[error("the store's key file `idem.keys` cannot be used: {reason}")]
    MetadataCorrupt {
        /// What is wrong.
        reason: String,
    },
    /// Sealed bytes are not what was written.
    #[error(transparent)]
    Unsealed(#[from] Unsealed),
    /// The system has no randomness to give.
    #[error("the system has no randomness to give")]
    Entropy,
    /// A file with keys cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
}

impl VaultError {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(reason: impl Into<String>) -> Self {
        Self::MetadataCorrupt {
            reason: reason.into(),
        }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Self {
        Self::KeyInvalid {
            reason: reason.into(),
        }
    }
}

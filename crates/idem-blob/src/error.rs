//! What can go wrong.

use std::io;

use idem_model::BlobId;

/// Why a blob cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// The file system failed.
    #[error("{action} {file} failed")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        file: String,
        /// Why it failed.
        source: io::Error,
    },
    /// No room is left on the device.
    #[error("no room for {file}")]
    Full {
        /// What was written.
        file: String,
        /// The error of the file system.
        source: io::Error,
    },
    /// More than may be kept.
    #[error("a blob of {bytes} bytes is over the limit of {limit}")]
    Quota {
        /// Its length.
        bytes: u64,
        /// The bytes that it may have, or that all of its sort may have together.
        limit: u64,
    },
    /// It is not here, or not all of it.
    #[error("blob {id} is not here")]
    Missing {
        /// Which one.
        id: BlobId,
    },
    /// What is on disk is not what was put there. It is not served any more; a fetch brings it again.
    #[error("{file} is damaged at byte {offset}")]
    Damaged {
        /// The file.
        file: String,
        /// Where what does not fit begins, as far as that is known.
        offset: u64,
    },
    /// Bytes that are no part of the blob that they are said to be.
    #[error("not a part of blob {id}")]
    Foreign {
        /// Which one.
        id: BlobId,
    },
}

impl BlobError {
    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { file, source }
            }
            _ => Self::Io {
                action,
                file,
                source,
            },
        }
    }
}

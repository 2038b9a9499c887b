//! What an exchange has to tell its owner.

use idem_model::{BlobKey, PeerId};

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// More of a blob that the app fetches is here.
    Progress {
        /// Which one.
        key: BlobKey,
        /// How many of its bytes are here.
        bytes: u64,
    },
    /// A blob that the app fetches is here.
    Completed {
        /// Which one.
        key: BlobKey,
    },
    /// A blob that the app fetches does not come. What is here of it stays for the next time.
    Failed {
        /// Which one.
        key: BlobKey,
        /// Why.
        reason: FailReason,
    },
    /// A neighbour sent what is no part of the blob that it was asked for. It is not asked for that blob
    /// again as long as it is linked.
    Damaged {
        /// Which blob.
        key: BlobKey,
        /// Who sent it.
        peer: PeerId,
    },
    /// A neighbour broke a rule: its link should be closed.
    Misbehaved {
        /// Who.
        peer: PeerId,
        /// What it did, for people.
        detail: &'static str,
    },
}

/// Why a blob does not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FailReason {
    /// No neighbour has it, nor does anybody that they asked.
    NobodyHasIt,
    /// Somebody has it or has not answered, but nothing came for too long.
    TimedOut,
    /// All that somebody had of it was damaged.
    Damaged,
    /// More than may be kept here, or fetched at one time.
    Quota,
    /// The disk is full.
    DiskFull,
    /// The disk failed.
    Storage,
}

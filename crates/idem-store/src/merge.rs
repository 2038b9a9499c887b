//! Taking in documents from other peers.

use idem_model::{ActorId, DocumentKey, PeerId, VersionVector};

/// One document from another peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Which document.
    pub key: DocumentKey,
    /// What is known of it there.
    pub state: IncomingState,
}

/// The content of an [`Incoming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncomingState {
    /// An encoded `idem_crdt::Document`.
    Whole(Vec<u8>),
    /// An encoded `idem_crdt::Delta`.
    Delta(Vec<u8>),
}

/// How far a feed was read: the sender's store life and its local commit number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The actor of the sender's store. Another actor there means that the number says nothing.
    pub actor: ActorId,
    /// Everything up to and including this commit of the sender was taken in.
    pub commit: u64,
}

/// A cursor to store together with the documents that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorUpdate {
    /// The sender.
    pub peer: PeerId,
    /// The name of the subscription, at most 64 bytes.
    pub subscription: Vec<u8>,
    /// The position; `None` forgets it.
    pub cursor: Option<Cursor>,
}

/// What [`Store::apply`](crate::Store::apply) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyReport {
    /// One per incoming document, in their order.
    pub outcomes: Vec<ApplyOutcome>,
    /// The local commit, if anything changed.
    pub commit: Option<u64>,
    /// Whether the cursors were stored. They are not if a document is missing for its
    /// [`ApplyOutcome::Gap`] or [`ApplyOutcome::TooFarAhead`]: the sender must offer it again.
    pub are_cursors_stored: bool,
}

/// What became of one incoming document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyOutcome {
    /// It is different now.
    Changed,
    /// Everything in it was known.
    Unchanged,
    /// A delta onto more than is here. Not applied; send what this version vector lacks.
    Gap(VersionVector),
    /// Stamped 24 hours or more ahead of our clock. Not applied.
    TooFarAhead {
        /// By how many milliseconds.
        ms: u64,
    },
    /// Not a valid document. Not applied.
    Refused {
        /// Why, for a person.
        reason: String,
    },
}

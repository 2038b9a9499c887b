//! What replication reads: documents in the order in which they last changed here.

use idem_model::DocumentKey;

/// Some documents that changed after a commit, see [`Store::changed_since`](crate::Store::changed_since).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeBatch {
    /// Documents that must be applied together, oldest group first. A group is closed: it holds the
    /// current state of every document that shared a transaction, transitively, with one in it.
    pub groups: Vec<Vec<Changed>>,
    /// Where to ask next: everything up to and including this commit is in `groups` or before.
    pub up_to: u64,
    /// Whether there is more after `up_to`.
    pub more: bool,
}

/// One document of a [`ChangeBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Which document.
    pub key: DocumentKey,
    /// The local commit that last changed it.
    pub commit: u64,
    /// Its encoded `idem_crdt::Document`, tombstones included.
    pub document: Vec<u8>,
}

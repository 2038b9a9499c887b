//! What an exchange needs of the blobs of its peer.

use idem_model::{BlobKey, BlobPart, GroupSet};

/// What a blob is fetched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The app wants it.
    App,
    /// A neighbour asked for it.
    Neighbour,
}

/// Why a blob cannot be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Trouble {
    /// More than may be kept.
    Quota,
    /// The disk is full.
    DiskFull,
    /// The disk failed.
    Storage,
}

/// What became of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is part of the blob, and kept.
    Kept,
    /// It is no part of the blob. Nothing has changed.
    Foreign,
    /// It could not be kept.
    Failed(Trouble),
}

/// The blobs of a peer.
pub trait Blobs {
    /// Whether all of a blob is here.
    fn is_whole(&mut self, key: BlobKey) -> bool;

    /// The piece that carries `part`, checked, of a blob that is whole or is being fetched. `None` if it is
    /// not here or damaged.
    fn piece(&mut self, key: BlobKey, part: BlobPart) -> Option<Vec<u8>>;

    /// Begins to fetch a blob of which not everything is here. Gives what is.
    ///
    /// # Errors
    /// [`Trouble`].
    fn begin(&mut self, key: BlobKey, purpose: Purpose) -> Result<GroupSet, Trouble>;

    /// From now on a blob that is whole, or being fetched, is for the app, too.
    ///
    /// # Errors
    /// [`Trouble`].
    fn adopt(&mut self, key: BlobKey) -> Result<(), Trouble>;

    /// Checks and keeps a piece of a blob that is being fetched.
    fn write(&mut self, key: BlobKey, part: BlobPart, piece: &[u8]) -> Written;

    /// Ends the fetch of a blob of which everything is here: it is whole, durably.
    ///
    /// # Errors
    /// [`Trouble`]; the fetch has ended all the same.
    fn finish(&mut self, key: BlobKey) -> Result<(), Trouble>;

    /// Ends a fetch before everything is here. What is here stays.
    fn end(&mut self, key: BlobKey);
}

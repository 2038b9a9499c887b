//! The blobs of one peer: content-addressed, checked whenever they are read, fetched piece by piece.
//!
//! A blob is named by its BLAKE3 hash. Its content is a file, and the hashes of the nodes of its tree another
//! one beside it, so that any part of it can be checked, or given to another peer with its proof, without
//! reading the rest. `docs/format/disk.md` ("Blobs") describes the files. Nothing here knows documents or
//! peers: who refers to a blob is told to [`BlobStore::collect`], and pieces come from and go to the caller.
//!
//! # Invariants
//!
//! - A blob that is whole has been durable before it got its name. A crash leaves a blob whole, or what is
//!   noted of it, or nothing.
//! - What the journal of an unfinished blob says to be there was durable before it was written.
//! - Every byte that is given out, and every piece that is taken in, was checked against the id.
//! - What is pinned, being read or being fetched is never deleted.
//!
//! ```
//! use std::{collections::BTreeSet, sync::Arc};
//! use idem_blob::{Begun, BlobOptions, BlobStore, MemoryStorage, Purpose};
//!
//! # fn main() -> Result<(), idem_blob::BlobError> {
//! let now_ms = 1_760_000_000_000;
//! let (one, _) = BlobStore::open(Arc::new(MemoryStorage::default()), BlobOptions::default())?;
//! let (two, _) = BlobStore::open(Arc::new(MemoryStorage::default()), BlobOptions::default())?;
//! let key = one.insert(b"a photo", now_ms)?;
//!
//! let Begun::Partial(mut download) = two.begin(key, Purpose::Own, now_ms)? else {
//!     unreachable!("nothing is there yet");
//! };
//! download.write(key.root(), &one.piece(key, key.root(), now_ms)?)?;
//! download.finish(now_ms)?;
//! assert_eq!(two.read(key, now_ms)?, b"a photo");
//!
//! // An hour later nothing refers to it.
//! two.collect(&BTreeSet::new(), now_ms + 3_600_000)?;
//! assert!(!two.is_whole(key));
//! # Ok(())
//! # }
//! ```

mod error;
mod journal;
mod storage;
mod store;
mod tree;

pub use error::BlobError;
pub use storage::directory::DirectoryStorage;
pub use storage::fault::{Fault, FaultStorage};
pub use storage::memory::MemoryStorage;
pub use storage::sealed::SealedStorage;
pub use storage::{BlobFile, BlobStorage, FileEntry};
pub use store::{
    Begun, BlobOptions, BlobReader, BlobStore, BlobWriter, Collected, Download, Opened, Pin,
    Purpose, Usage,
};

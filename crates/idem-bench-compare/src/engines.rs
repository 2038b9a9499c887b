//! The two systems behind one trait, so that a workload is written once.

mod idem_engine;
mod sqlite_engine;

use std::{error::Error, path::Path};

pub(crate) use idem_engine::{CREATE_INDEX, IdemEngine, count, counted};
pub(crate) use sqlite_engine::SqliteEngine;

/// Any failure of either system.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// A document store in a directory, with one index over `category`.
///
/// Inputs are prepared before the clock runs ([`Self::Document`], [`Writer`]): each system gets
/// documents in the form that its apps have at hand.
pub(crate) trait Engine: Sized + Sync {
    /// A document ready to be stored.
    type Document: Send + Sync;
    /// What one thread writes and reads with.
    type Writer<'a>: Writer<Self::Document>
    where
        Self: 'a;

    /// Opens an empty store in `directory`; every commit is on disk when it is acknowledged.
    fn open(directory: &Path) -> Result<Self, Failure>;

    /// Document `number` ready to be stored.
    fn prepare(number: u64) -> Self::Document;

    /// What the calling thread writes and reads with.
    fn writer(&self) -> Result<Self::Writer<'_>, Failure>;

    /// All documents, by a count.
    fn count(&self) -> Result<u64, Failure>;

    /// The documents of a category, through the index.
    fn count_category(&self, category: i64) -> Result<u64, Failure>;
}

/// One thread's use of a store.
pub(crate) trait Writer<D> {
    /// Stores the documents as one durable commit.
    fn insert(&mut self, documents: Vec<D>) -> Result<(), Failure>;

    /// Reads the document with this id; gives whether it is there.
    fn read(&mut self, id: &str) -> Result<bool, Failure>;
}

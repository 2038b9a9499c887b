//! How a store is opened.

use std::{
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use idem_model::limits;
use idem_vault::StoreKey;

use crate::simulated::SimulatedDisk;

/// Gives Unix time in milliseconds. It may jump; the store's hybrid clock never runs backwards.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Acknowledged means that the commit is on disk and survives power loss. Commits that wait at
    /// the same time share one `fdatasync`.
    #[default]
    Durable,
    /// Acknowledged means handed to the operating system: the commit survives a kill of the process
    /// and reaches the disk within 50 ms.
    Relaxed,
}

/// Settings of a [`Store`](crate::Store). Every constructor gives working defaults.
#[derive(Clone)]
pub struct StoreConfig {
    pub(crate) place: Place,
    pub(crate) encryption_key: Option<StoreKey>,
    pub(crate) durability: Durability,
    pub(crate) clock: Clock,
    pub(crate) entropy_seed: Option<u64>,
    pub(crate) cache_bytes: u64,
    pub(crate) document_bytes_soft: usize,
    pub(crate) document_bytes_max: usize,
    pub(crate) tombstone_ttl_ms: u64,
    pub(crate) upkeep_interval: Duration,
    pub(crate) has_threads: bool,
    pub(crate) index_inline_documents: usize,
    pub(crate) index_batch_documents: usize,
    pub(crate) index_batch_bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Directory(PathBuf),
    Memory,
    Simulated(SimulatedDisk),
}

/// Default of the caches: two thirds are enough for the upper levels of a tree of a million documents,
/// one third holds 15,000 documents of 250 bytes, and the whole is little enough for a phone.
const CACHE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

impl StoreConfig {
    /// A store in a directory, which is made if it is not there. One process at a time may open it.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Directory(path.into()))
    }

    /// A store that lives in memory and is gone when it is closed.
    pub fn memory() -> Self {
        Self::at(Place::Memory)
    }

    /// A store on a simulated disk that outlives the store and injects faults. It starts no threads:
    /// observers run on the committing thread, and [`Store::checkpoint`](crate::Store::checkpoint)
    /// is the caller's to call.
    pub fn simulated(disk: SimulatedDisk) -> Self {
        Self::at(Place::Simulated(disk)).background_threads(false)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            encryption_key: None,
            durability: Durability::default(),
            clock: Arc::new(wall_clock_ms),
            entropy_seed: None,
            cache_bytes: CACHE_BYTES_DEFAULT,
            document_bytes_soft: limits::DOCUMENT_BYTES_SOFT,
            document_bytes_max: limits::DOCUMENT_BYTES_MAX,
            tombstone_ttl_ms: limits::TOMBSTONE_TTL_SMALL_PEER_MS,
            upkeep_interval: crate::upkeep::INTERVAL,
            has_threads: true,
            index_inline_documents: limits::INDEX_INLINE_DOCUMENTS_MAX,
            index_batch_documents: limits::INDEX_BATCH_DOCUMENTS,
            index_batch_bytes: limits::INDEX_BATCH_BYTES,
        }
    }

    /// When a commit is acknowledged. Default: [`Durability::Durable`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Encrypts the store, or opens one that is encrypted. Default: none. A store in memory and a simulated
    /// one take no notice of it.
    #[must_use]
    pub fn encryption_key(mut self, key: StoreKey) -> Self {
        self.encryption_key = Some(key);
        self
    }

    /// Where time comes from. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Draws actors and generated ids from a seed instead of from the operating system. For
    /// simulations only: two stores with one seed take the same actor, which breaks replication.
    #[must_use]
    pub fn entropy_seed(mut self, seed: u64) -> Self {
        self.entropy_seed = Some(seed);
        self
    }

    /// Memory for caches in bytes, 1 MiB at least. Default: 16 MiB. A third of it is for documents
    /// that are read by their ids or through an index, the rest for the engine's pages. The overlay of
    /// commits that are not yet in the engine takes 8 MiB on top, and for moments more.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes.max(1024 * 1024);
        self
    }

    /// A document above this size in bytes carries a warning in the result of the write.
    /// Default: [`limits::DOCUMENT_BYTES_SOFT`].
    #[must_use]
    pub fn document_bytes_soft(mut self, bytes: usize) -> Self {
        self.document_bytes_soft = bytes;
        self
    }

    /// A local write that would make a document larger is refused. Default and upper bound:
    /// [`limits::DOCUMENT_BYTES_MAX`], because other peers hold to it.
    #[must_use]
    pub fn document_bytes_max(mut self, bytes: usize) -> Self {
        self.document_bytes_max = bytes.min(limits::DOCUMENT_BYTES_MAX);
        self
    }

    /// How long a tombstone is kept, in milliseconds. Default:
    /// [`limits::TOMBSTONE_TTL_SMALL_PEER_MS`].
    #[must_use]
    pub fn tombstone_ttl_ms(mut self, ms: u64) -> Self {
        self.tombstone_ttl_ms = ms;
        self
    }

    /// How long after a round of its own upkeep the store begins the next one; the first comes after a
    /// minute, or so soon. Default: an hour; from a millisecond to a year. Shorter is for tests: each
    /// round forgets the deletions of a day, and their distance is the guard against a clock that is
    /// ahead for a while. It is kept over openings: a store forgets as soon as it is opened, if its last
    /// round is so long ago.
    #[must_use]
    pub fn upkeep_interval(mut self, interval: Duration) -> Self {
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        self.upkeep_interval = interval.clamp(Duration::from_millis(1), year);
        self
    }

    /// A collection with more rows than this, deleted documents included, is indexed in the
    /// background. Default and upper bound: [`limits::INDEX_INLINE_DOCUMENTS_MAX`]; 0 leaves every
    /// index of a collection with documents to the background.
    #[must_use]
    pub fn index_inline_documents(mut self, documents: usize) -> Self {
        self.index_inline_documents = documents.min(limits::INDEX_INLINE_DOCUMENTS_MAX);
        self
    }

    /// How many rows one batch of building an index in the background reads, while writers wait.
    /// Default: [`limits::INDEX_BATCH_DOCUMENTS`]; from 1 to 65,536.
    #[must_use]
    pub fn index_batch_documents(mut self, documents: usize) -> Self {
        self.index_batch_documents = documents.clamp(1, 65_536);
        self
    }

    /// Bytes of rows and entries after which a batch of building an index ends. Default:
    /// [`limits::INDEX_BATCH_BYTES`]; from 1 byte to 64 MiB. What a batch takes in memory is this,
    /// and one document with its entries.
    #[must_use]
    pub fn index_batch_bytes(mut self, bytes: usize) -> Self {
        self.index_batch_bytes = bytes.clamp(1, 64 * 1024 * 1024);
        self
    }

    /// Whether the store starts its own threads. Default: true. Without them, observers run on the
    /// committing thread, the overlay is flushed by the commit that fills it, and work on indexes
    /// waits for [`Store::step_index_work`](crate::Store::step_index_work).
    #[must_use]
    pub fn background_threads(mut self, has_threads: bool) -> Self {
        self.has_threads = has_threads;
        self
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("place", &self.place)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

fn wall_clock_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

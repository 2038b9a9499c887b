//! Bounds of the key-value layer, each with the arithmetic behind it.

/// Tables that a store may use, numbered from 0. Every table of a B-tree engine costs at least one
/// leaf and one root page per commit.
pub const TABLES_MAX: u8 = 8;

/// Bytes of a key. A collection ordinal and the largest document id take 1,028 bytes; an index key
/// holds several values and an id. A B-tree page of 4 KiB must hold more than one key.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a value: as long as a batch may be.
pub const VALUE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Bytes of an encoded batch: the largest transaction of the store
/// (`idem_model::limits::TRANSACTION_BYTES_MAX`, 256 MiB).
pub const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Default page cache of the B-tree engine: a phone can spare 16 MiB.
pub const CACHE_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

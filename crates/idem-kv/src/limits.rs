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

/// Bytes of key and value that the row cache takes: a page of the B-tree. What is larger takes longer
/// to read than to find, and would push out many that do not.
pub const ROW_CACHE_ROW_BYTES_MAX: usize = 4 * 1024;

/// Parts of the row cache, each with a lock of its own that readers share: who adds a row holds up a
/// sixteenth of the others. A part of the smallest cache of a store (1 MiB / 3 / 16 = 21 KiB) holds 60
/// rows of 250 bytes.
pub const ROW_CACHE_PARTS: usize = 16;

/// Rounds of the eviction that a row outlives without being read again: three reads count, more do
/// not. What was read once, as by a long scan of an index, leaves before what is read often.
pub const ROW_CACHE_ROUNDS_MAX: u8 = 3;

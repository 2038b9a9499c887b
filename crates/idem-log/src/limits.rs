//! Bounds of the log, each with the arithmetic behind it.

/// Payload of one frame. It must hold the largest transaction of the store
/// (`idem_model::limits::TRANSACTION_BYTES_MAX`, 256 MiB) and its few bytes of framing.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024 * 1024 + 64 * 1024;

/// Bytes that `append` buffers before it hands them to the operating system itself. A leader that
/// syncs for 5 ms at 100 MB/s of appends finds 0.5 MB behind it; 1 MiB keeps both sides busy.
pub const BUFFER_BYTES: usize = 1024 * 1024;

/// Smallest segment. A store with a handful of documents should not take megabytes of a phone.
pub const SEGMENT_BYTES_MIN: u64 = 256 * 1024;

/// Segment files that one log may consist of. 64 Ki segments of 4 MiB are 256 GiB of frames that
/// nobody flushed; a directory with more files than that is not a log of ours.
pub const SEGMENTS_MAX: usize = 64 * 1024;

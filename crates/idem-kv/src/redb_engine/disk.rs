//! A file in memory under the B-tree engine that loses unsynced writes and fails on demand.

/// What a [`FaultDisk`] does wrong. Counts begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskFault {
    /// The n-th write fails after so many of its bytes.
    Write {
        /// Which write.
        nth: u64,
        /// How many of its bytes are written all the same.
        bytes: usize,
    },
    /// The n-th sync fails.
    Sync(u64),
    /// The file cannot grow beyond so many bytes.
    DiskBytes(u64),
}

/// A disk in memory. Clones share it, so that an engine can be dropped and reopened.
#[derive(Debug, Clone, Default)]
pub struct FaultDisk {}

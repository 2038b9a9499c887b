//! Append-only log of checksummed frames with group commit.

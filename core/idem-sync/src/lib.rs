//! Replication between two peers, without I/O.

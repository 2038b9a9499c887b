//! Messages of Idem's replication protocol and their bytes.

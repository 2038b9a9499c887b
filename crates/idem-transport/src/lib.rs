//! Encrypted, mutually authenticated links between peers.

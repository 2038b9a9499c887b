//! Tests of a peer as an app sees it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attachments;
mod certified;
mod deadlock;
mod declared;
mod degraded;
mod encrypted;
mod examples;
mod fixture;
mod forgotten;
mod heap;
mod idle;
#[cfg(feature = "internet")]
mod internet;
mod links;
mod local;
mod presence;
mod projected;
mod radio;
mod refusal;
mod relays;
mod replication;
mod requests;
mod scripted;
mod status;
mod transports;
mod windows;

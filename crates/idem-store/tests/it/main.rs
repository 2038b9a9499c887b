//! Tests of the whole store.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod cases;
mod crash;
mod declared;
mod directory;
mod documented;
mod durable;
mod evictions;
mod exchange;
mod fixture;
mod floats;
mod groups;
mod indexes;
mod limits;
mod model;
mod observers;
mod projections;
mod quarantine;
mod serial;
mod sizes;
mod slow_log;
mod system;
mod tombstones;
mod transactions;
mod versions;

//! Idem side by side with other systems, on the same machine in the same run.
//!
//! - `local`: durable writes and point reads beside SQLite, and the metadata of documents beside
//!   published figures of other CRDT libraries.
//! - `query`: the statements of an app over 100,000 documents beside SQLite with JSON, and what an
//!   observer, a stream and the parser cost.
//! - `sync`: the first sync, the live latency and a storm of changes of two processes over TCP on
//!   loopback.
//! - `security`: what the handshake of a link costs, with certificates and without.
//!
//! Rules: both sides do the same work on the same documents of about 300 bytes with one secondary
//! index, and acknowledge a commit when it is on disk. Rounds are interleaved (Idem, the other, Idem,
//! ..), each on a fresh directory; the figure is the median. After each round both sides are asked how
//! many documents they hold, by a scan and through the index; a wrong answer shows as `verified: false`.

mod documents;
mod engines;
mod local;
mod metadata;
mod program;
mod query;
mod report;
mod security;
mod sync;

pub use program::run;

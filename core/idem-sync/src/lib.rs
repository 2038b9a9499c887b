//! Replication between two peers, without I/O.
//!
//! A [`Session`] is the state of replication with one other peer, whatever links the two share. It
//! is told what happens and asked what must leave; the store is a [`Replica`] that the owner hands to
//! each call. Nothing here knows a socket, a clock or a disk.
//!
//! ```text
//!            sender                                       receiver
//!   Replica::changed_since                          Replica::apply, with the cursor
//!            |                                            ^
//!   Source: positions, filters, deltas              Sink: batches, cursors, gaps
//!            |                                            ^
//!   Outlet: credit, pieces, compression --frames--> Inlet: pieces, credit given back
//! ```
//!
//! What holds at all times:
//!
//! - The receiver stores how far it is, in the transaction that holds the data. A link or a process
//!   may die at any moment; what was under way is sent again.
//! - A transaction is sent whole to whoever wants all of it, and applied in one local transaction.
//!   What one lane skips because another lane carries it would break that, so only what is
//!   acknowledged or under way on the same lane counts as held.
//! - Nothing leaves before it is durable, and nothing is acknowledged before it is durable.
//! - Everything is bounded: what is read ahead by credit, what is known of the remote by
//!   `limits::KNOWN_VERSIONS_MAX`, what the remote may ask by counters. A remote that breaks a rule
//!   loses its link with a stable reason ([`CloseReason`]), never more.
//!
//! A subscriber catches up in one of these ways, the first that works:
//!
//! | it has | and gets |
//! |---|---|
//! | cursors for all it wants, of a session that the other side remembers | what came after them, with nothing asked by name |
//! | a cursor | what came after it |
//! | documents of the subscription from elsewhere | what a comparison by [`sketch`] or list shows to be lacking; one serves both sides where both want the same collection |
//! | nothing | everything, in the order of the feed |
//!
//! A [`Relay`] passes on for neighbours what a peer does not want itself, in sessions of its own.
//!
//! ```
//! use std::time::Duration;
//! use idem_model::{ActorId, DatabaseId, Object, PeerId};
//! use idem_sync::{LinkId, LinkProperties, MemoryReplica, Priority, Session, SessionConfig};
//!
//! let mut session = Session::new(SessionConfig {
//!     database: DatabaseId([7; 16]),
//!     local: PeerId([1; 32]),
//!     remote: PeerId([2; 32]),
//!     seed: 42,
//! });
//! let statement = idem_query::parse("SELECT * FROM airports")?;
//! session.subscribe(&statement.subscription(&Object::new())?, Priority::Normal)?;
//!
//! let replica = MemoryReplica::new(ActorId([1; 16]), 0);
//! let now = Duration::ZERO;
//! session.handle_link_up(now, LinkId(1), LinkProperties::default());
//! let hello = session.poll_transmit(now, &replica).expect("the peer with the smaller id greets");
//! assert_eq!(hello.link, LinkId(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod sketch;

mod attachment;
mod carriage;
mod check;
mod compression;
mod confirmed;
mod control;
mod event;
mod failure;
mod few;
mod gathering;
mod grouping;
mod holdings;
mod inlet;
mod known;
#[cfg(feature = "__memory")]
mod memory;
mod merging;
mod mirrors;
mod outlet;
mod projection;
mod relay;
mod replica;
mod session;
mod sight;
mod sink;
mod source;
mod spent;
mod stale;
mod statements;
mod testimony;
mod untaken;
mod wanted;
mod window;

pub use event::{CloseReason, Event};
pub use gathering::Gathering;
pub use idem_model::LinkId;
pub use idem_wire::{Lane, SubscriptionId};
#[cfg(feature = "__memory")]
pub use memory::{Commons, MemoryReplica};
pub use projection::{held_selector, projected_collection};
pub use relay::{
    Relay, RelayConfig, RelayEvent, RelayKind, RelayStats, is_relay_frame, relay_id, relay_kind,
};
pub use replica::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, EvictReason, Gone,
    Incoming, IncomingState, Replica, ScopeFilter, ScopeItem, ScopeState, Synced,
};
pub use session::{
    LinkProperties, OnLeave, Priority, Session, SessionConfig, SessionStats, SubscribeError,
    SubscriptionTerms, Transmit,
};
pub use wanted::{Ends, subscription_id_of};
pub use window::{OwnReach, WindowCounts, WindowFollower};

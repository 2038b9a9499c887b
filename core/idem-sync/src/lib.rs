//! Replication between two peers, without I/O.

mod attachment;
mod event;
mod failure;
mod inlet;
mod known;
#[cfg(feature = "__memory")]
mod memory;
mod outlet;
mod replica;
mod session;
mod sink;
mod source;
mod statements;
mod wanted;

pub use event::{CloseReason, Event};
pub use idem_wire::{Lane, SubscriptionId};
#[cfg(feature = "__memory")]
pub use memory::MemoryReplica;
pub use replica::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, Incoming, IncomingState,
    Replica,
};
pub use session::{
    LinkId, LinkProperties, Priority, Session, SessionConfig, SessionStats, SubscribeError,
    Transmit,
};

//! Replication between two peers, without I/O.

mod event;
mod replica;
mod session;

pub use event::{CloseReason, Event};
pub use idem_wire::{Lane, SubscriptionId};
pub use replica::{
    ApplyOutcome, ApplyReport, ChangeBatch, Changed, Cursor, CursorUpdate, Incoming, IncomingState,
    Replica,
};
pub use session::{
    LinkId, LinkProperties, Priority, Session, SessionConfig, SessionStats, SubscribeError,
    Transmit,
};

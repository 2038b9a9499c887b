//! Messages of Idem's replication protocol and their bytes.
//!
//! `docs/format/wire.md` describes every byte; this crate is its only implementation. A frame is one
//! [`Message`]. Document states are opaque here: a [`Message::Transfer`] carries a piece of a batch,
//! and a whole batch is read with [`BatchReader`] and written with [`BatchWriter`].
//!
//! Decoding takes hostile bytes: it never panics, and it allocates no more than a small multiple of
//! what it was given.
//!
//! ```
//! use idem_wire::{Lane, Message};
//!
//! let message = Message::Ack { lane: Lane::Bulk, consumed_bytes: 4096, batches: 3 };
//! let bytes = message.to_bytes();
//! assert_eq!(Message::decode(&bytes)?, message);
//! # Ok::<(), idem_wire::WireError>(())
//! ```

mod batch;
mod blob;
mod check;
mod compared;
mod decode;
mod encode;
mod kind;
mod message;
mod sketch;
mod subscription;
mod window;

pub use batch::{AnnouncedItem, BatchDocument, BatchItem, BatchReader, BatchWriter};
pub use blob::BlobMessage;
pub use check::{Check, Checked};
pub use compared::{Compared, KeyedVersion, Lacks};
pub use idem_model::Lane;
pub use kind::MessageKind;
pub use message::{
    Accept, Announced, CAPABILITY_BIG_PEER, CAPABILITY_DURABLE, CAPABILITY_SUBSCRIBES,
    CAPABILITY_WHOLE, CatchUpTier, DocumentVersion, HeldVersion, Hello, Holdings, Items, Message,
    Move, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, ROUNDS_MAX, Resume, Resumption, SketchItem,
    Subscribe, Transfer, WireError,
};
pub use sketch::{SketchBlock, SketchSummary, SketchSymbol};
pub use subscription::SubscriptionId;
pub use window::{AskReach, Reach, Told};

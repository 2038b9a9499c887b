//! The vocabulary of Idem: values, ids, field paths, operations, time, version vectors, limits.
//!
//! Everything here is data with total, deterministic behaviour. Nothing performs I/O, reads a clock
//! or draws randomness, so every other crate may depend on this one.
//!
//! Three byte forms live here because more than one crate needs each of them:
//! [`codec`] (varints and checked reading), the compact form of a [`Value`]
//! ([`Value::encode`]), and the order-preserving form used in keys ([`key`]).

pub mod blob;
pub mod codec;
pub mod json;
pub mod key;
pub mod limits;

mod declared;
mod deleted;
mod doc_id;
mod ids;
mod lane;
mod operation;
mod path;
mod scope;
mod time;
mod value;
mod version;

pub use blob::{BlobId, BlobKey, BlobPart, GroupSet};
pub use codec::DecodeError;
pub use declared::{Declared, KindError};
pub use deleted::{DaySums, DeletedDay, DeletedDays, Deletion};
pub use doc_id::{DocId, DocIdError};
pub use ids::{CollectionName, CollectionNameError, DatabaseId, IdParseError, LinkId, PeerId};
pub use lane::Lane;
pub use operation::{DocumentKey, DocumentOp, FieldKind, FieldOp, InsertConflict};
pub use path::{FieldPath, FieldPathError};
pub use scope::SyncScope;
pub use time::{ClockError, HybridClock, Skew, Timestamp};
pub use value::{
    Object, Value, ValueKind, check_value, decode_object, decode_object_fields,
    decode_object_fields_into, encode_object, is_object_field_text,
};
pub use version::{ActorId, Dot, Stamp, VersionVector};

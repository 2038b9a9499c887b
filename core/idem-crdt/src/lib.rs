//! Documents of Idem and their merge.
//!
//! A [`Document`] is the lattice state of one document: what it shows, what it knows (a version
//! vector), and the little that is needed to merge it with any other state of the same document, in
//! any order and any number of times. It is pure data: [`Document::apply`] takes its stamp, and so
//! its time, as an argument.
//!
//! ```text
//! DocumentOp + Stamp --apply--> Document --to_bytes--> store
//!                                  |  ^
//!                    delta(since)  v  |  merge, merge_delta
//!                                 another peer
//! ```
//!
//! What merging means is told in docs/merging.md and, executable, in `tests/merge_model.py`; the
//! bytes are described in docs/format/disk.md, "Documents", and nowhere else.
//!
//! ```
//! use idem_crdt::{Applied, Document, visible_fields};
//! use idem_model::{ActorId, DocumentOp, Dot, InsertConflict, Object, Stamp, Timestamp, Value};
//!
//! let stamp = Stamp { dot: Dot { actor: ActorId([7; 16]), n: 1 }, time: Timestamp::new(1, 0) };
//! let fields = Object::from([("colour".to_owned(), Value::from("red"))]);
//! let insert = DocumentOp::Insert {
//!     fields: fields.clone(),
//!     kinds: Vec::new(),
//!     conflict: InsertConflict::Fail,
//! };
//! let mut document = Document::new();
//! assert_eq!(document.apply(&insert, stamp)?, Applied::Changed);
//! assert_eq!(visible_fields(&document.to_bytes())?, Some(fields));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod delta;
mod document;
mod edit;
mod format;
mod initial;
mod kinds;
mod merge;
mod past;
mod project;
mod show;
mod state;

pub use delta::{Delta, DeltaGap};
pub use document::{
    Document, apply_encoded, deletion_of, encoded_version, encoded_version_bytes,
    has_several_kinds, is_first_state, is_visible_text, visible_fields, visible_fields_declared,
    visible_fields_into, visible_fields_of,
};
pub use edit::{Applied, ApplyError};

//! Operations: what a statement asks of a document. The query layer makes them, the document
//! lattice applies them, and neither knows the other.

use std::fmt;

use crate::{
    doc_id::DocId,
    ids::CollectionName,
    path::FieldPath,
    value::{Object, Value},
};

/// Names a document in the whole database.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DocumentKey {
    /// The collection it lives in.
    pub collection: CollectionName,
    /// Its id there.
    pub id: DocId,
}

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

/// How a field merges (docs/merging.md).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum FieldKind {
    /// One value, the last writer wins; an object is replaced whole.
    Register,
    /// An object that merges key by key.
    Map,
    /// A number to which concurrent increments add up.
    Counter,
    /// The token of a blob; merges like a register.
    Attachment,
}

impl FieldKind {
    /// The kinds that DQL has a name for.
    pub const ALL: [Self; 4] = [Self::Register, Self::Map, Self::Counter, Self::Attachment];

    /// Its name in DQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Register => "REGISTER",
            Self::Map => "MAP",
            Self::Counter => "COUNTER",
            Self::Attachment => "ATTACHMENT",
        }
    }

    /// Whether a field of this kind can be given `value`.
    pub fn takes(self, value: &Value) -> bool {
        match self {
            Self::Register => true,
            Self::Map | Self::Attachment => matches!(value, Value::Object(_)),
            Self::Counter => matches!(value, Value::Int(_)),
        }
    }

    /// The kind of that name, in upper case.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Prints as DQL reads it.
impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The smallest edit of a document.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum FieldOp {
    /// Writes a value. `kind` `None` is the default typing: an object merges as a map, anything else
    /// is a register. A declared `Register` keeps an object whole; a declared `Counter` takes an
    /// integer and restarts from it.
    Set {
        /// Where.
        path: FieldPath,
        /// What.
        value: Value,
        /// The declared kind, if the statement declares one.
        kind: Option<FieldKind>,
    },
    /// Removes what is there now, and nothing that the writer has not seen.
    Unset {
        /// Where.
        path: FieldPath,
    },
    /// Adds to a counter, which starts at 0.
    Increment {
        /// Where.
        path: FieldPath,
        /// By how much; may be negative.
        by: i64,
    },
    /// Starts a counter again from `to`; increments that the writer has not seen still count.
    Restart {
        /// Where.
        path: FieldPath,
        /// The value to start from.
        to: i64,
    },
}

/// What INSERT does where the document is already there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum InsertConflict {
    /// The statement fails.
    #[default]
    Fail,
    /// The document stays as it is.
    DoNothing,
    /// The given fields are set, whether they differ or not.
    DoUpdate,
    /// Only the given fields that differ from the local document are set.
    DoUpdateLocalDiff,
}

/// What a statement does to one document.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum DocumentOp {
    /// Gives the document a life, or applies `conflict` if it has one.
    Insert {
        /// The fields without `_id`.
        fields: Object,
        /// Declared kinds by path; what is not named here has the default typing.
        kinds: Vec<(FieldPath, FieldKind)>,
        /// What to do if the document is there.
        conflict: InsertConflict,
    },
    /// INSERT INITIAL: the same defaults on every peer are one version.
    InsertInitial {
        /// The fields without `_id`.
        fields: Object,
        /// Declared kinds by path.
        kinds: Vec<(FieldPath, FieldKind)>,
    },
    /// Edits a document that is there; nothing happens if it is not.
    Update(Vec<FieldOp>),
    /// Ends the lives that this peer sees.
    Delete,
    /// Forgets the document on this peer only.
    Evict,
}

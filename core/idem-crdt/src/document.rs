//! The state of one document.

use std::borrow::Cow;

use idem_model::{
    DecodeError, DocumentOp, FieldPath, InsertConflict, Object, Stamp, Timestamp, Value,
    VersionVector,
};

use crate::{
    delta::{Delta, DeltaGap},
    edit::{self, Applied, ApplyError, Editor},
    format, initial,
    merge::{self, Context},
    show,
    state::{Life, Map},
};

/// One document's lattice state: what it shows, what it knows, and what a merge needs.
///
/// Equal states are equal values and have equal bytes. A state that knows commits but has no life is
/// a tombstone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Document {
    pub(crate) version: VersionVector,
    pub(crate) time: Timestamp,
    /// Rising by dot. One, unless peers inserted the same document concurrently.
    pub(crate) lives: Vec<Life>,
}

impl Document {
    /// The state that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads [`Document::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] on anything that `to_bytes` does not produce.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        format::decode_document(bytes)
    }

    /// The canonical binary form (docs/format/disk.md, "Documents"): equal states, equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        format::encode_document(self)
    }

    /// Whether the document is there: it has a life.
    pub fn is_present(&self) -> bool {
        !self.lives.is_empty()
    }

    /// Whether nothing at all is known, not even a deletion.
    pub fn is_empty(&self) -> bool {
        self.version.is_empty()
    }

    /// The commits merged into this state.
    pub fn version(&self) -> &VersionVector {
        &self.version
    }

    /// The time of the latest commit merged in; [`Timestamp::ZERO`] if there is none but INITIAL.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The visible fields without `_id`; `None` where the document is not there.
    pub fn fields(&self) -> Option<Object> {
        self.is_present()
            .then(|| show::to_object(&show::show_map(&self.joined_lives())))
    }

    /// All concurrent values at `path`, newest first: the first is the visible one.
    ///
    /// There is more than one after concurrent writes, until the next write to that field. A map or a
    /// counter is listed where a write of another kind stands beside it. Empty if nothing is there.
    pub fn conflicts(&self, path: &FieldPath) -> Vec<Value> {
        let map = self.joined_lives();
        let node = map.find(path.segments());
        node.map_or_else(Vec::new, show::show_conflicts)
    }

    /// Edits the document under `stamp`.
    ///
    /// One stamp may be used several times in a row, by the edits of one transaction: the later edit
    /// wins, and nothing in between is kept. INSERT INITIAL does not use it.
    ///
    /// # Errors
    /// [`ApplyError`]; the document is then as it was.
    ///
    /// # Panics
    /// If the stamp has the time zero or the reserved zero actor, or names a commit before one that
    /// is already merged in: a dot would have two contents, and peers would never agree again.
    pub fn apply(&mut self, op: &DocumentOp, stamp: Stamp) -> Result<Applied, ApplyError> {
        assert!(
            stamp.time > Timestamp::ZERO && stamp.dot.actor != initial::INITIAL_ACTOR,
            "the stamp {stamp:?} is reserved for INSERT INITIAL"
        );
        assert!(
            stamp.dot.n > 0 && stamp.dot.n >= self.version.get(stamp.dot.actor),
            "the commit {:?} was used before",
            stamp.dot
        );
        let applied = match op {
            DocumentOp::InsertInitial { fields, kinds } => {
                let life = initial::life_stamp();
                if self.is_present() || self.version.covers(life.dot) {
                    return Ok(Applied::Unchanged);
                }
                let stamps = edit::begin_initial_life(&mut self.lives, fields, kinds)?;
                for stamp in stamps {
                    self.version.include(stamp.dot);
                }
                return Ok(Applied::Changed);
            }
            DocumentOp::Insert {
                fields,
                kinds,
                conflict,
            } => {
                if !self.is_present() {
                    edit::begin_life(&mut self.lives, fields, kinds, stamp)?
                } else {
                    match conflict {
                        InsertConflict::Fail => return Err(ApplyError::AlreadyExists),
                        InsertConflict::DoUpdate => {
                            Editor::new(&mut self.lives, stamp).set_all(fields, kinds)?
                        }
                        InsertConflict::DoUpdateLocalDiff => {
                            let visible = self.fields().unwrap_or_default();
                            let mut editor = Editor::new(&mut self.lives, stamp);
                            editor.set_differing(fields, kinds, &visible)?
                        }
                        _ => Applied::Unchanged,
                    }
                }
            }
            DocumentOp::Update(ops) if self.is_present() => {
                Editor::new(&mut self.lives, stamp).apply_all(ops)?
            }
            DocumentOp::Delete if self.is_present() => {
                self.lives.clear();
                Applied::Changed
            }
            DocumentOp::Update(_) | DocumentOp::Delete => Applied::Unchanged,
            _ => return Err(ApplyError::NotAnEdit),
        };
        if applied == Applied::Changed {
            self.version.include(stamp.dot);
            self.time = self.time.max(stamp.time);
        }
        Ok(applied)
    }

    /// Joins another state of the same document; true if this one changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        // A version names a set of commits, and a state is what that set of commits makes.
        if self.version.covers_all(&other.version) {
            return false;
        }
        if other.version.covers_all(&self.version) {
            self.clone_from(other);
        } else {
            self.join(
                &other.lives,
                &other.version,
                other.time,
                &VersionVector::new(),
            );
        }
        true
    }

    /// What a state of version `since` lacks of this one.
    ///
    /// `since` must be the version of a state that some peer held, or a part of one that commits
    /// before; any [`Document::version`] is.
    pub fn delta(&self, since: &VersionVector) -> Delta {
        Delta::between(&self.version, self.time, &self.lives, since)
    }

    /// Joins what a delta carries; true if this state changed. Equal to merging the sender's state.
    ///
    /// # Errors
    /// [`DeltaGap`] if this state does not cover [`Delta::since`].
    pub fn merge_delta(&mut self, delta: &Delta) -> Result<bool, DeltaGap> {
        if !self.version.covers_all(&delta.since) {
            return Err(DeltaGap {});
        }
        if self.version.covers_all(&delta.version) {
            return Ok(false);
        }
        self.join(&delta.lives, &delta.version, delta.time, &delta.since);
        Ok(true)
    }

    fn join(
        &mut self,
        lives: &[Life],
        version: &VersionVector,
        time: Timestamp,
        since: &VersionVector,
    ) {
        let cx = Context::of_states(&self.version, version, since);
        merge::join_lives(&mut self.lives, lives, cx);
        self.version.join(version);
        self.time = self.time.max(time);
    }

    /// All lives seen as one map.
    pub(crate) fn joined_lives(&self) -> Cow<'_, Map> {
        merge::union_of_lives(&self.lives)
    }
}

/// The visible fields of an encoded document; `None` where it is not there.
///
/// Reads the values only, not the metadata behind them: this is the fast way to query.
///
/// # Errors
/// [`DecodeError`] on damaged values. Damage behind the values is not noticed.
pub fn visible_fields(bytes: &[u8]) -> Result<Option<Object>, DecodeError> {
    format::decode_visible_fields(bytes)
}

/// The version vector of an encoded document, without decoding the rest.
///
/// # Errors
/// [`DecodeError`] if the head of the document is damaged.
pub fn encoded_version(bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    format::decode_version(bytes)
}

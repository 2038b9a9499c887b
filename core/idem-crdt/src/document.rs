//! The state of one document.

use std::borrow::Cow;

use idem_model::{
    Declared, DecodeError, Deletion, DocumentOp, FieldKind, FieldPath, InsertConflict, Object,
    Stamp, Timestamp, Value, VersionVector,
};

use crate::{
    delta::{Delta, DeltaGap},
    edit::{self, Applied, ApplyError, Editor},
    format, initial,
    kinds::Kinds,
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
        self.fields_declared(&[])
    }

    /// [`Document::fields`] in a collection that declares kinds: where a field holds several kinds,
    /// the declared one is visible and not the newest. A field that does not hold its declared kind
    /// shows what it holds. `declared` rises strictly by path.
    pub fn fields_declared(&self, declared: &[(FieldPath, FieldKind)]) -> Option<Object> {
        self.is_present().then(|| {
            let shown = Declared::new(declared);
            show::to_object(&show::show_map(&self.joined_lives(), shown))
        })
    }

    /// All concurrent values at `path`, newest first: the first is the visible one.
    ///
    /// There is more than one after concurrent writes, until the next write to that field. A map or a
    /// counter is listed where a write of another kind stands beside it. Empty if nothing is there.
    pub fn conflicts(&self, path: &FieldPath) -> Vec<Value> {
        self.conflicts_declared(path, &[])
    }

    /// [`Document::conflicts`] in a collection that declares kinds: the visible value comes first,
    /// which is that of the declared kind, and the others newest first. `declared` rises strictly by
    /// path.
    pub fn conflicts_declared(
        &self,
        path: &FieldPath,
        declared: &[(FieldPath, FieldKind)],
    ) -> Vec<Value> {
        let map = self.joined_lives();
        let Some(node) = map.find(path.segments()) else {
            return Vec::new();
        };
        show::show_conflicts(node, Declared::new(declared).at(path.segments()))
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
        self.apply_declared(op, stamp, &[])
    }

    /// [`Document::apply`] in a collection that declares kinds, which hold where the operation names
    /// none itself. `declared` rises strictly by path.
    ///
    /// # Errors
    /// As [`Document::apply`]; [`ApplyError::Declared`] for what the declared kinds do not allow.
    ///
    /// # Panics
    /// As [`Document::apply`].
    pub fn apply_declared(
        &mut self,
        op: &DocumentOp,
        stamp: Stamp,
        declared: &[(FieldPath, FieldKind)],
    ) -> Result<Applied, ApplyError> {
        check_stamp(stamp, &self.version);
        let applied = match op {
            DocumentOp::InsertInitial { fields, kinds } => {
                let life = initial::life_stamp();
                if self.is_present() || self.version.covers(life.dot) {
                    return Ok(Applied::Unchanged);
                }
                let kinds = Kinds::new(kinds, declared);
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
                let kinds = Kinds::new(kinds, declared);
                if !self.is_present() {
                    edit::begin_life(&mut self.lives, fields, kinds, stamp)?
                } else {
                    match conflict {
                        InsertConflict::Fail => return Err(ApplyError::AlreadyExists),
                        InsertConflict::DoUpdate => {
                            Editor::new(&mut self.lives, stamp).set_all(fields, kinds)?
                        }
                        InsertConflict::DoUpdateLocalDiff => {
                            let visible = self.fields_declared(declared).unwrap_or_default();
                            let mut editor = Editor::new(&mut self.lives, stamp);
                            editor.set_differing(fields, kinds, &visible)?
                        }
                        _ => Applied::Unchanged,
                    }
                }
            }
            DocumentOp::Update(ops) if self.is_present() => {
                Editor::new(&mut self.lives, stamp).apply_all(ops, declared)?
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

/// A stamp that is used twice would give one dot two contents.
pub(crate) fn check_stamp(stamp: Stamp, version: &VersionVector) {
    assert!(
        stamp.time > Timestamp::ZERO && stamp.dot.actor != initial::INITIAL_ACTOR,
        "the stamp {stamp:?} is reserved for INSERT INITIAL"
    );
    assert!(
        stamp.dot.n > 0 && stamp.dot.n >= version.get(stamp.dot.actor),
        "the commit {:?} was used before",
        stamp.dot
    );
}

/// [`Document::apply_declared`] from bytes to bytes, for the edits that do not need the document in
/// memory: an INSERT where nothing is known, for which `bytes` are `None`, and an UPDATE that sets
/// fields at the top of a document of registers and untouched maps. Costs about a copy of the bytes.
///
/// `None` says that the document has to be decoded to know what comes of it, also where that is an
/// error.
///
/// # Panics
/// As [`Document::apply`], as far as the bytes are looked at.
pub fn apply_encoded(
    bytes: Option<&[u8]>,
    op: &DocumentOp,
    stamp: Stamp,
    declared: &[(FieldPath, FieldKind)],
) -> Option<Vec<u8>> {
    match (bytes, op) {
        (None, DocumentOp::Insert { fields, kinds, .. }) => {
            check_stamp(stamp, &VersionVector::new());
            edit::inserted(fields, Kinds::new(kinds, declared), stamp)
        }
        (Some(bytes), DocumentOp::Update(ops)) => edit::updated(bytes, ops, stamp, declared),
        _ => None,
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

/// [`visible_fields`] in a collection that declares kinds ([`Document::fields_declared`]).
///
/// Costs a look at the metadata besides, and a whole decoding for a document in which a field holds
/// several kinds.
///
/// # Errors
/// [`DecodeError`] on damaged bytes.
pub fn visible_fields_declared(
    bytes: &[u8],
    declared: &[(FieldPath, FieldKind)],
) -> Result<Option<Object>, DecodeError> {
    if declared.is_empty() || !has_several_kinds(bytes)? {
        return visible_fields(bytes);
    }
    Ok(Document::decode(bytes)?.fields_declared(declared))
}

/// Those visible fields of an encoded document whose names are among `names`, which rise strictly, in a
/// collection that declares kinds; `None` where the document is not there.
///
/// Equals [`visible_fields_declared`] with the other fields left out. Builds nothing of the others and
/// stops behind the last name asked for, so a few fields of a large document cost little.
///
/// # Errors
/// [`DecodeError`] on damage in what was read; elsewhere it is not noticed.
pub fn visible_fields_of(
    bytes: &[u8],
    names: &[impl AsRef<str>],
    declared: &[(FieldPath, FieldKind)],
) -> Result<Option<Object>, DecodeError> {
    if declared.is_empty() || !has_several_kinds(bytes)? {
        return format::decode_visible_fields_of(bytes, names);
    }
    let mut fields = Document::decode(bytes)?.fields_declared(declared);
    if let Some(fields) = &mut fields {
        fields.retain(|field, _| {
            names
                .binary_search_by(|name| name.as_ref().cmp(field))
                .is_ok()
        });
    }
    Ok(fields)
}

/// As [`visible_fields_of`], into an object that held fields of another document before, whose memory
/// is used again. The field `kept` of `into` stays as it is, whatever the document says. Gives whether
/// the document is there.
///
/// # Errors
/// As [`visible_fields_of`]; what `into` holds then is of no use.
pub fn visible_fields_into(
    bytes: &[u8],
    names: &[impl AsRef<str>],
    declared: &[(FieldPath, FieldKind)],
    kept: &str,
    into: &mut Object,
) -> Result<bool, DecodeError> {
    if declared.is_empty() || !has_several_kinds(bytes)? {
        return format::decode_visible_fields_into(bytes, names, kept, into);
    }
    let Some(fields) = visible_fields_of(bytes, names, declared)? else {
        return Ok(false);
    };
    let kept = into.remove_entry(kept);
    *into = fields;
    into.extend(kept);
    Ok(true)
}

/// Whether the field of this name at the top of an encoded document shows this text, where no kinds are
/// declared; `None` if the document shows nothing. Builds nothing.
///
/// # Errors
/// [`DecodeError`] if the document is damaged up to that field.
pub fn is_visible_text(bytes: &[u8], name: &str, text: &str) -> Result<Option<bool>, DecodeError> {
    format::is_visible_text(bytes, name, text)
}

/// Whether some field of an encoded document holds values of several kinds, so that declared kinds
/// may show something else than [`visible_fields`]. May be true without need, never false.
///
/// Reads the metadata without building anything of it: it is empty for a document as INSERT made it.
///
/// # Errors
/// [`DecodeError`] on damaged metadata.
pub fn has_several_kinds(bytes: &[u8]) -> Result<bool, DecodeError> {
    format::decode_has_several_kinds(bytes)
}

/// Whether all of an encoded document was written by one INSERT and nothing else is known of it. No
/// other peer holds an earlier state of such a document, unless its id was used before: who deletes a
/// document and inserts it again, while nobody else wrote to it, gives it such a state as well.
///
/// # Errors
/// [`DecodeError`] if the head of the document is damaged.
pub fn is_first_state(bytes: &[u8]) -> Result<bool, DecodeError> {
    format::is_plain(bytes)
}

/// The version vector of an encoded document, without decoding the rest.
///
/// # Errors
/// [`DecodeError`] if the head of the document is damaged.
pub fn encoded_version(bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    format::decode_version(bytes)
}

/// How the deletion of a document counts among others, given its id as [`idem_model::DocId::to_key`] writes
/// it and its encoded tombstone: equal tombstones count alike.
///
/// # Errors
/// [`DecodeError`] if the tombstone is damaged.
pub fn deletion_of(id_key: &[u8], tombstone: &[u8]) -> Result<Deletion, DecodeError> {
    let mut hasher = blake3::Hasher::new_derive_key("idem sync deletion, version 1");
    hasher.update(&(id_key.len() as u64).to_be_bytes());
    hasher.update(id_key);
    hasher.update(encoded_version_bytes(tombstone)?);
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    let time = Document::decode(tombstone)?.time();
    Ok(Deletion::at(time.unix_ms(), u64::from_be_bytes(hash)))
}

/// The version vector of an encoded document as [`VersionVector::encode`] writes it, where it stands
/// in the document. Equal versions have equal bytes.
///
/// # Errors
/// [`DecodeError`] if the head of the document is damaged.
pub fn encoded_version_bytes(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    format::version_bytes(bytes)
}

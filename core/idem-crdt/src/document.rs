//! The state of one document.

use idem_model::{
    DecodeError, DocumentOp, FieldPath, Object, Stamp, Timestamp, Value, VersionVector,
};

use crate::{Applied, ApplyError, Delta, DeltaGap};

/// One document's lattice state.
///
/// Equal states are equal values and have equal bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Document {
    version: VersionVector,
    time: Timestamp,
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
    pub fn decode(_bytes: &[u8]) -> Result<Self, DecodeError> {
        unimplemented!()
    }

    /// The canonical binary form: equal states, equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Whether the document is there: it has a life.
    pub fn is_present(&self) -> bool {
        unimplemented!()
    }

    /// Whether nothing at all is known, not even a deletion.
    pub fn is_empty(&self) -> bool {
        unimplemented!()
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
        unimplemented!()
    }

    /// All concurrent values at `path`, newest first.
    pub fn conflicts(&self, _path: &FieldPath) -> Vec<Value> {
        unimplemented!()
    }

    /// Edits the document under `stamp`.
    ///
    /// # Errors
    /// [`ApplyError`]; the document is then as it was.
    pub fn apply(&mut self, _op: &DocumentOp, _stamp: Stamp) -> Result<Applied, ApplyError> {
        unimplemented!()
    }

    /// Joins another state of the same document; true if this one changed.
    pub fn merge(&mut self, _other: &Self) -> bool {
        unimplemented!()
    }

    /// What a state of version `since` lacks of this one.
    pub fn delta(&self, _since: &VersionVector) -> Delta {
        unimplemented!()
    }

    /// Joins what a delta carries; true if this state changed.
    ///
    /// # Errors
    /// [`DeltaGap`] if this state does not cover [`Delta::since`].
    pub fn merge_delta(&mut self, _delta: &Delta) -> Result<bool, DeltaGap> {
        unimplemented!()
    }
}

/// The visible fields of an encoded document; `None` where it is not there.
///
/// # Errors
/// [`DecodeError`] on damaged values.
pub fn visible_fields(_bytes: &[u8]) -> Result<Option<Object>, DecodeError> {
    unimplemented!()
}

/// The version vector of an encoded document, without decoding the rest.
///
/// # Errors
/// [`DecodeError`] on a damaged head.
pub fn encoded_version(_bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    unimplemented!()
}

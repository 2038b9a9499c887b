//! What one state of a document has and another lacks.

use idem_model::{DecodeError, VersionVector};

/// What a state of version [`Delta::since`] lacks of a newer one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delta {
    since: VersionVector,
    version: VersionVector,
}

/// A delta was merged into a state that does not cover the version that it builds on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the delta builds on a version that this document has not reached")]
#[non_exhaustive]
pub struct DeltaGap {}

impl Delta {
    /// What the receiving state must cover.
    pub fn since(&self) -> &VersionVector {
        &self.since
    }

    /// What the receiving state covers afterwards, at least.
    pub fn version(&self) -> &VersionVector {
        &self.version
    }

    /// The binary form, for the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Reads [`Delta::to_bytes`].
    ///
    /// # Errors
    /// [`DecodeError`] on anything that `to_bytes` does not produce.
    pub fn decode(_bytes: &[u8]) -> Result<Self, DecodeError> {
        unimplemented!()
    }
}

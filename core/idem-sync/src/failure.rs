//! Why a link is given up, on its way to the owner and to the remote.

use std::{error::Error, fmt::Write as _};

use idem_model::{DecodeError, limits};
use idem_wire::WireError;

use crate::{event::CloseReason, inlet::InletError, outlet::FalseAck};

/// A reason and words for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: CloseReason,
    pub(crate) detail: String,
    /// Whether the remote is told `detail`: not for what happened inside this peer.
    pub(crate) is_public: bool,
}

impl Failure {
    pub(crate) fn new(reason: CloseReason, detail: &str) -> Self {
        Self {
            reason,
            detail: detail.to_owned(),
            is_public: true,
        }
    }

    pub(crate) fn store(error: &dyn Error) -> Self {
        Self {
            reason: CloseReason::Store,
            detail: chain(error),
            is_public: false,
        }
    }

    /// Bytes of our own store that cannot be read.
    pub(crate) fn stored_bytes(error: &DecodeError) -> Self {
        Self::store(error)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::new(CloseReason::Malformed, &chain(&error))
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(CloseReason::Malformed, &chain(&error))
    }
}

impl From<InletError> for Failure {
    fn from(error: InletError) -> Self {
        match error {
            InletError::OverCredit => Self::new(CloseReason::Limit, "more bytes than credit"),
            InletError::BatchTooLarge => Self::new(CloseReason::Limit, "batch over the limit"),
            InletError::SmallPiece => {
                Self::new(CloseReason::Malformed, "batch in too small pieces")
            }
            InletError::Compression => Self::new(CloseReason::Malformed, "broken compression"),
        }
    }
}

impl From<FalseAck> for Failure {
    fn from(_: FalseAck) -> Self {
        Self::new(
            CloseReason::Malformed,
            "acknowledged nothing, or what was not sent",
        )
    }
}

/// The text of an error and its sources, cut to what a frame may carry.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    cut(&text).to_owned()
}

/// The longest start of `text` that a frame may carry.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(limits::WIRE_DETAIL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

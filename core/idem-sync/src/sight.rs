//! What the remote may be told of: the documents that its permit reads.

use std::sync::Arc;

use idem_auth::Permit;

/// What the remote may be told of; by default all there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight(Option<Arc<Permit>>);

impl Sight {
    /// What a permit reads.
    pub(crate) fn of(permit: Option<Arc<Permit>>) -> Self {
        Self(permit.filter(|permit| !permit.reads_everything()))
    }

    /// Whether that is all there is.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.is_none()
    }
}

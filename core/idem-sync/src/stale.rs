//! Documents of which the remote holds an outdated copy.

use std::collections::BTreeSet;

use idem_model::{DocumentKey, limits};

/// Documents that the remote sent as they were at some earlier time. Our feed has passed them, so they
/// are sent once more beside it.
///
/// Bounded: what there is no room for stays outdated at the remote until it changes, or until the two
/// compare what they hold.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    keys: BTreeSet<DocumentKey>,
}

impl Stale {
    /// The remote holds an outdated copy of this.
    pub(crate) fn insert(&mut self, key: DocumentKey) {
        if self.keys.len() < limits::STALE_DOCUMENTS_MAX {
            self.keys.insert(key);
        }
    }

    /// This one is on its way, or needs not be.
    pub(crate) fn remove(&mut self, key: &DocumentKey) {
        self.keys.remove(key);
    }

    /// The first of them, at most `count`.
    pub(crate) fn first(&self, count: usize) -> Vec<DocumentKey> {
        self.keys.iter().take(count).cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The remote is not the one that all this is about.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }
}

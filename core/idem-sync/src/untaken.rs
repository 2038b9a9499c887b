//! Documents of the remote that were not taken in here.

use std::collections::BTreeSet;

use idem_model::{DocumentKey, limits};

use crate::{event::Event, known::KeyHash, replica::Incoming};

/// Documents of which the owner was told that they were not taken in, until they are.
///
/// Bounded: of what there is no room for the owner hears when all of the collection has come.
#[derive(Debug, Default)]
pub(crate) struct Untaken {
    hashes: BTreeSet<KeyHash>,
}

impl Untaken {
    /// The owner was told of these.
    pub(crate) fn insert(&mut self, documents: &[DocumentKey]) {
        for key in documents {
            if self.hashes.len() < limits::UNTAKEN_DOCUMENTS_MAX {
                self.hashes.insert(KeyHash::of(key));
            }
        }
    }

    /// Those of them that a batch brings.
    pub(crate) fn among(&self, incoming: &[Incoming]) -> Vec<DocumentKey> {
        if self.hashes.is_empty() {
            return Vec::new();
        }
        let is_untaken = |key: &&DocumentKey| self.hashes.contains(&KeyHash::of(key));
        let keys = incoming.iter().map(|it| &it.key);
        keys.filter(is_untaken).cloned().collect()
    }

    /// They were taken in. Gives what the owner is told, if there is something.
    pub(crate) fn take(&mut self, documents: Vec<DocumentKey>) -> Option<Event> {
        for key in &documents {
            self.hashes.remove(&KeyHash::of(key));
        }
        (!documents.is_empty()).then_some(Event::TakenIn { documents })
    }
}

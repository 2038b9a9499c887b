//! The documents of one commit.

use std::{collections::BTreeSet, sync::Arc};

use idem_model::DocumentKey;

/// Keys in their order, without repetition. Most commits write one document, for which a tree would
/// take ten times the memory.
#[derive(Clone, Debug, Default)]
pub(super) enum Keys {
    #[default]
    Empty,
    One(Arc<DocumentKey>),
    /// Any number.
    All(BTreeSet<Arc<DocumentKey>>),
}

impl Keys {
    pub(super) fn insert(&mut self, key: &Arc<DocumentKey>) {
        match self {
            Self::Empty => *self = Self::One(Arc::clone(key)),
            Self::One(first) if first == key => {}
            Self::One(first) => {
                let all = [&*first, key].map(Arc::clone);
                *self = Self::All(BTreeSet::from(all));
            }
            Self::All(all) => {
                all.insert(Arc::clone(key));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &DocumentKey) {
        match self {
            Self::One(first) if **first == *key => *self = Self::Empty,
            Self::Empty | Self::One(_) => {}
            Self::All(all) => {
                all.remove(key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::One(_) => false,
            Self::All(all) => all.is_empty(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<DocumentKey>> {
        let (one, all) = match self {
            Self::Empty => (None, None),
            Self::One(first) => (Some(first), None),
            Self::All(all) => (None, Some(all.iter())),
        };
        one.into_iter().chain(all.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use idem_model::{CollectionName, DocId};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_a_set(steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..30)) {
            let (mut keys, mut expected) = (Keys::default(), BTreeSet::new());
            for (number, is_inserted) in steps {
                let key = Arc::new(DocumentKey {
                    collection: CollectionName::new("c").unwrap(),
                    id: DocId::from(number.to_string().as_str()),
                });
                match is_inserted {
                    true => keys.insert(&key),
                    false => keys.remove(&key),
                }
                match is_inserted {
                    true => expected.insert(key),
                    false => expected.remove(&key),
                };
                prop_assert!(keys.iter().eq(&expected));
                prop_assert_eq!(keys.is_empty(), expected.is_empty());
            }
        }
    }
}

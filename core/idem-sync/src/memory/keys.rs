//! The documents of one commit.

use std::{
    collections::{BTreeSet, btree_set},
    option,
};

use idem_model::DocumentKey;

/// Keys in their order, without repetition. Most commits write one document, for which a tree would
/// take ten times the memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    first: Option<DocumentKey>,
    /// All of them, once there was more than one.
    all: BTreeSet<DocumentKey>,
}

impl Keys {
    pub(super) fn insert(&mut self, key: &DocumentKey) {
        if self.is_empty() {
            self.first = Some(key.clone());
        } else if self.first.as_ref() != Some(key) {
            self.all.extend(self.first.take());
            self.all.insert(key.clone());
        }
    }

    pub(super) fn remove(&mut self, key: &DocumentKey) {
        self.first.take_if(|first| first == key);
        self.all.remove(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.all.is_empty()
    }
}

impl<'a> IntoIterator for &'a Keys {
    type Item = &'a DocumentKey;
    type IntoIter =
        std::iter::Chain<option::Iter<'a, DocumentKey>, btree_set::Iter<'a, DocumentKey>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.iter().chain(&self.all)
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
                let key = DocumentKey {
                    collection: CollectionName::new("c").unwrap(),
                    id: DocId::from(number.to_string().as_str()),
                };
                match is_inserted {
                    true => keys.insert(&key),
                    false => keys.remove(&key),
                }
                match is_inserted {
                    true => expected.insert(key),
                    false => expected.remove(&key),
                };
                prop_assert!(keys.into_iter().eq(&expected));
                prop_assert_eq!(keys.is_empty(), expected.is_empty());
            }
        }
    }
}

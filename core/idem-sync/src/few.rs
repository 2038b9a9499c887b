//! A map for a handful of entries, of which a session has many.

/// A map in the order of its keys that takes the memory of its entries and none when it is empty, where a
/// tree makes room for eleven and keeps it. To add or remove an entry moves those behind it, so that it is for
/// what is rarely more than a few, and at most some hundreds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Few<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<K: Ord, V> Few<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let place = self.place(key).ok()?;
        Some(&self.entries[place].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        Some(&mut self.entries[place].1)
    }

    /// Gives what was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.entries[place].1, value)),
            Err(place) => {
                self.insert_at(place, key, value);
                None
            }
        }
    }

    pub(crate) fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let place = match self.place(&key) {
            Ok(place) => place,
            Err(place) => {
                self.insert_at(place, key, value());
                place
            }
        };
        &mut self.entries[place].1
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key).ok()?;
        let (_, value) = self.entries.remove(place);
        if self.entries.is_empty() {
            self.clear();
        }
        Some(value)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(K, V)> {
        let is_some = !self.entries.is_empty();
        let first = is_some.then(|| self.entries.remove(0));
        if self.entries.is_empty() {
            self.clear();
        }
        first
    }

    pub(crate) fn retain(&mut self, mut is_kept: impl FnMut(&K, &V) -> bool) {
        self.entries.retain(|(key, value)| is_kept(key, value));
        self.entries.shrink_to_fit();
    }

    pub(crate) fn clear(&mut self) {
        self.entries = Vec::new();
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.entries.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.entries.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(key))
    }

    fn insert_at(&mut self, place: usize, key: K, value: V) {
        if self.entries.len() == self.entries.capacity() {
            // Half as much again: a vector alone would begin with four.
            self.entries.reserve_exact(1 + self.entries.len() / 2);
        }
        self.entries.insert(place, (key, value));
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut few = Self::default();
        for (key, value) in entries {
            few.insert(key, value);
        }
        few
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u8..8, 0_u8..6, any::<u16>()), 0..60)) {
            let (mut few, mut map) = (Few::default(), BTreeMap::new());
            for (key, step, value) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(few.insert(key, value), map.insert(key, value)),
                    2 => prop_assert_eq!(few.remove(&key), map.remove(&key)),
                    3 => {
                        let made = few.get_or_insert_with(key, || value);
                        prop_assert_eq!(made, map.entry(key).or_insert(value));
                    }
                    4 => {
                        few.retain(|it, _| *it < key);
                        map.retain(|it, _| *it < key);
                    }
                    _ => prop_assert_eq!(few.pop_first(), map.pop_first()),
                }
                prop_assert!(few.iter().eq(&map));
                prop_assert!(few.iter_mut().map(|(key, value)| (key, &*value)).eq(&map));
                prop_assert!(few.keys().eq(map.keys()));
                prop_assert!(few.values().eq(map.values()));
                prop_assert!(few.values_mut().eq(map.values_mut()));
                prop_assert_eq!(few.get(&key), map.get(&key));
                prop_assert_eq!(few.get_mut(&key), map.get_mut(&key));
                prop_assert_eq!(few.contains_key(&key), map.contains_key(&key));
                prop_assert_eq!((few.len(), few.is_empty()), (map.len(), map.is_empty()));
                prop_assert!(!few.is_empty() || few.entries.capacity() == 0);
            }
        }
    }
}

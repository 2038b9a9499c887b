//! Which groups of a blob are there.

use std::ops::Range;

/// A set of groups of one blob, one bit for each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSet {
    words: Vec<u64>,
    groups: u64,
    count: u64,
}

impl GroupSet {
    /// An empty set for a blob of so many groups.
    ///
    /// # Panics
    /// If so many bits do not fit in memory.
    pub fn new(groups: u64) -> Self {
        let words = usize::try_from(groups.div_ceil(64)).expect("a bit for each group fits");
        Self {
            words: vec![0; words],
            groups,
            count: 0,
        }
    }

    /// How many groups the blob has.
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// How many groups are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether all groups are in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.groups
    }

    /// Whether `group` is in the set.
    pub fn contains(&self, group: u64) -> bool {
        group < self.groups && self.words[word(group)] & bit(group) != 0
    }

    /// Whether all of `range` is in the set.
    pub fn contains_all(&self, range: Range<u64>) -> bool {
        range.end <= self.groups
            && self
                .next_missing(range.start)
                .is_none_or(|at| at >= range.end)
    }

    /// Adds the groups of `range` that the blob has.
    pub fn insert(&mut self, range: Range<u64>) {
        for group in range.start..range.end.min(self.groups) {
            let word = &mut self.words[word(group)];
            self.count += u64::from(*word & bit(group) == 0);
            *word |= bit(group);
        }
    }

    /// Takes `group` out.
    pub fn remove(&mut self, group: u64) {
        if self.contains(group) {
            self.words[word(group)] &= !bit(group);
            self.count -= 1;
        }
    }

    /// The first group from `from` on that is not in the set.
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        self.next(from, |word| !word)
    }

    /// The first group from `from` on that is in the set.
    pub fn next_present(&self, from: u64) -> Option<u64> {
        self.next(from, |word| word)
    }

    /// The longest ranges of groups in the set, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next_present(at)?;
            let end = self.next_missing(start).unwrap_or(self.groups);
            at = end;
            Some(start..end)
        })
    }

    fn next(&self, from: u64, look: impl Fn(u64) -> u64) -> Option<u64> {
        if from >= self.groups {
            return None;
        }
        let mut at = word(from);
        let mut bits = look(self.words[at]) & (u64::MAX << (from % 64));
        while bits == 0 {
            at += 1;
            bits = look(*self.words.get(at)?);
        }
        let found = at as u64 * 64 + u64::from(bits.trailing_zeros());
        (found < self.groups).then_some(found)
    }
}

fn word(group: u64) -> usize {
    usize::try_from(group / 64).expect("checked when the set was made")
}

fn bit(group: u64) -> u64 {
    1 << (group % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_was_put_in() {
        let mut set = GroupSet::new(130);
        let mut twin = std::collections::BTreeSet::new();
        for (start, end) in [(3, 5), (60, 70), (4, 9), (128, 400), (0, 0)] {
            set.insert(start..end);
            twin.extend(start..end.min(130));
        }
        set.remove(65);
        twin.remove(&65);
        assert_eq!(set.count(), twin.len() as u64);
        for group in 0..131 {
            assert_eq!(set.contains(group), twin.contains(&group), "{group}");
            let next = twin.range(group..).next().copied();
            assert_eq!(set.next_present(group), next);
            let missing = (group..130).find(|it| !twin.contains(it));
            assert_eq!(set.next_missing(group), missing);
        }
        let runs: Vec<_> = set.runs().collect();
        assert_eq!(runs, [3..9, 60..65, 66..70, 128..130]);
        assert!(set.contains_all(66..70) && !set.contains_all(64..70));
        assert!(!set.contains_all(128..131));
        set.insert(0..130);
        assert!(set.is_full() && set.next_missing(0).is_none());
    }
}

//! What changed between two results.

use std::collections::BTreeMap;

use idem_model::Value;

use crate::query::QueryResultItem;

/// A row that changed its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Index in the earlier result.
    pub from: usize,
    /// Index in the later result.
    pub to: usize,
}

/// The difference between two results of one query. Two rows are the same row if their `_id` is; rows
/// without `_id` are the same row if all of them is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Indexes in the later result of rows that were not in the earlier one, ascending.
    pub insertions: Vec<usize>,
    /// Indexes in the earlier result of rows that are gone, ascending.
    pub deletions: Vec<usize>,
    /// Indexes in the later result of rows whose content changed, ascending.
    pub updates: Vec<usize>,
    /// The fewest rows that must move so that the rest keeps its order, by ascending place.
    pub moves: Vec<Move>,
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Remembers the last result that it was shown and says what changed since.
#[derive(Debug, Clone, Default)]
pub struct Differ {
    before: Vec<QueryResultItem>,
}

impl Differ {
    /// A differ that has seen an empty result.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compares `items` with those of the last call, and remembers them. Costs n log n.
    pub fn diff(&mut self, items: &[QueryResultItem]) -> Diff {
        // Rows with one identity (a join gives them) pair up in their order.
        let mut places: BTreeMap<Vec<u8>, std::collections::VecDeque<usize>> = BTreeMap::new();
        for (from, item) in self.before.iter().enumerate() {
            places.entry(identity(item)).or_default().push_back(from);
        }
        let mut diff = Diff::default();
        let mut kept = Vec::new();
        for (to, item) in items.iter().enumerate() {
            match places
                .get_mut(&identity(item))
                .and_then(|at| at.pop_front())
            {
                None => diff.insertions.push(to),
                Some(from) => {
                    if self.before[from] != *item {
                        diff.updates.push(to);
                    }
                    kept.push(Move { from, to });
                }
            }
        }
        diff.deletions = places.into_values().flatten().collect();
        diff.deletions.sort_unstable();
        let stays = longest_rising(&kept);
        diff.moves = kept
            .into_iter()
            .zip(stays)
            .filter_map(|(place, stays)| (!stays).then_some(place))
            .collect();
        self.before = items.to_vec();
        diff
    }
}

fn identity(item: &QueryResultItem) -> Vec<u8> {
    match item.field("_id") {
        Some(id) => id.to_bytes(),
        None => Value::Object(item.value().clone()).to_bytes(),
    }
}

/// Which of the places, in order of `to`, belong to a longest run of rising `from`.
fn longest_rising(places: &[Move]) -> Vec<bool> {
    // tails[n] is the place that ends the best run of n + 1 seen so far; before[i] the one ahead of
    // place i in its run.
    let mut tails: Vec<usize> = Vec::new();
    let mut before = vec![None; places.len()];
    for (i, place) in places.iter().enumerate() {
        let length = tails.partition_point(|&tail| places[tail].from < place.from);
        before[i] = length.checked_sub(1).map(|shorter| tails[shorter]);
        tails.truncate(length + 1);
        if length == tails.len() {
            tails.push(i);
        } else {
            tails[length] = i;
        }
    }
    let mut stays = vec![false; places.len()];
    let mut at = tails.last().copied();
    while let Some(i) = at {
        stays[i] = true;
        at = before[i];
    }
    stays
}

#[cfg(test)]
mod tests {
    use idem_model::Object;

    use super::*;

    fn rows(spec: &str) -> Vec<QueryResultItem> {
        spec.split_whitespace()
            .map(|row| QueryResultItem {
                value: Object::from([
                    ("_id".to_owned(), row[..1].into()),
                    ("v".to_owned(), row[1..].into()),
                ]),
            })
            .collect()
    }

    fn check(before: &str, after: &str, expected: Diff) {
        let mut differ = Differ::new();
        differ.diff(&rows(before));
        assert_eq!(differ.diff(&rows(after)), expected, "{before} -> {after}");
        assert!(differ.diff(&rows(after)).is_empty());
    }

    #[test]
    fn changes_are_named_by_their_place() {
        check(
            "",
            "a b",
            Diff {
                insertions: vec![0, 1],
                ..Diff::default()
            },
        );
        check(
            "a b c",
            "b",
            Diff {
                deletions: vec![0, 2],
                ..Diff::default()
            },
        );
        check(
            "a b",
            "a bX",
            Diff {
                updates: vec![1],
                ..Diff::default()
            },
        );
        check(
            "a b c d",
            "d a b c",
            Diff {
                moves: vec![Move { from: 3, to: 0 }],
                ..Diff::default()
            },
        );
        check(
            "a b c",
            "x cX a",
            Diff {
                insertions: vec![0],
                deletions: vec![1],
                updates: vec![1],
                moves: vec![Move { from: 2, to: 1 }],
            },
        );
    }

    /// Applies a diff the way a list on a screen would, and gives the ids that result.
    fn replay(before: &[QueryResultItem], after: &[QueryResultItem], diff: &Diff) -> Vec<String> {
        let moved = |at: usize| diff.moves.iter().any(|m| m.from == at);
        let mut kept = before
            .iter()
            .enumerate()
            .filter(|(at, _)| !diff.deletions.contains(at) && !moved(*at))
            .map(|(_, item)| item);
        (0..after.len())
            .map(|to| {
                let moved = diff.moves.iter().find(|m| m.to == to);
                let item = match moved {
                    Some(place) => &before[place.from],
                    None if diff.insertions.contains(&to) => &after[to],
                    None => kept.next().expect("the diff accounts for every row"),
                };
                format!("{:?}", item.field("_id"))
            })
            .collect()
    }

    #[test]
    fn a_list_that_follows_the_diff_shows_the_result() {
        let spec = |seed: u32| -> String {
            let mut state = seed;
            let mut letters: Vec<char> = ('a'..='l').collect();
            let mut next = move || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16) as usize
            };
            for at in (1..letters.len()).rev() {
                letters.swap(at, next() % (at + 1));
            }
            letters.truncate(next() % 13);
            letters.iter().map(|c| format!("{c} ")).collect()
        };
        for seed in 0..500 {
            let (before, after) = (rows(&spec(seed)), rows(&spec(seed + 1000)));
            let mut differ = Differ::new();
            differ.diff(&before);
            let diff = differ.diff(&after);
            let ids: Vec<_> = after
                .iter()
                .map(|i| format!("{:?}", i.field("_id")))
                .collect();
            assert_eq!(replay(&before, &after, &diff), ids, "seed {seed}");
        }
    }
}

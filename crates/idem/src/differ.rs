//! What changed between two results.

use crate::query::QueryResultItem;

/// A row that changed its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Index in the earlier result.
    pub from: usize,
    /// Index in the later result.
    pub to: usize,
}

/// The difference between two results of one query. Rows are the same row if their `_id` is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Indexes in the later result of rows that were not in the earlier one.
    pub insertions: Vec<usize>,
    /// Indexes in the earlier result of rows that are gone.
    pub deletions: Vec<usize>,
    /// Indexes in the later result of rows whose content changed.
    pub updates: Vec<usize>,
    /// Rows that are in both but not in the same relative order.
    pub moves: Vec<Move>,
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

    /// Compares `items` with those of the last call, and remembers them.
    pub fn diff(&mut self, items: &[QueryResultItem]) -> Diff {
        self.before = items.to_vec();
        unimplemented!()
    }
}

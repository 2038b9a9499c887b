//! How the rows of a source are found.
//!
//! When a statement is bound, its conditions are given to the first source where all that they need
//! is there, and [`Access`] notes what they say about where the rows of a source are: document ids,
//! and tests of a field against a value that is known before. When the statement runs,
//! [`choose`] matches them once with the indexes that exist then, and gives an [`AccessPath`]; the
//! ranges of keys are computed from the path for each row of the sources before.
//!
//! An index decides only how many rows are looked at: results and their order do not depend on it.

mod access;
mod choose;
mod conditions;
mod describe;
mod fields;
mod joins;
mod spans;

pub(crate) use access::{Access, Branch, FieldTest, Origin, Test, Tested, ordered_by};
pub(crate) use choose::{
    AccessPath, BranchPath, Catalog, IndexOrder, IndexPath, PathKind, Wish, choose, wants_index,
};
pub(crate) use conditions::{prepare_body, prepare_query, prepare_scan};
pub use describe::to_text;
pub(crate) use describe::{Decided, Decisions, Total, describe, for_each_subquery};
pub(crate) use fields::{of_expression as fields_of_expression, of_index as fields_of_index};
pub(crate) use spans::{SpanGroup, canonical, index_spans};

use crate::ast::CompareOp;

/// The operator with its sides exchanged.
pub(crate) fn flip(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessEqual => CompareOp::GreaterEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterEqual => CompareOp::LessEqual,
        same => same,
    }
}

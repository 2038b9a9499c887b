//! Queries on a store give what a naive evaluation over its documents gives: its indexes hold what
//! its documents hold, whatever was changed.

use super::statement_compare;
use crate::{
    statements::{STORE_OPERATORS, Tallies, compare_on_store},
    target::Target,
};

pub(super) const TARGET: Target = Target {
    name: "store_compare",
    run: |data| statement_compare::run(data, &TALLIES, compare_on_store),
    seeds: statement_compare::seeds,
};

pub(super) static TALLIES: Tallies = Tallies::new(STORE_OPERATORS);

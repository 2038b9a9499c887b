//! The tests of documents: laws, the independent twin, cost, golden files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod history;
mod model_twin;
mod prop_codec;
mod prop_lattice;
mod table;

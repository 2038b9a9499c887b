//! The tests of documents: laws, the independent twin, single rules, cost, golden files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cost;
mod declared;
mod edits;
mod golden;
mod history;
mod model_twin;
mod past;
mod prop_codec;
mod prop_encoded;
mod prop_lattice;
mod prop_project;
mod table;

//! DQL end to end, over a store double in memory.

#![expect(clippy::unwrap_used, reason = "a test that fails should panic")]

mod bad_input;
mod conformance;
mod functions;
mod golden;
mod interruption;
mod memory;
mod model_joins;
mod names;
mod prop_index;
mod prop_live;
mod prop_parser;
mod prop_selector;
mod prop_window;
mod queries;
mod rules;
mod statements;
mod too_much;

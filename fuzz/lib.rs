//! Broken input for every decoder and parser of Idem.
//!
//! A fuzz target is a function from bytes to a [`Verdict`] that panics when something does not hold:
//! one file of `fuzz_targets/` each, listed in [`TARGETS`]. The [`Fuzzer`] starts from valid inputs,
//! mutates them with a seeded generator, keeps what the target accepts and mutates that again. It
//! runs on stable Rust and has no view of coverage; it knows the formats instead: it breaks
//! counts, lengths and tags, and joins pieces of valid inputs.
//!
//! A target also fails when it takes more memory than the input explains, or too long. What fails is
//! written to `vectors/crashers/TARGET/` and replayed by `cargo test` from then on.
//!
//! Each target's `run` is a body as a coverage-guided fuzzer wants it:
//! `fuzz_target!(|data: &[u8]| { idem_fuzz::TARGETS[0].check(data); })`.

#[path = "../core/idem-query/tests/it/memory.rs"]
#[expect(dead_code, reason = "the tests of idem-query use more of it")]
mod double;
mod fuzz_targets;
mod fuzzer;
mod memory;
mod mutator;
mod sessions;
mod statements;
mod target;

pub use fuzz_targets::{TARGETS, never_planned, tallies};
pub use fuzzer::{Budget, Crash, Fuzzer, Tally};
pub use memory::{freed_by, peak_of};
pub use mutator::{Mutator, Random};
pub use target::{Target, Verdict};

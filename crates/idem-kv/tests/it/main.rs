//! Tests of the key-value layer through its public interface.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod batch;
mod concurrent;
mod conformance;
mod crash;
mod fault;
mod flip;
mod rows;
mod sealed;
mod support;

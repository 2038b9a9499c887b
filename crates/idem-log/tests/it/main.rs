//! Tests of the log through its public interface.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fault;
mod golden;
mod group_commit;
mod model_crash;
mod model_flip;
mod sealed;
mod support;

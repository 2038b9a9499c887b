//! Tests of the log through its public interface.

mod fault;
mod group_commit;
mod model_crash;
mod model_flip;
mod support;

//! Tests of the key-value layer through its public interface.

mod batch;
mod concurrent;
mod conformance;
mod crash;
mod fault;
mod flip;
mod support;

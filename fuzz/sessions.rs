//! Schedules of two replication sessions, one of which may lie, made of the bytes of an input.
//!
//! Every byte is a choice: who writes, what is sent and lost, when links and processes die, and what
//! the hostile side says that it should not. After the schedule the hostile side is replaced by an
//! honest one with the same documents, and both must converge.

mod lies;
mod side;
mod world;

pub(crate) use world::World;

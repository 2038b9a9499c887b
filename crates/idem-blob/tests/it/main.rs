//! The store of blobs as its users see it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod damage;
mod faults;
mod fetching;
mod keeping;
mod sealed;
mod support;

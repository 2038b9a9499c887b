//! Certificates, permits, trust and signed commits: what holds, and what attacks must fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod authorities;
mod commits;
mod exchange;
mod golden;
mod parties;
mod permits;
mod prop_decode;
mod prop_permit;
mod trust;

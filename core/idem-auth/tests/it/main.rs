//! Certificates, permits, trust and signed commits: what holds, and what attacks must fail.

mod attacks;
mod authorities;
mod commits;
mod golden;
mod parties;
mod permits;
mod prop_decode;
mod prop_permit;
mod trust;

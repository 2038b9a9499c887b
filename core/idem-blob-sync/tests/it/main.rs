//! Exchanges on a network in virtual time.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod hostile;
mod meetings;
mod prop_meshes;
mod ways;
mod world;

//! The command as its users see it: processes, exit codes, stdout and stderr.

// Marked as tests so that the lint on `unwrap` knows them for what they are.
#[cfg(test)]
mod authority;
mod commands;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod driven;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod jsonl;
#[cfg(test)]
mod keys;
mod killed;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod lan;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod syncing;

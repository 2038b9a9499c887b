//! Peers, links and disks in one process, under a clock and faults that a seed decides.
//!
//! The code that replicates is the real one: `idem_sync::Session`, with the wire format and the
//! document lattice below it. What is simulated is everything it touches: time, the network, the
//! disk and the people who write. A run has two phases. In the first, [`Options::from_seed`] decides
//! what is written, which links fall and which processes die. Then everything heals, and the run
//! must come to rest. The checkers of [`Violation`] look on all the time.
//!
//! The same seed gives the same run, to the byte: [`Report::trace`] is a hash over every frame and
//! every fault. A failure names its seed; `SIM_SEED=7 cargo test -p idem-sim` runs that one alone.
//!
//! ```
//! let report = idem_sim::run(7)?;
//! assert_eq!(report.trace, idem_sim::run(7)?.trace);
//! # Ok::<(), idem_sim::Failure>(())
//! ```
//!
//! What it does not simulate yet: the storage engine (the replica is `idem_sync::MemoryReplica`,
//! which loses what was not made durable), radios, and peers that cheat.

mod canary;
mod check;
mod disk;
mod network;
mod options;
mod peer;
mod random;
mod workload;
mod world;

pub use canary::Canary;
pub use check::Violation;
pub use options::Options;
pub use world::{Failure, Report, run, run_with};

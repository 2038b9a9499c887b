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
//! # Ok::<(), Box<idem_sim::Failure>>(())
//! ```
//!
//! In one run of five the peers have the real store on a simulated disk, written to in DQL; in the
//! others `idem_sync::MemoryReplica`, which is faster and loses what was not made durable as well.
//!
//! What goes wrong ([`Faults`], [`LinkModel`], [`Conduct`]): links that are slow, lose packets, die or
//! live for a short time only; several links of which one dies; partitions; processes that die with
//! what was not on disk; disks that are replaced by a backup or by another peer's; clocks that are
//! wrong and jump; peers of a later protocol version; peers that cheat. In a field ([`FieldOptions`]) peers
//! have places, and radios whose time all their links share; they walk, and the real `idem_mesh::Mesh` of
//! each decides who links with whom.

mod afterlife;
mod app;
mod attachments;
mod canary;
mod carrier;
mod chart;
mod check;
mod conduct;
mod delivery;
mod disk;
mod engine;
mod field;
mod network;
mod options;
mod pair;
mod peer;
mod random;
mod reader;
mod scenario;
mod simulation;
mod workload;
mod world;

pub use app::{App, PeerHandle};
pub use canary::Canary;
pub use chart::{draw_curve, draw_mesh, draw_run};
pub use check::Violation;
pub use conduct::Conduct;
pub use delivery::CurvePoint;
pub use field::FieldOptions;
pub use network::{EdgeOptions, LinkModel};
pub use options::{Absences, Attachments, Faults, Options, Relays, Scopes, Windows};
pub use pair::{Pair, Traffic};
pub use scenario::{Scenario, ScenarioError, TopologyKind};
pub use simulation::{BuildError, Simulation, SimulationBuilder};
pub use world::{Failure, MeshPicture, MeshReport, Report, run, run_with};

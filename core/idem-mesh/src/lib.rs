//! Whom a peer links with, without I/O.
//!
//! A [`Mesh`] is told which addresses discoveries see and which links are up, and asks its owner to dial
//! and to close. It knows no socket, no clock and no entropy: time is an argument, one seed feeds every
//! choice, and what must be done is polled.

mod candidates;
mod choose;
mod event;
mod links;
mod mesh;
mod names;
mod random;

pub use event::{Action, CloseCause, DialFailure, Found, LinkUp, MeshEvent};
pub use idem_model::LinkId;
pub use mesh::{Mesh, MeshConfig};
pub use names::{AddressId, Medium, MediumLimits, MeshLimits, PeerHash};

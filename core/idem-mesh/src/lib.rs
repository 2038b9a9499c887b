//! Whom a peer links with, and what it knows of the others, without I/O.
//!
//! A [`Mesh`] is told which addresses discoveries see, which links are up and what neighbours say, and asks
//! its owner to dial, to close and to pass bytes on. It knows no socket, no clock and no entropy: time is an
//! argument, one seed feeds every choice, and what must be done is polled.
//!
//! ```text
//!   discoveries --Found--> Candidates --+--> Chooser --Dial, Close--> owner
//!   links ------LinkUp---> Links -------+       ^
//!                            |                  | who is elsewhere, who has many links
//!                            v                  |
//!   gossip --------------> Exchange --> Table --> Survey --> Graph --> app
//! ```
//!
//! What holds at all times:
//!
//! - There are no more links over a medium than its [`MediumLimits`] allow, but for addresses that the app
//!   named; and one to a peer over each medium.
//! - A few links are kept, not many. Who sees a peer that no chain of links leads to dials it after some
//!   seconds; one link is exchanged now and then, so that no arrangement lasts.
//! - What is shown of other peers is signed by them, and a link between two of them counts if both say so.
//! - Everything is bounded: addresses, records, what a neighbour may say and introduce. Who breaks a rule
//!   loses its links.
//!
//! Nothing here decides what is replicated: that is `idem-sync`, for the links that are there.
//!
//! ```
//! use std::time::Duration;
//! use idem_mesh::*;
//! use idem_model::{DatabaseId, PeerId};
//!
//! #[derive(Debug)]
//! struct Identity; // owns the secret key of this peer
//! impl Signer for Identity {
//!     fn sign(&self, _message: &[u8]) -> [u8; 64] {
//!         [0; 64]
//!     }
//!     fn holds(&self, _: &PeerId, _message: &[u8], _signature: &[u8; 64]) -> bool {
//!         true
//!     }
//! }
//!
//! let (database, other) = (DatabaseId([7; 16]), PeerId([2; 32]));
//! let config = MeshConfig {
//!     database,
//!     local: PeerId([1; 32]),
//!     seed: 42,
//!     started_ms: 1_790_000_000_000,
//!     limits: MeshLimits::default(),
//!     interest: InterestConfig::default(),
//! };
//! let mut now = Duration::ZERO;
//! let mut mesh = Mesh::new(now, config, Box::new(Identity));
//!
//! // A discovery sees somebody.
//! let address = AddressId(1);
//! mesh.handle_found(now, Found {
//!     address,
//!     medium: Medium::Lan,
//!     peer: Some(PeerHash::of(database, other)),
//!     is_configured: false,
//!     signal_dbm: None,
//! });
//! // Now is the time to look at it ..
//! assert_eq!(mesh.poll_timeout(), Some(now));
//! mesh.handle_timeout(now);
//! assert_eq!(mesh.poll_action(), Some(Action::Dial(address)));
//! // .. and the dial succeeds.
//! now += Duration::from_millis(20);
//! let up = LinkUp { link: LinkId(1), peer: other, medium: Medium::Lan, address: Some(address), is_inbound: false, is_configured: false };
//! mesh.handle_link_up(now, up);
//! assert_eq!(mesh.poll_action(), Some(Action::Prefer { peer: other, link: LinkId(1) }));
//! // Hand these bytes to the neighbour, and what it says to `handle_gossip`.
//! assert!(matches!(mesh.poll_action(), Some(Action::Gossip { .. })));
//! assert_eq!(mesh.poll_event(), Some(MeshEvent::PresenceChanged));
//! assert_eq!(mesh.graph().peers.len(), 2);
//! ```

mod budget;
mod candidates;
mod choose;
mod event;
mod frame;
mod gossip;
mod graph;
mod interests;
mod links;
mod mesh;
mod names;
mod publish;
mod random;
mod record;
mod redial;
mod survey;
mod table;
mod uplink;

pub use event::{Action, CloseCause, DialFailure, Found, LinkUp, MeshEvent};
pub use frame::{Gossip, Interest, Way};
pub use gossip::GossipError;
pub use graph::{Graph, GraphLink, GraphPeer};
pub use idem_model::LinkId;
pub use idem_wire::SubscriptionId;
pub use interests::{Carried, InterestConfig, Interests};
pub use mesh::{Mesh, MeshConfig};
pub use names::{AddressId, Medium, MediumLimits, MeshLimits, PeerHash};
pub use record::{OwnRecord, PeerKind, PresenceRecord, RecordLink, SignedRecord, Signer};
pub use redial::Redial;

//! What a mesh is told, what it asks for and what it tells.

use idem_model::{LinkId, PeerId};

use crate::{
    gossip::GossipError,
    names::{AddressId, Medium, PeerHash},
};

/// A discovery sees a peer, or sees it still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// How the owner names the address.
    pub address: AddressId,
    /// What a link to it would run over.
    pub medium: Medium,
    /// Who is there, as the discovery says. Nobody vouches for it, so it decides only who is dialled.
    pub peer: Option<PeerHash>,
    /// Whether the app asked for this address: it is dialled whatever else is linked.
    pub is_configured: bool,
    /// How strong its signal is, where the medium tells.
    pub signal_dbm: Option<i8>,
}

/// A link whose two ends have proved who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkUp {
    /// How the owner names the link.
    pub link: LinkId,
    /// Who the other end is.
    pub peer: PeerId,
    /// What it runs over.
    pub medium: Medium,
    /// The address that was dialled; `None` for a link that the other side dialled.
    pub address: Option<AddressId>,
    /// Whether the other side dialled.
    pub is_inbound: bool,
    /// Whether an app asked for it: it stays whatever else is linked, beside other links of the peer too.
    /// One to an address that is configured need not say so.
    pub is_configured: bool,
}

/// Why a dialled address gave no link. It decides when it is dialled again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum DialFailure {
    /// Nobody answers, or the link was lost in the handshake: again after a second, doubling up to a
    /// minute.
    Unreachable,
    /// The other side has no room: again after half a minute.
    Full,
    /// The other side does not want this peer, or this one that: again after five minutes.
    Denied,
    /// Another database, another key, another protocol or no peer at all: again after ten minutes.
    Mismatch,
    /// The address leads to this peer: again after an hour.
    SelfLink,
}

/// What the owner is asked to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Make a link to an address, and tell of its success or failure.
    Dial(AddressId),
    /// End a link, and tell when it is down.
    Close {
        /// Which one.
        link: LinkId,
        /// Why.
        cause: CloseCause,
    },
    /// Use this link of a peer, and keep its others as they are: idle, in reserve.
    Prefer {
        /// The peer.
        peer: PeerId,
        /// One of its links.
        link: LinkId,
    },
    /// Hand these bytes to a neighbour, over whichever link: its [`Mesh`](crate::Mesh) takes them in with
    /// `handle_gossip`. They must arrive in order; if some cannot be sent, say so with
    /// `handle_gossip_lost`.
    Gossip {
        /// To whom.
        peer: PeerId,
        /// At most `limits::GOSSIP_BYTES_MAX`.
        bytes: Vec<u8>,
    },
}

/// Why a mesh ends a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseCause {
    /// There is another link to the same peer over the same medium.
    #[error("there is another link to this peer over the same medium")]
    Duplicate,
    /// There are as many links as may be.
    #[error("there is no room for one more link")]
    Full,
    /// Both ends have more links than they need.
    #[error("both ends have more links than they need")]
    Surplus,
    /// It makes room for another link.
    #[error("it makes room for another link")]
    Replaced,
    /// The other end is this peer.
    #[error("the other end is this peer")]
    SelfLink,
    /// The other end broke a rule.
    #[error("the other end broke a rule of the mesh")]
    Misbehaved,
}

/// Something that the app may want to show or act on. As text it is a sentence without its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshEvent {
    /// [`Mesh::graph`](crate::Mesh::graph) is another one now.
    #[error("the picture of the mesh has changed")]
    PresenceChanged,
    /// What is relayed, and for whom, is something else now ([`Mesh::interests`](crate::Mesh::interests)).
    #[error("what is relayed for others has changed")]
    InterestsChanged,
    /// A neighbour broke a rule of gossip. Its links are ended, and it is not linked with for ten minutes.
    #[error("neighbour {peer} broke a rule of the mesh: {error}")]
    Misbehaved {
        /// Who.
        peer: PeerId,
        /// What it did.
        error: GossipError,
    },
    /// Somebody signs with the key of this peer: a copy of it runs elsewhere, or its clock was set back.
    #[error(
        "a newer presence of this peer is known to {from}: a copy of it may be running elsewhere"
    )]
    Double {
        /// The neighbour that has it.
        from: PeerId,
    },
    /// A peer was turned away.
    #[error("peer {peer} was turned away from the {medium}: {cause}")]
    Refused {
        /// Who.
        peer: PeerId,
        /// Over what it came.
        medium: Medium,
        /// Why.
        cause: CloseCause,
    },
    /// An address is not dialled, because so many are kept in mind already.
    #[error("an address is left aside: {limit} are kept in mind")]
    TooManyAddresses {
        /// The limit.
        limit: usize,
    },
}

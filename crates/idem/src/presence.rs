//! Which peers are there.

use std::{net::SocketAddr, sync::Arc};

use idem_model::PeerId;

use crate::core::Core;

/// The peers that this one knows of.
#[derive(Debug, Clone)]
pub struct Presence {
    core: Arc<Core>,
}

impl Presence {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// This peer and those it is linked to now.
    pub fn graph(&self) -> PresenceGraph {
        PresenceGraph {
            local_peer: Peer {
                peer_key: self.core.peer,
                device_name: self.core.replication.device_name().to_owned(),
                connections: Vec::new(),
                synced_up_to_local_commit_id: None,
            },
            remote_peers: self.core.replication.peers(),
        }
    }

    /// The key of this peer: its ed25519 public key.
    pub fn local_peer_key(&self) -> PeerId {
        self.core.peer
    }
}

/// A picture of the mesh. For now it holds direct links only.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceGraph {
    /// This peer.
    pub local_peer: Peer,
    /// The others, by key.
    pub remote_peers: Vec<Peer>,
}

/// One peer of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its ed25519 public key.
    pub peer_key: PeerId,
    /// Its name, empty if it told none.
    pub device_name: String,
    /// Its links with this peer.
    pub connections: Vec<Connection>,
    /// The last commit of this peer that it has confirmed to hold, if any.
    pub synced_up_to_local_commit_id: Option<u64>,
}

/// The medium of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionKind {
    /// TCP on a local network or by a configured address.
    Tcp,
    /// A WebSocket, through an HTTP port.
    WebSocket,
    /// Inside one process.
    Memory,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// The medium.
    pub kind: ConnectionKind,
    /// The other end's address, where there is one.
    pub address: Option<SocketAddr>,
    /// Whether the other side dialled.
    pub is_inbound: bool,
}

//! Which peers are there.

use std::{net::SocketAddr, sync::Arc};

use idem_mesh::{GraphPeer, Medium, PeerKind};
use idem_model::{Object, PeerId, Value, json};
use idem_transport::LinkKind;
use serde::Serialize;

use crate::{
    core::Core,
    doorkeeper::{ConnectionRequest, ConnectionRequestAuthorization},
    error::Error,
    picture::Picture,
    serialize,
};

/// The peers that this one knows of: those it is linked with, and those that are linked with them, and so
/// on. Each signs what it says of itself, and all pass it on.
#[derive(Debug, Clone)]
pub struct Presence {
    core: Arc<Core>,
}

impl Presence {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// The mesh as far as this peer knows it now. Own links are shown within a moment. Other peers tell of
    /// theirs after about a second, and of many changes in a row more slowly, down to once in half a minute.
    ///
    /// It is made anew with each call: some milliseconds for 1,000 peers.
    pub fn graph(&self) -> PresenceGraph {
        self.core.replication.picture().graph()
    }

    /// Calls `callback` with the graph soon, and again after changes, at most every half second. It runs on a
    /// thread of this crate; while it runs, no other observer of presence is called.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey};
    /// # let key = SharedKey::from_secret("correct horse battery staple");
    /// # let config = IdemConfig::new(DatabaseId([1; 16]), ConnectMode::SharedKey { key });
    /// # let idem = Idem::open_sync(config)?;
    /// let _observer = idem.presence().observe(|graph| {
    ///     for peer in &graph.remote_peers {
    ///         println!("{} is {} links away", peer.device_name, peer.distance);
    ///     }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn observe(
        &self,
        callback: impl FnMut(PresenceGraph) + Send + 'static,
    ) -> Result<PresenceObserver, Error> {
        let picture = Arc::clone(self.core.replication.picture());
        let id = picture.observe(callback)?;
        Ok(PresenceObserver { picture, id })
    }

    /// Lets all peers of the mesh see `metadata`, which must serialize to an object, in place of what was set
    /// before. Peers that hold the shared key can read it. It is not stored: set it after each start.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey};
    /// # let key = SharedKey::from_secret("correct horse battery staple");
    /// # let config = IdemConfig::new(DatabaseId([1; 16]), ConnectMode::SharedKey { key });
    /// # let idem = Idem::open_sync(config)?;
    /// idem.presence().set_peer_metadata(&serde_json::json!({"seat": "14C"}))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::ValidationValue`](crate::ErrorKind::ValidationValue) if it is no object, or takes more
    /// than 4 KiB as compact JSON. What was set before stays then.
    pub fn set_peer_metadata(&self, metadata: &impl Serialize) -> Result<(), Error> {
        let metadata = serialize::to_metadata(metadata)?;
        self.core.replication.picture().set_metadata(metadata)
    }

    /// What [`set_peer_metadata`](Self::set_peer_metadata) set last; empty before.
    pub fn peer_metadata(&self) -> Object {
        self.core.replication.picture().metadata()
    }

    /// Has `handler` decide about every link from now on, after the other peer has proved who it is and before
    /// anything is synced with it: those that others open, and those that this peer opens. Links that there
    /// are stay. Without a handler every peer that holds the shared key is let in.
    ///
    /// It is asked for each link anew, so twice for a peer that is reached over two media or comes back. It
    /// runs on a thread of its own, one request after the other. No answer within ten seconds is a refusal,
    /// and so is a panic. The other side is told of a refusal, and both sides hear the reason through
    /// [`observe_transport_conditions`](crate::Idem::observe_transport_conditions), as
    /// [`ConditionKind::Denied`](crate::ConditionKind::Denied). A refused peer tries again: one that was
    /// found by itself after five minutes, one with a configured address within eight seconds.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey};
    /// # let key = SharedKey::from_secret("correct horse battery staple");
    /// # let config = IdemConfig::new(DatabaseId([1; 16]), ConnectMode::SharedKey { key });
    /// # let idem = Idem::open_sync(config)?;
    /// use idem::ConnectionRequestAuthorization::{Allow, Deny};
    ///
    /// // Peers say with `set_peer_metadata` which flight they are on.
    /// idem.presence().set_connection_request_handler(|request| {
    ///     let flight = request.peer_metadata.get("flight");
    ///     if flight == Some(&"LH 400".into()) { Allow } else { Deny }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the thread cannot be started. The handler that was there before stays then.
    pub fn set_connection_request_handler(
        &self,
        handler: impl Fn(ConnectionRequest) -> ConnectionRequestAuthorization + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let answer = move |request| std::future::ready(handler(request));
        self.core.replication.doorkeeper().set(answer)
    }

    /// As [`set_connection_request_handler`](Self::set_connection_request_handler), for a handler that waits
    /// for something, such as an answer of the user. It is asked about other peers meanwhile.
    ///
    /// # Errors
    /// As [`set_connection_request_handler`](Self::set_connection_request_handler).
    pub fn set_connection_request_handler_async<F>(
        &self,
        handler: impl Fn(ConnectionRequest) -> F + Send + Sync + 'static,
    ) -> Result<(), Error>
    where
        F: Future<Output = ConnectionRequestAuthorization> + Send + 'static,
    {
        self.core.replication.doorkeeper().set(handler)
    }

    /// Lets every peer in that holds the shared key, as without a handler.
    pub fn clear_connection_request_handler(&self) {
        self.core.replication.doorkeeper().clear();
    }

    /// The key of this peer: its ed25519 public key.
    pub fn local_peer_key(&self) -> PeerId {
        self.core.peer
    }
}

/// Observes presence as long as it lives.
#[derive(Debug)]
#[must_use = "the observer ends when its handle is dropped"]
pub struct PresenceObserver {
    picture: Arc<Picture>,
    id: u64,
}

impl Drop for PresenceObserver {
    fn drop(&mut self) {
        self.picture.forget(self.id);
    }
}

/// A picture of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceGraph {
    /// This peer.
    pub local_peer: Peer,
    /// The others that some chain of links leads to, by key.
    pub remote_peers: Vec<Peer>,
    /// The links between all of them, in the order of their keys. Those between others are there if both
    /// ends say so. A peer tells of 256 links at most.
    pub links: Vec<PresenceLink>,
}

impl PresenceGraph {
    /// A peer of the graph, this one or another.
    pub fn peer(&self, key: PeerId) -> Option<&Peer> {
        let mut all = std::iter::once(&self.local_peer).chain(&self.remote_peers);
        all.find(|peer| peer.peer_key == key)
    }
}

/// A link between two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct PresenceLink {
    /// The keys of its ends, the smaller one first.
    pub peers: [PeerId; 2],
    /// What it runs over; `None` for something of a later version.
    pub medium: Option<Medium>,
}

/// One peer of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its ed25519 public key.
    pub peer_key: PeerId,
    /// Its name, empty if it told none.
    pub device_name: String,
    /// Its operating system, as Rust names it (`linux`, `android`, `windows`); empty if it told none.
    pub os: String,
    /// What it is.
    pub kind: PeerKind,
    /// What its app lets others see. Empty if it set none, or what is no JSON object.
    pub metadata: Object,
    /// How many links away it is: 0 for this peer, 1 for those that it is linked with.
    pub distance: u16,
    /// Its links with this peer; none if it is further away.
    pub connections: Vec<Connection>,
    /// The last commit of this peer that it has confirmed to hold, if any.
    pub synced_up_to_local_commit_id: Option<u64>,
}

impl Peer {
    /// A neighbour that has not told anything.
    pub(crate) fn unknown(peer_key: PeerId) -> Self {
        Self {
            peer_key,
            device_name: String::new(),
            os: String::new(),
            kind: PeerKind::default(),
            metadata: Object::new(),
            distance: 1,
            connections: Vec::new(),
            synced_up_to_local_commit_id: None,
        }
    }

    pub(crate) fn of(peer: &GraphPeer) -> Self {
        Self {
            device_name: peer.name.clone(),
            os: peer.os.clone(),
            kind: peer.kind,
            metadata: read_metadata(&peer.metadata),
            distance: peer.distance,
            ..Self::unknown(peer.peer)
        }
    }
}

/// What another peer's app may have made of it is not this peer's to judge.
pub(crate) fn read_metadata(bytes: &[u8]) -> Object {
    let text = std::str::from_utf8(bytes).ok();
    match text.and_then(|text| json::parse(text).ok()) {
        Some(Value::Object(metadata)) => metadata,
        _ => Object::new(),
    }
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
    /// Bluetooth Low Energy.
    Bluetooth,
    /// QUIC over the internet, directly or by way of a relay server.
    Internet,
}

impl ConnectionKind {
    pub(crate) fn of(kind: LinkKind) -> Self {
        match kind {
            LinkKind::Memory => Self::Memory,
            LinkKind::WebSocket => Self::WebSocket,
            LinkKind::Ble => Self::Bluetooth,
            LinkKind::Internet => Self::Internet,
            _ => Self::Tcp,
        }
    }
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

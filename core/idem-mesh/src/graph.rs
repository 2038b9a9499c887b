//! The mesh as it can be drawn.

use std::collections::{BTreeMap, VecDeque};

use idem_model::PeerId;

use crate::{names::Medium, record::PeerKind};

/// All peers that can be reached, and the links between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Graph {
    /// The peers, by id; this one is at [`Graph::local`].
    pub peers: Vec<GraphPeer>,
    /// The links, each once. Those of other peers are there if both ends say so.
    pub links: Vec<GraphLink>,
    /// Where in `peers` this peer is.
    pub local: usize,
}

/// A peer of the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GraphPeer {
    /// Who.
    pub peer: PeerId,
    /// What it is.
    pub kind: PeerKind,
    /// Its name; empty if it told none, or has not been heard of yet.
    pub name: String,
    /// Its operating system; empty as well.
    pub os: String,
    /// What its app adds.
    pub metadata: Vec<u8>,
    /// How many links away it is: 0 for this peer.
    pub distance: u16,
    /// How many links it is away from the nearest Big Peer; `None` if it reaches none.
    pub gateway_distance: Option<u16>,
}

/// A link between two peers of the graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GraphLink {
    /// The place of one end, in [`Graph::peers`].
    pub from: usize,
    /// The place of the other end, behind that.
    pub to: usize,
    /// What it runs over; `None` for something of a later version.
    pub medium: Option<Medium>,
}

impl Graph {
    /// This peer.
    pub fn local_peer(&self) -> &GraphPeer {
        &self.peers[self.local]
    }

    /// One of the peers.
    pub fn peer(&self, peer: PeerId) -> Option<&GraphPeer> {
        let at = self.peers.binary_search_by_key(&peer, |it| it.peer).ok()?;
        Some(&self.peers[at])
    }

    /// Sets how far each peer is from the nearest Big Peer.
    pub(crate) fn measure_gateways(&mut self) {
        let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for link in &self.links {
            ends.entry(link.from).or_default().push(link.to);
            ends.entry(link.to).or_default().push(link.from);
        }
        let mut queue = VecDeque::new();
        for (at, peer) in self.peers.iter_mut().enumerate() {
            peer.gateway_distance = (peer.kind == PeerKind::BigPeer).then_some(0);
            if peer.gateway_distance.is_some() {
                queue.push_back(at);
            }
        }
        while let Some(at) = queue.pop_front() {
            let next = self.peers[at]
                .gateway_distance
                .map(|it| it.saturating_add(1));
            for end in ends.get(&at).into_iter().flatten() {
                if self.peers[*end].gateway_distance.is_none() {
                    self.peers[*end].gateway_distance = next;
                    queue.push_back(*end);
                }
            }
        }
    }
}

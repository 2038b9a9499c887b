//! The graph as the app sees it.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::PeerId;

use super::Mesh;
use crate::{
    graph::{Graph, GraphLink, GraphPeer},
    names::{Medium, PeerHash},
    record::PeerKind,
    survey::Survey,
};

impl Mesh {
    /// All peers that can be reached from here, and the links between them.
    ///
    /// It is made anew with each call: about a millisecond for 1,000 peers.
    pub fn graph(&self) -> Graph {
        let own = PeerHash::of(self.config.database, self.config.local);
        let neighbours: Vec<_> = self.links.live().map(|(_, state)| state.hash).collect();
        let survey = Survey::new(own, &neighbours, &self.exchange.table, None);
        let mut places = BTreeMap::new();
        let mut peers = Vec::with_capacity(survey.len());
        for (hash, distance) in survey.iter() {
            if let Some(peer) = self.graph_peer(hash, distance) {
                peers.push((hash, peer));
            }
        }
        peers.sort_unstable_by_key(|(_, it)| it.peer);
        for (at, (hash, _)) in peers.iter().enumerate() {
            places.insert(*hash, at);
        }
        let mut graph = Graph {
            local: places[&own],
            links: self.graph_links(own, &places),
            peers: peers.into_iter().map(|(_, peer)| peer).collect(),
        };
        graph.measure_gateways();
        graph
    }

    fn graph_peer(&self, hash: PeerHash, distance: u16) -> Option<GraphPeer> {
        let blank = |peer: PeerId| GraphPeer {
            peer,
            kind: PeerKind::default(),
            name: String::new(),
            os: String::new(),
            metadata: Vec::new(),
            distance,
            gateway_distance: None,
        };
        if distance == 0 {
            let own = self.publisher.own().clone();
            return Some(GraphPeer {
                kind: own.kind,
                name: own.name,
                os: own.os,
                metadata: own.metadata,
                ..blank(self.config.local)
            });
        }
        let Some(entry) = self.exchange.table.get(hash) else {
            let mut links = self.links.live();
            let neighbour = links.find(|(_, state)| state.hash == hash);
            return neighbour.map(|(_, state)| blank(state.peer));
        };
        let peer = blank(entry.signed.peer);
        let record = entry.signed.read().ok();
        Some(record.map_or(peer.clone(), |record| GraphPeer {
            kind: record.kind,
            name: record.name,
            os: record.os,
            metadata: record.metadata,
            ..peer
        }))
    }

    fn graph_links(&self, own: PeerHash, places: &BTreeMap<PeerHash, usize>) -> Vec<GraphLink> {
        let mut links = BTreeSet::new();
        let mut add = |a: PeerHash, b: PeerHash, medium| {
            if let (Some(a), Some(b)) = (places.get(&a), places.get(&b)) {
                let (from, to) = (*a.min(b), *a.max(b));
                links.insert(GraphLink { from, to, medium });
            }
        };
        for (_, state) in self.links.live() {
            add(own, state.hash, Some(state.medium));
        }
        let strangers = || self.exchange.table.iter().filter(|(hash, _)| *hash != own);
        for (hash, entry) in strangers() {
            for link in entry
                .links
                .iter()
                .filter(|link| link.peer > hash && link.peer != own)
            {
                let other = self.exchange.table.get(link.peer);
                if other.is_some_and(|other| other.is_linked(hash)) {
                    add(hash, link.peer, Medium::from_code(link.medium));
                }
            }
        }
        links.into_iter().collect()
    }
}

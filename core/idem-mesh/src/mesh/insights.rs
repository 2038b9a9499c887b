//! What the chooser is told of peers.

use crate::{
    choose::{Insight, Insights},
    links::Links,
    names::{Medium, PeerHash},
    survey::Survey,
    table::Table,
};

/// What links and records show.
pub(super) struct Known<'a> {
    pub(super) table: &'a Table,
    pub(super) survey: &'a Survey,
    /// How far peers are from the gateways, and one link more, by way of others than this one.
    pub(super) gateways: &'a Survey,
    pub(super) links: &'a Links,
    pub(super) own: PeerHash,
    pub(super) interests: &'a [[u8; 4]],
}

impl Insights for Known<'_> {
    fn of(&self, peer: PeerHash, medium: Medium) -> Insight {
        let is_elsewhere = self.survey.distance(peer).is_none();
        let is_towards_gateway = self.is_towards_gateway(peer);
        let Some(entry) = self.table.get(peer) else {
            return Insight {
                is_elsewhere,
                is_towards_gateway,
                ..Insight::default()
            };
        };
        let code = medium.code();
        let links = entry.links.iter().filter(|link| link.medium == code);
        let shared = entry.interests.iter();
        let shared = shared.filter(|it| self.interests.binary_search(it).is_ok());
        Insight {
            is_elsewhere,
            links: Some(links.count()),
            overlap: u32::try_from(shared.count()).unwrap_or(u32::MAX),
            is_towards_gateway,
        }
    }

    fn is_bridge(&self, neighbour: PeerHash) -> bool {
        let neighbours: Vec<_> = self.links.live().map(|(_, state)| state.hash).collect();
        let with = Survey::new(self.own, &neighbours, self.table, None);
        let without = Survey::new(self.own, &neighbours, self.table, Some(neighbour));
        without.len() < with.len()
    }

    fn island(&self) -> usize {
        self.survey.len()
    }
}

impl Known<'_> {
    fn is_towards_gateway(&self, peer: PeerHash) -> bool {
        let Some(distance) = self.gateways.distance(peer) else {
            return false;
        };
        let others = self.links.live().filter(|(_, state)| state.hash != peer);
        let mut others = others.filter_map(|(_, state)| self.gateways.distance(state.hash));
        others.all(|other| other > distance)
    }
}

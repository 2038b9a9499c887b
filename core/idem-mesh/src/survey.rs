//! Who can be reached over which links.

use std::collections::VecDeque;

use crate::{names::PeerHash, table::Table};

/// How far away each peer is, in links. A link between two others counts when both say so, since what one
/// of them says may be outdated, or made up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survey {
    /// Rising.
    reached: Vec<(PeerHash, u16)>,
}

impl Survey {
    /// Looks from `own`, which is linked with `neighbours`, as if there were no link with `without`.
    ///
    /// Takes about 50 microseconds for 1,000 peers of six links.
    pub(crate) fn new(
        own: PeerHash,
        neighbours: &[PeerHash],
        table: &Table,
        without: Option<PeerHash>,
    ) -> Self {
        let entries: Vec<_> = table.iter().collect();
        let place = |hash: PeerHash| entries.binary_search_by_key(&hash, |(hash, _)| *hash).ok();
        let mut distances = vec![u16::MAX; entries.len()];
        let mut reached = vec![(own, 0)];
        let mut queue = VecDeque::new();
        if let Some(at) = place(own) {
            distances[at] = 0;
        }
        for hash in neighbours.iter().filter(|hash| Some(**hash) != without) {
            match place(*hash) {
                Some(at) if distances[at] == u16::MAX => {
                    distances[at] = 1;
                    queue.push_back(at);
                }
                Some(_) => {}
                // Its record has not come yet.
                None => reached.push((*hash, 1)),
            }
        }
        while let Some(at) = queue.pop_front() {
            let (hash, entry) = entries[at];
            for link in &entry.links {
                let Some(next) = place(link.peer) else {
                    continue;
                };
                if distances[next] == u16::MAX && entries[next].1.is_linked(hash) {
                    distances[next] = distances[at].saturating_add(1);
                    queue.push_back(next);
                }
            }
        }
        let known = entries
            .iter()
            .zip(distances)
            .filter(|(_, it)| *it != u16::MAX);
        reached.extend(known.map(|((hash, _), distance)| (*hash, distance)));
        reached.sort_unstable();
        reached.dedup_by_key(|(hash, _)| *hash);
        Self { reached }
    }

    /// How many links away a peer is; `None` if no chain of links leads to it.
    pub(crate) fn distance(&self, hash: PeerHash) -> Option<u16> {
        let at = self.reached.binary_search_by_key(&hash, |(hash, _)| *hash);
        at.ok().map(|at| self.reached[at].1)
    }

    /// How many peers can be reached, this one included.
    pub(crate) fn len(&self) -> usize {
        self.reached.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerHash, u16)> {
        self.reached.iter().copied()
    }
}

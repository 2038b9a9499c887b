//! Sync scopes that change while peers write, and whether anything crosses one that is closed.

use std::collections::BTreeMap;

use idem_model::{CollectionName, DocumentKey, SyncScope, VersionVector};

use super::{Checked, Happening, World};
use crate::{
    check::{Violation, version},
    workload::COLLECTIONS,
};

/// How long after everything healed the last scope opens, in microseconds.
const OPENING_US: u64 = 500_000;

/// Of 100 scopes that are set, how many are open to all. With fewer little gets through.
const OPEN_PERCENT: u64 = 40;

/// What peers hold behind scopes that are closed.
#[derive(Debug, Default)]
pub(super) struct Borders {
    /// By peer, collection, and whether Big Peers are left out or small ones: what was held when that began.
    /// Of anything else they may not hear from that peer.
    closed: BTreeMap<(usize, CollectionName, bool), BTreeMap<DocumentKey, VersionVector>>,
}

impl World {
    fn has_scopes(&self) -> bool {
        self.options.scopes.changes > 0
    }

    /// Some collections are closed before there is a link.
    pub(super) fn draw_scopes(&mut self) -> Checked {
        if !self.has_scopes() {
            return Ok(());
        }
        for peer in &mut self.peers {
            // From now on it is noted.
            peer.disk.take_earlier();
        }
        for _ in 0..self.peers.len() {
            let happening = self.draw_scope();
            self.happen(happening)?;
        }
        Ok(())
    }

    /// A change of a scope.
    pub(super) fn draw_scope(&mut self) -> Happening {
        let scope = match self.random.chance(OPEN_PERCENT) {
            true => SyncScope::AllPeers,
            false => SyncScope::ALL[self.random.index(SyncScope::ALL.len())],
        };
        Happening::Scope {
            peer: self.random.index(self.peers.len()),
            collection: self.random.index(COLLECTIONS.len()),
            scope,
        }
    }

    /// All scopes open one by one.
    pub(super) fn open_scopes(&mut self) {
        if !self.has_scopes() {
            return;
        }
        for peer in 0..self.peers.len() {
            for collection in 0..COLLECTIONS.len() {
                let scope = SyncScope::AllPeers;
                let delay = self.random.below(OPENING_US);
                let happening = Happening::Scope {
                    peer,
                    collection,
                    scope,
                };
                self.schedule(delay, happening);
            }
        }
    }

    pub(super) fn set_scope(
        &mut self,
        peer: usize,
        collection: usize,
        scope: SyncScope,
    ) -> Checked {
        if !self.peers[peer].is_alive {
            return Ok(());
        }
        self.faults += 1;
        let disk = &mut self.peers[peer].disk;
        disk.set_sync_scope(named(collection), scope);
        self.note_scopes(peer);
        self.make_durable_later(peer);
        self.pump(peer, None)
    }

    /// Notes what a peer holds where its scopes have closed something, and that others are open.
    pub(super) fn note_scopes(&mut self, peer: usize) {
        if !self.has_scopes() {
            return;
        }
        let disk = &self.peers[peer].disk;
        for name in (0..COLLECTIONS.len()).map(named) {
            let scope = disk.scope_as_set(&name);
            for is_big in [false, true] {
                let border = (peer, name.clone(), is_big);
                if scope.includes(is_big) {
                    self.borders.closed.remove(&border);
                    continue;
                }
                self.borders.closed.entry(border).or_insert_with(|| {
                    let states = disk.states().into_iter();
                    let states = states.filter(|(key, _)| key.collection == name);
                    states.map(|(key, it)| (key, version(&it))).collect()
                });
            }
        }
    }

    /// Looks at what a peer has just taken in from the other end of an edge.
    pub(super) fn check_borders(&mut self, receiver: usize, edge: usize) -> Checked {
        if !self.has_scopes() {
            return Ok(());
        }
        let earlier = self.peers[receiver].disk.take_earlier();
        let side = self.edges[edge].side_of(receiver);
        let side = side.expect("an end of the edge");
        let sender = self.edges[edge].options.peers[1 - side];
        if self.is_hostile(edge) {
            return Ok(());
        }
        for (key, before) in earlier {
            let state = self.peers[receiver].disk.state(&key);
            let now = state.map(|state| version(&state)).unwrap_or_default();
            if before.covers_all(&now) {
                continue;
            }
            let border = |peer, other| {
                let is_big = self.options.is_big(other);
                let border = (peer, key.collection.clone(), is_big);
                self.borders.closed.get(&border)
            };
            if border(receiver, sender).is_some() {
                return Err(Violation::TookIn {
                    peer: receiver,
                    from: sender,
                    key,
                });
            }
            if let Some(held) = border(sender, receiver) {
                let mut allowed = before;
                if let Some(held) = held.get(&key) {
                    allowed.join(held);
                }
                if !allowed.covers_all(&now) {
                    return Err(Violation::Leaked {
                        from: sender,
                        to: receiver,
                        key,
                    });
                }
            }
        }
        Ok(())
    }
}

/// The name of a collection of the workload.
fn named(collection: usize) -> CollectionName {
    CollectionName::new(COLLECTIONS[collection]).expect("a valid name")
}

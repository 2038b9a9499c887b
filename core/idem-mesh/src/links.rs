//! The links that are up.

use std::{collections::BTreeMap, time::Duration};

use idem_model::{LinkId, PeerId};

use crate::{
    event::CloseCause,
    names::{AddressId, Medium, PeerHash},
};

/// Two links of one pair of peers over one medium, of which the second comes up within this time, were
/// dialled at the same time by both. It is longer than connecting and the handshake may take together.
const SIMULTANEOUS: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub(crate) struct LinkState {
    pub(crate) peer: PeerId,
    pub(crate) hash: PeerHash,
    pub(crate) medium: Medium,
    pub(crate) address: Option<AddressId>,
    pub(crate) is_inbound: bool,
    pub(crate) is_configured: bool,
    pub(crate) up_at: Duration,
    /// Set when the owner was asked to end it; it counts as gone from then on.
    pub(crate) closing: Option<CloseCause>,
}

impl LinkState {
    /// The peer that dialled.
    fn dialler(&self, local: PeerId) -> PeerId {
        if self.is_inbound { self.peer } else { local }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    all: BTreeMap<LinkId, LinkState>,
}

impl Links {
    pub(crate) fn insert(&mut self, link: LinkId, state: LinkState) {
        self.all.insert(link, state);
    }

    pub(crate) fn remove(&mut self, link: LinkId) -> Option<LinkState> {
        self.all.remove(&link)
    }

    /// Marks it as to be ended. Gives its state, unless it was marked before.
    pub(crate) fn close(&mut self, link: LinkId, cause: CloseCause) -> Option<LinkState> {
        let state = self.all.get_mut(&link)?;
        if state.closing.is_some() {
            return None;
        }
        state.closing = Some(cause);
        Some(state.clone())
    }

    /// Those that are to stay.
    pub(crate) fn live(&self) -> impl Iterator<Item = (LinkId, &LinkState)> {
        let live = self.all.iter().filter(|(_, state)| state.closing.is_none());
        live.map(|(id, state)| (*id, state))
    }

    pub(crate) fn of_medium(&self, medium: Medium) -> impl Iterator<Item = (LinkId, &LinkState)> {
        self.live().filter(move |(_, state)| state.medium == medium)
    }

    pub(crate) fn count(&self, medium: Medium) -> usize {
        self.of_medium(medium).count()
    }

    /// Those of [`of_medium`](Self::of_medium) that no app asked for.
    pub(crate) fn count_free(&self, medium: Medium) -> usize {
        let free = self.of_medium(medium);
        free.filter(|(_, state)| !state.is_configured).count()
    }

    pub(crate) fn of_peer(&self, peer: PeerId) -> impl Iterator<Item = (LinkId, &LinkState)> {
        self.live().filter(move |(_, state)| state.peer == peer)
    }

    /// Whether there is a link to the peer, over `medium` if one is given.
    pub(crate) fn reach(&self, peer: PeerHash, medium: Option<Medium>) -> bool {
        self.live().any(|(_, state)| {
            state.hash == peer && medium.is_none_or(|medium| state.medium == medium)
        })
    }

    /// The link of a peer to be used.
    pub(crate) fn preferred(&self, peer: PeerId) -> Option<LinkId> {
        let links = self.of_peer(peer);
        links
            .min_by_key(|(id, state)| (state.medium, *id))
            .map(|(id, _)| id)
    }

    /// Of a new link and one that is there, to the same peer over the same medium: the one that goes.
    ///
    /// Both peers see both links, and have to choose alike. If both dialled at the same time, the link
    /// that the smaller peer id dialled stays. Otherwise nobody would have dialled if the first one were
    /// alive at both ends, so the new one stays.
    ///
    /// What an app asked for stays. Another one may stay beside it, if it may be dead at the other end.
    pub(crate) fn surplus(&self, local: PeerId, new: LinkId) -> Option<LinkId> {
        let added = self.all.get(&new)?;
        let mut others = self.of_peer(added.peer).filter(|(id, other)| {
            *id != new
                && other.medium == added.medium
                && !(added.is_configured && other.is_configured)
        });
        let (there, other) = others.next()?;
        let is_soon = added.up_at.saturating_sub(other.up_at) < SIMULTANEOUS;
        match (other.is_configured, added.is_configured) {
            (true, _) => return is_soon.then_some(new),
            (_, true) => return Some(there),
            _ => {}
        }
        let is_simultaneous = is_soon && other.dialler(local) < added.dialler(local);
        Some(if is_simultaneous { new } else { there })
    }
}

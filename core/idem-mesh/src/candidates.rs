//! Addresses that could be dialled, and when.

use std::{collections::BTreeMap, time::Duration};

use idem_model::limits;

use crate::{
    event::{DialFailure, Found},
    names::{AddressId, Medium, PeerHash},
    random::Random,
};

/// The pause after the first failure.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// What the pauses double up to.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An owner that does not answer a dial for this long has forgotten it: five times a handshake.
const DIAL_MAX: Duration = Duration::from_secs(50);

/// An address whose link was closed on purpose is left alone for this long, or churn would bring the
/// same links back.
pub(crate) const REST: Duration = Duration::from_secs(60);

/// A link that lived shorter than this counts as a dial that failed: the other side may have closed it
/// because it has no room.
pub(crate) const LINK_LIFE_MIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Idle { ready_at: Duration },
    Dialling { until: Duration },
    Linked,
}

#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) medium: Medium,
    pub(crate) peer: Option<PeerHash>,
    pub(crate) is_configured: bool,
    pub(crate) signal_dbm: Option<i8>,
    pub(crate) failures: u32,
    pub(crate) state: State,
    /// Whether no discovery sees it any more; it goes when nothing is under way with it.
    has_vanished: bool,
}

impl Candidate {
    pub(crate) fn is_ready(&self, now: Duration) -> bool {
        matches!(self.state, State::Idle { ready_at } if ready_at <= now)
    }

    fn is_dialling(&self) -> bool {
        matches!(self.state, State::Dialling { .. })
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Candidates {
    all: BTreeMap<AddressId, Candidate>,
}

impl Candidates {
    /// Takes in what a discovery sees. Gives false if there is no room for it.
    pub(crate) fn find(&mut self, now: Duration, found: &Found) -> bool {
        if let Some(known) = self.all.get_mut(&found.address) {
            // Who vanished and is back may have changed, so there is no reason to wait.
            if known.has_vanished && known.failures > 0 {
                known.failures = 0;
                if let State::Idle { ready_at } = &mut known.state {
                    *ready_at = now;
                }
            }
            known.has_vanished = false;
            known.is_configured |= found.is_configured;
            known.signal_dbm = found.signal_dbm;
            // A link has proved who is there; a discovery only says so.
            if known.state != State::Linked {
                known.peer = found.peer.or(known.peer);
            }
            return true;
        }
        if self.all.len() >= limits::MESH_ADDRESSES_MAX && !self.make_room(found.is_configured) {
            return false;
        }
        let candidate = Candidate {
            medium: found.medium,
            peer: found.peer,
            is_configured: found.is_configured,
            signal_dbm: found.signal_dbm,
            failures: 0,
            state: State::Idle { ready_at: now },
            has_vanished: false,
        };
        self.all.insert(found.address, candidate);
        true
    }

    /// Drops the idle address that failed most often, and for a configured one also an idle one that
    /// never failed.
    fn make_room(&mut self, is_urgent: bool) -> bool {
        let idle = self.all.iter().filter(|(_, it)| {
            !it.is_configured
                && matches!(it.state, State::Idle { .. })
                && (is_urgent || it.failures > 0)
        });
        let worst = idle.max_by_key(|(_, it)| it.failures).map(|(id, _)| *id);
        worst.is_some_and(|address| self.all.remove(&address).is_some())
    }

    pub(crate) fn vanish(&mut self, address: AddressId) {
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.has_vanished = true;
            candidate.is_configured = false;
            self.drop_vanished(address);
        }
    }

    fn drop_vanished(&mut self, address: AddressId) {
        let is_over = |it: &Candidate| it.has_vanished && matches!(it.state, State::Idle { .. });
        if self.all.get(&address).is_some_and(is_over) {
            self.all.remove(&address);
        }
    }

    pub(crate) fn dial(&mut self, now: Duration, address: AddressId) {
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.state = State::Dialling {
                until: now + DIAL_MAX,
            };
        }
    }

    pub(crate) fn fail(
        &mut self,
        now: Duration,
        address: AddressId,
        failure: DialFailure,
        random: &mut Random,
    ) {
        let Some(candidate) = self.all.get_mut(&address) else {
            return;
        };
        let pause = match failure {
            DialFailure::Unreachable => RETRY_MIN * 2u32.pow(candidate.failures.min(6)),
            DialFailure::Full => Duration::from_secs(30),
            DialFailure::Denied => Duration::from_secs(5 * 60),
            DialFailure::Mismatch => Duration::from_secs(10 * 60),
            DialFailure::SelfLink => Duration::from_secs(60 * 60),
        };
        let pause = match failure {
            DialFailure::Unreachable => pause.min(RETRY_MAX),
            _ => pause,
        };
        candidate.failures = candidate.failures.saturating_add(1);
        candidate.state = State::Idle {
            ready_at: now + random.around(pause),
        };
        self.drop_vanished(address);
    }

    /// A link to `peer` came up.
    pub(crate) fn link(&mut self, address: AddressId, peer: PeerHash) -> bool {
        let Some(candidate) = self.all.get_mut(&address) else {
            return false;
        };
        candidate.state = State::Linked;
        candidate.peer = Some(peer);
        candidate.is_configured
    }

    /// Its link is gone, and it may be dialled again after `pause`.
    pub(crate) fn unlink(&mut self, now: Duration, address: AddressId, pause: Duration) {
        if let Some(candidate) = self.all.get_mut(&address) {
            candidate.failures = 0;
            candidate.state = State::Idle {
                ready_at: now + pause,
            };
            self.drop_vanished(address);
        }
    }

    /// Takes dials for failed that were not answered.
    pub(crate) fn expire(&mut self, now: Duration, random: &mut Random) {
        let late = |it: &Candidate| matches!(it.state, State::Dialling { until } if until <= now);
        let late = self.all.iter().filter(|(_, it)| late(it));
        for address in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.fail(now, address, DialFailure::Unreachable, random);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (AddressId, &Candidate)> {
        self.all.iter().map(|(id, it)| (*id, it))
    }

    pub(crate) fn is_dialling(&self, address: AddressId) -> bool {
        self.all.get(&address).is_some_and(Candidate::is_dialling)
    }

    /// Whether the app named an address of the peer over this medium.
    pub(crate) fn is_configured(&self, peer: PeerHash, medium: Medium) -> bool {
        let mut all = self.all.values();
        all.any(|it| it.is_configured && it.medium == medium && it.peer == Some(peer))
    }

    pub(crate) fn dialling(&self, medium: Medium) -> usize {
        let dialling = |it: &&Candidate| it.medium == medium && it.is_dialling();
        self.all.values().filter(dialling).count()
    }

    /// From when on it may be dialled, unless something is under way with it.
    pub(crate) fn retry_at(&self, address: AddressId) -> Option<Duration> {
        match self.all.get(&address)?.state {
            State::Idle { ready_at } => Some(ready_at),
            State::Dialling { .. } | State::Linked => None,
        }
    }

    /// When the next address may be dialled, or the next dial is late.
    pub(crate) fn next_at(&self, now: Duration) -> Option<Duration> {
        let times = self.all.values().filter_map(|it| match it.state {
            State::Idle { ready_at } => Some(ready_at),
            State::Dialling { until } => Some(until),
            State::Linked => None,
        });
        times.filter(|at| *at > now).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }
}

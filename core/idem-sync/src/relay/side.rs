//! Sessions beside the one of two peers: how their frames are told apart, and which there are with a
//! neighbour.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_model::LinkId;
use idem_query::Selector;
use idem_wire::{Lane, SubscriptionId};

use crate::{
    session::{LinkProperties, Session, SubscriptionTerms, Transmit},
    wanted::Ends,
};

/// The first byte of frames of sessions of relays, but for its two lowest bits.
const MARK: u8 = 0x7c;

/// The same of relays for gateways.
const UPLINK_MARK: u8 = 0x78;

const SENDER_IS_RELAY: u8 = 1;
const RECEIVER_IS_RELAY: u8 = 2;

/// Whether a frame is of a session of which an end is a relay ([`Relay::handle_frame`](super::Relay)).
pub fn is_relay_frame(frame: &[u8]) -> bool {
    relay_kind(frame) == Some(RelayKind::Interest)
}

/// Of which kind of relay a frame is, if it is of a session of relays.
pub fn relay_kind(frame: &[u8]) -> Option<RelayKind> {
    match frame.first()? & !3 {
        MARK => Some(RelayKind::Interest),
        UPLINK_MARK => Some(RelayKind::Gateway),
        _ => None,
    }
}

/// What a relay is for. A peer may have one of each kind, which know nothing of each other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RelayKind {
    /// It brings neighbours what they subscribe to.
    #[default]
    Interest,
    /// It brings gateways what others wrote, and holds it until somebody nearer to one has it.
    Gateway,
}

impl RelayKind {
    fn mark(self) -> u8 {
        match self {
            Self::Interest => MARK,
            Self::Gateway => UPLINK_MARK,
        }
    }
}

/// Which of the two ends of a session are relays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Face {
    /// The peer itself with a relay.
    Served = 0,
    /// The relay of this peer with a peer.
    Serving = 1,
    /// Two relays.
    Passing = 2,
}

impl Face {
    pub(super) const ALL: [Self; 3] = [Self::Served, Self::Serving, Self::Passing];

    pub(super) fn ends(self) -> Ends {
        Ends {
            is_local_relay: self != Self::Served,
            is_remote_relay: self != Self::Serving,
        }
    }

    fn mark(self, kind: RelayKind) -> u8 {
        let ends = match self {
            Self::Served => RECEIVER_IS_RELAY,
            Self::Serving => SENDER_IS_RELAY,
            Self::Passing => SENDER_IS_RELAY | RECEIVER_IS_RELAY,
        };
        kind.mark() | ends
    }
}

/// Takes a frame apart: which session of its sender and this peer it is of, the number of that one, and the
/// message, which is empty if the sender only asks for the session.
pub(super) fn read(frame: &[u8]) -> Option<(Face, u8, &[u8])> {
    let [mark, number, message @ ..] = frame else {
        return None;
    };
    let face = match mark & 3 {
        SENDER_IS_RELAY => Face::Served,
        RECEIVER_IS_RELAY => Face::Serving,
        3 => Face::Passing,
        _ => return None,
    };
    Some((face, *number, message))
}

/// Where a session is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) link: LinkId,
    /// Which one of its kind on that link, from 1.
    pub(super) number: u8,
    /// What the session takes for the link.
    pub(super) inner: LinkId,
}

/// A session beside the one of the two peers.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) session: Session,
    pub(super) start: Option<Start>,
    /// Not before the relay has rested.
    pub(super) rest_until: Duration,
    /// When it may be begun again.
    pub(super) not_before: Duration,
    /// Whether the other side, which greets, is still to be asked for it.
    pub(super) is_call_due: bool,
    asked: BTreeSet<SubscriptionId>,
    kind: RelayKind,
}

impl Side {
    pub(super) fn new(session: Session, kind: RelayKind) -> Self {
        Self {
            session,
            kind,
            start: None,
            rest_until: Duration::ZERO,
            not_before: Duration::ZERO,
            is_call_due: false,
            asked: BTreeSet::new(),
        }
    }

    /// Subscribes to all of `wanted` and nothing else. Gives whether that is a change.
    pub(super) fn ask(
        &mut self,
        wanted: &[(SubscriptionId, &Selector, SubscriptionTerms)],
    ) -> bool {
        let ids: BTreeSet<_> = wanted.iter().map(|(id, ..)| *id).collect();
        let gone: Vec<_> = self.asked.difference(&ids).copied().collect();
        let mut has_changed = !gone.is_empty();
        for id in gone {
            self.session.unsubscribe(id);
            self.asked.remove(&id);
        }
        for (id, selector, terms) in wanted {
            // There are fewer than a session takes; more of an app are told of by its other sessions.
            if !self.asked.contains(id) && self.session.subscribe(selector, *terms).is_ok() {
                self.asked.insert(*id);
                has_changed = true;
            }
        }
        has_changed
    }

    /// The question for the session, if it is due.
    pub(super) fn poll_call(&mut self, face: Face) -> Option<Transmit> {
        let start = self.start?;
        std::mem::take(&mut self.is_call_due).then(|| Transmit {
            link: start.link,
            lane: Lane::Control,
            frame: vec![face.mark(self.kind), start.number],
        })
    }

    /// A frame of the session as it goes over the link; `None` if the session is not under way.
    pub(super) fn mark(&self, face: Face, transmit: Transmit) -> Option<Transmit> {
        let start = self.start.filter(|it| it.inner == transmit.link)?;
        let mut frame = Vec::with_capacity(2 + transmit.frame.len());
        frame.extend([face.mark(self.kind), start.number]);
        frame.extend(transmit.frame);
        Some(Transmit {
            link: start.link,
            lane: transmit.lane,
            frame,
        })
    }
}

/// A neighbour, and the sessions with it.
#[derive(Debug, Default)]
pub(super) struct Neighbour {
    links: BTreeMap<LinkId, LinkState>,
    /// By [`Face`].
    pub(super) sides: [Option<Box<Side>>; 3],
    pub(super) at_main: BTreeSet<SubscriptionId>,
    pub(super) at_relay: BTreeSet<SubscriptionId>,
    pub(super) serves: bool,
    pub(super) is_stirred: bool,
}

#[derive(Debug)]
struct LinkState {
    properties: LinkProperties,
    /// The last number of each face.
    last: [u8; 3],
}

impl Neighbour {
    pub(super) fn add_link(&mut self, link: LinkId, properties: LinkProperties) {
        let last = [0; 3];
        self.links
            .entry(link)
            .or_insert(LinkState { properties, last });
    }

    pub(super) fn remove_link(&mut self, now: Duration, link: LinkId) {
        self.links.remove(&link);
        for side in self.sides.iter_mut().flatten() {
            if let Some(start) = side.start.take_if(|it| it.link == link) {
                side.session.handle_link_down(now, start.inner);
            }
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn last(&mut self, link: LinkId, face: Face) -> Option<&mut u8> {
        let state = self.links.get_mut(&link)?;
        Some(&mut state.last[face as usize])
    }

    pub(super) fn properties(&self, link: LinkId) -> Option<LinkProperties> {
        self.links.get(&link).map(|state| state.properties)
    }

    /// Whether this side begins a session.
    pub(super) fn needs(&self, face: Face) -> bool {
        match face {
            Face::Served => false,
            Face::Serving => !self.at_main.is_empty() || self.serves,
            Face::Passing => !self.at_relay.is_empty(),
        }
    }

    /// The best link for one more session, and its number there.
    pub(super) fn next_start(&mut self, face: Face) -> Option<(LinkId, u8)> {
        let links = self.links.iter_mut();
        let open = links.filter(|(_, state)| state.last[face as usize] < u8::MAX);
        let (link, state) = open.min_by_key(|(link, state)| (state.properties.rank, **link))?;
        let last = &mut state.last[face as usize];
        *last += 1;
        Some((*link, *last))
    }

    pub(super) fn timeouts(&self) -> impl Iterator<Item = Duration> + '_ {
        Face::ALL.into_iter().filter_map(|face| {
            let side = self.sides[face as usize].as_deref()?;
            let begins = side.start.is_none() && self.needs(face);
            let begin_at = begins.then_some(side.not_before);
            [side.session.poll_timeout(), begin_at]
                .into_iter()
                .flatten()
                .min()
        })
    }
}

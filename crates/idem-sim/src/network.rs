//! Links: frames on their way, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use idem_model::Lane;

use crate::{options::Options, random::Random};

/// How long a frame that had to be sent again holds its lane up, in microseconds.
const RETRANSMIT_US: u64 = 200_000;

/// One connection between two peers, over one or more links in turn or at once.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) peers: [usize; 2],
    /// The links that each side believes to be up.
    pub(crate) up: [BTreeSet<u64>; 2],
    /// Links that carry nothing any more, whether the sides have noticed or not.
    pub(crate) cut: BTreeSet<u64>,
    /// When the last frame of a lane arrives: frames of one lane keep their order.
    arrivals_us: BTreeMap<(u64, usize, Lane), u64>,
    /// Frames on their way to each side, by link.
    in_flight: BTreeMap<(u64, usize), usize>,
}

impl Edge {
    pub(crate) fn new(peers: [usize; 2]) -> Self {
        Self {
            peers,
            up: [BTreeSet::new(), BTreeSet::new()],
            cut: BTreeSet::new(),
            arrivals_us: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }

    /// Which side a peer is, if it is one.
    pub(crate) fn side_of(&self, peer: usize) -> Option<usize> {
        self.peers.iter().position(|it| *it == peer)
    }

    /// Whether a link takes another frame towards `side`.
    pub(crate) fn has_room(&self, link: u64, side: usize, options: &Options) -> bool {
        let in_flight = self.in_flight.get(&(link, side)).copied().unwrap_or(0);
        in_flight < options.frames_in_flight_max
    }

    /// Sends a frame towards `side`; returns when it arrives.
    #[expect(
        clippy::too_many_arguments,
        reason = "a frame and what decides its fate"
    )]
    pub(crate) fn send(
        &mut self,
        now_us: u64,
        link: u64,
        side: usize,
        lane: Lane,
        options: &Options,
        is_healed: bool,
        random: &mut Random,
    ) -> u64 {
        *self.in_flight.entry((link, side)).or_insert(0) += 1;
        let (fastest, slowest) = options.latency_us;
        let mut arrival = now_us + random.between(fastest, slowest);
        if !is_healed && random.chance(options.retransmit_percent) {
            arrival += RETRANSMIT_US;
        }
        let last = self.arrivals_us.entry((link, side, lane)).or_insert(0);
        *last = arrival.max(*last + 1);
        *last
    }

    /// A frame leaves the link, whether somebody takes it or not.
    pub(crate) fn arrive(&mut self, link: u64, side: usize) {
        if let Some(count) = self.in_flight.get_mut(&(link, side)) {
            *count = count.saturating_sub(1);
        }
    }
}

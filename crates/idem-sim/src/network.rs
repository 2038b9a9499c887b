//! Links: frames on their way, and what becomes of them.

use std::collections::{BTreeMap, VecDeque};

use idem_model::{Lane, limits};
use idem_sync::LinkProperties;

use crate::random::Random;

/// Packets of one frame that are looked at one by one; beyond them the outcome hardly changes.
const PACKETS_MAX: u64 = 64;

/// Packets that a radio sends over one link before it turns to another one: as many as fit into one
/// connection interval.
const PACKETS_ON_AIR: u64 = 6;

/// A link over radios takes another frame while less than this waits on it: 80 ms on the air. With more on each of
/// seven links, what is urgent would wait for seconds.
const RADIO_QUEUE_BYTES: u64 = 4 * 1024;

/// So often a packet may be lost; a link with worse luck would be cut.
const LOSSES_MAX: u64 = 20;

/// What a link does to frames that go one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LinkModel {
    /// The time of a frame on the way, in microseconds, least and most. Default: 1 to 5 ms.
    pub latency_us: (u64, u64),
    /// Bytes a second; what does not leave at once waits in the link's queue. 0, the default, is no
    /// limit.
    pub bytes_per_second: u64,
    /// Of 100 packets, how many are lost and sent again. Default 0, at most 90.
    pub loss_percent: u64,
    /// How long it takes until a lost packet is sent again, in microseconds: the frames behind it on
    /// the same lane wait as well. Default 200 ms.
    pub retransmit_us: u64,
    /// The bytes of a packet: a larger frame is as many packets, of which any may be lost. Default
    /// 1,400.
    pub packet_bytes: u64,
    /// The largest frame that the link takes. Default and at most `limits::FRAME_BYTES_MAX`, at least
    /// 16 KiB.
    pub frame_bytes_max: u32,
    /// How many frames may be on the way at once. Default 64.
    pub frames_max: usize,
}

impl Default for LinkModel {
    fn default() -> Self {
        Self {
            latency_us: (1_000, 5_000),
            bytes_per_second: 0,
            loss_percent: 0,
            retransmit_us: 200_000,
            packet_bytes: 1_400,
            frame_bytes_max: u32::try_from(limits::FRAME_BYTES_MAX).expect("far below 4 GiB"),
            frames_max: 64,
        }
    }
}

impl LinkModel {
    /// A wireless network at home: 2 to 8 ms, 50 Mbit/s, 1 % loss.
    #[must_use]
    pub fn wifi() -> Self {
        Self {
            latency_us: (2_000, 8_000),
            bytes_per_second: 50_000_000 / 8,
            loss_percent: 1,
            retransmit_us: 20_000,
            ..Self::default()
        }
    }

    /// Bluetooth Low Energy between two phones: 20 to 60 ms, 700 kbit/s, small packets, 2 % loss.
    #[must_use]
    pub fn bluetooth() -> Self {
        Self {
            latency_us: (20_000, 60_000),
            bytes_per_second: 700_000 / 8,
            loss_percent: 2,
            retransmit_us: 60_000,
            packet_bytes: 244,
            frame_bytes_max: 16 * 1024,
            frames_max: 8,
        }
    }

    /// What the session is told of it.
    pub(crate) fn properties(&self) -> LinkProperties {
        let mut properties = LinkProperties::default();
        properties.frame_bytes_max = self.frame_bytes_max.min(properties.frame_bytes_max);
        properties
    }
}

/// Two peers that may have a link.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct EdgeOptions {
    /// The two peers.
    pub peers: [usize; 2],
    /// What the link does to frames towards the first and towards the second of them.
    pub towards: [LinkModel; 2],
    /// How many links they have at once, 1 to 3.
    pub links: usize,
}

impl EdgeOptions {
    /// One link that is the same in both directions.
    pub fn new(a: usize, b: usize, link: LinkModel) -> Self {
        Self {
            peers: [a, b],
            towards: [link; 2],
            links: 1,
        }
    }
}

/// One connection between two peers, over one or more links in turn or at once.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) options: EdgeOptions,
    pub(crate) links: BTreeMap<u64, Link>,
}

/// A link that at least one side believes to be up.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Which sides believe it.
    pub(crate) is_up: [bool; 2],
    /// It carries nothing any more, whether the sides have noticed or not.
    pub(crate) is_cut: bool,
    /// Whether the session of a side gave it up.
    pub(crate) is_given_up: [bool; 2],
    /// Each side finds out by itself that it is cut.
    pub(crate) is_silent: bool,
    /// What it is like, where the edge does not say so.
    pub(crate) model: Option<LinkModel>,
    /// Whether its frames wait for the radios at both ends.
    pub(crate) is_radio: bool,
    ways: [Way; 2],
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Way {
    frames: usize,
    bytes: u64,
    /// When what waits in the queue has left.
    free_at_us: u64,
    /// When the last frame of a lane arrives: frames of one lane keep their order.
    arrivals_us: BTreeMap<Lane, u64>,
    /// What waits for the radios at both ends.
    waiting: VecDeque<Waiting>,
}

/// A frame that waits for the radios.
#[derive(Debug)]
struct Waiting {
    lane: Lane,
    bytes: Vec<u8>,
    /// Bytes that are still to be sent.
    left: u64,
    since_us: u64,
    /// Connection intervals that were lost with packets of it.
    late_us: u64,
}

/// A frame that has left the radio.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) arrival_us: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Link {
    /// A link that both sides believe in.
    pub(crate) fn up() -> Self {
        Self {
            is_up: [true; 2],
            ..Self::default()
        }
    }
}

/// How often a packet is lost before it arrives.
fn losses(percent: u64, random: &mut Random) -> u64 {
    let mut lost = 0;
    while percent > 0 && lost < LOSSES_MAX && random.chance(percent) {
        lost += 1;
    }
    lost
}

impl Edge {
    pub(crate) fn new(options: EdgeOptions) -> Self {
        Self {
            options,
            links: BTreeMap::new(),
        }
    }

    /// Which side a peer is, if it is one.
    pub(crate) fn side_of(&self, peer: usize) -> Option<usize> {
        self.options.peers.iter().position(|it| *it == peer)
    }

    /// How many links still carry frames.
    pub(crate) fn carrying(&self) -> usize {
        self.links.values().filter(|link| !link.is_cut).count()
    }

    /// Whether a link takes another frame towards `side`.
    pub(crate) fn has_room(&self, link: u64, side: usize) -> bool {
        let Some(link) = self.links.get(&link) else {
            return true;
        };
        let model = link.model.as_ref().unwrap_or(&self.options.towards[side]);
        let way = &link.ways[side];
        let is_full = link.is_radio && way.bytes >= RADIO_QUEUE_BYTES;
        way.frames < model.frames_max && !is_full
    }

    /// Sends a frame towards `side`; returns when it arrives, `None` if never.
    pub(crate) fn send(
        &mut self,
        now_us: u64,
        (link, side): (u64, usize),
        (lane, bytes): (Lane, u64),
        is_lossless: bool,
        random: &mut Random,
    ) -> Option<u64> {
        let link = self.links.get_mut(&link)?;
        if link.is_cut || !link.is_up[side] {
            return None;
        }
        let model = link.model.as_ref().unwrap_or(&self.options.towards[side]);
        let way = &mut link.ways[side];
        way.frames += 1;
        way.bytes += bytes;
        let mut left_us = now_us.max(way.free_at_us);
        if let Some(sending_us) = (bytes * 1_000_000).checked_div(model.bytes_per_second) {
            left_us += sending_us;
            way.free_at_us = left_us;
        }
        let mut arrival_us = left_us + random.within(model.latency_us);
        if !is_lossless && model.loss_percent > 0 {
            let packets = bytes
                .div_ceil(model.packet_bytes.max(1))
                .clamp(1, PACKETS_MAX);
            let is_lost = (0..packets).any(|_| random.chance(model.loss_percent));
            arrival_us += if is_lost { model.retransmit_us } else { 0 };
        }
        let last = way.arrivals_us.entry(lane).or_insert(0);
        *last = arrival_us.max(*last + 1);
        Some(*last)
    }

    /// Has a frame wait for the radios at both ends.
    pub(crate) fn wait(&mut self, now_us: u64, (link, side): (u64, usize), frame: (Lane, Vec<u8>)) {
        let Some(link) = self.links.get_mut(&link) else {
            return;
        };
        if link.is_cut || !link.is_up[side] {
            return;
        }
        let way = &mut link.ways[side];
        let (lane, bytes) = frame;
        way.frames += 1;
        way.bytes += bytes.len() as u64;
        way.waiting.push_back(Waiting {
            lane,
            left: bytes.len() as u64,
            bytes,
            since_us: now_us,
            late_us: 0,
        });
    }

    /// Since when the frame waits that is the next one over a link, and towards which side it goes.
    pub(crate) fn waits_since(&self, link: u64) -> Option<(u64, usize)> {
        let link = self.links.get(&link).filter(|link| !link.is_cut)?;
        let sides = link.ways.iter().enumerate();
        let first = sides.filter_map(|(side, way)| Some((way.waiting.front()?.since_us, side)));
        first.min()
    }

    /// Puts some packets of the next frame on the air. Returns for how long they take it, and for how many
    /// bytes they are.
    pub(crate) fn put_on_air(
        &mut self,
        (link, side): (u64, usize),
        random: &mut Random,
    ) -> (u64, u64) {
        let link = self.links.get_mut(&link).expect("something waits there");
        let model = link.model.as_ref().unwrap_or(&self.options.towards[side]);
        let frame = link.ways[side].waiting.front_mut();
        let frame = frame.expect("something waits there");
        let packet = model.packet_bytes.max(1);
        let bytes = frame.left.min(packet * PACKETS_ON_AIR);
        let packets = bytes.div_ceil(packet);
        let lost = (0..packets).map(|_| losses(model.loss_percent, random));
        let lost = lost.sum::<u64>();
        frame.late_us += lost * model.retransmit_us;
        let sent = bytes + lost * packet.min(bytes);
        let rate = model.bytes_per_second.max(1);
        ((sent * 1_000_000).div_ceil(rate), bytes)
    }

    /// Packets have been sent; returns the frame that they were the last ones of.
    pub(crate) fn take_off_air(
        &mut self,
        now_us: u64,
        (link, side): (u64, usize),
        bytes: u64,
        random: &mut Random,
    ) -> Option<Left> {
        let link = self.links.get_mut(&link).filter(|link| !link.is_cut)?;
        let model = link.model.as_ref().unwrap_or(&self.options.towards[side]);
        let latency_us = random.within(model.latency_us);
        let way = &mut link.ways[side];
        let frame = way.waiting.front_mut()?;
        frame.left = frame.left.saturating_sub(bytes);
        if frame.left > 0 {
            return None;
        }
        let frame = way.waiting.pop_front()?;
        let last = way.arrivals_us.entry(frame.lane).or_insert(0);
        *last = (now_us + latency_us + frame.late_us).max(*last + 1);
        Some(Left {
            arrival_us: *last,
            bytes: frame.bytes,
        })
    }

    /// The bytes on their way towards a side.
    pub(crate) fn under_way(&self, (link, side): (u64, usize)) -> u64 {
        self.links
            .get(&link)
            .map_or(0, |link| link.ways[side].bytes)
    }

    /// A frame leaves the link. Whether somebody takes it.
    pub(crate) fn arrive(&mut self, link: u64, side: usize, bytes: u64) -> bool {
        let Some(link) = self.links.get_mut(&link) else {
            return false;
        };
        let way = &mut link.ways[side];
        way.frames = way.frames.saturating_sub(1);
        way.bytes = way.bytes.saturating_sub(bytes);
        !link.is_cut && link.is_up[side]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(model: LinkModel) -> Edge {
        let mut edge = Edge::new(EdgeOptions::new(0, 1, model));
        edge.links.insert(1, Link::up());
        edge
    }

    #[test]
    fn a_slow_link_takes_its_time_and_keeps_the_order_of_a_lane() {
        let model = LinkModel {
            latency_us: (1_000, 1_000),
            bytes_per_second: 1_000,
            ..LinkModel::default()
        };
        let mut edge = edge(model);
        let mut random = Random::new(1);
        let mut send = |lane, bytes| edge.send(0, (1, 1), (lane, bytes), false, &mut random);
        assert_eq!(send(Lane::Bulk, 500), Some(501_000));
        assert_eq!(send(Lane::Bulk, 100), Some(601_000));
        assert_eq!(
            send(Lane::Control, 1),
            Some(602_000),
            "it waits in the same queue"
        );
        assert_eq!(
            edge.send(0, (1, 0), (Lane::Bulk, 1), false, &mut random),
            Some(2_000)
        );
    }

    #[test]
    fn losses_delay_a_lane_and_large_frames_are_lost_more_often() {
        let model = LinkModel {
            loss_percent: 5,
            latency_us: (10, 10),
            ..LinkModel::default()
        };
        let mut random = Random::new(1);
        let mut lost = |bytes| {
            let is_lost = |_: &u64| {
                let mut edge = edge(model);
                let at = edge.send(0, (1, 1), (Lane::Bulk, bytes), false, &mut random);
                at > Some(200_000)
            };
            (0..1000_u64).filter(is_lost).count()
        };
        let (small, large) = (lost(100), lost(14_000));
        assert!((20..90).contains(&small), "{small}");
        assert!((300..500).contains(&large), "{large}");
    }

    #[test]
    fn nothing_arrives_over_a_link_that_is_cut() {
        let mut edge = edge(LinkModel::default());
        let mut random = Random::new(1);
        assert!(
            edge.send(0, (1, 1), (Lane::Bulk, 1), false, &mut random)
                .is_some()
        );
        edge.links.get_mut(&1).expect("it is there").is_cut = true;
        assert!(!edge.arrive(1, 1, 1));
        assert_eq!(
            edge.send(0, (1, 1), (Lane::Bulk, 1), false, &mut random),
            None
        );
    }
}

//! The ways to gateways, and what is carried along them (docs/format/presence.md, "Gateways").

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use idem_model::{PeerId, limits};
use idem_wire::SubscriptionId;

use crate::{
    frame::{GATEWAY_OUT_OF_REACH, Gossip, Way},
    interests::{Carried, name_of},
    names::PeerHash,
};

/// What is to be told waits for so long, to share a frame.
const TELL_AFTER: Duration = Duration::from_millis(100);

/// A neighbour is told no more often than this: a gateway that comes and goes costs every peer in reach a frame
/// of some 70 bytes to each neighbour a second, and a way that leads nowhere is counted to its end in a
/// quarter of a minute.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// A change of what is carried makes the relay begin anew, so it waits for a round: at once after a quiet time,
/// then after this, and twice as long each time up to [`ROUND_PAUSE_MAX`].
const ROUND_PAUSE_MIN: Duration = Duration::from_secs(1);

const ROUND_PAUSE_MAX: Duration = Duration::from_secs(64);

/// So long a peer that has lost the way to a gateway goes on to take in what is meant for it, and keeps it: a walk
/// from one place to another.
const HOLD: Duration = Duration::from_millis(limits::GATEWAY_HOLD_MS);

/// Of each gateway, so many of the nearest neighbours are told what this peer subscribes to, and take what it carries: one
/// may lie.
const NEXT_HOPS: usize = 2;

/// What a gateway wants.
#[derive(Debug, Default)]
struct Demand {
    statements: BTreeMap<SubscriptionId, Arc<str>>,
    digest: u64,
}

impl Demand {
    fn new(statements: impl IntoIterator<Item = Arc<str>>) -> Self {
        let named = statements.into_iter().map(|text| (name_of(&text), text));
        let statements: BTreeMap<_, _> = named.collect();
        let mut hasher = blake3::Hasher::new_derive_key("idem mesh demand, version 1");
        statements.keys().for_each(|id| {
            hasher.update(&id.0);
        });
        let mut digest = [0; 8];
        hasher.finalize_xof().fill(&mut digest);
        Self {
            statements,
            // 0 stands for nothing carried.
            digest: u64::from_be_bytes(digest).max(1),
        }
    }

    fn ids(&self) -> impl Iterator<Item = SubscriptionId> + '_ {
        self.statements.keys().copied()
    }
}

/// What a gateway wants, as it is in force here.
#[derive(Clone, Debug)]
struct Held {
    demand: Arc<Demand>,
    /// When there was a way to it.
    seen_at: Duration,
}

#[derive(Debug)]
struct Neighbour {
    pause: Duration,
    /// What it says of ways, also to gateways that do not count.
    said: Vec<Way>,
    /// How it reaches each gateway, and what it carries for it.
    heard: BTreeMap<PeerHash, Way>,
    demands: BTreeMap<PeerHash, Arc<Demand>>,
    told: Vec<Way>,
    /// Digests.
    told_demands: BTreeMap<PeerHash, u64>,
    tell_at: Option<Duration>,
    tell_not_before: Duration,
}

impl Neighbour {
    /// Takes in what it says of those that count.
    fn hear(&mut self, known: &BTreeSet<PeerHash>) {
        let ways = self.said.iter().filter(|it| known.contains(&it.gateway));
        self.heard = ways.map(|it| (it.gateway, *it)).collect();
    }

    fn distance(&self, gateway: PeerHash) -> u8 {
        let heard = self.heard.get(&gateway);
        heard.map_or(GATEWAY_OUT_OF_REACH, |way| way.distance)
    }

    fn is_gateway(&self) -> bool {
        self.heard.values().any(|way| way.distance == 0)
    }

    fn has_way(&self) -> bool {
        let mut ways = self.heard.values();
        ways.any(|way| way.distance < GATEWAY_OUT_OF_REACH)
    }
}

/// The ways to gateways, and what is carried along them.
///
/// A gateway says what it wants, its *demand*, and each peer tells its neighbours how far it is from each gateway by
/// way of others than them, so that a way that is gone is counted to its end, and is no way then. A peer that
/// does not subscribe to all of a demand carries it: its relay for gateways subscribes to it at the neighbours that
/// chose it as one of the nearest, or know no way, and is asked by those that it chose itself.
///
/// A gateway counts as long as its signed record is known, which expires: who lies about a way can close a ring of
/// peers that tell each other of it, so that it is never counted to its end.
///
/// Who has lost the way keeps what it carries for a while, and takes more from neighbours without a way of their own,
/// to bring it along.
#[derive(Debug)]
pub(crate) struct Uplink {
    gateway: Option<PeerHash>,
    is_relaying: bool,
    own: BTreeSet<SubscriptionId>,
    own_demand: Arc<Demand>,
    /// The gateways that count, without this peer.
    known: BTreeSet<PeerHash>,
    neighbours: BTreeMap<PeerId, Neighbour>,
    /// How far this peer is from the gateways in reach, at most `limits::GATEWAYS_MAX`.
    reach: BTreeMap<PeerHash, u8>,
    held: BTreeMap<PeerHash, Held>,
    round_at: Duration,
    round_pause: Duration,
    /// When it is to be looked at what is held.
    look_at: Option<Duration>,
    has_changed: bool,
    outgoing: VecDeque<(PeerId, Vec<u8>)>,
}

impl Uplink {
    /// Of a peer that is that gateway, or none.
    pub(crate) fn new(gateway: Option<PeerHash>, is_relaying: bool) -> Self {
        Self {
            gateway,
            is_relaying,
            own: BTreeSet::new(),
            own_demand: Arc::default(),
            known: BTreeSet::new(),
            neighbours: BTreeMap::new(),
            reach: BTreeMap::new(),
            held: BTreeMap::new(),
            round_at: Duration::ZERO,
            round_pause: Duration::ZERO,
            look_at: None,
            has_changed: false,
            outgoing: VecDeque::new(),
        }
    }

    // Input.

    pub(crate) fn greet(&mut self, now: Duration, peer: PeerId, is_slow: bool) {
        let neighbour = self.neighbours.entry(peer).or_insert_with(|| Neighbour {
            pause: if is_slow { TELL_PAUSE } else { TELL_AFTER },
            said: Vec::new(),
            heard: BTreeMap::new(),
            demands: BTreeMap::new(),
            told: Vec::new(),
            told_demands: BTreeMap::new(),
            tell_at: None,
            tell_not_before: now,
        });
        neighbour.told.clear();
        neighbour.told_demands.clear();
        neighbour.tell_at = None;
        self.outgoing.retain(|(to, _)| *to != peer);
        self.tell(now, peer);
    }

    pub(crate) fn leave(&mut self, now: Duration, peer: PeerId) {
        if self.neighbours.remove(&peer).is_some() {
            self.outgoing.retain(|(to, _)| *to != peer);
            self.settle(now);
        }
    }

    pub(crate) fn handle(&mut self, now: Duration, from: PeerId, gossip: &Gossip) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else {
            return;
        };
        match gossip {
            Gossip::Gateways(ways) => {
                let ways = ways.iter().filter(|it| Some(it.gateway) != self.gateway);
                neighbour.said = ways.copied().collect();
                neighbour.hear(&self.known);
                let Neighbour { said, demands, .. } = neighbour;
                demands.retain(|gateway, _| said.iter().any(|it| it.gateway == *gateway));
            }
            Gossip::Demand {
                gateway,
                statements,
            } if neighbour.said.iter().any(|it| it.gateway == *gateway) => {
                let statements = statements.iter().map(|text| Arc::from(text.as_str()));
                let demand = Arc::new(Demand::new(statements));
                neighbour.demands.insert(*gateway, demand);
            }
            _ => return,
        }
        self.settle(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.look_at.is_some_and(|at| at <= now) {
            self.settle(now);
        }
        let due = self.neighbours.iter();
        let due = due.filter(|(_, it)| it.tell_at.is_some_and(|at| at <= now));
        for peer in due.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.tell(now, peer);
        }
    }

    /// What this peer subscribes to, and what of it its neighbours are to know, which is its demand if it is a
    /// gateway.
    pub(crate) fn set_own(
        &mut self,
        now: Duration,
        own: BTreeSet<SubscriptionId>,
        told: impl IntoIterator<Item = Arc<str>>,
    ) {
        self.own = own;
        if self.gateway.is_some() {
            self.own_demand = Arc::new(Demand::new(told));
        }
        self.settle(now);
    }

    /// Which gateways count.
    pub(crate) fn set_known(&mut self, now: Duration, mut known: BTreeSet<PeerHash>) {
        known.retain(|it| Some(*it) != self.gateway);
        if self.known == known {
            return;
        }
        self.known = known;
        for neighbour in self.neighbours.values_mut() {
            neighbour.hear(&self.known);
        }
        self.settle(now);
    }

    // Output.

    pub(crate) fn poll(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let tells = self.neighbours.values().filter_map(|it| it.tell_at);
        tells.chain(self.look_at).min()
    }

    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    // Getters.

    /// How far the nearest gateway is; 0 if this peer is one.
    pub(crate) fn distance(&self) -> Option<u8> {
        let own = self.gateway.map(|_| 0);
        own.or_else(|| self.reach.values().min().copied())
    }

    /// The neighbours by which this peer reaches gateways, without those that are gateways.
    pub(crate) fn next_hops(&self) -> BTreeSet<PeerId> {
        let hops = self.reach.keys().flat_map(|it| self.hops_to(*it));
        let is_other = |peer: &PeerId| !self.neighbours[peer].is_gateway();
        hops.filter(is_other).collect()
    }

    /// The nearest [`NEXT_HOPS`] neighbours on the way to a gateway.
    fn hops_to(&self, gateway: PeerHash) -> impl Iterator<Item = PeerId> {
        let near = self.neighbours.iter();
        let near = near.map(|(peer, it)| (it.distance(gateway), *peer));
        let mut near: Vec<_> = near.filter(|it| it.0 < GATEWAY_OUT_OF_REACH).collect();
        near.sort_unstable();
        near.into_iter().take(NEXT_HOPS).map(|(_, peer)| peer)
    }

    pub(crate) fn carried(&self) -> impl Iterator<Item = Carried> + '_ {
        let demands = self.carrying().map(|(_, demand)| &demand.statements);
        let all: BTreeMap<_, _> = demands.flatten().collect();
        all.into_iter().map(|(id, statement)| Carried {
            subscription: *id,
            statement: Arc::clone(statement),
        })
    }

    /// What one gateway wants goes together, and with what shares something with it.
    pub(crate) fn together(&self) -> Vec<BTreeSet<SubscriptionId>> {
        crate::interests::joined(self.carrying().map(|(_, it)| it.ids().collect()).collect())
    }

    pub(crate) fn wanted_at(&self, peer: PeerId) -> BTreeSet<SubscriptionId> {
        let Some(neighbour) = self.neighbours.get(&peer) else {
            return BTreeSet::new();
        };
        let asked = self.carrying().filter(|(it, _)| self.asks(neighbour, *it));
        let asked: BTreeSet<_> = asked.flat_map(|(_, demand)| demand.ids()).collect();
        let sets = self.together().into_iter();
        sets.filter(|set| !set.is_disjoint(&asked))
            .flatten()
            .collect()
    }

    /// Of [`Self::wanted_at`], what the neighbour carries with all that goes together with it.
    pub(crate) fn wanted_at_relay(&self, peer: PeerId) -> BTreeSet<SubscriptionId> {
        let wanted = self.wanted_at(peer);
        let Some(neighbour) = self.neighbours.get(&peer) else {
            return wanted;
        };
        let same = self.carrying().filter(|(gateway, demand)| {
            let heard = neighbour.heard.get(gateway);
            // Two that carry it along keep it both.
            let is_on_the_way = self.reach.contains_key(gateway);
            is_on_the_way && heard.is_some_and(|way| way.carried == demand.digest)
        });
        let there: BTreeSet<_> = same.flat_map(|(_, demand)| demand.ids()).collect();
        let sets = self.together().into_iter();
        sets.filter(|set| set.is_subset(&there) && set.is_subset(&wanted))
            .flatten()
            .collect()
    }

    /// Whether something is carried that a neighbour itself subscribes to: it is the gateway, or on the way and
    /// carries nothing since it wants all of it.
    pub(crate) fn serves(&self, peer: PeerId) -> bool {
        let neighbour = self.neighbours.get(&peer);
        neighbour.is_some_and(|it| {
            self.carrying()
                .filter_map(|(gateway, _)| it.heard.get(&gateway))
                .any(|way| way.distance < GATEWAY_OUT_OF_REACH && way.carried == 0)
        })
    }

    /// Whether a neighbour is to be asked for what a gateway wants.
    fn asks(&self, neighbour: &Neighbour, gateway: PeerHash) -> bool {
        if !self.reach.contains_key(&gateway) {
            // Without any way: what others cannot bring themselves.
            return self.reach.is_empty() && !neighbour.has_way();
        }
        match neighbour.heard.get(&gateway) {
            Some(way) => way.is_by_receiver || way.distance == GATEWAY_OUT_OF_REACH,
            None => true,
        }
    }

    /// What is carried, for whom.
    fn carrying(&self) -> impl Iterator<Item = (PeerHash, &Arc<Demand>)> {
        let held = self.held.iter().filter(|(_, it)| self.carries(&it.demand));
        held.map(|(gateway, it)| (*gateway, &it.demand))
    }

    fn carries(&self, demand: &Demand) -> bool {
        let mut ids = demand.ids();
        self.is_relaying && ids.any(|id| !self.own.contains(&id))
    }

    /// How far a gateway is by way of others than `without`.
    fn distance_by(&self, gateway: PeerHash, without: Option<PeerId>) -> u8 {
        let others = self.neighbours.iter();
        let others = others.filter(|(peer, _)| Some(**peer) != without);
        let nearest = others.map(|(_, it)| it.distance(gateway)).min();
        let nearest = nearest.unwrap_or(GATEWAY_OUT_OF_REACH);
        nearest.saturating_add(1).min(GATEWAY_OUT_OF_REACH)
    }

    /// What a gateway wants, as the nearest neighbour says.
    fn demand_of(&self, gateway: PeerHash) -> Option<&Arc<Demand>> {
        if self.gateway == Some(gateway) {
            return Some(&self.own_demand);
        }
        let told = self.neighbours.iter().filter_map(|(peer, it)| {
            let demand = it.demands.get(&gateway)?;
            Some(((it.distance(gateway), *peer), demand))
        });
        let in_reach = told.filter(|((distance, _), _)| *distance < GATEWAY_OUT_OF_REACH);
        in_reach
            .min_by_key(|(near, _)| *near)
            .map(|(_, demand)| demand)
    }

    /// Follows what neighbours say.
    fn settle(&mut self, now: Duration) {
        let known = self.neighbours.values().flat_map(|it| it.heard.keys());
        let known: BTreeSet<_> = known.copied().collect();
        let ways = known.into_iter();
        let ways = ways.map(|gateway| (self.distance_by(gateway, None), gateway));
        let mut ways: Vec<_> = ways.filter(|it| it.0 < GATEWAY_OUT_OF_REACH).collect();
        ways.sort_unstable();
        ways.truncate(limits::GATEWAYS_MAX);
        let was_idle = self.held.is_empty() && self.reach.is_empty();
        self.reach = ways
            .into_iter()
            .map(|(far, gateway)| (gateway, far))
            .collect();
        self.hold(now);
        let is_idle = self.held.is_empty() && self.reach.is_empty();
        self.has_changed |= !(was_idle && is_idle);
        for neighbour in self.neighbours.values_mut() {
            let at = (now + neighbour.pause).max(neighbour.tell_not_before);
            neighbour.tell_at = Some(neighbour.tell_at.map_or(at, |other| other.min(at)));
        }
    }

    /// Holds what the gateways in reach want, and what others wanted a while ago.
    fn hold(&mut self, now: Duration) {
        let mut wished = BTreeMap::new();
        for gateway in self.reach.keys() {
            if let Some(demand) = self.demand_of(*gateway) {
                let demand = Arc::clone(demand);
                wished.insert(
                    *gateway,
                    Held {
                        demand,
                        seen_at: now,
                    },
                );
            }
        }
        let lost = self.held.iter().filter(|(gateway, it)| {
            !wished.contains_key(gateway)
                && (self.reach.contains_key(gateway) || it.seen_at + HOLD > now)
        });
        let mut lost: Vec<_> = lost.map(|(gateway, it)| (*gateway, it.clone())).collect();
        lost.sort_unstable_by_key(|(_, it)| std::cmp::Reverse(it.seen_at));
        lost.truncate(limits::GATEWAYS_MAX - wished.len());
        wished.extend(lost);
        let ends = wished.iter();
        let ends = ends.filter(|(gateway, _)| !self.reach.contains_key(gateway));
        let ends = ends.map(|(_, it)| it.seen_at + HOLD).filter(|at| *at > now);
        self.look_at = ends.min();
        let ids = |held: &BTreeMap<_, Held>| -> BTreeSet<SubscriptionId> {
            held.values().flat_map(|it| it.demand.ids()).collect()
        };
        if self.held.is_empty() || ids(&wished) == ids(&self.held) {
            self.held = wished;
        } else if now >= self.round_at {
            self.round_pause = match now >= self.round_at + ROUND_PAUSE_MAX {
                true => ROUND_PAUSE_MIN,
                false => (self.round_pause * 2).clamp(ROUND_PAUSE_MIN, ROUND_PAUSE_MAX),
            };
            self.round_at = now + self.round_pause;
            self.held = wished;
        } else {
            let at = self.round_at;
            self.look_at = Some(self.look_at.map_or(at, |other| other.min(at)));
            // What stays as it is was seen just now.
            for (gateway, held) in &mut self.held {
                held.seen_at = wished.get(gateway).map_or(held.seen_at, |it| it.seen_at);
            }
        }
    }

    /// What a neighbour is to know.
    fn telling(&self, peer: PeerId) -> Vec<Way> {
        if !self.is_relaying && self.gateway.is_none() {
            return Vec::new();
        }
        let is_there = |gateway: &PeerHash| {
            let neighbour = self.neighbours.get(&peer);
            neighbour.is_some_and(|it| it.distance(*gateway) == 0)
        };
        let known = self.reach.keys().chain(self.held.keys()).copied();
        let known: BTreeSet<_> = known.filter(|it| !is_there(it)).collect();
        let own = self.gateway.map(|gateway| Way {
            gateway,
            distance: 0,
            is_by_receiver: false,
            carried: 0,
        });
        let ways = known.into_iter().map(|gateway| {
            let held = self.held.get(&gateway);
            let carried = held.filter(|it| self.carries(&it.demand));
            Way {
                gateway,
                distance: self.distance_by(gateway, Some(peer)),
                is_by_receiver: self.hops_to(gateway).any(|it| it == peer),
                carried: carried.map_or(0, |it| it.demand.digest),
            }
        });
        let ways = ways.filter(|it| it.distance < GATEWAY_OUT_OF_REACH || it.carried != 0);
        let mut ways: Vec<_> = ways.chain(own).collect();
        ways.sort_unstable_by_key(|it| (it.distance, it.gateway));
        ways.truncate(limits::GATEWAYS_MAX);
        ways.sort_unstable_by_key(|it| it.gateway);
        ways
    }

    /// Tells a neighbour what it does not know yet.
    fn tell(&mut self, now: Duration, peer: PeerId) {
        let telling = self.telling(peer);
        let demands: Vec<_> = telling
            .iter()
            .filter(|it| it.distance < GATEWAY_OUT_OF_REACH)
            .filter_map(|it| Some((it.gateway, Arc::clone(self.demand_of(it.gateway)?))))
            .collect();
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.tell_at = None;
        let mut frames = Vec::new();
        if neighbour.told != telling {
            frames.push(Gossip::Gateways(telling.clone()));
        }
        let is_known = |it: &PeerHash| telling.iter().any(|way| way.gateway == *it);
        neighbour.told_demands.retain(|it, _| is_known(it));
        neighbour.told = telling;
        for (gateway, demand) in demands {
            let before = neighbour.told_demands.insert(gateway, demand.digest);
            if before != Some(demand.digest) {
                let mut statements: Vec<_> = demand
                    .statements
                    .values()
                    .map(ToString::to_string)
                    .collect();
                statements.sort_unstable();
                frames.push(Gossip::Demand {
                    gateway,
                    statements,
                });
            }
        }
        if !frames.is_empty() {
            neighbour.tell_not_before = now + TELL_PAUSE;
        }
        let frames = frames.iter().map(|frame| (peer, frame.to_bytes()));
        self.outgoing.extend(frames);
    }
}

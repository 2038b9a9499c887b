//! Which peers want something, and what a peer does for others.

use std::{collections::BTreeSet, time::Duration};

use idem_mesh::{InterestConfig, Interests, PeerHash};
use idem_model::{ActorId, PeerId};
use idem_query::Selector;
use idem_sync::{Priority, Relay, RelayConfig, RelayEvent, RelayKind, SubscriptionTerms};

use crate::{network::EdgeOptions, options::Relays, peer::DATABASE, random::Random};

/// What a simulated process relays.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) relay: Relay,
    /// The one for gateways.
    pub(crate) uplink: Relay,
    pub(crate) interests: Interests,
    pub(crate) timer_us: Option<u64>,
}

impl Carrier {
    pub(crate) fn new(
        local: PeerId,
        wanted: &[Selector],
        (options, is_gateway): (&Relays, bool),
        known: &BTreeSet<PeerHash>,
        random: &mut Random,
    ) -> Self {
        let now = Duration::ZERO;
        let mut relay = |kind| {
            let drawn = (u128::from(random.next()) << 64) | u128::from(random.next());
            Relay::new(RelayConfig {
                database: DATABASE,
                local,
                actor: ActorId(drawn.to_be_bytes()),
                seed: random.next(),
                cache_bytes: options.cache_bytes,
                kind,
            })
        };
        let mut relay_of_interest = relay(RelayKind::Interest);
        // Runs without gateways are as they were.
        let mut uplink = match options.gateways.is_empty() {
            true => Relay::new(RelayConfig {
                database: DATABASE,
                local,
                actor: ActorId([0; 16]),
                seed: 0,
                cache_bytes: options.cache_bytes,
                kind: RelayKind::Gateway,
            }),
            false => relay(RelayKind::Gateway),
        };
        let terms = SubscriptionTerms::from(Priority::Normal);
        let own = || wanted.iter().map(|it| (it.clone(), terms));
        uplink.set_own(now, own());
        if !is_gateway {
            relay_of_interest.set_own(now, own());
        }
        let mut interests = Interests::new(InterestConfig {
            hops: options.hops,
            is_relaying: options.cache_bytes > 0,
            gateway: is_gateway.then(|| PeerHash::of(DATABASE, local)),
        });
        let statements: Vec<String> = wanted.iter().map(Selector::canonical).collect();
        interests.set_own(now, statements.iter().map(String::as_str));
        interests.set_gateways(now, known.clone());
        Self {
            relay: relay_of_interest,
            uplink,
            interests,
            timer_us: None,
        }
    }

    /// Makes the relay do what neighbours want, if that has changed.
    pub(crate) fn follow(&mut self, now: Duration, neighbours: &[PeerId]) {
        if !self.interests.take_changed() {
            return;
        }
        let carried: Vec<_> = self.interests.carried().collect();
        let carried = carried.iter().map(|it| (it.subscription, &*it.statement));
        let together = self.interests.together().cloned();
        self.relay.set_carried(now, carried, together);
        for peer in neighbours {
            let at_main = self.interests.wanted_at(*peer);
            let at_main = at_main.map(|it| it.subscription).collect();
            let at_relay = self.interests.wanted_at_relay(*peer);
            let at_relay = at_relay.map(|it| it.subscription).collect();
            let serves = self.interests.serves(*peer);
            self.relay.set_wanted(now, *peer, at_main, at_relay, serves);
        }
        let carried: Vec<_> = self.interests.carried_up().collect();
        let carried = carried.iter().map(|it| (it.subscription, &*it.statement));
        let together = self.interests.together_up();
        self.uplink.set_carried(now, carried, together);
        for peer in neighbours {
            let at_main = self.interests.wanted_up_at(*peer);
            let at_relay = self.interests.wanted_up_at_relay(*peer);
            let serves = self.interests.serves_gateway(*peer);
            self.uplink
                .set_wanted(now, *peer, at_main, at_relay, serves);
        }
    }

    /// Both relays.
    pub(crate) fn relays(&mut self) -> [&mut Relay; 2] {
        [&mut self.relay, &mut self.uplink]
    }

    /// The relay that may have something to send to a neighbour.
    pub(crate) fn stirred(&mut self, peer: PeerId) -> Option<&mut Relay> {
        if self.relay.is_stirred(peer) {
            return Some(&mut self.relay);
        }
        Some(&mut self.uplink).filter(|it| it.is_stirred(peer))
    }

    pub(crate) fn poll_event(&mut self) -> Option<RelayEvent> {
        let event = self.relay.poll_event();
        event.or_else(|| self.uplink.poll_event())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let times = [
            self.relay.poll_timeout(),
            self.uplink.poll_timeout(),
            self.interests.poll_timeout(),
        ];
        times.into_iter().flatten().min()
    }
}

/// Draws which of the honest peers are interested, so that relays connect all of them, and who writes: those
/// and others whose neighbours carry.
pub(crate) fn draw(
    random: &mut Random,
    honest: usize,
    edges: &[EdgeOptions],
    interested_percent: u64,
    mut relays: Relays,
) -> Relays {
    let mut interested: Vec<bool> = (0..honest)
        .map(|_| random.chance(interested_percent))
        .collect();
    for _ in 0..2 {
        interested[random.index(honest)] = true;
    }
    let mut neighbours = vec![Vec::new(); honest];
    for edge in edges {
        let [a, b] = edge.peers;
        if a < honest && b < honest {
            neighbours[a].push(b);
            neighbours[b].push(a);
        }
    }
    let hops = usize::from(relays.hops);
    loop {
        let distances = distances(&interested, &neighbours);
        let carries = |it: usize| distances[it].is_some_and(|far| far <= hops);
        let first = interested.iter().position(|it| *it).expect("two at least");
        let mut reached = BTreeSet::from([first]);
        let mut open = vec![first];
        while let Some(peer) = open.pop() {
            for other in &neighbours[peer] {
                if carries(*other) && reached.insert(*other) {
                    open.push(*other);
                }
            }
        }
        let Some(apart) = (0..honest).find(|it| interested[*it] && !reached.contains(it)) else {
            let is_near = |far: &Option<usize>| far.is_some_and(|far| far <= hops + 1);
            relays.writes = distances.iter().map(is_near).collect();
            relays.interested = interested;
            return relays;
        };
        // The next one on the way there.
        let ways = self::distances(&only(honest, apart), &neighbours);
        let outside = reached.iter().flat_map(|it| &neighbours[*it]);
        let outside = outside.filter(|it| !reached.contains(it) && ways[**it].is_some());
        let next = outside.min_by_key(|it| (ways[**it], **it));
        interested[*next.expect("all are connected")] = true;
    }
}

/// Draws who is a gateway, and who else is interested. Everybody writes: in the end, gateways and interested peers hold all of it,
/// whoever is between them. Every other liar says that it is a gateway too.
pub(crate) fn draw_gateways(
    random: &mut Random,
    honest: usize,
    (gateways, are_liars): (usize, impl Iterator<Item = bool>),
    interested_percent: u64,
    mut relays: Relays,
) -> Relays {
    relays.gateways = vec![false; honest];
    for _ in 0..gateways {
        relays.gateways[random.index(honest)] = true;
    }
    let drawn = relays.gateways.clone().into_iter();
    let drawn = drawn.map(|is_gateway| random.chance(interested_percent) || is_gateway);
    relays.interested = drawn.collect();
    // Two at least have something to agree on.
    while relays.interested.iter().filter(|it| **it).count() < 2 {
        relays.interested[random.index(honest)] = true;
    }
    relays.writes = vec![true; honest];
    let claims = are_liars
        .enumerate()
        .map(|(at, is_liar)| is_liar && at % 2 == 0);
    relays.gateways.extend(claims);
    relays
}

fn only(count: usize, one: usize) -> Vec<bool> {
    (0..count).map(|it| it == one).collect()
}

/// How far each peer is from the next one that is marked.
fn distances(marked: &[bool], neighbours: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut distances: Vec<_> = marked.iter().map(|it| it.then_some(0)).collect();
    let mut open: Vec<usize> = (0..marked.len()).filter(|it| marked[*it]).collect();
    let mut far = 0;
    while !open.is_empty() {
        far += 1;
        let mut next = Vec::new();
        for peer in open {
            for other in &neighbours[peer] {
                if distances[*other].is_none() {
                    distances[*other] = Some(far);
                    next.push(*other);
                }
            }
        }
        open = next;
    }
    distances
}

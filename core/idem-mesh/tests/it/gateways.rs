//! Ways to gateways on a toy network, against what distances in its graph say.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use idem_mesh::{Gossip, InterestConfig, Interests, PeerHash, SubscriptionId, Way};
use idem_model::{PeerId, limits};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_millis(limits::GATEWAY_HOLD_MS);
const DEMANDS: [&str; 2] = ["SELECT * FROM logs AS d", "SELECT * FROM orders AS d"];

fn peer(number: usize) -> PeerId {
    PeerId([u8::try_from(number).expect("few peers"); 32])
}

fn hash(number: usize) -> PeerHash {
    PeerHash::from_bytes([u8::try_from(number).expect("few peers"); 8])
}

fn name(text: &str) -> SubscriptionId {
    SubscriptionId(*blake3::hash(text.as_bytes()).as_bytes())
}

fn demanded() -> BTreeSet<SubscriptionId> {
    DEMANDS.into_iter().map(name).collect()
}

fn config(gateway: Option<usize>) -> InterestConfig {
    InterestConfig {
        gateway: gateway.map(hash),
        ..InterestConfig::default()
    }
}

/// Peers in a graph that hand each other what they say, in order.
struct Toy {
    now: Duration,
    peers: Vec<Interests>,
    gateways: BTreeSet<usize>,
    edges: BTreeSet<(usize, usize)>,
    frames: usize,
    /// Whose frames do not count.
    aside: Option<usize>,
    /// Whose distance is told as 1, whatever it is.
    liar: Option<usize>,
}

impl Toy {
    fn new(peers: usize, gateways: &[usize]) -> Self {
        let is_gateway = |it: &usize| gateways.contains(it);
        let configs = (0..peers).map(|it| config(Some(it).filter(is_gateway)));
        let mut toy = Self {
            now: Duration::ZERO,
            peers: configs.map(Interests::new).collect(),
            gateways: gateways.iter().copied().collect(),
            edges: BTreeSet::new(),
            frames: 0,
            aside: None,
            liar: None,
        };
        toy.know(gateways);
        for gateway in gateways {
            toy.peers[*gateway].set_own(Duration::ZERO, DEMANDS);
        }
        toy
    }

    /// All have the records of those, and of no other gateway.
    fn know(&mut self, gateways: &[usize]) {
        let known: BTreeSet<_> = gateways.iter().map(|it| hash(*it)).collect();
        for interests in &mut self.peers {
            interests.set_gateways(self.now, known.clone());
        }
    }

    fn row(peers: usize, gateways: &[usize]) -> Self {
        let mut toy = Self::new(peers, gateways);
        (1..peers).for_each(|it| toy.toggle(it - 1, it));
        toy
    }

    fn toggle(&mut self, a: usize, b: usize) {
        let edge = (a.min(b), a.max(b));
        let is_added = !self.edges.remove(&edge) && self.edges.insert(edge);
        for (one, other) in [(a, b), (b, a)] {
            match is_added {
                true => self.peers[one].greet(self.now, peer(other), false),
                false => self.peers[one].leave(self.now, peer(other)),
            }
        }
    }

    fn exchange(&mut self) {
        loop {
            let mut said = Vec::new();
            for (number, interests) in self.peers.iter_mut().enumerate() {
                while let Some((to, bytes)) = interests.poll() {
                    said.push((number, usize::from(to.0[0]), bytes));
                }
            }
            if said.is_empty() {
                return;
            }
            let counted = said.iter();
            let counted =
                counted.filter(|(from, to, _)| ![Some(*from), Some(*to)].contains(&self.aside));
            self.frames += counted.count();
            for (from, to, bytes) in said {
                assert!(bytes.len() <= limits::GOSSIP_BYTES_MAX);
                let mut gossip = Gossip::decode(&bytes).expect("what is said can be read");
                if let Gossip::Gateways(ways) = &mut gossip
                    && self.liar == Some(from)
                {
                    ways.iter_mut().for_each(|way| way.distance = 1);
                }
                let heard = self.peers[to].handle(self.now, peer(from), &gossip);
                heard.expect("honest peers keep to the rules");
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.exchange();
            let times = self.peers.iter().filter_map(Interests::poll_timeout);
            let Some(next) = times.min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(next);
            for interests in &mut self.peers {
                interests.handle_timeout(self.now);
            }
        }
        self.now = until;
    }

    fn neighbours(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        let edges = self.edges.iter();
        edges.filter_map(move |(a, b)| match of {
            _ if *a == of => Some(*b),
            _ if *b == of => Some(*a),
            _ => None,
        })
    }

    fn distances(&self) -> BTreeMap<usize, usize> {
        let mut far: BTreeMap<_, _> = self.gateways.iter().map(|it| (*it, 0)).collect();
        let mut open: VecDeque<_> = self.gateways.iter().copied().collect();
        while let Some(at) = open.pop_front() {
            for next in self.neighbours(at) {
                if !far.contains_key(&next) {
                    far.insert(next, far[&at] + 1);
                    open.push_back(next);
                }
            }
        }
        far
    }

    /// Whether `asking` fetches all that gateways want from `asked`, for itself or others.
    fn fetches(&self, asking: usize, asked: usize) -> bool {
        let is_gateway = self.gateways.contains(&asking);
        is_gateway || self.peers[asking].wanted_up_at(peer(asked)) == demanded()
    }

    fn check(&self) {
        let far = self.distances();
        for (number, interests) in self.peers.iter().enumerate() {
            let expected = far.get(&number).map(|it| u8::try_from(*it).expect("few"));
            assert_eq!(interests.gateway_distance(), expected, "{number}");
            let Some(distance) = far.get(&number).filter(|it| **it > 0) else {
                continue;
            };
            let fetching: Vec<_> = self
                .neighbours(number)
                .filter(|it| self.fetches(*it, number))
                .collect();
            assert!(
                fetching.len() <= 2 * self.gateways.len(),
                "{fetching:?} at {number}"
            );
            let mut nearer = fetching.into_iter().filter(|it| far[it] < *distance);
            let is_way = |next: usize| match self.gateways.contains(&next) {
                true => self.peers[number].serves_gateway(peer(next)),
                false => self.peers[next].wanted_up_at_relay(peer(number)) == demanded(),
            };
            assert!(nearer.any(is_way), "nobody nearer fetches from {number}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Toggle(usize, usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let toggle = (0..10usize, 0..10usize).prop_map(|(a, b)| match a == b {
        true => Step::Wait,
        false => Step::Toggle(a, b),
    });
    proptest::collection::vec(prop_oneof![6 => toggle, 1 => Just(Step::Wait)], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Also after ways are gone, in graphs with loops, and with two gateways.
    #[test]
    fn distances_and_who_fetches_follow_the_graph(gateways in 1..=2usize, steps in steps()) {
        let gateways: Vec<_> = (0..gateways).collect();
        let mut toy = Toy::new(10, &gateways);
        for step in steps {
            match step {
                Step::Toggle(a, b) => toy.toggle(a, b),
                Step::Wait => toy.run(SECOND / 2),
            }
            toy.exchange();
        }
        // Sixteen links, one a second, and a round.
        toy.run(SECOND * 90);
        toy.check();
        let frames = toy.frames;
        toy.run(SECOND * 600);
        prop_assert_eq!(toy.frames, frames, "they come to rest");
    }
}

#[test]
fn strangers_in_a_row_carry_to_a_gateway_and_what_the_writer_wants_comes_back() {
    let mut toy = Toy::row(7, &[6]);
    toy.peers[0].set_own(Duration::ZERO, ["SELECT * FROM menu AS d"]);
    toy.run(SECOND * 10);
    toy.check();
    let menu = name("SELECT * FROM menu AS d");
    for number in 1..6 {
        let carried: Vec<_> = toy.peers[number].carried().collect();
        assert_eq!(carried.len(), 1, "{number}");
        assert_eq!(carried[0].subscription, menu);
        let mut wanted = toy.peers[number].wanted_at(peer(number + 1));
        assert!(wanted.any(|it| it.subscription == menu), "{number}");
        if number < 5 {
            let mut relay = toy.peers[number].wanted_at_relay(peer(number + 1));
            assert!(relay.any(|it| it.subscription == menu), "{number}");
        }
    }
    assert_eq!(toy.peers[6].carried().count(), 0, "only towards it");
}

/// Where nobody is a gateway, nothing is said of any, and interest goes no further than ever.
#[test]
fn without_a_gateway_nothing_is_said() {
    let mut toy = Toy::row(7, &[]);
    toy.peers[0].set_own(Duration::ZERO, ["SELECT * FROM menu AS d"]);
    toy.run(SECOND * 10);
    assert_eq!(toy.peers[1].carried().count(), 1);
    assert_eq!(toy.peers[2].carried().count(), 0);
    let said = toy
        .peers
        .iter()
        .filter(|it| it.gateway_distance().is_some());
    assert_eq!(said.count(), 0);
    // A frame of interests each way over six links, what is wanted, and that it is carried.
    assert!(toy.frames <= 2 * 6 + 3, "{}", toy.frames);
}

/// In a ring the way around leads back: it is counted to its end.
#[test]
fn a_gateway_that_is_gone_is_forgotten_within_seconds_and_what_it_wants_after_an_hour() {
    let mut toy = Toy::new(7, &[6]);
    (0..6).for_each(|it| toy.toggle(it, (it + 1) % 6));
    toy.toggle(0, 6);
    toy.run(SECOND * 10);
    toy.check();
    toy.toggle(0, 6);
    toy.frames = 0;
    toy.run(SECOND * 20);
    for number in 0..6 {
        assert_eq!(toy.peers[number].gateway_distance(), None, "{number}");
        // It is brought along, and taken from whoever has no way.
        assert_eq!(toy.peers[number].carried_up().count(), 2, "{number}");
        assert!(toy.fetches(number, (number + 1) % 6));
        assert!(
            toy.peers[number]
                .wanted_up_at_relay(peer((number + 1) % 6))
                .is_empty()
        );
    }
    assert!(toy.frames <= 6 * 2 * 20, "{}", toy.frames);
    toy.toggle(3, 6);
    toy.run(SECOND * 10);
    toy.check();
    toy.toggle(3, 6);
    toy.run(HOLD + SECOND * 20);
    assert!(toy.peers[..6].iter().all(|it| it.carried_up().count() == 0));
}

#[test]
fn further_than_fifteen_links_there_is_no_way() {
    let toy_of = |peers: usize| {
        let mut toy = Toy::row(peers, &[0]);
        toy.run(SECOND * 40);
        toy
    };
    let toy = toy_of(18);
    let distances: Vec<_> = toy.peers.iter().map(Interests::gateway_distance).collect();
    assert_eq!(distances[15], Some(15));
    assert_eq!(distances[16..], [None, None]);
    // The last one in reach still takes from those behind it.
    assert!(toy.fetches(15, 16));
}

#[test]
fn who_subscribes_to_all_of_it_carries_nothing_and_shows_the_way() {
    let mut toy = Toy::row(4, &[0]);
    toy.peers[1].set_own(Duration::ZERO, DEMANDS);
    toy.run(SECOND * 10);
    assert_eq!(toy.peers[1].carried_up().count(), 0);
    assert_eq!(toy.peers[2].gateway_distance(), Some(2));
    assert!(toy.fetches(2, 3));
    assert!(
        toy.peers[2].serves_gateway(peer(1)),
        "it goes on by its store"
    );
    // With a part of it, it would get parts of transactions.
    toy.peers[1].set_own(toy.now, [DEMANDS[0]]);
    toy.run(SECOND * 10);
    assert_eq!(toy.peers[1].carried_up().count(), 2);
    toy.check();
    assert!(!toy.peers[2].serves_gateway(peer(1)));
}

/// A gateway whose link comes and goes ten times a second costs others a frame a second.
#[test]
fn a_gateway_that_comes_and_goes_is_told_of_once_a_second() {
    let mut toy = Toy::row(5, &[4]);
    toy.run(SECOND * 10);
    toy.aside = Some(4);
    toy.frames = 0;
    for _ in 0..600 {
        toy.toggle(3, 4);
        toy.run(SECOND / 20);
    }
    // Three links for half a minute, in each direction at most the way and what is wanted.
    let told = toy.frames;
    assert!(told <= 3 * 2 * 2 * 31, "{told}");
}

fn way(gateway: PeerHash, distance: u8) -> Way {
    Way {
        gateway,
        distance,
        is_by_receiver: false,
        carried: 0,
    }
}

fn demand(number: usize, texts: &[&str]) -> Gossip {
    Gossip::Demand {
        gateway: hash(number),
        statements: texts.iter().map(|it| (*it).to_owned()).collect(),
    }
}

/// What nobody signed is kept in mind until somebody did.
#[test]
fn a_gateway_without_a_record_counts_for_nothing() {
    let mut subject = Interests::new(InterestConfig::default());
    subject.greet(SECOND, peer(2), false);
    subject.greet(SECOND, peer(3), false);
    let ways = Gossip::Gateways(vec![way(hash(1), 1)]);
    for gossip in [ways, demand(1, &DEMANDS)] {
        subject.handle(SECOND, peer(2), &gossip).expect("allowed");
    }
    assert_eq!(subject.gateway_distance(), None);
    assert_eq!(subject.carried_up().count(), 0);
    subject.set_gateways(SECOND, BTreeSet::from([hash(9)]));
    assert_eq!(subject.gateway_distance(), None);
    subject.set_gateways(SECOND, BTreeSet::from([hash(1), hash(9)]));
    assert_eq!(subject.gateway_distance(), Some(2));
    assert_eq!(subject.carried_up().count(), 2);
    // Its record is gone, and with it the way. What is held for it is brought along.
    subject.set_gateways(SECOND, BTreeSet::from([hash(9)]));
    assert_eq!(subject.gateway_distance(), None);
    assert_eq!(subject.carried_up().count(), 2);
}

/// Who tells a ring that it is beside a gateway that is gone keeps it going until the record of the gateway is gone.
#[test]
fn a_liar_in_a_ring_does_not_keep_a_gateway_in_mind_for_ever() {
    let mut toy = Toy::new(7, &[6]);
    (0..6).for_each(|it| toy.toggle(it, (it + 1) % 6));
    toy.toggle(0, 6);
    toy.liar = Some(3);
    toy.run(SECOND * 10);
    toy.toggle(0, 6);
    toy.run(SECOND * 60);
    assert!(toy.peers[1].gateway_distance().is_some(), "it is believed");
    toy.know(&[]);
    toy.run(SECOND * 60);
    let far: Vec<_> = toy.peers.iter().map(Interests::gateway_distance).collect();
    assert_eq!(far[..6], [None; 6]);
    toy.frames = 0;
    toy.run(SECOND * 600);
    assert_eq!(toy.frames, 0, "they come to rest");
}

/// What goes together goes towards gateways together, but not back to the only one that wants it.
#[test]
fn nothing_is_taken_along_for_its_receiver_alone() {
    let mut subject = Interests::new(InterestConfig::default());
    let (writer, upwards) = (peer(3), peer(2));
    subject.set_gateways(SECOND, BTreeSet::from([hash(1)]));
    subject.greet(SECOND, writer, false);
    subject.greet(SECOND, upwards, false);
    let wants = |up, text: &str| idem_mesh::Interest {
        hops: 1,
        up,
        is_carried: false,
        statement: text.to_owned(),
    };
    let interest = |entries| Gossip::Interest {
        is_first: true,
        entries,
    };
    let told = [
        (upwards, Gossip::Gateways(vec![way(hash(1), 1)])),
        (writer, interest(vec![wants(15, DEMANDS[0])])),
        (
            upwards,
            interest(vec![wants(0, DEMANDS[0]), wants(0, DEMANDS[1])]),
        ),
    ];
    for (from, gossip) in told {
        subject.handle(SECOND, from, &gossip).expect("allowed");
    }
    let mut ups = BTreeMap::new();
    let mut now = SECOND;
    while now < SECOND * 10 {
        while let Some((to, bytes)) = subject.poll() {
            let gossip = Gossip::decode(&bytes).expect("what is said can be read");
            if let (true, Gossip::Interest { entries, .. }) = (to == upwards, gossip) {
                ups.extend(entries.into_iter().map(|it| (it.statement, it.up)));
            }
        }
        now += SECOND / 10;
        subject.handle_timeout(now);
    }
    assert_eq!(ups[DEMANDS[0]], 14);
    assert_eq!(ups[DEMANDS[1]], 0);
}

/// What neighbours invent is bounded: gateways, what they want, and how often that changes.
#[test]
fn invented_gateways_leave_room_for_a_true_one() {
    let mut toy = Toy::row(3, &[2]);
    let mut subject = Interests::new(InterestConfig::default());
    std::mem::swap(&mut subject, &mut toy.peers[1]);
    let (mut now, liar) = (SECOND, peer(9));
    subject.greet(now, peer(2), false);
    subject.greet(now, liar, false);
    // They have records all the same.
    let known = [2].into_iter().chain(100..104).map(hash).collect();
    subject.set_gateways(now, known);
    let mut say = |now, from, gossip: &Gossip| {
        let gossip = Gossip::decode(&gossip.to_bytes()).expect("it is well formed");
        subject.handle(now, from, &gossip).expect("it is allowed");
        subject
            .carried_up()
            .map(|it| it.subscription)
            .collect::<BTreeSet<_>>()
    };
    say(now, peer(2), &Gossip::Gateways(vec![way(hash(2), 0)]));
    assert_eq!(say(now, peer(2), &demand(2, &DEMANDS)), demanded());
    let many: Vec<_> = (100..104).map(|it| way(hash(it), 1)).collect();
    assert_eq!(many.len(), limits::GATEWAYS_MAX);
    say(now, liar, &Gossip::Gateways(many));
    let (mut changes, mut before) = (0, demanded());
    for round in 0..600 {
        now += SECOND / 10;
        let text = format!("SELECT * FROM c{round} AS d");
        let carried = say(now, liar, &demand(100 + round % 4, &[&text]));
        assert!(carried.is_superset(&demanded()), "the nearest stays");
        changes += usize::from(carried != before);
        before = carried;
    }
    assert!((1..=8).contains(&changes), "{changes}");
}

/// Who claims to be nearer than it is gets what its neighbours carry, and so does the next one on the true way.
#[test]
fn a_forged_distance_does_not_cut_off_the_true_way() {
    let mut toy = Toy::row(7, &[0]);
    let liar = 6;
    toy.toggle(4, liar);
    toy.toggle(5, liar);
    toy.liar = Some(liar);
    toy.run(SECOND * 20);
    assert_eq!(toy.peers[4].gateway_distance(), Some(2), "it is believed");
    for number in 1..5 {
        assert!(toy.fetches(number - 1, number), "the true way at {number}");
    }
}

//! Interests on a toy network, against what distances in its graph say.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use idem_mesh::{Gossip, GossipError, Interest, InterestConfig, Interests, SubscriptionId};
use idem_model::{PeerId, limits};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn peer(number: usize) -> PeerId {
    PeerId([u8::try_from(number).expect("few peers"); 32])
}

fn statement(number: usize) -> String {
    format!("SELECT * FROM c{number} AS d")
}

fn name(number: usize) -> SubscriptionId {
    SubscriptionId(*blake3::hash(statement(number).as_bytes()).as_bytes())
}

/// Peers in a graph that hand each other what they say, in order.
struct Toy {
    now: Duration,
    hops: u8,
    peers: Vec<Interests>,
    own: Vec<BTreeSet<usize>>,
    edges: BTreeSet<(usize, usize)>,
}

impl Toy {
    fn new(peers: usize, hops: u8) -> Self {
        let config = InterestConfig {
            hops,
            ..InterestConfig::default()
        };
        Self {
            now: Duration::ZERO,
            hops,
            peers: (0..peers).map(|_| Interests::new(config)).collect(),
            own: vec![BTreeSet::new(); peers],
            edges: BTreeSet::new(),
        }
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

    fn set_own(&mut self, number: usize, own: BTreeSet<usize>) {
        let texts: Vec<_> = own.iter().map(|it| statement(*it)).collect();
        self.peers[number].set_own(self.now, texts.iter().map(String::as_str));
        self.own[number] = own;
    }

    /// Hands over what is said; gives how many frames that were.
    fn exchange(&mut self) -> usize {
        let mut frames = 0;
        loop {
            let mut said = Vec::new();
            for (number, interests) in self.peers.iter_mut().enumerate() {
                while let Some((to, bytes)) = interests.poll() {
                    said.push((number, usize::from(to.0[0]), bytes));
                }
            }
            if said.is_empty() {
                return frames;
            }
            frames += said.len();
            for (from, to, bytes) in said {
                assert!(bytes.len() <= limits::GOSSIP_BYTES_MAX);
                let gossip = Gossip::decode(&bytes).expect("what is said can be read");
                let heard = self.peers[to].handle(self.now, peer(from), &gossip);
                heard.expect("honest peers keep to the rules");
            }
        }
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let frames = self.exchange();
            let times = self.peers.iter().filter_map(Interests::poll_timeout);
            let Some(next) = times.min() else {
                if frames == 0 {
                    return;
                }
                continue;
            };
            self.now = self.now.max(next);
            for interests in &mut self.peers {
                interests.handle_timeout(self.now);
            }
        }
        panic!("interests do not come to rest");
    }

    fn neighbours(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        let edges = self.edges.iter();
        edges.filter_map(move |(a, b)| match of {
            _ if *a == of => Some(*b),
            _ if *b == of => Some(*a),
            _ => None,
        })
    }

    /// Who lies at most `hops` links from a subscriber of `what`, not counting ways through `without`.
    fn near(&self, what: usize, hops: u8, without: Option<usize>) -> BTreeSet<usize> {
        let all = 0..self.peers.len();
        let is_there = |it: &usize| Some(*it) != without;
        let mut near: BTreeSet<usize> = all
            .filter(|it| self.own[*it].contains(&what))
            .filter(is_there)
            .collect();
        for _ in 0..hops {
            let more: Vec<_> = near.iter().flat_map(|it| self.neighbours(*it)).collect();
            near.extend(more.into_iter().filter(is_there));
        }
        near
    }

    fn carried(&self, number: usize) -> BTreeSet<usize> {
        let ids: BTreeSet<_> = self.peers[number]
            .carried()
            .map(|it| it.subscription)
            .collect();
        (0..200).filter(|what| ids.contains(&name(*what))).collect()
    }

    /// What a peer carries, what some neighbour wants or carries together in one set.
    fn sets(&self, number: usize) -> Vec<BTreeSet<usize>> {
        let carried = self.carried(number);
        let mut sets: Vec<BTreeSet<usize>> = carried.iter().map(|it| [*it].into()).collect();
        for at in self.neighbours(number) {
            for wanted in [self.own[at].clone(), self.carried(at)] {
                let wanted: BTreeSet<_> = wanted.intersection(&carried).copied().collect();
                let (join, apart): (Vec<_>, Vec<_>) =
                    sets.into_iter().partition(|set| !set.is_disjoint(&wanted));
                sets = apart;
                sets.extend((!join.is_empty()).then(|| join.into_iter().flatten().collect()));
            }
        }
        sets
    }

    fn check(&self, subscriptions: usize) {
        for (number, interests) in self.peers.iter().enumerate() {
            let carried: BTreeSet<_> = interests.carried().map(|it| it.subscription).collect();
            let sets = self.sets(number);
            let found = interests
                .together()
                .map(|set| set.iter().copied().collect());
            let expected = sets
                .iter()
                .map(|set| set.iter().map(|it| name(*it)).collect());
            let (found, expected): (BTreeSet<BTreeSet<_>>, BTreeSet<_>) =
                (found.collect(), expected.collect());
            assert_eq!(found, expected, "what goes together at {number}");
            for what in 0..subscriptions {
                let id = name(what);
                let is_own = self.own[number].contains(&what);
                let is_near = self.near(what, self.hops, None).contains(&number);
                assert_eq!(carried.contains(&id), is_near && !is_own, "{number} {what}");
                // Who asks this peer for it, or carries it too.
                let asks = |it: usize, what| {
                    self.own[it].contains(&what) || self.carried(it).contains(&what)
                };
                for at in self.neighbours(number) {
                    let wanted: BTreeSet<_> = interests
                        .wanted_at(peer(at))
                        .map(|it| it.subscription)
                        .collect();
                    let others = || self.neighbours(number).filter(|it| *it != at);
                    let set = sets.iter().find(|set| set.contains(&what));
                    let mut set = set.into_iter().flatten();
                    let expected = set.any(|what| others().any(|it| asks(it, *what)));
                    assert_eq!(wanted.contains(&id), expected, "{number} at {at}: {what}");
                    let at_relay = interests.wanted_at_relay(peer(at));
                    let at_relay: BTreeSet<_> = at_relay.map(|it| it.subscription).collect();
                    let set = sets.iter().find(|set| set.contains(&what));
                    let carries = self.carried(at);
                    let is_whole = set.is_some_and(|set| set.is_subset(&carries));
                    assert_eq!(at_relay.contains(&id), expected && is_whole);
                }
            }
            for carried in interests.carried() {
                assert_eq!(name_of(&carried.statement), carried.subscription);
            }
        }
    }
}

fn name_of(statement: &str) -> SubscriptionId {
    SubscriptionId(*blake3::hash(statement.as_bytes()).as_bytes())
}

#[derive(Clone, Debug)]
enum Step {
    Toggle(usize, usize),
    Own(usize, BTreeSet<usize>),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let toggle = (0..8usize, 0..8usize).prop_map(|(a, b)| match a == b {
        true => Step::Wait,
        false => Step::Toggle(a, b),
    });
    let own = proptest::collection::btree_set(0..3usize, 0..3);
    let own = (0..8usize, own).prop_map(|(peer, own)| Step::Own(peer, own));
    let step = prop_oneof![4 => toggle, 2 => own, 1 => Just(Step::Wait)];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Also after links and subscriptions are gone, and in graphs with loops.
    #[test]
    fn what_is_carried_is_what_distances_say(hops in 1..=2u8, steps in steps()) {
        let mut toy = Toy::new(8, hops);
        for step in steps {
            match step {
                Step::Toggle(a, b) => toy.toggle(a, b),
                Step::Own(peer, own) => toy.set_own(peer, own),
                Step::Wait => toy.settle(),
            }
            toy.exchange();
        }
        toy.settle();
        toy.check(3);
    }
}

#[test]
fn interest_ends_everywhere_in_a_ring_when_nobody_is_interested_any_more() {
    let mut toy = Toy::new(6, 2);
    (0..6).for_each(|it| toy.toggle(it, (it + 1) % 6));
    toy.set_own(0, BTreeSet::from([0]));
    toy.settle();
    toy.check(1);
    assert_eq!(toy.peers[2].carried().count(), 1);
    toy.set_own(0, BTreeSet::new());
    toy.settle();
    assert!(toy.peers.iter().all(|it| it.carried().count() == 0));
}

/// Of two strangers in a row neither has anything to pass on unless it asks its subscriber as well.
#[test]
fn strangers_in_a_row_ask_those_at_both_ends() {
    let mut toy = Toy::new(4, 1);
    (0..3).for_each(|it| toy.toggle(it, it + 1));
    toy.set_own(0, BTreeSet::from([0]));
    toy.set_own(3, BTreeSet::from([0]));
    toy.settle();
    toy.check(1);
    for (number, at) in [(1, 0), (1, 2), (2, 1), (2, 3)] {
        assert_eq!(toy.peers[number].wanted_at(peer(at)).count(), 1);
    }
}

#[test]
fn who_does_not_relay_carries_nothing_and_says_what_it_wants() {
    let mut toy = Toy::new(3, 1);
    toy.peers[1] = Interests::new(InterestConfig {
        is_relaying: false,
        ..InterestConfig::default()
    });
    toy.toggle(0, 1);
    toy.toggle(1, 2);
    toy.set_own(0, BTreeSet::from([0]));
    toy.set_own(1, BTreeSet::from([1]));
    toy.settle();
    assert_eq!(toy.peers[1].carried().count(), 0);
    assert_eq!(toy.peers[2].carried().count(), 1);
}

/// A peer between an honest neighbour, 0, and one whose part the test plays, 1.
struct Scene {
    now: Duration,
    interests: Interests,
}

impl Scene {
    fn new() -> Self {
        let mut interests = Interests::new(InterestConfig::default());
        (0..3).for_each(|it| interests.greet(Duration::ZERO, peer(it), false));
        Self {
            now: Duration::ZERO,
            interests,
        }
    }

    fn say(&mut self, from: usize, statements: &[String]) -> Result<(), GossipError> {
        let entries = statements.iter().map(|statement| Interest {
            hops: 1,
            up: 0,
            is_carried: false,
            statement: statement.clone(),
        });
        let entries: Vec<_> = entries.collect();
        let parts = entries.chunks(32).map(<[_]>::to_vec);
        let parts: Vec<_> = parts.collect();
        for entries in parts {
            let is_first = false;
            let gossip = Gossip::Interest { is_first, entries };
            let gossip = Gossip::decode(&gossip.to_bytes()).expect("it fits");
            self.interests.handle(self.now, peer(from), &gossip)?;
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.interests.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.interests.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn carried(&self) -> BTreeSet<SubscriptionId> {
        self.interests.carried().map(|it| it.subscription).collect()
    }
}

#[test]
fn a_flood_of_interests_leaves_others_their_share() {
    let mut scene = Scene::new();
    let flood: Vec<_> = (1000..1000 + limits::INTERESTS_PER_NEIGHBOUR_MAX)
        .map(statement)
        .collect();
    scene.say(1, &flood).expect("as many as may be");
    scene.wait(10 * SECOND);
    assert_eq!(scene.carried().len(), limits::INTERESTS_CARRIED_MAX);
    let honest: Vec<_> = (0..20).map(statement).collect();
    scene.say(0, &honest).expect("an honest peer");
    scene.wait(10 * SECOND);
    let carried = scene.carried();
    assert_eq!(carried.len(), limits::INTERESTS_CARRIED_MAX);
    assert!((0..20).all(|it| carried.contains(&name(it))));
    let more = scene.say(1, &[statement(9999)]);
    assert_eq!(more, Err(GossipError::Flood));
}

#[test]
fn long_statements_are_bounded_by_their_bytes() {
    let mut scene = Scene::new();
    let long = |number: usize| format!("{number:0>4000}");
    let long: Vec<_> = (0..17).map(long).collect();
    let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    assert!(bytes(&long[..16]) <= limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX);
    for text in &long[..16] {
        scene.say(1, std::slice::from_ref(text)).expect("it fits");
    }
    scene.wait(200 * SECOND);
    let carried: usize = scene.interests.carried().map(|it| it.statement.len()).sum();
    assert!(carried <= limits::INTEREST_BYTES_PER_NEIGHBOUR_MAX / 2);
    assert_eq!(scene.say(1, &long[16..]), Err(GossipError::Flood));
}

/// What others are asked for changes no more often than a budget allows, however often a neighbour changes
/// its mind.
#[test]
fn changing_ones_mind_is_slow() {
    let mut scene = Scene::new();
    let mut fresh: BTreeMap<Duration, usize> = BTreeMap::new();
    let mut number = 0;
    let mut before = BTreeSet::new();
    let mut drops = 0;
    for _ in 0..600 {
        scene.now += SECOND / 10;
        scene.interests.handle_timeout(scene.now);
        let gossip = Gossip::Interest {
            is_first: true,
            entries: Vec::new(),
        };
        let heard = scene.interests.handle(scene.now, peer(1), &gossip);
        heard.expect("nothing is wanted any more");
        number += 1;
        scene.say(1, &[statement(number)]).expect("one is few");
        let carried = scene.carried();
        let added = carried.difference(&before).count();
        drops += usize::from(!before.is_subset(&carried));
        *fresh.entry(scene.now).or_default() += added;
        before = carried;
    }
    let total: usize = fresh.values().sum();
    let most = usize::try_from(limits::INTERESTS_FRESH_MAX).expect("few") + 60 / 2 + 1;
    assert!(total <= most, "{total} over {most}");
    assert!(total > 64, "the budget comes back");
    // Each time the relay begins anew.
    assert!((1..=4).contains(&drops), "{drops}");
}

/// Who wants more together than what is carried together has to wait, and so that the others go on meanwhile. Until
/// then nothing is asked of it or given to it, since that would be parts of transactions.
#[test]
fn what_goes_together_grows_in_rounds() {
    let mut scene = Scene::new();
    scene.say(0, &[statement(0)]).expect("few");
    scene.say(2, &[statement(0)]).expect("few");
    let wanted = |scene: &Scene, at| scene.interests.wanted_at(peer(at)).count();
    assert_eq!([0, 1, 2].map(|it| wanted(&scene, it)), [1, 0, 1]);
    let sets = |scene: &Scene| {
        scene
            .interests
            .together()
            .map(BTreeSet::len)
            .collect::<Vec<_>>()
    };
    for round in 1..=5 {
        // What has nothing to do with it comes and goes.
        scene.say(2, &[statement(10 + round)]).expect("few");
        scene.wait(SECOND * 80);
    }
    assert_eq!(sets(&scene), [6]);
    scene.say(2, &[statement(20)]).expect("few");
    scene.say(1, &[statement(0), statement(1)]).expect("few");
    assert_eq!(
        sets(&scene),
        [7],
        "one round after a quiet time, and one more is due"
    );
    let before = scene.interests.serves(peer(1));
    scene.wait(SECOND * 200);
    assert_eq!(sets(&scene), [8]);
    assert_eq!((before, scene.interests.serves(peer(1))), (false, true));
}

/// A link that comes back finds everything as it was.
#[test]
fn what_nobody_wants_any_more_is_carried_for_a_while() {
    let mut scene = Scene::new();
    scene.say(0, &[statement(0), statement(1)]).expect("few");
    scene.interests.leave(scene.now, peer(0));
    scene.wait(SECOND * 50);
    assert_eq!(scene.carried().len(), 2);
    assert_eq!(scene.interests.wanted_at(peer(1)).count(), 0);
    scene.interests.greet(scene.now, peer(0), false);
    scene.say(0, &[statement(0), statement(1)]).expect("few");
    scene.wait(SECOND * 50);
    assert_eq!(scene.carried().len(), 2);
    scene.interests.leave(scene.now, peer(0));
    scene.wait(SECOND * 70);
    assert_eq!(scene.carried().len(), 0);
}

#[test]
fn own_subscriptions_beyond_the_limits_are_not_told() {
    let mut toy = Toy::new(2, 1);
    toy.toggle(0, 1);
    toy.set_own(0, (0..200).collect());
    toy.settle();
    assert_eq!(toy.peers[1].carried().count(), limits::INTERESTS_OWN_MAX);
    let long = "x".repeat(limits::INTEREST_STATEMENT_BYTES_MAX + 1);
    toy.peers[0].set_own(toy.now, [long.as_str(), "SELECT * FROM c AS d"]);
    toy.settle();
    let carried: Vec<_> = toy.peers[1].carried().collect();
    assert_eq!(carried.len(), 1);
    assert_eq!(&*carried[0].statement, "SELECT * FROM c AS d");
}

//! Followers among sources that change, against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A document: when it was written, and its key in the order; `None` where it does not match, or is gone.
type Version = (u32, Option<u8>);

/// What a peer holds.
type Held = BTreeMap<u8, Version>;

#[derive(Clone, Copy, Debug)]
enum Change {
    /// A source writes a document.
    Write {
        source: usize,
        id: u8,
        key: Option<u8>,
    },
    /// The subscriber does.
    WriteHere { id: u8, key: Option<u8> },
    /// A source hears of what another one holds of a document.
    Tell { from: usize, to: usize, id: u8 },
    /// The link of a source ends, or comes back.
    Toggle { source: usize },
    /// So many rounds of everything that is due.
    Settle(u8),
}

struct Source {
    held: Held,
    is_linked: bool,
    follower: WindowFollower,
    /// The answer on its way.
    answer: Option<(u32, Reach)>,
    /// Documents within what was asked for when it was asked for, at most.
    asked_max: usize,
    seen: Option<Reach>,
}

struct World {
    counts: WindowCounts,
    own: Held,
    sources: Vec<Source>,
    writes: u32,
    now: Duration,
}

fn place(id: u8, key: u8) -> [u8; 2] {
    [key, id]
}

fn reach_of(held: &Held, count: u32) -> Reach {
    let mut places: Vec<[u8; 2]> = (held.iter())
        .filter_map(|(id, (_, key))| key.map(|key| place(*id, key)))
        .collect();
    places.sort_unstable();
    let last = places.get(count as usize - 1);
    last.map_or(Reach::ALL, |place| Reach::to_place(place))
}

fn is_within(reach: &Reach, id: u8, version: Version) -> bool {
    version
        .1
        .is_some_and(|key| Reach::to_place(&place(id, key)) <= *reach)
}

impl World {
    fn new(count: u32, sources: usize) -> Self {
        let source = || Source {
            held: Held::new(),
            is_linked: false,
            follower: WindowFollower::new(count),
            answer: None,
            asked_max: 0,
            seen: None,
        };
        Self {
            counts: WindowCounts::new(count),
            own: Held::new(),
            sources: (0..sources).map(|_| source()).collect(),
            writes: 0,
            now: Duration::ZERO,
        }
    }

    fn change(&mut self, change: Change) {
        self.writes += 1;
        let count = self.sources.len();
        match change {
            Change::Write { source, id, key } => {
                self.sources[source % count]
                    .held
                    .insert(id, (self.writes, key));
            }
            Change::WriteHere { id, key } => {
                self.own.insert(id, (self.writes, key));
            }
            Change::Tell { from, to, id } => {
                if let Some(version) = self.sources[from % count].held.get(&id).copied() {
                    let held = self.sources[to % count].held.entry(id).or_insert(version);
                    *held = version.max(*held);
                }
            }
            Change::Toggle { source } => {
                let source = &mut self.sources[source % count];
                source.is_linked = !source.is_linked;
                source.answer = None;
                match source.is_linked {
                    true => source.follower.handle_established(self.now),
                    false => source.follower.handle_lost(),
                }
            }
            Change::Settle(rounds) => (0..rounds % 8).for_each(|_| {
                self.round();
            }),
        }
    }

    /// A step of everybody. Gives whether anything happened.
    fn round(&mut self) -> bool {
        self.now += Duration::from_millis(50);
        let now = self.now;
        let own = OwnReach {
            near: reach_of(&self.own, self.counts.near),
            middle: reach_of(&self.own, self.counts.middle),
            far: reach_of(&self.own, self.counts.far),
        };
        let before = self.own.clone();
        let mut is_news = false;
        for source in &mut self.sources {
            let follower = &mut source.follower;
            follower.handle_own(now, &own);
            if let Some((count, reach)) = source.answer.take() {
                is_news = true;
                follower.handle_told(now, count, reach);
            }
            if follower.poll_timeout().is_some_and(|at| at <= now) {
                follower.handle_timeout(now);
            }
            if let Some(count) = follower.poll_question(now) {
                is_news = true;
                assert!(source.is_linked, "a question goes over a link");
                source.answer = Some((count, reach_of(&source.held, count)));
            }
            is_news |= follower
                .poll_timeout()
                .is_some_and(|at| at < now + ANSWER_WAIT / 2);
            let Some(wanted) = follower.wanted().cloned().filter(|_| source.is_linked) else {
                continue;
            };
            let within = |(id, version): (&u8, &Version)| is_within(&wanted, *id, *version);
            if source.seen.as_ref() != Some(&wanted) {
                source.seen = Some(wanted.clone());
                let asked = source.held.iter().filter(|it| within(*it)).count();
                source.asked_max = source.asked_max.max(asked);
                is_news = true;
            }
            // What is within there or here is compared, and the later version comes.
            for (id, version) in &source.held {
                let here = self.own.get(id).copied();
                let is_compared = within((id, version)) || here.is_some_and(|it| within((id, &it)));
                if is_compared && here.is_none_or(|here| here < *version) {
                    self.own.insert(*id, *version);
                }
            }
            follower.handle_caught_up(now);
        }
        is_news || self.own != before
    }

    /// What all linked peers together hold.
    fn union(&self) -> Held {
        let mut all = self.own.clone();
        for source in self.sources.iter().filter(|source| source.is_linked) {
            for (id, version) in &source.held {
                let held = all.entry(*id).or_insert(*version);
                *held = (*held).max(*version);
            }
        }
        all
    }
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop::option::weighted(0.8, 0_u8..12);
    let id = || 0_u8..40;
    prop_oneof![
        6 => (0..3_usize, id(), key()).prop_map(|(source, id, key)| Change::Write { source, id, key }),
        1 => (id(), key()).prop_map(|(id, key)| Change::WriteHere { id, key }),
        4 => (0..3_usize, 0..3_usize, id()).prop_map(|(from, to, id)| Change::Tell { from, to, id }),
        1 => (0..3_usize).prop_map(|source| Change::Toggle { source }),
        4 => any::<u8>().prop_map(Change::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_first_documents_of_all_are_here_at_rest(
        count in 1_u32..8,
        sources in 1_usize..4,
        changes in prop::collection::vec(change(), 0..120),
    ) {
        let mut world = World::new(count, sources);
        (0..sources).for_each(|source| world.change(Change::Toggle { source }));
        for change in changes {
            world.change(change);
        }
        let mut rounds = 0;
        while world.round() {
            rounds += 1;
            prop_assert!(rounds < 1000, "no rest");
        }
        let union = world.union();
        let first = reach_of(&union, count);
        for (id, version) in &union {
            if is_within(&first, *id, *version) {
                prop_assert_eq!(world.own.get(id), Some(version), "document {}", id);
            }
        }
        // And nothing here that is better is outdated.
        for (id, version) in &world.own {
            if is_within(&first, *id, *version) {
                prop_assert_eq!(union.get(id), Some(version), "document {}", id);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn one_source_is_asked_for_no_more_than_it_takes(
        count in 1_u32..8,
        keys in prop::collection::vec(0_u8..12, 0..200),
    ) {
        let mut world = World::new(count, 1);
        for (id, key) in keys.iter().enumerate() {
            let id = u8::try_from(id).unwrap();
            world.change(Change::Write { source: 0, id, key: Some(*key) });
        }
        world.change(Change::Toggle { source: 0 });
        while world.round() {}
        prop_assert_eq!(world.own.len(), keys.len().min(count as usize));
        prop_assert!(world.sources[0].asked_max <= count as usize);
        // The best ones go, one at a time.
        let mut questions = 0;
        for _ in 0..keys.len() {
            let best = world.sources[0].held.iter().filter_map(|(id, it)| Some((it.1?, *id))).min();
            let Some((_, id)) = best else {
                break;
            };
            let before = world.sources[0].seen.clone();
            world.change(Change::Write { source: 0, id, key: None });
            while world.round() {}
            questions += usize::from(world.sources[0].seen != before);
        }
        prop_assert!(world.sources[0].asked_max <= world.counts.far as usize);
        let spare = (world.counts.middle - world.counts.near) as usize;
        prop_assert!(questions <= 2 + keys.len() / spare, "{} questions", questions);
    }
}

#[test]
fn a_reach_that_is_a_lie_ends_with_what_came() {
    let mut follower = WindowFollower::new(2);
    let now = Duration::from_secs(1);
    follower.handle_established(now);
    follower.handle_own(now, &OwnReach::default());
    let count = follower.poll_question(now).unwrap();
    // Fewer than two, it says, and sends without end.
    follower.handle_told(now, count, Reach::ALL);
    assert_eq!(follower.wanted(), Some(&Reach::ALL));
    let at = |key: u8| Reach::to_place(&[key]);
    let own = OwnReach {
        near: at(2),
        middle: at(6),
        far: at(12),
    };
    follower.handle_own(now, &own);
    assert_eq!(follower.wanted(), Some(&at(6)));
}

#[test]
fn what_is_refused_is_asked_again_ever_later() {
    let mut follower = WindowFollower::new(2);
    let mut now = Duration::from_secs(1);
    follower.handle_established(now);
    follower.handle_own(now, &OwnReach::default());
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert!(follower.poll_question(now).is_some());
        follower.handle_refused(now);
        let at = follower.poll_timeout().unwrap();
        pauses.push((at - now).as_secs());
        now = at;
        follower.handle_timeout(now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(follower.wanted(), None);
}

#[test]
fn what_a_source_does_not_know_to_be_gone_is_looked_past() {
    let mut world = World::new(2, 1);
    let key = Some(1);
    for id in 0..60 {
        world.change(Change::Write { source: 0, id, key });
    }
    // The first ones were deleted here, and the source never hears of it.
    for id in 0..50 {
        world.change(Change::WriteHere { id, key: None });
    }
    world.change(Change::Toggle { source: 0 });
    let rounds = (0..1000).take_while(|_| world.round()).count();
    assert!(rounds < 1000, "no rest");
    let first = reach_of(&world.own, 2);
    assert_eq!(first.as_bytes(), place(51, 1));
}

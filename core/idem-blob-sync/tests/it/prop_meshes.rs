//! Any mesh, any order of events: what can be fetched is fetched, and honest peers never offend.

use std::{collections::BTreeSet, time::Duration};

use idem_blob_sync::{Event, FetchTerms};
use idem_model::BlobKey;
use proptest::prelude::*;

use crate::world::{LinkKind, World, key};

const PEERS: usize = 6;

#[derive(Debug, Clone)]
enum Action {
    Link(usize, usize, u64, u64),
    Unlink(usize, usize),
    Make(usize, u8),
    Fetch(usize, u8, u8),
    Cancel(usize, u8),
    Run(u64),
}

fn blob(number: u8) -> BlobKey {
    let lengths = [0, 9_000, 60_000, 200_000, 1_300_000, 3_000_000];
    key(number + 1, lengths[usize::from(number)])
}

fn action() -> impl Strategy<Value = Action> {
    let pair = || (0..PEERS, 0..PEERS);
    prop_oneof![
        4 => (pair(), 0..50_u64, 1..100_u64).prop_map(|((a, b), ms, rate)| {
            Action::Link(a, b, ms, rate * 100_000)
        }),
        1 => pair().prop_map(|(a, b)| Action::Unlink(a, b)),
        2 => (0..PEERS, 0..6_u8).prop_map(|(at, number)| Action::Make(at, number)),
        4 => (0..PEERS, 0..6_u8, 0..6_u8).prop_map(|(at, number, hops)| {
            Action::Fetch(at, number, hops)
        }),
        1 => (0..PEERS, 0..6_u8).prop_map(|(at, number)| Action::Cancel(at, number)),
        4 => (0..1500_u64).prop_map(Action::Run),
    ]
}

/// Whether one who has the blob is so many links away at most.
fn is_near(world: &World, at: usize, key: BlobKey, links: usize) -> bool {
    let mut reached = BTreeSet::from([at]);
    for _ in 0..links {
        let next = (0..PEERS).filter(|to| reached.iter().any(|from| world.is_linked(*from, *to)));
        let next: Vec<usize> = next.collect();
        reached.extend(next);
    }
    reached
        .iter()
        .any(|at| world.shelves[*at].whole.contains(&key))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_near_is_fetched(actions in prop::collection::vec(action(), 1..60)) {
        let mut world = World::new(PEERS);
        let mut asked = BTreeSet::new();
        for action in actions {
            match action {
                Action::Link(a, b, ..) if a == b || world.is_linked(a, b) => {}
                Action::Link(a, b, ms, rate) => {
                    let latency = Duration::from_millis(ms);
                    world.link(a, b, LinkKind { latency, rate });
                }
                Action::Unlink(a, b) => world.unlink(a, b),
                Action::Make(at, number) => world.make(at, blob(number)),
                Action::Fetch(at, number, hops) => {
                    asked.insert(blob(number));
                    world.fetch(at, blob(number), FetchTerms { hops, ..FetchTerms::default() });
                }
                Action::Cancel(at, number) => world.cancel(at, blob(number)),
                Action::Run(ms) => world.run(Duration::from_millis(ms)),
            }
        }
        // Then the links stay as they are, and everything comes to an end.
        world.run(Duration::from_secs(300));
        for at in 0..PEERS {
            prop_assert_eq!(world.exchanges[at].fetches(), 0, "a fetch ends");
            prop_assert_eq!(world.exchanges[at].relays(), 0, "and so does all that followed from it");
            let begun = world.shelves[at].begun.iter();
            prop_assert!(begun.into_iter().all(|(key, _)| asked.contains(key)));
        }
        prop_assert!(world.misbehaviour().is_empty(), "{:?}", world.misbehaviour());

        // What is near enough now comes, whatever happened before.
        for at in 0..PEERS {
            for number in 0..6 {
                let key = blob(number);
                let is_near = is_near(&world, at, key, PEERS);
                world.events[at].clear();
                world.fetch(at, key, FetchTerms::default());
                world.run(Duration::from_secs(130));
                let ended = world.is_completed(at, key) || world.failure(at, key).is_some();
                prop_assert!(ended, "{at} {number}");
                if is_near {
                    prop_assert!(world.is_completed(at, key), "{at} {number} {:?}", world.events[at]);
                    prop_assert!(world.shelves[at].whole.contains(&key));
                }
                let completed = world.events[at].iter();
                let completed = completed.filter(|it| **it == Event::Completed { key }).count();
                prop_assert!(completed <= 1);
            }
        }
        prop_assert!(world.misbehaviour().is_empty(), "{:?}", world.misbehaviour());
    }
}

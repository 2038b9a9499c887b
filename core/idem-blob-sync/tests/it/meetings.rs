//! Fetches in small networks.

use std::time::Duration;

use idem_blob_sync::{Event, FailReason, FetchTerms, Purpose, Trouble};

use crate::world::{LAN, LinkKind, World, key, peer};

const MB: u64 = 1024 * 1024;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn terms() -> FetchTerms {
    FetchTerms::default()
}

#[test]
fn a_neighbour_that_has_it_gives_it() {
    for len in [0, 1, 16 * 1024, 65_536, 65_537, 5 * MB + 3] {
        let key = key(1, len);
        let mut world = World::chain(2, LAN);
        world.make(1, key);
        world.fetch(0, key, terms());
        world.run(seconds(2));
        assert!(world.is_completed(0, key), "{len}");
        assert_eq!(world.shelves[0].begun, [(key, Purpose::App)]);
        let progress = world.events[0].iter().filter_map(|event| match event {
            Event::Progress { bytes, .. } => Some(*bytes),
            _ => None,
        });
        let progress: Vec<u64> = progress.collect();
        assert!(progress.is_sorted());
        assert_eq!(progress.last().copied().unwrap_or(0), len);
        assert!(
            world.received[0] < len + len / 50 + 300,
            "little beside the content"
        );
        assert_eq!(
            (world.exchanges[0].fetches(), world.exchanges[1].relays()),
            (0, 0)
        );
    }
}

#[test]
fn nobody_has_it() {
    let key = key(2, MB);
    let mut world = World::chain(4, LAN);
    world.fetch(0, key, terms());
    world.run(seconds(1));
    assert_eq!(world.failure(0, key), None, "somebody may be on his way");
    world.run(seconds(2));
    assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));
    assert!(world.shelves.iter().all(|shelf| shelf.begun.is_empty()));

    // Without anybody to ask, it waits for one as long as it may.
    let mut alone = World::new(2);
    alone.fetch(0, key, terms());
    alone.run(seconds(30));
    assert_eq!(alone.failure(0, key), None);
    alone.make(1, key);
    alone.link(0, 1, LAN);
    alone.run(seconds(1));
    assert!(alone.is_completed(0, key));
    alone.unlink(0, 1);
    let other = crate::world::key(3, MB);
    alone.fetch(0, other, terms());
    alone.run(seconds(61));
    assert_eq!(alone.failure(0, other), Some(FailReason::NobodyHasIt));
}

#[test]
fn a_peer_that_does_not_answer_is_not_waited_for() {
    let key = key(4, MB);
    let mut world = World::new(2);
    let shelf = &mut world.shelves[0];
    // Linked, as this one believes.
    world.exchanges[0].handle_neighbour_up(Duration::ZERO, shelf, peer(1), 65_536);
    world.fetch(0, key, terms());
    world.run(seconds(9));
    assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));
}

#[test]
fn several_sources_share_the_work_by_what_they_can() {
    let key = key(5, 20 * MB);
    let slow = LinkKind {
        rate: 1_000_000,
        ..LAN
    };
    let mut world = World::new(4);
    [LAN, LAN, slow]
        .into_iter()
        .enumerate()
        .for_each(|(at, kind)| world.link(0, at + 1, kind));
    (1..4).for_each(|at| world.make(at, key));
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(1250));
    assert!(
        world.is_completed(0, key),
        "21 MB/s carry 20 MB in a second"
    );
    assert!(
        world.received[0] < key.len + key.len / 10,
        "hardly anything twice"
    );
}

#[test]
fn who_falls_silent_loses_its_part_to_another() {
    let key = key(6, 4 * MB);
    let mut world = World::new(3);
    world.link(0, 1, LAN);
    (1..3).for_each(|at| world.make(at, key));
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(200));
    assert!(!world.is_completed(0, key));
    // From now on nothing of peer 1 comes through, though the link seems to be there.
    world.freeze(1, 0);
    world.link(0, 2, LAN);
    world.run(seconds(3));
    assert!(
        world.is_completed(0, key),
        "asked of the other after a second"
    );
}

#[test]
fn alone_with_one_that_falls_silent_the_fetch_times_out_and_goes_on_later() {
    let key = key(7, 8 * MB);
    let mut world = World::chain(2, LAN);
    world.make(1, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(400));
    world.freeze(1, 0);
    world.run(seconds(70));
    assert!(world.failure(0, key).is_some());
    let kept = world.shelves[0].parts[&key].count();
    assert!(kept > 32);
    world.unlink(0, 1);
    world.link(0, 1, LAN);
    let before = world.received[0];
    world.fetch(0, key, terms());
    world.run(seconds(2));
    assert!(world.is_completed(0, key));
    assert!(world.received[0] - before < key.len - kept * 16 * 1024 + 100_000);
}

#[test]
fn the_peer_between_fetches_and_serves_at_the_same_time() {
    let key = key(8, 10 * MB);
    let mut world = World::chain(3, LAN);
    world.make(2, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(1400));
    assert!(
        world.is_completed(0, key),
        "not one after the other, which takes two seconds"
    );
    assert_eq!(world.shelves[1].begun, [(key, Purpose::Neighbour)]);
    assert!(
        world.shelves[1].whole.contains(&key),
        "and keeps it while there is room"
    );
    world.fetch(1, key, terms());
    world.run(Duration::from_millis(1));
    assert!(world.is_completed(1, key), "at once");
    assert_eq!(world.shelves[1].begun.last(), Some(&(key, Purpose::App)));
    assert!(world.misbehaviour().is_empty());

    // Over two peers it is found if the question may go that far.
    let mut world = World::chain(5, LAN);
    world.make(3, key);
    world.fetch(0, key, FetchTerms { hops: 1, ..terms() });
    world.run(seconds(20));
    assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));
    world.fetch(0, key, FetchTerms { hops: 2, ..terms() });
    world.run(seconds(3));
    assert!(world.is_completed(0, key));
    assert!(world.shelves[4].begun.is_empty(), "nobody else fetches it");
}

#[test]
fn questions_in_a_circle_come_to_an_end() {
    let key = key(9, MB);
    let mut world = World::new(4);
    for a in 0..4 {
        (0..a).for_each(|b| world.link(a, b, LAN));
    }
    let terms = FetchTerms { hops: 2, ..terms() };
    (0..4).for_each(|at| world.fetch(at, key, terms));
    world.run(seconds(30));
    for at in 0..4 {
        assert_eq!(world.failure(at, key), Some(FailReason::NobodyHasIt));
        assert_eq!(world.exchanges[at].relays(), 0);
    }
    assert!(world.misbehaviour().is_empty());

    (0..4).for_each(|at| world.events[at].clear());
    (0..4).for_each(|at| world.fetch(at, key, terms));
    world.run(Duration::from_millis(500));
    world.make(2, key);
    world.run(seconds(2));
    for at in 0..4 {
        assert!(world.is_completed(at, key), "{at}: told when it is made");
    }
}

#[test]
fn a_cancelled_fetch_stops_the_flow_and_those_behind_it() {
    let key = key(10, 50 * MB);
    let mut world = World::chain(3, LAN);
    world.make(2, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(700));
    world.cancel(0, key);
    world.run(Duration::from_millis(300));
    let [at, between, _] = world.received[..] else {
        panic!("three peers");
    };
    world.run(seconds(10));
    assert_eq!(world.received[..2], [at, between], "nothing flows any more");
    assert_eq!(world.exchanges[1].relays(), 0);
    assert!(
        world.misbehaviour().is_empty(),
        "what was on its way is no offence"
    );
    assert!(world.shelves[0].parts[&key].count() > 50, "what came stays");
}

#[test]
fn a_fetch_for_others_becomes_one_for_the_app() {
    let key = key(11, 10 * MB);
    let mut world = World::chain(3, LAN);
    world.make(2, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(300));
    world.fetch(1, key, terms());
    world.cancel(0, key);
    world.run(seconds(2));
    assert!(world.is_completed(1, key));
    let begun = [(key, Purpose::Neighbour), (key, Purpose::App)];
    assert_eq!(world.shelves[1].begun, begun);
}

#[test]
fn what_cannot_be_kept_is_told() {
    let key = key(12, MB);
    for (trouble, reason) in [
        (Trouble::Quota, FailReason::Quota),
        (Trouble::DiskFull, FailReason::DiskFull),
        (Trouble::Storage, FailReason::Storage),
    ] {
        let mut world = World::chain(2, LAN);
        world.make(1, key);
        world.shelves[0].trouble = Some(trouble);
        world.fetch(0, key, terms());
        world.run(seconds(1));
        assert_eq!(world.failure(0, key), Some(reason));

        // A peer between that has no room says so, and the fetch ends.
        let mut world = World::chain(3, LAN);
        world.make(2, key);
        world.shelves[1].trouble = Some(trouble);
        world.fetch(0, key, terms());
        world.run(seconds(4));
        assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));
    }
}

#[test]
fn a_source_that_sends_damage_is_dropped_and_another_one_used() {
    let key = key(13, 2 * MB);
    let mut world = World::new(3);
    (1..3).for_each(|at| world.make(at, key));
    world.shelves[1].garbles = true;
    world.link(0, 1, LAN);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(100));
    let damaged = Event::Damaged { key, peer: peer(1) };
    assert!(world.events[0].contains(&damaged));
    assert_eq!(world.shelves[0].written, 0);
    world.link(0, 2, LAN);
    world.run(seconds(1));
    assert!(world.is_completed(0, key));

    let mut alone = World::chain(2, LAN);
    alone.make(1, key);
    alone.shelves[1].garbles = true;
    alone.fetch(0, key, terms());
    alone.run(seconds(5));
    assert_eq!(alone.failure(0, key), Some(FailReason::Damaged));
    assert!(alone.received[0] < MB, "it is not asked again and again");
}

#[test]
fn a_slow_link_carries_other_things_in_between() {
    let slow = LinkKind {
        latency: Duration::from_millis(20),
        rate: 500_000,
    };
    let key = key(14, 4 * MB);
    let mut world = World::chain(2, slow);
    world.make(1, key);
    world.fetch(0, key, terms());
    world.run(seconds(4));
    let mut worst = Duration::ZERO;
    for _ in 0..200 {
        world.run(Duration::from_millis(10));
        worst = worst.max(world.queued(1, 0));
    }
    // Three groups of 16 KiB, and what is left of a fourth.
    assert!(
        worst <= Duration::from_millis(135),
        "{worst:?} waits on the link"
    );
    world.run(seconds(5));
    assert!(world.is_completed(0, key), "and yet it is used");
}

//! Questions and content over many peers.

use std::time::Duration;

use idem_blob_sync::{Event, FailReason, FetchTerms, Purpose, Trouble};
use idem_model::limits;
use idem_wire::BlobMessage;

use crate::world::{LAN, LinkKind, World, key};

const MB: u64 = 1024 * 1024;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn terms() -> FetchTerms {
    FetchTerms::default()
}

#[test]
fn content_comes_over_as_many_peers_as_a_question_may_go() {
    let most = usize::from(limits::BLOB_HOPS_MAX);
    for (len, limit) in [(5_000, 2), (60_000, 2), (5 * MB, 4)] {
        let key = key(1, len);
        let mut world = World::chain(most + 2, LAN);
        world.make(most + 1, key);
        world.fetch(0, key, terms());
        world.run(seconds(limit));
        assert!(world.is_completed(0, key), "{len}: at once, not hop by hop");
        assert!(world.misbehaviour().is_empty());
        for between in &world.shelves[1..=most] {
            assert_eq!(between.begun, [(key, Purpose::Neighbour)]);
        }
        assert!(world.exchanges.iter().all(|it| it.relays() == 0));

        let mut world = World::chain(most + 3, LAN);
        world.make(most + 2, key);
        world.fetch(0, key, terms());
        world.run(seconds(4));
        assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));
        assert!(world.shelves.iter().all(|it| it.begun.is_empty()));
    }
}

#[test]
fn slow_links_take_time_and_nobody_gives_up() {
    // Bluetooth: a small photo takes longer over a single link than an answer may.
    let slow = LinkKind {
        latency: Duration::from_millis(50),
        rate: 12_000,
    };
    let key = key(2, 64 * 1024);
    let mut world = World::chain(6, slow);
    world.make(5, key);
    world.fetch(0, key, terms());
    world.run(seconds(50));
    assert!(world.is_completed(0, key), "five times 5.5 seconds");
    assert!(world.misbehaviour().is_empty());
}

/// A torus: everybody has four neighbours, and there are many ways between any two.
fn torus(side: usize) -> World {
    let mut world = World::new(side * side);
    for row in 0..side {
        for column in 0..side {
            let at = row * side + column;
            world.link(at, row * side + (column + 1) % side, LAN);
            world.link(at, (row + 1) % side * side + column, LAN);
        }
    }
    world
}

#[test]
fn a_question_costs_each_link_a_few_messages() {
    let side = 9;
    let key = key(3, MB);
    let mut world = torus(side);
    world.fetch(0, key, terms());
    // The last one who can be reached is 8 links away.
    world.run(Duration::from_millis(1500));
    let links = 2 * side * side;
    let sent: u64 = world.received.iter().sum();
    // Three rings, of which the last one goes everywhere and the others hardly anywhere.
    let most = u64::try_from(links).unwrap() * 2 * 100 * 3 / 2;
    assert!(sent < most, "{sent} bytes, {most} allowed");
    assert!(world.exchanges.iter().all(|it| it.relays() == 0));
    world.run(seconds(2));
    assert_eq!(world.failure(0, key), Some(FailReason::NobodyHasIt));

    // And content takes one way only.
    world.make(side * side / 2, key);
    let before: u64 = world.received.iter().sum();
    world.fetch(0, key, terms());
    world.run(seconds(3));
    assert!(world.is_completed(0, key));
    let carriers = world.shelves.iter().filter(|it| it.whole.contains(&key));
    assert_eq!(carriers.count(), 9, "the two and seven between");
    let sent: u64 = world.received.iter().sum();
    assert!(sent - before < 8 * (key.len + key.len / 10) + 2 * most);
    assert!(world.misbehaviour().is_empty());
}

#[test]
fn another_way_takes_the_place_of_a_dead_one() {
    // 0 - 1 - 2 - 5 and 0 - 3 - 4 - 5.
    let key = key(4, 20 * MB);
    let mut world = World::new(6);
    for (a, b) in [(0, 1), (1, 2), (2, 5), (0, 3), (3, 4), (4, 5)] {
        world.link(a, b, LAN);
    }
    world.make(5, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(600));
    let is_used = |world: &World, at: usize| world.shelves[at].written > 0;
    assert!(is_used(&world, 1) || is_used(&world, 3));
    // One way breaks in the middle, and then what is left of it at the fetcher.
    world.unlink(1, 2);
    world.run(Duration::from_millis(300));
    world.unlink(0, 1);
    world.run(seconds(6));
    assert!(world.is_completed(0, key));
    assert!(world.misbehaviour().is_empty());
    assert!(world.exchanges.iter().all(|it| it.relays() == 0));
    assert!(
        world.received[0] < key.len + key.len / 10,
        "what was here was not fetched again"
    );

    // The only way dies without a word; another one comes up.
    let key = crate::world::key(5, 10 * MB);
    let mut world = World::chain(4, LAN);
    world.make(3, key);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(500));
    world.freeze(2, 1);
    world.run(seconds(8));
    assert!(!world.is_completed(0, key));
    let mut bypass = |a, b| world.link(a, b, LAN);
    bypass(0, 2);
    world.run(seconds(20));
    assert!(world.is_completed(0, key));
}

#[test]
fn cancelling_goes_all_the_way() {
    let key = key(6, 50 * MB);
    let mut world = World::chain(8, LAN);
    world.make(7, key);
    world.fetch(0, key, terms());
    world.run(seconds(1));
    assert!(world.shelves[6].written > 0);
    world.cancel(0, key);
    world.run(Duration::from_millis(300));
    let received = world.received.clone();
    world.run(seconds(10));
    assert_eq!(world.received, received, "nothing flows any more");
    assert!(world.exchanges.iter().all(|it| it.relays() == 0));
    assert!(world.misbehaviour().is_empty());

    // A question that is not answered yet is taken back as well.
    let mut world = World::chain(8, LAN);
    world.freeze(7, 6);
    world.fetch(0, key, terms());
    world.run(Duration::from_millis(100));
    assert!(world.exchanges[6].relays() > 0);
    world.cancel(0, key);
    world.run(Duration::from_millis(100));
    assert!(world.exchanges.iter().all(|it| it.relays() == 0));
}

#[test]
fn two_that_fetch_share_the_way() {
    let key = key(7, 5 * MB);
    // 0 and 1 beside 2, and the content three links behind it.
    let mut world = World::new(6);
    for (a, b) in [(0, 2), (1, 2), (2, 3), (3, 4), (4, 5)] {
        world.link(a, b, LAN);
    }
    world.make(5, key);
    world.fetch(0, key, terms());
    world.fetch(1, key, terms());
    world.run(Duration::from_millis(300));
    // Who began leaves; the other one still gets it.
    world.cancel(0, key);
    world.run(seconds(3));
    assert!(world.is_completed(1, key));
    assert!(world.received[2] < key.len + key.len / 10, "once");
    assert!(world.misbehaviour().is_empty());
}

#[test]
fn those_that_wait_for_each_other_come_to_an_end() {
    // Three in a circle that all want it, and one who had it and goes.
    let key = key(8, 30 * MB);
    let mut world = World::new(4);
    for (a, b) in [(0, 1), (1, 2), (2, 0), (0, 3)] {
        world.link(a, b, LAN);
    }
    world.make(3, key);
    (0..3).for_each(|at| world.fetch(at, key, terms()));
    world.run(Duration::from_millis(500));
    world.unlink(0, 3);
    world.run(seconds(100));
    for at in 0..3 {
        assert!(world.failure(at, key).is_some(), "{at}");
        assert_eq!(world.exchanges[at].relays(), 0);
    }
    let before: u64 = world.received.iter().sum();
    world.run(seconds(100));
    assert_eq!(world.received.iter().sum::<u64>(), before, "all is quiet");
}

#[test]
fn what_a_peer_between_garbles_goes_no_further() {
    let key = key(9, 4 * MB);
    // 0 - 1 - 2 - 4 with 2 lying, and 1 - 3 - 5 - 4.
    let mut world = World::new(6);
    for (a, b) in [(0, 1), (1, 2), (2, 4), (1, 3), (3, 5), (5, 4)] {
        world.link(a, b, LAN);
    }
    world.make(4, key);
    world.shelves[2].garbles = true;
    world.fetch(0, key, terms());
    world.run(seconds(20));
    assert!(world.is_completed(0, key));
    let damaged = |at: usize| {
        let of = |it: &&Event| matches!(it, Event::Damaged { .. });
        world.events[at].iter().filter(of).count()
    };
    assert_eq!(damaged(1), 1, "its neighbour finds out");
    assert_eq!(damaged(0), 0, "and passes nothing of it on");
}

#[test]
fn a_wrong_length_is_content_that_nobody_has() {
    let told = key(10, 3 * MB);
    let claimed = idem_model::BlobKey {
        len: limits::BLOB_BYTES_MAX,
        ..told
    };
    let mut world = World::chain(4, LAN);
    world.make(3, told);
    world.fetch(0, claimed, terms());
    world.run(seconds(4));
    assert_eq!(world.failure(0, claimed), Some(FailReason::NobodyHasIt));
    assert!(world.shelves.iter().all(|it| it.begun.is_empty()));

    // One says that it has all of that; a peer between has no room for it and does not try.
    let mut world = World::chain(3, LAN);
    world.shelves[1].trouble = Some(Trouble::Quota);
    world.fetch(0, claimed, terms());
    world.run(Duration::from_millis(2));
    world.inject(2, 1, &BlobMessage::HaveAll { key: claimed }.to_bytes());
    world.run(seconds(30));
    assert_eq!(world.failure(0, claimed), Some(FailReason::NobodyHasIt));
    assert_eq!(world.shelves[1].written, 0);
}

#[test]
fn a_flood_of_questions_for_nothing_stays_small_beyond_the_first_peer() {
    let mut world = World::chain(4, LAN);
    let mut number = 0;
    let before = world.received[3];
    for _ in 0..100 {
        for _ in 0..100 {
            number += 1;
            let ask = BlobMessage::Ask {
                key: key(11, number),
                hops: limits::BLOB_HOPS_MAX,
                question: number,
            };
            world.inject(0, 1, &ask.to_bytes());
        }
        world.run(Duration::from_millis(100));
        assert!(world.exchanges[1].relays() <= limits::BLOB_RELAYS_PER_PEER_MAX);
    }
    // 10,000 questions in ten seconds.
    let passed = u64::from(limits::BLOB_ASKS_PER_TEN_SECONDS_MAX) + 32;
    assert!(world.received[3] - before < passed * 60);

    // An honest fetch beside it is told that there are too many, waits, and gets through.
    let wanted = key(12, MB);
    world.make(3, wanted);
    world.fetch(0, wanted, terms());
    world.run(seconds(20));
    assert!(world.is_completed(0, wanted));
    assert!(world.misbehaviour().is_empty());
}

#[test]
fn too_many_questions_are_not_taken_for_nobody() {
    let mut world = World::chain(4, LAN);
    let wanted = key(13, MB);
    world.make(3, wanted);
    for number in 1..=u64::from(limits::BLOB_ASKS_PER_TEN_SECONDS_MAX) {
        let ask = BlobMessage::Ask {
            key: key(14, number),
            hops: 3,
            question: number,
        };
        world.inject(0, 1, &ask.to_bytes());
        world.run(Duration::from_millis(20));
    }
    world.fetch(0, wanted, terms());
    world.run(seconds(4));
    assert_eq!(world.failure(0, wanted), None);
    world.run(seconds(20));
    assert!(world.is_completed(0, wanted));
}

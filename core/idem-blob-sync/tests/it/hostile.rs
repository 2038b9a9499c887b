//! Neighbours that do what they should not.

use std::time::Duration;

use idem_blob_sync::{Event, FetchTerms};
use idem_model::limits;
use idem_wire::BlobMessage;

use crate::world::{LAN, World, key, peer, true_piece};

const MB: u64 = 1024 * 1024;

fn is_reported(world: &World, at: usize, by: usize) -> bool {
    let misbehaved =
        |event: &Event| matches!(event, Event::Misbehaved { peer: it, .. } if *it == peer(by));
    world.events[at].iter().any(misbehaved)
}

#[test]
fn bytes_that_are_no_message_are_reported() {
    for frame in [&[][..], &[0x90], &[0x91; 40], &[0x0a, 1, 2], &[0x98; 70]] {
        let mut world = World::chain(2, LAN);
        world.inject(1, 0, frame);
        world.pump();
        assert!(is_reported(&world, 0, 1), "{frame:?}");
    }
}

#[test]
fn what_nobody_asked_for_changes_nothing() {
    let wanted = key(1, 2 * MB);
    let mut world = World::chain(3, LAN);
    world.fetch(0, wanted, FetchTerms::default());
    let other = key(2, MB);
    let part = other.part_around(3, 2);
    let piece = true_piece(other, part);
    for message in [
        BlobMessage::HaveAll { key: other },
        BlobMessage::HaveSome {
            key: other,
            runs: std::iter::once(0..4).collect(),
        },
        BlobMessage::Lack {
            key: other,
            question: 1,
            hops: 0,
            is_busy: false,
        },
        BlobMessage::Withdraw {
            key: other,
            keeps: true,
        },
        BlobMessage::Wait {
            key: other,
            is_own: false,
        },
        BlobMessage::Cancel { key: other },
        BlobMessage::Refuse { key: other, part },
        // Not linked with it, and not asked.
        BlobMessage::HaveAll { key: wanted },
    ] {
        world.inject(2, 0, &message.to_bytes());
    }
    world.pump();
    assert!(!is_reported(&world, 0, 2));
    assert!(world.shelves[0].begun.is_empty());
    let push = BlobMessage::Piece {
        key: other,
        part,
        offset: 0,
        bytes: &piece[..1000],
    };
    world.inject(1, 0, &push.to_bytes());
    world.pump();
    assert!(is_reported(&world, 0, 1), "content that was pushed here");
    assert_eq!(world.shelves[0].written, 0);
}

#[test]
fn floods_are_cut_off() {
    let mut world = World::chain(3, LAN);
    let held = key(1, 100 * MB);
    world.make(1, held);
    for group in 0..=limits::BLOB_GETS_PER_PEER_MAX as u64 {
        let part = held.part_around(group, 0);
        world.inject(0, 1, &BlobMessage::Get { key: held, part }.to_bytes());
    }
    world.pump();
    assert!(is_reported(&world, 1, 0), "too many parts at one time");

    // Questions for thousands of blobs are not all passed on.
    let mut world = World::chain(3, LAN);
    for number in 0..2000_u64 {
        let asked = key(7, number);
        world.inject(
            0,
            1,
            &BlobMessage::Ask {
                key: asked,
                hops: 2,
                question: number + 1,
            }
            .to_bytes(),
        );
    }
    assert_eq!(
        world.exchanges[1].relays(),
        limits::BLOB_RELAYS_PER_PEER_MAX
    );
    assert!(!is_reported(&world, 1, 0));
    for number in 0..2000_u64 {
        let asked = key(8, number);
        world.inject(
            0,
            1,
            &BlobMessage::Ask {
                key: asked,
                hops: 0,
                question: number + 10_000,
            }
            .to_bytes(),
        );
    }
    world.pump();
    assert!(is_reported(&world, 1, 0), "answers that it does not read");
    world.run(Duration::from_secs(20));
    assert_eq!(world.exchanges[1].relays(), 0, "all of them end");
}

#[test]
fn a_source_that_promises_and_gives_nothing_does_not_hold_a_fetch_up() {
    let wanted = key(3, 3 * MB);
    let mut world = World::new(3);
    world.link(0, 1, LAN);
    world.fetch(0, wanted, FetchTerms::default());
    world.pump();
    world.inject(1, 0, &BlobMessage::HaveAll { key: wanted }.to_bytes());
    world.freeze(1, 0);
    world.make(2, wanted);
    world.link(0, 2, LAN);
    world.run(Duration::from_secs(3));
    assert!(world.is_completed(0, wanted));
}

#[test]
fn one_that_refuses_all_it_promised_is_not_asked_for_ever() {
    let wanted = key(4, 3 * MB);
    let mut world = World::chain(2, LAN);
    world.fetch(0, wanted, FetchTerms::default());
    world.pump();
    // It has nothing, and says that it has all.
    world.inject(1, 0, &BlobMessage::HaveAll { key: wanted }.to_bytes());
    world.run(Duration::from_secs(30));
    assert!(world.failure(0, wanted).is_some());
    assert!(world.received[0] < 10_000);
}

#[test]
fn one_that_promises_and_takes_it_back_does_not_make_others_be_asked_all_the_time() {
    let wanted = key(5, 3 * MB);
    let mut world = World::new(4);
    for (a, b) in [(0, 1), (0, 2), (2, 3)] {
        world.link(a, b, LAN);
    }
    // What it says itself does not arrive, only what is injected.
    world.freeze(1, 0);
    world.fetch(0, wanted, FetchTerms::default());
    for _ in 0..6_500 {
        let promise = BlobMessage::Wait {
            key: wanted,
            is_own: false,
        };
        world.inject(1, 0, &promise.to_bytes());
        let withdraw = BlobMessage::Withdraw {
            key: wanted,
            keeps: false,
        };
        world.inject(1, 0, &withdraw.to_bytes());
        world.run(Duration::from_millis(10));
    }
    assert!(world.failure(0, wanted).is_some(), "and it ends");
    assert!(world.received[3] < 10_000, "{}", world.received[3]);
}

#[test]
fn damage_again_and_again_ends_the_link() {
    let mut world = World::chain(2, LAN);
    world.shelves[1].garbles = true;
    for number in 0..=u8::try_from(limits::BLOB_DAMAGED_PER_PEER_MAX).unwrap() {
        assert!(!is_reported(&world, 0, 1), "{number}");
        let wanted = key(100 + number, MB);
        world.make(1, wanted);
        world.fetch(0, wanted, FetchTerms::default());
        world.run(Duration::from_millis(100));
    }
    assert!(is_reported(&world, 0, 1));
}

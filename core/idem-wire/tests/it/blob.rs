//! Messages about blobs: as they were written, any of them there and back, and any bytes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use idem_model::{BlobId, BlobKey, limits};
use idem_wire::{BlobMessage, Message};
use proptest::prelude::*;

use crate::golden::check;

fn key(len: u64) -> BlobKey {
    BlobKey {
        id: BlobId(std::array::from_fn(|at| u8::try_from(at).unwrap())),
        len,
    }
}

#[test]
fn version_1_of_messages_about_blobs_is_what_it_was() {
    let key = key(300_000);
    let part = key.part_around(17, 4);
    for (name, message) in [
        (
            "blob_ask",
            BlobMessage::Ask {
                key,
                hops: 1,
                question: 0x0102_0304_0506_0708,
            },
        ),
        ("blob_have_all", BlobMessage::HaveAll { key }),
        (
            "blob_have_some",
            BlobMessage::HaveSome {
                key,
                runs: vec![0..3, 16..19],
            },
        ),
        (
            "blob_lack",
            BlobMessage::Lack {
                key,
                hops: 1,
                question: 0x0102_0304_0506_0708,
                is_busy: true,
            },
        ),
        ("blob_withdraw", BlobMessage::Withdraw { key, keeps: true }),
        ("blob_wait", BlobMessage::Wait { key, is_own: true }),
        ("blob_get", BlobMessage::Get { key, part }),
        (
            "blob_piece",
            BlobMessage::Piece {
                key,
                part,
                offset: 32,
                bytes: b"content",
            },
        ),
        ("blob_refuse", BlobMessage::Refuse { key, part }),
        ("blob_cancel", BlobMessage::Cancel { key }),
    ] {
        let frame = message.to_bytes();
        check(name, &frame);
        assert_eq!(BlobMessage::decode(&frame).unwrap(), message);
        assert!(BlobMessage::is_in(&frame));
        // A session leaves them alone.
        let skipped = Message::Extension { number: frame[0] };
        assert_eq!(Message::decode(&frame).unwrap(), skipped);
    }
}

fn wrong(message: &BlobMessage<'_>, change: fn(&mut Vec<u8>)) {
    let mut frame = message.to_bytes();
    change(&mut frame);
    assert!(BlobMessage::decode(&frame).is_err(), "{frame:02x?}");
}

#[test]
fn ranges_and_parts_have_one_form() {
    let key = key(300_000);
    let some = BlobMessage::HaveSome {
        key,
        runs: vec![0..3, 5..19],
    };
    wrong(&some, |frame| *frame.last_mut().unwrap() += 1);
    wrong(
        &BlobMessage::HaveSome {
            key,
            runs: vec![0..3, 3..4],
        },
        |_| {},
    );
    wrong(
        &BlobMessage::HaveSome {
            key,
            runs: vec![4..5, 0..3],
        },
        |_| {},
    );
    wrong(
        &BlobMessage::Ask {
            key,
            hops: limits::BLOB_HOPS_MAX,
            question: 0,
        },
        |_| {},
    );
    let withdraw = BlobMessage::Withdraw { key, keeps: false };
    wrong(&withdraw, |frame| *frame.last_mut().unwrap() = 2);
    let part = key.part_around(16, 4);
    let get = BlobMessage::Get { key, part };
    assert_eq!(part.level(), 2, "three groups are left");
    wrong(&get, |frame| *frame.last_mut().unwrap() = 4);
    wrong(&get, |frame| *frame.last_mut().unwrap() = 200);
    wrong(&get, |frame| frame.push(0));
}

#[test]
fn a_piece_is_within_its_bounds() {
    let key = key(300_000);
    let part = key.part_around(16, 4);
    let all = key.piece_bytes_of(part);
    wrong(
        &BlobMessage::Piece {
            key,
            part,
            offset: all,
            bytes: b"x",
        },
        |_| {},
    );
    wrong(
        &BlobMessage::Piece {
            key,
            part,
            offset: u64::MAX,
            bytes: b"x",
        },
        |_| {},
    );
    wrong(
        &BlobMessage::Piece {
            key,
            part,
            offset: 0,
            bytes: b"",
        },
        |_| {},
    );
    let mut long = BlobMessage::Wait { key, is_own: true }.to_bytes();
    long.truncate(33);
    long.extend_from_slice(&[0xff; 9]);
    assert!(
        BlobMessage::decode(&long).is_err(),
        "a length over the limit"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_in_its_only_form_or_none(
        number in 0x8e..0x9a_u8,
        head in any::<[u8; 32]>(),
        tail in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        let frame: Vec<u8> = [number].into_iter().chain(head).chain(tail).collect();
        if let Ok(message) = BlobMessage::decode(&frame) {
            prop_assert!(BlobMessage::is_in(&frame));
            prop_assert_eq!(message.to_bytes(), frame);
        }
    }
}

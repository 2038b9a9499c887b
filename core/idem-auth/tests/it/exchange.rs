//! Peers that pass on what authorities signed, and neighbours that lie or flood.

use std::{collections::BTreeMap, time::Duration};

use idem_auth::{
    Authorities, Authority, AuthorityChange, Heard, Misbehaviour, Revocation, RevocationList,
    RevokedId, TimeBeacon, TrustExchange, TrustFrame, TrustItem,
};
use idem_model::{PeerId, limits};
use proptest::prelude::*;

use crate::parties::{DAY, ISSUED, Key, authorities, database, holder, issuer};

fn peer(number: u8) -> PeerId {
    PeerId([number; 32])
}

fn list(epoch: u64, count: usize, signer: &Key) -> RevocationList {
    let entries: Vec<_> = (0..count)
        .map(|at| Revocation {
            id: RevokedId::user(database(), &format!("user {at}")),
            issued_before_ms: limits::SIGNED_TIME_MS_MAX,
            until_ms: ISSUED + DAY,
        })
        .collect();
    RevocationList::sign(database(), epoch, ISSUED, &entries, signer).unwrap()
}

fn time(ms: u64, signer: &Key) -> TrustItem {
    TrustItem::Time(TimeBeacon::sign(database(), ms, signer))
}

/// Peers in a row, each linked with the next.
struct Row(Vec<TrustExchange>);

impl Row {
    fn of(count: u8) -> Self {
        let mut row = Self(
            (0..count)
                .map(|_| TrustExchange::new(authorities()))
                .collect(),
        );
        for at in 1..count {
            row.link(at - 1, at);
        }
        row
    }

    fn link(&mut self, a: u8, b: u8) {
        self.0[usize::from(a)].handle_neighbour_up(Duration::ZERO, peer(b));
        self.0[usize::from(b)].handle_neighbour_up(Duration::ZERO, peer(a));
    }

    /// Delivers all frames, and says how many there were.
    fn settle(&mut self) -> usize {
        let mut count = 0;
        loop {
            let mut frames = Vec::new();
            for (from, exchange) in self.0.iter_mut().enumerate() {
                while let Some((to, frame)) = exchange.poll_frame() {
                    assert!(frame.len() <= limits::GOSSIP_BYTES_MAX);
                    assert!(TrustFrame::is_in(&frame));
                    frames.push((u8::try_from(from).unwrap(), usize::from(to.0[0]), frame));
                }
            }
            if frames.is_empty() {
                return count;
            }
            count += frames.len();
            assert!(count < 10_000, "they never end");
            for (from, to, frame) in frames {
                self.0[to]
                    .handle_frame(Duration::ZERO, peer(from), &frame)
                    .unwrap();
            }
        }
    }

    fn assert_equal(&self) {
        let first = self.0[0].to_bytes();
        assert!(self.0.iter().all(|it| it.to_bytes() == first));
    }
}

#[test]
fn what_one_peer_learns_all_know() {
    let mut row = Row::of(4);
    row.settle();
    let (first, second) = (issuer(), Key::new(0x51));
    let keys = vec![
        Authority::always(first.authority()),
        Authority::always(second.authority()),
    ];
    let change = AuthorityChange::sign(&authorities(), keys, ISSUED, &first).unwrap();
    assert!(row.0[0].apply(TrustItem::Change(change)).unwrap());
    // The longest list goes in parts.
    let longest = list(3, limits::REVOCATIONS_MAX, &first);
    assert!(row.0[0].apply(TrustItem::Revocations(longest)).unwrap());
    assert!(row.0[3].apply(time(ISSUED + DAY, &first)).unwrap());
    row.settle();
    let by_second = TrustItem::Revocations(list(1, 2, &second));
    assert!(row.0[2].apply(by_second).unwrap());
    row.settle();
    row.assert_equal();
    let trust = row.0[3].trust();
    assert_eq!(trust.authorities().last_number(), 1);
    assert_eq!(trust.revocations().lists().count(), 2);
    assert_eq!(row.0[0].trust().latest_signed_ms(), ISSUED + DAY);
    // A peer that comes later, or was away, hears it from its neighbour.
    row.0.push(TrustExchange::new(authorities()));
    row.link(3, 4);
    row.settle();
    row.assert_equal();
    // With nothing new, two that meet again say two summaries.
    row.link(0, 1);
    assert_eq!(row.settle(), 2);
}

#[test]
fn what_is_kept_is_what_was_known() {
    let mut row = Row::of(1);
    let exchange = &mut row.0[0];
    let key = issuer();
    exchange
        .apply(TrustItem::Revocations(list(7, 5, &key)))
        .unwrap();
    exchange.apply(time(ISSUED, &key)).unwrap();
    let bytes = exchange.to_bytes();
    let again = TrustExchange::restore(authorities(), &bytes).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    for len in 0..bytes.len() {
        assert!(TrustExchange::restore(authorities(), &bytes[..len]).is_err());
    }
    // Other authorities: what the first one signed does not count.
    let other = vec![Authority::always(Key::new(9).authority())];
    let other = Authorities::new(database(), other).unwrap();
    let other = TrustExchange::restore(other, &bytes).unwrap();
    assert_eq!(other.trust().revocations().lists().count(), 0);
    assert_eq!(other.trust().latest_signed_ms(), 0);
}

#[test]
fn what_nobody_signed_is_neither_taken_nor_passed_on() {
    let key = issuer();
    let keys = vec![Authority::always(key.authority())];
    let change = AuthorityChange::sign(&authorities(), keys, ISSUED, &key).unwrap();
    let list = list(1, 3, &key);
    let beacon = TimeBeacon::sign(database(), ISSUED, &key);
    let flipped = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let bytes = flipped(list.to_bytes());
    let forged = [
        TrustFrame::Change(flipped(change.to_bytes())),
        TrustFrame::Time(flipped(beacon.to_bytes())),
        TrustFrame::Revocations {
            issuer: key.authority(),
            epoch: 1,
            bytes_total: bytes.len(),
            offset: 0,
            part: bytes,
        },
    ];
    for frame in forged {
        let mut row = Row::of(3);
        row.settle();
        let before = row.0[1].to_bytes();
        let heard = row.0[1].handle_frame(Duration::ZERO, peer(0), &frame.to_bytes());
        assert!(matches!(heard, Err(Misbehaviour::Forged(_))), "{heard:?}");
        assert_eq!(row.0[1].to_bytes(), before);
        assert_eq!(row.0[1].poll_frame(), None);
    }
}

#[test]
fn what_no_authority_signed_is_not_even_put_together() {
    let mut row = Row::of(2);
    row.settle();
    let stranger = Key::new(0x77);
    let bytes = list(1, limits::REVOCATIONS_MAX, &stranger).to_bytes();
    let frame = TrustFrame::Revocations {
        issuer: stranger.authority(),
        epoch: 1,
        bytes_total: bytes.len(),
        offset: 0,
        part: bytes[..limits::TRUST_PART_BYTES_MAX].to_vec(),
    };
    let heard = row.0[1].handle_frame(Duration::ZERO, peer(0), &frame.to_bytes());
    assert_eq!(heard, Ok(Heard::Nothing));
    assert_eq!(row.0[1].poll_frame(), None, "no further part is asked for");
}

/// Each list is signed by the authority and newer than the one before: a stolen key, or a broken program.
#[test]
fn a_flood_of_revocation_lists_is_looked_at_up_to_a_bound() {
    let mut row = Row::of(2);
    row.settle();
    let key = issuer();
    let (mut taken, sent) = (0, 4 * limits::TRUST_FRAMES_AT_ONCE_MAX);
    for epoch in 1..=sent {
        let bytes = list(epoch, 1, &key).to_bytes();
        let frame = TrustFrame::Revocations {
            issuer: key.authority(),
            epoch,
            bytes_total: bytes.len(),
            offset: 0,
            part: bytes,
        };
        let heard = row.0[1].handle_frame(Duration::ZERO, peer(0), &frame.to_bytes());
        taken += u64::from(heard.unwrap() == Heard::Changed);
    }
    assert!(taken <= limits::TRUST_FRAMES_AT_ONCE_MAX, "{taken}");
    // What was not looked at is made good later: a summary asks for it.
    let at = row.0[1].poll_timeout().unwrap();
    row.0[1].handle_timeout(at);
    assert!(row.0[1].poll_frame().is_some());
}

/// A summary is short, and what it is answered with may be long.
#[test]
fn a_flood_of_summaries_has_a_bounded_echo() {
    let mut row = Row::of(2);
    row.0[1]
        .apply(TrustItem::Revocations(list(
            1,
            limits::REVOCATIONS_MAX,
            &issuer(),
        )))
        .unwrap();
    row.settle();
    let summary = TrustFrame::Summary {
        is_answer: false,
        last_number: 0,
        head: authorities().head(),
        lists: Vec::new(),
        times: Vec::new(),
    };
    let mut echoed = 0;
    for _ in 0..1000 {
        let frame = summary.to_bytes();
        row.0[1]
            .handle_frame(Duration::ZERO, peer(0), &frame)
            .unwrap();
        while let Some((_, frame)) = row.0[1].poll_frame() {
            echoed += frame.len();
        }
    }
    assert!(echoed <= 8 * limits::GOSSIP_BYTES_MAX, "{echoed}");
}

#[test]
fn times_are_passed_on_once_a_minute() {
    let mut row = Row::of(2);
    row.settle();
    let key = issuer();
    for second in 0..180 {
        row.0[0].apply(time(ISSUED + second * 1000, &key)).unwrap();
    }
    assert_eq!(row.settle(), 3);
    assert_eq!(row.0[1].trust().latest_signed_ms(), ISSUED + 120_000);
    // One that is earlier is not news.
    assert!(!row.0[1].apply(time(ISSUED, &key)).unwrap());
    assert_eq!(row.settle(), 0);
}

#[test]
fn peers_that_began_with_other_keys_do_not_talk_for_ever() {
    let (a, b) = (issuer(), Key::new(0x33));
    let begun = |keys: &[&Key]| {
        let keys = keys.iter().map(|key| Authority::always(key.authority()));
        Authorities::new(database(), keys.collect()).unwrap()
    };
    let (of_a, of_b) = (begun(&[&a]), begun(&[&a, &b]));
    let mut row = Row(vec![
        TrustExchange::new(of_a.clone()),
        TrustExchange::new(of_b),
    ]);
    let mut chain = of_a;
    for number in 0..5 {
        let keys = chain.keys().to_vec();
        let change = AuthorityChange::sign(&chain, keys, ISSUED + number, &a).unwrap();
        chain.accept(change.clone()).unwrap();
        row.0[0].apply(TrustItem::Change(change)).unwrap();
    }
    row.link(0, 1);
    let said = row.settle();
    assert!(said < 20, "{said} frames");
    assert_eq!(row.0[1].trust().authorities().last_number(), 0);
    // What both trust is passed on all the same.
    row.0[0]
        .apply(TrustItem::Revocations(list(1, 1, &a)))
        .unwrap();
    row.settle();
    assert_eq!(row.0[1].trust().revocations().lists().count(), 1);
}

#[test]
fn frames_that_are_none_end_the_link() {
    let mut row = Row::of(2);
    for frame in [&[0x20][..], &[0x26], &[0x22, 1, 2], &[]] {
        let heard = row.0[1].handle_frame(Duration::ZERO, peer(0), frame);
        assert!(matches!(heard, Err(Misbehaviour::Malformed(_))));
    }
}

#[test]
fn what_could_not_be_sent_is_told_again() {
    let mut row = Row::of(2);
    row.settle();
    row.0[0]
        .apply(TrustItem::Revocations(list(1, 1, &issuer())))
        .unwrap();
    let lost = row.0[0].poll_frame();
    assert!(lost.is_some());
    row.0[0].handle_unsent(Duration::ZERO, peer(1));
    let at = row.0[0].poll_timeout().unwrap();
    row.0[0].handle_timeout(at);
    row.settle();
    row.assert_equal();
}

fn frames() -> impl Strategy<Value = TrustFrame> {
    let key = any::<[u8; 32]>().prop_map(idem_auth::AuthorityKey);
    let lists = prop::collection::btree_map(any::<[u8; 32]>(), any::<(u64, [u8; 32])>(), 0..=8);
    let times = prop::collection::btree_map(any::<[u8; 32]>(), 0..1_u64 << 48, 0..=8);
    prop_oneof![
        (any::<bool>(), any::<u64>(), any::<[u8; 32]>(), lists, times).prop_map(
            |(is_answer, last_number, head, lists, times): (_, _, _, BTreeMap<_, _>, _)| {
                let list = |(issuer, (epoch, hash))| idem_auth::ListName {
                    issuer: idem_auth::AuthorityKey(issuer),
                    epoch,
                    hash,
                };
                let time = |(issuer, ms)| (idem_auth::AuthorityKey(issuer), ms);
                TrustFrame::Summary {
                    is_answer,
                    last_number,
                    head,
                    lists: lists.into_iter().map(list).collect(),
                    times: times.into_iter().map(time).collect(),
                }
            }
        ),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(TrustFrame::Change),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(TrustFrame::Time),
        prop::collection::vec(any::<u8>(), 0..8192).prop_map(TrustFrame::Certificate),
        (key, any::<u64>(), 0..limits::REVOCATION_LIST_BYTES_MAX).prop_map(
            |(issuer, epoch, offset)| TrustFrame::WantRevocations {
                issuer,
                epoch,
                offset
            }
        ),
    ]
}

proptest! {
    #[test]
    fn frames_are_read_as_written(frame in frames()) {
        prop_assert_eq!(TrustFrame::decode(&frame.to_bytes()), Ok(frame));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut exchange = TrustExchange::new(authorities());
        exchange.handle_neighbour_up(Duration::ZERO, holder().peer());
        let _ = exchange.handle_frame(Duration::ZERO, holder().peer(), &bytes);
    }
}

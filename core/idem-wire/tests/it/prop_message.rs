//! Any message there and back, and any bytes.

use idem_model::{
    ActorId, CollectionName, DeletedDay, DocId, DocumentKey, Dot, Lane, Timestamp, VersionVector,
    limits,
};
use idem_wire::{
    Accept, Announced, AskReach, CatchUpTier, Check, Checked, Compared, DocumentVersion,
    HeldVersion, Hello, Holdings, Items, KeyedVersion, Lacks, Message, Move, ROUNDS_MAX, Reach,
    Resume, Resumption, SketchSummary, Subscribe, SubscriptionId, Told, Transfer, WireError,
};
use proptest::prelude::*;

use crate::prop_sketch::block;

fn lane() -> impl Strategy<Value = Lane> {
    prop::sample::select(Lane::ALL.to_vec())
}

fn version(entries: std::ops::Range<usize>) -> impl Strategy<Value = VersionVector> {
    let dot = (any::<[u8; 16]>(), 1..u64::MAX).prop_map(|(actor, n)| Dot {
        actor: ActorId(actor),
        n,
    });
    prop::collection::vec(dot, entries).prop_map(VersionVector::from_iter)
}

fn documents(entries: std::ops::Range<usize>) -> impl Strategy<Value = Vec<DocumentVersion>> {
    let document = ("[a-c]{1,3}", "[ -~]{0,20}", version(entries));
    let document = document.prop_map(|(collection, id, version)| DocumentVersion {
        key: DocumentKey {
            collection: CollectionName::new(&collection).expect("a valid name"),
            id: DocId::from(id.as_str()),
        },
        version,
    });
    prop::collection::vec(document, 0..20)
}

fn windows() -> impl Strategy<Value = Message<'static>> {
    let number = 0..limits::WINDOWS_PER_SESSION_MAX;
    let count = 1..=limits::WINDOW_COUNT_MAX;
    let text = "[ -~]{0,40}".prop_map(|text| &*text.leak());
    let place = prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| &*bytes.leak());
    let told = prop_oneof![
        place.prop_map(Told::Place),
        text.clone().prop_map(|detail: &str| Told::Refused(detail)),
    ];
    prop_oneof![
        (number.clone(), count.clone(), text).prop_map(|(number, count, statement)| {
            Message::AskReach(AskReach {
                number,
                count,
                statement,
            })
        }),
        (number, count, told).prop_map(|(number, count, told)| Message::Reach(Reach {
            number,
            count,
            told,
        })),
    ]
}

fn announced() -> impl Strategy<Value = Vec<Announced>> {
    let announced = (documents(0..1), any::<[u8; 8]>());
    announced.prop_map(|(documents, version)| {
        let keys = documents.into_iter().map(|it| it.key);
        keys.map(|key| Announced { key, version }).collect()
    })
}

fn held() -> impl Strategy<Value = HeldVersion> {
    prop_oneof![
        Just(HeldVersion::Nothing),
        Just(HeldVersion::Announced),
        version(0..4).prop_map(HeldVersion::Other),
        Just(HeldVersion::Unnamed),
    ]
}

fn hello() -> impl Strategy<Value = Message<'static>> {
    (
        any::<(u16, u16)>(),
        any::<[u8; 8]>(),
        any::<[u8; 16]>(),
        any::<(u64, u64, u32, u32, u64, u64, u64)>(),
        any::<Option<([u8; 8], [u8; 4], u64)>>(),
    )
        .prop_map(|((a, b), database, actor, numbers, resumption)| {
            Message::Hello(Hello {
                version_min: a.min(b),
                version_max: a.max(b),
                database,
                actor: ActorId(actor),
                instance: numbers.0,
                timestamp: Timestamp(numbers.1),
                frame_bytes_max: numbers.2,
                lane_credit_bytes: numbers.3,
                capabilities: numbers.4,
                gc_floor: Timestamp(numbers.5),
                choice: numbers.6,
                resumption: resumption.map(|(subscriptions, actor, commit)| Resumption {
                    subscriptions,
                    actor,
                    commit,
                }),
            })
        })
}

fn holdings() -> impl Strategy<Value = Holdings> {
    prop_oneof![
        Just(Holdings::Nothing),
        any::<([u8; 16], u64)>().prop_map(|(actor, commit)| Holdings::Resume(Resume {
            actor: ActorId(actor),
            commit,
        })),
        prop::collection::vec(any::<[u8; 12]>(), 0..limits::SUBSCRIBE_ITEMS_MAX)
            .prop_map(Holdings::Items),
        (any::<(u64, [u8; 12], [u8; 8])>(), block()).prop_map(|((items, xor, check), block)| {
            Holdings::Sketch {
                summary: SketchSummary { items, xor, check },
                block,
            }
        }),
        any::<u32>().prop_map(|alias| Holdings::Mirrored { alias }),
    ]
}

fn keyed_versions() -> impl Strategy<Value = Vec<KeyedVersion>> {
    let versions = (any::<[u8; 8]>(), version(0..5));
    let versions = versions.prop_map(|(key, version)| KeyedVersion { key, version });
    prop::collection::vec(versions, 0..20)
}

fn compared() -> impl Strategy<Value = Message<'static>> {
    let tags = prop::collection::vec(any::<[u8; 4]>(), 0..20);
    (lane(), any::<(u32, bool)>(), tags, keyed_versions()).prop_map(
        |(lane, (alias, more), tags, versions)| {
            Message::Compared(Compared {
                lane,
                alias,
                more,
                tags,
                versions,
            })
        },
    )
}

fn lacks() -> impl Strategy<Value = Message<'static>> {
    (any::<(u32, bool)>(), keyed_versions()).prop_map(|((alias, more), versions)| {
        Message::Lacks(Lacks {
            alias,
            more,
            versions,
        })
    })
}

fn subscribe() -> impl Strategy<Value = Message<'static>> {
    (
        any::<(u32, [u8; 32], u8)>(),
        holdings(),
        prop::option::of("[ -~]{0,40}"),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(
            |((alias, id, priority), holdings, statement, (more, evicts, has_evicted))| {
                Message::Subscribe(Subscribe {
                    alias,
                    subscription: SubscriptionId(id),
                    priority,
                    holdings,
                    has_evicted,
                    statement,
                    more,
                    evicts,
                })
            },
        )
}

fn check() -> impl Strategy<Value = Message<'static>> {
    let holdings = holdings().prop_filter("who holds nothing asks nothing", |it| {
        matches!(it, Holdings::Items(_) | Holdings::Sketch { .. })
    });
    (Check::ALIAS_MIN.., "[a-c]{1,3}", holdings).prop_map(|(alias, name, holdings)| {
        Message::Check(Check {
            alias,
            collection: CollectionName::new(&name).expect("a valid name"),
            holdings,
        })
    })
}

fn checked() -> impl Strategy<Value = Message<'static>> {
    let items = prop::collection::vec(any::<[u8; 12]>(), 0..100);
    let flags = any::<(u32, bool, bool, bool)>();
    let day = any::<(u32, u64, u64)>();
    let day = day.prop_map(|(day, heard, kept)| DeletedDay { day, heard, kept });
    let days = prop::collection::btree_set(day, 0..20);
    let versions = (version(0..4), version(0..4));
    (lane(), flags, items, versions, days).prop_map(
        |(lane, (alias, more, is_void, is_doubtful), items, (deleted, evicted), days)| {
            Message::Checked(Checked {
                lane,
                alias,
                more,
                is_void,
                is_doubtful,
                items,
                deleted,
                evicted,
                days: days.into_iter().collect(),
            })
        },
    )
}

/// Texts and payloads live as long as the test: the messages borrow them.
#[expect(clippy::too_many_lines, reason = "one entry for each message")]
fn message() -> impl Strategy<Value = Message<'static>> {
    let text = "[ -~]{0,40}".prop_map(|text| &*text.leak());
    let payload = prop::collection::vec(any::<u8>(), 1..100).prop_map(|bytes| &*bytes.leak());
    let gossip = prop::collection::vec(any::<u8>(), 1..100).prop_map(|bytes| &*bytes.leak());
    let subscription = any::<[u8; 32]>().prop_map(SubscriptionId);
    let raw_bytes = prop::option::of(1..=262_144u32);
    prop_oneof![
        hello(),
        subscribe(),
        compared(),
        lacks(),
        check(),
        checked(),
        (lane(), any::<u64>()).prop_map(|(lane, floor)| Message::Floor {
            lane,
            floor: Timestamp(floor)
        }),
        (lane(), any::<(u64, u64, Option<[u64; 3]>)>()).prop_map(|(lane, it)| Message::Move(
            Move {
                lane,
                instance: it.0,
                number: it.1,
                received: it.2,
            }
        )),
        any::<[u64; 2]>().prop_map(|[instance, number]| Message::Lost { instance, number }),
        Just(Message::Restart),
        (lane(), any::<u64>()).prop_map(|(lane, batch)| Message::Unheld { lane, batch }),
        any::<bool>().prop_map(|is_fed_by_others| Message::Feed { is_fed_by_others }),
        (any::<u64>(), prop::collection::btree_set(0_u32..512, 1..20)).prop_map(
            |(batch, places)| Message::Pull {
                batch,
                places: places.into_iter().collect(),
            }
        ),
        (any::<u8>(), text.clone()).prop_map(|(code, detail)| Message::Bye { code, detail }),
        subscription
            .clone()
            .prop_map(|subscription| Message::AskStatement { subscription }),
        (subscription, any::<bool>(), text.clone()).prop_map(|(subscription, more, text)| {
            Message::Statement {
                subscription,
                more,
                text,
            }
        }),
        any::<u32>().prop_map(|alias| Message::Unsubscribe { alias }),
        any::<(u32, u32)>().prop_map(|(alias, symbols)| Message::AskHoldings { alias, symbols }),
        (any::<u32>(), block()).prop_map(|(alias, block)| Message::Symbols { alias, block }),
        (
            lane(),
            any::<(u32, bool, bool)>(),
            prop::collection::vec(any::<[u8; 12]>(), 0..100)
        )
            .prop_map(
                |(lane, (alias, more, is_void), items)| Message::Items(Items {
                    lane,
                    alias,
                    more,
                    is_void,
                    items
                })
            ),
        any::<(bool, bool)>().prop_map(|(is_known, is_caught_up)| Message::Resumed {
            is_known,
            is_caught_up: is_caught_up && is_known
        }),
        (any::<(u32, u64, bool)>()).prop_map(|(alias, from, resumes)| {
            let tier = if resumes {
                CatchUpTier::Resume
            } else {
                CatchUpTier::Stream
            };
            Message::Accept(Accept { alias, tier, from })
        }),
        (any::<u32>(), any::<bool>(), text).prop_map(|(alias, is_closed, detail)| {
            Message::Refuse {
                alias,
                is_closed,
                detail,
            }
        }),
        any::<u32>().prop_map(|alias| Message::Invite { alias }),
        gossip.prop_map(|bytes| Message::Gossip { bytes }),
        windows(),
        (lane(), any::<(u64, u64)>()).prop_map(|(lane, (consumed_bytes, batches))| Message::Ack {
            lane,
            consumed_bytes,
            batches
        }),
        (lane(), any::<bool>(), 0..=ROUNDS_MAX, raw_bytes, payload).prop_map(
            |(lane, more, round, raw_bytes, payload)| Message::Transfer(Transfer {
                lane,
                more,
                round,
                raw_bytes,
                payload
            })
        ),
        (lane(), any::<u64>(), announced()).prop_map(|(lane, number, documents)| Message::Have {
            lane,
            number,
            documents
        }),
        (
            any::<u64>(),
            any::<bool>(),
            prop::collection::vec(held(), 0..20)
        )
            .prop_map(|(number, more, holdings)| Message::Answer {
                number,
                more,
                holdings
            }),
        documents(0..4).prop_map(|documents| Message::Want { documents }),
        (0x80..=0xffu8).prop_map(|number| Message::Extension { number }),
    ]
}

proptest! {
    #[test]
    fn decode_undoes_encode(message in message()) {
        let bytes = message.to_bytes();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(&bytes);
    }

    /// What is read from changed bytes is written as those bytes: every message has one form.
    #[test]
    fn changed_bytes_are_another_message_or_none(
        message in message(),
        at in any::<prop::sample::Index>(),
        xor in 1..=255u8,
    ) {
        let mut bytes = message.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= xor;
        if let Ok(read) = Message::decode(&bytes) {
            prop_assert_ne!(&read, &message);
            // HELLO and extensions may be longer.
            if !matches!(read, Message::Hello(_) | Message::Extension { .. }) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn every_cut_is_noticed(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = message.to_bytes();
        let cut = &bytes[..at.index(bytes.len())];
        match (&message, Message::decode(cut)) {
            // A shorter payload is a payload.
            (Message::Transfer(_), Ok(Message::Transfer(cut))) => prop_assert!(!cut.payload.is_empty()),
            (_, read) => prop_assert!(read.is_err()),
        }
    }
}

#[test]
fn limits_are_checked_before_memory_is_reserved() {
    let too_long = vec![0x0a; limits::FRAME_BYTES_MAX + 1];
    assert!(matches!(
        Message::decode(&too_long),
        Err(WireError::FrameTooLarge { .. })
    ));
    assert_eq!(Message::decode(&[]), Err(WireError::Empty));
    assert_eq!(
        Message::decode(&[0x33]),
        Err(WireError::UnknownMessage { number: 0x33 })
    );
    // A compressed transfer that claims 4 GB, a HAVE with a million names.
    for bytes in [
        &[0x0a, 2, 2, 0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0x0b, 1, 0xc0, 0x84, 0x3d, 1, b'a'][..],
    ] {
        assert!(Message::decode(bytes).is_err());
    }
}

//! Every message as version 1 wrote it. A released file is never changed: a later build must go on
//! reading it. To add one, run the test with `IDEM_VECTORS=write`.

mod reject;

use std::{collections::BTreeSet, fs, path::PathBuf};

use idem_model::{
    ActorId, CollectionName, DeletedDay, DocId, DocumentKey, Dot, Lane, Timestamp, VersionVector,
};
use idem_wire::{
    Accept, Announced, AskReach, BatchItem, BatchReader, BatchWriter, CatchUpTier, Check, Checked,
    Compared, DocumentVersion, HeldVersion, Hello, Holdings, Items, KeyedVersion, Lacks, Message,
    MessageKind, Move, Reach, Resume, Resumption, SketchBlock, SketchSummary, SketchSymbol,
    Subscribe, SubscriptionId, Told, Transfer,
};

#[expect(clippy::disallowed_methods, reason = "a test may be asked to write")]
pub(crate) fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/wire")
        .join(format!("{name}.hex"));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if std::env::var("IDEM_VECTORS").is_ok_and(|it| it == "write") && !path.exists() {
        fs::write(&path, format!("{hex}\n")).expect("the vectors are writable");
    }
    let golden = fs::read_to_string(&path).expect("the vector is checked in");
    assert_eq!(hex, golden.trim(), "{name} is written as it was");
}

fn key(id: &str) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new("airports").expect("a valid name"),
        id: DocId::from(id),
    }
}

fn day(day: u32, heard: u64, kept: u64) -> DeletedDay {
    DeletedDay { day, heard, kept }
}

fn documents() -> Vec<DocumentVersion> {
    let dot = |byte, n| Dot {
        actor: ActorId([byte; 16]),
        n,
    };
    vec![
        DocumentVersion {
            key: key("FRA"),
            version: VersionVector::from_iter([dot(1, 7), dot(2, 300)]),
        },
        DocumentVersion {
            key: key("MUC"),
            version: VersionVector::from_iter([dot(1, 1)]),
        },
    ]
}

fn announced() -> Vec<Announced> {
    let announced = |id, byte| Announced {
        key: key(id),
        version: [byte; 8],
    };
    vec![announced("FRA", 0xf0), announced("MUC", 0xf1)]
}

fn answer() -> Message<'static> {
    let [other, _] = &documents()[..] else {
        panic!("two documents");
    };
    let holdings = vec![
        HeldVersion::Announced,
        HeldVersion::Nothing,
        HeldVersion::Other(other.version.clone()),
        HeldVersion::Unnamed,
        HeldVersion::Announced,
    ];
    Message::Answer {
        number: 300,
        more: true,
        holdings,
    }
}

#[expect(clippy::too_many_lines, reason = "one entry for each message")]
fn messages() -> Vec<(&'static str, Message<'static>)> {
    let subscription = SubscriptionId([0xab; 32]);
    let subscribe = |holdings, more, evicts| {
        Message::Subscribe(Subscribe {
            has_evicted: matches!(holdings, Holdings::Mirrored { .. }),
            alias: 300,
            subscription,
            priority: 1,
            holdings,
            statement: None,
            more,
            evicts,
        })
    };
    let transfer = |more, round, raw_bytes| {
        Message::Transfer(Transfer {
            lane: Lane::Bulk,
            more,
            round,
            raw_bytes,
            payload: b"payload",
        })
    };
    let resume = Holdings::Resume(Resume {
        actor: ActorId([3; 16]),
        commit: 70_000,
    });
    let mut nothing_held = documents();
    nothing_held[1].version = VersionVector::new();
    vec![
        ("hello", hello()),
        (
            "bye",
            Message::Bye {
                code: 4,
                detail: "broken TRANSFER",
            },
        ),
        ("subscribe", subscribe(Holdings::Nothing, false, false)),
        ("subscribe_resume", subscribe(resume.clone(), true, false)),
        ("subscribe_evicts", subscribe(resume, false, true)),
        ("restart", Message::Restart),
        ("ask_statement", Message::AskStatement { subscription }),
        (
            "statement",
            Message::Statement {
                subscription,
                more: false,
                text: "SELECT * FROM airports",
            },
        ),
        (
            "statement_part",
            Message::Statement {
                subscription,
                more: true,
                text: "SELECT * FROM",
            },
        ),
        ("unsubscribe", Message::Unsubscribe { alias: 300 }),
        (
            "accept",
            Message::Accept(Accept {
                alias: 300,
                tier: CatchUpTier::Resume,
                from: 70_000,
            }),
        ),
        (
            "refuse",
            Message::Refuse {
                alias: 300,
                is_closed: false,
                detail: "unknown function",
            },
        ),
        (
            "refuse_closed",
            Message::Refuse {
                alias: 300,
                is_closed: true,
                detail: "out of scope",
            },
        ),
        ("invite", Message::Invite { alias: 300 }),
        ("gossip", Message::Gossip { bytes: b"gossip" }),
        (
            "ask_reach",
            Message::AskReach(AskReach {
                number: 3,
                count: 300,
                statement: "SELECT * FROM airports AS d ORDER BY d.height DESC LIMIT 300",
            }),
        ),
        ("reach", reach(Told::Place(&[0xfa, 0x3f, 0x05, 0x41]))),
        ("reach_all", reach(Told::Place(b""))),
        ("reach_refused", reach(Told::Refused("out of scope"))),
        (
            "ack",
            Message::Ack {
                lane: Lane::Interactive,
                consumed_bytes: 1 << 40,
                batches: 129,
            },
        ),
        ("transfer", transfer(false, 0, None)),
        ("transfer_piece", transfer(true, 63, Some(262_144))),
        (
            "have",
            Message::Have {
                lane: Lane::Bulk,
                number: 300,
                documents: announced(),
            },
        ),
        ("answer", answer()),
        (
            "want",
            Message::Want {
                documents: nothing_held,
            },
        ),
        (
            "subscribe_items",
            subscribe(Holdings::Items(vec![[1; 12], [2; 12]]), false, false),
        ),
        (
            "subscribe_sketch",
            Message::Subscribe(Subscribe {
                has_evicted: false,
                alias: 1,
                subscription,
                priority: 2,
                holdings: Holdings::Sketch {
                    summary: SketchSummary {
                        items: 100_000,
                        xor: [5; 12],
                        check: [6; 8],
                    },
                    block: block(1),
                },
                statement: Some("SELECT * FROM airports".to_owned()),
                more: true,
                evicts: false,
            }),
        ),
        (
            "ask_holdings",
            Message::AskHoldings {
                alias: 300,
                symbols: 512,
            },
        ),
        (
            "symbols",
            Message::Symbols {
                alias: 300,
                block: block(49),
            },
        ),
        (
            "items",
            Message::Items(Items {
                lane: Lane::Bulk,
                alias: 300,
                more: true,
                is_void: false,
                items: vec![[1; 12], [2; 12]],
            }),
        ),
        (
            "check",
            Message::Check(Check {
                alias: Check::ALIAS_MIN,
                collection: key("FRA").collection,
                holdings: Holdings::Items(vec![[1; 12], [2; 12]]),
            }),
        ),
        (
            "check_sketch",
            Message::Check(Check {
                alias: Check::ALIAS_MIN + 1,
                collection: key("FRA").collection,
                holdings: Holdings::Sketch {
                    summary: SketchSummary {
                        items: 100_000,
                        xor: [5; 12],
                        check: [6; 8],
                    },
                    block: block(1),
                },
            }),
        ),
        (
            "checked",
            Message::Checked(Checked {
                lane: Lane::Bulk,
                alias: Check::ALIAS_MIN,
                more: true,
                is_void: false,
                is_doubtful: false,
                items: vec![[2; 12]],
                deleted: documents()[0].version.clone(),
                evicted: VersionVector::new(),
                days: vec![
                    day(20_000, 7, 0),
                    day(20_000, 9, 0),
                    day(20_001, u64::MAX, 5),
                ],
            }),
        ),
        (
            "checked_doubtful",
            Message::Checked(Checked {
                lane: Lane::Bulk,
                alias: Check::ALIAS_MIN,
                more: false,
                is_void: false,
                is_doubtful: true,
                items: vec![[7; 12], [9; 12]],
                deleted: VersionVector::new(),
                evicted: VersionVector::new(),
                days: Vec::new(),
            }),
        ),
        (
            "floor",
            Message::Floor {
                lane: Lane::Interactive,
                floor: Timestamp::new(1_600_000_000_000, 3),
            },
        ),
        (
            "subscribe_mirrored",
            subscribe(Holdings::Mirrored { alias: 200 }, false, false),
        ),
        (
            "compared",
            Message::Compared(Compared {
                lane: Lane::Bulk,
                alias: 300,
                more: true,
                tags: vec![[1; 4], [2; 4]],
                versions: keyed_versions(),
            }),
        ),
        (
            "lacks",
            Message::Lacks(Lacks {
                alias: 300,
                more: false,
                versions: keyed_versions(),
            }),
        ),
        ("hello_resumption", hello_resumption()),
        (
            "resumed",
            Message::Resumed {
                is_known: true,
                is_caught_up: true,
            },
        ),
        (
            "resumed_unknown",
            Message::Resumed {
                is_known: false,
                is_caught_up: false,
            },
        ),
        (
            "move",
            Message::Move(Move {
                lane: Lane::Bulk,
                instance: 0x0102_0304_0506_0708,
                number: 300,
                received: Some([1, 200, 70_000]),
            }),
        ),
        (
            "move_anew",
            Message::Move(Move {
                lane: Lane::Control,
                instance: 0x0102_0304_0506_0708,
                number: 300,
                received: None,
            }),
        ),
        (
            "lost",
            Message::Lost {
                instance: 0x0102_0304_0506_0708,
                number: 300,
            },
        ),
        (
            "unheld",
            Message::Unheld {
                lane: Lane::Bulk,
                batch: 300,
            },
        ),
        (
            "feed",
            Message::Feed {
                is_fed_by_others: true,
            },
        ),
        (
            "pull",
            Message::Pull {
                batch: 300,
                places: vec![0, 3, 511],
            },
        ),
        ("extension", Message::Extension { number: 0x80 }),
    ]
}

fn reach(told: Told<'static>) -> Message<'static> {
    Message::Reach(Reach {
        number: 3,
        count: 300,
        told,
    })
}

fn block(first: u32) -> SketchBlock {
    let symbol = |byte| SketchSymbol {
        xor: [byte; 12],
        check: [byte + 1; 4],
        count: byte + 2,
    };
    SketchBlock {
        first,
        symbols: vec![symbol(1), symbol(9)],
    }
}

fn keyed_versions() -> Vec<KeyedVersion> {
    let versions = documents().into_iter().map(|it| it.version);
    let keyed = (0x4b..).zip(versions.chain([VersionVector::new()]));
    keyed
        .map(|(byte, version)| KeyedVersion {
            key: [byte; 8],
            version,
        })
        .collect()
}

fn hello_resumption() -> Message<'static> {
    let resumption = Resumption {
        subscriptions: [0x5e; 8],
        actor: [0xa0; 4],
        commit: 70_000,
    };
    Message::Hello(Hello {
        gc_floor: Timestamp::new(1_600_000_000_000, 3),
        resumption: Some(resumption),
        ..plain_hello()
    })
}

fn hello() -> Message<'static> {
    Message::Hello(plain_hello())
}

fn plain_hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        database: [0xdb; 8],
        actor: ActorId([0xac; 16]),
        instance: 0x0102_0304_0506_0708,
        timestamp: Timestamp::new(1_700_000_000_000, 5),
        frame_bytes_max: 262_144,
        lane_credit_bytes: 4_194_304,
        capabilities: 0,
        gc_floor: Timestamp::ZERO,
        choice: 3,
        resumption: None,
    }
}

#[test]
fn messages_are_written_as_they_were() {
    for (name, message) in messages() {
        let bytes = message.to_bytes();
        check(name, &bytes);
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message), "{name}");
    }
}

#[test]
fn every_kind_of_message_has_a_vector() {
    let made: BTreeSet<MessageKind> = messages().iter().map(|(_, it)| it.kind()).collect();
    assert_eq!(made, BTreeSet::from(MessageKind::ALL));
}

#[test]
fn a_batch_is_written_as_it_was() {
    let mut writer = BatchWriter::new();
    writer.document(&key("FRA"), false, b"state one");
    let mut other = key("MUC");
    other.collection = CollectionName::new("runways").expect("a valid name");
    writer.document(&other, true, b"delta");
    writer.end_group();
    writer.document(&key("MUC"), false, b"");
    writer.mark_left();
    writer.end_group();
    writer.answered(true);
    writer.announced(&[[7; 8], [0xab; 8]]);
    writer.cursor(300, 70_000, false);
    writer.cursor(1, 5, true);
    let bytes = writer.into_bytes();
    check("batch", &bytes);
    let mut reader = BatchReader::new(&bytes);
    let items: Vec<_> = std::iter::from_fn(|| reader.next_item().transpose()).collect();
    let groups = items
        .iter()
        .filter(|item| matches!(item, Ok(BatchItem::Document(document)) if document.ends_group));
    assert_eq!((items.len(), groups.count()), (7, 2));
}

#[test]
fn a_later_hello_may_be_longer() {
    let mut bytes = hello().to_bytes();
    bytes.extend_from_slice(b"what version 2 adds");
    assert_eq!(Message::decode(&bytes), Ok(hello()));
}

#[test]
fn versions_overlap_or_not() {
    let check = |ours: (u16, u16), theirs: (u16, u16), expected| {
        let [a, b] = [ours, theirs].map(|(version_min, version_max)| {
            let Message::Hello(hello) = hello() else {
                unreachable!("it is a HELLO");
            };
            Hello {
                version_min,
                version_max,
                ..hello
            }
        });
        assert_eq!(a.common_version(&b), expected);
        assert_eq!(b.common_version(&a), expected, "both sides find the same");
    };
    check((1, 1), (1, 1), Some(1));
    check((1, 3), (2, 9), Some(3));
    check((1, 1), (2, 3), None);
}

//! Messages of the protocol: what decodes, encodes to the same frame.

use idem_model::{ActorId, DeletedDay, Lane, Timestamp};
use idem_wire::{
    Accept, Announced, AskReach, CatchUpTier, Check, Checked, Compared, DocumentVersion,
    HeldVersion, Hello, Holdings, Items, KeyedVersion, Lacks, Message, Move, Reach, Resume,
    Resumption, SketchBlock, SketchSummary, SketchSymbol, Subscribe, SubscriptionId, Told,
    Transfer,
};

use super::samples;
use crate::target::{Target, Verdict};

pub(super) const TARGET: Target = Target {
    name: "message_decode",
    run,
    seeds: || messages().iter().map(Message::to_bytes).collect(),
};

#[expect(clippy::too_many_lines, reason = "one entry for each message")]
fn messages() -> Vec<Message<'static>> {
    let subscription = SubscriptionId([9; 32]);
    let resume = Resume {
        actor: ActorId([7; 16]),
        commit: 700,
    };
    let documents: Vec<_> = samples::keys()
        .into_iter()
        .map(|key| DocumentVersion {
            key,
            version: samples::version(),
        })
        .collect();
    let announced = samples::keys().into_iter().map(|key| Announced {
        key,
        version: [4; 8],
    });
    let announced: Vec<_> = announced.collect();
    vec![
        hello(),
        Message::Bye {
            code: 1,
            detail: "done",
        },
        Message::Subscribe(Subscribe {
            has_evicted: false,
            alias: 1,
            subscription,
            priority: 4,
            more: false,
            evicts: true,
            holdings: Holdings::Resume(resume),
            statement: Some("SELECT * FROM airports".to_owned()),
        }),
        Message::Subscribe(Subscribe {
            has_evicted: false,
            alias: 3,
            subscription,
            priority: 4,
            more: false,
            evicts: false,
            holdings: Holdings::Mirrored { alias: 2 },
            statement: None,
        }),
        Message::Subscribe(Subscribe {
            has_evicted: false,
            alias: 2,
            subscription,
            priority: 4,
            more: false,
            evicts: true,
            holdings: Holdings::Sketch {
                summary: SketchSummary {
                    items: 70,
                    xor: [1; 12],
                    check: [2; 8],
                },
                block: block(),
            },
            statement: None,
        }),
        Message::AskHoldings {
            alias: 2,
            symbols: 16,
        },
        Message::Symbols {
            alias: 2,
            block: block(),
        },
        Message::Items(Items {
            lane: lane(),
            alias: 2,
            more: true,
            is_void: false,
            items: vec![[3; 12]; 2],
        }),
        Message::Compared(Compared {
            lane: lane(),
            alias: 2,
            more: false,
            tags: vec![[3; 4]; 2],
            versions: keyed_versions(),
        }),
        Message::Lacks(Lacks {
            alias: 2,
            more: true,
            versions: keyed_versions(),
        }),
        Message::Check(Check {
            alias: Check::ALIAS_MIN,
            collection: samples::keys().remove(0).collection,
            holdings: Holdings::Items(vec![[3; 12]; 2]),
        }),
        Message::Checked(Checked {
            lane: lane(),
            alias: Check::ALIAS_MIN,
            more: false,
            is_void: false,
            is_doubtful: false,
            items: vec![[3; 12]; 2],
            deleted: samples::version(),
            evicted: samples::version(),
            days: vec![DeletedDay {
                day: 20_000,
                heard: 7,
                kept: 5,
            }],
        }),
        Message::Floor {
            lane: lane(),
            floor: Timestamp::new(6, 0),
        },
        Message::Move(Move {
            lane: lane(),
            instance: 4,
            number: 2,
            received: Some([10, 20, 30]),
        }),
        Message::Lost {
            instance: 4,
            number: 2,
        },
        Message::Restart,
        Message::Unheld {
            lane: lane(),
            batch: 2,
        },
        Message::Feed {
            is_fed_by_others: true,
        },
        Message::Pull {
            batch: 2,
            places: vec![0, 3, 200],
        },
        Message::AskStatement { subscription },
        Message::Statement {
            subscription,
            more: true,
            text: "SELECT * FROM airports",
        },
        Message::Unsubscribe { alias: 300 },
        Message::Accept(Accept {
            alias: 1,
            tier: CatchUpTier::Stream,
            from: 0,
        }),
        Message::Refuse {
            alias: 1,
            is_closed: true,
            detail: "no such field",
        },
        Message::Invite { alias: 300 },
        Message::Gossip { bytes: b"gossip" },
        Message::AskReach(AskReach {
            number: 1,
            count: 10,
            statement: "SELECT * FROM c AS d ORDER BY d.k LIMIT 10",
        }),
        Message::Reach(Reach {
            number: 1,
            count: 10,
            told: Told::Place(b"place"),
        }),
        Message::Reach(Reach {
            number: 15,
            count: 40_000,
            told: Told::Refused("no"),
        }),
        Message::Ack {
            lane: lane(),
            consumed_bytes: 70_000,
            batches: 3,
        },
        Message::Transfer(Transfer {
            lane: lane(),
            more: true,
            round: 2,
            raw_bytes: Some(900),
            payload: b"compressed",
        }),
        Message::Have {
            lane: lane(),
            number: 7,
            documents: announced,
        },
        Message::Answer {
            number: 7,
            more: false,
            holdings: vec![
                HeldVersion::Announced,
                HeldVersion::Nothing,
                HeldVersion::Other(samples::version()),
            ],
        },
        Message::Want { documents },
        Message::Resumed {
            is_known: true,
            is_caught_up: false,
        },
    ]
}

fn block() -> SketchBlock {
    let symbol = SketchSymbol {
        xor: [3; 12],
        check: [4; 4],
        count: 5,
    };
    SketchBlock {
        first: 1,
        symbols: vec![symbol; 2],
    }
}

fn keyed_versions() -> Vec<KeyedVersion> {
    let versions = [samples::version(), Default::default()];
    let versions = versions.map(|version| KeyedVersion {
        key: [5; 8],
        version,
    });
    versions.to_vec()
}

fn hello() -> Message<'static> {
    Message::Hello(Hello {
        version_min: 1,
        version_max: 1,
        database: [1; 8],
        actor: ActorId([3; 16]),
        instance: 4,
        timestamp: Timestamp::new(1_700_000_000_000, 5),
        frame_bytes_max: 1 << 18,
        lane_credit_bytes: 1 << 22,
        capabilities: 0,
        gc_floor: Timestamp::new(6, 0),
        choice: 2,
        resumption: Some(Resumption {
            subscriptions: [7; 8],
            actor: [8; 4],
            commit: 9,
        }),
    })
}

fn lane() -> Lane {
    Lane::from_number(1).expect("there is a lane 1")
}

fn run(data: &[u8]) -> Verdict {
    let Ok(message) = Message::decode(data) else {
        return Verdict::Rejected;
    };
    match message {
        // What follows the known part of a HELLO, and all of an extension, is for later versions.
        Message::Hello(_) => assert!(data.starts_with(&message.to_bytes())),
        Message::Extension { .. } => {}
        _ => assert_eq!(message.to_bytes(), data, "one message has one frame"),
    }
    Verdict::Accepted
}

//! Frames that a hostile peer may send, each with fields that are nearly right.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use idem_crdt::Document;
use idem_model::{
    ActorId, DeletedDay, DocumentKey, DocumentOp, Dot, FieldOp, FieldPath, InsertConflict, Lane,
    Object, Stamp, Timestamp, Value, VersionVector, limits,
};
use idem_sync::{
    MemoryReplica, Replica, SubscriptionId,
    sketch::{Item, Salt, Sketch, key_hash},
    subscription_id_of,
};
use idem_wire::{
    Accept, Announced, AskReach, BatchWriter, CatchUpTier, Check, Checked, Compared,
    DocumentVersion, HeldVersion, Hello, Holdings, Items, KeyedVersion, Lacks, Message,
    MessageKind, Move, Reach, Resume, Resumption, SketchBlock, SketchSummary, SketchSymbol,
    Subscribe, Told, Transfer,
};

use super::side::{STATEMENTS, key, selector};
use crate::statements::Choices;

const LANES: [Lane; 4] = [Lane::Interactive, Lane::Bulk, Lane::Control, Lane::Blobs];

/// Who writes what the hostile peer makes up.
const LIAR: ActorId = ActorId([0xee; 16]);

/// What a liar knows when it makes a frame up.
pub(super) struct Scene<'a> {
    /// What both peers hold; the liar has stolen the other one's.
    pub(super) own: &'a MemoryReplica,
    pub(super) other: &'a MemoryReplica,
    /// What the liar said when it introduced itself.
    pub(super) hello: Option<&'a Hello>,
    pub(super) salt: Salt,
    /// Bytes of frames that the other side sent on this link, by lane.
    pub(super) received: &'a BTreeMap<Lane, u64>,
    /// How many changes were made up so far.
    pub(super) changes: &'a Cell<u64>,
}

impl Scene<'_> {
    /// A frame of a kind. Whoever adds a kind adds its lie here.
    #[expect(clippy::too_many_lines, reason = "one entry for each kind of message")]
    pub(super) fn lie(&self, kind: MessageKind, choices: &mut Choices<'_>) -> Vec<u8> {
        let lane = choices.of(&LANES);
        let alias = alias(choices);
        let message = match kind {
            MessageKind::Hello => match self.hello(choices) {
                Some(hello) => Message::Hello(hello),
                None => return Vec::new(),
            },
            MessageKind::Bye => Message::Bye {
                code: choices.of(&[0, 4, 9, 77]),
                detail: "so long",
            },
            MessageKind::Subscribe => Message::Subscribe(self.subscribe(alias, choices)),
            MessageKind::AskStatement => Message::AskStatement {
                subscription: subscription(choices),
            },
            MessageKind::Statement => Message::Statement {
                subscription: subscription(choices),
                more: choices.percent(20),
                text: statement(choices),
            },
            MessageKind::Unsubscribe => Message::Unsubscribe { alias },
            MessageKind::Accept => Message::Accept(Accept {
                alias,
                tier: choices.of(&[
                    CatchUpTier::Stream,
                    CatchUpTier::Resume,
                    CatchUpTier::Difference,
                ]),
                from: commit(self.own, choices),
            }),
            MessageKind::Refuse => Message::Refuse {
                alias,
                is_closed: choices.percent(50),
                detail: "not today",
            },
            MessageKind::Invite => Message::Invite { alias },
            MessageKind::Ack => self.ack(choices),
            MessageKind::Transfer => return self.transfer(lane, choices),
            MessageKind::Have => Message::Have {
                lane,
                number: choices.of(&[1, 0, 2, u64::MAX]),
                documents: self.announced(choices),
            },
            MessageKind::Answer => Message::Answer {
                number: choices.of(&[1, 0, 2, 3, u64::MAX]),
                more: choices.percent(30),
                holdings: self.held_versions(choices),
            },
            MessageKind::Compared => Message::Compared(Compared {
                lane,
                alias,
                more: choices.percent(30),
                tags: self.items(choices).iter().map(tag).collect(),
                versions: self.keyed_versions(choices),
            }),
            MessageKind::Lacks => Message::Lacks(Lacks {
                alias,
                more: choices.percent(30),
                versions: self.keyed_versions(choices),
            }),
            MessageKind::Check => Message::Check(Check {
                alias: check_alias(choices),
                collection: key(choices).collection,
                holdings: match choices.percent(50) {
                    true => Holdings::Sketch {
                        summary: self.summary(choices),
                        block: self.block(choices),
                    },
                    false => Holdings::Items(self.few_items(choices)),
                },
            }),
            MessageKind::Checked => Message::Checked(Checked {
                lane,
                alias: check_alias(choices),
                more: choices.percent(30),
                is_void: choices.percent(20),
                is_doubtful: choices.percent(40),
                items: self.items(choices),
                deleted: self.covering(choices),
                evicted: self.covering(choices),
                days: days(choices),
            }),
            MessageKind::Floor => Message::Floor {
                lane,
                floor: Timestamp(choices.of(&[0, 1 << 16, u64::MAX])),
            },
            MessageKind::Move => Message::Move(self.moving(lane, choices)),
            MessageKind::Lost => Message::Lost {
                instance: choices.of(&[0, 1, 2, 3, u64::MAX]),
                number: choices.of(&[0, 1, 2, 3, u64::MAX]),
            },
            MessageKind::Restart => Message::Restart,
            MessageKind::Unheld => Message::Unheld {
                lane,
                batch: choices.of(&[0, 1, 2, 3, u64::MAX]),
            },
            MessageKind::Feed => Message::Feed {
                is_fed_by_others: choices.percent(70),
            },
            MessageKind::Pull => Message::Pull {
                batch: choices.of(&[0, 1, 2, 3, u64::MAX]),
                places: (0..choices.of(&[1, 2, 512])).collect(),
            },
            MessageKind::Want => Message::Want {
                documents: self.versions(choices),
            },
            MessageKind::Resumed => Message::Resumed {
                is_known: choices.percent(50),
                is_caught_up: choices.percent(50),
            },
            MessageKind::AskHoldings => Message::AskHoldings {
                alias,
                symbols: choices.of(&[0, 1, 16, 400, 4_047, u32::MAX]),
            },
            MessageKind::Symbols => Message::Symbols {
                alias,
                block: self.block(choices),
            },
            MessageKind::Items => Message::Items(Items {
                lane,
                alias,
                more: choices.percent(30),
                is_void: choices.percent(10),
                items: self.items(choices),
            }),
            MessageKind::Gossip => Message::Gossip {
                bytes: choices.of(&[&b"\x01"[..], &[7; 500]]),
            },
            MessageKind::AskReach => Message::AskReach(AskReach {
                number: choices.of(&[0, 1, 15]),
                count: choices.of(&[1, 2, 40_000]),
                statement: choices.of(&[
                    "SELECT * FROM c AS d ORDER BY d.k LIMIT 2",
                    "SELECT * FROM c AS d WHERE (d.k = 1) ORDER BY d.k DESC, d.n LIMIT 1",
                    "SELECT * FROM c",
                    "SELECT",
                ]),
            }),
            MessageKind::Reach => Message::Reach(Reach {
                number: choices.of(&[0, 1, 15]),
                count: choices.of(&[1, 2, 40_000]),
                told: choices.of(&[Told::Place(b""), Told::Place(b"\x07"), Told::Refused("no")]),
            }),
            MessageKind::Extension => Message::Extension {
                number: choices.of(&[0x80, 0xff]),
            },
        };
        message.to_bytes()
    }

    fn hello(&self, choices: &mut Choices<'_>) -> Option<Hello> {
        let mut hello = self.hello?.clone();
        match choices.below(12) {
            0 => {}
            10 => hello.choice = choices.of(&[0, 1, 2, 3, u64::MAX]),
            9 => hello.capabilities = choices.of(&[0, 1, 2, 3, 4, 6, u64::MAX]),
            1 => hello.version_min = choices.of(&[0, 2, u16::MAX]),
            2 => hello.database = [1; 8],
            3 => hello.actor = choices.of(&[LIAR, self.other.actor()]),
            4 => hello.instance = choices.below(3) as u64,
            5 => hello.timestamp = Timestamp(choices.of(&[0, u64::MAX])),
            6 => hello.frame_bytes_max = choices.of(&[0, 16_383, 16_384, u32::MAX]),
            7 => hello.lane_credit_bytes = choices.of(&[0, 32_768, u32::MAX]),
            8 => {
                hello.resumption = Some(Resumption {
                    subscriptions: hello.resumption.map_or([0; 8], |it| it.subscriptions),
                    actor: *self.other.actor().0.first_chunk()?,
                    commit: commit(self.other, choices),
                });
            }
            _ => hello.gc_floor = Timestamp(choices.of(&[1, u64::MAX])),
        }
        Some(hello)
    }

    fn moving(&self, lane: Lane, choices: &mut Choices<'_>) -> Move {
        let received = |lane| {
            let received = self.received.get(&lane).copied().unwrap_or(0);
            choices.of(&[received, received, received, 0, received + 1, u64::MAX])
        };
        let received = [Lane::Control, Lane::Interactive, Lane::Bulk].map(received);
        Move {
            lane,
            instance: choices.of(&[self.hello.map_or(0, |it| it.instance), 1, 2]),
            number: choices.of(&[2, 1, 3, 0, 9, u64::MAX]),
            received: choices.percent(80).then_some(received),
        }
    }

    fn subscribe(&self, alias: u32, choices: &mut Choices<'_>) -> Subscribe {
        let holdings = match choices.below(5) {
            4 => Holdings::Mirrored {
                alias: choices.of(&[1, 2, 3, 0, u32::MAX]),
            },
            0 => Holdings::Nothing,
            1 => Holdings::Resume(Resume {
                actor: choices.of(&[self.other.actor(), LIAR]),
                commit: commit(self.other, choices),
            }),
            2 => Holdings::Items(self.few_items(choices)),
            _ => Holdings::Sketch {
                summary: self.summary(choices),
                block: self.block(choices),
            },
        };
        Subscribe {
            alias,
            subscription: subscription(choices),
            priority: choices.of(&[0, 1, 255]),
            holdings,
            has_evicted: choices.percent(50),
            statement: choices.percent(60).then(|| statement(choices).to_owned()),
            more: choices.percent(20),
            evicts: choices.percent(30),
        }
    }

    fn ack(&self, choices: &mut Choices<'_>) -> Message<'static> {
        let lane = choices.of(&LANES);
        let received = self.received.get(&lane).copied().unwrap_or(0);
        Message::Ack {
            lane,
            consumed_bytes: match choices.below(4) {
                0 => received,
                1 => received / 2,
                2 => received + 1,
                _ => 0,
            },
            batches: choices.of(&[0, 1, 2, 5, u64::MAX]),
        }
    }

    fn transfer(&self, lane: Lane, choices: &mut Choices<'_>) -> Vec<u8> {
        let batch = match choices.weighted(&[8, 1, 1]) {
            0 => self.batch(choices),
            1 => garbage(choices),
            // A document that claims to have 100 MB.
            _ => {
                let mut bytes = self.batch(choices);
                let at = choices.below(bytes.len().max(1)).min(bytes.len());
                bytes.splice(at..at, [0x80, 0xc2, 0xd7, 0x2f]);
                bytes
            }
        };
        let (payload, raw_bytes) = match choices.weighted(&[6, 3, 1]) {
            0 => (batch, None),
            1 => {
                let len = u32::try_from(batch.len()).expect("short");
                (lz4_flex::block::compress(&batch), Some(len))
            }
            _ => (batch, Some(choices.of(&[0, 100, 262_144]))),
        };
        Message::Transfer(Transfer {
            lane,
            more: choices.percent(20),
            round: choices.of(&[0, 0, 0, 1, 2, 63]),
            raw_bytes,
            payload: &payload,
        })
        .to_bytes()
    }

    fn batch(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let mut writer = BatchWriter::new();
        for _ in 0..choices.below(4) {
            let key = key(choices);
            let (is_delta, state) = self.state(&key, choices);
            writer.document(&key, is_delta, &state);
            if choices.percent(30) {
                writer.mark_left();
            }
            if choices.percent(60) {
                writer.end_group();
            }
        }
        for _ in 0..choices.below(3) {
            let commit = commit(self.own, choices);
            writer.cursor(alias(choices), commit, choices.percent(50));
        }
        writer.into_bytes()
    }

    /// A state of a document, and whether it is a delta.
    fn state(&self, key: &DocumentKey, choices: &mut Choices<'_>) -> (bool, Vec<u8>) {
        let replica = choices.of(&[self.own, self.other]);
        let held = replica.documents().find(|(it, _)| *it == key);
        let mut document = held.map_or_else(Document::new, |(_, it)| it.clone());
        let base = match choices.below(3) {
            0 => document.version().clone(),
            1 => VersionVector::new(),
            _ => VersionVector::from_iter([Dot {
                actor: LIAR,
                n: 1 << 40,
            }]),
        };
        match choices.weighted(&[2, 4, 1, 1]) {
            0 => {}
            1 => self.edit(&mut document, 1 + replica.timestamp().unix_ms()),
            // A stamp of a far future.
            2 => self.edit(&mut document, 1 << 44),
            _ => return (choices.percent(50), garbage(choices)),
        }
        let is_delta = choices.percent(40);
        let mut bytes = match is_delta {
            true => document.delta(&base).to_bytes(),
            false => document.to_bytes(),
        };
        if choices.percent(10) {
            bytes.truncate(choices.below(256));
        }
        (is_delta, bytes)
    }

    /// Changes a document in the liar's name. It claims no change of another actor: two contents
    /// under one name would never converge.
    fn edit(&self, document: &mut Document, unix_ms: u64) {
        self.changes.set(self.changes.get() + 1);
        let stamp = Stamp {
            dot: Dot {
                actor: LIAR,
                n: self.changes.get(),
            },
            time: Timestamp::new(unix_ms, 0),
        };
        let value = Value::from("a lie");
        let operation = match document.is_present() {
            true => DocumentOp::Update(vec![FieldOp::Set {
                path: FieldPath::field("text"),
                value,
                kind: None,
            }]),
            false => DocumentOp::Insert {
                fields: Object::from([("text".to_owned(), value)]),
                kinds: Vec::new(),
                conflict: InsertConflict::DoUpdate,
            },
        };
        document.apply(&operation, stamp).expect("a legal edit");
    }

    fn versions(&self, choices: &mut Choices<'_>) -> Vec<DocumentVersion> {
        let count = choices.of(&[0, 1, 2, 20]);
        let versions = (0..count).map(|_| {
            let key = key(choices);
            let replica = choices.of(&[self.other, self.own]);
            let held = replica.documents().find(|(it, _)| **it == key);
            let version = held.map_or_else(VersionVector::new, |(_, it)| it.version().clone());
            let version = match choices.below(3) {
                0 => version,
                1 => VersionVector::from_iter([Dot { actor: LIAR, n: 7 }]),
                _ => {
                    let mut more = version;
                    let actor = self.other.actor();
                    more.include(Dot { actor, n: 1 << 30 });
                    more
                }
            };
            DocumentVersion { key, version }
        });
        versions.collect()
    }

    fn announced(&self, choices: &mut Choices<'_>) -> Vec<Announced> {
        let is_true = choices.percent(50);
        let versions = self.versions(choices).into_iter();
        let announced = versions.map(|DocumentVersion { key, version }| {
            let item = Item::of(&self.salt, &key.collection, &key.id, &version);
            let version = if is_true { item.version } else { [5; 8] };
            Announced { key, version }
        });
        announced.collect()
    }

    fn held_versions(&self, choices: &mut Choices<'_>) -> Vec<HeldVersion> {
        let count = choices.of(&[1, 0, 2, 3, 513]);
        let kind = choices.below(4);
        let held = (0..count).map(|place| match (kind + place) % 4 {
            0 => HeldVersion::Nothing,
            1 => HeldVersion::Announced,
            2 => HeldVersion::Other(VersionVector::from_iter([Dot { actor: LIAR, n: 3 }])),
            _ => HeldVersion::Unnamed,
        });
        held.take(limits::VERSIONS_PER_FRAME_MAX).collect()
    }

    /// What covers nothing, something, or all that the other side wrote.
    fn keyed_versions(&self, choices: &mut Choices<'_>) -> Vec<KeyedVersion> {
        let versions = self.versions(choices).into_iter();
        let keyed = versions.map(|DocumentVersion { key, version }| KeyedVersion {
            key: key_hash(&self.salt, &key.collection, &key.id.to_key()),
            version,
        });
        keyed.collect()
    }

    fn covering(&self, choices: &mut Choices<'_>) -> VersionVector {
        let actor = self.other.actor();
        let n = choices.of(&[0, 1, 1 << 40]);
        let dots = (n > 0).then_some(Dot { actor, n });
        dots.into_iter().collect()
    }

    /// The items of what is held, some of them wrong.
    fn held_items(&self, choices: &mut Choices<'_>) -> Vec<Item> {
        let replica = choices.of(&[self.own, self.other]);
        let skip = choices.below(8);
        let documents = replica.documents().skip(skip);
        let mut items: Vec<Item> = documents
            .map(|(key, document)| {
                Item::of(&self.salt, &key.collection, &key.id, document.version())
            })
            .collect();
        for _ in 0..choices.of(&[0, 1, 30, 200]) {
            let byte = u8::try_from(choices.below(256)).expect("a byte");
            let place = (items.len() % 251) as u8;
            items.push(Item::from_bytes([byte.wrapping_add(place); Item::BYTES]));
        }
        items
    }

    fn items(&self, choices: &mut Choices<'_>) -> Vec<[u8; 12]> {
        let items = self.held_items(choices).into_iter();
        items.map(Item::to_bytes).collect()
    }

    fn few_items(&self, choices: &mut Choices<'_>) -> Vec<[u8; 12]> {
        let mut items = self.items(choices);
        items.truncate(limits::SUBSCRIBE_ITEMS_MAX);
        items
    }

    fn sketch(&self, choices: &mut Choices<'_>) -> Sketch {
        let items = self.held_items(choices);
        Sketch::of(self.salt, items, limits::SKETCH_SYMBOLS_MAX)
    }

    fn summary(&self, choices: &mut Choices<'_>) -> SketchSummary {
        let mut summary = self.sketch(choices).summary();
        match choices.weighted(&[6, 1, 1]) {
            0 => {}
            1 => summary.items = choices.of(&[0, 1, u64::MAX]),
            _ => summary.check = [1; 8],
        }
        summary
    }

    fn block(&self, choices: &mut Choices<'_>) -> SketchBlock {
        let first = choices.of(&[1, 1, 49, 5, 4_095]);
        let count = choices.of(&[48, 1, 16, 400]);
        if choices.percent(20) {
            let symbol = SketchSymbol {
                xor: [3; 12],
                check: [0; 4],
                count: choices.of(&[1, 255, 0]),
            };
            let symbols = vec![symbol; count.min(limits::SKETCH_SYMBOLS_MAX - first) as usize];
            return SketchBlock { first, symbols };
        }
        let count = count.min(limits::SKETCH_SYMBOLS_MAX - first);
        self.sketch(choices).block(first, count)
    }
}

fn alias(choices: &mut Choices<'_>) -> u32 {
    choices.of(&[1, 2, 3, 4, 5, 6, 9, 20, 300, u32::MAX])
}

fn check_alias(choices: &mut Choices<'_>) -> u32 {
    let first = Check::ALIAS_MIN;
    choices.of(&[first, first + 1, first + 2, u32::MAX])
}

fn subscription(choices: &mut Choices<'_>) -> SubscriptionId {
    match choices.below(STATEMENTS.len() + 1) {
        place if place < STATEMENTS.len() => subscription_id_of(&selector(place)),
        _ => SubscriptionId([7; 32]),
    }
}

fn statement(choices: &mut Choices<'_>) -> &'static str {
    match choices.below(STATEMENTS.len() + 2) {
        place if place < STATEMENTS.len() => STATEMENTS[place],
        place if place == STATEMENTS.len() => "SELECT * FROM things ORDER BY n LIMIT 2",
        _ => "DELETE FROM things",
    }
}

fn commit(replica: &MemoryReplica, choices: &mut Choices<'_>) -> u64 {
    let last = replica.last_commit();
    choices.of(&[last, 0, 1, last / 2, last + 1, u64::MAX])
}

fn garbage(choices: &mut Choices<'_>) -> Vec<u8> {
    let len = choices.of(&[0, 1, 9, 60, 400]);
    let start = choices.below(256);
    (0..len).map(|at| ((start + at * 7) % 256) as u8).collect()
}

fn tag(item: &[u8; 12]) -> [u8; 4] {
    let [a, b, c, d, ..] = *item;
    [a, b, c, d]
}

/// Sums of deletions, some of which are those of other answers.
fn days(choices: &mut Choices<'_>) -> Vec<DeletedDay> {
    let mut days = BTreeSet::new();
    for _ in 0..choices.below(4) {
        days.insert(DeletedDay {
            day: choices.of(&[0, 11, 12, u32::MAX]),
            heard: choices.of(&[0, 1, 2, u64::MAX]),
            kept: choices.of(&[0, 1, u64::MAX]),
        });
    }
    days.into_iter().collect()
}

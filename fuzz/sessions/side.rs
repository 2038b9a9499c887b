//! One of two peers: a session, its replica and what it asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    time::Duration,
};

use idem_crdt::Document;
use idem_model::{
    ActorId, CollectionName, DatabaseId, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath,
    InsertConflict, Object, PeerId, Value, VersionVector, limits,
};
use idem_query::Selector;
use idem_sync::{
    Incoming, IncomingState, MemoryReplica, OnLeave, Priority, Replica, ScopeFilter, ScopeItem,
    Session, SessionConfig, SubscriptionId, SubscriptionTerms, subscription_id_of,
};

use crate::statements::Choices;

pub(super) const DATABASE: DatabaseId = DatabaseId([9; 16]);

/// What may be subscribed to, each by its place.
pub(super) const STATEMENTS: [&str; 5] = [
    "SELECT * FROM things",
    "SELECT * FROM things WHERE n > 2",
    "SELECT * FROM others",
    "SELECT * FROM things WHERE by = 1",
    "SELECT * FROM secrets",
];

pub(super) const COLLECTIONS: [&str; 3] = ["things", "others", "secrets"];

/// Documents of a collection.
const IDS: usize = 12;

/// Bytes that one session may keep waiting: its answers, and for each lane a batch that is being sent
/// and one that is coming in. Schedules are far too short for the largest batches.
const QUEUED_BYTES_MAX: u64 = 12 << 20;

#[derive(Debug)]
pub(super) struct Side {
    pub(super) number: u8,
    pub(super) session: Session,
    pub(super) replica: MemoryReplica,
    /// The places of [`STATEMENTS`] that are asked for, and on which terms.
    pub(super) wants: BTreeMap<usize, (SubscriptionId, SubscriptionTerms)>,
    /// Collections of which documents may be here.
    allowed: BTreeSet<CollectionName>,
    /// The versions that were evicted here: who evicts a document, and may make it anew, does not ask for
    /// what it evicted.
    evicted: BTreeMap<DocumentKey, VersionVector>,
    pub(super) is_durable_at_once: bool,
    pub(super) now_ms: u64,
    lives: u64,
}

impl Side {
    pub(super) fn new(number: u8) -> Self {
        Self {
            number,
            session: session(number, 1),
            replica: MemoryReplica::new(ActorId([number; 16]), NOW_MS),
            wants: BTreeMap::new(),
            allowed: BTreeSet::new(),
            evicted: BTreeMap::new(),
            is_durable_at_once: true,
            now_ms: NOW_MS,
            lives: 1,
        }
    }

    pub(super) fn subscribe(&mut self, choices: &mut Choices<'_>) {
        let place = choices.below(STATEMENTS.len());
        let terms = SubscriptionTerms {
            priority: Priority::Normal,
            on_leave: match choices.percent(40) {
                true => OnLeave::Evict,
                false => OnLeave::Keep,
            },
        };
        let selector = selector(place);
        self.allowed.insert(selector.collection().clone());
        let id = self.session.subscribe(&selector, terms);
        if self.wants.contains_key(&place) {
            // A second use of the same would have to be given back too.
            self.session.unsubscribe(id.expect("few subscriptions"));
            return;
        }
        let id = id.expect("few subscriptions");
        self.wants.insert(place, (id, terms));
        self.note_subscriptions();
    }

    pub(super) fn unsubscribe(&mut self, place: usize) {
        if let Some((id, _)) = self.wants.remove(&place) {
            self.session.unsubscribe(id);
            self.note_subscriptions();
        }
    }

    fn note_subscriptions(&mut self) {
        let selectors: Vec<_> = self.wants.keys().map(|place| selector(*place)).collect();
        self.replica.set_subscriptions(selectors);
    }

    /// One transaction of up to three documents.
    pub(super) fn write(&mut self, choices: &mut Choices<'_>) {
        let mut operations = Vec::new();
        for _ in 0..=choices.below(3) {
            let key = key(choices);
            self.allowed.insert(key.collection.clone());
            operations.push((key, operation(self.number, choices)));
        }
        // Some are impossible, as an update of nothing.
        let _ = self.replica.commit(&operations);
    }

    pub(super) fn evict(&mut self, choices: &mut Choices<'_>) {
        let key = key(choices);
        let held = self.replica.documents().find(|(it, _)| **it == key);
        if let Some((_, document)) = held {
            let version = document.version().clone();
            self.evicted.entry(key.clone()).or_default().join(&version);
        }
        self.replica.evict_documents(&[key]);
    }

    pub(super) fn committed(&mut self, now: Duration) {
        if self.is_durable_at_once {
            self.replica.make_durable();
        }
        self.session.handle_commit(now, &mut self.replica);
        while self.session.poll_event().is_some() {}
    }

    /// The process dies and starts again.
    pub(super) fn restart(&mut self) {
        self.replica.crash();
        self.start_session();
    }

    fn start_session(&mut self) {
        self.lives += 1;
        self.session = session(self.number, self.lives);
        for (place, (id, terms)) in &mut self.wants {
            let again = self.session.subscribe(&selector(*place), *terms);
            *id = again.expect("few subscriptions");
        }
        self.note_subscriptions();
    }

    /// An honest peer takes the place of this one, with its documents and nothing else of it: what a
    /// liar noted of its progress is a lie as well.
    pub(super) fn reform(&mut self) {
        let documents = self.replica.documents();
        let incoming = documents.map(|(key, document)| Incoming {
            key: key.clone(),
            group: 0,
            state: IncomingState::Whole(document.to_bytes()),
        });
        let incoming: Vec<_> = incoming.collect();
        self.lives += 1;
        let actor = ActorId([0x80 | self.number; 16].map(|byte| byte ^ (self.lives as u8 & 0x3f)));
        self.replica = MemoryReplica::new(actor, self.now_ms);
        for incoming in incoming {
            let Ok(report) = self.replica.apply(vec![incoming], &[]);
            assert!(report.is_applied(), "they were held before");
        }
        self.replica.make_durable();
        self.evicted.clear();
        self.is_durable_at_once = true;
        self.start_session();
    }

    pub(super) fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.replica.set_now_ms(now_ms);
    }

    /// What must hold of an honest peer whatever it was told.
    pub(super) fn check(&self) {
        let stats = self.session.stats();
        assert!(
            stats.queued_bytes <= QUEUED_BYTES_MAX,
            "{} bytes wait",
            stats.queued_bytes
        );
        assert!(stats.known_versions <= limits::KNOWN_VERSIONS_MAX as u64);
    }

    /// What must hold of what an honest peer has stored.
    pub(super) fn check_documents(&self) {
        for (key, document) in self.replica.documents() {
            assert!(
                self.allowed.contains(&key.collection),
                "{key:?} was never asked for"
            );
            let bytes = document.to_bytes();
            assert!(bytes.len() <= limits::DOCUMENT_MERGED_BYTES_MAX);
            let read = Document::decode(&bytes).expect("what is stored can be read");
            assert_eq!(&read, document, "{key:?} survives being stored");
        }
    }

    /// The documents that are in no quarantine.
    fn travelling(&self) -> BTreeSet<DocumentKey> {
        let mut keys = BTreeSet::new();
        for place in [0, 2, 4] {
            let selector = selector(place);
            let (name, id) = (selector.collection(), subscription_id_of(&selector));
            let visit = &mut |item: &ScopeItem<'_>| {
                keys.insert(item.key(name).expect("written by ourselves"));
                ControlFlow::Continue(())
            };
            let Ok(_) = self
                .replica
                .scan_scope(id, &selector, ScopeFilter::All, visit);
        }
        keys
    }

    /// What `other` lacks of what it asks this side for; `None` if nothing.
    pub(super) fn missing_at(&self, other: &Self) -> Option<String> {
        let travelling = self.travelling();
        for (key, document) in self.replica.documents() {
            // A liar may have had it put into quarantine.
            if !travelling.contains(key) {
                continue;
            }
            let held = other.replica.documents().find(|(it, _)| *it == key);
            let held = held.map(|(_, document)| document);
            let mut covered = held.map_or_else(VersionVector::new, |it| it.version().clone());
            if let Some(evicted) = other.evicted.get(key) {
                covered.join(evicted);
            }
            if covered.covers_all(document.version()) {
                continue;
            }
            let is_wanted = other.wants.keys().any(|place| {
                let selector = selector(*place);
                let is_here = *selector.collection() == key.collection;
                is_here && is_selected(&selector, key, document, held.is_some())
            });
            if is_wanted {
                let number = other.number;
                return Some(format!(
                    "peer {number} lacks {} {:?} at {:?}, holds {:?}",
                    key.collection.as_str(),
                    key.id.as_value(),
                    document.version(),
                    held.map(Document::version)
                ));
            }
        }
        None
    }
}

fn is_selected(selector: &Selector, key: &DocumentKey, document: &Document, is_held: bool) -> bool {
    match document.fields() {
        // That it was deleted matters to who has it.
        None => is_held,
        Some(mut fields) => {
            fields.insert("_id".to_owned(), key.id.as_value().clone());
            selector.matches(&fields)
        }
    }
}

/// 2020, in milliseconds.
const NOW_MS: u64 = 1_577_836_800_000;

fn session(number: u8, life: u64) -> Session {
    Session::new(SessionConfig {
        database: DATABASE,
        local: PeerId([number; 32]),
        remote: PeerId([3 - number; 32]),
        seed: seed(number, life),
    })
}

/// What the session of a side introduces itself with.
fn seed(number: u8, life: u64) -> u64 {
    u64::from(number) << 32 | life
}

pub(super) fn selector(place: usize) -> Selector {
    let statement = idem_query::parse(STATEMENTS[place]).expect("a statement");
    let selector = statement.subscription(&Object::new());
    selector.expect("a subscription")
}

pub(super) fn key(choices: &mut Choices<'_>) -> DocumentKey {
    let name = COLLECTIONS[choices.weighted(&[6, 2, 1])];
    let id = format!("d{}", choices.below(IDS));
    DocumentKey {
        collection: CollectionName::new(name).expect("a name"),
        id: DocId::new(Value::from(id)).expect("an id"),
    }
}

pub(super) fn operation(number: u8, choices: &mut Choices<'_>) -> DocumentOp {
    let set = |name: &str, value| {
        DocumentOp::Update(vec![FieldOp::Set {
            path: FieldPath::field(name),
            value,
            kind: None,
        }])
    };
    match choices.weighted(&[6, 4, 1, 2]) {
        0 => DocumentOp::Insert {
            fields: Object::from([
                ("n".to_owned(), number_of(choices)),
                ("by".to_owned(), Value::from(i64::from(number))),
                ("text".to_owned(), text(choices)),
            ]),
            kinds: Vec::new(),
            conflict: InsertConflict::DoUpdate,
        },
        1 => set("n", number_of(choices)),
        2 => set("text", text(choices)),
        _ => DocumentOp::Delete,
    }
}

fn number_of(choices: &mut Choices<'_>) -> Value {
    Value::from(i64::try_from(choices.below(6)).expect("small"))
}

/// Text of a length around those from which documents are compressed, announced or cut.
fn text(choices: &mut Choices<'_>) -> Value {
    let len = choices.of(&[3, 150, 900, 1_100, 20_000]);
    let start = choices.below(256);
    let letters = (0..len).map(|at| char::from(b'a' + ((start + at * at) % 26) as u8));
    Value::from(letters.collect::<String>())
}

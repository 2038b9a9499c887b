//! What two peers may say to each other, in bytes and round trips: exact counts under ceilings.
//!
//! `cargo test -p idem-sim --test it ceilings -- --nocapture` prints the table. A debug build holds a
//! tenth of the documents, because it is slow; the gate runs the full size in release.

mod fields;

use idem_model::{
    ActorId, CollectionName, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath, InsertConflict,
    Object, Value,
};
use idem_sim::{Pair, Traffic};
use idem_sync::{Incoming, IncomingState, MemoryReplica, Replica};

/// How many documents the large scenarios hold.
const DOCUMENTS: u64 = if cfg!(debug_assertions) {
    10_000
} else {
    100_000
};

const EVERYTHING: &str = "SELECT * FROM things";

/// One document in a hundred is of the lot that a subscription selects.
const LOT: &str = "SELECT * FROM things WHERE lot = 7";

/// A scenario with what it may cost.
struct Row {
    scenario: &'static str,
    ceiling: Cost,
    run: fn(&Stock) -> Cost,
}

/// What a scenario costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    /// Bytes of frames in both directions. Where documents must travel, without what is sent of them,
    /// be it the whole or a delta, before it is compressed.
    bytes: u64,
    /// Round trips until both sides know that they are in step.
    round_trips: u64,
    /// Documents that travel, whole or as deltas.
    documents: u64,
}

const ROWS: &[Row] = &[
    Row {
        scenario: "equal documents, reconnect",
        ceiling: cost(200, 1, 0),
        run: reconnect,
    },
    Row {
        scenario: "10 changed, peers that never met",
        ceiling: cost(1_536, 1, 10),
        run: |stock| never_met(stock, 10),
    },
    Row {
        scenario: "1 in 100 changed, peers that never met",
        ceiling: cost(71_680, 4, DOCUMENTS / 100),
        run: |stock| never_met(stock, DOCUMENTS / 100),
    },
    Row {
        scenario: "10 changed on both sides",
        ceiling: cost(1_536, 1, 10),
        run: |stock| never_met_both_ways(stock, 10),
    },
    Row {
        scenario: "1 in 100 changed on both sides",
        ceiling: cost(71_680, 4, DOCUMENTS / 100),
        run: |stock| never_met_both_ways(stock, DOCUMENTS / 100),
    },
    Row {
        scenario: "one field of a 20 kB document changed",
        ceiling: cost(200, 0, 1),
        run: one_field,
    },
    Row {
        scenario: "ten edits while the link is busy",
        ceiling: cost(400, 0, 1),
        run: ten_edits,
    },
    Row {
        scenario: "half evicted, reconnect",
        ceiling: cost(200, 1, 0),
        run: |stock| half_evicted(stock, true),
    },
    Row {
        scenario: "half evicted, peers that never met",
        ceiling: cost(1_536, 1, 0),
        run: |stock| half_evicted(stock, false),
    },
    Row {
        scenario: "new subscription, 990 of 1,000 held",
        ceiling: cost(2_048, 1, 10),
        run: new_subscription,
    },
];

const fn cost(bytes: u64, round_trips: u64, documents: u64) -> Cost {
    Cost {
        bytes,
        round_trips,
        documents,
    }
}

impl Cost {
    fn is_within(self, ceiling: Self) -> bool {
        self.bytes <= ceiling.bytes
            && self.round_trips <= ceiling.round_trips
            && self.documents <= ceiling.documents
    }
}

#[test]
fn ceilings() {
    let stock = Stock::new();
    let mut broken = Vec::new();
    println!(
        "{:42} {:>10} {:>4} {:>7}   ceiling",
        "scenario", "bytes", "RTs", "docs"
    );
    for row in ROWS {
        let Row {
            scenario, ceiling, ..
        } = row;
        let found = (row.run)(&stock);
        let verdict = match found.is_within(*ceiling) {
            true => "",
            false => "BROKEN",
        };
        println!(
            "{scenario:42} {:>10} {:>4} {:>7}   {} B, {} RT, {} documents  {verdict}",
            found.bytes,
            found.round_trips,
            found.documents,
            ceiling.bytes,
            ceiling.round_trips,
            ceiling.documents
        );
        if !found.is_within(*ceiling) {
            broken.push(format!("{scenario}: {found:?} over {ceiling:?}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

// The scenarios.

fn reconnect(stock: &Stock) -> Cost {
    let mut pair = stock.pair();
    subscribe_both(&mut pair, EVERYTHING);
    pair.mark_in_step();
    // They have met before, so each knows what the other asks for.
    pair.connect();
    pair.run_to_rest();
    pair.disconnect();
    pair.connect();
    let traffic = pair.run_to_rest();
    Cost::of(&traffic, traffic.round_trips())
}

/// One side has changed some documents, and the other one wants them.
fn never_met(stock: &Stock, changed: u64) -> Cost {
    let mut pair = stock.pair();
    pair.subscribe(1, EVERYTHING).expect("few subscriptions");
    for number in 0..changed {
        let key = key(number * (DOCUMENTS / changed));
        let operation = (key, set("name", format!("changed {number}")));
        pair.commit(0, &[operation]).expect("it is there");
    }
    pair.connect();
    let traffic = pair.run_to_rest();
    assert!(pair.holds_the_same(), "they converge");
    Cost::of_exchange(&traffic, traffic.round_trips_established())
}

fn never_met_both_ways(stock: &Stock, changed: u64) -> Cost {
    let mut pair = stock.pair();
    subscribe_both(&mut pair, EVERYTHING);
    // Some in the middle, some that only this side has, changed by either side.
    for number in 0..changed {
        let side = usize::from(number % 2 == 1);
        let key = key(number * (DOCUMENTS / changed));
        let operation = (key, set("name", format!("changed {number}")));
        pair.commit(side, &[operation]).expect("it is there");
    }
    pair.connect();
    let traffic = pair.run_to_rest();
    assert!(pair.holds_the_same(), "they converge");
    Cost::of_exchange(&traffic, traffic.round_trips_established())
}

fn one_field(_: &Stock) -> Cost {
    let mut pair = Pair::new(empty(1), empty(2));
    subscribe_both(&mut pair, EVERYTHING);
    pair.connect();
    let fields = (0..200).map(|number| (format!("field{number}"), text(number, 100)));
    let operation = (key(0), insert(fields.collect()));
    pair.commit(0, &[operation]).expect("a valid document");
    pair.run_to_rest();
    assert!(held_bytes(pair.replica(1), &key(0)) > 20_000);
    let operation = (key(0), set("field77", "changed"));
    pair.commit(0, &[operation]).expect("it is there");
    let traffic = pair.run_to_rest();
    assert!(pair.holds_the_same(), "they converge");
    assert_eq!(traffic.deltas(), 1, "{traffic:?}");
    Cost::of(&traffic, Some(0))
}

fn ten_edits(_: &Stock) -> Cost {
    let mut pair = Pair::new(empty(1), empty(2));
    subscribe_both(&mut pair, EVERYTHING);
    pair.connect();
    let fields = Object::from([("note".to_owned(), text(1, 200))]);
    let operation = (key(0), insert(fields));
    pair.commit(0, &[operation]).expect("a valid document");
    pair.run_to_rest();
    pair.hold(0, true);
    for edit in 0..10 {
        let operation = (key(0), set(&format!("edit{edit}"), edit));
        pair.commit(0, &[operation]).expect("it is there");
        pair.run_to_rest();
    }
    pair.hold(0, false);
    let traffic = pair.run_to_rest();
    assert!(pair.holds_the_same(), "they converge");
    assert_eq!(traffic.deltas(), 1, "{traffic:?}");
    Cost::of(&traffic, Some(0))
}

fn half_evicted(stock: &Stock, have_met: bool) -> Cost {
    let mut pair = stock.pair();
    subscribe_both(&mut pair, EVERYTHING);
    let statement = idem_query::parse(EVERYTHING).expect("a valid statement");
    let selector = statement.subscription(&Object::new());
    let replica = pair.replica_mut(1);
    replica.set_subscriptions([selector.expect("a subscription")]);
    let keys: Vec<DocumentKey> = (0..DOCUMENTS / 2).map(key).collect();
    replica.evict_documents(&keys);
    replica.make_durable();
    if have_met {
        pair.mark_in_step();
        pair.connect();
        pair.run_to_rest();
        pair.disconnect();
    }
    pair.connect();
    let traffic = pair.run_to_rest();
    let round_trips = match have_met {
        true => traffic.round_trips(),
        false => traffic.round_trips_established(),
    };
    Cost::of(&traffic, round_trips)
}

fn new_subscription(stock: &Stock) -> Cost {
    let mut replica = empty(2);
    let lot: Vec<DocumentKey> = (7..DOCUMENTS).step_by(100).map(key).collect();
    let held = lot.len() - 10;
    let incoming = lot[..held].iter().map(|key| Incoming {
        key: key.clone(),
        group: 0,
        state: IncomingState::Whole(held_state(&stock.replica, key)),
    });
    // Each in a transaction of its own, or they would travel together.
    for incoming in incoming {
        let Ok(report) = replica.apply(vec![incoming], &[]);
        assert!(report.is_applied(), "they are documents");
    }
    replica.make_durable();
    let mut pair = Pair::new(stock.replica.clone(), replica);
    subscribe_both(&mut pair, "SELECT * FROM others");
    pair.connect();
    pair.run_to_rest();
    pair.subscribe(1, LOT).expect("few subscriptions");
    let traffic = pair.run_to_rest();
    let is_there = |key: &DocumentKey| pair.replica(1).state(key).is_some();
    assert!(lot[held..].iter().all(is_there), "they arrived");
    // The session was established long before.
    let known = traffic.known_by[1].map(|step| step.div_ceil(2));
    Cost::of_exchange(&traffic, known)
}

// What they are made of.

/// What the large scenarios start from.
struct Stock {
    replica: MemoryReplica,
}

impl Stock {
    /// Documents of about 300 bytes, each from its own transaction.
    fn new() -> Self {
        let mut replica = empty(1);
        for number in 0..DOCUMENTS {
            let fields = Object::from([
                ("name".to_owned(), Value::from(format!("thing {number}"))),
                ("lot".to_owned(), Value::from((number % 100).cast_signed())),
                ("note".to_owned(), text(number, 240)),
            ]);
            let operation = (key(number), insert(fields));
            replica.commit(&[operation]).expect("a valid document");
            if number % 1000 == 999 {
                replica.make_durable();
            }
        }
        let bytes = held_bytes(&replica, &key(5));
        assert!((280..320).contains(&bytes), "{bytes} bytes");
        Self { replica }
    }

    /// Two peers that hold the same and have never met.
    fn pair(&self) -> Pair {
        Pair::copied(self.replica.clone())
    }
}

impl Cost {
    fn of_exchange(traffic: &Traffic, round_trips: Option<u64>) -> Self {
        Self {
            bytes: traffic.bytes() - traffic.document_bytes(),
            ..Self::of(traffic, round_trips)
        }
    }

    fn of(traffic: &Traffic, round_trips: Option<u64>) -> Self {
        Self {
            bytes: traffic.bytes(),
            round_trips: round_trips.expect("both sides know that they are in step"),
            documents: traffic.documents(),
        }
    }
}

fn subscribe_both(pair: &mut Pair, statement: &str) {
    for side in 0..2 {
        pair.subscribe(side, statement).expect("few subscriptions");
    }
}

fn empty(number: u64) -> MemoryReplica {
    let actor = u128::from(mixed(number)) << 64 | u128::from(mixed(!number));
    MemoryReplica::new(ActorId(actor.to_be_bytes()), 1_790_000_000_000)
}

fn held_state(replica: &MemoryReplica, key: &DocumentKey) -> Vec<u8> {
    let state = replica.state(key);
    state.expect("it is held")
}

fn held_bytes(replica: &MemoryReplica, key: &DocumentKey) -> u64 {
    held_state(replica, key).len() as u64
}

fn key(number: u64) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new("things").expect("a valid name"),
        id: DocId::from(format!("{:016x}", mixed(number)).as_str()),
    }
}

/// A number that looks random and is the same in every run.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Text that compression makes little smaller.
fn text(number: u64, bytes: u64) -> Value {
    let parts = 0..bytes.div_ceil(16);
    let parts = parts.map(|part| format!("{:016x}", mixed(number << 16 | part)));
    Value::from(parts.collect::<String>())
}

fn insert(fields: Object) -> DocumentOp {
    DocumentOp::Insert {
        fields,
        kinds: Vec::new(),
        conflict: InsertConflict::Fail,
    }
}

fn set(field: &str, value: impl Into<Value>) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Set {
        path: FieldPath::field(field),
        value: value.into(),
        kind: None,
    }])
}

//! What people write.

use idem_model::{
    CollectionName, DocId, DocumentKey, DocumentOp, FieldOp, FieldPath, InsertConflict, Object,
    Value,
};

use crate::{options::Options, random::Random};

/// The collections, all of which every peer subscribes to.
pub(crate) const COLLECTIONS: [&str; 4] = ["things", "others", "tallies", FORGED];

/// What only peers that equivocate write to.
pub(crate) const FORGED: &str = "forged";

/// The field that is the same in both documents of a pair.
pub(crate) const PAIR_FIELD: &str = "value";

/// The counter of a tally.
pub(crate) const TALLY_FIELD: &str = "sum";

/// Tallies are only ever added to, so their sum is known.
const TALLIES: u64 = 3;

/// One transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) operations: Vec<(DocumentKey, DocumentOp)>,
    /// What it adds to tallies.
    pub(crate) tallied: Vec<(DocumentKey, i64)>,
}

pub(crate) fn key(collection: &str, id: &str) -> DocumentKey {
    DocumentKey {
        collection: CollectionName::new(collection).expect("a valid name"),
        id: DocId::from(id),
    }
}

/// The two documents of a pair.
pub(crate) fn pair(number: u64) -> [DocumentKey; 2] {
    [
        key("things", &format!("pair{number}")),
        key("others", &format!("pair{number}")),
    ]
}

/// Draws a transaction. `serial` is different for each, so that every value tells its writer.
pub(crate) fn draw(random: &mut Random, options: &Options, serial: i64) -> Transaction {
    let mut transaction = Transaction {
        operations: Vec::new(),
        tallied: Vec::new(),
    };
    if options.text_bytes > 0 {
        let operation = text(random, options);
        transaction.operations.push(operation);
        return transaction;
    }
    match random.below(100) {
        0..50 => {
            for _ in 0..=random.below(2) {
                plain(random, options, serial, &mut transaction);
            }
        }
        50..80 => pairs(random, options, serial, &mut transaction),
        80..88 => {
            // Another field of one half of a pair: its past binds it to the other half.
            let [a, b] = pair(random.below(options.pairs));
            let key = if random.chance(50) { a } else { b };
            let note = set("note", serial.into());
            transaction
                .operations
                .push((key, DocumentOp::Update(vec![note])));
        }
        _ => tally(random, serial, &mut transaction),
    }
    transaction
}

/// A document with a text that compression makes little smaller.
fn text(random: &mut Random, options: &Options) -> (DocumentKey, DocumentOp) {
    let key = key("things", &format!("d{}", random.below(options.documents)));
    let parts = (0..options.text_bytes.div_ceil(16)).map(|_| format!("{:016x}", random.next()));
    let mut text: String = parts.collect();
    text.truncate(options.text_bytes);
    (key, upsert("text", Value::from(text)))
}

/// Writes the same value to both halves of one or two pairs, or deletes both halves.
fn pairs(random: &mut Random, options: &Options, serial: i64, transaction: &mut Transaction) {
    let first = random.below(options.pairs);
    let second = random.below(options.pairs);
    let numbers = if random.chance(30) && first != second {
        vec![first, second]
    } else {
        vec![first]
    };
    let is_deletion = random.chance(10);
    for number in numbers {
        for key in pair(number) {
            let operation = if is_deletion {
                DocumentOp::Delete
            } else {
                upsert(PAIR_FIELD, serial.into())
            };
            transaction.operations.push((key, operation));
        }
    }
    if random.chance(30) {
        plain(random, options, serial, transaction);
    }
}

fn plain(random: &mut Random, options: &Options, serial: i64, transaction: &mut Transaction) {
    let id = format!("d{}", random.below(options.documents));
    let key = key(COLLECTIONS[random.index(2)], &id);
    let field = format!("f{}", random.below(4));
    let update = |operation| DocumentOp::Update(vec![operation]);
    let operation = match random.below(100) {
        0..30 => upsert(&field, drawn_value(random, options, serial)),
        30..50 => update(set(&field, drawn_value(random, options, serial))),
        50..58 => update(FieldOp::Set {
            path: FieldPath::new(vec!["map".to_owned(), field]).expect("a short path"),
            value: serial.into(),
            kind: None,
        }),
        58..66 => update(FieldOp::Unset {
            path: FieldPath::field(if random.chance(30) { "map" } else { &field }),
        }),
        66..78 => update(FieldOp::Increment {
            path: FieldPath::field("count"),
            by: random.between(0, 9).cast_signed() - 4,
        }),
        78..82 => update(FieldOp::Restart {
            path: FieldPath::field("count"),
            to: serial,
        }),
        82..86 => DocumentOp::InsertInitial {
            fields: Object::from([(field, Value::from(0))]),
            kinds: Vec::new(),
        },
        _ => DocumentOp::Delete,
    };
    transaction.operations.push((key, operation));
}

fn tally(random: &mut Random, serial: i64, transaction: &mut Transaction) {
    let key = key("tallies", &format!("t{}", random.below(TALLIES)));
    let by = serial % 10 + 1;
    // Peers that have not met begin a life each; the counter is one over all of them.
    let insert = upsert("name", Value::from("tally"));
    let add = FieldOp::Increment {
        path: FieldPath::field(TALLY_FIELD),
        by,
    };
    let update = DocumentOp::Update(vec![set("writer", serial.into()), add]);
    transaction.operations.push((key.clone(), insert));
    transaction.operations.push((key.clone(), update));
    transaction.tallied.push((key, by));
}

/// What an application writes that answers every change with one.
pub(crate) fn reaction(serial: i64) -> Transaction {
    Transaction {
        operations: vec![(key("things", "reaction"), upsert("serial", serial.into()))],
        tallied: Vec::new(),
    }
}

/// What a peer writes that tells every neighbour something else.
pub(crate) fn forged(random: &mut Random, content: i64) -> (DocumentKey, DocumentOp) {
    let key = key(FORGED, &format!("f{}", random.below(2)));
    (key, upsert("content", content.into()))
}

fn drawn_value(random: &mut Random, options: &Options, serial: i64) -> Value {
    if random.chance(options.large_percent) {
        let len = 10 + random.index(400);
        return Value::from(format!("{serial} ").repeat(len));
    }
    match random.below(4) {
        0 => Value::from(Object::from([("n".to_owned(), Value::from(serial))])),
        1 => Value::from(format!("text {serial}")),
        _ => Value::from(serial),
    }
}

fn set(field: &str, value: Value) -> FieldOp {
    FieldOp::Set {
        path: FieldPath::field(field),
        value,
        kind: None,
    }
}

fn upsert(field: &str, value: Value) -> DocumentOp {
    DocumentOp::Insert {
        fields: Object::from([(field.to_owned(), value)]),
        kinds: Vec::new(),
        conflict: InsertConflict::DoUpdate,
    }
}

//! Valid things of the model to make seeds of.

use idem_auth::Signer;
use idem_crdt::Document;
use idem_model::{
    ActorId, CollectionName, DocId, DocumentKey, DocumentOp, Dot, FieldOp, FieldPath,
    InsertConflict, Object, Stamp, Timestamp, Value, VersionVector, json,
};

/// Values of every kind, alone and nested.
pub(super) fn values() -> Vec<Value> {
    let texts = [
        "null",
        "true",
        "-1",
        "9007199254740993",
        "-9223372036854775808",
        "0.5",
        "1e300",
        r#""text with \u0000 and \u00e9""#,
        r#"{"$binary": "AAH/"}"#,
        r#"[1, [true, []], {"a": {"b": null}}]"#,
        r#"{"_id": "AAA", "name": "Anaa", "at": {"lat": -17.35, "lon": -145.5}, "tags": ["a", "b"]}"#,
    ];
    texts
        .iter()
        .map(|text| json::parse(text).expect("a JSON text"))
        .collect()
}

/// Ids of every kind.
pub(super) fn ids() -> Vec<DocId> {
    let texts = [
        r#""AAA""#,
        "7",
        "true",
        r#"{"$binary": "AAH/"}"#,
        r#"["a", 1]"#,
        r#"{"region": "EU", "number": 5}"#,
    ];
    texts
        .iter()
        .map(|text| json::parse(text).expect("a JSON text"))
        .map(|value| DocId::new(value).expect("an id"))
        .collect()
}

/// The document of the key `airports/AAA` and of others.
pub(super) fn keys() -> Vec<DocumentKey> {
    let collection = CollectionName::new("airports").expect("a name");
    ids()
        .into_iter()
        .map(|id| DocumentKey {
            collection: collection.clone(),
            id,
        })
        .collect()
}

/// A version vector of two actors.
pub(super) fn version() -> VersionVector {
    let mut version = VersionVector::new();
    version.include(dot(1, 5));
    version.include(dot(2, 300));
    version
}

/// A document of one life, and the same one after edits by two actors, after concurrent edits that
/// conflict, and deleted.
pub(super) fn documents() -> Vec<Document> {
    let mut inserted = Document::new();
    apply(&mut inserted, &insert(), 1, 1);

    let mut edited = inserted.clone();
    apply(&mut edited, &set("name", Value::from("Anaa 2")), 2, 1);
    apply(&mut edited, &increment("visits", 3), 1, 2);
    apply(&mut edited, &unset("tags"), 2, 2);

    let mut other = inserted.clone();
    apply(&mut other, &set("name", Value::from("Anaa 3")), 3, 1);
    apply(&mut other, &increment("visits", -1), 3, 2);
    other.merge(&edited);

    let mut deleted = other.clone();
    apply(&mut deleted, &DocumentOp::Delete, 1, 3);
    vec![Document::new(), inserted, edited, other, deleted]
}

fn insert() -> DocumentOp {
    let Some(Value::Object(mut fields)) = values().pop() else {
        unreachable!("the last value is an object")
    };
    fields.remove("_id");
    DocumentOp::Insert {
        fields,
        kinds: Vec::new(),
        conflict: InsertConflict::Fail,
    }
}

fn set(name: &str, value: Value) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Set {
        path: FieldPath::field(name),
        value,
        kind: None,
    }])
}

fn unset(name: &str) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Unset {
        path: FieldPath::field(name),
    }])
}

fn increment(name: &str, by: i64) -> DocumentOp {
    DocumentOp::Update(vec![FieldOp::Increment {
        path: FieldPath::field(name),
        by,
    }])
}

fn apply(document: &mut Document, op: &DocumentOp, actor: u8, n: u64) {
    let stamp = Stamp {
        dot: dot(actor, n),
        time: Timestamp::new(1_000 * n, 0),
    };
    document.apply(op, stamp).expect("a legal edit");
}

fn dot(actor: u8, n: u64) -> Dot {
    Dot {
        actor: ActorId([actor; 16]),
        n,
    }
}

/// The fields of a sample document with `_id`.
pub(super) fn fields() -> Object {
    match values().pop() {
        Some(Value::Object(fields)) => fields,
        _ => unreachable!("the last value is an object"),
    }
}

/// A key that signs nothing: broken input is not stopped by its signature in a decoder.
pub(super) struct Unsigned;

impl Signer for Unsigned {
    fn public_key(&self) -> [u8; 32] {
        [3; 32]
    }

    fn sign(&self, _: &[u8]) -> [u8; 64] {
        [4; 64]
    }
}

//! The dots of INSERT INITIAL.
//!
//! Every peer that inserts the same default must make the same version of it, without having met.
//! So its dot is not a commit of the peer but a name of the field and its value: the first commit of
//! an actor that is a hash of both. The life has one such dot for all documents. Their time is zero,
//! before any real write. Hashed actors share the space of the random ones: 128 bits make a meeting
//! of the two as unlikely as one of two random ones.

use idem_model::{ActorId, Dot, FieldKind, FieldPath, Stamp, Timestamp, Value, codec::put_bytes};

use crate::kinds::{self, Kinds};

/// The actor of every life that INSERT INITIAL begins. No store may take it.
pub(crate) const INITIAL_ACTOR: ActorId = ActorId([0; 16]);

/// Names the use of the hash, so that no other hash of the same bytes is the same.
const HASH_CONTEXT: &str = "idem 2026-11 insert initial: field, value, declared kinds";

/// The stamp of a life that INSERT INITIAL begins.
pub(crate) fn life_stamp() -> Stamp {
    initial(INITIAL_ACTOR)
}

/// The stamp of a top-level field of INSERT INITIAL, and of all that is below it.
///
/// Of the kinds that the collection declares, only those count that make a difference: a peer that has
/// not heard of a declaration yet must make the same version of a field that it does not concern.
pub(crate) fn field_stamp(name: &str, value: &Value, kinds: Kinds<'_>) -> Stamp {
    let mut bytes = Vec::new();
    put_bytes(&mut bytes, name.as_bytes());
    value.encode(&mut bytes);
    // A field of another kind is another version: the two must conflict, not replace each other.
    let is_here = |(path, _): &&(FieldPath, FieldKind)| path.segments()[0] == name;
    let has_effect = |(path, kind): &&(FieldPath, FieldKind)| {
        let value = find(path, value);
        value.is_some_and(|value| kinds::has_effect(*kind, value))
    };
    let statement = kinds.statement().iter().filter(is_here);
    let collection = kinds.declared().iter().filter(is_here).filter(has_effect);
    let mut declared: Vec<_> = statement
        .chain(collection)
        .map(|(path, kind)| (path, kind_tag(*kind)))
        .collect();
    declared.sort_unstable();
    declared.dedup();
    for (path, tag) in declared {
        path.encode(&mut bytes);
        bytes.push(tag);
    }
    let hash = blake3::Hasher::new_derive_key(HASH_CONTEXT)
        .update(&bytes)
        .finalize();
    let mut actor = [0; 16];
    actor.copy_from_slice(&hash.as_bytes()[..16]);
    initial(ActorId(actor))
}

/// The value at `path` in a document whose top-level field of that name holds `value`.
fn find<'a>(path: &FieldPath, value: &'a Value) -> Option<&'a Value> {
    let below = &path.segments()[1..];
    below.iter().try_fold(value, |value, name| match value {
        Value::Object(fields) => fields.get(name),
        _ => None,
    })
}

fn initial(actor: ActorId) -> Stamp {
    Stamp {
        dot: Dot { actor, n: 1 },
        time: Timestamp::ZERO,
    }
}

fn kind_tag(kind: FieldKind) -> u8 {
    match kind {
        FieldKind::Map => 1,
        FieldKind::Counter => 2,
        // Register, and Attachment, which merges like one.
        _ => 0,
    }
}

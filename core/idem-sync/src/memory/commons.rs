//! States of documents that several replicas hold, kept once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use idem_crdt::Document;

/// States that nobody holds any more are looked for when there are twice as many as after the last time,
/// and at least so many.
const STATES_MIN: usize = 256;

/// A state of a document.
#[derive(Debug)]
pub(super) struct Content {
    document: Document,
    /// Its encoded form.
    bytes: Box<[u8]>,
}

impl Content {
    pub(super) fn new(document: Document) -> Arc<Self> {
        let bytes = document.to_bytes().into_boxed_slice();
        Arc::new(Self { document, bytes })
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// States of documents that several [`MemoryReplica`]s of one process hold, each kept once: thousands of
/// peers that hold the same take little more memory than one. It holds no state that no replica holds.
///
/// [`MemoryReplica`]: crate::MemoryReplica
#[derive(Debug, Default)]
pub struct Commons {
    /// By a hash of the encoded form. Equal states have equal bytes.
    states: BTreeMap<[u8; 16], Weak<Content>>,
    /// When there are so many, those that are gone are left out.
    count_max: usize,
}

impl Commons {
    /// The one that all hold in place of `content`, or `content` from now on.
    pub(super) fn share(&mut self, content: &Arc<Content>) -> Arc<Content> {
        let mut hash = [0; 16];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(content.bytes())
            .finalize_xof()
            .fill(&mut hash);
        if let Some(shared) = self.states.get(&hash).and_then(Weak::upgrade) {
            return shared;
        }
        if self.states.len() >= self.count_max {
            self.states.retain(|_, content| content.strong_count() > 0);
            self.count_max = (2 * self.states.len()).max(STATES_MIN);
        }
        self.states.insert(hash, Arc::downgrade(content));
        Arc::clone(content)
    }
}

#[cfg(test)]
mod tests {
    use idem_model::{ActorId, DocumentOp, Dot, InsertConflict, Object, Stamp, Timestamp, Value};

    use super::*;

    fn state(value: i64) -> Arc<Content> {
        let mut document = Document::new();
        let insert = DocumentOp::Insert {
            fields: Object::from([("a".to_owned(), Value::from(value))]),
            kinds: Vec::new(),
            conflict: InsertConflict::Fail,
        };
        let actor = ActorId([1; 16]);
        let time = Timestamp::new(1_000, 0);
        let dot = Dot { actor, n: 1 };
        let applied = document.apply(&insert, Stamp { dot, time });
        applied.expect("an insert into nothing");
        Content::new(document)
    }

    #[test]
    fn equal_states_are_kept_once_and_none_longer_than_somebody_holds_it() {
        let mut commons = Commons::default();
        let first = commons.share(&state(1));
        assert!(Arc::ptr_eq(&first, &commons.share(&state(1))));
        assert!(!Arc::ptr_eq(&first, &commons.share(&state(2))));
        for value in 0..10 * i64::try_from(STATES_MIN).expect("small") {
            commons.share(&state(value));
            assert!(commons.states.len() <= STATES_MIN);
        }
        assert!(Arc::ptr_eq(&first, &commons.share(&state(1))));
    }
}

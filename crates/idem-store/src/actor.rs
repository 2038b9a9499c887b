//! When a store takes a new actor while it is open.
//!
//! The version vector of a document claims every commit of an actor up to a number. Whoever writes
//! to a document under an actor, some of whose commits to it are not here any more, would claim those
//! too, and peers that hold what they wrote would take it for removed. That can be so after an eviction,
//! and after the store was put back to an earlier state in place.

use std::sync::{PoisonError, atomic::Ordering};

use idem_crdt::{Document, encoded_version};
use idem_kv::Snapshot;
use idem_model::{
    ActorId, Dot, Stamp,
    codec::{Reader, put_varint},
};

use crate::{
    edit::Prior,
    error::StoreError,
    tables::{self, SYSTEM},
    work::Work,
};

impl Work {
    /// Before an eviction: notes the last commit of this actor in the document, if there is one.
    pub(crate) fn note_eviction(&mut self, key: &[u8], prior: &Prior) -> Result<(), StoreError> {
        let version = prior.body.as_deref().map(encoded_version).transpose();
        let version = version.map_err(|error| StoreError::corrupt("version vector", &error))?;
        let actor = self.writing()?.head.actor;
        let n = version.map_or(0, |version| version.get(actor));
        if n == 0 {
            return Ok(());
        }
        let mut note = actor.0.to_vec();
        put_varint(&mut note, n);
        self.core.has_evictions.store(true, Ordering::Release);
        let system = &mut self.pending.small.system;
        system.insert(tables::evicted(key), Some(note));
        Ok(())
    }

    /// The last commit of this actor in a document when it was evicted.
    pub(crate) fn evicted(&mut self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        if !self.core.has_evictions.load(Ordering::Acquire) {
            return Ok(None);
        }
        let row = tables::evicted(key);
        let note = match self.pending.small.system.get(&row) {
            Some(pending) => pending.clone(),
            None => self.view.snapshot.get(SYSTEM, &row)?,
        };
        let Some(note) = note else {
            return Ok(None);
        };
        let corrupt = |error| StoreError::corrupt("note of an eviction", &error);
        let mut reader = Reader::new(&note);
        let actor = ActorId(reader.array().map_err(corrupt)?);
        let n = reader.varint().map_err(corrupt)?;
        Ok((actor == self.writing()?.head.actor).then_some(n))
    }

    /// Before a write to a document that was evicted and is not here.
    pub(crate) fn return_from_eviction(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.renew_actor("it writes to a document that it had evicted")?;
        self.forget_eviction(key);
        Ok(())
    }

    /// Before a merged document is stored: whether all commits of this actor that others may know of
    /// are here.
    pub(crate) fn claim(
        &mut self,
        key: &[u8],
        prior: &Prior,
        merged: &Document,
    ) -> Result<(), StoreError> {
        let head = self.writing()?.head;
        let held = merged.version().get(head.actor);
        if held > head.n {
            // Or somebody lies, which does no more harm than this.
            self.renew_actor("a peer knows commits of it that are not here")?;
        }
        if prior.body.is_none()
            && let Some(evicted) = self.evicted(key)?
        {
            if held < evicted {
                self.renew_actor("a document that it had evicted came back older")?;
            }
            self.forget_eviction(key);
        }
        Ok(())
    }

    fn forget_eviction(&mut self, key: &[u8]) {
        let system = &mut self.pending.small.system;
        system.insert(tables::evicted(key), None);
    }

    fn renew_actor(&mut self, reason: &str) -> Result<(), StoreError> {
        let entropy = &self.core.entropy;
        let fresh = ActorId(
            entropy
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .bytes(),
        );
        let writing = self.writing()?;
        tracing::info!(from = %writing.head.actor, to = %fresh, reason, "the store takes a new actor");
        writing.head.actor = fresh;
        writing.head.n = 0;
        // What this transaction wrote before stays under the old actor, which writes no more.
        if let Some(stamp) = writing.stamp {
            let dot = Dot { actor: fresh, n: 1 };
            writing.stamp = Some(Stamp { dot, ..stamp });
        }
        Ok(())
    }
}

//! When a store takes a new actor while it is open.
//!
//! The version vector of a document claims every commit of an actor up to a number. Whoever writes
//! to a document under an actor, some of whose commits to it are not here any more, would claim those
//! too, and peers that hold what they wrote would take it for removed. That can be so after an eviction,
//! after a deletion was forgotten, and after the store was put back to an earlier state in place.

use std::sync::PoisonError;

use idem_crdt::Document;
use idem_model::{ActorId, Dot, Stamp, VersionVector};

use crate::{edit::Prior, error::StoreError, work::Work};

impl Work {
    /// Before a write to a document that is not here. It may have been evicted, or deleted, which is
    /// forgotten.
    pub(crate) fn return_from_eviction(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let Some(eviction) = self.eviction(key)? else {
            return Ok(());
        };
        if eviction.n > 0 && eviction.actor == self.writing()?.head.actor {
            self.renew_actor("it writes to a document that it had evicted or forgotten")?;
        }
        self.forget_eviction(key, &eviction, &VersionVector::new())
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
            && let Some(eviction) = self.eviction(key)?
        {
            let is_ours = eviction.actor == self.writing()?.head.actor;
            if is_ours && held < eviction.n {
                self.renew_actor("a document that it had evicted or forgotten came back older")?;
            }
            self.forget_eviction(key, &eviction, merged.version())?;
        }
        Ok(())
    }

    pub(crate) fn renew_actor(&mut self, reason: &str) -> Result<(), StoreError> {
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
        self.void_claims();
        Ok(())
    }
}

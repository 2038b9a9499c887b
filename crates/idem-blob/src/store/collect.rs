//! Making room: what is here for others goes when room is needed, what nothing refers to after a while.

use std::collections::BTreeSet;

use idem_model::BlobId;

use crate::{
    error::BlobError,
    store::{BlobStore, Entry, Purpose, State, end, file_name},
};

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Blobs deleted.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs for other peers that became this peer's own, because a document refers to them.
    pub adopted: u64,
}

impl BlobStore {
    /// Deletes the blobs that nothing refers to, and that have been here, unused, for the grace period. What
    /// is pinned, read or fetched stays, and so does what is here for other peers and whole: that only goes
    /// when room is needed.
    ///
    /// `referenced` are the blobs that documents refer to. A document that was written after they were
    /// listed may refer to others: the grace period must be longer than it takes from there to here.
    ///
    /// # Errors
    /// The storage's error; what was not deleted then is deleted the next time.
    pub fn collect(
        &self,
        referenced: &BTreeSet<BlobId>,
        now_ms: u64,
    ) -> Result<Collected, BlobError> {
        let mut done = Collected::default();
        let mut state = self.shared.lock();
        let ids: Vec<BlobId> = state.entries.keys().copied().collect();
        for id in ids {
            let is_pinned = state.is_pinned(id);
            let Some(entry) = state.entries.get_mut(&id) else {
                continue;
            };
            let is_referenced = referenced.contains(&id);
            if entry.is_whole && entry.purpose == Purpose::Relay {
                if is_referenced {
                    let own = file_name(id, end::OWN);
                    self.shared.rename(&file_name(id, end::RELAYED), &own)?;
                    entry.purpose = Purpose::Own;
                    done.adopted += 1;
                }
                continue;
            }
            let age_ms = now_ms.saturating_sub(entry.used_ms);
            if is_referenced || is_pinned || age_ms < self.shared.options.grace_ms {
                continue;
            }
            done.blobs += 1;
            done.bytes += entry.len;
            self.remove(&mut state, id)?;
        }
        Ok(done)
    }

    /// Makes room for a blob of `len` bytes, counting what is reserved for those under way. `id` is not
    /// counted.
    pub(crate) fn make_room(
        &self,
        len: u64,
        purpose: Purpose,
        id: BlobId,
    ) -> Result<(), BlobError> {
        let options = &self.shared.options;
        let mut state = self.shared.lock();
        let (counted, limit): (fn(&Entry) -> bool, u64) = match purpose {
            Purpose::Own => (|_| true, options.bytes_max),
            Purpose::Relay => (
                |entry| entry.purpose == Purpose::Relay,
                options.relay_bytes_max.min(options.bytes_max),
            ),
        };
        let too_large = Err(BlobError::Quota { bytes: len, limit });
        if len > limit {
            return too_large;
        }
        loop {
            let others = state.entries.iter().filter(|(it, _)| **it != id);
            let used: u64 = others
                .filter(|(_, entry)| counted(entry))
                .map(|(_, entry)| entry.len)
                .sum();
            if used <= limit - len {
                return Ok(());
            }
            let others = state.entries.iter().filter(|(it, entry)| {
                **it != id && entry.purpose == Purpose::Relay && !state.is_pinned(**it)
            });
            let Some((_, oldest)) = others.map(|(id, entry)| (entry.used_ms, *id)).min() else {
                return too_large;
            };
            self.remove(&mut state, oldest)?;
        }
    }

    fn remove(&self, state: &mut State, id: BlobId) -> Result<(), BlobError> {
        let Some(entry) = state.entries.get(&id) else {
            return Ok(());
        };
        assert!(!state.is_pinned(id), "what is pinned stays");
        let name = if entry.is_whole {
            file_name(id, entry.purpose.end())
        } else {
            file_name(id, end::JOURNAL)
        };
        // Without this file the others are nothing, also if they survive.
        let deleted = self.shared.storage.delete(&name);
        deleted.map_err(BlobError::io("deleting", &name))?;
        self.shared
            .discard(id, &[end::TREE, end::PART, end::JOURNAL]);
        state.entries.remove(&id);
        Ok(())
    }
}

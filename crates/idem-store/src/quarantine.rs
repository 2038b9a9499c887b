//! Documents of which nobody in reach knows whether they were deleted (docs/format/disk.md,
//! "Quarantine").
//!
//! They are read, queried and observed as all others, but they do not leave this peer. A local write is
//! new work and ends it, and so does a change from another peer, if it brings something that no tombstone
//! which went can have been of. What was deleted with the rest shows nothing, and neither does a tombstone
//! of one of several lives.

use std::{ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::{
    DecodeError, DocId, DocumentKey, Object, PeerId,
    codec::{Reader, put_varint},
};

use crate::{
    core::Core,
    edit::Change,
    error::StoreError,
    merge,
    patience::Cancellation,
    system::{int, row},
    tables::{self, SYSTEM},
    work::Work,
};

/// What is noted of a document in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    since_ms: u64,
    /// The peer that lacked it, or was in doubt.
    from: PeerId,
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.since_ms);
        out.extend_from_slice(&self.from.0);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let note = Self {
            since_ms: reader.varint()?,
            from: PeerId(reader.array()?),
        };
        reader.finish()?;
        Ok(note)
    }
}

/// Puts documents into quarantine, and gives how many: those that are here and not in it.
pub(crate) fn enter(
    core: &Arc<Core>,
    keys: &[DocumentKey],
    from: PeerId,
    cancellation: &Cancellation,
) -> Result<u64, StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core), &merge::for_as_long_as(cancellation))?;
    let since_ms = work.now_ms;
    let note = Note { since_ms, from }.encode();
    let mut entered = 0;
    for key in keys {
        let Some(collection) = work.catalog().ordinal(&key.collection) else {
            continue;
        };
        let row_key = tables::document(collection, &key.id.to_key());
        if work.set_quarantined(row_key.clone(), &key.id, true)? {
            let system = &mut work.pending.small.system;
            system.insert(tables::quarantined(&row_key), Some(note.clone()));
            entered += 1;
        }
    }
    work.hand_over()?;
    Ok(entered)
}

/// Ends the quarantine of documents, which then travel, and gives how many.
pub(crate) fn leave(
    core: &Arc<Core>,
    keys: &[DocumentKey],
    cancellation: &Cancellation,
) -> Result<u64, StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core), &merge::for_as_long_as(cancellation))?;
    let mut left = 0;
    for key in keys {
        if let Some(collection) = work.catalog().ordinal(&key.collection) {
            let row_key = tables::document(collection, &key.id.to_key());
            left += u64::from(work.set_quarantined(row_key, &key.id, false)?);
        }
    }
    work.hand_over()?;
    Ok(left)
}

/// Ends the quarantine of a collection, or of one document in it: they are kept, and travel, or they
/// go. Gives how many.
pub(crate) fn decide(
    core: &Arc<Core>,
    collection: u32,
    only: Option<&DocId>,
    is_kept: bool,
) -> Result<u64, StoreError> {
    core.open_transactions.check()?;
    let only = only.map(|id| tables::document(collection, &id.to_key()));
    let mut work = Work::write(Arc::clone(core), &core.patience())?;
    let mut decided = 0;
    for (key, _) in work.quarantined(Some(collection))? {
        if only.as_ref().is_some_and(|only| *only != key) {
            continue;
        }
        let corrupt = |error| StoreError::corrupt("document key", &error);
        let (_, id) = tables::split_document(&key).map_err(corrupt)?;
        let id = DocId::from_key(id).map_err(corrupt)?;
        if is_kept {
            work.set_quarantined(key, &id, false)?;
        } else {
            let prior = work.prior(&key)?;
            work.evict(key, collection, &id, prior, false)?;
        }
        decided += 1;
    }
    work.commit()?;
    Ok(decided)
}

impl Work {
    /// Whether a document that is here is in quarantine now and was not, or the other way round.
    fn set_quarantined(
        &mut self,
        key: Vec<u8>,
        id: &DocId,
        is_quarantined: bool,
    ) -> Result<bool, StoreError> {
        let prior = self.prior(&key)?;
        if !prior.is_present || prior.is_quarantined == is_quarantined {
            return Ok(false);
        }
        let (collection, _) = tables::split_document(&key)
            .map_err(|error| StoreError::corrupt("document key", &error))?;
        let body = prior.body.clone();
        let is_oversized = prior.stored.is_some_and(|header| header.is_oversized);
        let change = Change {
            collection,
            id: id.clone(),
            is_present: true,
            is_oversized,
            is_quarantined,
            body,
            group: 1,
            keeps_keys: true,
        };
        if !is_quarantined {
            let system = &mut self.pending.small.system;
            system.insert(tables::quarantined(&key), None);
        }
        self.put(key, change, prior)?;
        Ok(true)
    }

    /// Documents-table keys and ids of what is in quarantine, of one collection or all.
    fn quarantined(&self, collection: Option<u32>) -> Result<Vec<(Vec<u8>, Note)>, StoreError> {
        let (from, to) = match collection {
            Some(ordinal) => (
                tables::quarantined(&ordinal.to_be_bytes()),
                tables::quarantined(&(ordinal + 1).to_be_bytes()),
            ),
            None => tables::QUARANTINE_RANGE.map(|tag| vec![tag]).into(),
        };
        let mut notes = Vec::new();
        let mut failure = None;
        let snapshot = &self.view.snapshot;
        snapshot.scan(SYSTEM, &from, Some(&to), false, &mut |key, value| {
            match Note::decode(value) {
                Ok(note) => notes.push((key[1..].to_vec(), note)),
                Err(error) => {
                    failure = Some(StoreError::corrupt("note of a quarantine", &error));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failure.map_or(Ok(notes), Err)
    }

    /// The rows of `system:quarantine`.
    pub(crate) fn quarantine_rows(&self) -> Result<Vec<Object>, StoreError> {
        let mut rows = Vec::new();
        for (key, note) in self.quarantined(None)? {
            let corrupt = |error| StoreError::corrupt("document key", &error);
            let (collection, id) = tables::split_document(&key).map_err(corrupt)?;
            let id = DocId::from_key(id).map_err(corrupt)?;
            let name = self.catalog().name(collection);
            rows.push(row([
                ("collection", name.map_or("", |name| name.as_str()).into()),
                ("id", id.into_value()),
                ("since", int(note.since_ms)),
                ("from", note.from.to_string().into()),
                (
                    "because",
                    "that peer does not have it or is in doubt itself, and has forgotten what was deleted since both last synced"
                        .into(),
                ),
            ]));
        }
        Ok(rows)
    }

    /// How many documents are in quarantine.
    pub(crate) fn quarantine_len(&self) -> Result<u64, StoreError> {
        Ok(self.quarantined(None)?.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_as_it_was_written() {
        let note = Note {
            since_ms: 1 << 40,
            from: PeerId([3; 32]),
        };
        assert_eq!(Note::decode(&note.encode()).unwrap(), note);
        assert!(Note::decode(&[1, 2]).is_err());
    }
}

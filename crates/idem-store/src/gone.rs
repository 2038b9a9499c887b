//! What is known of documents of which nothing is kept (docs/format/disk.md, "Gone").
//!
//! A peer that was away asks what became of its documents. That nothing is known here of one may mean
//! that it was deleted and that is forgotten, that it was evicted, or that it was never here. The join
//! of the versions of all documents that went either way tells them apart as far as that is possible:
//! what is not covered by it did not go that way.

use std::{ops::ControlFlow, sync::Arc};

use idem_crdt::{Document, deletion_of, encoded_version};
use idem_kv::Snapshot;
use idem_model::{
    CollectionName, DaySums, DecodeError, DeletedDay, DeletedDays, Deletion, VersionVector,
    codec::Reader, limits,
};

use crate::{
    core::Core,
    error::StoreError,
    merge,
    patience::Cancellation,
    row::Header,
    tables::{self, DOCUMENTS, SYSTEM, TOMBSTONES},
    work::Work,
};

/// What is known of the documents of a collection of which nothing is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Covers every tombstone that is gone.
    pub deleted: VersionVector,
    /// Covers every document that was evicted and of which nothing was kept, or no more than which
    /// commits of this store were in it.
    pub evicted: VersionVector,
    /// Which deletions were heard of and have no tombstone here.
    pub(crate) days: DeletedDays,
}

/// How a document went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    Deleted,
    Evicted,
}

/// A row for more actors than a version may name: nothing can be told.
const TOO_MANY: u8 = 1;

impl Gone {
    /// The stored row; `None` if there were more actors than a version may name.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? == TOO_MANY {
            reader.finish()?;
            return Ok(None);
        }
        let gone = Self {
            deleted: VersionVector::decode(&mut reader)?,
            evicted: VersionVector::decode(&mut reader)?,
            days: DeletedDays::decode(&mut reader)?,
        };
        reader.finish()?;
        Ok(Some(gone))
    }

    pub(crate) fn encode(gone: Option<&Self>) -> Vec<u8> {
        let Some(gone) = gone else {
            return vec![TOO_MANY];
        };
        let mut out = vec![0];
        gone.deleted.encode(&mut out);
        gone.evicted.encode(&mut out);
        gone.days.encode(&mut out);
        out
    }

    /// What is stored of a collection; `None` if nothing can be told.
    pub(crate) fn stored(
        snapshot: &dyn Snapshot,
        collection: u32,
    ) -> Result<Option<Self>, StoreError> {
        let row = snapshot.get(SYSTEM, &tables::gone(collection))?;
        row.map_or(Ok(Some(Self::default())), |row| Self::decode(&row))
            .map_err(|error| StoreError::corrupt("what is gone", &error))
    }
}

impl Work {
    /// Notes that a document goes and nothing will be kept of it.
    pub(crate) fn note_gone(
        &mut self,
        collection: u32,
        version: &VersionVector,
        going: Going,
    ) -> Result<(), StoreError> {
        let slot = self.gone_mut(collection)?;
        let Some(gone) = slot else {
            return Ok(());
        };
        match going {
            Going::Deleted => gone.deleted.join(version),
            Going::Evicted => gone.evicted.join(version),
        }
        let actors = gone.deleted.len().max(gone.evicted.len());
        if actors > limits::VERSION_VECTOR_ENTRIES_MAX {
            *slot = None;
        }
        Ok(())
    }

    /// Notes that a tombstone goes, of which it is told as one of its day.
    pub(crate) fn note_forgotten(
        &mut self,
        collection: u32,
        deletion: Deletion,
    ) -> Result<(), StoreError> {
        if let Some(gone) = self.gone_mut(collection)? {
            gone.days.forget(deletion);
        }
        Ok(())
    }

    /// What the transaction makes of the row of a collection.
    fn gone_mut(&mut self, collection: u32) -> Result<&mut Option<Gone>, StoreError> {
        if !self.pending.small.gone.contains_key(&collection) {
            let gone = Gone::stored(&self.view.snapshot, collection)?;
            self.pending.small.gone.insert(collection, gone);
        }
        let slot = self.pending.small.gone.get_mut(&collection);
        Ok(slot.expect("it was just put there"))
    }

    /// Whether tombstones that went may have been of all that is left in a document.
    pub(crate) fn may_be_deleted(
        &self,
        collection: u32,
        document: &Document,
    ) -> Result<bool, StoreError> {
        let stored;
        let gone = match self.pending.small.gone.get(&collection) {
            Some(pending) => pending,
            None => {
                stored = Gone::stored(&self.view.snapshot, collection)?;
                &stored
            }
        };
        let traces = document.traces();
        let covers_all = |gone: &Gone| traces.iter().all(|dot| gone.deleted.covers(*dot));
        // Nothing can be told of too many actors.
        Ok(gone.as_ref().is_none_or(covers_all))
    }

    /// As [`Work::note_gone`], for the encoded document.
    pub(crate) fn note_gone_document(
        &mut self,
        collection: u32,
        body: &[u8],
        going: Going,
    ) -> Result<(), StoreError> {
        let version =
            encoded_version(body).map_err(|error| StoreError::corrupt("version vector", &error))?;
        self.note_gone(collection, &version, going)
    }
}

/// The deletions of which the tombstones of a collection are here, in sums by their days. Costs a look at
/// every tombstone.
fn kept_days(snapshot: &dyn Snapshot, collection: u32) -> Result<DaySums, StoreError> {
    let mut sums = DaySums::new();
    let mut failure = None;
    let mut each = |key: &[u8]| -> Result<(), StoreError> {
        let corrupt = |error| StoreError::corrupt("tombstone", &error);
        let (_, of, id) = tables::split_tombstone(key).map_err(corrupt)?;
        if of != collection {
            return Ok(());
        }
        let row = snapshot.get(DOCUMENTS, &tables::document(collection, id))?;
        let row = row.ok_or_else(|| StoreError::Corrupt {
            what: format!("{} has no tombstone", tables::name(TOMBSTONES, key)),
        })?;
        let (_, body) = Header::decode(&row).map_err(corrupt)?;
        let deletion = deletion_of(id, body).map_err(corrupt)?;
        deletion.add_to(&mut sums);
        Ok(())
    };
    snapshot.scan(
        TOMBSTONES,
        &[],
        None,
        false,
        &mut |key, _| match each(key) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    failure.map_or(Ok(sums), Err)
}

/// What is told of the deletions in a collection to who asks.
pub(crate) fn deleted_days(
    snapshot: &dyn Snapshot,
    collection: u32,
) -> Result<Vec<DeletedDay>, StoreError> {
    let gone = Gone::stored(snapshot, collection)?.unwrap_or_default();
    if gone.days.is_empty() {
        return Ok(Vec::new());
    }
    Ok(gone.days.tell(&kept_days(snapshot, collection)?))
}

/// Joins what is gone at another peer, so that whoever asks here is told of it, and raises the floor, so
/// that they ask. Writes nothing if all of it is known.
pub(crate) fn learn(
    core: &Arc<Core>,
    collection: &CollectionName,
    (deleted, days): (&VersionVector, &[DeletedDay]),
    cancellation: &Cancellation,
) -> Result<(), StoreError> {
    core.open_transactions.check()?;
    let mut work = Work::write(Arc::clone(core), &merge::for_as_long_as(cancellation))?;
    let ordinal = work.catalog().ordinal(collection);
    let stored = match ordinal {
        Some(ordinal) => Gone::stored(&work.view.snapshot, ordinal)?,
        None => Some(Gone::default()),
    };
    // Who cannot tell what is gone has nothing to add to.
    let Some(mut gone) = stored else {
        return Ok(());
    };
    let kept = match ordinal {
        Some(ordinal) if !days.is_empty() => kept_days(&work.view.snapshot, ordinal)?,
        _ => DaySums::new(),
    };
    if !gone.days.learn(&kept, days) && gone.deleted.covers_all(deleted) {
        return Ok(());
    }
    let ordinal = match ordinal {
        Some(ordinal) => ordinal,
        None => work.intern(collection),
    };
    work.pending.small.gone.insert(ordinal, Some(gone));
    work.note_gone(ordinal, deleted, Going::Deleted)?;
    work.raise_floor()?;
    work.hand_over()
}

#[cfg(test)]
mod tests {
    use idem_model::{ActorId, Dot};

    use super::*;

    #[test]
    fn a_row_reads_back_as_it_was_written() {
        let dot = Dot {
            actor: ActorId([7; 16]),
            n: 300,
        };
        let mut days = DeletedDays::default();
        days.forget(Deletion {
            day: 20_000,
            hash: 7,
        });
        let gone = Gone {
            deleted: VersionVector::from_iter([dot]),
            evicted: VersionVector::new(),
            days,
        };
        assert_eq!(
            Gone::decode(&Gone::encode(Some(&gone))).unwrap(),
            Some(gone)
        );
        assert_eq!(Gone::decode(&Gone::encode(None)).unwrap(), None);
        assert!(Gone::decode(&[0, 1]).is_err());
    }
}

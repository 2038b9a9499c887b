//! Forgetting that documents were deleted (docs/format/disk.md, "Tombstones").
//!
//! A tombstone keeps a peer that was away from bringing a deleted document back. It goes when its life
//! is over, and from then on the store says so: a peer that has not synced since the *floor*, the time
//! at which the last of those that are gone came here, may not have heard of them, and pulls first.
//!
//! Times are readings of the store's hybrid clock, which never runs back, and a commit that brings a
//! tombstone has one of its own. So the floor is exact: whoever was told everything up to it knows all
//! tombstones that are gone.
//!
//! The life of a tombstone is counted by the wall clock, which may be wrong. One that is behind when
//! a document is deleted does no harm, for the hybrid clock is not. One that is ahead when tombstones
//! are removed makes all look old; so one round removes at most what a day brought, and rounds are an
//! hour apart, however often a store is opened: the time of the last one is stored. A clock that is wrong
//! for three hours costs three days of memory, and the floor still tells the truth about them.

use std::{ops::ControlFlow, sync::Arc};

use idem_crdt::{deletion_of, encoded_version};
use idem_kv::Snapshot;
use idem_model::{
    DecodeError, DocId, Timestamp,
    codec::{Reader, put_varint},
    limits,
};

use crate::{
    core::Core,
    error::StoreError,
    patience::Patience,
    tables::{self, SYSTEM, TOMBSTONES},
    work::Work,
};

/// What is kept of the tombstones that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// When the latest of them came here.
    pub(crate) floor: Timestamp,
    /// How many they are.
    pub(crate) count: u64,
}

impl Removed {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.floor.0);
        put_varint(&mut out, self.count);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let removed = Self {
            floor: Timestamp(reader.varint()?),
            count: reader.varint()?,
        };
        reader.finish()?;
        Ok(removed)
    }

    pub(crate) fn stored(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let row = snapshot.get(SYSTEM, tables::SYSTEM_REMOVED)?;
        row.map_or(Ok(Self::default()), |row| Self::decode(&row))
            .map_err(|error| StoreError::corrupt("removed tombstones", &error))
    }
}

/// The wall clock when the last round began that removed some, in Unix milliseconds.
pub(crate) fn last_round_ms(snapshot: &dyn Snapshot) -> Result<Option<u64>, StoreError> {
    let decode = |row: Vec<u8>| {
        let mut reader = Reader::new(&row);
        let ms = reader.varint()?;
        reader.finish().map(|()| ms)
    };
    let row = snapshot.get(SYSTEM, tables::SYSTEM_ROUND)?;
    let decoded = row.map(decode).transpose();
    decoded.map_err(|error| StoreError::corrupt("time of a round", &error))
}

/// The value of a row of [`TOMBSTONES`]: when the tombstone came here.
pub(crate) fn encode_arrival(time: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(10);
    put_varint(&mut out, time.0);
    out
}

pub(crate) fn decode_arrival(value: &[u8]) -> Result<Timestamp, DecodeError> {
    let mut reader = Reader::new(value);
    let time = Timestamp(reader.varint()?);
    reader.finish()?;
    Ok(time)
}

/// Removes the tombstones whose life is over, those of one day at most.
pub(crate) fn remove(core: &Arc<Core>, patience: &Patience) -> Result<(), StoreError> {
    let mut oldest = None;
    core.view()?
        .snapshot
        .scan(TOMBSTONES, &[], None, false, &mut |key, _| {
            oldest = Some(tables::split_tombstone(key).map(|(expiry_ms, ..)| expiry_ms));
            ControlFlow::Break(())
        })?;
    let Some(oldest) = oldest else {
        return Ok(());
    };
    let oldest = oldest.map_err(|error| StoreError::corrupt("tombstone", &error))?;
    let end_ms = oldest.saturating_add(limits::TOMBSTONE_ROUND_MS);
    let now_ms = (core.clock)();
    let end_ms = end_ms.min(now_ms.saturating_add(1));
    let mut from = Some(Vec::new());
    while let Some(key) = from {
        from = remove_batch(core, key, (now_ms, end_ms), patience)?;
    }
    Ok(())
}

/// Removes the next tombstones that expire before `end_ms`, in one transaction that raises the floor and
/// notes when the round began.
/// Returns where to go on, if there may be more: memory and log still know of what is deleted, and it
/// would be read over.
fn remove_batch(
    core: &Arc<Core>,
    from: Vec<u8>,
    (began_ms, end_ms): (u64, u64),
    patience: &Patience,
) -> Result<Option<Vec<u8>>, StoreError> {
    let corrupt = |error| StoreError::corrupt("tombstone", &error);
    let mut work = Work::write(Arc::clone(core), patience)?;
    let mut rows = Vec::new();
    let snapshot = &work.view.snapshot;
    let to = end_ms.to_be_bytes();
    snapshot.scan(TOMBSTONES, &from, Some(&to), false, &mut |key, value| {
        rows.push((key.to_vec(), decode_arrival(value)));
        match rows.len() < limits::UPKEEP_ROWS {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    if rows.is_empty() {
        return Ok(None);
    }
    let is_more = rows.len() == limits::UPKEEP_ROWS;
    let next = rows.last().filter(|_| is_more).map(|(key, _)| key.clone());
    let mut removed = Removed::stored(snapshot)?;
    for (row, arrival) in rows {
        let (expiry_ms, collection, id) = tables::split_tombstone(&row).map_err(corrupt)?;
        let key = tables::document(collection, id);
        let prior = work.prior(&key)?;
        if prior.stored.and_then(|header| header.expiry_ms) != Some(expiry_ms) {
            let what = format!("{} has no tombstone", tables::name(TOMBSTONES, &row));
            return Err(StoreError::Corrupt { what });
        }
        let body = prior.body.as_deref().unwrap_or_default();
        let version =
            encoded_version(body).map_err(|error| StoreError::corrupt("version vector", &error))?;
        removed.floor = removed.floor.max(arrival.map_err(corrupt)?);
        removed.count += 1;
        work.note_forgotten(collection, deletion_of(id, body).map_err(corrupt)?)?;
        let id = DocId::from_key(id).map_err(corrupt)?;
        work.bury(key, collection, &id, prior, &version)?;
    }
    let system = &mut work.pending.small.system;
    system.insert(tables::SYSTEM_REMOVED.to_vec(), Some(removed.encode()));
    let mut began = Vec::new();
    put_varint(&mut began, began_ms);
    system.insert(tables::SYSTEM_ROUND.to_vec(), Some(began));
    // First: too high for a moment does no harm, and too low would hide that some are gone.
    core.raise_gc_floor(removed.floor);
    work.hand_over()?;
    tracing::debug!(count = removed.count, floor = ?removed.floor, "tombstones were removed");
    Ok(next)
}

/// How many tombstones there are.
pub(crate) fn count(snapshot: &dyn Snapshot) -> Result<u64, StoreError> {
    let mut count = 0;
    snapshot.scan(TOMBSTONES, &[], None, false, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_as_they_were_written() {
        let time = Timestamp::new(1_700_000_000_000, 7);
        assert_eq!(decode_arrival(&encode_arrival(time)).unwrap(), time);
        assert!(decode_arrival(&[]).is_err());
        let removed = Removed {
            floor: time,
            count: 300,
        };
        assert_eq!(Removed::decode(&removed.encode()).unwrap(), removed);
    }
}

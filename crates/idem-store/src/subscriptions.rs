//! Which subscriptions the peer has, and what the store keeps of each.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use idem_kv::Snapshot;
use idem_model::{
    DecodeError,
    codec::{Reader, put_varint},
    limits,
};
use idem_query::Selector;

use crate::{
    core::Core,
    error::StoreError,
    patience::Patience,
    tables::{self, SYSTEM},
    work::Work,
};

/// The name of a subscription: the hash of its statement.
pub type SubscriptionHash = [u8; 32];

/// What the peer asks others for, as its owner tells the store with [`Interest::set`].
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its name.
    pub id: SubscriptionHash,
    /// What it selects.
    pub selector: Selector,
}

/// Tells the store which subscriptions there are. Outlives the store without keeping it open.
#[derive(Debug, Clone)]
pub struct Interest {
    core: Weak<Core>,
}

/// The subscriptions that there are, and those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    active: Mutex<Arc<[Subscription]>>,
    /// What [`Interest::end`] named and the upkeep has not yet forgotten.
    ended: Mutex<BTreeSet<SubscriptionHash>>,
}

impl Interest {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::downgrade(core),
        }
    }

    /// Sets all subscriptions. Documents that are evicted from now on count as held in those that
    /// select them. A subscription that is left out here rests: what it evicted stays evicted if it
    /// comes back within [`limits::SUBSCRIPTION_REST_MS_MAX`].
    pub fn set(&self, subscriptions: impl IntoIterator<Item = Subscription>) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        let active: Arc<[Subscription]> = subscriptions.into_iter().collect();
        let mut ended = core.subscriptions.ended();
        ended.retain(|id| active.iter().all(|subscription| subscription.id != *id));
        drop(ended);
        *core.subscriptions.active_mut() = active;
    }

    /// Ends a subscription: soon its cursors and its marks on evicted documents are forgotten. If it
    /// is set again before, it goes on.
    pub fn end(&self, subscription: SubscriptionHash) {
        let Some(core) = self.core.upgrade() else {
            return;
        };
        core.subscriptions.ended().insert(subscription);
        core.upkeep.wake();
    }
}

impl Subscriptions {
    pub(crate) fn active(&self) -> Arc<[Subscription]> {
        Arc::clone(&self.active_mut())
    }

    fn active_mut(&self) -> MutexGuard<'_, Arc<[Subscription]>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, BTreeSet<SubscriptionHash>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription that has a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    /// When it was last seen to be there, in Unix milliseconds.
    pub(crate) active_ms: u64,
}

impl Numbered {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.number);
        put_varint(&mut out, self.active_ms);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || -> Result<Self, DecodeError> {
            let mut reader = Reader::new(bytes);
            let numbered = Self {
                number: reader.varint()?,
                active_ms: reader.varint()?,
            };
            reader.finish()?;
            Ok(numbered)
        };
        read().map_err(|error| StoreError::corrupt("number of a subscription", &error))
    }
}

/// The number of a subscription; `None` if nothing was ever evicted from it.
pub(crate) fn number_of(
    snapshot: &dyn Snapshot,
    subscription: &SubscriptionHash,
) -> Result<Option<u64>, StoreError> {
    let row = snapshot.get(SYSTEM, &tables::subscription(subscription))?;
    let numbered = row.map(|row| Numbered::decode(&row)).transpose()?;
    Ok(numbered.map(|numbered| numbered.number))
}

impl Work {
    /// Forgets the cursors of all subscriptions that rest, because something went that they may select.
    /// What they select is not known, so that all of them compare what is held when they come back.
    pub(crate) fn forget_resting_cursors(&mut self) -> Result<(), StoreError> {
        let active = self.core.subscriptions.active();
        let is_resting = |key: &[u8], _: &[u8]| {
            let name = key.get(1 + 32..);
            active.iter().all(|it| name != Some(&it.id[..]))
        };
        let cursors = rows_in(&self.view.snapshot, tables::CURSOR_RANGE, &is_resting)?;
        let system = &mut self.pending.small.system;
        for (cursor, _) in cursors {
            system.insert(cursor, None);
        }
        Ok(())
    }

    /// Forgets a subscription: its number and its cursors. What markers say of it is swept later.
    fn forget_subscription(&mut self, subscription: &SubscriptionHash) -> Result<(), StoreError> {
        let row = tables::subscription(subscription);
        let is_numbered = self.system_row(&row)?.is_some();
        let cursors = rows_in(&self.view.snapshot, tables::CURSOR_RANGE, &|key, _| {
            key.ends_with(subscription) && key.len() == 1 + 32 + subscription.len()
        })?;
        let system = &mut self.pending.small.system;
        for (cursor, _) in cursors {
            system.insert(cursor, None);
        }
        if is_numbered {
            system.insert(row, None);
            system.insert(tables::SYSTEM_SWEEP.to_vec(), Some(Vec::new()));
        }
        Ok(())
    }
}

/// Keys and values.
pub(crate) type SystemRows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows of a range of the system table.
pub(crate) fn rows_in(
    snapshot: &dyn Snapshot,
    [from, to]: [u8; 2],
    is_wanted: &dyn Fn(&[u8], &[u8]) -> bool,
) -> Result<SystemRows, StoreError> {
    let mut rows = Vec::new();
    snapshot.scan(SYSTEM, &[from], Some(&[to]), false, &mut |key, value| {
        if is_wanted(key, value) {
            rows.push((key.to_vec(), value.to_vec()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// Notes which subscriptions are there, and forgets those that ended or rested for too long. Writes
/// nothing if there is nothing to note.
pub(crate) fn note_subscriptions(core: &Arc<Core>, patience: &Patience) -> Result<(), StoreError> {
    let ended: Vec<SubscriptionHash> = core.subscriptions.ended().iter().copied().collect();
    let active = core.subscriptions.active();
    let now_ms = (core.clock)();
    let is_active =
        |row: &[u8]| (active.iter()).any(|subscription| row.get(1..) == Some(&subscription.id[..]));
    let view = core.view()?;
    let stored = rows_in(&view.snapshot, tables::SUBSCRIPTION_RANGE, &|_, _| true)?;
    drop(view);
    let (mut refreshed, mut gone) = (Vec::new(), ended.clone());
    for (row, value) in stored {
        let numbered = Numbered::decode(&value)?;
        // A clock that was ahead must not keep a subscription for ever.
        let age_ms = now_ms.abs_diff(numbered.active_ms);
        if is_active(&row) {
            if age_ms >= limits::SUBSCRIPTION_NOTE_MS {
                let active_ms = now_ms;
                refreshed.push((
                    row,
                    Numbered {
                        active_ms,
                        ..numbered
                    }
                    .encode(),
                ));
            }
        } else if age_ms >= limits::SUBSCRIPTION_REST_MS_MAX {
            gone.extend(
                row.get(1..)
                    .and_then(|id| SubscriptionHash::try_from(id).ok()),
            );
        }
    }
    if refreshed.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let mut work = Work::write(Arc::clone(core), patience)?;
    for (row, value) in refreshed {
        work.pending.small.system.insert(row, Some(value));
    }
    for subscription in &gone {
        work.forget_subscription(subscription)?;
    }
    work.hand_over()?;
    let mut left = core.subscriptions.ended();
    for subscription in &ended {
        left.remove(subscription);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_as_it_was_written() {
        let numbered = Numbered {
            number: 9,
            active_ms: u64::MAX,
        };
        assert_eq!(Numbered::decode(&numbered.encode()).unwrap(), numbered);
    }
}

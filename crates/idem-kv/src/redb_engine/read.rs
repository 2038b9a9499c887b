//! Reading from the B-tree, with every value's checksum compared.

use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use redb::{ReadOnlyTable, ReadTransaction, TableError};

use super::{CHECKSUM_BYTES, EngineState, TABLES};
use crate::engine::checksum;
use crate::{KvError, Snapshot, Table, Visit};

type Opened = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A read transaction. Each table is opened when it is first used, and then stays open.
pub(super) struct RedbSnapshot {
    transaction: ReadTransaction,
    tables: [OnceLock<Option<Opened>>; TABLES.len()],
    state: Arc<EngineState>,
}

impl RedbSnapshot {
    pub(super) fn new(transaction: ReadTransaction, state: Arc<EngineState>) -> Self {
        Self {
            transaction,
            tables: std::array::from_fn(|_| OnceLock::new()),
            state,
        }
    }

    /// The table, or none if nothing was ever put into it.
    fn table(&self, table: Table) -> Result<Option<&Opened>, KvError> {
        let cell = &self.tables[usize::from(table.0)];
        if let Some(opened) = cell.get() {
            return Ok(opened.as_ref());
        }
        let opened = self.state.guard("read", || {
            match self.transaction.open_table(TABLES[usize::from(table.0)]) {
                Ok(opened) => Ok(Some(opened)),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl fmt::Debug for RedbSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbSnapshot").finish_non_exhaustive()
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let mut copy = None;
        self.read(table, key, &mut |value| copy = Some(value.to_vec()))?;
        Ok(copy)
    }

    fn read(&self, table: Table, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool, KvError> {
        let Some(opened) = self.table(table)? else {
            return Ok(false);
        };
        let Some(found) = self.state.guard("read", || opened.get(key))? else {
            return Ok(false);
        };
        // A damaged page may point outside of itself, which redb meets only here.
        let stored = self
            .state
            .guard("read", || Ok::<_, redb::StorageError>(found.value()))?;
        read(checked(table, key, stored)?);
        Ok(true)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        // redb panics on a reversed span, which holds nothing.
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let Some(opened) = self.table(table)? else {
            return Ok(());
        };
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(from), to);
        let mut range = self.state.guard("read", || opened.range::<&[u8]>(bounds))?;
        let mut before: Option<Vec<u8>> = None;
        loop {
            // Written where it stays: an entry is large to hand out of the guard.
            let mut next = None;
            self.state.guard("read", || {
                next = match reverse {
                    true => range.next_back(),
                    false => range.next(),
                }
                .transpose()?;
                Ok::<_, redb::StorageError>(())
            })?;
            let Some((key, value)) = &next else {
                return Ok(());
            };
            // As above.
            let (key, stored) = self.state.guard("read", || {
                Ok::<_, redb::StorageError>((key.value(), value.value()))
            })?;
            let value = checked(table, key, stored)?;
            // A damaged page above the leaves can lead anywhere, to entries that are valid alone.
            let ordered = before.as_ref().is_none_or(|before| match reverse {
                true => key < before.as_slice(),
                false => before.as_slice() < key,
            });
            if !ordered {
                return Err(KvError::Corrupt {
                    table,
                    key: key.to_vec(),
                });
            }
            if visit(key, value).is_break() {
                return Ok(());
            }
            let before = before.get_or_insert_default();
            before.clear();
            before.extend_from_slice(key);
        }
    }
}

/// The value without its checksum, if that matches.
fn checked<'a>(table: Table, key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], KvError> {
    if let Some((value, expected)) = stored.split_last_chunk::<CHECKSUM_BYTES>()
        && checksum(table, key, value).to_be_bytes() == *expected
    {
        return Ok(value);
    }
    Err(KvError::Corrupt {
        table,
        key: key.to_vec(),
    })
}

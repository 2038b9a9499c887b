//! The engine in memory: plain ordered maps.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use crate::{
    Batch, Durability, Engine, EngineStats, KvError, Snapshot, Table, VerifyReport, Visit,
};

type Entries = BTreeMap<Box<[u8]>, Arc<[u8]>>;
type Tables = BTreeMap<Table, Arc<Entries>>;

/// Tables in memory, gone with the engine. Clones share them.
///
/// A snapshot costs one reference count; the first commit to a table after a snapshot that is still
/// alive copies that table's keys (not its values).
#[derive(Debug, Clone, Default)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    tables: Arc<Tables>,
    commits: u64,
}

impl MemoryEngine {
    /// An engine without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies all entries into an engine of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        // Tables are shared until one side changes them.
        let state = State {
            tables: self.tables(),
            commits: 0,
        };
        Self {
            state: Arc::new(RwLock::new(state)),
        }
    }

    fn tables(&self) -> Arc<Tables> {
        Arc::clone(
            &self
                .state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .tables,
        )
    }
}

impl Engine for MemoryEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError> {
        Ok(Box::new(MemorySnapshot {
            tables: self.tables(),
        }))
    }

    fn commit(&self, batch: &Batch, _durability: Durability) -> Result<(), KvError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let tables = Arc::make_mut(&mut state.tables);
        for operation in batch {
            let entries = Arc::make_mut(tables.entry(operation.table).or_default());
            match operation.value {
                Some(value) => entries.insert(operation.key.into(), value.into()),
                None => entries.remove(operation.key),
            };
        }
        state.commits += 1;
        Ok(())
    }

    fn sync(&self) -> Result<(), KvError> {
        Ok(())
    }

    fn verify(&self) -> Result<VerifyReport, KvError> {
        let mut report = VerifyReport::default();
        for (key, value) in self.tables().values().flat_map(|entries| entries.iter()) {
            report.entries += 1;
            report.bytes += (key.len() + value.len()) as u64;
        }
        Ok(report)
    }

    fn compact(&self) -> Result<bool, KvError> {
        Ok(false)
    }

    fn stats(&self) -> EngineStats {
        let bytes = |entries: &Arc<Entries>| -> u64 {
            entries
                .iter()
                .map(|(key, value)| (key.len() + value.len()) as u64)
                .sum()
        };
        let file_bytes = self.tables().values().map(bytes).sum();
        let commits = self
            .state
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .commits;
        EngineStats {
            file_bytes,
            commits,
        }
    }
}

#[derive(Debug)]
struct MemorySnapshot {
    tables: Arc<Tables>,
}

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let entries = self.tables.get(&table);
        Ok(entries
            .and_then(|entries| entries.get(key))
            .map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), KvError> {
        let Some(entries) = self.tables.get(&table) else {
            return Ok(());
        };
        // `range` panics on a reversed span, which holds nothing.
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = entries.range::<[u8], _>((Bound::Included(from), to));
        while let Some((key, value)) = if reverse {
            range.next_back()
        } else {
            range.next()
        } {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

//! The double of the store as the executor sees it: with statistics, and with an eye on its calls.

use std::{cell::Cell, convert::Infallible, ops::ControlFlow};

use idem_model::{CollectionName, DocId, FieldPath, Object, Value};
use idem_query::{Fields, IndexInfo, IndexStatistics, KeySpan, Source};

use super::{Tallies, facts::Facts, tally::bump};
use crate::double::Memory;

/// A source that counts what is asked of it.
#[derive(Debug)]
pub(crate) struct Watched<'m> {
    memory: &'m Memory,
    facts: &'m Facts,
    indexes: Cell<u64>,
    gets: Cell<u32>,
}

impl<'m> Watched<'m> {
    pub(crate) fn of(memory: &'m Memory, facts: &'m Facts) -> Self {
        Self {
            memory,
            facts,
            indexes: Cell::new(0),
            gets: Cell::new(0),
        }
    }

    /// Counts the statement by what it asked for.
    pub(crate) fn note(&self, tallies: &Tallies) {
        match (self.indexes.get().count_ones(), self.gets.get()) {
            (0, 0) => {}
            (0, _) => bump(&tallies.ids_used),
            (1, _) => bump(&tallies.index_used),
            _ => {
                bump(&tallies.index_used);
                bump(&tallies.index_used_twice);
            }
        }
    }
}

impl Source for Watched<'_> {
    type Error = Infallible;

    fn get(
        &self,
        collection: &CollectionName,
        id: &DocId,
        fields: &Fields,
    ) -> Result<Option<Object>, Infallible> {
        self.gets.set(self.gets.get() + 1);
        self.memory.get(collection, id, fields)
    }

    fn scan(
        &self,
        collection: &CollectionName,
        fields: &Fields,
        visit: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        self.memory.scan(collection, fields, visit)
    }

    fn scan_index(
        &self,
        index: &IndexInfo,
        span: &KeySpan,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        let number = index.name().bytes().last().unwrap_or(0) % 64;
        self.indexes.set(self.indexes.get() | 1 << number);
        self.memory.scan_index(index, span, reverse, visit)
    }

    fn count(&self, collection: &CollectionName) -> Result<u64, Infallible> {
        self.memory.count(collection)
    }

    fn indexes(&self, collection: &CollectionName) -> Result<Vec<IndexInfo>, Infallible> {
        self.memory.indexes(collection)
    }

    /// Any numbers are good enough for a plan; these differ between indexes, and some are unknown.
    fn statistics(&self, index: &IndexInfo) -> Result<IndexStatistics, Infallible> {
        let keys = index
            .fields()
            .iter()
            .map(|field| field.key.text().len() as u64);
        let seed: u64 = keys.clone().sum();
        let number = u64::from(index.name().bytes().last().unwrap_or(0));
        if (seed + number).is_multiple_of(5) {
            return Ok(IndexStatistics::default());
        }
        let entries = self.memory.count(index.collection())?;
        Ok(IndexStatistics {
            entries,
            distinct: keys
                .map(|len| match number % 4 != 3 {
                    // So that two indexes together say much more than one.
                    true => entries.div_ceil(3).max(1),
                    false => 1 + (len * 7 + number) % entries.max(1),
                })
                .collect(),
        })
    }

    fn conflicts(
        &self,
        collection: &CollectionName,
        id: &DocId,
        path: &FieldPath,
    ) -> Result<Option<Vec<Value>>, Infallible> {
        let document = self.memory.get(collection, id, &Fields::All)?;
        let value = document.as_ref().and_then(|fields| path.find(fields));
        Ok(self.facts.conflicts(collection, id, path, value))
    }

    fn version(
        &self,
        collection: &CollectionName,
        id: &DocId,
    ) -> Result<Option<Object>, Infallible> {
        let document = self.memory.get(collection, id, &Fields::All)?;
        Ok(document.and_then(|_| self.facts.version(collection, id)))
    }

    fn system(&self, name: &str) -> Result<Option<Vec<Object>>, Infallible> {
        self.memory.system(name)
    }
}

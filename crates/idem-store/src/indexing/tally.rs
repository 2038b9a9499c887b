//! Counting the entries of an index and the different keys in it.
//!
//! The entries are in the order of their keys, so that equal ones are neighbours: counting is exact,
//! takes no memory, and reads every entry once.

use std::{mem, ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::{DecodeError, key, limits};
use idem_query::IndexInfo;

use crate::{
    catalog::Tally,
    core::Core,
    error::StoreError,
    patience::Patience,
    source::{UNINDEXED, split_entry},
    tables::{self, INDEX},
    work::Work,
};

/// Changes below which an index is not counted again.
pub(super) const CHANGES_MIN: u64 = 64;

/// A count that is under way, or one of entries that come in the order of their keys.
#[derive(Debug)]
pub(crate) struct Counting {
    index: u32,
    info: IndexInfo,
    /// Key of the last entry; empty at the beginning.
    after: Vec<u8>,
    /// Its part for the fields.
    fields: Vec<u8>,
    entries: u64,
    distinct: Vec<u64>,
    /// Changes of the index that were noted when the count began.
    changes: u64,
}

impl Counting {
    pub(crate) fn new(index: u32, info: &IndexInfo, changes: u64) -> Self {
        Self {
            index,
            info: info.clone(),
            changes,
            after: Vec::new(),
            fields: Vec::new(),
            entries: 0,
            distinct: vec![0; info.fields().len()],
        }
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Counts an entry by the part of its key for the fields.
    fn count(&mut self, fields: &[u8]) -> Result<(), DecodeError> {
        let known = if self.entries == 0 {
            0
        } else {
            let pairs = fields.iter().zip(&self.fields);
            pairs.take_while(|(a, b)| a == b).count()
        };
        let is_same = self.entries > 0 && known == fields.len();
        self.entries += 1;
        if is_same {
            return Ok(());
        }
        let mut end = 0;
        let last = self.distinct.len() - 1;
        for (at, field) in self.info.fields().iter().enumerate() {
            end = if at == last {
                fields.len()
            } else {
                end + key::element_len(&fields[end..], field.descending)?
            };
            // A key that ends inside of what both begin with is the same key.
            if end > known || self.entries == 1 {
                self.distinct[at] += 1;
            }
        }
        self.fields.clear();
        self.fields.extend_from_slice(fields);
        Ok(())
    }

    /// Counts entries by their keys and values, which come in order.
    pub(crate) fn count_entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let corrupt = |error| StoreError::corrupt("index entry", &error);
        let (fields, _) = split_entry(key, value).map_err(corrupt)?;
        if fields.first() == Some(&UNINDEXED) {
            return Ok(());
        }
        self.count(fields).map_err(corrupt)
    }

    pub(crate) fn tally(self, documents: u64) -> Tally {
        Tally {
            documents,
            entries: self.entries,
            distinct: self.distinct,
        }
    }
}

/// Counts the next entries of an index, and stores the result after the last one. What is committed
/// meanwhile may or may not be counted.
pub(super) fn step(
    core: &Arc<Core>,
    id: u32,
    counting: &mut Option<Counting>,
    patience: &Patience,
) -> Result<(), StoreError> {
    // Read before the view: what is committed in between is counted twice rather than never.
    let changes = core.indexing.changes(id);
    let view = core.view()?;
    let Some((_, index)) = view.catalog.index(id) else {
        return Ok(());
    };
    let mut current = match counting.take() {
        Some(current) if current.index == id && current.info == index.info => current,
        _ => Counting::new(id, &index.info, changes),
    };
    let from = match &current.after[..] {
        [] => tables::index_prefix(id).to_vec(),
        after => [after, &[0]].concat(),
    };
    let to = [&tables::index_prefix(id)[..], &[UNINDEXED]].concat();
    let mut left = limits::INDEX_TALLY_ENTRIES;
    let mut failure = None;
    let mut after = Vec::new();
    view.snapshot
        .scan(INDEX, &from, Some(&to), false, &mut |key, value| {
            if let Err(error) = current.count_entry(key, value) {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            left -= 1;
            if left > 0 {
                return ControlFlow::Continue(());
            }
            after = key.to_vec();
            ControlFlow::Break(())
        })?;
    failure.map_or(Ok(()), Err)?;
    if left == 0 {
        current.after = mem::take(&mut after);
        *counting = Some(current);
        return Ok(());
    }
    drop(view);
    store(core, current, patience)
}

fn store(core: &Arc<Core>, counted: Counting, patience: &Patience) -> Result<(), StoreError> {
    let mut work = Work::write(Arc::clone(core), patience)?;
    let (id, changes) = (counted.index, counted.changes);
    let Some((collection, index)) = work.catalog().index(id) else {
        return Ok(());
    };
    if index.info != counted.info {
        return Ok(());
    }
    let tally = counted.tally(work.documents_in(collection)?);
    work.pending
        .small
        .system
        .insert(tables::index_tally(id), Some(tally.encode()));
    work.change_catalog(|catalog| {
        let index = catalog.index_mut(id).expect("it was there above");
        index.tally = tally;
    });
    super::commit(core, work)?;
    core.indexing.counted(id, changes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use idem_model::{CollectionName, FieldPath, Object, Value};
    use idem_query::{IndexField, IndexKey, IndexSpec};

    use super::*;
    use crate::{catalog::Index, entries};

    #[test]
    fn neighbours_tell_how_many_keys_are_different() {
        let field = |name: &str, descending| IndexField {
            key: IndexKey::Path(FieldPath::field(name)),
            descending,
        };
        let info = IndexInfo::new(IndexSpec {
            name: "i".to_owned(),
            collection: CollectionName::new("t").unwrap(),
            fields: vec![field("a", true), field("b", false), field("c", true)],
        });
        let index = Index {
            id: 1,
            info: info.clone(),
            build: None,
            tally: Tally::default(),
        };
        // Of several kinds, so that keys differ within a field and where one ends.
        let values = [
            Value::Null,
            Value::Bool(true),
            Value::Int(1),
            Value::from(""),
            Value::from("a\0b"),
            vec![Value::Int(1), Value::from("x")].into(),
            Object::from([("k".to_owned(), Value::Null)]).into(),
        ];
        for step in 1..200_usize {
            let mut keys = BTreeSet::new();
            let mut expected = vec![BTreeSet::new(); 3];
            for number in 0..60 {
                let at = number * step;
                let parts = [at % 3, at % 7, at / 3 % 7].map(|at| values[at].clone());
                for (len, expected) in expected.iter_mut().enumerate() {
                    expected.insert(format!("{:?}", &parts[..=len]));
                }
                let names = ["a", "b", "c"].map(str::to_owned);
                let fields = names.into_iter().zip(parts).collect();
                let id = [0x40, u8::try_from(number).unwrap() + 1, 0, 0];
                keys.extend(entries::keys_of(&index, &id, &fields));
            }
            let mut counting = Counting::new(1, &info, 0);
            for key in &keys {
                counting
                    .count_entry(key, &entries::value_of(&[0; 4]))
                    .unwrap();
            }
            let tally = counting.tally(60);
            assert_eq!(tally.entries, 60);
            let expected: Vec<u64> = expected.iter().map(|set| set.len() as u64).collect();
            assert_eq!(tally.distinct, expected);
        }
    }
}

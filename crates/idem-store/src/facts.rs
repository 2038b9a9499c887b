//! What the planner asks about a collection at every statement, kept until the next commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use idem_query::IndexInfo;

use crate::error::StoreError;

/// Collections whose facts are kept: a store has some dozens, and those of one take under 1 KiB.
const COLLECTIONS_MAX: usize = 256;

/// What is stored of a collection at one position of the log.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) documents: u64,
    /// The indexes that can answer for every document.
    pub(crate) complete: Vec<IndexInfo>,
}

/// The facts of the newest position that somebody asked about.
#[derive(Debug, Default)]
pub(crate) struct FactsCache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    position: u64,
    by_collection: BTreeMap<u32, Arc<Facts>>,
}

impl FactsCache {
    /// The facts of a collection at `position`; `find` is called, without a lock, if they are not known.
    pub(crate) fn at(
        &self,
        position: u64,
        collection: u32,
        find: impl FnOnce() -> Result<Facts, StoreError>,
    ) -> Result<Arc<Facts>, StoreError> {
        {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.position == position
                && let Some(known) = state.by_collection.get(&collection)
            {
                return Ok(Arc::clone(known));
            }
        }
        let found = Arc::new(find()?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader of an older state must not put back what a newer one has replaced.
        if position > state.position || state.by_collection.len() >= COLLECTIONS_MAX {
            state.by_collection.clear();
            state.position = state.position.max(position);
        }
        if position == state.position {
            state.by_collection.insert(collection, Arc::clone(&found));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(documents: u64) -> Result<Facts, StoreError> {
        Ok(Facts {
            documents,
            complete: Vec::new(),
        })
    }

    #[test]
    fn facts_are_those_of_their_position() {
        let cache = FactsCache::default();
        let known = || unreachable!("these facts are known");
        assert_eq!(cache.at(5, 1, || facts(10)).unwrap().documents, 10);
        assert_eq!(cache.at(5, 1, known).unwrap().documents, 10);
        assert_eq!(cache.at(5, 2, || facts(20)).unwrap().documents, 20);
        assert_eq!(cache.at(6, 1, || facts(11)).unwrap().documents, 11);
        // A reader of before the commit sees what there was, and leaves the newer facts alone.
        assert_eq!(cache.at(5, 1, || facts(10)).unwrap().documents, 10);
        assert_eq!(cache.at(6, 1, known).unwrap().documents, 11);
        assert_eq!(cache.at(6, 2, || facts(21)).unwrap().documents, 21);
    }

    #[test]
    fn few_facts_are_kept() {
        let cache = FactsCache::default();
        for collection in 0..2 * u32::try_from(COLLECTIONS_MAX).unwrap() {
            cache.at(1, collection, || facts(1)).unwrap();
            assert!(cache.state.lock().unwrap().by_collection.len() <= COLLECTIONS_MAX);
        }
    }
}

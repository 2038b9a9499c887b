//! A source without documents: what a statement takes there is all its own.

use std::{convert::Infallible, ops::ControlFlow};

use idem_model::{CollectionName, DocId, FieldPath, Object};
use idem_query::{
    Fields, IndexField, IndexInfo, IndexKey, IndexSpec, IndexStatistics, KeySpan, Source,
};

use crate::engines::Failure;

/// An empty collection with one index to choose.
pub(super) struct Nothing {
    index: IndexInfo,
}

impl Nothing {
    /// With an index of `collection` over the field `name`.
    pub(super) fn with_index(collection: &str, name: &str) -> Result<Self, Failure> {
        let index = IndexInfo::new(IndexSpec {
            name: format!("by_{name}"),
            collection: CollectionName::new(collection)?,
            fields: vec![IndexField {
                key: IndexKey::Path(FieldPath::field(name)),
                descending: false,
            }],
        });
        Ok(Self { index })
    }
}

impl Source for Nothing {
    type Error = Infallible;

    fn get(&self, _: &CollectionName, _: &DocId, _: &Fields) -> Result<Option<Object>, Infallible> {
        Ok(None)
    }

    fn scan(
        &self,
        _: &CollectionName,
        _: &Fields,
        _: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn scan_index(
        &self,
        _: &IndexInfo,
        _: &KeySpan,
        _: bool,
        _: &mut dyn FnMut(&[u8], DocId) -> ControlFlow<()>,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn count(&self, _: &CollectionName) -> Result<u64, Infallible> {
        Ok(100_000)
    }

    fn indexes(&self, _: &CollectionName) -> Result<Vec<IndexInfo>, Infallible> {
        Ok(vec![self.index.clone()])
    }

    fn statistics(&self, _: &IndexInfo) -> Result<IndexStatistics, Infallible> {
        Ok(IndexStatistics {
            entries: 100_000,
            distinct: vec![200],
        })
    }

    fn system(&self, _: &str) -> Result<Option<Vec<Object>>, Infallible> {
        Ok(None)
    }
}

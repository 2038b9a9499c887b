//! Which collections, indexes and parameters there are.

use std::{collections::BTreeMap, iter, ops::ControlFlow, sync::Arc};

use idem_kv::Snapshot;
use idem_model::{
    CollectionName, DecodeError, FieldKind, FieldPath, Value,
    codec::{Reader, put_bytes, put_varint},
    limits,
};
use idem_query::{IndexExpression, IndexField, IndexInfo, IndexKey, IndexSpec};

use crate::{
    declared::{self, Declared, Kinds},
    error::StoreError,
    tables::{self, CatalogKey, SYSTEM},
};

/// Names and definitions, kept in memory whole and replaced by a changed copy: there are few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    ordinals: BTreeMap<CollectionName, u32>,
    names: BTreeMap<u32, CollectionName>,
    indexes: BTreeMap<u32, Vec<Index>>,
    /// What the documents of `__collections` say.
    pub(crate) declared: Arc<Declared>,
    pub(crate) parameters: BTreeMap<String, Value>,
}

/// An index of one collection.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) id: u32,
    pub(crate) info: IndexInfo,
}

impl Catalog {
    pub(crate) fn read(snapshot: &dyn Snapshot) -> Result<Self, StoreError> {
        let mut catalog = Self::default();
        for tag in tables::CATALOG_TAGS {
            let mut failure = None;
            snapshot.scan(
                SYSTEM,
                &[tag],
                Some(&[tag + 1]),
                false,
                &mut |key, value| match catalog.insert_row(key, value) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failure = Some(StoreError::corrupt("catalog", &error));
                        ControlFlow::Break(())
                    }
                },
            )?;
            failure.map_or(Ok(()), Err)?;
        }
        catalog.declared = Arc::new(declared::read(&catalog, snapshot, iter::empty())?);
        Ok(catalog)
    }

    /// Collections come before indexes in key order, so an index finds its collection.
    fn insert_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let invalid = |what| DecodeError::Invalid { what, at: 0 };
        match tables::split_catalog(key)? {
            CatalogKey::Collection(ordinal) => {
                let name = str::from_utf8(value).map_err(|_| invalid("collection name"))?;
                let name = CollectionName::new(name).map_err(|_| invalid("collection name"))?;
                self.insert_collection(name, ordinal);
            }
            CatalogKey::Index(id) => {
                let (ordinal, name, fields) = decode_index(value)?;
                let collection = self
                    .name(ordinal)
                    .ok_or(invalid("collection of an index"))?
                    .clone();
                let info = IndexInfo::new(IndexSpec {
                    name,
                    collection,
                    fields,
                });
                self.insert_index(ordinal, Index { id, info });
            }
            CatalogKey::Parameter(name) => {
                self.parameters
                    .insert(name.to_owned(), Value::from_bytes(value)?);
            }
        }
        Ok(())
    }

    pub(crate) fn ordinal(&self, name: &CollectionName) -> Option<u32> {
        self.ordinals.get(name).copied()
    }

    pub(crate) fn name(&self, ordinal: u32) -> Option<&CollectionName> {
        self.names.get(&ordinal)
    }

    /// The kinds that a collection declares.
    pub(crate) fn kinds_of(&self, name: &CollectionName) -> Kinds {
        self.declared.get(name).cloned().unwrap_or_default()
    }

    /// The kinds that the collection of this ordinal declares.
    pub(crate) fn kinds(&self, collection: u32) -> &[(FieldPath, FieldKind)] {
        if self.declared.is_empty() {
            return &[];
        }
        let name = self.names.get(&collection);
        name.and_then(|name| self.declared.get(name))
            .map_or(&[], |kinds| &**kinds)
    }

    /// Name and ordinal in the order of names.
    pub(crate) fn collections(&self) -> impl Iterator<Item = (&CollectionName, u32)> {
        self.ordinals.iter().map(|(name, &ordinal)| (name, ordinal))
    }

    pub(crate) fn indexes(&self, collection: u32) -> &[Index] {
        self.indexes.get(&collection).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn insert_collection(&mut self, name: CollectionName, ordinal: u32) {
        self.ordinals.insert(name.clone(), ordinal);
        self.names.insert(ordinal, name);
    }

    pub(crate) fn insert_index(&mut self, collection: u32, index: Index) {
        self.indexes.entry(collection).or_default().push(index);
    }

    pub(crate) fn remove_index(&mut self, collection: u32, name: &str) -> Option<Index> {
        let indexes = self.indexes.get_mut(&collection)?;
        let at = indexes.iter().position(|index| index.info.name() == name)?;
        Some(indexes.remove(at))
    }

    /// Collections are never forgotten, so the count is free.
    pub(crate) fn next_collection(&self) -> u32 {
        self.names.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    pub(crate) fn next_index(&self) -> u32 {
        let last = self.indexes.values().flatten().map(|index| index.id).max();
        last.map_or(1, |last| last + 1)
    }
}

pub(crate) fn encode_index(collection: u32, spec: &IndexSpec) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, collection.into());
    put_bytes(&mut out, spec.name.as_bytes());
    put_varint(&mut out, spec.fields.len() as u64);
    for field in &spec.fields {
        match &field.key {
            IndexKey::Path(path) => {
                out.push(KEY_PATH);
                path.encode(&mut out);
            }
            IndexKey::Expression(expression) => {
                out.push(KEY_EXPRESSION);
                put_bytes(&mut out, expression.text().as_bytes());
            }
            IndexKey::Elements(expression) => {
                out.push(KEY_ELEMENTS);
                put_bytes(&mut out, expression.text().as_bytes());
            }
            other => unreachable!("a kind of index key without a form: {other:?}"),
        }
        out.push(field.descending.into());
    }
    out
}

/// What a field of an index holds.
const KEY_PATH: u8 = 0;
const KEY_EXPRESSION: u8 = 1;
const KEY_ELEMENTS: u8 = 2;

fn decode_key(reader: &mut Reader<'_>) -> Result<IndexKey, DecodeError> {
    let invalid = |what| DecodeError::Invalid { what, at: 0 };
    let kind = reader.byte()?;
    if kind == KEY_PATH {
        return Ok(IndexKey::Path(FieldPath::decode(reader)?));
    }
    let text = reader.text("index expression", limits::STATEMENT_BYTES_MAX)?;
    let expression =
        IndexExpression::parse(text).map_err(|_not_parsed| invalid("index expression"))?;
    match kind {
        KEY_EXPRESSION => Ok(IndexKey::Expression(expression)),
        KEY_ELEMENTS => Ok(IndexKey::Elements(expression)),
        _ => Err(invalid("kind of index key")),
    }
}

fn decode_index(bytes: &[u8]) -> Result<(u32, String, Vec<IndexField>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let invalid = |what| DecodeError::Invalid { what, at: 0 };
    let collection = u32::try_from(reader.varint()?).map_err(|_| invalid("collection"))?;
    let name = reader
        .text("index name", limits::STATEMENT_BYTES_MAX)?
        .to_owned();
    let count = reader.count("index fields", limits::NESTING_LEVELS_MAX, 2)?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let key = decode_key(&mut reader)?;
        let descending = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(invalid("index direction")),
        };
        fields.push(IndexField { key, descending });
    }
    reader.finish()?;
    Ok((collection, name, fields))
}

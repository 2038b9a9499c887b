//! Which collections, indexes and parameters there are.

mod rows;

pub(crate) use self::rows::encode_index;

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    ops::ControlFlow,
    sync::Arc,
};

use idem_kv::Snapshot;
use idem_model::{CollectionName, DecodeError, FieldKind, FieldPath, SyncScope, Value};
use idem_query::{Directives, Fields, IndexInfo, IndexSpec};

use crate::{
    declared::{self, Declared, Kinds},
    error::StoreError,
    projections::Projection,
    tables::{self, CatalogKey, SYSTEM},
    tuning::Tuning,
};

/// Names and definitions, kept in memory whole and replaced by a changed copy: there are few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    ordinals: BTreeMap<CollectionName, u32>,
    names: BTreeMap<u32, CollectionName>,
    /// The collections that belong to projections.
    projections: BTreeMap<u32, Projection>,
    /// Them by the names under which their documents travel.
    travelling: BTreeMap<CollectionName, u32>,
    indexes: BTreeMap<u32, Vec<Index>>,
    /// What the indexes of a collection look at, all together.
    indexed: BTreeMap<u32, Fields>,
    /// What the documents of `__collections` say.
    pub(crate) declared: Arc<Declared>,
    /// Indexes that are gone by name, and whose entries are being deleted.
    pub(crate) purges: BTreeMap<u32, Purge>,
    parameters: BTreeMap<String, Value>,
    pub(crate) tuning: Tuning,
    /// Those of `dql_default_directives`; the same one until that parameter is set.
    pub(crate) directives: Arc<Directives>,
    /// Those of `user_collection_sync_scopes`.
    sync_scopes: Arc<BTreeMap<CollectionName, SyncScope>>,
}

/// An index of one collection.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    /// Its number, which begins the keys of its entries.
    pub(crate) id: u32,
    pub(crate) info: IndexInfo,
    /// Set until every document has its entries.
    pub(crate) build: Option<Build>,
    pub(crate) tally: Tally,
}

/// How far the build of an index has come. Documents behind `after` and up to `end` are not in the
/// index yet; all others are, and are kept in it by whoever writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Build {
    /// Id key of the last document that was read; empty at the beginning.
    pub(crate) after: Vec<u8>,
    /// Id key of the last document when the build began. So documents that are added behind it, as
    /// with ids that rise with time, cannot keep the build from its end.
    pub(crate) end: Vec<u8>,
    /// Documents that were read.
    pub(crate) done: u64,
    /// Documents of the collection when the build began.
    pub(crate) total: u64,
}

/// How far the entries of a dropped index are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Purge {
    pub(crate) collection: u32,
    pub(crate) name: String,
    /// Key of the last entry that was deleted; empty at the beginning.
    pub(crate) after: Vec<u8>,
    /// Entries that were deleted.
    pub(crate) done: u64,
    /// Entries that were there, about.
    pub(crate) total: u64,
}

/// What an index held when its entries were counted last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// Documents of the collection at that time.
    pub(crate) documents: u64,
    pub(crate) entries: u64,
    /// Different keys of the first field, of the first two, and so on; empty before the first count.
    pub(crate) distinct: Vec<u64>,
}

impl Index {
    /// Whether the entries of the document with this id key are in the index.
    pub(crate) fn holds(&self, id: &[u8]) -> bool {
        self.build
            .as_ref()
            .is_none_or(|build| id <= build.after.as_slice() || id > build.end.as_slice())
    }

    /// How many entries there are now, with so many documents in the collection.
    pub(crate) fn entries(&self, documents: u64) -> u64 {
        if let Some(build) = &self.build {
            return build.done;
        }
        let tally = &self.tally;
        if tally.documents == 0 || tally.entries == tally.documents {
            return documents;
        }
        let scaled = u128::from(tally.entries) * u128::from(documents);
        u64::try_from(scaled / u128::from(tally.documents)).unwrap_or(u64::MAX)
    }
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

    /// Collections come before indexes, and those before what is noted of them.
    fn insert_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let invalid = |what| DecodeError::Invalid { what, at: 0 };
        match tables::split_catalog(key)? {
            CatalogKey::Collection(ordinal) => {
                let name = str::from_utf8(value).map_err(|_| invalid("collection name"))?;
                let name = CollectionName::new(name).map_err(|_| invalid("collection name"))?;
                self.insert_collection(name, ordinal);
            }
            CatalogKey::Projection(ordinal) => {
                self.insert_projection(ordinal, Projection::decode(value)?);
            }
            CatalogKey::Index(id) => {
                let (ordinal, name, fields) = rows::decode_index(value)?;
                let collection = self
                    .name(ordinal)
                    .ok_or(invalid("collection of an index"))?
                    .clone();
                let info = IndexInfo::new(IndexSpec {
                    name,
                    collection,
                    fields,
                });
                self.insert_index(
                    ordinal,
                    Index {
                        id,
                        info,
                        build: None,
                        tally: Tally::default(),
                    },
                );
            }
            CatalogKey::Build(id) => {
                let index = self.index_mut(id).ok_or(invalid("index of a build"))?;
                index.build = Some(Build::decode(value)?);
            }
            CatalogKey::Purge(id) => {
                self.purges.insert(id, Purge::decode(value)?);
            }
            CatalogKey::Tally(id) => {
                let index = self.index_mut(id).ok_or(invalid("index of a count"))?;
                index.tally = Tally::decode(value)?;
            }
            CatalogKey::Parameter(name) => {
                self.set_parameter(name, Some(Value::from_bytes(value)?));
            }
        }
        Ok(())
    }

    /// The number of a collection, by its name or by the one under which its documents travel.
    pub(crate) fn ordinal(&self, name: &CollectionName) -> Option<u32> {
        let ordinal = self.ordinals.get(name);
        ordinal.or_else(|| self.travelling.get(name)).copied()
    }

    /// What a collection holds that belongs to a projection.
    pub(crate) fn projection(&self, ordinal: u32) -> Option<&Projection> {
        self.projections.get(&ordinal)
    }

    /// The collections that hold parts of the documents of this one.
    pub(crate) fn projections_of(
        &self,
        source: &CollectionName,
    ) -> impl Iterator<Item = &CollectionName> {
        let projections = self
            .projections
            .iter()
            .filter(move |(_, it)| it.source == *source);
        projections.filter_map(|(ordinal, _)| self.name(*ordinal))
    }

    pub(crate) fn insert_projection(&mut self, ordinal: u32, projection: Projection) {
        self.travelling
            .insert(projection.travelling.clone(), ordinal);
        self.projections.insert(ordinal, projection);
    }

    pub(crate) fn name(&self, ordinal: u32) -> Option<&CollectionName> {
        self.names.get(&ordinal)
    }

    /// The kinds that a collection declares; of one that belongs to a projection, those of its source.
    pub(crate) fn kinds_of(&self, name: &CollectionName) -> Kinds {
        let projection = self.ordinal(name).and_then(|it| self.projection(it));
        let name = projection.map_or(name, |it| &it.source);
        self.declared.get(name).cloned().unwrap_or_default()
    }

    /// The kinds that the collection of this ordinal declares.
    pub(crate) fn kinds(&self, collection: u32) -> &[(FieldPath, FieldKind)] {
        if self.declared.is_empty() {
            return &[];
        }
        let name = match self.projection(collection) {
            Some(projection) => Some(&projection.source),
            None => self.names.get(&collection),
        };
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

    /// All indexes, each with its collection.
    pub(crate) fn all_indexes(&self) -> impl Iterator<Item = (u32, &Index)> {
        self.indexes
            .iter()
            .flat_map(|(&collection, indexes)| indexes.iter().map(move |index| (collection, index)))
    }

    /// An index by its number, with its collection.
    pub(crate) fn index(&self, id: u32) -> Option<(u32, &Index)> {
        self.all_indexes().find(|(_, index)| index.id == id)
    }

    pub(crate) fn index_mut(&mut self, id: u32) -> Option<&mut Index> {
        let mut indexes = self.indexes.values_mut().flatten();
        indexes.find(|index| index.id == id)
    }

    pub(crate) fn index_named(&self, collection: u32, name: &str) -> Option<&Index> {
        let mut indexes = self.indexes(collection).iter();
        indexes.find(|index| index.info.name() == name)
    }

    /// Whether something is to be built or deleted in the background.
    pub(crate) fn has_index_work(&self) -> bool {
        !self.purges.is_empty() || self.all_indexes().any(|(_, index)| index.build.is_some())
    }

    /// The system parameters that differ from their default.
    pub(crate) fn parameters(&self) -> &BTreeMap<String, Value> {
        &self.parameters
    }

    /// Sets a system parameter, or its default for `None`.
    pub(crate) fn set_parameter(&mut self, name: &str, value: Option<Value>) {
        if name == "dql_default_directives" {
            // They were checked when they were set; a later version may know more of them.
            let read = value.as_ref().map(Directives::new);
            self.directives = Arc::new(read.and_then(Result::ok).unwrap_or_default());
        }
        if name == "user_collection_sync_scopes" {
            let read = value.as_ref().map(idem_query::sync_scopes);
            self.sync_scopes = Arc::new(read.and_then(Result::ok).unwrap_or_default());
        }
        match value {
            Some(value) => self.parameters.insert(name.to_owned(), value),
            None => self.parameters.remove(name),
        };
        self.tuning = Tuning::of(&self.parameters);
    }

    /// The collections that do not sync with all peers.
    pub(crate) fn sync_scopes(&self) -> &BTreeMap<CollectionName, SyncScope> {
        &self.sync_scopes
    }

    /// With which peers a collection syncs.
    pub(crate) fn sync_scope(&self, collection: &CollectionName) -> SyncScope {
        let projection = self.ordinal(collection).and_then(|it| self.projection(it));
        let collection = match projection {
            None => collection,
            // What travels is part of the documents of the source.
            Some(projection) if projection.travelling == *collection => &projection.source,
            Some(_) => return SyncScope::LocalPeerOnly,
        };
        let scope = self.sync_scopes.get(collection);
        scope.copied().unwrap_or_default()
    }

    pub(crate) fn insert_collection(&mut self, name: CollectionName, ordinal: u32) {
        self.ordinals.insert(name.clone(), ordinal);
        self.names.insert(ordinal, name);
    }

    pub(crate) fn insert_index(&mut self, collection: u32, index: Index) {
        self.indexes.entry(collection).or_default().push(index);
        self.note_indexed(collection);
    }

    fn note_indexed(&mut self, collection: u32) {
        let mut names = BTreeSet::new();
        for index in self.indexes(collection) {
            match index.info.looks_at() {
                Fields::Named(more) => names.extend(more),
                Fields::All | Fields::Typed(_) => {
                    self.indexed.insert(collection, Fields::All);
                    return;
                }
            }
        }
        let names = Fields::Named(names.into_iter().collect());
        self.indexed.insert(collection, names);
    }

    /// The fields that the indexes of a collection look at, `_id` aside.
    pub(crate) fn indexed(&self, collection: u32) -> &Fields {
        self.indexed.get(&collection).unwrap_or(&Fields::All)
    }

    pub(crate) fn remove_index(&mut self, collection: u32, name: &str) -> Option<Index> {
        let indexes = self.indexes.get_mut(&collection)?;
        let at = indexes.iter().position(|index| index.info.name() == name)?;
        let removed = indexes.remove(at);
        self.note_indexed(collection);
        Some(removed)
    }

    /// Collections are never forgotten, so the count is free.
    pub(crate) fn next_collection(&self) -> u32 {
        self.names.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    /// A number that no entry begins with: not that of an index whose entries are still there.
    pub(crate) fn next_index(&self) -> u32 {
        let indexes = self.all_indexes().map(|(_, index)| index.id);
        let last = indexes.chain(self.purges.keys().copied()).max();
        last.map_or(1, |last| last + 1)
    }
}

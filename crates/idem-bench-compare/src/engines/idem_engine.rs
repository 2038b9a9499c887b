//! Idem as its users use it: DQL with parameters.

use std::path::Path;

use idem::{ConnectMode, DatabaseId, Durability, Idem, IdemConfig, Object, Query, Value};

use super::{Engine, Failure, Writer};
use crate::documents;

const INSERT: &str = "INSERT INTO docs DOCUMENTS (:documents)";
const SELECT: &str = "SELECT * FROM docs WHERE _id = :id";
const COUNT: &str = "SELECT COUNT(*) AS n FROM docs";
const COUNT_CATEGORY: &str = "SELECT COUNT(*) AS n FROM docs WHERE category = :category";
pub(crate) const CREATE_INDEX: &str = "CREATE INDEX docs_category ON docs (category)";

/// A peer that does not sync.
pub(crate) struct IdemEngine {
    idem: Idem,
}

/// A handle of the store.
pub(crate) struct IdemWriter<'a> {
    store: &'a idem::Store,
}

/// The number in the only row of a count.
pub(crate) fn counted(store: &idem::Store, query: &str, args: Object) -> Result<u64, Failure> {
    let result = store.execute_blocking((query, args))?;
    let count = result
        .get_item(0)
        .and_then(|item| item.field("n")?.as_int());
    Ok(u64::try_from(count.ok_or("a count without a number")?)?)
}

/// How many documents a store holds.
pub(crate) fn count(store: &idem::Store) -> Result<u64, Failure> {
    counted(store, COUNT, Object::new())
}

/// How many documents of a category a store finds through its index.
pub(crate) fn count_category(store: &idem::Store, category: i64) -> Result<u64, Failure> {
    let args = Object::from([("category".to_owned(), Value::Int(category))]);
    counted(store, COUNT_CATEGORY, args)
}

impl Engine for IdemEngine {
    type Document = Object;
    type Writer<'a> = IdemWriter<'a>;

    fn open(directory: &Path) -> Result<Self, Failure> {
        let config = IdemConfig::new(DatabaseId([1; 16]), ConnectMode::Offline)
            .with_persistence_directory(directory.join("store"))
            .with_durability(Durability::Durable);
        let idem = Idem::open_sync(config)?;
        idem.store().execute_blocking(CREATE_INDEX)?;
        Ok(Self { idem })
    }

    fn prepare(number: u64) -> Object {
        documents::document(number)
    }

    fn writer(&self) -> Result<IdemWriter<'_>, Failure> {
        Ok(IdemWriter {
            store: self.idem.store(),
        })
    }

    fn count(&self) -> Result<u64, Failure> {
        count(self.idem.store())
    }

    fn count_category(&self, category: i64) -> Result<u64, Failure> {
        count_category(self.idem.store(), category)
    }
}

impl Drop for IdemEngine {
    fn drop(&mut self) {
        // What was acknowledged is safe either way; the count was taken before.
        let _ = self.idem.close_blocking();
    }
}

impl Writer<Object> for IdemWriter<'_> {
    fn insert(&mut self, documents: Vec<Object>) -> Result<(), Failure> {
        let documents = documents.into_iter().map(Value::Object).collect();
        let args = Object::from([("documents".to_owned(), Value::Array(documents))]);
        self.store.execute_blocking(Query::new(INSERT, args))?;
        Ok(())
    }

    fn read(&mut self, id: &str) -> Result<bool, Failure> {
        let args = Object::from([("id".to_owned(), id.into())]);
        let result = self.store.execute_blocking((SELECT, args))?;
        Ok(std::hint::black_box(result).item_count() == 1)
    }
}

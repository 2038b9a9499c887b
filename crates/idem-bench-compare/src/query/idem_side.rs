//! Idem's side: DQL with parameters on a durable peer that does not sync.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use idem::{
    ConnectMode, DatabaseId, Durability, ErrorKind, Idem, IdemConfig, InsertConflict, Object,
    QueryResult, QueryResultItem,
};

use super::{
    Args, CACHE_BYTES, IntoRows, Side,
    airports::{Airports, int},
    works::{Check, Work},
};
use crate::engines::Failure;

/// Documents of one commit while the store is filled.
const COMMIT_DOCUMENTS: u64 = 2_000;
/// How long the store may take to bring what was stored into its file.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SETTLE_LOOK: Duration = Duration::from_millis(20);

const INDEXES: [&str; 2] = [
    "CREATE INDEX airports_icao ON airports (icao)",
    "CREATE INDEX airports_elevation ON airports (elevation_ft)",
];

pub(super) struct IdemSide {
    idem: Idem,
}

/// Whether the engine says that it does not know the statement, rather than that it failed.
pub(super) fn is_not_yet(error: &idem::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::QueryUnsupported | ErrorKind::QueryInvalid
    )
}

/// An empty peer in `directory`.
pub(super) fn open(directory: &Path, durability: Durability) -> Result<Idem, Failure> {
    let config = IdemConfig::new(DatabaseId([3; 16]), ConnectMode::Offline)
        .with_persistence_directory(directory)
        .with_cache_bytes(CACHE_BYTES)
        .with_durability(durability);
    Ok(Idem::open_sync(config)?)
}

/// Stores all airports and waits until they are in the store's file.
pub(super) fn fill(idem: &Idem, airports: &Airports) -> Result<(), Failure> {
    let store = idem.store();
    let mut next = 0;
    while next < airports.count {
        let end = (next + COMMIT_DOCUMENTS).min(airports.count);
        let documents = (next..end)
            .map(|number| airports.document(number))
            .collect();
        store.insert_many_blocking("airports", documents, InsertConflict::Fail)?;
        next = end;
    }
    let start = Instant::now();
    while store.statistics()?.pending_bytes > 0 {
        if start.elapsed() > SETTLE_MAX {
            return Err("the store does not come to rest".into());
        }
        thread::sleep(SETTLE_LOOK);
    }
    Ok(())
}

impl IdemSide {
    pub(super) fn open(directory: &Path, airports: &Airports) -> Result<Self, Failure> {
        let idem = open(directory, Durability::Durable)?;
        for index in INDEXES {
            idem.store().execute_blocking(index)?;
        }
        let regions = airports.regions().collect();
        idem.store()
            .insert_many_blocking("regions", regions, InsertConflict::Fail)?;
        fill(&idem, airports)?;
        Ok(Self { idem })
    }
}

impl Side for IdemSide {
    type Result = QueryResult;

    fn call(&self, work: &Work, args: &Args) -> Result<QueryResult, Failure> {
        let args: Object = args
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Ok(self.idem.store().execute_blocking((work.dql, args))?)
    }

    fn check(&self, check: &Check) -> Result<Vec<Object>, Failure> {
        let result = self.idem.store().execute_blocking(check.dql)?;
        Ok(result.into_rows())
    }
}

impl IntoRows for QueryResult {
    fn into_rows(self) -> Vec<Object> {
        let changed = self.mutated_document_ids().len();
        if changed > 0 {
            return vec![Object::from([("changed".to_owned(), int(changed as u64))])];
        }
        let items = self.into_items().into_iter();
        items.map(QueryResultItem::into_value).collect()
    }
}

impl Drop for IdemSide {
    fn drop(&mut self) {
        // Everything was verified while it was open.
        let _ = self.idem.close_blocking();
    }
}

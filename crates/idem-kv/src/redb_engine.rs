//! The B-tree engine. Every call of redb in this project is in this module.
//!
//! redb keeps checksums of its pages but does not compare them when it reads: flipped bits are
//! served. So every value carries a checksum of its own, and scans check that keys ascend. A lost
//! entry (a flipped bit in a key or in a page above the leaves) is only found by `verify`.
//!
//! Its safety against damaged files is not complete: it may panic. Panics inside redb are caught,
//! reported as [`KvError::CorruptFile`] and close the engine.

pub(crate) mod disk;
mod read;
pub(crate) mod rekey;
mod sealed;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use idem_vault::Cipher;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend, TableDefinition};

use self::read::RedbSnapshot;
use self::rekey::{Pair, Rekey, RekeyPath, RekeyProgress, Rekeyed};
use self::sealed::{Handle, SealedFile};
use crate::engine::checksum;
use crate::limits::TABLES_MAX;
use crate::{Batch, Durability, Engine, EngineStats, FaultDisk, KvError, Snapshot, VerifyReport};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The store's tables and, last, the overlay's.
const TABLES: [Definition; TABLES_MAX as usize + 1] = [
    Definition::new("t0"),
    Definition::new("t1"),
    Definition::new("t2"),
    Definition::new("t3"),
    Definition::new("t4"),
    Definition::new("t5"),
    Definition::new("t6"),
    Definition::new("t7"),
    Definition::new("overlay"),
];

/// Bytes of the checksum behind every value.
const CHECKSUM_BYTES: usize = 4;

/// How a B-tree engine is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedbOptions {
    /// Page cache in bytes. Default 16 MiB. The process may take up to twice as much while reading.
    pub cache_bytes: usize,
    /// Encrypts the file, sector by sector. Default: none. A file that was made with one is opened with one.
    pub cipher: Option<Cipher>,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            cache_bytes: crate::limits::CACHE_BYTES_DEFAULT,
            cipher: None,
        }
    }
}

/// A B-tree in one file.
///
/// A relaxed commit is kept in memory until the next durable one: the end of the process loses it.
/// A durable commit takes two syncs and rewrites about 40 kB for a single entry, so commit much at
/// a time. Opening takes under a millisecond, also after a crash.
#[derive(Debug)]
pub struct RedbEngine {
    /// Written only by what needs the database for itself.
    database: RwLock<Database>,
    size: Size,
    state: Arc<EngineState>,
    commits: AtomicU64,
    sealed: Option<Box<dyn Rekeyed>>,
}

#[derive(Debug)]
enum Size {
    File(PathBuf),
    Disk(FaultDisk),
}

/// What an engine and its snapshots share.
#[derive(Debug, Default)]
struct EngineState {
    poisoned: AtomicBool,
}

impl RedbEngine {
    /// How the file of an encrypted engine begins.
    pub const SEALED_MAGIC: &[u8; 8] = sealed::MAGIC;

    /// Opens the file at `path`, or creates it: wholly, or not at all if the process dies meanwhile. Nobody
    /// else may create the same
    /// file at the same time.
    ///
    /// # Errors
    ///
    /// [`KvError::Locked`], [`KvError::CorruptFile`], [`KvError::Io`], [`KvError::Full`].
    pub fn open(path: impl AsRef<Path>, options: &RedbOptions) -> Result<Self, KvError> {
        let path = path.as_ref();
        let size = Size::File(path.to_owned());
        let Some(cipher) = options.cipher.clone() else {
            return Self::open_with(options, size, |builder| {
                if !path.exists() {
                    create_whole(path, |draft| builder.create(draft).map(drop))?;
                }
                Ok((builder.create(path)?, None))
            });
        };
        let open = |builder: &Builder, path: &Path| {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(in_storage)?;
            let rekey = RekeyPath(beside(path, ".rekey"));
            seal(
                builder,
                FileBackend::new(file)?,
                cipher.clone(),
                Box::new(rekey),
            )
        };
        Self::open_with(options, size, |builder| {
            if !path.exists() {
                create_whole(path, |draft| open(builder, draft).map(drop))?;
            }
            open(builder, path)
        })
    }

    /// Opens the engine on a disk in memory that can fail.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_disk(disk: &FaultDisk, options: &RedbOptions) -> Result<Self, KvError> {
        Self::open_disks(disk, &FaultDisk::default(), options)
    }

    /// [`open_disk`](Self::open_disk) with a second disk for the file that sectors are written to before they
    /// are sealed anew in place.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_disks(
        disk: &FaultDisk,
        rekey: &FaultDisk,
        options: &RedbOptions,
    ) -> Result<Self, KvError> {
        Self::open_with(options, Size::Disk(disk.clone()), |builder| {
            match options.cipher.clone() {
                None => Ok((builder.create_with_backend(disk.clone())?, None)),
                Some(cipher) => seal(builder, disk.clone(), cipher, Box::new(rekey.clone())),
            }
        })
    }

    fn open_with(
        options: &RedbOptions,
        size: Size,
        create: impl FnOnce(&Builder) -> Result<Opened, redb::DatabaseError>,
    ) -> Result<Self, KvError> {
        let state = Arc::new(EngineState::default());
        let mut builder = Builder::new();
        builder.set_cache_size(options.cache_bytes);
        let (database, sealed) = state.guard("open", || create(&builder))?;
        let database = RwLock::new(database);
        Ok(Self {
            database,
            size,
            state,
            commits: AtomicU64::new(0),
            sealed,
        })
    }

    /// Sectors of the file that are under a key that does not seal any more.
    ///
    /// # Errors
    ///
    /// [`KvError::Io`].
    pub fn stale_sectors(&self) -> Result<u64, KvError> {
        let Some(sealed) = &self.sealed else {
            return Ok(0);
        };
        self.state
            .guard("read", || sealed.stale_sectors().map_err(redb::Error::Io))
    }

    fn database(&self) -> RwLockReadGuard<'_, Database> {
        // Panics are caught and poison the engine by themselves.
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch. A failure on the way drops the transaction, which leaves nothing of it.
    fn write(&self, batch: &Batch, durability: redb::Durability) -> Result<(), redb::Error> {
        let database = self.database();
        let mut transaction = database.begin_write()?;
        transaction.set_durability(durability)?;
        // Without it the next opening after a crash walks the whole file: 1 s per million documents.
        transaction.set_quick_repair(true);
        let mut value_and_checksum = Vec::new();
        let mut operations = batch.iter().peekable();
        while let Some(first) = operations.peek() {
            let current = first.table;
            let mut table = transaction.open_table(TABLES[usize::from(current.0)])?;
            while let Some(operation) = operations.next_if(|next| next.table == current) {
                let key = operation.key;
                match operation.value {
                    Some(value) => {
                        value_and_checksum.clear();
                        value_and_checksum.extend_from_slice(value);
                        let checksum = checksum(operation.table, key, value);
                        value_and_checksum.extend_from_slice(&checksum.to_be_bytes());
                        table.insert(key, &value_and_checksum[..])?;
                    }
                    None => {
                        table.remove(key)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A database and, if it is encrypted, what its file can do besides.
type Opened = (Database, Option<Box<dyn Rekeyed>>);

fn seal<B: StorageBackend>(
    builder: &Builder,
    inner: B,
    cipher: Cipher,
    rekey: Box<dyn Rekey>,
) -> Result<Opened, redb::DatabaseError> {
    let file = SealedFile::open(inner, cipher, Some(&*rekey)).map_err(in_storage)?;
    let file = Arc::new(file);
    let database = builder.create_with_backend(Handle(Arc::clone(&file)))?;
    Ok((database, Some(Box::new(Pair { file, rekey }))))
}

fn in_storage(error: std::io::Error) -> redb::DatabaseError {
    redb::DatabaseError::Storage(redb::StorageError::Io(error))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(end);
    path.into()
}

/// Creates the file under another name first: redb writes a file's first pages in several steps, and
/// a process that is killed between them leaves one that nobody can open.
fn create_whole(
    path: &Path,
    create: impl FnOnce(&Path) -> Result<(), redb::DatabaseError>,
) -> Result<(), redb::DatabaseError> {
    let draft = beside(path, ".creating");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(in_storage(error));
        }
        Ok(()) | Err(_) => {}
    }
    // Closing it marks the file as closed cleanly, with all that was written.
    create(&draft)?;
    fs::rename(&draft, path).map_err(in_storage)?;
    // Other systems open no directories, and journal them by themselves.
    #[cfg(unix)]
    if let Some(parent) = std::path::absolute(path).map_err(in_storage)?.parent() {
        fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(in_storage)?;
    }
    Ok(())
}

impl Engine for RedbEngine {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, KvError> {
        let database = self.database();
        let transaction = self.state.guard("read", || database.begin_read())?;
        Ok(Box::new(RedbSnapshot::new(
            transaction,
            Arc::clone(&self.state),
        )))
    }

    fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), KvError> {
        let durability = match durability {
            Durability::Durable => redb::Durability::Immediate,
            Durability::Relaxed => redb::Durability::None,
        };
        let result = self.state.guard("commit", || self.write(batch, durability));
        match &result {
            Ok(()) => {
                self.commits.fetch_add(1, Ordering::Relaxed);
            }
            // redb itself refuses everything after a failed write; this names the state.
            Err(_) => self.state.poisoned.store(true, Ordering::SeqCst),
        }
        match result {
            Err(KvError::Io { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                Err(KvError::Full {
                    needed: batch.as_bytes().len() as u64,
                    source,
                })
            }
            other => other,
        }
    }

    fn sync(&self) -> Result<(), KvError> {
        // A durable commit makes all relaxed ones before it durable.
        self.commit(&Batch::new(), Durability::Durable)
    }

    fn verify(&self) -> Result<VerifyReport, KvError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Pages cannot be walked while a snapshot is open; our own checksums below hold every value.
        let mut is_clean = || {
            self.state
                .guard("verify", || match database.check_integrity() {
                    Err(redb::DatabaseError::TransactionInProgress) => Ok(true),
                    other => other,
                })
        };
        // A damaged page is an error here, for every commit is one of two phases. Not clean is a store
        // whose count of free pages was wrong, as it is after snapshots that outlived commits; redb has
        // then counted again.
        if !is_clean()? && !is_clean()? {
            self.state.poisoned.store(true, Ordering::SeqCst);
            let detail = "its pages do not match their checksums".to_owned();
            return Err(KvError::CorruptFile { detail });
        }
        drop(database);
        let snapshot = self.snapshot()?;
        let mut report = VerifyReport::default();
        for table in 0..=TABLES_MAX {
            snapshot.scan(crate::Table(table), &[], None, false, &mut |key, value| {
                report.entries += 1;
                report.bytes += (key.len() + value.len()) as u64;
                std::ops::ControlFlow::Continue(())
            })?;
        }
        Ok(report)
    }

    fn compact(&self) -> Result<bool, KvError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        self.state.guard("compact", || match database.compact() {
            Err(redb::CompactionError::TransactionInProgress) => Ok(false),
            other => other.map_err(redb::Error::from),
        })
    }

    fn rekey(&self, from: u64) -> Result<RekeyProgress, KvError> {
        let Some(sealed) = &self.sealed else {
            return Ok(RekeyProgress::default());
        };
        self.state.guard("encrypt anew", || {
            sealed.rekey_batch(from).map_err(|failure| {
                if failure.is_harmful {
                    self.state.poisoned.store(true, Ordering::SeqCst);
                }
                redb::Error::Io(failure.source)
            })
        })
    }

    fn stats(&self) -> EngineStats {
        let file_bytes = match &self.size {
            Size::File(path) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Size::Disk(disk) => disk.bytes(),
        };
        EngineStats {
            file_bytes,
            commits: self.commits.load(Ordering::Relaxed),
        }
    }
}

impl EngineState {
    /// Runs a call of redb: refuses it after a failure, catches its panic, converts its error.
    fn guard<T, E: Into<redb::Error>>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, KvError> {
        if self.poisoned.load(Ordering::SeqCst) {
            return Err(KvError::Poisoned);
        }
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result.map_err(|error| convert(operation, error.into())),
            Err(_) => {
                self.poisoned.store(true, Ordering::SeqCst);
                let detail = format!("the engine stopped while it tried to {operation}");
                Err(KvError::CorruptFile { detail })
            }
        }
    }
}

fn convert(operation: &'static str, error: redb::Error) -> KvError {
    match error {
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            KvError::CorruptFile {
                detail: source.to_string(),
            }
        }
        redb::Error::Io(source) => KvError::Io {
            operation,
            source: Arc::new(source),
        },
        redb::Error::DatabaseAlreadyOpen => KvError::Locked,
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => KvError::Poisoned,
        redb::Error::Corrupted(detail) => KvError::CorruptFile { detail },
        error @ (redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableIsMultimap(_)) => KvError::CorruptFile {
            detail: error.to_string(),
        },
        other => KvError::Engine {
            operation,
            detail: other.to_string(),
        },
    }
}

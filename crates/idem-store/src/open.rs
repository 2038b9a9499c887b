//! Opening: engine, log, replay, and who the store is now.

use std::sync::Arc;
use std::{io, ops::ControlFlow, thread::JoinHandle};

use idem_kv::{Batch, Engine, KvError, MemoryEngine, Overlay, RedbEngine, RedbOptions, Snapshot};
use idem_log::{DirectoryStorage, Log, LogError, LogOptions, LogStorage, MemoryStorage, Position};
use idem_model::ActorId;
use idem_vault::{Cipher, Purpose, Vault};

use crate::{
    background,
    catalog::Catalog,
    config::{Place, StoreConfig},
    core::{Core, Parts, Settings},
    directory::DirectoryLock,
    entropy::Entropy,
    error::{OpenError, StoreError},
    head::{FORMAT_VERSION, Head, Identity, Opening},
    tables::{DOCUMENTS, EVICTED_RANGE, SYSTEM, SYSTEM_FORMAT, SYSTEM_HEAD, SYSTEM_OPENING},
    tombstones::Removed,
    work::Work,
};

/// Identity of a store that lives in memory: not that of any file.
const IDENTITY_MEMORY: [u64; 4] = [0, 0, 0, 1];

/// One part in so many of the cache holds documents, the rest pages of the engine. A small document that
/// is read alone is found in half the time that its page takes, and in a tenth of the memory; scans,
/// indexes and writes need pages.
const ROWS_OF_CACHE: usize = 3;

struct Files {
    directory: Option<DirectoryLock>,
    engine: Box<dyn Engine>,
    log: Box<dyn LogStorage>,
    vault: Option<Vault>,
    log_cipher: Option<Cipher>,
    identity: Identity,
    /// Memory for documents that are read by their ids.
    row_bytes: usize,
}

/// Opens the store and starts its threads.
pub(crate) fn open(config: StoreConfig) -> Result<(Arc<Core>, Vec<JoinHandle<()>>), OpenError> {
    let mut entropy = Entropy::new(config.entropy_seed);
    let files = open_files(&config, &mut entropy)?;
    let overlay = Overlay::open(files.engine)
        .map_err(StoreError::from)?
        .with_row_cache(DOCUMENTS, files.row_bytes);
    let flushed = overlay.flushed_position();
    let stored = read_stored(&overlay)?;
    let mut options = LogOptions::default().start(flushed);
    if config.entropy_seed.is_some() {
        options = options.id(u64::from_be_bytes(entropy.bytes()));
    }
    if let Some(cipher) = files.log_cipher {
        options = options.cipher(cipher);
    }
    let (log, recovery) =
        Log::open(files.log, options).map_err(|error| log_error(error, flushed))?;
    if let Some(torn) = &recovery.torn {
        tracing::info!(
            file = torn.file,
            offset = torn.offset,
            "a write that was cut off was discarded"
        );
    }
    let nonce = stored.opening.map_or(0, |opening| opening.nonce);
    let nonce = replay(&log, &overlay, flushed, nonce)?;
    let stored = read_stored(&overlay)?;
    // The seed alone would give each opening the same ids again.
    entropy.stir(log.end());

    let is_elsewhere = stored
        .opening
        .is_none_or(|opening| opening.identity != files.identity);
    let is_log_lost = recovery.created && stored.head.is_some_and(|head| head.commit > 0);
    let (head, nonce) = match stored.head {
        // A log that was lost may have held commits that others have seen, as may a later state of
        // what was copied: their numbers must not be given again.
        Some(head) if !is_elsewhere && !is_log_lost => (head, nonce),
        head => settle(&log, &overlay, &mut entropy, head, nonce, files.identity)?,
    };
    let snapshot = overlay.snapshot().map_err(StoreError::from)?;
    let core = Arc::new(Core::new(Parts {
        catalog: Catalog::read(&snapshot)?,
        has_evictions: has_evictions(&snapshot)?,
        gc_floor: Removed::stored(&snapshot)?.floor,
        log,
        overlay,
        nonce,
        settings: Settings {
            durability: config.durability,
            document_bytes_soft: config.document_bytes_soft,
            document_bytes_max: config.document_bytes_max,
            tombstone_ttl_ms: config.tombstone_ttl_ms,
            upkeep_interval: config.upkeep_interval,
            has_threads: config.has_threads,
            index_inline_documents: config.index_inline_documents,
            index_batch_documents: config.index_batch_documents,
            index_batch_bytes: config.index_batch_bytes,
        },
        clock: config.clock,
        head,
        entropy,
        directory: files.directory,
        vault: files.vault,
    }));
    let work = Work::read(Arc::clone(&core))?;
    core.indexing.opened(&work)?;
    drop(work);
    let threads = if config.has_threads {
        background::start(&core).map_err(|source| OpenError::Thread { source })?
    } else {
        Vec::new()
    };
    Ok((core, threads))
}

fn open_files(config: &StoreConfig, entropy: &mut Entropy) -> Result<Files, OpenError> {
    match &config.place {
        Place::Directory(path) => {
            let directory = DirectoryLock::take(path, entropy)?;
            let failed = |source: io::Error| OpenError::Directory {
                path: path.clone(),
                source,
            };
            let vault = directory.open_vault(config.encryption_key.as_ref())?;
            let cipher = |purpose| vault.as_ref().map(|it| it.cipher(purpose)).transpose();
            let cache = usize::try_from(config.cache_bytes).unwrap_or(usize::MAX);
            let mut options = RedbOptions::default();
            let row_bytes = cache / ROWS_OF_CACHE;
            options.cache_bytes = cache - row_bytes;
            options.cipher = cipher(Purpose::Engine)?;
            let log_cipher = cipher(Purpose::Log)?;
            let engine =
                RedbEngine::open(directory.engine_path(), &options).map_err(
                    |error| match error {
                        KvError::Locked => OpenError::Locked {
                            path: path.clone(),
                            pid: None,
                        },
                        error => StoreError::from(error).into(),
                    },
                )?;
            let log = DirectoryStorage::open(directory.log_path()).map_err(failed)?;
            let identity = directory.identity().map_err(failed)?;
            Ok(Files {
                directory: Some(directory),
                engine: Box::new(engine),
                log: Box::new(log),
                vault,
                log_cipher,
                identity,
                row_bytes,
            })
        }
        Place::Memory => Ok(Files {
            directory: None,
            engine: Box::new(MemoryEngine::new()),
            log: Box::new(MemoryStorage::default()),
            vault: None,
            log_cipher: None,
            identity: Identity(IDENTITY_MEMORY),
            row_bytes: 0,
        }),
        Place::Simulated(disk) => Ok(Files {
            directory: None,
            engine: Box::new(disk.engine().clone()),
            log: Box::new(disk.log().clone()),
            vault: None,
            log_cipher: None,
            identity: disk.identity(),
            row_bytes: 0,
        }),
    }
}

fn has_evictions(snapshot: &dyn Snapshot) -> Result<bool, StoreError> {
    let [from, to] = EVICTED_RANGE;
    let mut is_found = false;
    snapshot.scan(SYSTEM, &[from], Some(&[to]), false, &mut |_, _| {
        is_found = true;
        ControlFlow::Break(())
    })?;
    Ok(is_found)
}

#[derive(Default)]
struct Stored {
    head: Option<Head>,
    opening: Option<Opening>,
}

fn read_stored(overlay: &Overlay) -> Result<Stored, OpenError> {
    let snapshot = overlay.snapshot().map_err(StoreError::from)?;
    let get = |key| snapshot.get(SYSTEM, key).map_err(StoreError::from);
    let corrupt = |error| StoreError::corrupt("head", &error);
    if let Some(bytes) = get(SYSTEM_FORMAT)? {
        let found = <[u8; 4]>::try_from(bytes)
            .map(u32::from_be_bytes)
            .map_err(|_| StoreError::Corrupt {
                what: "format version".to_owned(),
            })?;
        if found > FORMAT_VERSION {
            return Err(OpenError::NewerFormat {
                found,
                supported: FORMAT_VERSION,
            });
        }
    }
    let head = get(SYSTEM_HEAD)?.map(|bytes| Head::decode(&bytes));
    let opening = get(SYSTEM_OPENING)?.map(|bytes| Opening::decode(&bytes));
    Ok(Stored {
        head: head.transpose().map_err(corrupt)?,
        opening: opening.transpose().map_err(corrupt)?,
    })
}

/// Brings the overlay to the end of the log. Returns the nonce of the last opening.
fn replay(log: &Log, overlay: &Overlay, from: Position, mut nonce: u64) -> Result<u64, OpenError> {
    let mut failure = None;
    let result = log.read(from, |position, payload| {
        let step = check_frame(payload, &mut nonce).map(|batch| overlay.apply(&batch, position));
        match step {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    result.map_err(|error| log_error(error, from))?;
    failure.map_or(Ok(nonce), Err)
}

fn log_error(error: LogError, flushed: Position) -> OpenError {
    match error {
        LogError::OutOfRange { .. } => OpenError::Mismatched {
            reason: format!(
                "the database file has taken in the log up to {flushed}, but {error}; restore both \
                 from one backup"
            ),
        },
        error => StoreError::from(error).into(),
    }
}

/// The batch of a frame that belongs to the opening `nonce`, or to the next one, which it names.
fn check_frame(payload: &[u8], nonce: &mut u64) -> Result<Batch, OpenError> {
    let malformed = |detail: &dyn std::fmt::Display| StoreError::Corrupt {
        what: format!("log frame: {detail}"),
    };
    let (frame_nonce, bytes) = payload
        .split_first_chunk()
        .ok_or_else(|| malformed(&"too short"))?;
    let frame_nonce = u64::from_be_bytes(*frame_nonce);
    let batch = Batch::decode(bytes).map_err(|error| malformed(&error))?;
    if frame_nonce != *nonce {
        let opening = batch
            .iter()
            .find(|operation| operation.table == SYSTEM && operation.key == SYSTEM_OPENING)
            .and_then(|operation| operation.value)
            .map(Opening::decode)
            .transpose()
            .map_err(|error| malformed(&error))?;
        match opening {
            Some(opening) if opening.previous == *nonce && opening.nonce == frame_nonce => {
                *nonce = frame_nonce;
            }
            _ => {
                return Err(OpenError::Mismatched {
                    reason: "the log continues another copy of this store; restore both from one \
                             backup"
                        .to_owned(),
                });
            }
        }
    }
    Ok(batch)
}

/// Makes the store at home where it lies now: a nonce of its own, and a new actor, whose commits
/// nobody can have seen.
fn settle(
    log: &Log,
    overlay: &Overlay,
    entropy: &mut Entropy,
    head: Option<Head>,
    previous: u64,
    identity: Identity,
) -> Result<(Head, u64), OpenError> {
    let nonce = u64::from_be_bytes(entropy.bytes()).max(1);
    let settled = Head {
        actor: ActorId(entropy.bytes()),
        n: 0,
        commit: head.map_or(0, |head| head.commit),
        time: head.map_or_else(Default::default, |head| head.time),
        groups: head.map_or(0, |head| head.groups),
    };
    if let Some(head) = head {
        tracing::info!(
            from = %head.actor,
            to = %settled.actor,
            "the store was copied, moved or restored and takes a new actor"
        );
    }
    let opening = Opening {
        nonce,
        previous,
        identity,
    };
    let mut batch = Batch::new();
    batch.put(SYSTEM, SYSTEM_FORMAT, &FORMAT_VERSION.to_be_bytes());
    batch.put(SYSTEM, SYSTEM_OPENING, &opening.encode());
    batch.put(SYSTEM, SYSTEM_HEAD, &settled.encode());
    let write = || -> Result<(), LogError> {
        let position = log.append_parts(&[&nonce.to_be_bytes(), batch.as_bytes()])?;
        log.sync_to(position)?;
        overlay.apply(&batch, position);
        Ok(())
    };
    write().map_err(StoreError::from)?;
    Ok((settled, nonce))
}

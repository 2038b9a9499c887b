//! The directory of a store: its files, its lock, and how a copy of it is told from itself.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use idem_kv::RedbEngine;
use idem_vault::{Presence, StoreKey, Vault, VaultError};

use crate::{entropy::Entropy, error::OpenError, head::Identity};

/// Written once, when the store is made, and locked while it is open.
const LOCK_FILE: &str = "idem.lock";
/// Holds the number of the process that has the store open, for the error that others get.
const HOLDER_FILE: &str = "idem.pid";
/// The engine.
const ENGINE_FILE: &str = "idem.redb";
/// The log's segments.
const LOG_DIRECTORY: &str = "log";
/// What others keep in the directory: who the peer is, and the content of attachments.
const PEER_FILE: &str = "peer";
const BLOBS_DIRECTORY: &str = "blobs";

/// A directory that this process alone may use, until this is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    path: PathBuf,
    lock: File,
}

impl DirectoryLock {
    pub(crate) fn take(path: &Path, entropy: &mut Entropy) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory {
            path: path.to_owned(),
            source,
        };
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(OpenError::NotADirectory {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_directories(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(OpenError::NotADirectory {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed(error)),
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                    pid: holder(path),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let taken = Self {
            path: path.to_owned(),
            lock,
        };
        taken.prepare(entropy).map_err(failed)?;
        Ok(taken)
    }

    fn prepare(&self, entropy: &mut Entropy) -> io::Result<()> {
        // Content makes a restore write the file, which changes its time even if it stays in place.
        if self.lock.metadata()?.len() == 0 {
            let name = u64::from_be_bytes(entropy.bytes());
            writeln!(&self.lock, "idem store {name:016x}")?;
            self.lock.sync_all()?;
        }
        fs::write(self.path.join(HOLDER_FILE), std::process::id().to_string())
    }

    /// The keys of the store: opened, or made if there is no store yet.
    pub(crate) fn open_vault(&self, key: Option<&StoreKey>) -> Result<Option<Vault>, VaultError> {
        match (Vault::inspect(&self.path)?, key) {
            (Presence::Encrypted(_), None) => Err(VaultError::KeyRequired),
            (Presence::Encrypted(_), Some(key)) => Vault::open(&self.path, key).map(Some),
            // Whoever takes the keys away must not make it look like a store that never had any.
            (Presence::Plain, _) if self.is_sealed() => Err(VaultError::MetadataCorrupt {
                reason: "it is missing, and the store is encrypted".to_owned(),
            }),
            (Presence::Plain, None) => Ok(None),
            (Presence::Plain, Some(_)) if self.has_content() => Err(VaultError::KeyUnexpected),
            (Presence::Plain, Some(key)) => Vault::create(&self.path, key).map(Some),
        }
    }

    /// Whether the engine's file is an encrypted one.
    fn is_sealed(&self) -> bool {
        let mut begin = [0; 8];
        let read = File::open(self.engine_path()).and_then(|mut file| file.read_exact(&mut begin));
        read.is_ok() && &begin == RedbEngine::SEALED_MAGIC
    }

    fn has_content(&self) -> bool {
        let parts = [ENGINE_FILE, LOG_DIRECTORY, PEER_FILE, BLOBS_DIRECTORY];
        parts.iter().any(|part| self.path.join(part).exists())
    }

    pub(crate) fn engine_path(&self) -> PathBuf {
        self.path.join(ENGINE_FILE)
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIRECTORY)
    }

    /// Where the store lies. To be asked once the engine's file is there.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        let lock = self.lock.metadata()?;
        let engine = fs::metadata(self.engine_path())?;
        Ok(identity_of(&lock, &engine))
    }

    /// Bytes of all files.
    pub(crate) fn disk_bytes(&self) -> io::Result<u64> {
        let mut bytes = fs::metadata(self.engine_path())?.len();
        for entry in fs::read_dir(self.log_path())? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Only advice for whoever finds the store locked; a stale one does no harm.
        let _ = fs::remove_file(self.path.join(HOLDER_FILE));
    }
}

/// Makes `path` and what is missing above it, so that all of it is there after a loss of power too.
fn create_directories(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let is_missing = |above: &&Path| !above.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(&path)?;
    // Other systems open no directories, and journal them by themselves.
    #[cfg(unix)]
    for parent in missing.iter().filter_map(|made| made.parent()) {
        match File::open(parent) {
            Ok(parent) => parent.sync_all()?,
            // It may be written but not read: then the system's own pace must do.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    #[cfg(not(unix))]
    drop(missing);
    Ok(())
}

fn holder(path: &Path) -> Option<u32> {
    fs::read_to_string(path.join(HOLDER_FILE))
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(unix)]
fn identity_of(lock: &fs::Metadata, engine: &fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    let nanoseconds = lock
        .ctime()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(lock.ctime_nsec());
    Identity([
        lock.dev(),
        lock.ino(),
        nanoseconds.cast_unsigned(),
        engine.ino(),
    ])
}

#[cfg(not(unix))]
fn identity_of(lock: &fs::Metadata, engine: &fs::Metadata) -> Identity {
    // Times in nanoseconds serve as names here: a copy is made later than its original.
    let created = |metadata: &fs::Metadata| {
        metadata
            .created()
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |since| since.as_nanos() as u64)
    };
    Identity([0, 0, created(lock), created(engine)])
}

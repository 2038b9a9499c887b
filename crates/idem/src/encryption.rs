//! Encryption at rest: what an app sees of it, and the thread that seals everything anew.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use idem_vault::{KeyDerivation, Presence, SideFacts, StoreKey, Vault};

use crate::{
    blobs::Blobs,
    core::Core,
    desk,
    error::{Error, ErrorKind},
    identity,
};

/// How a store is encrypted. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncryptionStatus {
    /// The ciphers.
    pub scheme: &'static str,
    /// How a passphrase becomes the key; none for a key of 32 bytes.
    pub passphrase: Option<KeyDerivation>,
    /// The ids of the data keys. More than one: a rotation has not ended.
    pub data_keys: Vec<u32>,
    /// The id of the data key that seals now.
    pub current_data_key: u32,
}

impl From<SideFacts> for EncryptionStatus {
    fn from(facts: SideFacts) -> Self {
        Self {
            scheme: facts.scheme,
            passphrase: facts.derivation,
            data_keys: facts.keys,
            current_data_key: facts.current,
        }
    }
}

/// Whether a directory holds an encrypted store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// It does not, or there is no store.
    Plain,
    /// It does.
    Encrypted(EncryptionStatus),
}

/// How far a rotation of the data key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RotationProgress {
    /// Whether one is under way.
    pub is_running: bool,
    /// Sectors of 4 KiB of documents and indexes that were looked at.
    pub sectors_done: u64,
    /// All of them.
    pub sectors_total: u64,
    /// Files of attachments that were sealed anew.
    pub files_done: u64,
}

/// The encryption of an open store.
pub struct Encryption<'a> {
    core: &'a Core,
    rekeyer: &'a Rekeyer,
}

impl fmt::Debug for Encryption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryption(..)")
    }
}

impl<'a> Encryption<'a> {
    pub(crate) fn of(core: &'a Core) -> Option<Self> {
        let rekeyer = core.rekeyer.as_ref()?;
        Some(Self { core, rekeyer })
    }

    /// What `directory` says without its key. It may be open.
    ///
    /// # Errors
    /// [`ErrorKind::EncryptionMetadataCorrupt`], [`ErrorKind::EncryptionUnsupportedScheme`], [`ErrorKind::Io`].
    pub fn inspect(directory: impl AsRef<Path>) -> Result<StoreKind, Error> {
        Ok(
            match Vault::inspect(directory.as_ref()).map_err(Error::vault)? {
                Presence::Plain => StoreKind::Plain,
                Presence::Encrypted(facts) => StoreKind::Encrypted(facts.into()),
            },
        )
    }

    /// How the store is encrypted.
    pub fn status(&self) -> EncryptionStatus {
        self.rekeyer.inner.vault.facts().into()
    }

    /// How far a rotation is.
    pub fn rotation(&self) -> RotationProgress {
        self.rekeyer.inner.state().progress
    }

    /// Locks the store with another key: at once, without touching data. The data keys stay as they are, so
    /// whoever had both the older key and the file `idem.keys` can still read what he copies; against
    /// him, [`rotate_data_key`](Self::rotate_data_key) afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; the key is the one before, or the new one.
    pub fn change_key(&self, key: &StoreKey) -> Result<(), Error> {
        self.rekeyer
            .inner
            .vault
            .change_key(key)
            .map_err(Error::vault)
    }

    /// Begins to seal everything under a new data key, in the background; the store is used meanwhile. When
    /// all is done the older data key is forgotten. If the peer is closed before, its next opening goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn rotate_data_key(&self) -> Result<(), Error> {
        self.core.check_not_nested()?;
        self.rekeyer
            .inner
            .vault
            .begin_rotation()
            .map_err(Error::vault)?;
        self.rekeyer.go_on()
    }

    /// Waits for the end of a rotation, if one is under way. `watch` is called with its progress, now and
    /// whenever there is some.
    ///
    /// # Errors
    /// What ended the rotation; [`ErrorKind::Closed`]. It goes on with the next opening.
    pub fn wait_for_rotation(&self, mut watch: impl FnMut(RotationProgress)) -> Result<(), Error> {
        let inner = &self.rekeyer.inner;
        let mut state = inner.state();
        loop {
            let progress = state.progress;
            drop(state);
            watch(progress);
            state = inner.state();
            if let Some(error) = state.failure.take() {
                return Err(error);
            }
            if !state.progress.is_running {
                return Ok(());
            }
            if state.progress == progress {
                let waited = inner.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Seals everything anew while there are older data keys.
pub(crate) struct Rekeyer {
    inner: Arc<Inner>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    vault: Vault,
    store: idem_store::Store,
    blobs: Arc<Blobs>,
    directory: PathBuf,
    is_stopped: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    progress: RotationProgress,
    failure: Option<Error>,
}

impl Rekeyer {
    pub(crate) fn new(
        vault: Vault,
        store: idem_store::Store,
        blobs: Arc<Blobs>,
        directory: &Path,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                vault,
                store,
                blobs,
                directory: directory.to_owned(),
                is_stopped: AtomicBool::new(false),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            thread: Mutex::new(None),
        }
    }

    /// Starts the thread if there is something to do and none runs.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &self.inner;
        if !inner.vault.is_rotating() || inner.is_stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut state = inner.state();
        if state.progress.is_running {
            // It begins again when it sees that the key is another one.
            return Ok(());
        }
        if let Some(ended) = thread.take() {
            // It has set the state, and does nothing after that.
            let _ = ended.join();
        }
        state.progress = RotationProgress {
            is_running: true,
            ..RotationProgress::default()
        };
        state.failure = None;
        drop(state);
        let run = Arc::clone(inner);
        let started = thread::Builder::new()
            .name("idem-rekey".to_owned())
            .spawn(move || run.run());
        match started {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                inner.state().progress.is_running = false;
                return Err(Error::new(ErrorKind::Io, "cannot start a thread").with_source(error));
            }
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.inner.is_stopped.store(true, Ordering::SeqCst);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that encrypts anew panicked");
        }
        self.inner.changed.notify_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn run(&self) {
        loop {
            let key = self.vault.facts().current;
            let done = self.rekey();
            let mut state = self.state();
            // Looked at under the lock under which a new rotation looks whether this one runs.
            let is_outdated = self.vault.facts().current != key;
            if done.is_ok() && is_outdated && !self.is_stopped.load(Ordering::SeqCst) {
                continue;
            }
            if let Err(error) = done {
                tracing::warn!(%error, "encrypting anew stopped; the next opening goes on");
                state.failure = Some(error);
            }
            state.progress.is_running = false;
            drop(state);
            self.changed.notify_all();
            return;
        }
    }

    /// Everything once, then the older keys are dropped.
    fn rekey(&self) -> Result<(), Error> {
        let key = self.vault.facts().current;
        identity::rekey_identity(&self.directory, &self.vault)?;
        desk::rekey(&self.directory, &self.vault)?;
        let mut from = 0;
        loop {
            self.check_open()?;
            let done = self
                .store
                .rekey(from)
                .map_err(|error| Error::store(error, ""))?;
            self.note(|state| {
                state.progress.sectors_done = done.done.min(done.total);
                state.progress.sectors_total = done.total;
            });
            if done.is_complete() {
                break;
            }
            from = done.done;
        }
        if let Some(sealed) = self.blobs.sealed()? {
            let failed = |source: std::io::Error| {
                Error::new(ErrorKind::Io, "cannot encrypt attachments anew").with_source(source)
            };
            // A file that gets another name meanwhile is found in the next round.
            loop {
                let stale = sealed.stale_files().map_err(failed)?;
                if stale.is_empty() {
                    break;
                }
                for name in stale {
                    self.check_open()?;
                    sealed.rekey(&name).map_err(failed)?;
                    self.note(|state| state.progress.files_done += 1);
                }
            }
        }
        // If another rotation has begun meanwhile, its round does it.
        self.vault.retire(key).map_err(Error::vault)?;
        Ok(())
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.is_stopped.load(Ordering::SeqCst) {
            true => Err(Error::closed()),
            false => Ok(()),
        }
    }
}

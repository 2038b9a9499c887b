//! The content of attachments: what is here, and the thread that fetches and serves it.

mod desk;
mod hearing;
mod marking;
mod shelf;
mod watching;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem_blob::{
    BlobOptions, BlobStorage, BlobStore, DirectoryStorage, MemoryStorage, SealedStorage,
};
use idem_blob_sync::FetchTerms;
use idem_model::{BlobKey, PeerId};
use idem_transport::LinkSender;
use idem_vault::Vault;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    conditions::Conditions,
    error::{Error, ErrorKind},
};
use desk::Desk;
use hearing::Hearing;

pub(crate) use hearing::{Callback, FetchEnd, Heard, Outcome, Ticket};

/// Where blobs are in the directory of a peer.
const DIRECTORY: &str = "blobs";

/// What the desk has to deal with. Frames are bounded by the budget that their permit is from, fetches by
/// the app, the others by the number of links.
enum Input {
    NeighbourUp {
        peer: PeerId,
        sender: LinkSender,
        frame_bytes_max: u32,
    },
    NeighbourDown {
        peer: PeerId,
    },
    Frame {
        peer: PeerId,
        frame: Vec<u8>,
        /// Given back when the frame is dealt with, which lets the link read on.
        permit: Arc<OwnedSemaphorePermit>,
    },
    Fetch {
        key: BlobKey,
        terms: FetchTerms,
        number: u64,
        ticket: Arc<Ticket>,
    },
    Cancel {
        key: BlobKey,
        number: u64,
    },
    Made {
        key: BlobKey,
    },
    /// What documents refer to, if they could be read.
    Looked {
        looked: Option<watching::Looked>,
    },
}

impl Input {
    /// Nobody deals with it any more.
    fn refuse(self) {
        if let Self::Fetch { ticket, .. } = self {
            ticket.end(Err(FetchEnd::Closed));
        }
    }
}

/// What the desk shares with those who give it work.
struct Shared {
    documents: idem_store::Store,
    conditions: Arc<Conditions>,
    state: Mutex<State>,
    changed: Condvar,
    is_collecting: AtomicBool,
}

#[derive(Default)]
struct State {
    inputs: VecDeque<Input>,
    /// The links that may be used, also before there is a thread to use them.
    links: BTreeMap<PeerId, (LinkSender, u32)>,
    is_open: bool,
    has_room: bool,
    is_stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, input: Input) {
        let mut state = self.lock();
        if state.is_stopped {
            drop(state);
            input.refuse();
            return;
        }
        state.inputs.push_back(input);
        self.changed.notify_one();
    }

    /// Takes everything, after waiting for the first of it for at most `limit`. `None` to stop.
    fn take(&self, limit: Option<Duration>) -> Option<VecDeque<Input>> {
        let state = self.lock();
        let is_idle =
            |state: &mut State| state.inputs.is_empty() && !state.has_room && !state.is_stopped;
        let waited =
            self.changed
                .wait_timeout_while(state, limit.unwrap_or(Duration::MAX), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.is_stopped {
            return None;
        }
        state.has_room = false;
        Some(std::mem::take(&mut state.inputs))
    }
}

/// The blobs of a peer. Files are opened, and the thread is started, when there is something to do for them.
pub(crate) struct Blobs {
    shared: Arc<Shared>,
    directory: Option<PathBuf>,
    options: BlobOptions,
    vault: Option<Vault>,
    hearing: Arc<Hearing>,
    next_fetch: AtomicU64,
    opened: Mutex<Option<Running>>,
}

struct Running {
    store: BlobStore,
    sealed: Option<SealedStorage>,
    desk: JoinHandle<()>,
}

impl Blobs {
    pub(crate) fn new(
        documents: idem_store::Store,
        conditions: Arc<Conditions>,
        directory: Option<PathBuf>,
        options: BlobOptions,
        vault: Option<Vault>,
    ) -> Arc<Self> {
        let directory = directory.map(|directory| directory.join(DIRECTORY));
        let has_blobs = directory.as_ref().is_some_and(|it| it.is_dir());
        let blobs = Arc::new(Self {
            shared: Arc::new(Shared {
                documents,
                conditions,
                state: Mutex::default(),
                changed: Condvar::new(),
                is_collecting: AtomicBool::new(false),
            }),
            directory,
            options,
            vault,
            hearing: Arc::default(),
            next_fetch: AtomicU64::new(0),
            opened: Mutex::new(None),
        });
        if has_blobs && let Err(error) = blobs.store() {
            // Who uses an attachment gets the error; documents can be used without.
            tracing::error!(%error, "attachments cannot be opened");
        }
        blobs
    }

    /// The store of blobs, opened the first time.
    pub(crate) fn store(&self) -> Result<BlobStore, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.lock().is_stopped {
            return Err(Error::closed());
        }
        if let Some(running) = &*opened {
            return Ok(running.store.clone());
        }
        let storage: Arc<dyn BlobStorage> = match &self.directory {
            Some(directory) => Arc::new(DirectoryStorage::new(directory)),
            None => Arc::new(MemoryStorage::default()),
        };
        let sealed = match &self.vault {
            Some(vault) => {
                Some(SealedStorage::new(Arc::clone(&storage), vault).map_err(Error::vault)?)
            }
            None => None,
        };
        let storage = match &sealed {
            Some(sealed) => Arc::new(sealed.clone()),
            None => storage,
        };
        let (store, _) = BlobStore::open(storage, self.options).map_err(Error::blob)?;
        let desk = Desk::new(
            Arc::clone(&self.shared),
            store.clone(),
            Arc::clone(&self.hearing),
        );
        let desk = thread::Builder::new()
            .name("idem-blobs".to_owned())
            .spawn(move || desk.run())
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        let mut state = self.shared.lock();
        state.is_open = true;
        let links = state.links.clone();
        for (peer, (sender, frame_bytes_max)) in links {
            state.inputs.push_back(Input::NeighbourUp {
                peer,
                sender,
                frame_bytes_max,
            });
        }
        drop(state);
        self.shared.changed.notify_one();
        let running = Running {
            store: store.clone(),
            sealed,
            desk,
        };
        *opened = Some(running);
        Ok(store)
    }

    /// A link of a peer may be used.
    pub(crate) fn neighbour_up(&self, peer: PeerId, sender: LinkSender, frame_bytes_max: u32) {
        let mut state = self.shared.lock();
        let link = (sender.clone(), frame_bytes_max);
        state.links.insert(peer, link);
        if state.is_open {
            state.inputs.push_back(Input::NeighbourUp {
                peer,
                sender,
                frame_bytes_max,
            });
            self.shared.changed.notify_one();
        }
    }

    pub(crate) fn neighbour_down(&self, peer: PeerId) {
        let mut state = self.shared.lock();
        if state.links.remove(&peer).is_some() && state.is_open {
            state.inputs.push_back(Input::NeighbourDown { peer });
            self.shared.changed.notify_one();
        }
    }

    /// A frame about a blob came.
    pub(crate) fn frame(&self, peer: PeerId, frame: Vec<u8>, permit: Arc<OwnedSemaphorePermit>) {
        // Without files there is nothing to tell; but there may be something to pass on.
        if self.store().is_ok() {
            self.shared.push(Input::Frame {
                peer,
                frame,
                permit,
            });
        }
    }

    /// A link takes frames again.
    pub(crate) fn room(&self) {
        let mut state = self.shared.lock();
        if state.is_open {
            state.has_room = true;
            self.shared.changed.notify_one();
        }
    }

    /// A blob was made here.
    pub(crate) fn made(&self, key: BlobKey) {
        // Only who makes one has files, and so a thread.
        self.shared.push(Input::Made { key });
    }

    /// Fetches a blob. Gives the number of the fetch and what tells of its end.
    pub(crate) fn fetch(
        &self,
        key: BlobKey,
        timeout: Duration,
        hops: u8,
        callback: Option<Callback>,
    ) -> Result<(u64, Arc<Ticket>), Error> {
        self.store()?;
        let number = self.next_fetch.fetch_add(1, Ordering::Relaxed);
        if let Some(callback) = callback {
            self.hearing
                .add(number, callback)
                .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        }
        let ticket = Arc::<Ticket>::default();
        self.shared.push(Input::Fetch {
            key,
            terms: desk::terms(timeout, hops),
            number,
            ticket: Arc::clone(&ticket),
        });
        Ok((number, ticket))
    }

    /// Ends a fetch. Its callback is not called any more, but for a call that is under way: the thread that ends it
    /// may hear of the end of the peer first.
    pub(crate) fn cancel(&self, key: BlobKey, number: u64) {
        self.hearing.forget(number);
        self.shared.push(Input::Cancel { key, number });
    }

    /// The encrypted files, if there are any.
    pub(crate) fn sealed(&self) -> Result<Option<SealedStorage>, Error> {
        if !self.directory.as_ref().is_some_and(|it| it.is_dir()) {
            return Ok(None);
        }
        self.store()?;
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(opened.as_ref().and_then(|running| running.sealed.clone()))
    }

    /// Deletes what no document refers to and has had its time.
    pub(crate) fn collect(&self) -> Result<idem_blob::Collected, Error> {
        desk::collect(&self.store()?, &self.shared.documents)
    }

    /// Ends all fetches and the thread.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.is_stopped = true;
        state.links.clear();
        drop(state);
        self.shared.changed.notify_one();
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = opened.take()
            && running.desk.join().is_err()
        {
            tracing::error!("the thread of attachments panicked");
        }
        drop(opened);
        let left = std::mem::take(&mut self.shared.lock().inputs);
        left.into_iter().for_each(Input::refuse);
        self.hearing.close();
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blobs")
    }
}

/// The time as blobs note it.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}

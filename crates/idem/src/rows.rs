//! The rows of a statement one by one, without collecting them.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
};

use idem_store::Cancellation;
use tokio::sync::mpsc;

use crate::{
    error::{Error, ErrorKind},
    options::ExecuteOptions,
    query::{Query, QueryResultItem, Warning},
};

/// Rows that wait for a slow reader. At 1 KiB each they hold 256 KiB.
const ROWS_WAITING_MAX: usize = 256;

/// Streams of one peer at a time. Each has a thread and holds back the state of its moment, so a few
/// hundred are a leak and no plan.
const STREAMS_MAX: usize = 256;

/// The streams of a peer, which end when it is closed.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: Mutex<Vec<Stream>>,
}

#[derive(Debug)]
struct Stream {
    shared: Weak<Shared>,
    thread: JoinHandle<()>,
}

/// What the reader of a stream and the peer share.
#[derive(Debug)]
struct Shared {
    /// Locked for moments only, but by a reader that waits on its thread.
    receiver: Mutex<mpsc::Receiver<Found>>,
    cancellation: Cancellation,
}

/// The rows of a statement that reads, in their order, as they are found.
///
/// They are those of the moment at which the statement began, whatever is written meanwhile. While it
/// lives, it has a thread and holds that moment's state: what is replaced later stays on disk. Dropping
/// it stops the statement.
pub struct Rows {
    shared: Arc<Shared>,
    warnings: Vec<Warning>,
    is_ended: bool,
}

#[derive(Debug)]
enum Found {
    Row(QueryResultItem),
    End(Result<Vec<Warning>, Error>),
}

impl Streams {
    /// Ends all streams and waits until none holds the store.
    pub(crate) fn close(&self) {
        let open = std::mem::take(&mut *self.lock());
        for stream in &open {
            if let Some(shared) = stream.shared.upgrade() {
                shared.end();
            }
        }
        for stream in open {
            // A panic of its thread was told to its reader.
            let _ = stream.thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Stops the statement, which may wait for room or search for a row that nobody wants.
    fn end(&self) {
        self.cancellation.cancel();
        // A reader that waits inside has emptied it, so that its thread does not wait for room.
        if let Ok(mut receiver) = self.receiver.try_lock() {
            receiver.close();
        }
    }

    fn receiver(&self) -> MutexGuard<'_, mpsc::Receiver<Found>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    pub(crate) fn start(
        streams: &Streams,
        store: &idem_store::Store,
        query: Query,
        options: ExecuteOptions,
    ) -> Result<Self, Error> {
        let mut open = streams.lock();
        open.retain(|stream| !stream.thread.is_finished());
        if open.len() >= STREAMS_MAX {
            let message = format!("more than {STREAMS_MAX} streams are open; read or drop some");
            return Err(Error::new(ErrorKind::QueryExecution, message));
        }
        let (sender, receiver) = mpsc::channel(ROWS_WAITING_MAX);
        let cancellation = Cancellation::new();
        let options = options.cancellation(cancellation.clone()).into_store();
        let store = store.clone();
        // A thread of its own: one that waits for its reader must not keep statements waiting.
        let thread = thread::Builder::new()
            .name("idem-rows".to_owned())
            .spawn(move || {
                let ended = store.stream(&query.text, &query.args, &options, &mut |value| {
                    let row = Found::Row(QueryResultItem { value });
                    sender.blocking_send(row).is_ok()
                });
                let ended = ended
                    .map(|warnings| warnings.into_iter().map(Warning::from).collect())
                    .map_err(|e| Error::store(e, &query.text));
                // Without a reader nobody wants to know.
                let _ = sender.blocking_send(Found::End(ended));
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        let shared = Arc::new(Shared {
            receiver: Mutex::new(receiver),
            cancellation,
        });
        open.push(Stream {
            shared: Arc::downgrade(&shared),
            thread,
        });
        Ok(Self {
            shared,
            warnings: Vec::new(),
            is_ended: false,
        })
    }

    /// The next row; `None` behind the last one.
    ///
    /// Dropping the future loses no row.
    ///
    /// # Errors
    /// What the statement fails with, once; rows may have come before.
    pub async fn next(&mut self) -> Option<Result<QueryResultItem, Error>> {
        if self.is_ended {
            return None;
        }
        let found = poll_fn(|cx| self.shared.receiver().poll_recv(cx)).await;
        self.take(found)
    }

    /// [`next`](Self::next) on the calling thread.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_blocking(&mut self) -> Option<Result<QueryResultItem, Error>> {
        if self.is_ended {
            return None;
        }
        let at_once = self.shared.receiver().try_recv().ok();
        let found = match (at_once, tokio::runtime::Handle::try_current()) {
            (Some(found), _) => Some(found),
            // Waiting is not allowed to tokio's own channel on a thread of a runtime.
            (None, Ok(_)) => thread::scope(|scope| {
                let waiting = scope.spawn(|| self.shared.receiver().blocking_recv());
                waiting.join().unwrap_or(None)
            }),
            (None, Err(_)) => self.shared.receiver().blocking_recv(),
        };
        self.take(found)
    }

    /// Things that are probably not what was meant; all of them once the rows have ended.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn take(&mut self, found: Option<Found>) -> Option<Result<QueryResultItem, Error>> {
        match found {
            Some(Found::Row(row)) => Some(Ok(row)),
            Some(Found::End(Ok(warnings))) => {
                self.is_ended = true;
                self.warnings = warnings;
                None
            }
            Some(Found::End(Err(error))) => {
                self.is_ended = true;
                Some(Err(error))
            }
            None if self.shared.cancellation.is_cancelled() => {
                self.is_ended = true;
                Some(Err(Error::closed()))
            }
            None => {
                self.is_ended = true;
                let message = "a statement panicked; please report it";
                Some(Err(Error::new(ErrorKind::Internal, message)))
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<QueryResultItem, Error>;

    /// [`next_blocking`](Rows::next_blocking).
    fn next(&mut self) -> Option<Self::Item> {
        self.next_blocking()
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("is_ended", &self.is_ended)
            .finish_non_exhaustive()
    }
}

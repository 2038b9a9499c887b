//! The rows of a statement one by one, without collecting them.

use std::{fmt, thread};

use idem_store::Cancellation;
use tokio::sync::mpsc;

use crate::{
    error::{Error, ErrorKind},
    options::ExecuteOptions,
    query::{Query, QueryResultItem, Warning},
};

/// Rows that wait for a slow reader. At 1 KiB each they hold 256 KiB.
const ROWS_WAITING_MAX: usize = 256;

/// The rows of a statement that reads, in their order, as they are found.
///
/// They are those of the moment at which the statement began, whatever is written meanwhile. While it
/// lives, it has a thread and holds that moment's state: what is replaced later stays on disk. Dropping
/// it stops the statement.
pub struct Rows {
    receiver: mpsc::Receiver<Found>,
    cancellation: Cancellation,
    warnings: Vec<Warning>,
    is_ended: bool,
}

enum Found {
    Row(QueryResultItem),
    End(Result<Vec<Warning>, Error>),
}

impl Rows {
    pub(crate) fn start(
        store: &idem_store::Store,
        query: Query,
        options: ExecuteOptions,
    ) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::channel(ROWS_WAITING_MAX);
        let cancellation = Cancellation::new();
        let options = options.cancellation(cancellation.clone()).into_store();
        let store = store.clone();
        // A thread of its own: one that waits for its reader must not keep statements waiting.
        thread::Builder::new()
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
        Ok(Self {
            receiver,
            cancellation,
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
        let found = self.receiver.recv().await;
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
        let found = match tokio::runtime::Handle::try_current() {
            // Waiting is not allowed to tokio's own channel on a thread of a runtime.
            Ok(_) => thread::scope(|scope| {
                let waiting = scope.spawn(|| self.receiver.blocking_recv());
                waiting.join().unwrap_or(None)
            }),
            Err(_) => self.receiver.blocking_recv(),
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
        // The thread may wait for room or search for a row that nobody wants.
        self.receiver.close();
        self.cancellation.cancel();
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("is_ended", &self.is_ended)
            .finish_non_exhaustive()
    }
}

//! The threads on which statements run.
//!
//! What may wait for the writer's turn, what only reads, and what belongs to an open transaction have
//! a number of threads each. If they shared them, many waiting writers could take all, and the
//! transaction that they wait for would never get one for its commit.

use std::sync::Arc;

use tokio::{
    runtime::{Builder, Handle},
    sync::Semaphore,
};

use crate::error::{Error, ErrorKind};

/// Statements that wait for their turn or the disk at one time; more wait for a thread. They sleep in
/// one shared fsync, so many cost little.
const WRITERS_MAX: usize = 64;

/// Statements that read at one time. More than the processors have cores gain nothing but fairness.
const READERS_MAX: usize = 32;

/// Statements of open transactions, of which one writes and the others read, and what the network
/// needs, such as looking up names.
const INSIDERS_MAX: usize = 32;

/// What a piece of work may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Only reads: it waits for nobody.
    Reading,
    /// Needs the writer's turn, and may wait for it.
    Writing,
    /// Goes on with a transaction that has what it needs.
    Inside,
}

#[derive(Debug)]
pub(crate) struct Lanes {
    handle: Handle,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

impl Lanes {
    /// Gives a runtime the threads for all lanes.
    pub(crate) fn prepare(runtime: &mut Builder) -> &mut Builder {
        runtime.max_blocking_threads(READERS_MAX + WRITERS_MAX + INSIDERS_MAX)
    }

    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            writers: Arc::new(Semaphore::new(WRITERS_MAX)),
        }
    }

    /// Runs `work` on a thread where waiting for the disk hurts nobody.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = match lane {
            Lane::Reading => Some(&self.readers),
            Lane::Writing => Some(&self.writers),
            Lane::Inside => None,
        };
        let permit = match room {
            None => None,
            Some(room) => {
                let permit = Arc::clone(room).acquire_owned().await;
                Some(permit.map_err(|_| Error::closed())?)
            }
        };
        let work = move || {
            // Kept while the thread is, also when nobody waits for the result any more.
            let _permit = permit;
            work()
        };
        match self.handle.spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(Error::new(
                ErrorKind::Internal,
                "a statement panicked; please report it",
            )),
            Err(_) => Err(Error::closed()),
        }
    }
}

//! What is done to indexes besides the transactions that write: building, deleting what was dropped,
//! counting.
//!
//! All of it goes in steps. A step that writes is a short transaction of its own, which also notes how
//! far it came: so writers get their turn between two steps, and after a crash the work goes on where
//! it was. Steps are taken by a thread of the store, by whoever waits for a CREATE INDEX, or by the
//! caller of a store without threads.

mod build;
mod declare;
mod purge;
mod tally;

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use idem_query::{ErrorKind, Interrupt, QueryError};

use self::tally::Counting;
use crate::{
    catalog::{Catalog, Index},
    core::Core,
    error::StoreError,
    patience::{Cancellation, Patience},
    pending::Awaited,
    work::Work,
};

/// How long the thread lets things be after a failure, at first and at most. A full disk is the
/// likely one.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What those who take steps share.
#[derive(Debug, Default)]
pub(crate) struct Indexing {
    state: Mutex<State>,
    changed: Condvar,
    /// Held for the length of a step.
    stepping: Mutex<Stepping>,
    /// Ends a step's wait for the writer's turn when the store closes.
    stopping: Cancellation,
}

#[derive(Debug, Default)]
struct State {
    /// Whether there may be something to do.
    is_wished: bool,
    is_stopped: bool,
    /// How many callers take steps themselves; the thread leaves the work to them.
    drivers: usize,
    /// Entries that were put or deleted in each index since it was counted.
    changes: BTreeMap<u32, u64>,
    /// What kept the work on an index from going on.
    failures: BTreeMap<u32, String>,
}

#[derive(Debug, Default)]
struct Stepping {
    /// The index of the last step: all get their turns.
    last: u32,
    counting: Option<Counting>,
}

/// Something to do for one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Build(u32),
    Purge(u32),
    Tally(u32),
}

impl Job {
    fn index(self) -> u32 {
        match self {
            Self::Build(index) | Self::Purge(index) | Self::Tally(index) => index,
        }
    }
}

/// A caller that takes steps itself.
#[derive(Debug)]
pub(crate) struct Driver {
    core: Arc<Core>,
}

impl Driver {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        core.indexing.lock().drivers += 1;
        Self {
            core: Arc::clone(core),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let indexing = &self.core.indexing;
        let mut state = indexing.lock();
        state.drivers -= 1;
        // What is left is the thread's.
        state.is_wished = true;
        indexing.changed.notify_all();
    }
}

impl Indexing {
    /// What the opening found. Changes since the last count are not stored: the number of documents
    /// tells of most.
    pub(crate) fn opened(&self, work: &Work) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (collection, index) in work.catalog().all_indexes() {
            let now = work.documents_in(collection)?;
            let changes = now.abs_diff(index.tally.documents);
            state.changes.insert(index.id, changes);
        }
        state.is_wished = true;
        Ok(())
    }

    /// Notes what a commit did, and wakes the thread if that makes work.
    pub(crate) fn committed<'a>(
        &self,
        catalog: &Catalog,
        has_catalog_changed: bool,
        entries: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut counts = BTreeMap::new();
        for key in entries {
            if let Some((index, _)) = key.split_first_chunk() {
                *counts.entry(u32::from_be_bytes(*index)).or_insert(0_u64) += 1;
            }
        }
        if counts.is_empty() && !has_catalog_changed {
            return;
        }
        let mut state = self.lock();
        let mut is_due = has_catalog_changed && catalog.has_index_work();
        for (index, count) in counts {
            let changes = state.changes.entry(index).or_insert(0);
            *changes = changes.saturating_add(count);
            is_due |= catalog
                .index(index)
                .is_some_and(|(_, index)| is_tally_due(index, *changes));
        }
        if is_due && !state.is_wished {
            state.is_wished = true;
            self.changed.notify_all();
        }
    }

    /// Until the store closes, too.
    fn stoppable(&self, mut patience: Patience) -> Patience {
        patience.cancellations.push(self.stopping.clone());
        patience
    }

    pub(crate) fn stop(&self) {
        self.stopping.cancel();
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// What keeps the work on an index from going on, for a person.
    pub(crate) fn failure(&self, index: u32) -> Option<String> {
        self.lock().failures.get(&index).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stepping(&self) -> MutexGuard<'_, Stepping> {
        self.stepping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an index is complete and was never counted.
    fn completed(&self, index: u32) {
        let mut state = self.lock();
        let changes = state.changes.entry(index).or_insert(0);
        *changes = (*changes).max(tally::CHANGES_MIN);
    }

    /// Entries that were changed since the index was counted.
    fn changes(&self, index: u32) -> u64 {
        self.lock().changes.get(&index).copied().unwrap_or(0)
    }

    /// Notes that so many of the changes are counted.
    fn counted(&self, index: u32, changes: u64) {
        if let Some(since) = self.lock().changes.get_mut(&index) {
            *since = since.saturating_sub(changes);
        }
    }

    /// Forgets an index that is gone, whose number may be used again.
    fn forget(&self, index: u32) {
        let mut state = self.lock();
        state.changes.remove(&index);
        state.failures.remove(&index);
    }

    /// The job whose turn it is.
    fn next_job(&self, catalog: &Catalog, stepping: &Stepping) -> Option<Job> {
        // One count at a time: it keeps where it is in memory.
        let counting = stepping.counting.as_ref().map(Counting::index);
        let indexes = catalog.all_indexes().filter_map(|(_, index)| {
            if index.build.is_some() {
                return Some(Job::Build(index.id));
            }
            let is_due = is_tally_due(index, self.changes(index.id));
            let is_free = counting.is_none_or(|counting| counting == index.id);
            (is_due && is_free).then_some(Job::Tally(index.id))
        });
        let purges = catalog.purges.keys().map(|&index| Job::Purge(index));
        let in_turn = |job: &Job| (job.index() <= stepping.last, job.index());
        indexes.chain(purges).min_by_key(in_turn)
    }
}

/// Whether so many changes since the last count are worth another one. What is counted is then wrong
/// by half at most where entries only come and go; the cost for each change stays that of a few
/// entries.
fn is_tally_due(index: &Index, changes: u64) -> bool {
    index.build.is_none() && changes >= (index.tally.entries / 2).max(tally::CHANGES_MIN)
}

/// Takes one step of what is to be done. Returns false if nothing is.
pub(crate) fn step(core: &Arc<Core>) -> Result<bool, StoreError> {
    core.poison.check()?;
    let mut stepping = core.indexing.stepping();
    let catalog = core.catalog();
    let is_gone = |counting: &Counting| catalog.index(counting.index()).is_none();
    if stepping.counting.as_ref().is_some_and(is_gone) {
        stepping.counting = None;
    }
    let Some(job) = core.indexing.next_job(&catalog, &stepping) else {
        return Ok(false);
    };
    stepping.last = job.index();
    let patience = core.indexing.stoppable(core.patience());
    run_job(core, job, &mut stepping, &patience)?;
    Ok(true)
}

/// Commits a step. It need not reach the disk before the caller goes on: what a crash takes back is
/// done again.
fn commit(core: &Arc<Core>, work: Work) -> Result<(), StoreError> {
    match work.commit_visible()? {
        Some(committed) => committed.hand_over(core),
        None => Ok(()),
    }
}

/// Runs one job, which waits for the writer's turn no longer than `patience`.
fn run_job(
    core: &Arc<Core>,
    job: Job,
    stepping: &mut Stepping,
    patience: &Patience,
) -> Result<(), StoreError> {
    let result = match job {
        Job::Build(index) => build::step(core, index, patience),
        Job::Purge(index) => purge::step(core, index, patience),
        Job::Tally(index) => tally::step(core, index, &mut stepping.counting, patience),
    };
    let mut state = core.indexing.lock();
    match &result {
        Ok(()) => {
            state.failures.remove(&job.index());
        }
        Err(error) => {
            state.failures.insert(job.index(), chain(error));
        }
    }
    result
}

/// Builds the index that a statement asked for to its end, and counts it. Whoever drives it does
/// not hold the writer's turn.
///
/// # Errors
/// An interruption, and then the index goes on being built without the caller; what a step fails
/// with; that the index was dropped.
pub(crate) fn finish(
    driver: &Driver,
    awaited: &Awaited,
    patience: &Patience,
) -> Result<(), StoreError> {
    let core = &driver.core;
    let patience = &core.indexing.stoppable(patience.clone());
    let id = awaited.index;
    loop {
        let catalog = core.catalog();
        let found = catalog.index(id).map(|(_, index)| index);
        match found.filter(|index| index.info == awaited.info) {
            None => return Err(dropped(awaited).into()),
            Some(index) if index.build.is_none() => break,
            Some(_) => {}
        }
        let result = match patience.look() {
            None => run_job(
                core,
                Job::Build(id),
                &mut core.indexing.stepping(),
                patience,
            ),
            Some(_) => Ok(()),
        };
        core.poison.check()?;
        // Also while it waited for the turn of a writer.
        if let Some(interrupt) = patience.look() {
            return Err(interrupted(awaited, interrupt).into());
        }
        result?;
    }
    core.acknowledge(core.log.end())?;
    // The index is there. Who is interrupted now, or fails, leaves the counting to the thread.
    loop {
        let is_due = core
            .catalog()
            .index(id)
            .is_some_and(|(_, index)| is_tally_due(index, core.indexing.changes(id)));
        if !is_due || patience.look().is_some() {
            return Ok(());
        }
        let mut stepping = core.indexing.stepping();
        if run_job(core, Job::Tally(id), &mut stepping, patience).is_err() {
            return Ok(());
        }
    }
}

fn dropped(awaited: &Awaited) -> QueryError {
    let (name, collection) = (awaited.info.name(), awaited.info.collection());
    let message = format!("index `{name}` on `{collection}` was dropped while it was built");
    QueryError::new(ErrorKind::Execution, message)
}

fn interrupted(awaited: &Awaited, interrupt: Interrupt) -> QueryError {
    let (name, collection) = (awaited.info.name(), awaited.info.collection());
    let (kind, what) = match interrupt {
        Interrupt::TimedOut(allowed) => (
            ErrorKind::TimedOut,
            format!("the {} ms of the statement are over", allowed.as_millis()),
        ),
        _ => (
            ErrorKind::Cancelled,
            "the statement was cancelled".to_owned(),
        ),
    };
    let message =
        format!("{what}; index `{name}` on `{collection}` goes on being built in the background");
    QueryError::new(kind, message)
        .with_hint("system:indexes shows its progress, and DROP INDEX ends it")
}

/// The thread that works on indexes.
pub(crate) fn run(core: &Arc<Core>) {
    let indexing = &core.indexing;
    let mut pause = RETRY_MIN;
    loop {
        {
            let state = indexing.lock();
            let mut state = indexing
                .changed
                .wait_while(state, |state| {
                    !state.is_stopped && (!state.is_wished || state.drivers > 0)
                })
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_stopped {
                return;
            }
            state.is_wished = false;
        }
        match step(core) {
            Ok(true) => {
                pause = RETRY_MIN;
                indexing.lock().is_wished = true;
            }
            Ok(false) => pause = RETRY_MIN,
            Err(StoreError::Closed | StoreError::Poisoned { .. }) => return,
            Err(error) => {
                tracing::warn!(error = chain(&error), "work on an index failed");
                let mut state = indexing.lock();
                state.is_wished = true;
                let waited = indexing
                    .changed
                    .wait_timeout_while(state, pause, |state| !state.is_stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                drop(waited);
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// The message of an error with that of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

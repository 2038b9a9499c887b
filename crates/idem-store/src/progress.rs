//! How far commits have come: visible, durable, and who wants to hear of it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use idem_log::Position;
use idem_model::Timestamp;

use crate::head::Head;

type Callback = Arc<dyn Fn(u64) + Send + Sync>;

pub(crate) struct Progress {
    visible: AtomicU64,
    durable: AtomicU64,
    time: AtomicU64,
    /// Whether sync scopes changed that nobody was told of.
    scopes_changed: AtomicBool,
    /// Log positions that are not durable yet, with the last commit up to each.
    waiting: Mutex<VecDeque<(Position, u64)>>,
    callbacks: Mutex<Callbacks>,
}

#[derive(Default)]
struct Callbacks {
    next: u64,
    list: Vec<(u64, Moment, Callback)>,
}

/// What a callback wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A commit is on disk.
    Durable,
    /// A commit is acknowledged and not on disk yet.
    Relaxed,
}

impl Progress {
    /// What was read at the opening is durable.
    pub(crate) fn new(head: &Head) -> Self {
        Self {
            visible: AtomicU64::new(head.commit),
            durable: AtomicU64::new(head.commit),
            time: AtomicU64::new(head.time.0),
            scopes_changed: AtomicBool::new(false),
            waiting: Mutex::default(),
            callbacks: Mutex::default(),
        }
    }

    pub(crate) fn last_commit(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    pub(crate) fn durable_commit(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn last_time(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::Acquire))
    }

    pub(crate) fn appended(&self, position: Position, commit: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((position, commit));
    }

    pub(crate) fn visible(&self, head: &Head) {
        // Whoever reads the time finds the commit of it.
        self.visible.store(head.commit, Ordering::Release);
        self.time.store(head.time.0, Ordering::Release);
    }

    /// The log position behind which `commit` is safe; `None` if it is.
    pub(crate) fn position_of(&self, commit: u64) -> Option<Position> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.partition_point(|&(_, other)| other < commit);
        waiting.get(at).map(|&(position, _)| position)
    }

    /// Notes that a view has shown `commit`, which [`Progress::visible`] may be about to say.
    pub(crate) fn shown(&self, commit: u64) {
        self.visible.fetch_max(commit, Ordering::AcqRel);
    }

    /// Notes that the log is on disk up to `position`, and tells the callbacks if commits are.
    ///
    /// A commit may be on disk before it is visible, because somebody else's sync took it along. It
    /// counts when this is called after it became visible, as whoever commits does: who is told that
    /// a commit is durable reads what it changed, and does not come again.
    pub(crate) fn durable(&self, position: Position) {
        let risen = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let visible = self.last_commit();
            let mut risen = None;
            while let Some(&(end, commit)) = waiting.front()
                && end <= position
                && commit <= visible
            {
                waiting.pop_front();
                risen = Some(commit);
            }
            // Under the lock, so that it never goes back.
            risen.filter(|&commit| self.durable.fetch_max(commit, Ordering::AcqRel) < commit)
        };
        match risen {
            Some(commit) => {
                self.scopes_changed.store(false, Ordering::Release);
                self.call(Moment::Durable, commit);
            }
            None => self.tell_scopes(),
        }
    }

    /// Which collections sync with whom has changed, in a commit that counts none. Whoever waits for commits
    /// is told with the next call of [`Progress::durable`] or [`Progress::relaxed`].
    pub(crate) fn scopes_changed(&self) {
        self.scopes_changed.store(true, Ordering::Release);
    }

    fn tell_scopes(&self) {
        if self.scopes_changed.swap(false, Ordering::AcqRel) {
            self.call(Moment::Durable, self.durable_commit());
        }
    }

    /// Tells that commits up to the last one are acknowledged before they are on disk.
    pub(crate) fn relaxed(&self) {
        self.call(Moment::Relaxed, self.last_commit());
        self.tell_scopes();
    }

    fn call(&self, moment: Moment, commit: u64) {
        // Called without the lock: a callback may commit.
        let list = {
            let callbacks = self
                .callbacks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            callbacks.list.clone()
        };
        for (_, _, callback) in list.iter().filter(|(_, wanted, _)| *wanted == moment) {
            callback(commit);
        }
    }

    pub(crate) fn subscribe(&self, moment: Moment, callback: Callback) -> u64 {
        let mut callbacks = self
            .callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        callbacks.next += 1;
        let id = callbacks.next;
        callbacks.list.push((id, moment, callback));
        id
    }

    pub(crate) fn unsubscribe(&self, id: u64) {
        let mut callbacks = self
            .callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        callbacks.list.retain(|(other, ..)| *other != id);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("visible", &self.visible)
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use idem_kv::Batch;
    use idem_model::{CollectionName, Object};

    use crate::{Store, StoreConfig, head::Head, tables};

    /// What `publish` does, stopped at the moment at which another thread may sync and read.
    #[test]
    fn a_commit_is_durable_when_it_is_on_disk_and_seen() {
        let store = Store::open(StoreConfig::memory().background_threads(false)).unwrap();
        let insert = "INSERT INTO t DOCUMENTS ({'_id': 1})";
        store.execute(insert, Object::new()).unwrap();
        let core = store.core().unwrap();
        let before = core.head();
        let head = Head {
            commit: before.commit + 1,
            ..before
        };
        let mut batch = Batch::new();
        batch.put(tables::SYSTEM, tables::SYSTEM_HEAD, &head.encode());
        let position = core.log.append_parts(&[batch.as_bytes()]).unwrap();
        core.progress.appended(position, head.commit);

        core.sync_to(position).unwrap();
        assert_eq!(store.durable_commit(), before.commit, "nobody can read it");
        core.overlay.apply(&batch, position);
        core.sync_to(position).unwrap();
        assert_eq!(store.durable_commit(), before.commit, "nobody has read it");
        let name = CollectionName::new("t").unwrap();
        let feed = store.changed_since(&name, 0, 0, usize::MAX).unwrap();
        assert_eq!(feed.up_to, head.commit);
        assert_eq!(store.durable_commit(), head.commit);
    }
}

//! Which live queries there are, which of them a commit concerns, and the thread that runs them.
//!
//! A commit leaves what it did in a queue, under its number and in the order of commits. Whoever
//! delivers (the observing thread, or the committing one in a store without threads) takes the queue,
//! finds the queries that each document can concern, lets them follow the change, and calls back
//! those whose result is different. A query is loaded from a snapshot that has the number of its last
//! commit, so that no change is followed twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use idem_model::{CollectionName, DocId, Object, Value, limits};
use idem_query::{
    Context, DocumentChange, Effect, Interests, Interrupt, LiveQuery, QueryError, QueryOutput,
    StatementLimits,
};

use crate::{
    catalog::Catalog,
    core::Core,
    error::StoreError,
    observe::SignalNext,
    query::QueryResult,
    statements::Parsed,
    work::{Work, with_id},
};

pub(crate) type Callback = Box<dyn FnMut(Result<QueryResult, StoreError>, SignalNext) + Send>;

/// How often queries on system collections are run again: no commit tells of their changes.
const SYSTEM_POLL: Duration = Duration::from_millis(500);

/// The live queries of a store.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    // Read first: a commit of a store without observers pays for nothing else.
    count: AtomicUsize,
    registry: Mutex<Registry>,
    changed: Condvar,
    /// Changed under the lock of the registry; queries that run look at it without.
    is_stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Registry {
    last_id: u64,
    entries: BTreeMap<u64, Place>,
    interests: Interests<u64>,
    /// Queries that read a system collection: they may change with anything.
    on_system: BTreeSet<u64>,
    /// The dirty queries that may be called back, in the order in which they became so.
    ready: VecDeque<u64>,
    /// What commits did that was not followed yet.
    commits: VecDeque<Commit>,
    /// Documents in `commits`, and the bytes that they were encoded in.
    queued: usize,
    queued_bytes: usize,
    /// Whether commits were dropped from the queue.
    has_lost: bool,
    /// Whether somebody delivers; it goes on until nothing is left to do.
    is_delivering: bool,
}

/// A live query in the registry.
#[derive(Debug)]
struct Place {
    entry: Arc<Entry>,
    is_dirty: bool,
    is_waiting_for_signal: bool,
}

struct Entry {
    id: u64,
    parsed: Arc<Parsed>,
    has_signal: bool,
    is_ended: AtomicBool,
    /// Used by who delivers alone.
    live: Mutex<Live>,
    callback: Mutex<Callback>,
}

#[derive(Debug)]
struct Live {
    query: LiveQuery,
    /// The last commit that the query has.
    commit: u64,
    /// Of the result, or the error, that the callback got last.
    last: Option<blake3::Hash>,
}

/// What a commit did to documents that are watched.
#[derive(Debug)]
struct Commit {
    number: u64,
    /// As of the commit.
    catalog: Arc<Catalog>,
    documents: Vec<(CollectionName, Option<Images>)>,
}

/// A document before and after a commit. It is read by whoever delivers, and not by who commits.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) id: DocId,
    /// Encoded; `None` where the document was not visible.
    pub(crate) before: Option<Vec<u8>>,
    /// The same.
    pub(crate) now: Option<Vec<u8>>,
}

/// What a commit did to a document, as queries see it.
struct Seen {
    before: Option<Object>,
    now: Option<Object>,
}

/// What to observe.
pub(crate) struct Wish {
    pub(crate) parsed: Arc<Parsed>,
    pub(crate) args: Object,
    pub(crate) has_signal: bool,
    pub(crate) callback: Callback,
}

impl Observers {
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn insert(&self, wish: Wish) -> Result<u64, QueryError> {
        let statement = &wish.parsed.statement;
        let reads_system = statement.collections().is_empty() || statement.reads_system();
        let query = LiveQuery::new(statement.clone(), wish.args)?;
        let mut registry = self.lock();
        registry.last_id += 1;
        let id = registry.last_id;
        registry.interests.insert(id, statement, query.args())?;
        if reads_system {
            registry.on_system.insert(id);
        }
        let entry = Arc::new(Entry {
            id,
            parsed: Arc::clone(&wish.parsed),
            has_signal: wish.has_signal,
            is_ended: AtomicBool::new(false),
            live: Mutex::new(Live {
                query,
                commit: 0,
                last: None,
            }),
            callback: Mutex::new(wish.callback),
        });
        let place = Place {
            entry,
            is_dirty: false,
            is_waiting_for_signal: false,
        };
        registry.entries.insert(id, place);
        registry.mark(id);
        self.count.store(registry.entries.len(), Ordering::Release);
        self.changed.notify_all();
        Ok(id)
    }

    pub(crate) fn remove(&self, id: u64) {
        let removed = {
            let mut registry = self.lock();
            registry.interests.remove(id);
            registry.on_system.remove(&id);
            let removed = registry.entries.remove(&id);
            self.count.store(registry.entries.len(), Ordering::Release);
            removed
        };
        // Dropped outside of the lock: what the callback owns may be an observer too.
        if let Some(place) = removed {
            place.entry.is_ended.store(true, Ordering::Release);
        }
    }

    pub(crate) fn signal(&self, id: u64) {
        let mut registry = self.lock();
        if let Some(place) = registry.entries.get_mut(&id) {
            // One that did not wait is ready already, and need not be so twice.
            let was_waiting = mem::take(&mut place.is_waiting_for_signal);
            if was_waiting && place.is_dirty {
                registry.ready.push_back(id);
            }
            self.changed.notify_all();
        }
    }

    /// Whether a query reads the collection, so that a commit has to tell what it did to a document.
    pub(crate) fn watches(&self, collection: &CollectionName) -> bool {
        self.len() > 0 && self.lock().interests.watches(collection)
    }

    /// Takes what a commit did. Called in the order of the commits. Without images, as of a document
    /// that nobody watched when it was written, anything may have happened in the collection.
    ///
    /// Gives whether somebody has to deliver now who does not do so already: then whoever calls this
    /// calls [`Observers::wake`] once the next writer may come.
    pub(crate) fn committed<'a>(
        &self,
        number: u64,
        catalog: &Arc<Catalog>,
        documents: impl Iterator<Item = (&'a CollectionName, Option<Images>)>,
    ) -> bool {
        if self.len() == 0 {
            return false;
        }
        let mut registry = self.lock();
        let registry = &mut *registry;
        let mut watched = Vec::new();
        for (collection, images) in documents {
            let interests = &registry.interests;
            let is_watched = match &images {
                Some(images) => interests.may_concern(collection, &images.id),
                None => interests.watches(collection),
            };
            if is_watched {
                watched.push((collection.clone(), images));
            }
        }
        if !registry.has_lost && !watched.is_empty() {
            registry.queued += watched.len();
            let images = watched.iter().filter_map(|(_, images)| images.as_ref());
            registry.queued_bytes += images.map(Images::bytes).sum::<usize>();
            registry.commits.push_back(Commit {
                number,
                catalog: Arc::clone(catalog),
                documents: watched,
            });
            registry.has_lost = registry.queued > limits::LIVE_CHANGES_QUEUED_MAX
                || registry.queued_bytes > limits::LIVE_CHANGES_QUEUED_BYTES_MAX;
        }
        if registry.has_lost {
            registry.commits.clear();
            registry.queued = 0;
            registry.queued_bytes = 0;
        }
        for id in registry.on_system.clone() {
            registry.mark(id);
        }
        // Who delivers looks again before it ends.
        !registry.is_delivering && (registry.has_news() || !registry.ready.is_empty())
    }

    /// Has what was committed delivered. Without a lock, or who wakes would wait for it at once.
    pub(crate) fn wake(&self) {
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        let registry = self.lock();
        self.is_stopped.store(true, Ordering::Release);
        drop(registry);
        self.changed.notify_all();
    }

    /// Follows what was committed and runs the callbacks that are ready, unless somebody does already.
    pub(crate) fn deliver(&self, core: &Arc<Core>) {
        if self.len() == 0 {
            return;
        }
        if mem::replace(&mut self.lock().is_delivering, true) {
            return;
        }
        // Callbacks that panic are dealt with where they are called: this is a fault of the store.
        while catch_unwind(AssertUnwindSafe(|| self.deliver_all(core))).is_err() {
            tracing::error!("the delivery to observers panicked");
            let is_poisoned = core.poison.check().is_err();
            let mut registry = self.lock();
            if is_poisoned {
                registry.is_delivering = false;
                return;
            }
            core.poison.panicked("the delivery to observers");
            // What was being followed is lost. All queries read again, and so their observers learn why
            // nothing comes any more.
            registry.has_lost = true;
        }
    }

    fn deliver_all(&self, core: &Arc<Core>) {
        loop {
            self.follow(core);
            let next = {
                let mut registry = self.lock();
                let next = match self.is_stopped() {
                    true => None,
                    false => registry.next_ready(),
                };
                registry.is_delivering = next.is_some() || registry.has_news();
                if !registry.is_delivering {
                    return;
                }
                next
            };
            if let Some(entry) = next {
                self.run(core, &entry);
            }
        }
    }

    /// Lets the queries follow what was committed.
    fn follow(&self, core: &Arc<Core>) {
        let (commits, has_lost) = {
            let mut registry = self.lock();
            registry.queued = 0;
            registry.queued_bytes = 0;
            (
                mem::take(&mut registry.commits),
                mem::take(&mut registry.has_lost),
            )
        };
        if has_lost {
            self.reload(|registry| registry.entries.keys().copied().collect());
        }
        let now_ms = (core.clock)();
        for commit in commits {
            let seen = commit.seen();
            let concerned = self.lock().concerned(&seen);
            let mut dirty = BTreeSet::new();
            for (entry, document) in concerned {
                let (collection, seen) = &seen[document];
                let mut live = entry.live();
                if commit.number <= live.commit && live.commit > 0 {
                    continue;
                }
                let effect = match seen {
                    None => live.query.forget(),
                    Some(seen) => {
                        let change = DocumentChange {
                            collection,
                            before: seen.before.as_ref(),
                            after: seen.now.as_ref(),
                        };
                        live.query.apply(change, now_ms)
                    }
                };
                if effect != Effect::Nothing {
                    dirty.insert(entry.id);
                }
            }
            let mut registry = self.lock();
            for id in dirty {
                registry.mark(id);
            }
        }
    }

    /// Makes queries read everything again.
    fn reload(&self, which: impl FnOnce(&Registry) -> Vec<u64>) {
        let mut registry = self.lock();
        let ids = which(&registry);
        let entries = ids.iter().filter_map(|id| registry.entries.get(id));
        let entries: Vec<Arc<Entry>> = entries.map(|place| Arc::clone(&place.entry)).collect();
        for id in ids {
            registry.mark(id);
        }
        drop(registry);
        for entry in entries {
            entry.live().query.forget();
        }
    }

    fn run(&self, core: &Arc<Core>, entry: &Arc<Entry>) {
        let result = entry.result(core);
        let hash = match &result {
            Ok(result) => hash_of(&result.items),
            Err(error) => hash_of_error(error),
        };
        if entry.live().last.replace(hash) == Some(hash) {
            return;
        }
        if entry.is_ended.load(Ordering::Acquire) || self.is_stopped() {
            return;
        }
        if entry.has_signal
            && let Some(place) = self.lock().entries.get_mut(&entry.id)
        {
            place.is_waiting_for_signal = true;
        }
        let signal = SignalNext::new(core, entry.id);
        let mut callback = entry
            .callback
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The app's code may panic; the other observers must go on.
        if catch_unwind(AssertUnwindSafe(|| callback(result, signal))).is_err() {
            tracing::error!(
                statement = &*entry.parsed.text,
                "an observer panicked and was removed"
            );
            self.remove(entry.id);
        }
    }

    /// Whether the store closes.
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that delivers.
pub(crate) fn run(core: &Arc<Core>) {
    let observers = &core.observers;
    loop {
        {
            let registry = observers.lock();
            let is_idle = |registry: &mut Registry| {
                !observers.is_stopped() && registry.ready.is_empty() && !registry.has_news()
            };
            let registry = if registry.on_system.is_empty() {
                observers
                    .changed
                    .wait_while(registry, |registry| {
                        registry.on_system.is_empty() && is_idle(registry)
                    })
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                let (mut registry, waited) = observers
                    .changed
                    .wait_timeout_while(registry, SYSTEM_POLL, is_idle)
                    .unwrap_or_else(PoisonError::into_inner);
                if waited.timed_out() {
                    for id in registry.on_system.clone() {
                        registry.mark(id);
                    }
                }
                registry
            };
            drop(registry);
            if observers.is_stopped() {
                return;
            }
        }
        observers.deliver(core);
    }
}

impl Registry {
    /// Notes that a query may have another result.
    fn mark(&mut self, id: u64) {
        if let Some(place) = self.entries.get_mut(&id)
            && !mem::replace(&mut place.is_dirty, true)
            && !place.is_waiting_for_signal
        {
            self.ready.push_back(id);
        }
    }

    /// Whether there is something to follow.
    fn has_news(&self) -> bool {
        self.has_lost || !self.commits.is_empty()
    }

    /// Takes the query that has been ready for longest.
    fn next_ready(&mut self) -> Option<Arc<Entry>> {
        while let Some(id) = self.ready.pop_front() {
            // One that was marked while it was called back waits for its signal, still dirty.
            if let Some(place) = self.entries.get_mut(&id)
                && place.is_dirty
                && !place.is_waiting_for_signal
            {
                place.is_dirty = false;
                return Some(Arc::clone(&place.entry));
            }
        }
        None
    }

    /// The queries that a commit can concern, each with the document that does, in the order of the
    /// documents.
    fn concerned(&self, seen: &[(&CollectionName, Option<Seen>)]) -> Vec<(Arc<Entry>, usize)> {
        let mut concerned = Vec::new();
        let mut found = BTreeSet::new();
        for (number, (collection, seen)) in seen.iter().enumerate() {
            found.clear();
            match seen {
                None => self.interests.find(collection, None, &mut found),
                Some(seen) => {
                    for image in [&seen.before, &seen.now].into_iter().flatten() {
                        self.interests.find(collection, Some(image), &mut found);
                    }
                }
            }
            let places = found.iter().filter_map(|id| self.entries.get(id));
            concerned.extend(places.map(|place| (Arc::clone(&place.entry), number)));
        }
        concerned
    }
}

impl Commit {
    /// What can be seen of the documents, without those that look as before. Where one cannot be read,
    /// the queries read all of the collection, and so their observers learn why.
    fn seen(&self) -> Vec<(&CollectionName, Option<Seen>)> {
        let documents = self.documents.iter().map(|(collection, images)| {
            let seen = images.as_ref().and_then(|images| {
                let kinds = self.catalog.kinds_of(collection);
                let read = |body: &Option<Vec<u8>>| match body {
                    Some(body) => with_id(&images.id, body, &kinds),
                    None => Ok(None),
                };
                let (before, now) = (read(&images.before).ok()?, read(&images.now).ok()?);
                Some(Seen { before, now })
            });
            (collection, seen)
        });
        let is_same = |seen: &Seen| seen.before == seen.now;
        documents
            .filter(|(_, seen)| !seen.as_ref().is_some_and(is_same))
            .collect()
    }
}

impl Images {
    fn bytes(&self) -> usize {
        let bodies = [&self.before, &self.now].into_iter().flatten();
        bodies.map(Vec::len).sum()
    }
}

impl Entry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn result(&self, core: &Arc<Core>) -> Result<QueryResult, StoreError> {
        let mut live = self.live();
        if self.reads_system() {
            live.query.forget();
        }
        let output = match live.query.output((core.clock)()) {
            Some(output) => output,
            None => live.load(core, &self.is_ended)?,
        };
        Ok(QueryResult {
            items: output.items,
            mutated_document_ids: Vec::new(),
            commit_id: None,
            warnings: output.warnings,
        })
    }

    fn reads_system(&self) -> bool {
        let statement = &self.parsed.statement;
        statement.collections().is_empty() || statement.reads_system()
    }
}

impl Live {
    /// Runs the query, within the limits of a statement and no longer than somebody wants it.
    fn load(&mut self, core: &Arc<Core>, is_ended: &AtomicBool) -> Result<QueryOutput, StoreError> {
        let tuning = core.tuning();
        let time_max = Duration::from_millis(tuning.statement_timeout_ms);
        let started = Instant::now();
        let look = || {
            if is_ended.load(Ordering::Acquire) || core.observers.is_stopped() {
                return Some(Interrupt::Cancelled);
            }
            let is_over = !time_max.is_zero() && started.elapsed() >= time_max;
            is_over.then_some(Interrupt::TimedOut(time_max))
        };
        let work = Work::read(Arc::clone(core))?;
        self.commit = work.last_commit()?;
        let none = Object::new();
        let limits = StatementLimits::default().memory_bytes(tuning.statement_memory_bytes);
        let context = Context::new(&none, work.now_ms)
            .with_limits(limits)
            .with_interrupt(&look);
        self.query.load(&context, &work)?;
        let output = self.query.output(work.now_ms);
        Ok(output.expect("a query that was just loaded has a result"))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("statement", &self.parsed.text)
            .finish_non_exhaustive()
    }
}

/// Keeping a hash instead of the result itself halves the memory of a live query.
fn hash_of(items: &[Object]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    for item in items {
        bytes.clear();
        for (name, value) in item {
            idem_model::codec::put_bytes(&mut bytes, name.as_bytes());
            value.encode(&mut bytes);
        }
        Value::Null.encode(&mut bytes);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    hasher.finalize()
}

fn hash_of_error(error: &StoreError) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        hasher.update(error.to_string().as_bytes());
        // No result has this byte here: it would be the length of a row of nearly all memory.
        hasher.update(&[u8::MAX; 8]);
        cause = error.source();
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use idem_model::{Object, Value, limits};
    use idem_query::ErrorKind;

    use crate::{SimulatedDisk, Store, StoreConfig, StoreError};

    /// A commit that a query was loaded with is still in the queue: it counts once.
    #[test]
    fn a_commit_that_was_loaded_is_not_followed() {
        let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
        let core = store.core().unwrap();
        let counts = Arc::new(Mutex::new(Vec::new()));
        let _observer = {
            let counts = Arc::clone(&counts);
            let text = "SELECT COUNT(*) AS n FROM t";
            store
                .observe(text, Object::new(), move |result| {
                    let row = result.unwrap().items.remove(0);
                    counts.lock().unwrap().push(row["n"].clone());
                })
                .unwrap()
        };
        let insert = || {
            store
                .execute("INSERT INTO t DOCUMENTS ({})", Object::new())
                .unwrap();
        };
        // Somebody else delivers, and is just about to load.
        core.observers.lock().is_delivering = true;
        insert();
        let entry = Arc::clone(&core.observers.lock().entries[&1].entry);
        entry.live().query.forget();
        entry.result(&core).unwrap();
        core.observers.lock().is_delivering = false;
        core.observers.deliver(&core);
        insert();
        assert_eq!(*counts.lock().unwrap().last().unwrap(), Value::Int(2));
    }

    /// Large documents reach the bound long before there are many of them.
    #[test]
    fn what_waits_for_a_slow_callback_is_bounded_in_bytes() {
        let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
        let core = store.core().unwrap();
        let rows = Arc::new(Mutex::new(Vec::new()));
        let _observer = {
            let rows = Arc::clone(&rows);
            store
                .observe("SELECT _id FROM t", Object::new(), move |result| {
                    rows.lock().unwrap().push(result.unwrap().items.len());
                })
                .unwrap()
        };
        // Somebody else delivers, and takes long.
        core.observers.lock().is_delivering = true;
        let text = "x".repeat(1024 * 1024);
        for number in 0..20 {
            let args = Object::from([
                ("id".to_owned(), Value::Int(number)),
                ("text".to_owned(), Value::from(text.as_str())),
            ]);
            let insert = "INSERT INTO t DOCUMENTS ({'_id': :id, 'text': :text})";
            store.execute(insert, args).unwrap();
            let registry = core.observers.lock();
            assert!(registry.queued_bytes <= limits::LIVE_CHANGES_QUEUED_BYTES_MAX);
            assert_eq!(registry.has_lost, number >= 15, "document {number}");
            assert_eq!(registry.commits.is_empty(), registry.has_lost);
        }
        core.observers.lock().is_delivering = false;
        core.observers.deliver(&core);
        assert_eq!(*rows.lock().unwrap(), [0, 20]);
    }

    /// Whoever polls a system collection would be called twice a second.
    #[test]
    fn an_error_is_told_once_while_it_stays_the_same() {
        let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let run = |text: &str| store.execute(text, Object::new()).unwrap();
        run("INSERT INTO t DOCUMENTS ({'_id': 1}), ({'_id': 2})");
        let text = "SELECT (SELECT _id FROM t) AS id FROM system:system_info";
        let _observer = {
            let told = Arc::clone(&told);
            store
                .observe(text, Object::new(), move |result| {
                    told.lock().unwrap().push(result.is_ok());
                })
                .unwrap()
        };
        // Every commit makes it run again.
        run("INSERT INTO u DOCUMENTS ({'_id': 1})");
        run("INSERT INTO u DOCUMENTS ({'_id': 2})");
        assert_eq!(*told.lock().unwrap(), [false]);
        run("DELETE FROM t WHERE _id = 1");
        run("INSERT INTO t DOCUMENTS ({'_id': 1})");
        assert_eq!(*told.lock().unwrap(), [false, true, false]);
    }

    #[test]
    fn a_result_that_is_not_followed_is_not_kept() {
        let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
        let core = store.core().unwrap();
        for (text, is_kept) in [
            ("SELECT _id FROM t", true),
            ("SELECT DISTINCT _id FROM t", false),
        ] {
            let _observer = store.observe(text, Object::new(), |_| {}).unwrap();
            let entry = {
                let registry = core.observers.lock();
                Arc::clone(&registry.entries.last_key_value().unwrap().1.entry)
            };
            assert_eq!(entry.live().query.output(0).is_some(), is_kept, "{text}");
        }
    }

    /// A panic outside of a callback is a fault of the store: it may not go on, and says so.
    #[test]
    fn observers_learn_that_the_delivery_panicked() {
        let is_armed = Arc::new(AtomicBool::new(false));
        let clock = {
            let is_armed = Arc::clone(&is_armed);
            Arc::new(move || {
                assert!(
                    !is_armed.swap(false, Ordering::SeqCst),
                    "the clock is broken"
                );
                1_000
            })
        };
        let config = StoreConfig::simulated(SimulatedDisk::new()).clock(clock);
        let store = Store::open(config).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let observe = |arms: bool| {
            let (told, is_armed) = (Arc::clone(&told), Arc::clone(&is_armed));
            store
                .observe("SELECT * FROM t", Object::new(), move |result| {
                    let code = result.as_ref().map_or_else(|error| error.code(), |_| "ok");
                    told.lock().unwrap().push(code);
                    let is_insert = result.is_ok_and(|result| !result.items.is_empty());
                    is_armed.store(arms && is_insert, Ordering::SeqCst);
                })
                .unwrap()
        };
        let _first = observe(true);
        let _second = observe(false);
        store
            .execute("INSERT INTO t DOCUMENTS ({})", Object::new())
            .unwrap();
        // The first was told of the commit, and the second was about to be.
        let expected = ["ok", "ok", "ok", "store/poisoned", "store/poisoned"];
        assert_eq!(*told.lock().unwrap(), expected);
        let error = store.execute("SELECT * FROM t", Object::new()).unwrap_err();
        assert_eq!(error.code(), "store/poisoned");
    }

    /// Or a query that never ends would keep the thread, and the store could not be closed.
    #[test]
    fn a_query_that_nobody_wants_any_more_stops() {
        let store = Store::open(StoreConfig::simulated(SimulatedDisk::new())).unwrap();
        let core = store.core().unwrap();
        let documents = (0..1000).map(|number| format!("({{'_id': {number}}})"));
        let documents: Vec<String> = documents.collect();
        let insert = format!("INSERT INTO t DOCUMENTS {}", documents.join(", "));
        store.execute(&insert, Object::new()).unwrap();
        for text in ["SELECT * FROM t", "SELECT DISTINCT _id FROM t"] {
            let _observer = store.observe(text, Object::new(), |_| {}).unwrap();
            let entry = {
                let registry = core.observers.lock();
                Arc::clone(&registry.entries.last_key_value().unwrap().1.entry)
            };
            entry.live().query.forget();
            entry.result(&core).unwrap();
            entry.live().query.forget();
            entry.is_ended.store(true, Ordering::Release);
            match entry.result(&core) {
                Err(StoreError::Query(error)) => assert_eq!(error.kind(), ErrorKind::Cancelled),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}

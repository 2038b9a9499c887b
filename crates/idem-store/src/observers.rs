//! Which live queries there are, which of them a commit concerns, and the thread that runs them.

use std::{
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use idem_model::{CollectionName, Object, Value};
use idem_query::Selector;

use crate::{
    core::Core, error::StoreError, observe::SignalNext, pending::Images, query::QueryResult,
    statements::Parsed, work::Work,
};

pub(crate) type Callback = Box<dyn FnMut(Result<QueryResult, StoreError>, SignalNext) + Send>;

/// The live queries of a store.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    // Read first: a commit of a store without observers pays for nothing else.
    count: AtomicUsize,
    registry: Mutex<Registry>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    entries: Vec<Arc<Entry>>,
    /// Whether somebody runs callbacks; it goes on until none is ready.
    is_delivering: bool,
    is_stopped: bool,
}

struct Entry {
    id: u64,
    parsed: Arc<Parsed>,
    args: Object,
    /// Set for a plain filter, where a document's images tell whether it matters.
    selector: Option<Selector>,
    has_signal: bool,
    state: Mutex<State>,
    callback: Mutex<Callback>,
}

#[derive(Debug, Default)]
struct State {
    is_dirty: bool,
    is_waiting_for_signal: bool,
    is_ended: bool,
    /// Of the result that the callback got last.
    last: Option<blake3::Hash>,
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

    pub(crate) fn insert(&self, wish: Wish) -> u64 {
        let selector = wish.parsed.statement.subscription(&wish.args).ok();
        let mut registry = self.lock();
        registry.next += 1;
        let id = registry.next;
        registry.entries.push(Arc::new(Entry {
            id,
            parsed: wish.parsed,
            args: wish.args,
            selector,
            has_signal: wish.has_signal,
            state: Mutex::new(State {
                is_dirty: true,
                ..State::default()
            }),
            callback: Mutex::new(wish.callback),
        }));
        self.count.store(registry.entries.len(), Ordering::Release);
        self.changed.notify_all();
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        let removed = {
            let mut registry = self.lock();
            let at = registry.entries.iter().position(|entry| entry.id == id);
            let removed = at.map(|at| registry.entries.remove(at));
            self.count.store(registry.entries.len(), Ordering::Release);
            removed
        };
        // Outside of the lock: what the callback owns may be an observer too.
        if let Some(entry) = removed {
            entry.state().is_ended = true;
        }
    }

    pub(crate) fn signal(&self, id: u64) {
        let registry = self.lock();
        if let Some(entry) = registry.entries.iter().find(|entry| entry.id == id) {
            entry.state().is_waiting_for_signal = false;
            self.changed.notify_all();
        }
    }

    /// Whether a document's images in this collection can spare a query.
    pub(crate) fn watches(&self, collection: &CollectionName) -> bool {
        self.len() > 0
            && self
                .lock()
                .entries
                .iter()
                .any(|entry| entry.reads(collection))
    }

    /// Marks what a commit concerns. A document without images concerns every query on its
    /// collection.
    pub(crate) fn committed<'a>(
        &self,
        documents: impl Iterator<Item = (&'a CollectionName, Option<&'a Images>)> + Clone,
    ) {
        if self.len() == 0 {
            return;
        }
        let registry = self.lock();
        for entry in &registry.entries {
            if entry.state().is_dirty {
                continue;
            }
            let mut documents = documents.clone();
            // A query on nothing but system collections may depend on anything.
            if entry.parsed.statement.collections().is_empty()
                || documents.any(|(collection, images)| entry.is_touched_by(collection, images))
            {
                entry.state().is_dirty = true;
            }
        }
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Runs the callbacks that are ready, unless somebody does already.
    pub(crate) fn deliver(&self, core: &Arc<Core>) {
        if self.len() == 0 {
            return;
        }
        {
            let mut registry = self.lock();
            if mem::replace(&mut registry.is_delivering, true) {
                return;
            }
        }
        loop {
            let ready = {
                let mut registry = self.lock();
                let ready = registry.next_ready();
                registry.is_delivering = ready.is_some();
                ready
            };
            match ready {
                Some(entry) => self.run(core, &entry),
                None => return,
            }
        }
    }

    fn run(&self, core: &Arc<Core>, entry: &Arc<Entry>) {
        let result = entry.query(core);
        if let Ok(result) = &result {
            let hash = hash_of(&result.items);
            let mut state = entry.state();
            if state.last.replace(hash) == Some(hash) {
                return;
            }
        }
        {
            let mut state = entry.state();
            if state.is_ended {
                return;
            }
            state.is_waiting_for_signal = entry.has_signal;
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that runs callbacks.
pub(crate) fn run(core: &Arc<Core>) {
    loop {
        {
            let registry = core.observers.lock();
            let registry = core
                .observers
                .changed
                .wait_while(registry, |registry| {
                    !registry.is_stopped && !registry.entries.iter().any(|entry| entry.is_ready())
                })
                .unwrap_or_else(PoisonError::into_inner);
            if registry.is_stopped {
                return;
            }
        }
        core.observers.deliver(core);
    }
}

impl Registry {
    /// Takes the ready entry that has waited longest, by moving it behind the others.
    fn next_ready(&mut self) -> Option<Arc<Entry>> {
        if self.is_stopped {
            return None;
        }
        let at = self.entries.iter().position(|entry| entry.is_ready())?;
        let entry = self.entries.remove(at);
        entry.state().is_dirty = false;
        self.entries.push(Arc::clone(&entry));
        Some(entry)
    }
}

impl Entry {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        let state = self.state();
        state.is_dirty && !state.is_waiting_for_signal && !state.is_ended
    }

    fn reads(&self, collection: &CollectionName) -> bool {
        self.parsed.statement.collections().contains(collection)
    }

    fn is_touched_by(&self, collection: &CollectionName, images: Option<&Images>) -> bool {
        let collections = self.parsed.statement.collections();
        if !collections.contains(collection) {
            return false;
        }
        match (&self.selector, images) {
            (Some(selector), Some(images)) => {
                let matches = |image: &Option<Object>| {
                    image.as_ref().is_some_and(|image| selector.matches(image))
                };
                images.before != images.now && (matches(&images.before) || matches(&images.now))
            }
            _ => true,
        }
    }

    fn query(&self, core: &Arc<Core>) -> Result<QueryResult, StoreError> {
        let work = Work::read(Arc::clone(core))?;
        work.run_read(&self.parsed.statement, &self.args)
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

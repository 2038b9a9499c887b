//! What the tests share: short ways to write values, a clock, a generator, two stores that sync.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use idem_model::{CollectionName, DocId, Object, Value, json};
use idem_store::{
    ApplyOutcome, Clock, Incoming, IncomingState, QueryResult, Store, StoreConfig, StoreError,
};

/// Longest wait for something that another thread does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn object(text: &str) -> Object {
    match json::parse(text).unwrap() {
        Value::Object(fields) => fields,
        other => panic!("not an object: {other:?}"),
    }
}

pub(crate) fn collection(name: &str) -> CollectionName {
    CollectionName::new(name).unwrap()
}

pub(crate) fn memory() -> Store {
    Store::open(StoreConfig::memory()).unwrap()
}

pub(crate) fn run(store: &Store, text: &str) -> QueryResult {
    run_with(store, text, "{}")
}

pub(crate) fn run_with(store: &Store, text: &str, args: &str) -> QueryResult {
    store
        .execute(text, object(args))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The rows of a statement as JSON, one a line.
pub(crate) fn rows(store: &Store, text: &str) -> Vec<String> {
    run(store, text).items.into_iter().map(to_json).collect()
}

pub(crate) fn to_json(fields: Object) -> String {
    json::to_string(&Value::Object(fields))
}

/// The documents of a collection by id.
pub(crate) fn documents(store: &Store, name: &str) -> BTreeMap<String, Object> {
    run(store, &format!("SELECT * FROM {name}"))
        .items
        .into_iter()
        .map(|fields| (json::to_string(&fields["_id"]), fields))
        .collect()
}

pub(crate) fn assert_sound(store: &Store) {
    let report = store.verify().unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// A clock that a test sets.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub(crate) fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let ms = Arc::clone(&self.0);
        Arc::new(move || ms.load(Ordering::SeqCst))
    }
}

/// The splitmix64 generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Sends what `from` has of a collection after `after`, batch by batch; gives the next cursor.
pub(crate) fn send(from: &Store, to: &Store, name: &str, after: u64, bytes_max: usize) -> u64 {
    let mut after = after;
    loop {
        let batch = from
            .changed_since(&collection(name), after, after, bytes_max)
            .unwrap();
        assert!(batch.up_to <= from.durable_commit());
        let incoming = batch.groups.into_iter().enumerate();
        let incoming: Vec<Incoming> = incoming
            .flat_map(|(number, group)| {
                group.into_iter().map(move |changed| Incoming {
                    key: changed.key,
                    group: u32::try_from(number).unwrap(),
                    state: IncomingState::Whole(changed.document),
                })
            })
            .collect();
        let report = to.apply(incoming, &[]).unwrap();
        assert!(report.is_applied(), "{:?}", report.outcomes);
        assert!(
            batch.up_to > after || !batch.more,
            "the feed makes progress"
        );
        after = batch.up_to;
        if !batch.more {
            return after;
        }
    }
}

/// How many documents an exchange of everything changed.
pub(crate) fn exchange(a: &Store, b: &Store, names: &[&str]) -> usize {
    let mut changed = 0;
    for name in names {
        for (from, to) in [(a, b), (b, a)] {
            let batch = from
                .changed_since(&collection(name), 0, 0, usize::MAX)
                .unwrap();
            let incoming = batch.groups.into_iter().flatten().map(|changed| Incoming {
                key: changed.key,
                group: 0,
                state: IncomingState::Whole(changed.document),
            });
            let report = to.apply(incoming.collect(), &[]).unwrap();
            assert!(report.is_applied(), "{:?}", report.outcomes);
            changed += (report.outcomes.iter())
                .filter(|outcome| **outcome == ApplyOutcome::Changed)
                .count();
        }
    }
    changed
}

/// What a callback was given, to wait for.
pub(crate) struct Inbox<T> {
    state: Arc<(Mutex<Vec<T>>, Condvar)>,
}

impl<T: Clone> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::default(),
        }
    }

    pub(crate) fn push(&self, item: T) {
        self.state.0.lock().unwrap().push(item);
        self.state.1.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.state.0.lock().unwrap().clone()
    }

    /// Waits until `done` holds of all items so far.
    pub(crate) fn wait(&self, mut done: impl FnMut(&[T]) -> bool) -> Vec<T> {
        let end = Instant::now() + PATIENCE;
        let mut items = self.state.0.lock().unwrap();
        while !done(&items) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain, {} items", items.len());
            items = self.state.1.wait_timeout(items, left).unwrap().0;
        }
        items.clone()
    }
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

pub(crate) fn id(text: &str) -> DocId {
    DocId::from(text)
}

/// The message of an error with that of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub(crate) fn is_poisoned(error: &StoreError) -> bool {
    matches!(error, StoreError::Poisoned { .. })
}

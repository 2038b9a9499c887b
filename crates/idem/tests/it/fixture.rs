//! Peers for tests, and waiting for what they will do.

use std::{
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use idem::{
    ConditionKind, ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey, TransportCondition,
    TransportConfig, TransportObserver,
};

pub(crate) const DATABASE: DatabaseId = DatabaseId([7; 16]);

/// How long a condition may take. Far more than any needs, so that a busy machine fails no test.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn config(key: u8) -> IdemConfig {
    let key = SharedKey::from_bytes([key; 32]);
    IdemConfig::new(DATABASE, ConnectMode::SharedKey { key })
}

pub(crate) fn open(directory: &Path) -> Idem {
    Idem::open_sync(config(1).with_persistence_directory(directory)).unwrap()
}

pub(crate) fn memory() -> Idem {
    Idem::open_sync(config(1)).unwrap()
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "never: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Starts sync with a listener and gives its address.
pub(crate) fn listen(idem: &Idem) -> String {
    let config = TransportConfig::new().with_tcp_listener("127.0.0.1:0");
    idem.set_transport_config(config).unwrap();
    idem.sync().start().unwrap();
    idem.sync().tcp_addresses()[0].to_string()
}

/// Starts sync towards `address`.
pub(crate) fn dial(idem: &Idem, address: &str) {
    let mut config = TransportConfig::new().with_tcp_server(address);
    config.connect.retry_interval = Duration::from_millis(20);
    idem.set_transport_config(config).unwrap();
    idem.sync().start().unwrap();
}

/// Subscribes both to everything in `collection`, for as long as they live, and links them.
pub(crate) fn link(a: &Idem, b: &Idem, collection: &str) {
    let query = format!("SELECT * FROM {collection}");
    for idem in [a, b] {
        idem.sync()
            .register_subscription(query.as_str())
            .unwrap()
            .keep();
    }
    dial(b, &listen(a));
}

pub(crate) fn run(idem: &Idem, statement: &str) {
    idem.store().execute_blocking(statement).unwrap();
}

pub(crate) fn rows(idem: &Idem, statement: &str) -> Vec<String> {
    let result = idem.store().execute_blocking(statement).unwrap();
    result.iter().map(|item| item.json_string()).collect()
}

pub(crate) fn count(idem: &Idem, collection: &str) -> usize {
    let statement = format!("SELECT _id FROM {collection}");
    idem.store()
        .execute_blocking(statement)
        .unwrap()
        .item_count()
}

#[track_caller]
pub(crate) fn wait_equal(a: &Idem, b: &Idem) {
    wait_until("the stores are equal", || {
        a.store().digest_blocking().unwrap() == b.store().digest_blocking().unwrap()
    });
}

/// Collects what is pushed from a callback.
#[derive(Clone)]
pub(crate) struct Heard<T> {
    items: Arc<(Mutex<Vec<T>>, Condvar)>,
}

impl<T: Clone> Heard<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Arc::new((Mutex::new(Vec::new()), Condvar::new())),
        }
    }

    pub(crate) fn push(&self, item: T) {
        self.items.0.lock().unwrap().push(item);
        self.items.1.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.items.0.lock().unwrap().clone()
    }

    /// Waits for an item that fits.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, fits: impl Fn(&T) -> bool) -> T {
        let items = self.items.0.lock().unwrap();
        let (items, timeout) = self
            .items
            .1
            .wait_timeout_while(items, LIMIT, |items| !items.iter().any(&fits))
            .unwrap();
        assert!(!timeout.timed_out(), "never heard: {what}");
        items.iter().find(|item| fits(item)).unwrap().clone()
    }
}

/// The events of a peer's links, as long as the second part lives.
pub(crate) fn conditions(idem: &Idem) -> (Heard<TransportCondition>, TransportObserver) {
    let heard = Heard::new();
    let push = heard.clone();
    let observer = idem.observe_transport_conditions(move |condition| push.push(condition));
    (heard, observer)
}

#[track_caller]
pub(crate) fn wait_for_kind(
    heard: &Heard<TransportCondition>,
    kind: ConditionKind,
) -> TransportCondition {
    heard.wait_for(kind.code(), |condition| condition.kind == kind)
}

//! What the app's threads and the driver of replication tell each other: which subscriptions there
//! are, and which peers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use idem_model::{Object, PeerId, Value};
use idem_query::Selector;
use idem_store::{Interest, Subscription};
use idem_sync::subscription_id_of;

use crate::{inbox::Inbox, presence::Peer, query::Query};

/// Shared between the handles of a peer and its driver. Outlives both starts and stops of sync.
pub(crate) struct Board {
    state: Mutex<State>,
    /// Where the store learns of the subscriptions.
    interest: Interest,
}

#[derive(Default)]
struct State {
    subscriptions: BTreeMap<u64, (Query, Selector)>,
    next_id: u64,
    peers: BTreeMap<PeerId, Seen>,
    /// The driver to wake, while sync runs.
    inbox: Option<Arc<Inbox>>,
}

/// A peer that was linked since this one opened.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) peer: Peer,
    pub(crate) last_update_ms: Option<u64>,
}

/// Peers without a link that are still listed in `system:data_sync_info`. A thousand rows of 200
/// bytes; above that the ones with the smallest keys go first.
const SEEN_MAX: usize = 1024;

impl Board {
    pub(crate) fn new(interest: Interest) -> Self {
        Self {
            state: Mutex::default(),
            interest,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_inbox(&self, inbox: Option<Arc<Inbox>>) {
        let mut state = self.lock();
        if inbox.is_none() {
            for seen in state.peers.values_mut() {
                seen.peer.connections.clear();
            }
        }
        state.inbox = inbox;
    }

    pub(crate) fn subscribe(&self, query: Query, selector: Selector) -> u64 {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.subscriptions.insert(id, (query, selector));
        self.tell(&state);
        if let Some(inbox) = &state.inbox {
            inbox.subscriptions_changed();
        }
        id
    }

    /// Asks for nothing any more. What is stored for the subscription rests until it comes back.
    pub(crate) fn unsubscribe(&self, id: u64) {
        self.remove(&mut self.lock(), id);
    }

    /// Ends a subscription for good, unless another handle has the same.
    pub(crate) fn end(&self, id: u64) {
        let mut state = self.lock();
        let Some(removed) = self.remove(&mut state, id) else {
            return;
        };
        if state.subscriptions.values().all(|(_, it)| *it != removed) {
            self.interest.end(subscription_id_of(&removed).0);
        }
    }

    fn remove(&self, state: &mut State, id: u64) -> Option<Selector> {
        let (_, selector) = state.subscriptions.remove(&id)?;
        self.tell(state);
        if let Some(inbox) = &state.inbox {
            inbox.subscriptions_changed();
        }
        Some(selector)
    }

    /// Tells the store, so that what is evicted is not sent again.
    fn tell(&self, state: &State) {
        let selectors = state.subscriptions.values();
        let named: BTreeMap<_, _> = selectors
            .map(|(_, selector)| (subscription_id_of(selector).0, selector.clone()))
            .collect();
        let named = named.into_iter();
        self.interest
            .set(named.map(|(id, selector)| Subscription { id, selector }));
    }

    pub(crate) fn is_subscribed(&self, id: u64) -> bool {
        self.lock().subscriptions.contains_key(&id)
    }

    pub(crate) fn queries(&self) -> Vec<Query> {
        let state = self.lock();
        state
            .subscriptions
            .values()
            .map(|(query, _)| query.clone())
            .collect()
    }

    /// What to ask of every peer, once per meaning.
    pub(crate) fn selectors(&self) -> BTreeMap<String, Selector> {
        let state = self.lock();
        state
            .subscriptions
            .values()
            .map(|(_, selector)| (selector.canonical(), selector.clone()))
            .collect()
    }

    /// Changes what is known of a peer.
    pub(crate) fn see(&self, peer: PeerId, change: impl FnOnce(&mut Seen)) {
        let mut state = self.lock();
        if state.peers.len() >= SEEN_MAX && !state.peers.contains_key(&peer) {
            let gone = state
                .peers
                .iter()
                .find(|(_, seen)| seen.peer.connections.is_empty())
                .map(|(peer, _)| *peer);
            if let Some(gone) = gone {
                state.peers.remove(&gone);
            }
        }
        change(state.peers.entry(peer).or_insert_with(|| Seen {
            peer: Peer {
                peer_key: peer,
                device_name: String::new(),
                connections: Vec::new(),
                synced_up_to_local_commit_id: None,
            },
            last_update_ms: None,
        }));
    }

    /// The peers that are linked now.
    pub(crate) fn linked(&self) -> Vec<Peer> {
        self.lock()
            .peers
            .values()
            .filter(|seen| !seen.peer.connections.is_empty())
            .map(|seen| seen.peer.clone())
            .collect()
    }

    /// Rows of `system:system_info`: the subscriptions of this peer.
    pub(crate) fn system_info(&self) -> Vec<Object> {
        let state = self.lock();
        let count = i64::try_from(state.subscriptions.len()).unwrap_or(i64::MAX);
        let selectors = state.subscriptions.values();
        let texts: Vec<String> = selectors
            .map(|(_, selector)| selector.canonical())
            .collect();
        let row = |key: &str, value: Value| {
            Object::from([
                ("namespace".to_owned(), "sync".into()),
                ("key".to_owned(), key.into()),
                ("value".to_owned(), value),
            ])
        };
        vec![
            row("local_subscriptions_count", count.into()),
            row("local_subscriptions", texts.into()),
        ]
    }

    /// The rows of `system:data_sync_info`.
    pub(crate) fn data_sync_info(&self) -> Vec<Object> {
        let state = self.lock();
        let is_active = state.inbox.is_some();
        state
            .peers
            .values()
            .map(|seen| row(seen, is_active))
            .collect()
    }
}

fn row(seen: &Seen, is_active: bool) -> Object {
    let status = match (is_active, seen.peer.connections.is_empty()) {
        (true, false) => "Connected",
        (true, true) => "Not Connected",
        (false, _) => "Disabled",
    };
    let number = |number: Option<u64>| {
        number
            .and_then(|number| i64::try_from(number).ok())
            .map_or(Value::Null, Value::Int)
    };
    let documents = Object::from([
        ("sync_session_status".to_owned(), status.into()),
        (
            "synced_up_to_local_commit_id".to_owned(),
            number(seen.peer.synced_up_to_local_commit_id),
        ),
        (
            "last_update_received_time".to_owned(),
            number(seen.last_update_ms),
        ),
    ]);
    Object::from([
        (
            "_id".to_owned(),
            seen.peer.peer_key.to_string().as_str().into(),
        ),
        ("is_idem_server".to_owned(), Value::Bool(false)),
        ("documents".to_owned(), Value::Object(documents)),
    ])
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

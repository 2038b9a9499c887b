//! What the app's threads and the driver of replication tell each other: which subscriptions there
//! are, and which peers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use idem_model::{CollectionName, Object, PeerId, Value, limits};
use idem_query::{Selector, Window};
use idem_store::{Interest, PeerSync, Subscription, SubscriptionHash};
use idem_sync::{OnLeave, held_selector, subscription_id_of};
use tokio::sync::watch;

use crate::{degradations::Degradations, inbox::Inbox, presence::Peer, query::Query};

/// Shared between the handles of a peer and its driver. Outlives both starts and stops of sync.
pub(crate) struct Board {
    state: Mutex<State>,
    /// Where the store learns of the subscriptions.
    interest: Interest,
    degradations: Mutex<Degradations>,
    /// Both tell that a peer has confirmed more, or that nothing more will come.
    confirmed: Condvar,
    confirmed_async: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    subscriptions: BTreeMap<u64, (Query, Wish, OnLeave)>,
    /// What peers are asked for because of windows, by the canonical text of these.
    windows: BTreeMap<String, Asked>,
    next_id: u64,
    peers: BTreeMap<PeerId, Seen>,
    /// The driver to wake, while sync runs.
    inbox: Option<Arc<Inbox>>,
    is_closed: bool,
}

/// What is asked for because of a window, of one peer or another.
type Asked = BTreeMap<SubscriptionHash, Selector>;

/// What a subscription wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// All documents that match.
    All(Selector),
    /// The first ones.
    First(Window),
}

impl Wish {
    fn canonical(&self) -> String {
        match self {
            Self::All(selector) => selector.canonical(),
            Self::First(window) => window.canonical().to_owned(),
        }
    }
}

/// What waiting for a peer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// It has confirmed the commit.
    Synced,
    /// It has not in time.
    TimedOut,
    /// This peer is closed.
    Closed,
}

/// A peer that was linked since this one opened.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) peer: Peer,
    pub(crate) last_update_ms: Option<u64>,
    /// The collections of which it asks for documents.
    pub(crate) collections: Vec<CollectionName>,
}

/// Peers without a link that are still listed in `system:data_sync_info`. A thousand rows of 200
/// bytes; above that the ones with the smallest keys go first.
const SEEN_MAX: usize = 1024;

impl Board {
    pub(crate) fn new(interest: Interest) -> Self {
        Self {
            state: Mutex::default(),
            interest,
            degradations: Mutex::default(),
            confirmed: Condvar::new(),
            confirmed_async: watch::Sender::new(()),
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

    /// Adds a subscription; `None` if it is one window too many.
    pub(crate) fn subscribe(&self, query: Query, wish: Wish, on_leave: OnLeave) -> Option<u64> {
        let mut state = self.lock();
        if let Wish::First(window) = &wish {
            let windows = state.first();
            let is_known = windows.contains_key(window.canonical());
            if !is_known && windows.len() >= usize::from(limits::WINDOWS_PER_SESSION_MAX) {
                return None;
            }
        }
        let id = state.next_id;
        state.next_id += 1;
        state.subscriptions.insert(id, (query, wish, on_leave));
        self.tell(&state);
        if let Some(inbox) = &state.inbox {
            inbox.subscriptions_changed();
        }
        Some(id)
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
        if state
            .subscriptions
            .values()
            .any(|(_, it, _)| *it == removed)
        {
            return;
        }
        match &removed {
            Wish::All(selector) => self.interest.end(subscription_id_of(selector).0),
            Wish::First(window) => {
                let asked = state.windows.remove(window.canonical());
                self.tell(&state);
                asked
                    .into_iter()
                    .flatten()
                    .for_each(|(id, _)| self.interest.end(id));
            }
        }
    }

    /// What peers are asked for because of windows now, by the canonical text of these. What a window asked
    /// for before and nobody is asked for any more ends for good.
    pub(crate) fn follow_windows(&self, asked: &BTreeMap<String, Asked>) {
        let mut state = self.lock();
        let mut ended = Vec::new();
        for (window, asked) in asked {
            let before = state.windows.insert(window.clone(), asked.clone());
            let before = before.into_iter().flatten();
            ended.extend(
                before
                    .map(|(id, _)| id)
                    .filter(|id| !asked.contains_key(id)),
            );
        }
        self.tell(&state);
        ended.into_iter().for_each(|id| self.interest.end(id));
    }

    fn remove(&self, state: &mut State, id: u64) -> Option<Wish> {
        let (_, wish, _) = state.subscriptions.remove(&id)?;
        self.tell(state);
        if let Some(inbox) = &state.inbox {
            inbox.subscriptions_changed();
        }
        Some(wish)
    }

    /// Tells the store, so that what is evicted is not sent again.
    fn tell(&self, state: &State) {
        let selectors = state.all().map(|(selector, _)| selector.clone());
        let first = state.first();
        let windows = first.keys().filter_map(|window| state.windows.get(*window));
        let windows = windows.flat_map(BTreeMap::values).cloned();
        let named: BTreeMap<_, _> = selectors
            .chain(windows)
            .chain([crate::driver::declarations()])
            .map(|selector| (subscription_id_of(&selector).0, selector))
            .collect();
        let named = named.into_iter();
        self.interest.set(named.map(|(id, selector)| Subscription {
            id,
            selector: held_selector(&selector),
        }));
    }

    pub(crate) fn is_subscribed(&self, id: u64) -> bool {
        self.lock().subscriptions.contains_key(&id)
    }

    pub(crate) fn queries(&self) -> Vec<Query> {
        let state = self.lock();
        state
            .subscriptions
            .values()
            .map(|(query, ..)| query.clone())
            .collect()
    }

    /// What to ask of every peer, once per meaning. Who keeps documents that leave is stronger.
    pub(crate) fn selectors(&self) -> BTreeMap<String, (Selector, OnLeave)> {
        let mut selectors = BTreeMap::new();
        for (selector, on_leave) in self.lock().all() {
            let entry = selectors.entry(selector.canonical());
            let (_, known) = entry.or_insert_with(|| (selector.clone(), on_leave));
            if on_leave == OnLeave::Keep {
                *known = OnLeave::Keep;
            }
        }
        selectors
    }

    /// The windows to fill, by their canonical text.
    pub(crate) fn windows(&self) -> BTreeMap<String, Window> {
        let state = self.lock();
        let windows = state.first().into_iter();
        windows
            .map(|(text, window)| (text.to_owned(), window.clone()))
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
            peer: Peer::unknown(peer),
            last_update_ms: None,
            collections: Vec::new(),
        }));
    }

    /// Notes the local commit up to which a peer holds what it asks for.
    pub(crate) fn confirm(&self, peer: PeerId, commit: u64) {
        self.see(peer, |seen| {
            seen.peer.synced_up_to_local_commit_id = Some(commit);
        });
        self.tell_waiting();
    }

    /// Ends all waiting.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.tell_waiting();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    fn tell_waiting(&self) {
        self.confirmed.notify_all();
        self.confirmed_async.send_replace(());
    }

    /// Waits until `peer` has confirmed `commit`.
    pub(crate) async fn await_synced(&self, peer: PeerId, commit: u64) -> Awaited {
        let mut confirmed = self.confirmed_async.subscribe();
        loop {
            if let Some(awaited) = self.lock().awaited(peer, commit) {
                return awaited;
            }
            if confirmed.changed().await.is_err() {
                return Awaited::Closed;
            }
        }
    }

    /// [`await_synced`](Self::await_synced) on the calling thread, for as long as `limit`.
    pub(crate) fn await_synced_blocking(
        &self,
        peer: PeerId,
        commit: u64,
        limit: Duration,
    ) -> Awaited {
        let is_waiting = |state: &mut State| state.awaited(peer, commit).is_none();
        let (state, _) = self
            .confirmed
            .wait_timeout_while(self.lock(), limit, is_waiting)
            .unwrap_or_else(PoisonError::into_inner);
        state.awaited(peer, commit).unwrap_or(Awaited::TimedOut)
    }

    /// What does not sync, and why.
    pub(crate) fn degradations(&self) -> MutexGuard<'_, Degradations> {
        self.degradations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        let wishes = state.subscriptions.values();
        let texts: Vec<String> = wishes.map(|(_, wish, _)| wish.canonical()).collect();
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
    pub(crate) fn data_sync_info(&self) -> Vec<PeerSync> {
        let state = self.lock();
        let is_active = state.inbox.is_some();
        let seen = state.peers.values();
        seen.map(|seen| PeerSync {
            row: row(seen, is_active),
            confirmed: seen.peer.synced_up_to_local_commit_id,
            collections: seen.collections.clone(),
        })
        .collect()
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = (&Selector, OnLeave)> {
        let wishes = self.subscriptions.values();
        wishes.filter_map(|(_, wish, on_leave)| match wish {
            Wish::All(selector) => Some((selector, *on_leave)),
            Wish::First(_) => None,
        })
    }

    fn first(&self) -> BTreeMap<&str, &Window> {
        let wishes = self.subscriptions.values();
        let windows = wishes.filter_map(|(_, wish, _)| match wish {
            Wish::First(window) => Some((window.canonical(), window)),
            Wish::All(_) => None,
        });
        windows.collect()
    }

    /// How waiting ends, if it does now.
    fn awaited(&self, peer: PeerId, commit: u64) -> Option<Awaited> {
        let seen = self.peers.get(&peer);
        let confirmed = seen.and_then(|seen| seen.peer.synced_up_to_local_commit_id);
        if confirmed.is_some_and(|confirmed| confirmed >= commit) {
            return Some(Awaited::Synced);
        }
        self.is_closed.then_some(Awaited::Closed)
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
        (
            "is_connected".to_owned(),
            Value::Bool(status == "Connected"),
        ),
        ("documents".to_owned(), Value::Object(documents)),
    ])
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Board")
    }
}

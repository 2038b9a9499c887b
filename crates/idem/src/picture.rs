//! The mesh as the app is shown it: made by the driver, read and observed from any thread.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use idem_mesh::{Graph, OwnRecord, PeerKind};
use idem_model::{Object, PeerId, Value, json, limits};

use crate::{
    board::Board,
    error::{Error, ErrorKind},
    inbox::{Inbox, Input},
    presence::{ConnectionKind, Peer, PresenceGraph, PresenceLink},
};

/// Observers are called at most so often.
const CALL_INTERVAL: Duration = Duration::from_millis(500);

type Callback = Arc<Mutex<dyn FnMut(PresenceGraph) + Send>>;

/// Outlives starts and stops of sync.
pub(crate) struct Picture {
    local: PeerId,
    board: Arc<Board>,
    state: Mutex<State>,
    /// Tells the thread that there is something to do.
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct State {
    own: OwnRecord,
    metadata: Object,
    /// `None` while sync does not run.
    graph: Option<Graph>,
    inbox: Option<Arc<Inbox>>,
    observers: Vec<Observing>,
    next_id: u64,
    /// Whether the graph has changed since observers were called.
    is_changed: bool,
    called_at: Option<Instant>,
    is_closed: bool,
}

struct Observing {
    id: u64,
    callback: Callback,
    /// What it was called with last.
    shown: Option<PresenceGraph>,
}

impl Picture {
    pub(crate) fn new(local: PeerId, device_name: &str, board: Arc<Board>) -> Arc<Self> {
        let own = OwnRecord {
            name: device_name.to_owned(),
            os: std::env::consts::OS.to_owned(),
            kind: PeerKind::SmallPeer,
            metadata: Vec::new(),
        };
        let state = State {
            own,
            metadata: Object::new(),
            graph: None,
            inbox: None,
            observers: Vec::new(),
            next_id: 0,
            is_changed: false,
            called_at: None,
            is_closed: false,
        };
        Arc::new(Self {
            local,
            board,
            state: Mutex::new(state),
            changed: Condvar::new(),
            thread: Mutex::new(None),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sync runs from now on, with this driver, or runs no more.
    pub(crate) fn set_inbox(&self, inbox: Option<Arc<Inbox>>) {
        let mut state = self.lock();
        if let Some(inbox) = &inbox {
            // What was set since the driver was made.
            inbox.push(Input::OwnChanged);
        } else {
            state.graph = None;
        }
        state.inbox = inbox;
        self.tell(&mut state);
    }

    /// What others are to see of this peer.
    pub(crate) fn own(&self) -> OwnRecord {
        self.lock().own.clone()
    }

    pub(crate) fn metadata(&self) -> Object {
        self.lock().metadata.clone()
    }

    pub(crate) fn set_metadata(&self, metadata: Object) -> Result<(), Error> {
        let text = if metadata.is_empty() {
            String::new()
        } else {
            json::to_string(&Value::Object(metadata.clone()))
        };
        let limit = limits::PRESENCE_METADATA_BYTES_MAX;
        if text.len() > limit {
            return Err(Error::new(
                ErrorKind::ValidationValue,
                format!(
                    "the metadata of a peer takes {} bytes as JSON, and may take {limit}",
                    text.len()
                ),
            ));
        }
        let mut state = self.lock();
        state.own.metadata = text.into_bytes();
        state.metadata = metadata;
        if let Some(inbox) = &state.inbox {
            inbox.push(Input::OwnChanged);
        }
        self.tell(&mut state);
        Ok(())
    }

    /// The driver sees the mesh like this.
    pub(crate) fn show(&self, graph: Graph) {
        let mut state = self.lock();
        // A driver that is stopped may still be about to show something.
        if state.inbox.is_some() {
            state.graph = Some(graph);
            self.tell(&mut state);
        }
    }

    fn tell(&self, state: &mut State) {
        state.is_changed = true;
        self.changed.notify_all();
    }

    /// The mesh as far as it is known now.
    pub(crate) fn graph(&self) -> PresenceGraph {
        // Never both locks at once.
        let linked = self.board.linked();
        self.lock().draw(self.local, linked)
    }

    /// Calls `callback` with the graph soon, and whenever it is another one.
    pub(crate) fn observe(
        self: &Arc<Self>,
        callback: impl FnMut(PresenceGraph) + Send + 'static,
    ) -> Result<u64, Error> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let this = Arc::clone(self);
            let started = thread::Builder::new()
                .name("idem-presence".to_owned())
                .spawn(move || this.run())
                .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
            *thread = Some(started);
        }
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.observers.push(Observing {
            id,
            callback: Arc::new(Mutex::new(callback)),
            shown: None,
        });
        self.tell(&mut state);
        Ok(id)
    }

    pub(crate) fn forget(&self, id: u64) {
        let mut state = self.lock();
        let at = state.observers.iter().position(|it| it.id == id);
        let observing = at.map(|at| state.observers.swap_remove(at));
        drop(state);
        // Outside of the lock: what the callback owns may use this when it is dropped.
        drop(observing);
    }

    fn run(&self) {
        while self.wait() {
            let linked = self.board.linked();
            let mut state = self.lock();
            let graph = state.draw(self.local, linked);
            let outdated = state.observers.iter_mut();
            let outdated = outdated.filter(|it| it.shown.as_ref() != Some(&graph));
            let callbacks: Vec<_> = outdated
                .map(|it| {
                    it.shown = Some(graph.clone());
                    Arc::clone(&it.callback)
                })
                .collect();
            drop(state);
            for callback in callbacks {
                let graph = graph.clone();
                let mut callback = callback.lock().unwrap_or_else(PoisonError::into_inner);
                if catch_unwind(AssertUnwindSafe(|| callback(graph))).is_err() {
                    tracing::error!("a callback for presence panicked");
                }
            }
        }
    }

    /// Waits until observers are to be called. Gives false if they never are again.
    fn wait(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return false;
            }
            let is_due = state.is_changed && !state.observers.is_empty();
            let pause = state
                .called_at
                .and_then(|at| CALL_INTERVAL.checked_sub(at.elapsed()))
                .filter(|pause| !pause.is_zero());
            state = match pause {
                None if is_due => {
                    state.is_changed = false;
                    state.called_at = Some(Instant::now());
                    return true;
                }
                Some(pause) if is_due => {
                    self.changed
                        .wait_timeout(state, pause)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                _ => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends the observers.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let observers = std::mem::take(&mut state.observers);
        drop(state);
        drop(observers);
        self.changed.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl State {
    /// Joins what the mesh knows with what is known of the own links, `linked`, which is newer.
    fn draw(&self, local: PeerId, linked: Vec<Peer>) -> PresenceGraph {
        let local_peer = Peer {
            device_name: self.own.name.clone(),
            os: self.own.os.clone(),
            metadata: self.metadata.clone(),
            distance: 0,
            ..Peer::unknown(local)
        };
        let mut remote = BTreeMap::new();
        let mut links = Vec::new();
        if let Some(graph) = &self.graph {
            // Neighbours are those that are linked now.
            let others = graph.peers.iter().filter(|it| it.distance > 1);
            remote.extend(others.map(|it| (it.peer, Peer::of(it))));
            let key = |at: usize| graph.peers[at].peer;
            let links_of_others = graph.links.iter().map(|link| PresenceLink {
                peers: [key(link.from), key(link.to)],
                medium: link.medium,
            });
            links.extend(links_of_others.filter(|link| !link.peers.contains(&local)));
        }
        for peer in linked {
            for connection in &peer.connections {
                let mut peers = [local, peer.peer_key];
                peers.sort_unstable();
                let medium = Some(connection.kind.medium());
                links.push(PresenceLink { peers, medium });
            }
            let known = self.graph.as_ref().and_then(|it| it.peer(peer.peer_key));
            let known = known.map_or_else(|| Peer::unknown(peer.peer_key), Peer::of);
            let told = if known.device_name.is_empty() {
                peer.device_name
            } else {
                known.device_name.clone()
            };
            let seen = Peer {
                device_name: told,
                connections: peer.connections,
                synced_up_to_local_commit_id: peer.synced_up_to_local_commit_id,
                distance: 1,
                ..known
            };
            remote.insert(seen.peer_key, seen);
        }
        links.sort_unstable();
        links.dedup();
        let is_shown = |key: &PeerId| *key == local || remote.contains_key(key);
        links.retain(|link| link.peers.iter().all(is_shown));
        PresenceGraph {
            local_peer,
            remote_peers: remote.into_values().collect(),
            links,
        }
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Picture")
    }
}

impl ConnectionKind {
    fn medium(self) -> idem_mesh::Medium {
        match self {
            Self::Tcp => idem_mesh::Medium::Lan,
            Self::WebSocket | Self::Internet => idem_mesh::Medium::Internet,
            Self::Memory => idem_mesh::Medium::Memory,
            Self::Bluetooth => idem_mesh::Medium::Ble,
        }
    }
}

//! Starting and stopping sync, and following the transport configuration.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, mpsc},
    thread,
    time::Duration,
};

use idem_model::{DatabaseId, PeerId};
use idem_store::{Cancellation, CommitSubscription, Store};
use idem_transport::{LinkCredentials, LinkIdentity, SharedSecret, TcpLinkListener};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{
    board::Board,
    conditions::Conditions,
    config::{IdemConfig, SharedKey},
    driver::Driver,
    error::{Error, ErrorKind},
    inbox::Inbox,
    links::{self, Ground, LinkRoom, Stage, Tasks},
    presence::Peer,
    replica::StoreReplica,
    transport::{ConditionKind, TransportCondition, TransportConfig},
};

/// How long stopping waits for the other sides to hear goodbye.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// The shortest pause between two attempts at one address.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(10);

pub(crate) struct Replication {
    store: Store,
    handle: Handle,
    conditions: Arc<Conditions>,
    board: Arc<Board>,
    /// `None` for a peer that was opened offline.
    credentials: Option<LinkCredentials>,
    room: Arc<LinkRoom>,
    database: DatabaseId,
    local: PeerId,
    device_name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: TransportConfig,
    run: Option<Run>,
}

/// One stretch between a start and a stop.
struct Run {
    ground: Arc<Ground>,
    stage: watch::Sender<Stage>,
    driver: thread::JoinHandle<()>,
    /// Gives nothing, and ends with the driver.
    driven: mpsc::Receiver<()>,
    /// Ends the driver's wait for the writer's turn.
    applying: Cancellation,
    _commits: [CommitSubscription; 2],
    listener: Option<Listener>,
    dialers: BTreeMap<String, JoinHandle<()>>,
}

struct Listener {
    configured: String,
    bound: SocketAddr,
    task: JoinHandle<()>,
}

impl Replication {
    pub(crate) fn new(
        store: Store,
        handle: Handle,
        conditions: Arc<Conditions>,
        identity: LinkIdentity,
        config: &IdemConfig,
        key: Option<&SharedKey>,
    ) -> Self {
        let interest = store.interest().expect("the store was just opened");
        let board = Arc::new(Board::new(interest));
        let shown = Arc::clone(&board);
        store.provide_data_sync_info(Arc::new(move || shown.data_sync_info()));
        let shown = Arc::clone(&board);
        store.provide_sync_degradations(Arc::new(move || shown.degradations().rows()));
        let shown = Arc::clone(&board);
        store.provide_system_info(Arc::new(move || shown.system_info()));
        let room = Arc::new(LinkRoom::default());
        let local = identity.peer_id();
        let credentials = key.map(|key| {
            let room = Arc::clone(&room);
            LinkCredentials::new(
                identity,
                config.database_id,
                &SharedSecret::new(*key.expose()),
                &config.device_name,
            )
            .with_admission(move |_| room.admit())
        });
        Self {
            store,
            handle,
            conditions,
            board,
            credentials,
            room,
            database: config.database_id,
            local,
            device_name: config.device_name.clone(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Whether sync can be started at all.
    pub(crate) fn is_available(&self) -> bool {
        self.credentials.is_some()
    }

    pub(crate) fn device_name(&self) -> &str {
        &self.device_name
    }

    pub(crate) fn peers(&self) -> Vec<Peer> {
        self.board.linked()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.lock().run.is_some()
    }

    pub(crate) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let state = self.lock();
        let listener = state.run.as_ref().and_then(|run| run.listener.as_ref());
        listener
            .map(|listener| listener.bound)
            .into_iter()
            .collect()
    }

    pub(crate) fn config(&self) -> TransportConfig {
        self.lock().config.clone()
    }

    pub(crate) fn set_config(&self, config: TransportConfig) -> Result<(), Error> {
        if config.connect.retry_interval < RETRY_INTERVAL_MIN {
            return Err(Error::new(
                ErrorKind::ValidationConfiguration,
                format!("a retry interval is at least {RETRY_INTERVAL_MIN:?}"),
            ));
        }
        let mut state = self.lock();
        if let Some(run) = &mut state.run {
            self.follow(run, &config)?;
        }
        state.config = config;
        Ok(())
    }

    pub(crate) fn start(&self) -> Result<(), Error> {
        let Some(credentials) = &self.credentials else {
            return Err(Error::sync_unavailable());
        };
        let mut state = self.lock();
        if state.run.is_some() {
            return Ok(());
        }
        let inbox = Arc::new(Inbox::default());
        let (stage, watched) = watch::channel(Stage::Running);
        let ground = Arc::new(Ground {
            credentials: credentials.clone(),
            inbox: Arc::clone(&inbox),
            conditions: Arc::clone(&self.conditions),
            stage: watched,
            room: Arc::clone(&self.room),
            next_link: AtomicU64::new(0),
            tasks: Arc::new(Tasks::default()),
        });
        let applying = Cancellation::new();
        let driver = Driver::new(
            StoreReplica::new(self.store.clone(), applying.clone()),
            Arc::clone(&self.board),
            Arc::clone(&self.conditions),
            self.database,
            self.local,
        )
        .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        let driver_inbox = Arc::clone(&inbox);
        let (ends_with_driver, driven) = mpsc::sync_channel(0);
        let driver = thread::Builder::new()
            .name("idem-sync".to_owned())
            .spawn(move || {
                let _ends_with_driver: mpsc::SyncSender<()> = ends_with_driver;
                driver.run(&driver_inbox);
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        let (woken, hurried) = (Arc::clone(&inbox), Arc::clone(&inbox));
        let mut run = Run {
            ground,
            stage,
            driver,
            driven,
            applying,
            _commits: [
                self.store.subscribe_commits(move |_| woken.commit()),
                self.store
                    .subscribe_relaxed_commits(move |_| hurried.relaxed_commit()),
            ],
            listener: None,
            dialers: BTreeMap::new(),
        };
        let followed = self.follow(&mut run, &state.config);
        if followed.is_err() {
            end(run, GOODBYE_WAIT);
            return followed;
        }
        self.board.set_inbox(Some(inbox));
        state.run = Some(run);
        Ok(())
    }

    /// Opens and closes listeners and dialers so that `run` does what `config` says.
    fn follow(&self, run: &mut Run, config: &TransportConfig) -> Result<(), Error> {
        let address = config.listen.tcp.as_ref().map(|tcp| &tcp.address);
        let configured = run.listener.as_ref().map(|listener| &listener.configured);
        if address != configured {
            if let Some(listener) = run.listener.take() {
                listener.task.abort();
            }
            if let Some(address) = address {
                run.listener = Some(self.listen(run, address)?);
            }
        }
        let wanted = &config.connect.tcp_servers;
        run.dialers.retain(|address, task| {
            let stays = wanted.contains(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for address in wanted {
            if !run.dialers.contains_key(address) {
                let dial = links::dial(
                    Arc::clone(&run.ground),
                    address.clone(),
                    config.connect.retry_interval,
                );
                run.dialers.insert(address.clone(), self.handle.spawn(dial));
            }
        }
        Ok(())
    }

    fn listen(&self, run: &Run, address: &str) -> Result<Listener, Error> {
        // Bound by the standard library: this may be called on a thread of the app's runtime, where
        // nothing of ours may be waited for.
        let _inside = self.handle.enter();
        let listener = TcpLinkListener::bind_now(address).map_err(|e| {
            Error::new(ErrorKind::SyncListen, format!("cannot listen on {address}")).with_source(e)
        })?;
        let bound = listener.address();
        self.conditions.push(
            TransportCondition::new(ConditionKind::Listening, format!("listening on {bound}"))
                .at(bound),
        );
        let task = links::listen(Arc::clone(&run.ground), listener);
        Ok(Listener {
            configured: address.to_owned(),
            bound,
            task: self.handle.spawn(task),
        })
    }

    /// Stops sync. `is_nested` says that the caller has a transaction open, for which the driver may
    /// wait in vain.
    pub(crate) fn stop(&self, is_nested: bool) {
        let run = self.lock().run.take();
        if let Some(run) = run {
            self.board.set_inbox(None);
            let patience = if is_nested {
                Duration::ZERO
            } else {
                GOODBYE_WAIT
            };
            end(run, patience);
        }
    }
}

/// Ends a stretch. The driver has `patience` for a transaction that keeps it from merging what it got.
fn end(run: Run, patience: Duration) {
    // The driver says goodbye first; the tasks of the links then end by themselves, once the other
    // sides have heard it.
    run.stage.send_replace(Stage::Draining);
    run.ground.inbox.stop();
    if run.driver.thread().id() != thread::current().id() {
        if let Err(mpsc::RecvTimeoutError::Timeout) = run.driven.recv_timeout(patience) {
            run.applying.cancel();
        }
        if run.driver.join().is_err() {
            tracing::error!("the thread of replication panicked");
        }
    }
    if !run.ground.tasks.wait(GOODBYE_WAIT) {
        run.stage.send_replace(Stage::Killed);
        run.ground.tasks.wait(GOODBYE_WAIT);
    }
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication").finish_non_exhaustive()
    }
}

//! Starting and stopping sync, and following the transport configuration.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, mpsc},
    thread,
    time::Duration,
};

use idem_mesh::{Medium, PeerHash};
use idem_model::{ActorId, DatabaseId, PeerId, limits};
use idem_store::{Cancellation, CommitSubscription, Store};
use idem_sync::{Relay, RelayConfig, RelayKind};
use idem_transport::{
    BleBackend, Discovery, DiscoveryConfig, HttpLinkListener, InternetConfig, LinkCredentials,
    LinkError, LinkIdentity, Reachable, SharedSecret, TcpLinkListener,
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{
    blobs::Blobs,
    bluetooth,
    board::Board,
    conditions::Conditions,
    config::{ConnectMode, IdemConfig, SharedKey},
    desk::Desk,
    doorkeeper::Doorkeeper,
    driver::Driver,
    error::{Error, ErrorKind},
    inbox::{Inbox, Input},
    internet,
    links::{self, Ground, LinkRoom, Stage, Tasks},
    media::{Port, Target},
    meeting::Meeting,
    picture::Picture,
    replica::StoreReplica,
    transport::{
        ConditionKind, HttpListenConfig, PeerToPeerConfig, TransportCondition, TransportConfig,
    },
    ways::Ways,
};

/// How long stopping waits for the other sides to hear goodbye.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// What a peer with a token for development says at each start.
const INSECURE: &str =
    "a development token opens this database to whoever reads the app; do not ship it";

/// The shortest pause between two attempts at one address.
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(10);

pub(crate) struct Replication {
    store: Store,
    handle: Handle,
    conditions: Arc<Conditions>,
    blobs: Arc<Blobs>,
    board: Arc<Board>,
    picture: Arc<Picture>,
    doorkeeper: Arc<Doorkeeper>,
    /// `None` for a peer that was opened offline.
    credentials: Option<LinkCredentials>,
    desk: Option<Arc<Desk>>,
    is_for_development: bool,
    room: Arc<LinkRoom>,
    ways: Arc<Ways>,
    bluetooth: Option<Arc<dyn BleBackend>>,
    database: DatabaseId,
    local: PeerId,
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
    configured: watch::Sender<u64>,
    driver: thread::JoinHandle<()>,
    /// Gives nothing, and ends with the driver.
    driven: mpsc::Receiver<()>,
    /// Ends the driver's wait for the writer's turn.
    applying: Cancellation,
    _commits: [CommitSubscription; 2],
    listener: Option<Listener>,
    http_listener: Option<Listener>,
    /// The files of the certificate that it shows, and of its key.
    http_certificate: Option<[PathBuf; 2]>,
    /// For peers that find this one, where no listener is configured.
    lan_listener: Option<Listener>,
    discovery: Option<Discovering>,
    /// Uses the radio.
    radio: Option<JoinHandle<()>>,
    /// The end of links over the internet.
    internet: Option<Internet>,
    dialers: BTreeMap<Target, JoinHandle<()>>,
}

struct Internet {
    config: InternetConfig,
    opened: internet::Opened,
    task: JoinHandle<()>,
}

struct Discovering {
    reachable: Option<Reachable>,
    task: JoinHandle<()>,
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
        blobs: Arc<Blobs>,
        identity: LinkIdentity,
        config: &IdemConfig,
        desk: Option<&Arc<Desk>>,
    ) -> Self {
        let interest = store.interest().expect("the store was just opened");
        let board = Arc::new(Board::new(interest));
        let shown = Arc::clone(&board);
        store.provide_data_sync_info(Arc::new(move || shown.data_sync_info()));
        let shown = Arc::clone(&board);
        store.provide_sync_degradations(Arc::new(move || shown.degradations().rows()));
        let shown = Arc::clone(&board);
        store.provide_system_info(Arc::new(move || shown.system_info()));
        let ways = Arc::new(Ways::default());
        let shown = Arc::clone(&ways);
        store.provide_transports_info(Arc::new(move || shown.rows()));
        let room = Arc::new(LinkRoom::default());
        let local = identity.peer_id();
        let picture = Picture::new(local, &config.device_name, Arc::clone(&board));
        let doorkeeper = Arc::new(Doorkeeper::default());
        let credentials = credentials(identity, config, desk).map(|credentials| {
            let room = Arc::clone(&room);
            let (told, asked) = (Arc::clone(&picture), Arc::clone(&doorkeeper));
            credentials
                .with_metadata(move || told.own().metadata)
                .with_admission(move |_| room.admit())
                .with_approval(move |applicant| {
                    let asked = Arc::clone(&asked);
                    Box::pin(async move { asked.ask(applicant).await })
                })
        });
        Self {
            store,
            handle,
            conditions,
            blobs,
            picture,
            doorkeeper,
            board,
            credentials,
            desk: desk.cloned(),
            is_for_development: matches!(config.connect, ConnectMode::Development { .. }),
            room,
            ways,
            bluetooth: config.bluetooth.clone().or_else(bluetooth::of_system),
            database: config.database_id,
            local,
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

    pub(crate) fn picture(&self) -> &Arc<Picture> {
        &self.picture
    }

    pub(crate) fn doorkeeper(&self) -> &Doorkeeper {
        &self.doorkeeper
    }

    pub(crate) fn is_active(&self) -> bool {
        self.lock().run.is_some()
    }

    pub(crate) fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let state = self.lock();
        let listeners = state
            .run
            .as_ref()
            .map(|run| [&run.listener, &run.lan_listener]);
        let listeners = listeners.into_iter().flatten().flatten();
        listeners.map(|listener| listener.bound).collect()
    }

    pub(crate) fn http_addresses(&self) -> Vec<SocketAddr> {
        let state = self.lock();
        let listener = state.run.as_ref().map(|run| &run.http_listener);
        let listeners = listener.into_iter().flatten();
        listeners.map(|listener| listener.bound).collect()
    }

    pub(crate) fn internet_address(&self) -> Option<String> {
        let state = self.lock();
        let internet = state.run.as_ref()?.internet.as_ref()?;
        let opened = internet.opened.borrow();
        let endpoint = opened.as_ref().filter(|_| internet.config.is_listening)?;
        Some(endpoint.address().to_string())
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
        let allowed = [config.listen.links_max, config.peer_to_peer.lan.links_max];
        let bounds = 1..=limits::LINKS_SETTABLE_MAX;
        if allowed.iter().any(|max| !bounds.contains(max)) {
            return Err(Error::new(
                ErrorKind::ValidationConfiguration,
                format!("a peer may have 1 to {} links", limits::LINKS_SETTABLE_MAX),
            ));
        }
        targets(&config)?;
        config.endpoint()?;
        let mut state = self.lock();
        self.room.set_max(config.listen.links_max);
        if let Some(run) = &mut state.run {
            self.follow(run, &config)?;
            run.configured.send_modify(|count| *count += 1);
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
        self.check_start()?;
        let inbox = Arc::new(Inbox::default());
        let (stage, watched) = watch::channel(Stage::Running);
        let (configured, configurations) = watch::channel(0);
        let ground = self.ground(
            credentials.clone(),
            Arc::clone(&inbox),
            watched,
            configurations,
        );
        let applying = Cancellation::new();
        let cache_bytes = state.config.peer_to_peer.relay.bytes();
        let driver = Driver::new(
            StoreReplica::new(self.store.clone(), applying.clone()),
            Arc::clone(&self.board),
            Arc::clone(&self.conditions),
            Arc::clone(&self.blobs),
            self.database,
            self.local,
            (self.meeting(&ground, &state.config.peer_to_peer), |kind| {
                self.relay(cache_bytes, kind)
            }),
        )
        .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?
        .with_desk(self.desk.clone());
        let driver_inbox = Arc::clone(&inbox);
        let (ends_with_driver, driven) = mpsc::sync_channel(0);
        let driver = thread::Builder::new()
            .name("idem-sync".to_owned())
            .spawn(move || {
                let _ends_with_driver: mpsc::SyncSender<()> = ends_with_driver;
                driver.run(&driver_inbox);
            })
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").with_source(e))?;
        let mut run = Run {
            ground,
            stage,
            configured,
            driver,
            driven,
            applying,
            _commits: self.tell_commits(&inbox),
            listener: None,
            http_listener: None,
            http_certificate: None,
            lan_listener: None,
            discovery: None,
            radio: None,
            internet: None,
            dialers: BTreeMap::new(),
        };
        let followed = self.follow(&mut run, &state.config);
        if followed.is_err() {
            end(run, GOODBYE_WAIT);
            return followed;
        }
        self.set_inbox(Some(&inbox));
        state.run = Some(run);
        Ok(())
    }

    /// Whether it makes sense to begin, with what is to be said about that.
    fn check_start(&self) -> Result<(), Error> {
        if let Some(desk) = &self.desk {
            desk.check_start()?;
        }
        if self.is_for_development {
            tracing::warn!("{INSECURE}");
            let condition = TransportCondition::new(ConditionKind::Insecure, INSECURE);
            self.conditions.push(condition);
        }
        Ok(())
    }

    /// Whom those are to tell who outlive a run.
    fn set_inbox(&self, inbox: Option<&Arc<Inbox>>) {
        self.board.set_inbox(inbox.cloned());
        self.picture.set_inbox(inbox.cloned());
        if let Some(desk) = &self.desk {
            desk.set_inbox(inbox.cloned());
        }
    }

    /// What was refused may be taken now.
    pub(crate) fn redial(&self) {
        if let Some(run) = &self.lock().run {
            run.configured.send_modify(|count| *count += 1);
        }
    }

    /// Has the driver hear of commits.
    fn tell_commits(&self, inbox: &Arc<Inbox>) -> [CommitSubscription; 2] {
        let (woken, hurried) = (Arc::clone(inbox), Arc::clone(inbox));
        [
            self.store.subscribe_commits(move |_| woken.commit()),
            self.store
                .subscribe_relaxed_commits(move |_| hurried.relaxed_commit()),
        ]
    }

    /// What the tasks of this run share.
    fn ground(
        &self,
        credentials: LinkCredentials,
        inbox: Arc<Inbox>,
        stage: watch::Receiver<Stage>,
        configured: watch::Receiver<u64>,
    ) -> Arc<Ground> {
        Arc::new(Ground {
            credentials,
            inbox,
            conditions: Arc::clone(&self.conditions),
            blobs: Arc::clone(&self.blobs),
            stage,
            room: Arc::clone(&self.room),
            next_link: AtomicU64::new(0),
            tasks: Arc::new(Tasks::default()),
            ways: Arc::clone(&self.ways),
            configured,
        })
    }

    /// A relay of this run: it remembers nothing of earlier ones.
    fn relay(&self, cache_bytes: usize, kind: RelayKind) -> Relay {
        let (mut actor, mut seed) = ([0; 16], [0; 8]);
        let drawn = getrandom::fill(&mut actor).and_then(|()| getrandom::fill(&mut seed));
        // Without randomness an earlier run would be taken for this one.
        let cache_bytes = drawn.map_or(0, |()| cache_bytes);
        Relay::new(RelayConfig {
            database: self.database,
            local: self.local,
            actor: ActorId(actor),
            seed: u64::from_le_bytes(seed),
            cache_bytes,
            kind,
        })
    }

    fn meeting(&self, ground: &Arc<Ground>, peer_to_peer: &PeerToPeerConfig) -> Meeting {
        Meeting::new(
            Arc::clone(ground),
            self.handle.clone(),
            self.database,
            self.local,
            Arc::clone(&self.picture),
            peer_to_peer,
        )
    }

    /// Opens and closes listeners and dialers so that `run` does what `config` says.
    fn follow(&self, run: &mut Run, config: &TransportConfig) -> Result<(), Error> {
        let tcp = config.listen.tcp.as_ref().map(|tcp| tcp.address.as_str());
        let open = |address: &str| TcpLinkListener::bind_now(address).map(Port::Tcp);
        self.follow_listener(&run.ground, &mut run.listener, tcp, open)?;
        let http = config
            .listen
            .http
            .as_ref()
            .filter(|http| http.websocket_sync);
        let certificate = http.map(HttpListenConfig::certificate).transpose()?;
        let http = http.map(|http| http.address.as_str());
        let certificate = certificate.flatten();
        let shown = certificate.as_ref().map(|(paths, _)| paths.clone());
        if run.http_certificate != shown
            && let Some(listener) = run.http_listener.take()
        {
            listener.task.abort();
        }
        run.http_certificate = shown;
        let open = |address: &str| {
            let listener = HttpLinkListener::bind_now(address)?;
            Ok(Port::Http(match &certificate {
                Some((_, certificate)) => listener.with_tls(certificate.clone()),
                None => listener,
            }))
        };
        self.follow_listener(&run.ground, &mut run.http_listener, http, open)?;
        self.follow_lan(run, config)?;
        self.follow_radio(run, config.peer_to_peer.bluetooth_le.enabled);
        self.follow_internet(run, config)?;
        let wanted = targets(config)?;
        run.dialers.retain(|target, task| {
            let stays = wanted.contains(target);
            if !stays {
                task.abort();
            }
            stays
        });
        for target in wanted {
            let pause = config.connect.retry_interval;
            let Entry::Vacant(entry) = run.dialers.entry(target) else {
                continue;
            };
            let endpoint = run.internet.as_ref().map(|it| it.opened.clone());
            let dialled = entry.key().prepared(endpoint).map_err(|error| {
                let message = format!("{} cannot be dialled", entry.key());
                Error::new(ErrorKind::ValidationConfiguration, message).with_source(error)
            })?;
            let dial = links::dial(Arc::clone(&run.ground), dialled, pause);
            entry.insert(self.handle.spawn(dial));
        }
        Ok(())
    }

    /// Has `listener` listen at `address`, if it does not.
    fn follow_listener(
        &self,
        ground: &Arc<Ground>,
        listener: &mut Option<Listener>,
        address: Option<&str>,
        open: impl Fn(&str) -> Result<Port, LinkError>,
    ) -> Result<(), Error> {
        if address
            == listener
                .as_ref()
                .map(|listener| listener.configured.as_str())
        {
            return Ok(());
        }
        if let Some(listener) = listener.take() {
            listener.task.abort();
        }
        if let Some(address) = address {
            *listener = Some(self.listen(ground, address, open)?);
        }
        Ok(())
    }

    /// Looks for peers on the networks of this machine, and has them find this one, or stops that.
    fn follow_lan(&self, run: &mut Run, config: &TransportConfig) -> Result<(), Error> {
        let is_on = config.peer_to_peer.lan.mdns;
        let needs_port = is_on && run.listener.is_none();
        let open = |_: &str| {
            // Both, where the system has both.
            let all = TcpLinkListener::bind_now("[::]:0");
            let all = all.or_else(|_| TcpLinkListener::bind_now("0.0.0.0:0"));
            all.map(Port::Tcp)
        };
        let address = needs_port.then_some("all interfaces");
        self.follow_listener(&run.ground, &mut run.lan_listener, address, open)?;
        let listener = run.listener.as_ref().or(run.lan_listener.as_ref());
        let reachable = listener.and_then(|listener| Reachable::of(listener.bound));
        let running = run.discovery.as_ref();
        if running.map(|running| running.reachable) == is_on.then_some(reachable) {
            return Ok(());
        }
        if let Some(running) = run.discovery.take() {
            running.task.abort();
        }
        let medium = Medium::Lan;
        run.ground.inbox.push(Input::Discovering { medium, is_on });
        if is_on {
            let discovery = Discovery::start(&DiscoveryConfig {
                database: self.database,
                local: PeerHash::of(self.database, self.local).to_bytes(),
                reachable,
            });
            let discovery = discovery
                .map_err(|e| Error::new(ErrorKind::Io, "cannot look for peers").with_source(e))?;
            let advertised = reachable.map_or_else(String::new, |it| format!("port {}", it.port));
            let task = links::discover(Arc::clone(&run.ground), discovery, advertised);
            run.discovery = Some(Discovering {
                reachable,
                task: self.handle.spawn(task),
            });
        }
        Ok(())
    }

    /// Uses the radio of this machine, or stops that.
    fn follow_radio(&self, run: &mut Run, is_on: bool) {
        if is_on == run.radio.is_some() {
            return;
        }
        if let Some(radio) = run.radio.take() {
            radio.abort();
        } else {
            let use_it = bluetooth::run(
                Arc::clone(&run.ground),
                self.bluetooth.clone(),
                self.database,
                PeerHash::of(self.database, self.local),
            );
            run.radio = Some(self.handle.spawn(use_it));
        }
    }

    /// Has an end of links over the internet that is as `config` says, or none.
    fn follow_internet(&self, run: &mut Run, config: &TransportConfig) -> Result<(), Error> {
        let wanted = config.endpoint()?;
        if run.internet.as_ref().map(|it| &it.config) == wanted.as_ref() {
            return Ok(());
        }
        if let Some(running) = run.internet.take() {
            running.task.abort();
            // They dial by the one that goes.
            run.dialers.retain(|target, task| {
                let stays = !matches!(target, Target::Internet(_));
                if !stays {
                    task.abort();
                }
                stays
            });
        }
        if let Some(config) = wanted {
            let (open, opened) = watch::channel(None);
            let identity = run.ground.credentials.identity().clone();
            let keep = internet::run(Arc::clone(&run.ground), identity, config.clone(), open);
            run.internet = Some(Internet {
                config,
                opened,
                task: self.handle.spawn(keep),
            });
        }
        Ok(())
    }

    fn listen(
        &self,
        ground: &Arc<Ground>,
        address: &str,
        open: impl Fn(&str) -> Result<Port, LinkError>,
    ) -> Result<Listener, Error> {
        // Bound by the standard library: this may be called on a thread of the app's runtime, where
        // nothing of ours may be waited for.
        let _inside = self.handle.enter();
        let port = open(address).map_err(|e| {
            Error::new(ErrorKind::SyncListen, format!("cannot listen on {address}")).with_source(e)
        })?;
        let bound = port.address();
        self.conditions.push(
            TransportCondition::new(ConditionKind::Listening, format!("listening on {bound}"))
                .at(bound),
        );
        let task = links::listen(Arc::clone(ground), port);
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
            self.set_inbox(None);
            let patience = if is_nested {
                Duration::ZERO
            } else {
                GOODBYE_WAIT
            };
            end(run, patience);
        }
    }
}

/// What this peer shows others; `None` for one that was opened offline.
fn credentials(
    identity: LinkIdentity,
    config: &IdemConfig,
    desk: Option<&Arc<Desk>>,
) -> Option<LinkCredentials> {
    let (database, name) = (config.database_id, &config.device_name);
    let secret = |key: &SharedKey| SharedSecret::new(*key.expose());
    Some(match &config.connect {
        ConnectMode::SharedKey { key } => {
            LinkCredentials::new(identity, database, &secret(key), name)
        }
        ConnectMode::Authority(authority) => {
            let key = authority.shared_key.as_ref().map(secret);
            let desk = Arc::clone(desk?);
            LinkCredentials::with_certificates(identity, database, key.as_ref(), name, desk)
        }
        ConnectMode::Development { token } => {
            LinkCredentials::for_development(identity, database, &secret(token), name)
        }
        ConnectMode::Offline => return None,
    })
}

/// Whom `config` asks to keep links with.
fn targets(config: &TransportConfig) -> Result<BTreeSet<Target>, Error> {
    let urls = config.connect.websocket_urls.iter();
    let urls = urls.map(|url| {
        Target::websocket(url, config.connect.tls_ca_path.as_ref()).map_err(|e| {
            let message = format!("{url:?} is no address of a peer");
            Error::new(ErrorKind::ValidationConfiguration, message).with_source(e)
        })
    });
    let peers = config.connect.internet_peers.iter().map(|address| {
        Target::internet(address).map_err(|e| {
            let message = format!("{address:?} is no address of a peer");
            Error::new(ErrorKind::ValidationConfiguration, message).with_source(e)
        })
    });
    let servers = config.connect.tcp_servers.iter().cloned();
    servers
        .map(|server| Ok(Target::Tcp(server)))
        .chain(urls)
        .chain(peers)
        .collect()
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

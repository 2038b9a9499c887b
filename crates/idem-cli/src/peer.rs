//! `idem peer`: a peer without a prompt that syncs until it is stopped.
//!
//! Stdout is a stream of events, one JSON object a line, each with `event` and `at_ms` (Unix
//! milliseconds): `started`, `listening`, `link` (with `code`, `message`, the address, and `count` where it
//! happened several times in a row), `presence` (who
//! came and who went), `certificate` (it is about to end, or was renewed), `stopped`. With `--tui` they are shown on the terminal instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use idem::{
    Auth, ConditionKind, Idem, Object, Peer, PeerId, PresenceGraph, PresenceObserver,
    SignedCertificate, SignedText, SyncSubscription, TransportCondition, TransportConfig,
    TransportObserver, Value,
};

use crate::{
    args::PeerArgs,
    exit::{CliError, ExitStatus},
    opening::{open, peer_error},
    output::write_json_line,
    signals::StopRequests,
    tui::{self, Journal},
};

/// How often the loop looks whether stdout is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(args: &PeerArgs) -> Result<(), CliError> {
    if args.tui {
        tui::check_terminal()?;
    }
    let config = transport_config(&reach(args))?;
    let scheme = match config.listen.http.as_ref() {
        Some(http) if http.tls_certificate_path.is_some() => "wss",
        _ => "ws",
    };
    let is_found_by_others = config.peer_to_peer.lan.mdns
        || args.listen_http.is_some()
        || args.listen_internet.is_some();
    let stop = StopRequests::listen()
        .map_err(|source| CliError::failed("cannot listen for signals").because(source))?;
    let idem = open(&args.store, &args.database, args.durability)?;
    let journal = args.tui.then(Arc::<Mutex<Journal>>::default);
    let events = Events {
        journal: journal.clone(),
        ..Events::default()
    };
    let (observer, refusals) = tell_links(&idem, events.clone());
    // Whoever may be dialled by others, or has somebody else to dial, goes on.
    let is_refused_by_all = || {
        let refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
        args.listen.is_none()
            && !is_found_by_others
            && !args.connect.is_empty()
            && refusals.len() >= args.connect.len()
    };
    events.write("started", started_fields(&idem));
    let subscriptions = subscribe(&idem, &args.subscribe)?;
    idem.set_transport_config(config)
        .and_then(|()| idem.sync().start())
        .map_err(|error| peer_error("cannot start to sync", error))?;
    renew(&idem, args.database.certificate.clone(), events.clone());
    let presence = tell_presence(&idem, events.clone())?;
    tell_addresses(&idem, scheme, &events);
    let mut is_refused = false;
    let shown = match &journal {
        Some(journal) => tui::run(&idem, journal, &stop),
        None => Ok(()),
    };
    while journal.is_none() && !is_refused && !stop.wait(LOOK_INTERVAL) && events.are_read() {
        is_refused = is_refused_by_all();
    }
    drop((subscriptions, presence));
    idem.sync().stop();
    let closed = idem.close_blocking();
    drop(observer);
    closed.map_err(|error| peer_error("cannot close the store", error))?;
    events.write("stopped", Object::new());
    shown?;
    if is_refused {
        return Err(CliError::new(
            ExitStatus::Environment,
            "every peer that was dialled refuses what this one shows, or shows something else",
        )
        .hint(
            "give the key of the database with --shared-key-file or IDEM_SHARED_KEY, or a certificate; the events above, \
             and `idem doctor --connect`, say what is missing",
        ));
    }
    Ok(())
}

/// How the peer is to reach others. One that is told nothing looks for them.
fn reach(args: &PeerArgs) -> Reach {
    let listens = [&args.listen, &args.listen_http, &args.listen_internet];
    let names_nobody = listens.iter().all(|it| it.is_none()) && args.connect.is_empty();
    Reach {
        listen: args.listen.clone(),
        listen_http: args.listen_http.clone(),
        tls_certificate: args.tls_certificate.clone(),
        tls_key: args.tls_key.clone(),
        ca_certificate: args.ca_certificate.clone(),
        listen_internet: args.listen_internet.clone(),
        relay_urls: args.relay_url.clone(),
        connect: args.connect.clone(),
        mdns: args.mdns || (names_nobody && !args.no_mdns),
        bluetooth: args.bluetooth,
        gateway: args.gateway,
        links_max: Some(args.links_max),
    }
}

/// Writes the events of links. Gives the addresses at which the key is another one.
fn tell_links(idem: &Idem, events: Events) -> (TransportObserver, Arc<Mutex<BTreeSet<String>>>) {
    let refusals = Arc::new(Mutex::new(BTreeSet::new()));
    let refused = Arc::clone(&refusals);
    let observer = idem.observe_transport_conditions(move |condition| {
        // It is not known when sync starts, as the others are.
        let is_internet = |address: &&String| address.starts_with("iroh:");
        match condition.address.as_ref().filter(is_internet) {
            Some(address) if condition.kind == ConditionKind::Listening => {
                let fields = Object::from([("address".to_owned(), address.as_str().into())]);
                events.write("listening", fields);
            }
            _ => events.write("link", condition_fields(&condition)),
        }
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        match (condition.kind, condition.address) {
            (ConditionKind::KeyMismatch | ConditionKind::ModeMismatch, Some(address)) => {
                refused.insert(address);
            }
            // Some other peer has the same key, so it is not this one's that is wrong.
            (ConditionKind::Linked, _) => refused.clear(),
            _ => {}
        }
    });
    (observer, refusals)
}

fn tell_addresses(idem: &Idem, scheme: &str, events: &Events) {
    let http = idem.sync().http_addresses();
    let http = http.iter().map(|address| format!("{scheme}://{address}"));
    let tcp = idem.sync().tcp_addresses();
    for address in tcp.iter().map(ToString::to_string).chain(http) {
        let fields = Object::from([("address".to_owned(), address.into())]);
        events.write("listening", fields);
    }
}

fn subscribe(idem: &Idem, queries: &[String]) -> Result<Vec<SyncSubscription>, CliError> {
    queries
        .iter()
        .map(|query| {
            idem.sync()
                .register_subscription(query.as_str())
                .map_err(|error| {
                    peer_error(format!("cannot subscribe to {query:?}"), error)
                        .hint("a subscription is a SELECT * FROM collection, with or without WHERE")
                })
        })
        .collect()
}

/// How a peer is to reach others, and they it, as texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reach {
    pub(crate) listen: Option<String>,
    pub(crate) listen_http: Option<String>,
    /// What the HTTP listener shows.
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    /// Whom servers of `wss://` are certified by.
    pub(crate) ca_certificate: Option<PathBuf>,
    pub(crate) listen_internet: Option<String>,
    pub(crate) relay_urls: Vec<String>,
    /// `host:port`, or what begins with `ws://`, `wss://` or `iroh:`.
    pub(crate) connect: Vec<String>,
    pub(crate) mdns: bool,
    pub(crate) bluetooth: bool,
    pub(crate) gateway: bool,
    pub(crate) links_max: Option<u16>,
}

/// The transport configuration for `reach`.
pub(crate) fn transport_config(reach: &Reach) -> Result<TransportConfig, CliError> {
    let mut config = TransportConfig::new();
    config.peer_to_peer.lan.mdns = reach.mdns;
    config.peer_to_peer.bluetooth_le.enabled = reach.bluetooth;
    config.peer_to_peer.gateway = reach.gateway;
    config.connect.tls_ca_path.clone_from(&reach.ca_certificate);
    if let Some(links) = reach.links_max {
        config = config.with_links_max(links.into());
    }
    if let Some(address) = &reach.listen {
        config = config.with_tcp_listener(checked(address)?);
    }
    if let Some(address) = &reach.listen_internet {
        config = config.with_internet_listener(checked(address)?);
    }
    config.internet.relay_urls.clone_from(&reach.relay_urls);
    if let Some(address) = &reach.listen_http {
        config = config.with_http_listener(checked(address)?);
    }
    match &mut config.listen.http {
        Some(http) => {
            http.tls_certificate_path.clone_from(&reach.tls_certificate);
            http.tls_key_path.clone_from(&reach.tls_key);
        }
        None if reach.tls_certificate.is_some() || reach.tls_key.is_some() => {
            let message = "a certificate is for an HTTP listener, and there is none";
            return Err(CliError::new(ExitStatus::Environment, message)
                .hint("name its address with --listen-http, or listen_http"));
        }
        None => {}
    }
    for address in &reach.connect {
        // What is wrong with a URL is said where it is read.
        config = if address.starts_with("iroh:") {
            config.with_internet_peer(address)
        } else if address.contains("://") {
            config.with_websocket_url(address)
        } else {
            config.with_tcp_server(checked(address)?)
        };
    }
    Ok(config)
}

fn checked(address: &str) -> Result<&str, CliError> {
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty());
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return Ok(address);
    }
    Err(CliError::new(
        ExitStatus::Environment,
        format!("{address:?} is not an address"),
    )
    .hint("write it as host:port, for example 127.0.0.1:4040 or [::1]:4040"))
}

fn started_fields(idem: &Idem) -> Object {
    let mut fields = Object::from([
        ("peer".to_owned(), idem.peer_key().to_string().into()),
        ("database".to_owned(), idem.database_id().to_string().into()),
    ]);
    if let Some(directory) = idem.persistence_directory() {
        fields.insert("store".to_owned(), directory.display().to_string().into());
    }
    fields
}

/// An event of a link as JSON fields.
pub(crate) fn condition_fields(condition: &TransportCondition) -> Object {
    let mut fields = Object::from([
        ("code".to_owned(), condition.kind.code().into()),
        ("message".to_owned(), condition.message.as_str().into()),
    ]);
    if condition.count > 1 {
        let count = i64::try_from(condition.count).unwrap_or(i64::MAX);
        fields.insert("count".to_owned(), count.into());
    }
    if let Some(address) = &condition.address {
        fields.insert("address".to_owned(), address.as_str().into());
    }
    if let Some(peer) = &condition.peer {
        fields.insert("peer".to_owned(), peer.to_string().into());
    }
    fields
}

/// Looks into the file of the certificate again when the one in use is about to end, and tells of it.
fn renew(idem: &Idem, file: Option<PathBuf>, events: Events) {
    let Some(auth) = idem.auth() else {
        return;
    };
    let handle = idem.clone();
    auth.set_expiration_handler(move |expiry| {
        let is_renewed = file
            .as_deref()
            .is_some_and(|file| is_renewed(&handle, file));
        let left_s = i64::try_from(expiry.left.as_secs()).unwrap_or(i64::MAX);
        let fields = Object::from([
            ("left_s".to_owned(), left_s.into()),
            ("renewed".to_owned(), is_renewed.into()),
        ]);
        events.write("certificate", fields);
    });
}

/// Whether there is a later certificate in `file`, which is then in use.
fn is_renewed(idem: &Idem, file: &Path) -> bool {
    let issued_at_ms = |it: &SignedCertificate| it.certificate().issued_at_ms;
    let auth = idem.auth();
    let own = auth.as_ref().and_then(Auth::certificate);
    let own_ms = own.as_ref().map_or(0, issued_at_ms);
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = SignedText::parse(&text).unwrap_or_default().into_iter();
    let newer = found.filter_map(|signed| match signed {
        SignedText::Certificate(it) if issued_at_ms(&it) > own_ms => Some(it),
        _ => None,
    });
    let newer = newer.max_by_key(issued_at_ms);
    let set = newer
        .zip(auth)
        .map(|(it, auth)| auth.set_certificate(&it.to_bytes()));
    set.is_some_and(|set| set.is_ok())
}

/// Writes an event when peers come or go.
fn tell_presence(idem: &Idem, events: Events) -> Result<PresenceObserver, CliError> {
    let mut seen = Seen::default();
    let observer = idem.presence().observe(move |graph| {
        if let Some(fields) = seen.fields(graph) {
            events.write("presence", fields);
        }
    });
    observer.map_err(|error| peer_error("cannot tell who is there", error))
}

/// Who was there when it was told last.
#[derive(Default)]
struct Seen(BTreeMap<PeerId, Peer>);

impl Seen {
    /// The event for `graph`, if somebody came or went.
    fn fields(&mut self, graph: PresenceGraph) -> Option<Object> {
        let links = graph.links.len();
        let keyed = graph.remote_peers.into_iter();
        let now: BTreeMap<_, _> = keyed.map(|peer| (peer.peer_key, peer)).collect();
        let before = std::mem::replace(&mut self.0, now);
        let only_in = |these: &BTreeMap<PeerId, Peer>, others: &BTreeMap<PeerId, Peer>| {
            let only = these.iter().filter(|(key, _)| !others.contains_key(key));
            only.map(|(_, peer)| shown(peer)).collect::<Vec<Value>>()
        };
        let came = only_in(&self.0, &before);
        let went = only_in(&before, &self.0);
        if came.is_empty() && went.is_empty() {
            return None;
        }
        let number = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
        Some(Object::from([
            ("peers".to_owned(), number(self.0.len())),
            ("links".to_owned(), number(links)),
            ("came".to_owned(), Value::Array(came)),
            ("went".to_owned(), Value::Array(went)),
        ]))
    }
}

fn shown(peer: &Peer) -> Value {
    Value::Object(Object::from([
        ("peer".to_owned(), peer.peer_key.to_string().into()),
        ("name".to_owned(), peer.device_name.as_str().into()),
        ("distance".to_owned(), i64::from(peer.distance).into()),
    ]))
}

/// Events on stdout, from any thread.
#[derive(Debug, Clone, Default)]
struct Events {
    closed: Arc<Mutex<bool>>,
    /// Where they go instead, while the terminal is drawn on.
    journal: Option<Arc<Mutex<Journal>>>,
}

impl Events {
    fn write(&self, event: &str, mut fields: Object) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        if let Some(journal) = &self.journal {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            return journal.write(event, &fields, at_ms);
        }
        fields.insert("event".to_owned(), event.into());
        fields.insert(
            "at_ms".to_owned(),
            Value::Int(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)),
        );
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout().lock();
        if write_json_line(&mut out, &fields)
            .and_then(|()| out.flush())
            .is_err()
        {
            *closed = true;
        }
    }

    /// False once stdout is closed: then nobody is there to stop this peer either.
    fn are_read(&self) -> bool {
        !*self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The state of a driven peer, and what each request does to it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use idem::{
    Idem, Object, QueryResult, SignedText, SyncSubscription, Transaction, TransactionOptions,
    TransportObserver, Value,
};

use super::{
    answer::{Answers, Failure, commit_value, int, items, result_fields},
    observing::Observing,
    request::{self, Request, Statement},
};
use crate::{
    exit::CliError,
    opening::peer_error,
    peer::{Reach, condition_fields, transport_config},
};

/// Observers of one session.
const OBSERVERS_MAX: usize = 1024;
/// Events of links that `presence` shows.
const CONDITIONS_KEPT: usize = 32;
/// How long the end of stdin waits for results that observers have not been told.
const LAST_EVENTS_WAIT: Duration = Duration::from_secs(1);
/// How often a `wait` looks again at least; a query that takes longer is run at most half of the time.
/// Commits are not watched: system collections change without one.
const WAIT_INTERVAL: Duration = Duration::from_millis(2);

type Conditions = Arc<Mutex<VecDeque<Object>>>;

/// A peer that is driven by requests.
pub(super) struct Session {
    idem: Idem,
    answers: Answers,
    transaction: Option<Transaction>,
    observers: BTreeMap<i64, (Statement, Observing)>,
    subscriptions: BTreeMap<i64, SyncSubscription>,
    observers_made: i64,
    subscriptions_made: i64,
    conditions: Conditions,
    _condition_observer: TransportObserver,
}

impl Session {
    pub(super) fn new(idem: Idem, answers: Answers) -> Self {
        let conditions = Conditions::default();
        let kept = Arc::clone(&conditions);
        let observer = idem.observe_transport_conditions(move |condition| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == CONDITIONS_KEPT {
                kept.pop_front();
            }
            kept.push_back(condition_fields(&condition));
        });
        Self {
            idem,
            answers,
            transaction: None,
            observers: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            observers_made: 0,
            subscriptions_made: 0,
            conditions,
            _condition_observer: observer,
        }
    }

    /// Does what a line asks for and answers it.
    pub(super) fn handle(&mut self, line: &[u8]) {
        let (id, request) = request::read(line);
        let outcome = match request {
            Ok(Request::Observe(statement)) => return self.observe(id, statement),
            Ok(request) => self.run(request),
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(fields) => self.answers.answer(id, fields),
            Err(failure) => self.answers.fail(id, &failure),
        }
    }

    fn run(&mut self, request: Request) -> Result<Object, Failure> {
        match request {
            Request::Execute(statement) => self.execute(statement).map(result_fields),
            Request::Begin { read_only, hint } => self.begin(read_only, hint),
            Request::Commit => {
                let commit = self.take_transaction()?.commit_blocking()?;
                Ok(field("commit_id", commit_value(commit)))
            }
            Request::Rollback => {
                self.take_transaction()?.rollback();
                Ok(field("rolled_back", Value::Bool(true)))
            }
            Request::Observe(_) => unreachable!("handled with its answer"),
            Request::Unobserve(number) => match self.observers.remove(&number) {
                Some(_) => Ok(field("unobserved", Value::Int(number))),
                None => Err(Failure::invalid(format!("there is no observer {number}"))),
            },
            Request::Subscribe(statement) => self.subscribe(statement),
            Request::Unsubscribe(number) => match self.subscriptions.remove(&number) {
                Some(_) => Ok(field("unsubscribed", Value::Int(number))),
                None => Err(Failure::invalid(format!(
                    "there is no subscription {number}"
                ))),
            },
            Request::SyncStart(reach) => self.sync_start(&reach),
            Request::SyncStop => {
                self.idem.sync().stop();
                Ok(field("stopped", Value::Bool(true)))
            }
            Request::PeerMetadata(metadata) => {
                self.idem.presence().set_peer_metadata(&metadata)?;
                Ok(field("set", Value::Bool(true)))
            }
            Request::Trust(lines) => self.trust(&lines),
            Request::Presence => Ok(field("presence", Value::Object(self.presence()))),
            Request::Wait {
                statement,
                items,
                timeout,
            } => self.wait(&statement, &items, timeout),
            Request::Conflicts {
                collection,
                id,
                path,
            } => {
                let store = self.idem.store();
                let values = store.conflicts_blocking(&collection, id, &path)?;
                Ok(field("conflicts", Value::Array(values)))
            }
            Request::Digest => {
                let digest = self.idem.store().digest_blocking()?;
                let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(field("digest", text.into()))
            }
        }
    }

    /// Runs a statement in the open transaction, or as its own.
    fn execute(&self, statement: Statement) -> Result<QueryResult, Failure> {
        let query = (statement.text, statement.args);
        let result = match &self.transaction {
            Some(transaction) => transaction.execute_blocking(query),
            None => self.idem.store().execute_blocking(query),
        };
        Ok(result?)
    }

    fn begin(&mut self, read_only: bool, hint: Option<String>) -> Result<Object, Failure> {
        if self.transaction.is_some() {
            return Err(Failure::new(
                idem::ErrorKind::StoreTransactionNested.code(),
                "a transaction is open; commit or roll it back first",
            ));
        }
        let mut options = TransactionOptions::new().read_only(read_only);
        if let Some(hint) = hint {
            options = options.hint(hint);
        }
        self.transaction = Some(self.idem.store().begin_blocking(options)?);
        Ok(field("begun", Value::Bool(true)))
    }

    fn take_transaction(&mut self) -> Result<Transaction, Failure> {
        self.transaction.take().ok_or_else(|| {
            Failure::new(
                idem::ErrorKind::StoreTransactionEnded.code(),
                "no transaction is open",
            )
        })
    }

    fn observe(&mut self, id: Option<Value>, statement: Statement) {
        if self.observers.len() >= OBSERVERS_MAX {
            let failure = Failure::invalid(format!("at most {OBSERVERS_MAX} observers"));
            return self.answers.fail(id, &failure);
        }
        let number = self.observers_made + 1;
        let count = number.unsigned_abs();
        let kept = statement.clone();
        match Observing::start(self.idem.store(), &self.answers, count, statement) {
            Ok(observing) => {
                self.observers_made = number;
                self.answers
                    .answer(id, field("observer", Value::Int(number)));
                observing.announce(&self.answers, count);
                self.observers.insert(number, (kept, observing));
            }
            Err(failure) => self.answers.fail(id, &failure),
        }
    }

    fn subscribe(&mut self, statement: Statement) -> Result<Object, Failure> {
        let subscription = self
            .idem
            .sync()
            .register_subscription((statement.text, statement.args))?;
        self.subscriptions_made += 1;
        let number = self.subscriptions_made;
        let mut answer = field("subscription", Value::Int(number));
        let collection = subscription.collection();
        answer.insert("collection".to_owned(), collection.into());
        self.subscriptions.insert(number, subscription);
        Ok(answer)
    }

    fn sync_start(&self, reach: &Reach) -> Result<Object, Failure> {
        let config = transport_config(reach).map_err(|error| {
            Failure::new(
                idem::ErrorKind::ValidationConfiguration.code(),
                error.to_string(),
            )
        })?;
        self.idem.set_transport_config(config)?;
        self.idem.sync().start()?;
        let sync = self.idem.sync();
        let first = |addresses: Vec<std::net::SocketAddr>| {
            let address = addresses.first().map(ToString::to_string);
            address.map_or(Value::Null, Value::from)
        };
        let mut fields = field("listening", first(sync.tcp_addresses()));
        if reach.listen_http.is_some() {
            fields.insert("listening_http".to_owned(), first(sync.http_addresses()));
        }
        Ok(fields)
    }

    /// Takes what an authority signed, and says how much of it is news.
    fn trust(&self, lines: &str) -> Result<Object, Failure> {
        let signed = SignedText::parse(lines)?;
        let auth = self.idem.auth();
        let auth = auth.ok_or_else(|| {
            Failure::invalid("this peer knows no authority: start it with --authority")
        })?;
        let mut news = 0;
        for signed in signed {
            news += i64::from(auth.apply(signed)?);
        }
        Ok(field("news", Value::Int(news)))
    }

    fn presence(&self) -> Object {
        let graph = self.idem.presence().graph();
        let conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let conditions = conditions.iter().cloned().map(Value::Object).collect();
        let remote = graph
            .remote_peers
            .iter()
            .map(|peer| Value::Object(peer_fields(peer)));
        let links = graph.links.iter();
        let links = links.map(|link| Value::Object(link_fields(link)));
        Object::from([
            ("links".to_owned(), Value::Array(links.collect())),
            (
                "local_peer".to_owned(),
                Value::Object(peer_fields(&graph.local_peer)),
            ),
            ("remote_peers".to_owned(), Value::Array(remote.collect())),
            ("conditions".to_owned(), Value::Array(conditions)),
        ])
    }

    fn wait(
        &self,
        statement: &Statement,
        expected: &[Value],
        timeout: Duration,
    ) -> Result<Object, Failure> {
        if self.transaction.is_some() {
            return Err(Failure::invalid(
                "a wait inside a transaction would never see a change",
            ));
        }
        let deadline = Instant::now() + timeout;
        let ordered = statement.text.to_ascii_uppercase().contains("ORDER");
        loop {
            let start = Instant::now();
            let found = items(self.execute(statement.clone())?);
            let interval = WAIT_INTERVAL.max(start.elapsed());
            if same_items(&found, expected, ordered) {
                return Ok(field("items", Value::Array(found)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || self.answers.are_unread() {
                let shown = crate::output::json_text(&Value::Array(found));
                let shown: String = shown.chars().take(1000).collect();
                return Err(Failure::new(
                    "wait/timed-out",
                    format!("after {} ms the items are {shown}", timeout.as_millis()),
                ));
            }
            std::thread::sleep(interval.min(left));
        }
    }

    /// Ends the peer: what observers have not been told comes first.
    pub(super) fn close(mut self) -> Result<(), CliError> {
        drop(self.transaction.take());
        let deadline = Instant::now() + LAST_EVENTS_WAIT;
        for (statement, observing) in self.observers.values() {
            if let Ok(result) = self.execute(statement.clone()) {
                observing.wait_told(&items(result), deadline);
            }
        }
        self.observers.clear();
        self.subscriptions.clear();
        self.idem
            .close_blocking()
            .map_err(|error| peer_error("cannot close the store", error))
    }
}

fn field(name: &str, value: Value) -> Object {
    Object::from([(name.to_owned(), value)])
}

fn kind_name(kind: idem::PeerKind) -> &'static str {
    match kind {
        idem::PeerKind::SmallPeer => "small-peer",
        idem::PeerKind::BigPeer => "big-peer",
        _ => "other",
    }
}

fn link_fields(link: &idem::PresenceLink) -> Object {
    let medium = link
        .medium
        .map_or_else(|| "other".to_owned(), |medium| medium.to_string());
    let peers: Vec<Value> = link
        .peers
        .iter()
        .map(|peer| peer.to_string().into())
        .collect();
    Object::from([
        ("peers".to_owned(), Value::Array(peers)),
        ("medium".to_owned(), medium.into()),
    ])
}

fn peer_fields(peer: &idem::Peer) -> Object {
    let connections = peer
        .connections
        .iter()
        .map(|connection| {
            let kind = match connection.kind {
                idem::ConnectionKind::Tcp => "tcp",
                idem::ConnectionKind::WebSocket => "websocket",
                idem::ConnectionKind::Memory => "memory",
                idem::ConnectionKind::Bluetooth => "bluetooth",
                idem::ConnectionKind::Internet => "internet",
                _ => "other",
            };
            let mut fields = field("kind", kind.into());
            fields.insert("inbound".to_owned(), Value::Bool(connection.is_inbound));
            if let Some(address) = connection.address {
                fields.insert("address".to_owned(), address.to_string().into());
            }
            Value::Object(fields)
        })
        .collect();
    let mut fields = Object::from([
        ("peer".to_owned(), peer.peer_key.to_string().into()),
        ("name".to_owned(), peer.device_name.as_str().into()),
        ("os".to_owned(), peer.os.as_str().into()),
        ("kind".to_owned(), kind_name(peer.kind).into()),
        ("metadata".to_owned(), Value::Object(peer.metadata.clone())),
        ("distance".to_owned(), i64::from(peer.distance).into()),
        ("connections".to_owned(), Value::Array(connections)),
    ]);
    if let Some(commit) = peer.synced_up_to_local_commit_id {
        fields.insert("synced_up_to_commit_id".to_owned(), int(commit));
    }
    fields
}

/// Whether two results are the same by the numbers' values; without an order in the query their order
/// means nothing.
pub(super) fn same_items(found: &[Value], expected: &[Value], ordered: bool) -> bool {
    let equal = |a: &Value, b: &Value| a.compare(b).is_eq();
    if found.len() != expected.len() {
        return false;
    }
    if ordered {
        return found.iter().zip(expected).all(|(a, b)| equal(a, b));
    }
    let sorted = |items: &[Value]| {
        let mut items = items.to_vec();
        items.sort_by(Value::compare);
        items
    };
    sorted(found)
        .iter()
        .zip(&sorted(expected))
        .all(|(a, b)| equal(a, b))
}

//! Replication with other peers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use idem_model::{CollectionName, PeerId, limits};
use idem_query::{QueryError, Selector};
use idem_sync::{OnLeave, projected_collection};

use crate::{
    board::{Awaited, Board, Wish},
    core::Core,
    error::{Error, ErrorKind},
    options::SubscriptionOptions,
    query::{IntoQuery, Query},
};

/// Replication of a peer: what it wants, and whether it runs.
#[derive(Debug, Clone)]
pub struct Sync {
    core: Arc<Core>,
}

/// A query whose documents other peers send. It lives as long as its handle, unless
/// [`keep`](Self::keep) released it. When the same query is registered again, in this process or a
/// later one within 30 days, it goes on where it was, and what was evicted meanwhile does not come
/// again until it changes. [`cancel`](Self::cancel) ends it for good: then a new registration brings
/// everything. The documents stay where they are either way.
#[derive(Debug)]
#[must_use = "the subscription ends when its handle is dropped"]
pub struct SyncSubscription {
    query: Query,
    collection: CollectionName,
    board: Arc<Board>,
    id: u64,
    is_kept: bool,
}

impl Sync {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Opens the listeners and dials the peers of the transport configuration. Does nothing if it
    /// runs already. When it returns, the listeners are bound ([`tcp_addresses`](Self::tcp_addresses)).
    ///
    /// # Errors
    /// [`ErrorKind::SyncUnavailable`](crate::ErrorKind::SyncUnavailable) for a peer opened offline,
    /// [`ErrorKind::SyncListen`](crate::ErrorKind::SyncListen) if an address cannot be bound.
    pub fn start(&self) -> Result<(), Error> {
        self.core.replication.start()
    }

    /// Closes every link and listener and waits until they are closed. Does nothing if it is stopped.
    /// What was received but waits for an open transaction is dropped after two seconds, at once if
    /// it is the caller's; peers send it again.
    pub fn stop(&self) {
        self.core.stop_sync();
    }

    /// Whether sync runs.
    pub fn is_active(&self) -> bool {
        self.core.replication.is_active()
    }

    /// The addresses that TCP listens on, with the port that the system chose for port 0: that of
    /// [`ListenConfig::tcp`](crate::ListenConfig::tcp), or the one that is opened for
    /// [`LanConfig::mdns`](crate::LanConfig::mdns).
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.core.replication.tcp_addresses()
    }

    /// The addresses that HTTP listens on, with the port that the system chose for port 0.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.core.replication.http_addresses()
    }

    /// What other peers name to dial this one over the internet
    /// ([`ConnectConfig::internet_peers`](crate::ConnectConfig::internet_peers)): `None` until the listener of
    /// [`ListenConfig::internet`](crate::ListenConfig::internet) is open, a moment after sync started; an event
    /// [`ConditionKind::Listening`](crate::ConditionKind::Listening) tells of it. It names the addresses of this
    /// machine that are known now; behind a router those are of no use to others, who need a relay.
    pub fn internet_address(&self) -> Option<String> {
        self.core.replication.internet_address()
    }

    /// Asks every linked peer, now and later, for the documents of a `SELECT * FROM c [WHERE ..]`, or for the
    /// first ones, `SELECT * FROM c [WHERE ..] ORDER BY .. LIMIT n`: whatever changes anywhere, the first n of
    /// all that this peer and those linked with it hold are here soon after.
    ///
    /// With paths of fields in the place of `*`, and without LIMIT, these fields come and nothing else, into a
    /// read-only collection of their own ([`SubscriptionOptions::in_collection`]).
    ///
    /// A document that changes so that it does not match any more brings that change and stays here. A
    /// peer that was in sync with this one goes on keeping it up to date.
    /// [`register_subscription_with`](Self::register_subscription_with) can have it evicted.
    ///
    /// # Errors
    /// [`ErrorKind::SyncSubscriptionInvalid`](crate::ErrorKind::SyncSubscriptionInvalid) for any
    /// other statement, or what is wrong with the query.
    pub fn register_subscription(&self, query: impl IntoQuery) -> Result<SyncSubscription, Error> {
        self.register_subscription_with(query, SubscriptionOptions::new())
    }

    /// [`register_subscription`](Self::register_subscription) with options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey};
    /// # let key = SharedKey::from_secret("correct horse battery staple");
    /// # let config = IdemConfig::new(DatabaseId([1; 16]), ConnectMode::SharedKey { key });
    /// # let idem = Idem::open_sync(config)?;
    /// use idem::{OnLeave, SubscriptionOptions};
    ///
    /// // The device holds open orders only: one that is delivered goes once the server has told so.
    /// let _open_orders = idem.sync().register_subscription_with(
    ///     "SELECT * FROM orders WHERE state = 'open'",
    ///     SubscriptionOptions::new().on_leave(OnLeave::Evict),
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`register_subscription`](Self::register_subscription).
    pub fn register_subscription_with(
        &self,
        query: impl IntoQuery,
        options: SubscriptionOptions,
    ) -> Result<SyncSubscription, Error> {
        let query = query.into_query()?;
        let board = self.core.replication.board();
        let invalid = |message| Error::new(ErrorKind::SyncSubscriptionInvalid, message);
        let wish = wish(&query).map_err(|e| {
            let error = Error::query(e, &query.text);
            match error.kind() {
                ErrorKind::QueryUnsupported => error.with_kind(ErrorKind::SyncSubscriptionInvalid),
                _ => error,
            }
        })?;
        if matches!(wish, Wish::First(_)) && options.on_leave == OnLeave::Evict {
            let message = "what leaves a subscription with ORDER BY and LIMIT is kept; EVICT it";
            return Err(invalid(message.to_owned()));
        }
        let collection = match &wish {
            Wish::All(selector) => self.collection_of(selector, &options)?,
            Wish::First(window) => self.collection_of(window.selector(), &options)?,
        };
        let id = board.subscribe(query.clone(), wish, options.on_leave);
        let id = id.ok_or_else(|| {
            let limit = limits::WINDOWS_PER_SESSION_MAX;
            invalid(format!(
                "{limit} different subscriptions with ORDER BY and LIMIT are the limit"
            ))
        })?;
        Ok(SyncSubscription {
            collection,
            id,
            query,
            board: Arc::clone(board),
            is_kept: false,
        })
    }

    /// The collection that a subscription brings documents into, made ready for them.
    fn collection_of(
        &self,
        selector: &Selector,
        options: &SubscriptionOptions,
    ) -> Result<CollectionName, Error> {
        let given = options.collection.as_deref().map(|name| {
            let name = CollectionName::new(name);
            name.map_err(|e| Error::new(ErrorKind::StoreCollectionInvalid, e.to_string()))
        });
        let given = given.transpose()?;
        let Some(travelling) = projected_collection(selector) else {
            let name = selector.collection();
            return match given {
                Some(given) if given != *name => {
                    let message = "whole documents stay in the collection that they are of; name \
                                   fields in the place of * to have those in another one";
                    Err(Error::new(ErrorKind::SyncSubscriptionInvalid, message))
                }
                _ => Ok(name.clone()),
            };
        };
        let store = &self.core.store;
        let name = given.or_else(|| store.projection(&travelling));
        let name = name.unwrap_or_else(|| default_name(selector, &travelling));
        let declared = store.declare_projection(&name, &travelling, selector);
        declared.map_err(|e| Error::store(e, selector.canonical_projection().as_str()))?;
        Ok(name)
    }

    /// Waits until `peer` has confirmed that it holds, on disk, everything that it subscribes to of the
    /// commits of this peer up to `commit_id`, which a write gives
    /// ([`QueryResult::commit_id`](crate::QueryResult::commit_id)).
    ///
    /// A peer that is away, was never met, or does not take a document (see `system:sync_degradations`)
    /// is waited for; drop the future to give up, as a time limit of the executor does. What the peer
    /// does not ask for is not waited for, nor is what does not leave this one: documents in quarantine
    /// and those of collections whose sync scope leaves the peer out. What a peer confirmed before it
    /// went away counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use idem::{ConnectMode, DatabaseId, Idem, IdemConfig, SharedKey, TransportConfig};
    /// # let open = || {
    /// #     let key = SharedKey::from_secret("correct horse battery staple");
    /// #     Idem::open(IdemConfig::new(DatabaseId([1; 16]), ConnectMode::SharedKey { key }))
    /// # };
    /// # let (idem, other) = (open().await?, open().await?);
    /// # idem.set_transport_config(TransportConfig::new().with_tcp_listener("127.0.0.1:0"))?;
    /// # idem.sync().start()?;
    /// # let address = idem.sync().tcp_addresses()[0].to_string();
    /// # other.set_transport_config(TransportConfig::new().with_tcp_server(address))?;
    /// # other.sync().register_subscription("SELECT * FROM orders")?.keep();
    /// # other.sync().start()?;
    /// # let server = other.peer_key();
    /// let order = "INSERT INTO orders DOCUMENTS ({'_id': 1, 'total': 250})";
    /// if let Some(commit) = idem.store().execute(order).await?.commit_id() {
    ///     idem.sync().await_synced(server, commit).await?;
    /// }
    /// # let held = other.store().execute("SELECT * FROM orders").await?;
    /// # assert_eq!(held.item_count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::SyncUnavailable`] for a peer opened offline, [`ErrorKind::SyncCommitUnknown`] for a
    /// commit that there is not, [`ErrorKind::ValidationValue`] if `peer` is this peer,
    /// [`ErrorKind::StoreTransactionNested`] inside a transaction, for which sync may have to wait,
    /// [`ErrorKind::Closed`] when this peer is closed meanwhile.
    pub async fn await_synced(&self, peer: PeerId, commit_id: u64) -> Result<(), Error> {
        self.core.check_task_not_nested().await?;
        self.check_awaited(peer, commit_id)?;
        let board = self.core.replication.board();
        Self::outcome(board.await_synced(peer, commit_id).await, peer, commit_id)
    }

    /// [`await_synced`](Self::await_synced) on the calling thread, for as long as `limit`.
    ///
    /// # Errors
    /// As [`await_synced`](Self::await_synced), and [`ErrorKind::SyncTimedOut`] after `limit`.
    pub fn await_synced_blocking(
        &self,
        peer: PeerId,
        commit_id: u64,
        limit: Duration,
    ) -> Result<(), Error> {
        self.core.check_not_nested()?;
        self.check_awaited(peer, commit_id)?;
        let board = self.core.replication.board();
        let awaited = board.await_synced_blocking(peer, commit_id, limit);
        Self::outcome(awaited, peer, commit_id)
    }

    fn check_awaited(&self, peer: PeerId, commit_id: u64) -> Result<(), Error> {
        if !self.core.replication.is_available() {
            return Err(Error::sync_unavailable());
        }
        if peer == self.core.peer {
            let message = "a peer does not sync with itself";
            return Err(Error::new(ErrorKind::ValidationValue, message));
        }
        if self.core.replication.board().is_closed() {
            return Err(Error::closed());
        }
        let last = self.core.store.last_commit();
        if commit_id > last {
            let message = format!("there is no commit {commit_id} here, the last one is {last}");
            return Err(Error::new(ErrorKind::SyncCommitUnknown, message));
        }
        Ok(())
    }

    fn outcome(awaited: Awaited, peer: PeerId, commit_id: u64) -> Result<(), Error> {
        match awaited {
            Awaited::Synced => Ok(()),
            Awaited::Closed => Err(Error::closed()),
            Awaited::TimedOut => Err(Error::new(
                ErrorKind::SyncTimedOut,
                format!("peer {peer} has not confirmed commit {commit_id} in time"),
            )),
        }
    }

    /// The live subscriptions.
    pub fn subscriptions(&self) -> Vec<Query> {
        self.core.replication.board().queries()
    }
}

/// What a statement asks for.
fn wish(query: &Query) -> Result<Wish, QueryError> {
    let statement = idem_query::parse(&query.text)?;
    match statement.window(&query.args)? {
        Some(window) => Ok(Wish::First(window)),
        None => statement.subscription(&query.args).map(Wish::All),
    }
}

/// A name for a collection that nobody named: it tells what is in it.
fn default_name(selector: &Selector, travelling: &CollectionName) -> CollectionName {
    let paths = selector.projection().unwrap_or_default().iter();
    let paths: Vec<String> = paths.map(ToString::to_string).collect();
    let name = format!("{}({})", selector.collection(), paths.join(", "));
    CollectionName::new(&name).unwrap_or_else(|_| {
        // It would be too long. The end of the other name tells it from others.
        let mut end = selector.collection().as_str().len().min(80);
        while !selector.collection().as_str().is_char_boundary(end) {
            end -= 1;
        }
        let (start, hash) = (&selector.collection().as_str()[..end], travelling.as_str());
        let name = format!("{start}({})", &hash[hash.len() - 16..]);
        CollectionName::new(&name).expect("a name with a part of another one")
    })
}

impl SyncSubscription {
    /// The collection of this peer that the documents are in: the one of the query, or for a subscription to
    /// some fields [`SubscriptionOptions::in_collection`].
    pub fn collection(&self) -> &str {
        self.collection.as_str()
    }

    /// The statement.
    pub fn query_string(&self) -> &str {
        self.query.text()
    }

    /// Its arguments.
    pub fn query_arguments(&self) -> &idem_model::Object {
        self.query.args()
    }

    /// Ends the subscription for good, and soon forgets how far it was and what was evicted from it,
    /// unless another handle has the same query. What was received stays.
    pub fn cancel(&self) {
        self.board.end(self.id);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        !self.board.is_subscribed(self.id)
    }

    /// Lets the subscription live as long as the peer, without a handle.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for SyncSubscription {
    fn drop(&mut self) {
        if !self.is_kept {
            self.board.unsubscribe(self.id);
        }
    }
}

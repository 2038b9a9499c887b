//! Replication with other peers.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    board::Board,
    core::Core,
    error::{Error, ErrorKind},
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

    /// The addresses that TCP listens on, with the port that the system chose for port 0.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.core.replication.tcp_addresses()
    }

    /// Asks every linked peer, now and later, for the documents of a `SELECT * FROM c [WHERE ..]`.
    ///
    /// # Errors
    /// [`ErrorKind::SyncSubscriptionInvalid`](crate::ErrorKind::SyncSubscriptionInvalid) for any
    /// other statement, or what is wrong with the query.
    pub fn register_subscription(&self, query: impl IntoQuery) -> Result<SyncSubscription, Error> {
        let query = query.into_query()?;
        let board = self.core.replication.board();
        let selector = idem_query::parse(&query.text)
            .and_then(|statement| statement.subscription(&query.args))
            .map_err(|e| {
                let error = Error::query(e, &query.text);
                match error.kind() {
                    ErrorKind::QueryUnsupported => {
                        error.with_kind(ErrorKind::SyncSubscriptionInvalid)
                    }
                    _ => error,
                }
            })?;
        Ok(SyncSubscription {
            id: board.subscribe(query.clone(), selector),
            query,
            board: Arc::clone(board),
            is_kept: false,
        })
    }

    /// The live subscriptions.
    pub fn subscriptions(&self) -> Vec<Query> {
        self.core.replication.board().queries()
    }
}

impl SyncSubscription {
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

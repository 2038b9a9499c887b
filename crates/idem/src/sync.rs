//! Replication with other peers.

use std::net::SocketAddr;

use crate::{
    error::Error,
    query::{IntoQuery, Query},
};

/// Replication of a peer: what it wants, and whether it runs.
#[derive(Debug, Clone)]
pub struct Sync(());

/// A query whose documents other peers send. It lives as long as its handle, unless
/// [`keep`](Self::keep) released it; cancelling leaves the documents where they are.
#[derive(Debug)]
#[must_use = "the subscription ends when its handle is dropped"]
pub struct SyncSubscription {
    query: Query,
}

impl Sync {
    /// Opens the listeners and dials the peers of the transport configuration. Does nothing if it
    /// runs already. When it returns, the listeners are bound ([`tcp_addresses`](Self::tcp_addresses)).
    ///
    /// # Errors
    /// [`ErrorKind::SyncUnavailable`](crate::ErrorKind::SyncUnavailable) for a peer opened offline,
    /// [`ErrorKind::SyncListen`](crate::ErrorKind::SyncListen) if an address cannot be bound.
    pub fn start(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Closes every link and listener and waits until they are closed. Does nothing if it is stopped.
    pub fn stop(&self) {
        unimplemented!()
    }

    /// Whether sync runs.
    pub fn is_active(&self) -> bool {
        unimplemented!()
    }

    /// The addresses that TCP listens on, with the port that the system chose for port 0.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        unimplemented!()
    }

    /// Asks every linked peer, now and later, for the documents of a `SELECT * FROM c [WHERE ..]`.
    ///
    /// # Errors
    /// [`ErrorKind::SyncSubscriptionInvalid`](crate::ErrorKind::SyncSubscriptionInvalid) for any
    /// other statement.
    pub fn register_subscription(&self, query: impl IntoQuery) -> Result<SyncSubscription, Error> {
        let _ = query.into_query()?;
        unimplemented!()
    }

    /// The live subscriptions.
    pub fn subscriptions(&self) -> Vec<Query> {
        unimplemented!()
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

    /// Ends the subscription. What was received stays.
    pub fn cancel(&self) {
        unimplemented!()
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        unimplemented!()
    }

    /// Lets the subscription live as long as the peer, without a handle.
    pub fn keep(self) {
        unimplemented!()
    }
}

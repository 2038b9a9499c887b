//! How one statement may run, and how a subscription is served.

use std::time::Duration;

use idem_store::Cancellation;
use idem_sync::OnLeave;

/// Settings of one statement. The defaults are what the system parameters say.
#[derive(Debug, Clone, Default)]
pub struct ExecuteOptions {
    inner: idem_store::ExecuteOptions,
}

impl ExecuteOptions {
    /// As the system parameters say.
    pub fn new() -> Self {
        Self::default()
    }

    /// The statement fails and changes nothing if it takes longer, waiting for other writers
    /// included. Default: the system parameter `statement_timeout_ms`, no limit unless it was set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.inner = self.inner.timeout(timeout);
        self
    }

    /// The statement fails and changes nothing once `cancellation` is cancelled, from any thread.
    /// Default: none. May be given more than once; any of them stops the statement.
    #[must_use]
    pub fn cancellation(mut self, cancellation: Cancellation) -> Self {
        self.inner = self.inner.cancellation(cancellation);
        self
    }

    /// Bytes that sorting, grouping, DISTINCT and joins may hold before the statement fails. Default:
    /// the system parameter `statement_memory_bytes`, 256 MiB unless it was set.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.inner = self.inner.memory_bytes(bytes);
        self
    }

    pub(crate) fn into_store(self) -> idem_store::ExecuteOptions {
        self.inner
    }
}

/// Settings of one subscription.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionOptions {
    pub(crate) on_leave: OnLeave,
    pub(crate) collection: Option<String>,
}

impl SubscriptionOptions {
    /// What leaves is kept.
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of a document that changed, here or elsewhere, so that none of the subscriptions of
    /// this peer selects it any more. Default: [`OnLeave::Keep`].
    ///
    /// With [`OnLeave::Evict`] it is removed here, as `EVICT` does, once a linked peer that keeps it has
    /// said that it holds the same. It stays while something of it is here that this peer lacks, and
    /// while nobody who keeps it is linked: a peer that evicts from the same collection itself is no
    /// such one, so peers that all evict never lose a document. Where several subscriptions selected
    /// it, one that keeps is stronger; so it is where the same query is registered twice. A document
    /// that was written here and never matched goes too, if all subscriptions of its collection evict.
    #[must_use]
    pub fn on_leave(mut self, on_leave: OnLeave) -> Self {
        self.on_leave = on_leave;
        self
    }

    /// The collection of this peer into which a subscription to some fields brings them. Default: the one
    /// that the same fields of the same collection went into before, or else one that is named after them, such
    /// as `products(name, price)`; [`SyncSubscription::collection`](crate::SyncSubscription::collection)
    /// tells.
    ///
    /// It must not hold anything else, and is theirs from then on, also when the subscription ends and
    /// after a restart: documents can be read, observed, indexed and evicted there, but not written. What is
    /// there does not sync as a collection of that name. All subscriptions to the same fields share it,
    /// whatever their conditions.
    #[must_use]
    pub fn in_collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = Some(collection.into());
        self
    }
}

/// Cancels a statement whose future is dropped before its end.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(Cancellation);

impl CancelOnDrop {
    pub(crate) fn arm(options: ExecuteOptions) -> (ExecuteOptions, Option<Self>) {
        let cancellation = Cancellation::new();
        let options = options.cancellation(cancellation.clone());
        (options, Some(Self(cancellation)))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // Nothing listens any more if the statement has ended.
        self.0.cancel();
    }
}

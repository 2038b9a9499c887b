//! How one statement may run.

use std::time::Duration;

use idem_store::Cancellation;

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

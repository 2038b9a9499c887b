//! SIGTERM and Ctrl-C as something a command can wait for.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Stop requests of this process from now on. The first one no longer ends the process by itself;
/// a second one within the same command does.
pub(crate) struct StopRequests {
    received: Receiver<()>,
    count: Arc<AtomicUsize>,
}

impl StopRequests {
    /// Takes the signals over.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, received) = mpsc::sync_channel(1);
        let count = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let counted = Arc::clone(&count);
        // The thread lives as long as the process: signals have no other owner to go back to.
        thread::Builder::new()
            .name("idem-signals".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    while wait_for_signal().await.is_ok() {
                        if counted.fetch_add(1, Ordering::Relaxed) > 0 {
                            std::process::exit(1);
                        }
                        // A full channel holds a request already.
                        let _ = sender.try_send(());
                    }
                });
            })?;
        Ok(Self { received, count })
    }

    /// Waits for a request, at most `limit`; true if there was one.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        !matches!(
            self.received.recv_timeout(limit),
            Err(RecvTimeoutError::Timeout)
        )
    }

    /// Forgets past requests, so that the next one is the first again.
    pub(crate) fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
        while self.received.try_recv().is_ok() {}
    }
}

#[cfg(unix)]
async fn wait_for_signal() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn wait_for_signal() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

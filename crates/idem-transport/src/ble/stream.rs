//! The stream of bytes that a link runs on, over a bearer.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::{
    ble::{BleBearer, framing::BleFraming},
    error::LinkError,
};

/// One end of a connection as bytes.
pub(super) struct BleStream {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Tells the pump that something has changed.
    work: Notify,
}

struct State {
    framing: BleFraming,
    /// Why there is no more to come, until it is told.
    failure: Option<LinkError>,
    /// Whether nothing more comes.
    is_over: bool,
    /// Whether the stream has no more to write.
    is_shut: bool,
    is_dropped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BleStream {
    /// Must be called inside a tokio runtime, which will carry the datagrams.
    pub(super) fn start(bearer: BleBearer) -> Result<Self, LinkError> {
        let framing = BleFraming::new(bearer.datagram_bytes_max)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                framing,
                failure: None,
                is_over: false,
                is_shut: false,
                is_dropped: false,
                reader: None,
                writer: None,
            }),
            work: Notify::new(),
        });
        tokio::spawn(pump(Arc::clone(&shared), bearer));
        Ok(Self { shared })
    }
}

/// Carries datagrams between the stream and its bearer until one of them ends.
async fn pump(shared: Arc<Shared>, mut bearer: BleBearer) {
    let ended = carry(&shared, &mut bearer).await;
    // The bearer goes first: who is told of the end may connect at once.
    drop(bearer);
    let mut state = shared.lock();
    state.failure = ended.err();
    state.is_over = true;
    state.wake();
}

async fn carry(shared: &Shared, bearer: &mut BleBearer) -> Result<(), LinkError> {
    loop {
        let has_datagram = {
            let state = shared.lock();
            if state.is_dropped {
                return Ok(());
            }
            // One that is shut goes on: there is no closing of one direction, and who closes both may lose
            // what is still on its way.
            state.framing.has_datagram()
        };
        tokio::select! {
            arrived = bearer.incoming.recv() => {
                let Some(datagram) = arrived else {
                    return Ok(());
                };
                let mut state = shared.lock();
                state.framing.handle_datagram(&datagram)?;
                state.wake();
            }
            room = bearer.outgoing.reserve(), if has_datagram => {
                let Ok(room) = room else {
                    return Ok(());
                };
                let mut state = shared.lock();
                if let Some(datagram) = state.framing.poll_datagram() {
                    room.send(datagram);
                    state.wake();
                }
            }
            () = shared.work.notified() => {}
        }
    }
}

impl AsyncRead for BleStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        let len = state.framing.read(into.initialize_unfilled());
        if len > 0 {
            into.advance(len);
            drop(state);
            // There may be credits to give.
            self.shared.work.notify_one();
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = state.failure.take() {
            return Poll::Ready(Err(io::Error::other(failure)));
        }
        if state.is_over {
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for BleStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        if state.is_over || state.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = state.framing.write(bytes);
        if len == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.shared.work.notify_one();
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.framing.outgoing_bytes() == 0 {
            return Poll::Ready(Ok(()));
        }
        if state.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.as_mut().poll_flush(cx);
        if flushed.is_ready() {
            self.shared.lock().is_shut = true;
            self.shared.work.notify_one();
        }
        flushed
    }
}

impl Drop for BleStream {
    fn drop(&mut self) {
        self.shared.lock().is_dropped = true;
        self.shared.work.notify_one();
    }
}

//! The end of the send queue: records are sealed and written, by whoever finds the time.
//!
//! Usually that is the task of the link. A small frame on a link that is idle is written by the thread
//! that sends it, because waking the task takes longer than the write.

use std::{
    fmt, io,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use idem_model::limits;
use tokio::io::{AsyncWrite, WriteHalf};

use crate::{
    cipher::Cipher,
    error::LinkError,
    frame::{Chunk, RECORD_PLAIN_BYTES_MAX},
    handshake::ByteStream,
    lanes::LaneQueue,
    link::LinkKind,
};

/// Bytes that are collected before they are handed to the stream: four full records, so that a first
/// sync costs few system calls and an urgent frame waits for no more than this.
const WRITE_BATCH_BYTES: usize = 4 * (limits::LINK_RECORD_BYTES_MAX + 2);

/// The plaintext of a record over a radio: what 400 kbit/s carry in 40 ms. An urgent frame waits for no more
/// than this here; the 18 bytes that a record costs are less than one in a hundred.
const RADIO_RECORD_BYTES: usize = 2 * 1024;

/// With more than this in the queue, sealing it is worth another thread.
pub(crate) const INLINE_BYTES_MAX: usize = 16 * 1024;

type Writable = WriteHalf<Box<dyn ByteStream>>;

/// The stream of a link, in the writing direction.
pub(crate) struct Pipe {
    state: Mutex<State>,
}

struct State {
    /// There until the link has ended.
    stream: Option<Writable>,
    plain: Vec<u8>,
    /// Sealed records, of which `written` bytes have left.
    out: Vec<u8>,
    written: usize,
    is_flushed: bool,
    record_plain_bytes_max: usize,
    batch_bytes: usize,
}

impl Pipe {
    pub(crate) fn new(stream: Writable, kind: LinkKind) -> Self {
        let (record_plain_bytes_max, batch_bytes) = match kind {
            LinkKind::Ble => (RADIO_RECORD_BYTES, RADIO_RECORD_BYTES),
            _ => (RECORD_PLAIN_BYTES_MAX, WRITE_BATCH_BYTES),
        };
        Self {
            state: Mutex::new(State {
                stream: Some(stream),
                plain: Vec::new(),
                out: Vec::new(),
                written: 0,
                is_flushed: true,
                record_plain_bytes_max,
                batch_bytes,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is ready, or else a batch of what is queued. Gives whether there was anything.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        cipher: &Cipher,
        queue: &LaneQueue,
    ) -> Poll<Result<bool, LinkError>> {
        self.lock().poll_write(cx, cipher, queue)
    }

    /// Writes everything that is queued from this thread, if that is little and nobody else writes.
    /// Gives whether nothing is left to do for the task.
    pub(crate) fn write_now(&self, cipher: &Cipher, queue: &LaneQueue) -> bool {
        if queue.queued_bytes() > INLINE_BYTES_MAX {
            return false;
        }
        let Ok(mut state) = self.state.try_lock() else {
            return false;
        };
        // The task may wait for the stream, which remembers one waker only.
        if !state.is_idle() {
            return false;
        }
        let mut nobody = Context::from_waker(Waker::noop());
        // The first call writes, the second finds nothing more, unless another thread sends meanwhile.
        for _ in 0..2 {
            match state.poll_write(&mut nobody, cipher, queue) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return true,
                // The task finds the rest, or the failure again.
                Poll::Ready(Err(_)) | Poll::Pending => return false,
            }
        }
        false
    }

    /// Adds a chunk that is in no lane, to be written next.
    pub(crate) fn push_chunk(&self, cipher: &Cipher, chunk: Chunk<'_>) -> Result<(), LinkError> {
        let mut plain = Vec::new();
        chunk.encode(&mut plain);
        let state = &mut *self.lock();
        cipher.seal(&plain, &mut state.out)
    }

    /// Keeps no memory for what was written.
    pub(crate) fn rest(&self) {
        let mut state = self.lock();
        if state.is_idle() {
            (state.plain, state.out, state.written) = (Vec::new(), Vec::new(), 0);
        }
    }

    /// The stream, at the end of the link.
    pub(crate) fn take_stream(&self) -> Option<Writable> {
        self.lock().stream.take()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipe")
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.written == self.out.len() && self.is_flushed
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        cipher: &Cipher,
        queue: &LaneQueue,
    ) -> Poll<Result<bool, LinkError>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(LinkError::Closed));
        };
        let mut stream = Pin::new(stream);
        if self.written == self.out.len() && self.is_flushed {
            self.out.clear();
            self.written = 0;
            while self.out.len() < self.batch_bytes {
                self.plain.clear();
                queue.fill_record(&mut self.plain, self.record_plain_bytes_max);
                if self.plain.is_empty() {
                    break;
                }
                cipher.seal(&self.plain, &mut self.out)?;
            }
            if self.out.is_empty() {
                return Poll::Ready(Ok(false));
            }
        }
        self.is_flushed = false;
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            let len = ready!(stream.as_mut().poll_write(cx, rest))?;
            if len == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.written += len;
            queue.bytes.sent(len);
        }
        ready!(stream.as_mut().poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(true))
    }
}

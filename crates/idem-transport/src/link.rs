//! A link: frames between two peers that know each other.

use std::{collections::VecDeque, future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

use idem_model::{Lane, PeerId, limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    cipher::Cipher,
    error::{LinkError, TrySendError},
    frame::{Chunk, Chunks, Reassembler, record_bytes},
    handshake::{ByteStream, Role},
    lanes::{LaneQueue, Phase},
    pipe::{INLINE_BYTES_MAX, Pipe},
    traffic::LinkProbe,
};

/// How long a link that was closed waits for the other side to close as well.
const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// Room that the reader offers to the stream at once, at most. It begins with little, and offers four times
/// as much when that was filled.
const READ_BYTES_MAX: usize = 256 * 1024;
const READ_BYTES_MIN: usize = 512;

/// See there.
const REST: Duration = Duration::from_millis(limits::LINK_REST_MS);

/// What the medium of a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// Inside one process.
    Memory,
    /// TCP.
    Tcp,
    /// WebSocket messages over TCP.
    WebSocket,
    /// Bluetooth Low Energy.
    Ble,
    /// QUIC over the internet.
    Internet,
}

/// What is known about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkProperties {
    /// The medium.
    pub kind: LinkKind,
    /// Whether this side dialled.
    pub role: Role,
    /// The address of the other side, where the medium has one.
    pub address: Option<SocketAddr>,
    /// The address of this side, where the medium has one.
    pub local_address: Option<SocketAddr>,
    /// Who the other side proved to be.
    pub remote_peer: PeerId,
    /// What the other side calls itself.
    pub remote_device_name: String,
    /// What the app of the other side said of it in the handshake; nobody has looked at it.
    pub remote_metadata: Vec<u8>,
    /// The certificate that it showed and that was accepted, in a database with certificates; empty otherwise.
    pub remote_certificate: Vec<u8>,
    /// The certificate that this side showed, by now perhaps an older one.
    pub shown_certificate: Vec<u8>,
    /// The largest frame that the link takes.
    pub frame_bytes_max: u32,
}

/// One authenticated connection with another peer.
///
/// Dropping the sender, or [`LinkSender::close`], ends the link after what is queued went out.
#[derive(Debug)]
pub struct Link {
    properties: LinkProperties,
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl Link {
    pub(crate) fn start(
        stream: Box<dyn ByteStream>,
        cipher: Cipher,
        properties: LinkProperties,
    ) -> Self {
        let (read, write) = tokio::io::split(stream);
        let cipher = Arc::new(cipher);
        let queue = Arc::new(LaneQueue::new());
        let pipe = Arc::new(Pipe::new(write, properties.kind));
        let frame_bytes_max = properties.frame_bytes_max;
        let (give_back, left_over) = oneshot::channel();
        tokio::spawn(
            Writer {
                pipe: Arc::clone(&pipe),
                cipher: Arc::clone(&cipher),
                queue: Arc::clone(&queue),
                left_over,
            }
            .run(),
        );
        Self {
            sender: LinkSender {
                handle: Arc::new(SenderHandle {
                    queue: Arc::clone(&queue),
                    pipe,
                    cipher: Arc::clone(&cipher),
                    frame_bytes_max,
                }),
            },
            receiver: LinkReceiver {
                stream: Some(read),
                give_back: Some(give_back),
                cipher,
                queue,
                buffer: Vec::new(),
                start: 0,
                room: READ_BYTES_MIN,
                plain: Vec::new(),
                reassembler: Reassembler::new(frame_bytes_max),
                ready: VecDeque::new(),
                has_ended: false,
            },
            properties,
        }
    }

    /// Notes the address of this side.
    pub(crate) fn at_local(mut self, address: Option<SocketAddr>) -> Self {
        self.properties.local_address = address;
        self
    }

    /// What is known about the link.
    pub fn properties(&self) -> &LinkProperties {
        &self.properties
    }

    /// The two directions, to be used from different tasks.
    pub fn split(self) -> (LinkProperties, LinkSender, LinkReceiver) {
        (self.properties, self.sender, self.receiver)
    }

    /// As [`LinkSender::send`].
    ///
    /// # Errors
    /// As [`LinkSender::send`].
    pub async fn send(&self, lane: Lane, frame: Vec<u8>) -> Result<(), LinkError> {
        self.sender.send(lane, frame).await
    }

    /// As [`LinkReceiver::recv`].
    ///
    /// # Errors
    /// As [`LinkReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<(Lane, Vec<u8>)>, LinkError> {
        self.receiver.recv().await
    }
}

/// The sending direction. Clones share the queue; the link ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct LinkSender {
    handle: Arc<SenderHandle>,
}

#[derive(Debug)]
struct SenderHandle {
    queue: Arc<LaneQueue>,
    pipe: Arc<Pipe>,
    cipher: Arc<Cipher>,
    frame_bytes_max: u32,
}

impl Drop for SenderHandle {
    fn drop(&mut self) {
        self.queue.drain();
    }
}

impl LinkSender {
    /// Queues a frame, or gives it back if the lane is full. A small one leaves from this thread if
    /// nothing else is under way, which costs an encryption and a system call that does not wait.
    ///
    /// # Errors
    /// [`TrySendError`].
    ///
    /// # Panics
    /// If the frame is over the link's `frame_bytes_max`: the caller knows the limit.
    pub fn try_send(&self, lane: Lane, frame: Vec<u8>) -> Result<(), TrySendError> {
        self.try_queue(lane, frame)?;
        self.flush();
        Ok(())
    }

    /// As [`try_send`](Self::try_send), but the frame may wait for [`flush`](Self::flush), which the
    /// caller owes. Frames that are queued one after the other so share a record and a system call.
    /// Once much is queued it leaves without that.
    ///
    /// # Errors
    /// [`TrySendError`].
    ///
    /// # Panics
    /// As [`try_send`](Self::try_send).
    pub fn try_queue(&self, lane: Lane, frame: Vec<u8>) -> Result<(), TrySendError> {
        self.check(&frame);
        let queue = &self.handle.queue;
        queue.try_push(lane, frame)?;
        if queue.queued_bytes() > INLINE_BYTES_MAX {
            queue.work.notify_one();
        }
        Ok(())
    }

    /// Sends what was queued: from this thread if that is little and nothing else is under way.
    pub fn flush(&self) {
        let SenderHandle {
            queue,
            pipe,
            cipher,
            ..
        } = &*self.handle;
        if !pipe.write_now(cipher, queue) {
            queue.work.notify_one();
        }
    }

    /// Queues a frame, waiting while the lane is full.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    ///
    /// # Panics
    /// As [`try_send`](Self::try_send).
    pub async fn send(&self, lane: Lane, frame: Vec<u8>) -> Result<(), LinkError> {
        self.check(&frame);
        self.handle
            .queue
            .push(lane, frame)
            .await
            .map_err(|_| LinkError::Closed)
    }

    fn check(&self, frame: &[u8]) {
        assert!(
            frame.len() <= self.handle.frame_bytes_max as usize,
            "a frame of {} bytes on a link for {}",
            frame.len(),
            self.handle.frame_bytes_max
        );
    }

    /// Whether `lane` is at most half full. If not, the hook of
    /// [`set_room_hook`](Self::set_room_hook) is called once it is.
    pub fn has_room(&self, lane: Lane) -> bool {
        self.handle.queue.has_room(lane)
    }

    /// Something to look at the link with, which does not keep it open.
    pub fn probe(&self) -> LinkProbe {
        LinkProbe::new(Arc::clone(&self.handle.queue))
    }

    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.handle.queue.queued_bytes()
    }

    /// Calls `hook` when lanes that were found full have room again. It must be quick, must not
    /// block and must not use the link.
    pub fn set_room_hook(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.handle.queue.set_room_hook(Box::new(hook));
    }

    /// Has the link end with [`LinkError::IdleTimedOut`] when nothing comes for `limit` after something was
    /// sent, and not only after `limits::LINK_IDLE_TIMEOUT_MS`; `None`, as at the beginning, is that. The
    /// other side is asked for a sign of life in between, which costs some 20 bytes both ways.
    pub fn watch(&self, limit: Option<Duration>) {
        self.handle.queue.watch(limit);
    }

    /// Ends the link after what is queued went out. The other side learns that it was on purpose.
    pub fn close(&self) {
        self.handle.queue.drain();
    }

    /// Ends the link now, as if it broke.
    pub fn abort(&self) {
        self.handle.queue.close();
    }
}

type Readable = ReadHalf<Box<dyn ByteStream>>;

/// The receiving direction.
pub struct LinkReceiver {
    /// There until the receiver is dropped.
    stream: Option<Readable>,
    give_back: Option<oneshot::Sender<Readable>>,
    cipher: Arc<Cipher>,
    queue: Arc<LaneQueue>,
    /// Bytes from the stream; those before `start` are done with.
    buffer: Vec<u8>,
    start: usize,
    /// What is offered to the stream next.
    room: usize,
    plain: Vec<u8>,
    reassembler: Reassembler,
    ready: VecDeque<(Lane, Vec<u8>)>,
    has_ended: bool,
}

impl LinkReceiver {
    /// The next frame, `None` once the other side ended the link on purpose. May be cancelled and
    /// called again without losing anything.
    ///
    /// # Errors
    /// [`LinkError`]; the link is then closed in both directions.
    pub async fn recv(&mut self) -> Result<Option<(Lane, Vec<u8>)>, LinkError> {
        let result = self.next_frame().await;
        if !matches!(result, Ok(Some(_))) {
            self.has_ended = true;
        }
        if result.is_err() {
            self.queue.close();
        }
        result
    }

    /// A frame that arrived together with an earlier one, without waiting.
    pub fn recv_ready(&mut self) -> Option<(Lane, Vec<u8>)> {
        self.ready.pop_front()
    }

    async fn next_frame(&mut self) -> Result<Option<(Lane, Vec<u8>)>, LinkError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if self.has_ended {
                return Ok(None);
            }
            if !self.open_record()? {
                self.fill().await?;
            }
        }
    }

    /// Takes one record out of the buffer, if there is a whole one.
    fn open_record(&mut self) -> Result<bool, LinkError> {
        let bytes = &self.buffer[self.start..];
        let Some(record) = record_bytes(bytes)?.and_then(|len| bytes.get(2..len)) else {
            return Ok(false);
        };
        self.cipher.open(record, &mut self.plain)?;
        self.start += 2 + record.len();
        for chunk in Chunks::new(&self.plain) {
            match chunk? {
                Chunk::Data {
                    lane,
                    frame_bytes,
                    is_last,
                    bytes,
                } => {
                    let frame = self.reassembler.push(lane, frame_bytes, is_last, bytes)?;
                    self.ready.extend(frame.map(|frame| (lane, frame)));
                }
                Chunk::Ping => self.queue.answered(),
                Chunk::Question => self.queue.asked(),
                Chunk::Goodbye => self.has_ended = true,
            }
        }
        Ok(true)
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.reserve(self.room);
        let idle = Duration::from_millis(limits::LINK_IDLE_TIMEOUT_MS);
        let mut rest_at = Some(Instant::now() + REST);
        let stream = self.stream.as_mut().expect("only drop takes the stream");
        let end = Instant::now() + idle;
        let len = loop {
            let look_at = self.queue.look_at().into_iter().chain(rest_at);
            let look_at = look_at.fold(end, Instant::min);
            tokio::select! {
                len = stream.read_buf(&mut self.buffer) => break len?,
                () = self.queue.watched.notified() => {}
                () = sleep_until(look_at) => {
                    let now = Instant::now();
                    if rest_at.take_if(|at| *at <= now).is_some() {
                        self.room = READ_BYTES_MIN;
                        self.buffer.shrink_to(self.buffer.len() + self.room);
                        self.buffer.reserve(self.room);
                        self.plain = Vec::new();
                        self.ready.shrink_to_fit();
                    }
                    let is_due = self.queue.look_at().is_some_and(|at| at <= now);
                    if (is_due && self.queue.is_silent()) || now >= end {
                        return Err(LinkError::IdleTimedOut);
                    }
                }
            }
        };
        if len > 0 {
            if self.buffer.len() == self.buffer.capacity() {
                self.room = (4 * self.room).min(READ_BYTES_MAX);
            }
            self.queue.heard();
            self.queue.bytes.received(len);
            return Ok(());
        }
        // An end without a goodbye is a loss, unless this side said goodbye itself.
        if self.queue.phase() == Phase::Open {
            return Err(LinkError::Lost { source: None });
        }
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for LinkReceiver {
    fn drop(&mut self) {
        if let (Some(stream), Some(writer)) = (self.stream.take(), self.give_back.take()) {
            // The writer may be gone; then the stream ends here.
            let _ = writer.send(stream);
        }
    }
}

impl std::fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkReceiver")
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

/// The task that empties the queue.
struct Writer {
    pipe: Arc<Pipe>,
    cipher: Arc<Cipher>,
    queue: Arc<LaneQueue>,
    /// The reading half, once nobody reads from it.
    left_over: oneshot::Receiver<Readable>,
}

impl Writer {
    async fn run(mut self) {
        let result = self.write_all().await;
        let phase = self.queue.phase();
        self.queue.close();
        // The reader sees the same failure from its side and reports it.
        if result.is_ok() && phase == Phase::Draining {
            // A socket that is closed with unread bytes takes back what it sent last, so what still
            // comes is read until the other side has closed as well.
            let _ = timeout(CLOSE_LINGER, self.linger()).await;
        }
    }

    async fn linger(&mut self) {
        let Some(mut stream) = self.pipe.take_stream() else {
            return;
        };
        if stream.shutdown().await.is_err() {
            return;
        }
        let Ok(mut readable) = (&mut self.left_over).await else {
            return;
        };
        let mut rest = [0; 1024];
        while matches!(readable.read(&mut rest).await, Ok(1..)) {}
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        let keep_alive = Duration::from_millis(limits::LINK_KEEP_ALIVE_MS);
        loop {
            // Read before the queue, so that a frame queued before the drain is never left behind.
            let phase = self.queue.phase();
            if let Some(word) = self.queue.word() {
                self.pipe.push_chunk(&self.cipher, word)?;
            }
            if self.write().await? {
                continue;
            }
            match phase {
                Phase::Open => {
                    if timeout(REST, self.queue.work.notified()).await.is_ok() {
                        continue;
                    }
                    self.pipe.rest();
                    self.queue.rest();
                    let idle = timeout(keep_alive - REST, self.queue.work.notified());
                    if idle.await.is_err() {
                        self.pipe.push_chunk(&self.cipher, Chunk::Ping)?;
                    }
                }
                Phase::Draining => {
                    self.pipe.push_chunk(&self.cipher, Chunk::Goodbye)?;
                    self.write().await?;
                    return Ok(());
                }
                Phase::Closed => return Ok(()),
            }
        }
    }

    /// Writes a batch; gives whether there was one.
    async fn write(&mut self) -> Result<bool, LinkError> {
        // A peer that takes nothing for as long as a dead one is dead.
        let idle = Duration::from_millis(limits::LINK_IDLE_TIMEOUT_MS);
        let write = poll_fn(|cx| self.pipe.poll_write(cx, &self.cipher, &self.queue));
        timeout(idle, write)
            .await
            .map_err(|_| LinkError::IdleTimedOut)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Senders may outlive the link, but its stream ends with it.
        drop(self.pipe.take_stream());
    }
}

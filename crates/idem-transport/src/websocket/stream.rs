//! A WebSocket as a stream of bytes.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{Sink, Stream};
use idem_model::limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message,
        error::{CapacityError, ProtocolError},
        protocol::WebSocketConfig,
    },
};

use crate::{error::LinkError, handshake::ByteStream};

/// Memory that each socket holds for what it reads, while it is idle too. Larger frames are read at
/// once all the same.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What a message may have that comes in.
const MESSAGE_BYTES_MAX: usize = 4 * limits::WEBSOCKET_MESSAGE_BYTES_MAX;

/// How a socket is set up.
pub(super) fn socket_config() -> WebSocketConfig {
    // Nothing is held back: the link above writes in batches, and flushes them.
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MESSAGE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

/// The contents of binary messages, put together.
pub(super) struct MessageStream {
    socket: WebSocketStream<Box<dyn ByteStream>>,
    /// What is left of the last message.
    rest: Bytes,
}

impl MessageStream {
    pub(super) fn new(socket: WebSocketStream<Box<dyn ByteStream>>) -> Self {
        Self {
            socket,
            rest: Bytes::new(),
        }
    }
}

impl AsyncRead for MessageStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    let what = "a text message in a WebSocket";
                    return Poll::Ready(Err(io::Error::other(LinkError::Malformed { what })));
                }
                // Answering a ping, and a close, is the socket's own business.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MessageStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(stream_error)?;
        let len = bytes.len().min(limits::WEBSOCKET_MESSAGE_BYTES_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..len]));
        socket.start_send(message).map_err(stream_error)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        flushed.map_err(stream_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.socket).poll_close(cx);
        closed.map_err(stream_error)
    }
}

/// An error of a socket as one of a stream, which may hold what it means for the link.
fn stream_error(error: Error) -> io::Error {
    let error = match error {
        Error::Io(error) => return error,
        Error::ConnectionClosed | Error::AlreadyClosed => {
            return io::ErrorKind::BrokenPipe.into();
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            return io::ErrorKind::UnexpectedEof.into();
        }
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            LinkError::FrameTooLarge {
                claimed: size as u64,
                limit: max_size as u64,
            }
        }
        _ => LinkError::Malformed {
            what: "bytes that are no WebSocket frames",
        },
    };
    io::Error::other(error)
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream").finish_non_exhaustive()
    }
}

//! Links by way of an HTTP port.

use std::{net::SocketAddr, time::Duration};

use idem_model::limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{
            machine::TryParse,
            server::{Request, create_response, write_response},
        },
        protocol,
    },
};

use super::{
    WEBSOCKET_PATH,
    stream::{MessageStream, socket_config},
};
use crate::{
    error::LinkError,
    handshake::{ByteStream, Role, link_over},
    identity::LinkCredentials,
    link::{Link, LinkKind},
    tcp::{TcpIncoming, TcpLinkListener, local_address},
    tls::{TlsCertificate, begin_as_server},
};

/// What a browser that is pointed at the port shows.
const GREETING: &str = "An Idem peer. Other peers link with it by WebSocket.\n";

/// How long an answer waits for the other side to read it. A socket that is closed while unread bytes
/// are there resets the connection and may take the answer with it.
const ANSWER_LINGER: Duration = Duration::from_millis(500);

/// Waits for peers that dial by WebSocket, and answers other requests.
///
/// Any web page that a browser in reach shows may connect, and gets no further than a stranger does:
/// a link begins with a handshake that needs the shared key.
#[derive(Debug)]
pub struct HttpLinkListener {
    listener: TcpLinkListener,
    certificate: Option<TlsCertificate>,
}

impl HttpLinkListener {
    /// As [`TcpLinkListener::bind`].
    ///
    /// # Errors
    /// [`LinkError::Listen`].
    pub async fn bind(address: &str) -> Result<Self, LinkError> {
        let listener = TcpLinkListener::bind(address).await?;
        Ok(Self {
            listener,
            certificate: None,
        })
    }

    /// As [`TcpLinkListener::bind_now`].
    ///
    /// # Errors
    /// [`LinkError::Listen`].
    pub fn bind_now(address: &str) -> Result<Self, LinkError> {
        let listener = TcpLinkListener::bind_now(address)?;
        Ok(Self {
            listener,
            certificate: None,
        })
    }

    /// Has whoever connects begin TLS first.
    #[must_use]
    pub fn with_tls(mut self, certificate: TlsCertificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Whether whoever connects has to begin TLS first.
    pub fn is_tls(&self) -> bool {
        self.certificate.is_some()
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// As [`TcpLinkListener::accept`].
    ///
    /// # Errors
    /// As [`TcpLinkListener::accept`].
    pub async fn accept(&self) -> Result<HttpIncoming, LinkError> {
        let incoming = self.listener.accept().await?;
        Ok(HttpIncoming {
            incoming,
            certificate: self.certificate.clone(),
        })
    }
}

/// Somebody connected, and has not said yet what it wants.
#[derive(Debug)]
pub struct HttpIncoming {
    incoming: TcpIncoming,
    certificate: Option<TlsCertificate>,
}

impl HttpIncoming {
    /// Where it came from. Behind a proxy that is the proxy.
    pub fn address(&self) -> SocketAddr {
        self.incoming.address()
    }

    /// Makes it a link, or gives `None` if it was another HTTP request, which is answered then.
    ///
    /// # Errors
    /// [`LinkError::TlsFailed`] if TLS does not begin where it has to,
    /// [`LinkError::NotAPeer`] if it is no HTTP request, [`LinkError::HandshakeTimedOut`] if it was not
    /// there within [`limits::LINK_HANDSHAKE_TIMEOUT_MS`], else as [`link_over`].
    pub async fn handshake(self, credentials: &LinkCredentials) -> Result<Option<Link>, LinkError> {
        let (stream, address, _permit) = self.incoming.into_parts();
        stream.set_nodelay(true)?;
        let here = local_address(&stream);
        let limit = Duration::from_millis(limits::LINK_HANDSHAKE_TIMEOUT_MS);
        let answered = timeout(limit, async {
            let mut stream: Box<dyn ByteStream> = match &self.certificate {
                Some(certificate) => begin_as_server(stream, certificate).await?,
                None => Box::new(stream),
            };
            let upgraded = answer(&mut stream).await?;
            Ok::<_, LinkError>((stream, upgraded))
        });
        let (mut stream, upgraded) = answered.await.map_err(|_| LinkError::HandshakeTimedOut)??;
        let Some(rest) = upgraded else {
            linger(&mut stream).await;
            return Ok(None);
        };
        let role = protocol::Role::Server;
        let socket =
            WebSocketStream::from_partially_read(stream, rest, role, Some(socket_config())).await;
        let stream = Box::new(MessageStream::new(socket));
        let kind = LinkKind::WebSocket;
        let link = link_over(stream, Role::Responder, kind, Some(address), credentials).await?;
        Ok(Some(link.at_local(here)))
    }
}

/// Reads a request and answers it. Gives what was read behind a request for a link.
async fn answer(stream: &mut Box<dyn ByteStream>) -> Result<Option<Vec<u8>>, LinkError> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        let room = limits::HTTP_HEAD_BYTES_MAX - head.len();
        if room == 0 {
            respond(stream, "431 Request Header Fields Too Large", "", "").await?;
            return Ok(None);
        }
        let read = (&mut *stream).take(room as u64).read_buf(&mut head).await?;
        // Whoever speaks something else may send less than a head and wait.
        if head
            .iter()
            .take(8)
            .any(|byte| !byte.is_ascii_graphic() && *byte != b' ')
        {
            return Err(LinkError::NotAPeer);
        }
        if read == 0 {
            return Err(LinkError::Lost { source: None });
        }
    };
    let Some((method, path)) = request_line(&head) else {
        respond(stream, "400 Bad Request", "", "").await?;
        return Ok(None);
    };
    let (status, fields, body) = match (method, path) {
        ("GET", WEBSOCKET_PATH) => match upgrade(&head[..end]) {
            Some(response) => {
                stream.write_all(&response).await?;
                return Ok(Some(head.split_off(end)));
            }
            None => {
                let fields = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
                ("426 Upgrade Required", fields, "")
            }
        },
        ("GET", "/") => ("200 OK", "", GREETING),
        ("HEAD", "/") => ("200 OK", "", ""),
        (_, "/" | WEBSOCKET_PATH) => ("405 Method Not Allowed", "Allow: GET\r\n", ""),
        _ => ("404 Not Found", "", ""),
    };
    respond(stream, status, fields, body).await?;
    Ok(None)
}

/// Method and path of a request. Probes of proxies speak HTTP/1.0, which the parser below refuses.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_whole = words.next().is_none() && ["HTTP/1.0", "HTTP/1.1"].contains(&version);
    let path = target.split('?').next()?;
    is_whole.then_some((method, path))
}

/// The answer that opens a WebSocket, if `head` asks for one properly.
fn upgrade(head: &[u8]) -> Option<Vec<u8>> {
    let (_, request) = Request::try_parse(head).ok().flatten()?;
    let response = create_response(&request).ok()?;
    let mut text = Vec::new();
    write_response(&mut text, &response).ok()?;
    Some(text)
}

async fn respond(
    stream: &mut Box<dyn ByteStream>,
    status: &str,
    fields: &str,
    body: &str,
) -> Result<(), LinkError> {
    let len = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {len}\r\n{fields}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await?;
    Ok(())
}

async fn linger(stream: &mut Box<dyn ByteStream>) {
    let until_closed = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; 256];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    };
    // Best effort: the request is answered whether or not the other side reads it.
    let _ = timeout(ANSWER_LINGER, until_closed).await;
}

//! QUIC by iroh.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use idem_model::limits;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, SecretKey, Watcher as _,
    endpoint::{Connection, Incoming, IncomingAddr, RecvStream, SendStream, presets},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{InternetAddress, InternetConfig};
use crate::{
    error::{LinkError, Refusal},
    handshake::{Role, link_over},
    identity::{LinkCredentials, LinkIdentity},
    link::{Link, LinkKind},
};

/// The protocol, as both sides name it to each other when they begin.
const PROTOCOL: &[u8] = b"idem/link/1";

/// What the key of an endpoint is derived for. The identity of a peer signs handshakes of links and what is said of
/// presence; no other protocol gets to sign with it.
const KEY_CONTEXT: &str = "idem 2026-11-24 key of an iroh endpoint";

/// How long it may take to find out the addresses of this machine.
const ADDRESSES_WAIT: Duration = Duration::from_secs(2);

/// How long what was written last may take to arrive after a link was dropped.
const LINGER: Duration = Duration::from_secs(2);

/// One end of links over the internet.
#[derive(Debug)]
pub struct InternetEndpoint {
    endpoint: Endpoint,
    relays: Vec<String>,
    pending: Arc<Semaphore>,
}

impl InternetEndpoint {
    /// Opens it. Its key follows from the identity, so that its address stays the same, but for the port if the
    /// system chose that.
    ///
    /// # Errors
    /// [`LinkError::Listen`] if the address cannot be bound, [`LinkError::AddressInvalid`] for what is no URL of
    /// a relay.
    pub async fn bind(identity: &LinkIdentity, config: &InternetConfig) -> Result<Self, LinkError> {
        let secret = blake3::derive_key(KEY_CONTEXT, identity.to_secret().as_ref());
        let relays: Result<Vec<RelayUrl>, _> =
            config.relays.iter().map(|url| relay_url(url)).collect();
        let relays = relays?;
        // "Minimal" is a choice of algorithms, without relays and look-up services.
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&secret))
            .clear_ip_transports()
            .bind_addr(config.bind)
            .map_err(|error| not_bound(config.bind, error))?;
        if !relays.is_empty() {
            builder = builder.relay_mode(RelayMode::custom(relays));
        }
        if config.is_listening {
            builder = builder.alpns(vec![PROTOCOL.to_vec()]);
        }
        let endpoint = builder.bind().await;
        let endpoint = endpoint.map_err(|error| not_bound(config.bind, error))?;
        if config.is_listening && config.bind.ip().is_unspecified() {
            // Without one it works as well, but nobody can be told where it is.
            let _ = timeout(ADDRESSES_WAIT, has_addresses(&endpoint)).await;
        }
        Ok(Self {
            endpoint,
            relays: config.relays.clone(),
            pending: Arc::new(Semaphore::new(limits::LINK_HANDSHAKES_PENDING_MAX)),
        })
    }

    /// Where others reach it, as far as it knows: at the addresses of this machine, and by its relays.
    pub fn address(&self) -> InternetAddress {
        let bound = self.endpoint.bound_sockets();
        let known = self.endpoint.addr();
        let is_named = |socket: &SocketAddr| !socket.ip().is_unspecified();
        let mut sockets: Vec<SocketAddr> = bound.into_iter().filter(is_named).collect();
        for socket in known.ip_addrs() {
            if !sockets.contains(socket) {
                sockets.push(*socket);
            }
        }
        InternetAddress {
            key: *self.endpoint.id().as_bytes(),
            sockets,
            relays: self.relays.clone(),
        }
    }

    /// The next connection, before its handshake. Waits while [`limits::LINK_HANDSHAKES_PENDING_MAX`] handshakes are
    /// under way.
    ///
    /// # Errors
    /// [`LinkError::Closed`] after [`close`](Self::close).
    pub async fn accept(&self) -> Result<InternetIncoming, LinkError> {
        let permit = Arc::clone(&self.pending).acquire_owned().await;
        let permit = permit.map_err(|_| LinkError::Closed)?;
        let incoming = self.endpoint.accept().await.ok_or(LinkError::Closed)?;
        Ok(InternetIncoming {
            incoming,
            _permit: permit,
        })
    }

    /// Dials a peer: at its socket addresses, and by relays where it has some.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] if it does not answer, else as [`link_over`].
    pub async fn connect(
        &self,
        to: &InternetAddress,
        credentials: &LinkCredentials,
    ) -> Result<Link, LinkError> {
        let invalid = |what| LinkError::AddressInvalid {
            address: to.to_string(),
            what,
        };
        let id = EndpointId::from_bytes(&to.key).map_err(|_| invalid("its key is none"))?;
        if id == self.endpoint.id() {
            return Err(LinkError::refuse(Refusal::SelfLink));
        }
        let mut address = EndpointAddr::new(id);
        for socket in &to.sockets {
            address = address.with_ip_addr(*socket);
        }
        for relay in &to.relays {
            address = address.with_relay_url(relay_url(relay)?);
        }
        let unreachable = |source: io::Error| LinkError::Unreachable {
            address: to.to_string(),
            source,
        };
        let limit = Duration::from_millis(limits::LINK_HANDSHAKE_TIMEOUT_MS);
        let begun = timeout(limit, async {
            let connection = self.endpoint.connect(address, PROTOCOL).await;
            let connection = connection.map_err(|e| io::Error::other(e.to_string()))?;
            let streams = connection.open_bi().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(QuicStream::new(connection, streams))
        });
        let stream = begun
            .await
            .map_err(|elapsed| unreachable(elapsed.into()))?
            .map_err(unreachable)?;
        let (role, kind) = (Role::Initiator, LinkKind::Internet);
        link_over(Box::new(stream), role, kind, None, credentials).await
    }

    /// Ends it and its links, whose other sides hear of it.
    pub async fn close(&self) {
        self.pending.close();
        self.endpoint.close().await;
    }
}

/// Waits until the endpoint knows an address of this machine.
async fn has_addresses(endpoint: &Endpoint) {
    let mut known = endpoint.watch_addr();
    while known.get().is_empty() && known.updated().await.is_ok() {}
}

/// Somebody connected, and has not said yet who it is.
#[derive(Debug)]
pub struct InternetIncoming {
    incoming: Incoming,
    _permit: OwnedSemaphorePermit,
}

impl InternetIncoming {
    /// Where it came from.
    pub fn address(&self) -> String {
        match self.incoming.remote_addr() {
            IncomingAddr::Ip(address) => address.to_string(),
            IncomingAddr::Relay { url, .. } => format!("by {url}"),
            _ => "elsewhere".to_owned(),
        }
    }

    /// Makes it a link.
    ///
    /// # Errors
    /// [`LinkError::HandshakeTimedOut`] if it does not begin one in time, else as [`link_over`].
    pub async fn handshake(self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        let address = match self.incoming.remote_addr() {
            IncomingAddr::Ip(address) => Some(address),
            _ => None,
        };
        let limit = Duration::from_millis(limits::LINK_HANDSHAKE_TIMEOUT_MS);
        let begun = timeout(limit, async {
            let connection = self.incoming.await;
            let connection = connection.map_err(|e| io::Error::other(e.to_string()))?;
            let streams = connection.accept_bi().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(QuicStream::new(connection, streams))
        });
        let stream = begun.await.map_err(|_| LinkError::HandshakeTimedOut)??;
        let (role, kind) = (Role::Responder, LinkKind::Internet);
        link_over(Box::new(stream), role, kind, address, credentials).await
    }
}

fn relay_url(text: &str) -> Result<RelayUrl, LinkError> {
    text.parse().map_err(|_| LinkError::AddressInvalid {
        address: text.to_owned(),
        what: "it is no URL of a relay",
    })
}

fn not_bound(address: SocketAddr, error: impl fmt::Display) -> LinkError {
    LinkError::Listen {
        address: address.to_string(),
        source: io::Error::other(format!("{error:#}")),
    }
}

/// A bidirectional stream as one of bytes, which takes its connection along.
struct QuicStream {
    parts: Option<(Connection, SendStream, RecvStream)>,
}

impl QuicStream {
    fn new(connection: Connection, (send, recv): (SendStream, RecvStream)) -> Self {
        Self {
            parts: Some((connection, send, recv)),
        }
    }

    fn parts(&mut self) -> &mut (Connection, SendStream, RecvStream) {
        self.parts
            .as_mut()
            .expect("they are taken when it is dropped")
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.parts().2), cx, buffer)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.parts().1), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.parts().1), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.parts().1), cx)
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        let Some((connection, mut send, _recv)) = self.parts.take() else {
            return;
        };
        // A connection that goes takes along what has not arrived: a goodbye, or why this side refused.
        let arrive = async move {
            // It fails if it was finished before, or the connection is gone; either way nothing is left to do.
            let _ = send.finish();
            let _ = timeout(LINGER, send.stopped()).await;
            connection.close(0u8.into(), b"");
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(arrive);
        }
    }
}

impl fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(relays: &[&str]) -> InternetConfig {
        InternetConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            relays: relays.iter().map(|url| (*url).to_owned()).collect(),
            is_listening: true,
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_unless_the_app_names_somebody() {
        let identity = LinkIdentity::from_secret(&[1; 32]);
        let alone = InternetEndpoint::bind(&identity, &config(&[]))
            .await
            .unwrap();
        let lookup = alone.endpoint.address_lookup().unwrap();
        assert!(lookup.is_empty());
        assert_eq!(alone.endpoint.addr().relay_urls().count(), 0);
        let relays = alone.endpoint.home_relay_status().get();
        assert!(relays.is_empty());
        alone.close().await;
    }

    #[tokio::test]
    async fn the_key_is_derived_and_is_not_the_one_of_the_peer() {
        let identity = LinkIdentity::from_secret(&[1; 32]);
        let first = InternetEndpoint::bind(&identity, &config(&[]))
            .await
            .unwrap();
        let again = InternetEndpoint::bind(&identity, &config(&[]))
            .await
            .unwrap();
        let (at, then) = (first.address(), again.address());
        assert_eq!(at.key, then.key);
        assert_ne!(at.key, identity.peer_id().0);
        assert_ne!(at.sockets(), then.sockets());
        first.close().await;
        again.close().await;
    }
}

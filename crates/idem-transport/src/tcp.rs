//! Links over TCP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use idem_model::limits;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    error::LinkError,
    handshake::{Role, link_over},
    identity::LinkCredentials,
    link::{Link, LinkKind},
};

/// How long an address has before the next one of the same peer is tried as well. On a LAN an answer
/// takes a few milliseconds.
const CONNECT_STAGGER: Duration = Duration::from_millis(150);

/// Waits for peers that dial.
#[derive(Debug)]
pub struct TcpLinkListener {
    listener: TcpListener,
    address: SocketAddr,
    pending: Arc<Semaphore>,
}

impl TcpLinkListener {
    /// Binds `address` (`host:port`; port 0 lets the system choose), resolving a name if it has one.
    ///
    /// # Errors
    /// [`LinkError::Listen`].
    pub async fn bind(address: &str) -> Result<Self, LinkError> {
        Self::listening(TcpListener::bind(address).await, address)
    }

    /// As [`bind`](Self::bind), on the calling thread, which must have entered a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Listen`].
    pub fn bind_now(address: &str) -> Result<Self, LinkError> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        Self::listening(bound, address)
    }

    fn listening(bound: std::io::Result<TcpListener>, address: &str) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Listen {
            address: address.to_owned(),
            source,
        };
        let listener = bound.map_err(failed)?;
        Ok(Self {
            address: listener.local_addr().map_err(failed)?,
            listener,
            pending: Arc::new(Semaphore::new(limits::LINK_HANDSHAKES_PENDING_MAX)),
        })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, before its handshake. Waits while
    /// [`limits::LINK_HANDSHAKES_PENDING_MAX`] handshakes are under way; the system's backlog holds
    /// the rest.
    ///
    /// # Errors
    /// [`LinkError::Lost`] if the system fails to accept; worth another try after a pause.
    pub async fn accept(&self) -> Result<TcpIncoming, LinkError> {
        let permit = Arc::clone(&self.pending)
            .acquire_owned()
            .await
            .map_err(|_| LinkError::Closed)?;
        let (stream, address) = self.listener.accept().await?;
        Ok(TcpIncoming {
            stream,
            address: canonical(address),
            _permit: permit,
        })
    }
}

/// Somebody connected, and has not said yet who it is.
#[derive(Debug)]
pub struct TcpIncoming {
    stream: TcpStream,
    address: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

impl TcpIncoming {
    /// Where it came from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes it a link.
    ///
    /// # Errors
    /// As [`link_over`].
    pub async fn handshake(self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        link_tcp(self.stream, self.address, Role::Responder, credentials).await
    }

    /// The bare connection, and what counts it as one that has not proved itself while it is kept.
    #[cfg(feature = "websocket")]
    pub(crate) fn into_parts(self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        (self.stream, self.address, self._permit)
    }
}

/// Dials `address` (`host:port`).
///
/// # Errors
/// [`LinkError::Unreachable`] if nobody answers, else as [`link_over`].
pub async fn tcp_connect(address: &str, credentials: &LinkCredentials) -> Result<Link, LinkError> {
    let (stream, remote) = connect(address).await?;
    link_tcp(stream, remote, Role::Initiator, credentials).await
}

/// Dials one peer that may have several `addresses`, each a moment after the one before it, and takes the
/// first that connects.
///
/// # Errors
/// [`LinkError::Unreachable`] with the first failure if nobody answers at any of them, else as
/// [`link_over`].
pub async fn tcp_connect_any(
    addresses: &[SocketAddr],
    credentials: &LinkCredentials,
) -> Result<Link, LinkError> {
    let mut attempts = JoinSet::new();
    for (at, address) in (0u32..).zip(addresses) {
        let address = *address;
        attempts.spawn(async move {
            sleep(CONNECT_STAGGER * at).await;
            (at, connect(&address.to_string()).await)
        });
    }
    let mut failure = None;
    while let Some(attempt) = attempts.join_next().await {
        // Those that are not needed any more end with the set.
        match attempt {
            Ok((_, Ok((stream, remote)))) => {
                return link_tcp(stream, remote, Role::Initiator, credentials).await;
            }
            Ok((0, Err(error))) => failure = Some(error),
            Ok((_, Err(error))) => failure = failure.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(failure.unwrap_or(LinkError::Closed))
}

/// Connects to `address` (`host:port`), and gives where that is.
pub(crate) async fn connect(address: &str) -> Result<(TcpStream, SocketAddr), LinkError> {
    let unreachable = |source| LinkError::Unreachable {
        address: address.to_owned(),
        source,
    };
    let limit = Duration::from_millis(limits::LINK_HANDSHAKE_TIMEOUT_MS);
    let stream = timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|elapsed| unreachable(elapsed.into()))?
        .map_err(unreachable)?;
    let remote = stream.peer_addr().map_err(unreachable)?;
    Ok((stream, remote))
}

async fn link_tcp(
    stream: TcpStream,
    address: SocketAddr,
    role: Role,
    credentials: &LinkCredentials,
) -> Result<Link, LinkError> {
    // Frames are batched above; a small change must not wait for an acknowledgement.
    stream.set_nodelay(true)?;
    let here = local_address(&stream);
    let stream = Box::new(stream);
    let link = link_over(stream, role, LinkKind::Tcp, Some(address), credentials).await?;
    Ok(link.at_local(here))
}

/// The address of this side.
pub(crate) fn local_address(stream: &TcpStream) -> Option<SocketAddr> {
    stream.local_addr().ok().map(canonical)
}

/// An IPv4 address as such, also if a socket for both has it.
fn canonical(mut address: SocketAddr) -> SocketAddr {
    let ip = address.ip().to_canonical();
    if ip != address.ip() {
        address.set_ip(ip);
    }
    address
}

//! What links are made over: ports that take them, and addresses that are dialled.

use std::{fmt, net::SocketAddr};

use idem_transport::{
    HttpIncoming, HttpLinkListener, Link, LinkCredentials, LinkError, TcpIncoming, TcpLinkListener,
    WebSocketUrl, tcp_connect, websocket_connect,
};

/// Where others may connect.
pub(crate) enum Port {
    Tcp(TcpLinkListener),
    Http(HttpLinkListener),
}

/// Somebody connected.
pub(crate) enum Incoming {
    Tcp(TcpIncoming),
    Http(HttpIncoming),
}

/// Whom the app asks to keep a link with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// `host:port`.
    Tcp(String),
    /// A URL that was found to be one.
    WebSocket(String),
}

impl Port {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(listener) => listener.address(),
            Self::Http(listener) => listener.address(),
        }
    }

    /// What the medium is called in `system:transports_info`.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Http(_) => "websocket",
        }
    }

    pub(crate) async fn accept(&self) -> Result<Incoming, LinkError> {
        Ok(match self {
            Self::Tcp(listener) => Incoming::Tcp(listener.accept().await?),
            Self::Http(listener) => Incoming::Http(listener.accept().await?),
        })
    }
}

impl Incoming {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Tcp(incoming) => incoming.address(),
            Self::Http(incoming) => incoming.address(),
        }
    }

    /// `None` for somebody who wanted something else, and got it.
    pub(crate) async fn handshake(
        self,
        credentials: &LinkCredentials,
    ) -> Result<Option<Link>, LinkError> {
        match self {
            Self::Tcp(incoming) => incoming.handshake(credentials).await.map(Some),
            Self::Http(incoming) => incoming.handshake(credentials).await,
        }
    }
}

impl Target {
    /// The target that `url` is.
    pub(crate) fn websocket(url: &str) -> Result<Self, LinkError> {
        let url: WebSocketUrl = url.parse()?;
        Ok(Self::WebSocket(url.to_string()))
    }

    /// What the medium is called in `system:transports_info`.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::WebSocket(_) => "websocket",
        }
    }

    pub(crate) async fn connect(&self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        match self {
            Self::Tcp(address) => tcp_connect(address, credentials).await,
            Self::WebSocket(url) => websocket_connect(&url.parse()?, credentials).await,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::WebSocket(url) => f.write_str(url),
        }
    }
}

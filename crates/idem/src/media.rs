//! What links are made over: ports that take them, and addresses that are dialled.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use idem_mesh::Medium;
use idem_transport::{
    BlePlace, HttpIncoming, HttpLinkListener, Link, LinkCredentials, LinkError, TcpIncoming,
    TcpLinkListener, WebSocketUrl, tcp_connect, tcp_connect_any, websocket_connect,
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

/// Where a peer was found.
#[derive(Debug, Clone)]
pub(crate) enum Spot {
    /// On the networks of this machine, the best address first.
    Lan(Vec<SocketAddr>),
    /// In reach of its radio.
    Ble(BlePlace),
}

impl Spot {
    pub(crate) fn medium(&self) -> Medium {
        match self {
            Self::Lan(_) => Medium::Lan,
            Self::Ble(_) => Medium::Ble,
        }
    }

    /// What the medium is called in `system:transports_info`.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Lan(_) => "tcp",
            Self::Ble(_) => "ble",
        }
    }

    pub(crate) async fn connect(&self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        match self {
            Self::Lan(addresses) => tcp_connect_any(addresses, credentials).await,
            Self::Ble(place) => place.connect(credentials).await,
        }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lan(addresses) => match addresses.first() {
                Some(address) => address.fmt(f),
                None => Ok(()),
            },
            Self::Ble(place) => place.address().fmt(f),
        }
    }
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
    ///
    /// What it needs is on the heap until it ends: a task that then keeps the link would hold on to it.
    pub(crate) async fn handshake(
        self,
        credentials: &LinkCredentials,
    ) -> Result<Option<Link>, LinkError> {
        Box::pin(self.shake_hands(credentials)).await
    }

    async fn shake_hands(self, credentials: &LinkCredentials) -> Result<Option<Link>, LinkError> {
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

    /// Where it is, if that needs no look-up.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.parse::<SocketAddr>().ok()?.ip()),
            Self::WebSocket(_) => None,
        }
    }

    pub(crate) async fn connect(&self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        match self {
            Self::Tcp(address) => Box::pin(tcp_connect(address, credentials)).await,
            Self::WebSocket(url) => Box::pin(websocket_connect(&url.parse()?, credentials)).await,
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

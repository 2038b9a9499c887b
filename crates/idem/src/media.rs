//! What links are made over: ports that take them, and addresses that are dialled.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use idem_mesh::Medium;
use idem_transport::{
    BlePlace, HttpIncoming, HttpLinkListener, InternetAddress, Link, LinkCredentials, LinkError,
    TcpIncoming, TcpLinkListener, TlsError, TlsTrust, WebSocketUrl, tcp_connect, tcp_connect_any,
    websocket_connect,
};

use crate::internet::Opened;

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
    /// A URL that was found to be one, and the file of the authorities that certify its server, if that is not
    /// left to the system.
    WebSocket(String, Option<PathBuf>),
    /// An address that was found to be one.
    Internet(String),
}

/// A target, and what it takes to dial it.
#[derive(Debug, Clone)]
pub(crate) struct Dialled {
    pub(crate) target: Target,
    trust: Option<TlsTrust>,
    endpoint: Option<Opened>,
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
    /// The target that `url` is, whose server is certified by an authority of the file `authorities`.
    pub(crate) fn websocket(url: &str, authorities: Option<&PathBuf>) -> Result<Self, LinkError> {
        let url: WebSocketUrl = url.parse()?;
        let authorities = authorities.filter(|_| url.is_tls()).cloned();
        Ok(Self::WebSocket(url.to_string(), authorities))
    }

    /// The target that `address` is.
    pub(crate) fn internet(address: &str) -> Result<Self, LinkError> {
        let address: InternetAddress = address.parse()?;
        Ok(Self::Internet(address.to_string()))
    }

    /// Gets ready what it takes to dial it. What goes over the internet goes by `endpoint`.
    pub(crate) fn prepared(&self, endpoint: Option<Opened>) -> Result<Dialled, TlsError> {
        let trust = match self {
            Self::Tcp(_) | Self::Internet(_) => None,
            Self::WebSocket(_, Some(authorities)) => Some(TlsTrust::of_file(authorities)?),
            Self::WebSocket(url, None) => {
                let is_tls = url.parse().is_ok_and(|url: WebSocketUrl| url.is_tls());
                is_tls.then(TlsTrust::of_system).transpose()?
            }
        };
        Ok(Dialled {
            target: self.clone(),
            trust,
            endpoint,
        })
    }

    /// What the medium is called in `system:transports_info`.
    pub(crate) fn transport(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::WebSocket(..) => "websocket",
            Self::Internet(_) => "internet",
        }
    }

    /// Where it is, if that needs no look-up.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.parse::<SocketAddr>().ok()?.ip()),
            Self::WebSocket(..) => None,
            Self::Internet(address) => {
                let address: InternetAddress = address.parse().ok()?;
                Some(address.sockets().first()?.ip())
            }
        }
    }
}

impl Dialled {
    pub(crate) async fn connect(&self, credentials: &LinkCredentials) -> Result<Link, LinkError> {
        let trust = self.trust.as_ref();
        match &self.target {
            Target::Tcp(address) => Box::pin(tcp_connect(address, credentials)).await,
            Target::WebSocket(url, _) => {
                Box::pin(websocket_connect(&url.parse()?, trust, credentials)).await
            }
            Target::Internet(address) => {
                let mut opened = self.endpoint.clone().ok_or(LinkError::Closed)?;
                let open = opened.wait_for(Option::is_some).await;
                let endpoint = open.map_err(|_| LinkError::Closed)?.clone();
                let endpoint = endpoint.ok_or(LinkError::Closed)?;
                Box::pin(endpoint.connect(&address.parse()?, credentials)).await
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Internet(address) => f.write_str(address),
            Self::WebSocket(url, _) => f.write_str(url),
        }
    }
}

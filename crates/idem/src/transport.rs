//! Which links a peer opens, and what becomes of them.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use idem_model::{PeerId, limits};
use idem_transport::{CertificateFault, LinkError, Refusal, TlsCertificate};

use crate::{
    conditions::Conditions,
    error::{Error, ErrorKind},
};

/// Listeners, addresses and how peers find each other. Default: none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Peers that find each other without addresses.
    pub peer_to_peer: PeerToPeerConfig,
    /// Where others may connect.
    pub listen: ListenConfig,
    /// Whom to connect to.
    pub connect: ConnectConfig,
    /// How links over the internet are made.
    pub internet: InternetConfig,
}

/// Peers that find each other without addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerToPeerConfig {
    /// On the networks that this machine is in.
    pub lan: LanConfig,
    /// In reach of this machine's radio.
    pub bluetooth_le: BluetoothLeConfig,
    /// What this peer does for peers that it is linked with.
    pub relay: RelayConfig,
    /// Whether this peer is a *gateway*: it takes in what others bring it, and is where all data is to end up.
    /// Default: no. A change counts from the next start of sync on.
    ///
    /// What it subscribes to reaches it over up to 14 peers in a row that subscribe to something else, also of peers that
    /// no gateway is near, and what those subscribe to reaches them the same way. So let it subscribe to
    /// every collection that it is to have, in at most 64 subscriptions of 12 KiB together; what it does not subscribe to stays
    /// where it is. Others see it in the graph as [`PeerKind::BigPeer`](crate::PeerKind::BigPeer).
    ///
    /// Each peer in reach of a gateway passes on for it, in a second memory of
    /// [`RelayConfig::cache_bytes`], and goes on for an hour after it has lost the way, for those that it meets. Who has the
    /// shared key can claim to be a gateway: it gets what it could subscribe to in any case, and the true ones get it too.
    pub gateway: bool,
}

/// How a peer relays: it passes on what its neighbours subscribe to and it does not, so that a peer with
/// other interests connects two that have one. What it relays is in no store, query or observer.
///
/// It is no copy that lasts: nobody counts a relay as one that holds a document, and what it held is gone when sync
/// ends. What is relayed is traffic of this peer as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayConfig {
    /// The memory for documents of others, in bytes; none of it is taken before there are some. Default: 64 MiB. 0 relays
    /// nothing; less than 4 MiB counts as 4 MiB. What is relayed may be larger: it passes through. A change counts from the
    /// next start of sync on.
    pub cache_bytes: usize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            cache_bytes: limits::RELAY_CACHE_BYTES,
        }
    }
}

impl RelayConfig {
    /// The memory that it comes to, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self.cache_bytes {
            0 => 0,
            bytes => bytes.max(limits::RELAY_CACHE_BYTES_MIN),
        }
    }
}

/// How peers find each other on the networks that this machine is in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanConfig {
    /// Look for peers of the same database, and be found, with mDNS on all interfaces, IPv4 and IPv6,
    /// also those that come later. Default: no.
    ///
    /// Others are sent to the TCP listener of [`ListenConfig::tcp`], unless that is bound to the
    /// loopback interface. If there is none, one is opened on all interfaces, on a port that the system
    /// chooses. What is said on the network names neither the database nor the peer.
    pub mdns: bool,
    /// How many peers of those that find this one, or that it finds, may be linked with it. More are told that
    /// there is no room. Default: 16, of which it dials 6 itself. From 1 to 1,000; [`ListenConfig::links_max`]
    /// bounds it too. A change counts from the next start of sync on.
    pub links_max: usize,
}

impl Default for LanConfig {
    fn default() -> Self {
        Self {
            mdns: false,
            links_max: limits::MESH_LAN_LINKS_MAX,
        }
    }
}

/// How peers find each other by Bluetooth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BluetoothLeConfig {
    /// Look for peers of the same database, be found and link over Bluetooth Low Energy, without pairing.
    /// Default: no, and [`TransportConfig::enable_all_peer_to_peer`] leaves it so: it has not been used with
    /// a real radio yet.
    ///
    /// A build with the feature `ble` uses BlueZ on Linux; others need
    /// [`IdemConfig::with_bluetooth_backend`](crate::IdemConfig::with_bluetooth_backend). Where there is no
    /// Bluetooth, or it is off, an event says what to do ([`ConditionKind::DiscoveryTroubled`]), it is tried
    /// again every minute, and all else goes on. Links over other media are preferred.
    ///
    /// What is advertised names neither the database nor the peer, but it is the same each day: who listens
    /// at two places can tell that the same peer was there.
    pub enabled: bool,
}

/// How links over the internet are made: QUIC, in a build with the feature `internet`. There are some where
/// [`ListenConfig::internet`] or [`ConnectConfig::internet_peers`] asks for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct InternetConfig {
    /// URLs of relay servers (`https://host[:port]`), by which peers reach each other that cannot connect
    /// directly. Default: none, and then none is used, not even a public one: whoever runs a relay sees who is
    /// linked with whom and how much they say, though not what.
    pub relay_urls: Vec<String>,
}

/// Where peers connect over the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InternetListenConfig {
    /// The address to bind, as `ip:port`, UDP. Port 0 lets the system choose. It has to be reachable for whoever
    /// connects directly.
    pub address: String,
}

/// Where others may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenConfig {
    /// A TCP listener. Default: none.
    pub tcp: Option<TcpListenConfig>,
    /// An HTTP listener. Default: none.
    pub http: Option<HttpListenConfig>,
    /// A listener for QUIC. Default: none. [`Sync::internet_address`](crate::Sync::internet_address) gives what
    /// others name to dial it.
    pub internet: Option<InternetListenConfig>,
    /// How many links this peer has at most, whoever dialled. Others are told that there is no room, and come
    /// again later. Default: 64. From 1 to 1,000: a host that many peers connect to. An idle link takes some
    /// 27 KB of memory and a file descriptor, so the system must allow the process as many.
    pub links_max: usize,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            tcp: None,
            http: None,
            internet: None,
            links_max: limits::LINKS_MAX,
        }
    }
}

/// An HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpListenConfig {
    /// The address to bind, as `host:port`. Port 0 lets the system choose.
    pub address: String,
    /// Whether peers may link by WebSocket, at `/_idem/v1/sync`. Nothing else is served yet, so without
    /// it the listener is not opened. Default: yes.
    pub websocket_sync: bool,
    /// A file with the private key of [`tls_certificate_path`](Self::tls_certificate_path), in PEM form. Default: none.
    pub tls_key_path: Option<PathBuf>,
    /// A file with the certificate of the listener and those between it and an authority, in PEM form: whoever
    /// connects has to begin TLS, as for `wss://`. Default: none, and no TLS, which a proxy in front may add.
    ///
    /// Both files are needed, and a build with the feature `tls`. They are read when the listener is opened: after a
    /// renewal, sync has to be stopped and started. A link needs no TLS to be secret.
    pub tls_certificate_path: Option<PathBuf>,
}

impl HttpListenConfig {
    /// Reads the certificate, if there is one. Gives its files too.
    pub(crate) fn certificate(&self) -> Result<Option<([PathBuf; 2], TlsCertificate)>, Error> {
        let invalid = |message: &str| Error::new(ErrorKind::ValidationConfiguration, message);
        match (&self.tls_certificate_path, &self.tls_key_path) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let read = TlsCertificate::read(certificate, key);
                let read = read.map_err(|error| {
                    invalid("the HTTP listener has no certificate to show").with_source(error)
                })?;
                Ok(Some(([certificate.clone(), key.clone()], read)))
            }
            _ => Err(invalid(
                "an HTTP listener with TLS needs the files of its certificate and of its key",
            )),
        }
    }
}

/// A TCP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpListenConfig {
    /// The address to bind, as `host:port`. Port 0 lets the system choose.
    pub address: String,
}

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectConfig {
    /// Addresses to dial, as `host:port`, and to dial again when the link is lost.
    pub tcp_servers: Vec<String>,
    /// URLs to dial by WebSocket, as `ws://host[:port][/path]`, and to dial again when the link is lost.
    /// The port is 80 and the path `/_idem/v1/sync` where there is none. `wss://`, with 443 for a port, puts TLS
    /// around it, in a build with the feature `tls`: a way through proxies. A link is encrypted all the same.
    pub websocket_urls: Vec<String>,
    /// Addresses to dial over the internet, as [`Sync::internet_address`](crate::Sync::internet_address) of the other
    /// peer gives them: `iroh:KEY@WAY[,WAY..]`, each way an `ip:port` or the URL of a relay server.
    pub internet_peers: Vec<String>,
    /// A file with the certificates, in PEM form, of the authorities that servers of `wss://` have to be certified by,
    /// or of the one server that certifies itself. Default: none, which leaves it to those that the system
    /// trusts. It is read when an address is dialled for the first time.
    pub tls_ca_path: Option<PathBuf>,
    /// The first pause before dialling again. It doubles with each failure, and each pause is shortened at
    /// random by up to a half. Where nobody answers it grows up to 32 times this, where the peer has no room
    /// up to a minute, and where it refuses (another key or database, denied, no peer at all) up to five
    /// minutes. [`Idem::set_transport_config`](crate::Idem::set_transport_config), and a change of this
    /// machine's networks, have every address dialled at once. Default: 250 ms. Minimum: 10 ms.
    pub retry_interval: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            tcp_servers: Vec::new(),
            websocket_urls: Vec::new(),
            internet_peers: Vec::new(),
            tls_ca_path: None,
            retry_interval: Duration::from_millis(250),
        }
    }
}

impl TransportConfig {
    /// No listener, nobody to dial.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for TCP on `address` (`host:port`, port 0 lets the system choose).
    #[must_use]
    pub fn with_tcp_listener(mut self, address: impl Into<String>) -> Self {
        self.listen.tcp = Some(TcpListenConfig {
            address: address.into(),
        });
        self
    }

    /// Listens for WebSockets on `address` (`host:port`, port 0 lets the system choose).
    #[must_use]
    pub fn with_http_listener(mut self, address: impl Into<String>) -> Self {
        self.listen.http = Some(HttpListenConfig {
            address: address.into(),
            websocket_sync: true,
            tls_key_path: None,
            tls_certificate_path: None,
        });
        self
    }

    /// Listens for WebSockets with TLS (`wss://`) on `address`, with the files of a certificate and of its key
    /// ([`HttpListenConfig::tls_certificate_path`]).
    #[must_use]
    pub fn with_https_listener(
        mut self,
        address: impl Into<String>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.listen.http = Some(HttpListenConfig {
            address: address.into(),
            websocket_sync: true,
            tls_key_path: Some(key.into()),
            tls_certificate_path: Some(certificate.into()),
        });
        self
    }

    /// Takes so many links at most ([`ListenConfig::links_max`]).
    #[must_use]
    pub fn with_links_max(mut self, links: usize) -> Self {
        self.listen.links_max = links;
        self
    }

    /// Dials `address` (`host:port`) and keeps dialling.
    #[must_use]
    pub fn with_tcp_server(mut self, address: impl Into<String>) -> Self {
        self.connect.tcp_servers.push(address.into());
        self
    }

    /// Dials `url` (`ws://host[:port][/path]`, or `wss://`) and keeps dialling.
    #[must_use]
    pub fn with_websocket_url(mut self, url: impl Into<String>) -> Self {
        self.connect.websocket_urls.push(url.into());
        self
    }

    /// Listens for QUIC over the internet on `address` (`ip:port`, port 0 lets the system choose).
    #[must_use]
    pub fn with_internet_listener(mut self, address: impl Into<String>) -> Self {
        self.listen.internet = Some(InternetListenConfig {
            address: address.into(),
        });
        self
    }

    /// Dials `address` (`iroh:KEY@WAY[,WAY..]`) and keeps dialling.
    #[must_use]
    pub fn with_internet_peer(mut self, address: impl Into<String>) -> Self {
        self.connect.internet_peers.push(address.into());
        self
    }

    /// Uses the relay server at `url` for links over the internet ([`InternetConfig::relay_urls`]).
    #[must_use]
    pub fn with_relay_url(mut self, url: impl Into<String>) -> Self {
        self.internet.relay_urls.push(url.into());
        self
    }

    /// How the endpoint of links over the internet is to be, if there is to be one.
    pub(crate) fn endpoint(&self) -> Result<Option<idem_transport::InternetConfig>, Error> {
        let invalid = |message| Error::new(ErrorKind::ValidationConfiguration, message);
        let listen = self.listen.internet.as_ref();
        if listen.is_none() && self.connect.internet_peers.is_empty() {
            return Ok(None);
        }
        if cfg!(not(feature = "internet")) {
            let message = "there are no links over the internet in this build; build it with the feature internet";
            return Err(invalid(message.to_owned()));
        }
        let bind = listen.map_or("0.0.0.0:0", |listen| listen.address.as_str());
        let bind = bind
            .parse()
            .map_err(|_| invalid(format!("{bind:?} is no address to bind, as 0.0.0.0:4040")))?;
        Ok(Some(idem_transport::InternetConfig {
            bind,
            relays: self.internet.relay_urls.clone(),
            is_listening: listen.is_some(),
        }))
    }

    /// Has servers of `wss://` be certified by an authority of this file ([`ConnectConfig::tls_ca_path`]).
    #[must_use]
    pub fn with_tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.connect.tls_ca_path = Some(path.into());
        self
    }

    /// Looks for peers in every way that has been tried out: [`LanConfig::mdns`] for now.
    pub fn enable_all_peer_to_peer(&mut self) {
        self.peer_to_peer.lan.mdns = true;
    }

    /// [`enable_all_peer_to_peer`](Self::enable_all_peer_to_peer) as a step of building one.
    ///
    /// ```
    /// let config = idem::TransportConfig::new().with_all_peer_to_peer();
    /// assert!(config.peer_to_peer.lan.mdns);
    /// ```
    #[must_use]
    pub fn with_all_peer_to_peer(mut self) -> Self {
        self.enable_all_peer_to_peer();
        self
    }
}

/// What happened to a link, or to an attempt at one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportCondition {
    /// The event.
    pub kind: ConditionKind,
    /// The other end's address as it was dialled or seen, where there is one.
    pub address: Option<String>,
    /// The other peer, once it proved who it is.
    pub peer: Option<PeerId>,
    /// What happened, as a sentence.
    pub message: String,
    /// How often in a row this happened on this way, this time included. An attempt that fails again and
    /// again for the same reason is told of the first, the 10th, the 100th time, and so on.
    pub count: u64,
}

/// The events of links. [`ConditionKind::code`] is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConditionKind {
    /// A listener is open.
    Listening,
    /// A connection could not be taken, most likely because the system has no file descriptors left.
    NotAccepted,
    /// Peers cannot be found on the networks of this machine for a while.
    DiscoveryTroubled,
    /// A link is up and both sides proved who they are.
    Linked,
    /// A link ended in good order.
    Unlinked,
    /// Nobody answers at the address.
    Unreachable,
    /// The server of a `wss://` URL could not prove that it is the one of the URL; the message says why.
    CertificateInvalid,
    /// TLS did not begin: one side speaks none, or the other one does not accept the certificate of this one.
    TlsFailed,
    /// The other side is not an Idem peer, or its bytes were damaged before the handshake.
    NotAPeer,
    /// No protocol version is spoken by both.
    VersionMismatch,
    /// The other side belongs to another database.
    DatabaseMismatch,
    /// The other side does not hold the same shared key.
    KeyMismatch,
    /// The other side belongs to the same database and asks for something else: certificates, a shared key, both, or a
    /// token for development.
    ModeMismatch,
    /// One side does not take the certificate of the other; the message says which and why.
    NotCertified,
    /// The certificate of one side has ended; the message says whose, and what is known of the clocks.
    CertificateExpired,
    /// An authority took back the certificate of one side.
    Revoked,
    /// This peer and its links are open to whoever has the token for development.
    Insecure,
    /// The other side could not prove its identity.
    IdentityInvalid,
    /// The address leads to this peer itself.
    SelfLink,
    /// The other side refuses: it has no room for one more link.
    Full,
    /// The app of one side refuses the other peer, or did not say in time whether it wants it; the message
    /// says which.
    Denied,
    /// The other side did not answer in time.
    TimedOut,
    /// Bytes of the link were damaged, or are not the protocol.
    ProtocolViolated,
    /// The link broke.
    Lost,
    /// The two sides could not go on with replication; the message says why.
    SyncFailed,
    /// The other side refuses a subscription.
    SubscriptionRefused,
    /// Documents are held back because they come from too far in the future.
    DocumentsHeldBack,
    /// The clocks of the two peers differ by more than a minute.
    ClockSkewed,
    /// Everything that a subscription selects at the other peer is here.
    CaughtUp,
}

impl ConditionKind {
    fn of(error: &LinkError) -> Self {
        match error {
            LinkError::Unreachable { .. }
            | LinkError::Listen { .. }
            | LinkError::AddressInvalid { .. } => Self::Unreachable,
            LinkError::NotAPeer | LinkError::HttpStatus { .. } => Self::NotAPeer,
            LinkError::CertificateInvalid { .. } => Self::CertificateInvalid,
            LinkError::TlsFailed { .. } => Self::TlsFailed,
            LinkError::VersionMismatch { .. } => Self::VersionMismatch,
            LinkError::DatabaseMismatch => Self::DatabaseMismatch,
            LinkError::ModeMismatch { .. } => Self::ModeMismatch,
            LinkError::NotCertified { fault, .. } => Self::of_fault(*fault),
            LinkError::Refused { refusal, .. } => match refusal {
                Refusal::KeyMismatch => Self::KeyMismatch,
                Refusal::Full => Self::Full,
                Refusal::SelfLink => Self::SelfLink,
                Refusal::IdentityInvalid => Self::IdentityInvalid,
                _ => Self::Denied,
            },
            LinkError::HandshakeTimedOut | LinkError::IdleTimedOut => Self::TimedOut,
            LinkError::Tampered | LinkError::FrameTooLarge { .. } | LinkError::Malformed { .. } => {
                Self::ProtocolViolated
            }
            LinkError::Closed => Self::Unlinked,
            _ => Self::Lost,
        }
    }

    pub(crate) fn of_fault(fault: CertificateFault) -> Self {
        match fault {
            CertificateFault::Expired => Self::CertificateExpired,
            CertificateFault::Revoked => Self::Revoked,
            _ => Self::NotCertified,
        }
    }

    /// The stable string of the event.
    pub fn code(self) -> &'static str {
        match self {
            Self::Listening => "link/listening",
            Self::NotAccepted => "link/not-accepted",
            Self::DiscoveryTroubled => "discovery/troubled",
            Self::Linked => "link/up",
            Self::Unlinked => "link/closed",
            Self::Unreachable => "link/unreachable",
            Self::CertificateInvalid => "link/certificate-invalid",
            Self::TlsFailed => "link/tls-failed",
            Self::NotAPeer => "link/not-a-peer",
            Self::VersionMismatch => "link/version-mismatch",
            Self::DatabaseMismatch => "link/database-mismatch",
            Self::KeyMismatch => "link/key-mismatch",
            Self::ModeMismatch => "link/mode-mismatch",
            Self::NotCertified => "link/not-certified",
            Self::CertificateExpired => "link/certificate-expired",
            Self::Revoked => "link/revoked",
            Self::Insecure => "link/insecure",
            Self::IdentityInvalid => "link/identity-invalid",
            Self::SelfLink => "link/self",
            Self::Full => "link/full",
            Self::Denied => "link/denied",
            Self::TimedOut => "link/timed-out",
            Self::ProtocolViolated => "link/protocol-violated",
            Self::Lost => "link/lost",
            Self::SyncFailed => "sync/failed",
            Self::SubscriptionRefused => "sync/subscription-refused",
            Self::DocumentsHeldBack => "sync/documents-held-back",
            Self::ClockSkewed => "sync/clock-skewed",
            Self::CaughtUp => "sync/caught-up",
        }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Receives conditions as long as it lives.
#[derive(Debug)]
#[must_use = "no conditions come once the handle is dropped"]
pub struct TransportObserver {
    conditions: Arc<Conditions>,
    id: u64,
}

impl TransportObserver {
    pub(crate) fn new(conditions: Arc<Conditions>, id: u64) -> Self {
        Self { conditions, id }
    }
}

impl Drop for TransportObserver {
    fn drop(&mut self) {
        self.conditions.forget(self.id);
    }
}

impl TransportCondition {
    pub(crate) fn new(kind: ConditionKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            address: None,
            peer: None,
            message: message.into(),
            count: 1,
        }
    }

    pub(crate) fn at(mut self, address: impl ToString) -> Self {
        self.address = Some(address.to_string());
        self
    }

    pub(crate) fn with(mut self, peer: PeerId) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The event that a failure of a link is.
    pub(crate) fn from_failure(error: &LinkError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(below) = cause {
            message.push_str(": ");
            message.push_str(&below.to_string());
            cause = below.source();
        }
        let mut condition = Self::new(ConditionKind::of(error), message);
        if let LinkError::Refused { peer, .. } | LinkError::NotCertified { peer, .. } = error {
            condition.peer = *peer;
        }
        condition
    }
}

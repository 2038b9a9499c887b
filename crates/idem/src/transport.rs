//! Which links a peer opens, and what becomes of them.

use std::{fmt, time::Duration};

use idem_model::PeerId;

/// Listeners and addresses. Default: none of either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Where others may connect.
    pub listen: ListenConfig,
    /// Whom to connect to.
    pub connect: ConnectConfig,
}

/// Where others may connect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenConfig {
    /// A TCP listener. Default: none.
    pub tcp: Option<TcpListenConfig>,
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
    /// The first pause before dialling again. It doubles with each failure up to 32 times this, and
    /// each pause is shortened at random by up to a half. Default: 250 ms. Minimum: 10 ms.
    pub retry_interval: Duration,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            tcp_servers: Vec::new(),
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

    /// Dials `address` (`host:port`) and keeps dialling.
    #[must_use]
    pub fn with_tcp_server(mut self, address: impl Into<String>) -> Self {
        self.connect.tcp_servers.push(address.into());
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
}

/// The events of links. [`ConditionKind::code`] is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConditionKind {
    /// A listener is open.
    Listening,
    /// A link is up and both sides proved who they are.
    Linked,
    /// A link ended in good order.
    Unlinked,
    /// Nobody answers at the address.
    Unreachable,
    /// The other side is not an Idem peer, or its bytes were damaged before the handshake.
    NotAPeer,
    /// No protocol version is spoken by both.
    VersionMismatch,
    /// The other side belongs to another database.
    DatabaseMismatch,
    /// The other side does not hold the same shared key.
    KeyMismatch,
    /// The other side could not prove its identity.
    IdentityInvalid,
    /// The address leads to this peer itself.
    SelfLink,
    /// The other side refuses: it has no room for one more link.
    Full,
    /// The other side refuses this peer.
    Denied,
    /// The other side did not answer in time.
    TimedOut,
    /// Bytes of the link were damaged, or are not the protocol.
    ProtocolViolated,
    /// The link broke.
    Lost,
    /// The two sides could not agree on the content of a document; it is held back.
    DocumentRefused,
}

impl ConditionKind {
    /// The stable string of the event.
    pub fn code(self) -> &'static str {
        match self {
            Self::Listening => "link/listening",
            Self::Linked => "link/up",
            Self::Unlinked => "link/closed",
            Self::Unreachable => "link/unreachable",
            Self::NotAPeer => "link/not-a-peer",
            Self::VersionMismatch => "link/version-mismatch",
            Self::DatabaseMismatch => "link/database-mismatch",
            Self::KeyMismatch => "link/key-mismatch",
            Self::IdentityInvalid => "link/identity-invalid",
            Self::SelfLink => "link/self",
            Self::Full => "link/full",
            Self::Denied => "link/denied",
            Self::TimedOut => "link/timed-out",
            Self::ProtocolViolated => "link/protocol-violated",
            Self::Lost => "link/lost",
            Self::DocumentRefused => "sync/document-refused",
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
pub struct TransportObserver(());

//! Why a link is not there.

use std::io;

use idem_model::PeerId;

use crate::{
    certified::{CertificateFault, LinkMode},
    preamble::VersionRange,
};

/// Why one side turned the other away. The numbers are part of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The shared keys differ.
    KeyMismatch,
    /// No room for one more link.
    Full,
    /// This peer is not wanted.
    Denied,
    /// The two ends are the same peer.
    SelfLink,
    /// The signature over the handshake does not hold.
    IdentityInvalid,
    /// The app of one side was asked whether it wants the other, and did not answer in time.
    Unanswered,
    /// The app of one side was asked whether it wants the other, and failed.
    Undecided,
}

impl Refusal {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::KeyMismatch => 1,
            Self::Full => 2,
            Self::Denied => 3,
            Self::SelfLink => 4,
            Self::IdentityInvalid => 5,
            Self::Unanswered => 6,
            Self::Undecided => 7,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::KeyMismatch,
            2 => Self::Full,
            3 => Self::Denied,
            4 => Self::SelfLink,
            5 => Self::IdentityInvalid,
            6 => Self::Unanswered,
            7 => Self::Undecided,
            _ => return None,
        })
    }
}

/// Why a link could not be made, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody answers at the address.
    #[error("nobody answers at {address}")]
    Unreachable {
        /// As it was dialled.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The text is no address that can be dialled.
    #[error("{address:?} cannot be dialled: {what}")]
    AddressInvalid {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A web server answers, but opens no link.
    #[error("a web server answers with status {status} and opens no link")]
    HttpStatus {
        /// The status of its answer.
        status: u16,
    },
    /// The server that was dialled could not prove that it is the one of the URL.
    #[error("the certificate of {host} is not accepted: {what}")]
    CertificateInvalid {
        /// The name in the URL.
        host: String,
        /// What is wrong with the certificate.
        what: String,
    },
    /// TLS did not come about.
    #[error("TLS could not begin: {what}")]
    TlsFailed {
        /// Why.
        what: String,
    },
    /// The other side speaks something else.
    #[error("the other side is not an idem peer")]
    NotAPeer,
    /// The two sides have no protocol version in common.
    #[error("the other side speaks protocol versions {theirs}, this side {ours}")]
    VersionMismatch {
        /// Of this side.
        ours: VersionRange,
        /// Of the other side.
        theirs: VersionRange,
    },
    /// The other side belongs to another database.
    #[error("the other side belongs to another database")]
    DatabaseMismatch,
    /// The other side belongs to the same database, and asks for something else than this one.
    #[error("the other side asks for {theirs}, and this side for {ours}")]
    ModeMismatch {
        /// What this side asks for.
        ours: LinkMode,
        /// What the other side asks for.
        theirs: LinkMode,
    },
    /// One side does not take the certificate of the other.
    #[error("{words}")]
    NotCertified {
        /// Why.
        fault: CertificateFault,
        /// Whether the other side refused.
        by_remote: bool,
        /// Who the other side is, if it has proved that before.
        peer: Option<PeerId>,
        /// Why, as far as this side knows.
        words: String,
    },
    /// The other side turned this one away, or this one the other.
    #[error("{}", match .refusal {
        Refusal::KeyMismatch => "the shared keys of the two sides differ",
        Refusal::Full => "no room for one more link",
        Refusal::Denied if *.by_remote => "the app of the other side does not want this peer",
        Refusal::Denied => "the app does not want the peer",
        Refusal::SelfLink => "the address leads to this peer itself",
        Refusal::IdentityInvalid => "the identity of a side could not be proved",
        Refusal::Unanswered if *.by_remote => "the app of the other side did not say in time whether it wants this peer",
        Refusal::Unanswered => "the app did not say in time whether it wants the peer",
        Refusal::Undecided if *.by_remote => "the app of the other side failed to say whether it wants this peer",
        Refusal::Undecided => "the app panicked when it was asked whether it wants the peer",
    })]
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether the other side refused (then it is what it says; nobody signed it).
        by_remote: bool,
        /// Who the other side is, if it has proved that before.
        peer: Option<PeerId>,
    },
    /// The handshake took too long.
    #[error("the handshake was not finished in time")]
    HandshakeTimedOut,
    /// Nothing was heard for too long.
    #[error("nothing was heard from the other side for too long")]
    IdleTimedOut,
    /// Bytes are not what the other side encrypted.
    #[error("bytes of the link were altered on the way")]
    Tampered,
    /// A frame claims more than the limit.
    #[error("a frame claims {claimed} bytes, the limit is {limit}")]
    FrameTooLarge {
        /// What it claims.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The bytes are authentic but not the protocol.
    #[error("the other side broke the protocol: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The stream broke or ended without a goodbye.
    #[error("the link was lost")]
    Lost {
        /// What the system says, if it says anything.
        source: Option<io::Error>,
    },
    /// This side closed the link.
    #[error("the link is closed")]
    Closed,
}

impl LinkError {
    /// A stable name of the failure.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Listen { .. } => "listen",
            Self::AddressInvalid { .. } => "address-invalid",
            Self::HttpStatus { .. } => "http-status",
            Self::CertificateInvalid { .. } => "certificate-invalid",
            Self::TlsFailed { .. } => "tls-failed",
            Self::NotAPeer => "not-a-peer",
            Self::VersionMismatch { .. } => "version-mismatch",
            Self::DatabaseMismatch => "database-mismatch",
            Self::ModeMismatch { .. } => "mode-mismatch",
            Self::NotCertified { fault, .. } => fault.reason(),
            Self::Refused { refusal, .. } => match refusal {
                Refusal::KeyMismatch => "key-mismatch",
                Refusal::Full => "full",
                Refusal::Denied => "denied",
                Refusal::SelfLink => "self-link",
                Refusal::IdentityInvalid => "identity-invalid",
                Refusal::Unanswered => "unanswered",
                Refusal::Undecided => "undecided",
            },
            Self::HandshakeTimedOut => "handshake-timed-out",
            Self::IdleTimedOut => "idle-timed-out",
            Self::Tampered => "tampered",
            Self::FrameTooLarge { .. } => "frame-too-large",
            Self::Malformed { .. } => "malformed",
            Self::Lost { .. } => "lost",
            Self::Closed => "closed",
        }
    }

    pub(crate) fn refuse(refusal: Refusal) -> Self {
        Self::Refused {
            refusal,
            by_remote: false,
            peer: None,
        }
    }

    /// This side turns away somebody who has proved to be `peer`.
    pub(crate) fn turn_away(peer: PeerId, refusal: Refusal) -> Self {
        Self::Refused {
            refusal,
            by_remote: false,
            peer: Some(peer),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(source: io::Error) -> Self {
        // A stream that knows better than the system why it ended says so inside the error.
        source.downcast().unwrap_or_else(|source| Self::Lost {
            source: (source.kind() != io::ErrorKind::UnexpectedEof).then_some(source),
        })
    }
}

/// Why a frame was not queued.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// The lane's queue is full; the frame comes back.
    #[error("the queue of the lane is full")]
    Full(Vec<u8>),
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
}

//! Whether a certificate counts, and if not why, in words and figures.

use std::fmt;

use idem_model::{DatabaseId, PeerId};

use crate::{clock::in_words, signed::AuthorityKey};

/// What a peer thinks of a certificate at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It counts, until this Unix millisecond at most.
    Holds {
        /// The end of the certificate or of the trust in its issuer, without grace.
        until_ms: u64,
        /// By how much it is beyond that already, and is spared because clocks differ.
        in_grace_ms: Option<u64>,
    },
    /// It does not.
    Refused(Refused),
}

impl Verdict {
    /// Whether the certificate counts.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Holds { .. })
    }
}

/// Why a certificate does not count.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// It is for another database.
    OtherDatabase {
        /// This database.
        ours: DatabaseId,
        /// The one that it names.
        theirs: DatabaseId,
    },
    /// Somebody shows the certificate of somebody else.
    OtherSubject {
        /// Whom it is about.
        subject: PeerId,
        /// Who shows it.
        shown_by: PeerId,
    },
    /// No authority signed it.
    UnknownAuthority {
        /// The key.
        issuer: AuthorityKey,
    },
    /// Who signed it is no authority any more.
    RemovedAuthority {
        /// The key.
        issuer: AuthorityKey,
    },
    /// It was signed when its issuer was not trusted yet, or not any more, as it says itself.
    IssuedOutsideTrust {
        /// The key.
        issuer: AuthorityKey,
    },
    /// The signature is wrong: somebody changed it, or made it up.
    Signature,
    /// It is over.
    Expired {
        /// Since how many milliseconds.
        ago_ms: u64,
        /// Whether that is because the trust in its issuer ended, and not the certificate.
        by_authority: bool,
        /// What is known of the clock.
        clock: ClockNote,
    },
    /// It has not begun.
    NotYetValid {
        /// In how many milliseconds it does.
        in_ms: u64,
        /// What is known of the clock.
        clock: ClockNote,
    },
    /// An authority took it back.
    Revoked(RevokedBy),
}

/// What of a certificate is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RevokedBy {
    /// The peer.
    Peer,
    /// The user.
    User,
    /// This certificate alone.
    Serial,
}

/// How the clock of this peer stands to the latest time that an authority signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockNote {
    /// No authority signed a time that this peer has seen.
    Unknown,
    /// The clock is behind it by so much, and so wrong; the signed time counts.
    BehindMs(u64),
    /// The clock is ahead of it by so much, and may be right or wrong.
    AheadMs(u64),
}

impl fmt::Display for ClockNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("; no signed time is known here to compare this clock with")
            }
            Self::BehindMs(ms) => {
                write!(
                    f,
                    "; this clock is {} behind the latest signed time",
                    in_words(*ms)
                )
            }
            Self::AheadMs(ms) => {
                write!(
                    f,
                    "; this clock is {} ahead of the latest signed time",
                    in_words(*ms)
                )
            }
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherDatabase { ours, theirs } => {
                write!(
                    f,
                    "its certificate is for database {theirs}, and this one is {ours}"
                )
            }
            Self::OtherSubject { subject, shown_by } => {
                write!(f, "it is {shown_by} and shows the certificate of {subject}")
            }
            Self::UnknownAuthority { issuer } => {
                write!(
                    f,
                    "its certificate is signed by {issuer}, which this database does not trust"
                )
            }
            Self::RemovedAuthority { issuer } => {
                write!(
                    f,
                    "its certificate is signed by {issuer}, which this database trusts no more"
                )
            }
            Self::IssuedOutsideTrust { issuer } => write!(
                f,
                "its certificate was signed at a time at which this database does not trust {issuer}"
            ),
            Self::Signature => f.write_str("the signature of its certificate is wrong"),
            Self::Expired {
                ago_ms,
                by_authority: false,
                clock,
            } => write!(
                f,
                "its certificate expired {} ago{clock}",
                in_words(*ago_ms)
            ),
            Self::Expired { ago_ms, clock, .. } => write!(
                f,
                "the trust in the authority of its certificate ended {} ago{clock}",
                in_words(*ago_ms)
            ),
            Self::NotYetValid { in_ms, clock } => {
                write!(
                    f,
                    "its certificate is not valid before {} from now{clock}",
                    in_words(*in_ms)
                )
            }
            Self::Revoked(RevokedBy::Peer) => {
                f.write_str("an authority revoked the certificates of that peer")
            }
            Self::Revoked(RevokedBy::User) => {
                f.write_str("an authority revoked the certificates of its user")
            }
            Self::Revoked(RevokedBy::Serial) => f.write_str("an authority revoked its certificate"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds {
                in_grace_ms: None, ..
            } => f.write_str("its certificate holds"),
            Self::Holds {
                in_grace_ms: Some(ms),
                ..
            } => write!(
                f,
                "its certificate expired {} ago and still counts, since clocks differ",
                in_words(*ms)
            ),
            Self::Refused(reason) => reason.fmt(f),
        }
    }
}

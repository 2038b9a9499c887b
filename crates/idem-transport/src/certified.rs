//! What opens a link beside the proof of who is there: a key that all share, certificates, or a token for development.

use std::fmt;

use idem_model::PeerId;

/// What peers of a database show each other. Two peers meet in the same mode only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkMode {
    /// All hold one key.
    SharedKey,
    /// Each shows a certificate.
    Certificates,
    /// Each shows a certificate, and all hold one key.
    CertificatesAndKey,
    /// All know one token: for playgrounds.
    Development,
}

impl LinkMode {
    pub(crate) const ALL: [Self; 4] = [
        Self::SharedKey,
        Self::Certificates,
        Self::CertificatesAndKey,
        Self::Development,
    ];

    /// The context of the key of the tag in a preamble, and that of the pre-shared key.
    pub(crate) fn contexts(self) -> (&'static str, &'static str) {
        match self {
            Self::SharedKey => (
                "idem 2026 link database tag",
                "idem 2026 link pre-shared key",
            ),
            Self::Certificates => (
                "idem 2026 link database tag, certificates",
                "idem 2026 link pre-shared key, certificates",
            ),
            Self::CertificatesAndKey => (
                "idem 2026 link database tag, certificates and key",
                "idem 2026 link pre-shared key, certificates and key",
            ),
            Self::Development => (
                "idem 2026 link database tag, development",
                "idem 2026 link pre-shared key, development",
            ),
        }
    }

    /// Whether certificates are shown.
    pub fn has_certificates(self) -> bool {
        matches!(self, Self::Certificates | Self::CertificatesAndKey)
    }
}

impl fmt::Display for LinkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedKey => "a shared key",
            Self::Certificates => "certificates",
            Self::CertificatesAndKey => "certificates and a shared key",
            Self::Development => "a development token",
        })
    }
}

/// Why a certificate opens no link, as its holder may know it. The numbers are part of the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateFault {
    /// There is none.
    Missing,
    /// Its bytes are none.
    Unreadable,
    /// It is for another database.
    OtherDatabase,
    /// It is about another peer.
    OtherSubject,
    /// Nobody that the database trusts signed it.
    UnknownAuthority,
    /// Who signed it is trusted no more.
    RemovedAuthority,
    /// It was signed at a time at which its authority was not trusted.
    IssuedOutsideTrust,
    /// Its signature is wrong.
    Signature,
    /// It is over.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It was taken back.
    Revoked,
    /// It grants less than the other side can keep to.
    GrantsUnsupported,
}

impl CertificateFault {
    const ALL: [Self; 12] = [
        Self::Missing,
        Self::Unreadable,
        Self::OtherDatabase,
        Self::OtherSubject,
        Self::UnknownAuthority,
        Self::RemovedAuthority,
        Self::IssuedOutsideTrust,
        Self::Signature,
        Self::Expired,
        Self::NotYetValid,
        Self::Revoked,
        Self::GrantsUnsupported,
    ];

    fn to_byte(self) -> u8 {
        match self {
            Self::Missing => 1,
            Self::Unreadable => 2,
            Self::OtherDatabase => 3,
            Self::OtherSubject => 4,
            Self::UnknownAuthority => 5,
            Self::RemovedAuthority => 6,
            Self::IssuedOutsideTrust => 7,
            Self::Signature => 8,
            Self::Expired => 9,
            Self::NotYetValid => 10,
            Self::Revoked => 11,
            Self::GrantsUnsupported => 12,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.to_byte() == byte)
    }

    /// A stable name.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "certificate-missing",
            Self::Unreadable => "certificate-unreadable",
            Self::OtherDatabase => "certificate-other-database",
            Self::OtherSubject => "certificate-other-peer",
            Self::UnknownAuthority => "certificate-unknown-authority",
            Self::RemovedAuthority => "certificate-removed-authority",
            Self::IssuedOutsideTrust => "certificate-issued-outside-trust",
            Self::Signature => "certificate-signature",
            Self::Expired => "certificate-expired",
            Self::NotYetValid => "certificate-not-yet-valid",
            Self::Revoked => "certificate-revoked",
            Self::GrantsUnsupported => "certificate-grants-unsupported",
        }
    }
}

/// Why this side does not take a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRefusal {
    /// What the other side is told.
    pub fault: CertificateFault,
    /// What this side knows, in words. The other side is not told.
    pub words: String,
}

/// Has the certificate of this peer, and judges those of others.
pub trait Certifier: Send + Sync {
    /// The bytes of this peer's certificate, at most `limits::CERTIFICATE_BYTES_MAX`. Empty where it has none.
    fn own_certificate(&self) -> Vec<u8>;

    /// Unix milliseconds by the clock of this peer. The other side is told, to explain what clocks are about.
    fn now_ms(&self) -> u64;

    /// Whether `peer`, who has proved that it is itself, may have a link with `certificate`, which may be
    /// anything, and is empty if it showed none. Its clock reads `clock_ms`, as it says.
    ///
    /// # Errors
    /// Why not.
    fn judge(
        &self,
        peer: &PeerId,
        certificate: &[u8],
        clock_ms: u64,
    ) -> Result<(), CertificateRefusal>;

    /// What it means that the other side does not take the certificate of this peer, for `fault`, at `their_ms` by its
    /// clock. It may say anything.
    fn explain(&self, fault: CertificateFault, their_ms: u64) -> String;
}

/// The plaintext of a word that refuses a certificate. No proof is that short, and consent is empty.
pub(crate) const REFUSAL_BYTES: usize = 9;

pub(crate) fn encode_refusal(fault: CertificateFault, now_ms: u64) -> [u8; REFUSAL_BYTES] {
    let mut out = [0; REFUSAL_BYTES];
    out[0] = fault.to_byte();
    out[1..].copy_from_slice(&now_ms.to_be_bytes());
    out
}

/// The fault and the clock of who refuses, if `plain` is a refusal.
pub(crate) fn decode_refusal(plain: &[u8]) -> Option<(CertificateFault, u64)> {
    let (fault, time) = plain.split_first()?;
    let time = <[u8; 8]>::try_from(time).ok()?;
    Some((
        CertificateFault::from_byte(*fault)?,
        u64::from_be_bytes(time),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_as_written_and_nothing_else_is() {
        for fault in CertificateFault::ALL {
            let bytes = encode_refusal(fault, 0x0102);
            assert_eq!(decode_refusal(&bytes), Some((fault, 0x0102)));
            assert_eq!(decode_refusal(&bytes[..8]), None);
        }
        assert_eq!(decode_refusal(&[0; REFUSAL_BYTES]), None);
        assert_eq!(decode_refusal(&[13; REFUSAL_BYTES]), None);
        assert_eq!(decode_refusal(&[]), None);
    }

    #[test]
    fn every_mode_has_contexts_of_its_own() {
        let contexts = LinkMode::ALL.map(LinkMode::contexts);
        let mut all: Vec<_> = contexts.iter().flat_map(|(a, b)| [a, b]).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 2 * LinkMode::ALL.len());
    }
}

//! Who a peer is and what it may do, signed by an authority (docs/format/auth.md, "Certificates").

use std::fmt;

use idem_model::{
    DatabaseId, DecodeError, Object, PeerId, Value,
    codec::{Reader, put_bytes},
    decode_object, encode_object, limits,
};

use crate::{
    grants::{GrantError, Grants},
    permit::Permit,
    signed::{AuthorityKey, Domain, Sealed, Signer, is_printable, put_time, read_time},
};

/// Names a certificate: 16 bytes that its issuer draws.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateSerial(pub [u8; 16]);

impl fmt::Display for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateSerial({self})")
    }
}

/// What an authority says of a peer. Times are Unix milliseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// The database in which it counts.
    pub database: DatabaseId,
    /// Its name.
    pub serial: CertificateSerial,
    /// Whom it is about: nobody else can use it.
    pub subject: PeerId,
    /// For which user the peer acts, 1 to [`limits::CERTIFICATE_USER_BYTES_MAX`] bytes without control
    /// characters.
    pub user: String,
    /// When it was signed. Time is at least that late for everybody who sees it.
    pub issued_at_ms: u64,
    /// From when it counts.
    pub not_before_ms: u64,
    /// The last moment at which it counts.
    pub not_after_ms: u64,
    /// What the identity service says of the user, for predicates and for other peers to see. At most
    /// [`limits::CERTIFICATE_CLAIMS_BYTES_MAX`] encoded.
    pub claims: Object,
    /// What it allows.
    pub grants: Grants,
}

/// Why a certificate cannot be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// What it says is out of bounds.
    #[error("the certificate has {0}")]
    Invalid(&'static str),
    /// It is too long.
    #[error("a certificate of {bytes} bytes is over the limit of {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// [`limits::CERTIFICATE_BYTES_MAX`].
        limit: usize,
    },
    /// Its grants could not be used by anybody.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

impl Certificate {
    /// Signs it.
    ///
    /// # Errors
    /// [`CertificateError`] if no peer would take it, or a predicate of it would deny everything.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedCertificate, CertificateError> {
        self.check().map_err(CertificateError::Invalid)?;
        Permit::compile(&self)?;
        let sealed = Sealed::new(Domain::Certificate, self.database, signer, |out| {
            self.encode(out);
        });
        let (bytes, limit) = (sealed.encoded_len(), limits::CERTIFICATE_BYTES_MAX);
        if bytes > limit {
            return Err(CertificateError::TooLong { bytes, limit });
        }
        Ok(SignedCertificate {
            certificate: self,
            sealed,
        })
    }

    /// What is wrong with it, if anything.
    fn check(&self) -> Result<(), &'static str> {
        let times = [self.issued_at_ms, self.not_before_ms, self.not_after_ms];
        if times.iter().any(|time| *time > limits::SIGNED_TIME_MS_MAX) {
            return Err("a time out of bounds");
        }
        if self.not_before_ms > self.not_after_ms || self.issued_at_ms > self.not_after_ms {
            return Err("an end before its beginning");
        }
        if self.user.is_empty() || self.user.len() > limits::CERTIFICATE_USER_BYTES_MAX {
            return Err("a user that is empty or too long");
        }
        if !is_printable(&self.user) {
            return Err("a user with control characters");
        }
        if self.claims.values().any(|claim| !claim.is_finite()) {
            return Err("a claim that is not finite");
        }
        // The object of all claims is a level too.
        let levels = self.claims.values().map(Value::nesting_levels).max();
        if levels.unwrap_or(0) >= limits::CERTIFICATE_CLAIM_LEVELS_MAX {
            return Err("claims that nest too deep");
        }
        let mut encoded = Vec::new();
        encode_object(&self.claims, &mut encoded);
        if encoded.len() > limits::CERTIFICATE_CLAIMS_BYTES_MAX {
            return Err("claims that are too long");
        }
        let accesses = [&self.grants.read, &self.grants.write];
        match accesses.iter().all(|access| access.check().is_ok()) {
            true => Ok(()),
            false => Err("a grant out of bounds"),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.serial.0);
        out.extend(self.subject.0);
        put_bytes(out, self.user.as_bytes());
        put_time(out, self.issued_at_ms);
        put_time(out, self.not_before_ms);
        put_time(out, self.not_after_ms);
        encode_object(&self.claims, out);
        self.grants.encode(out);
    }

    fn decode(database: DatabaseId, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            database,
            serial: CertificateSerial(reader.array()?),
            subject: PeerId(reader.array()?),
            user: reader
                .text("user", limits::CERTIFICATE_USER_BYTES_MAX)?
                .to_owned(),
            issued_at_ms: read_time(reader)?,
            not_before_ms: read_time(reader)?,
            not_after_ms: read_time(reader)?,
            claims: decode_object(reader)?,
            grants: Grants::decode(reader)?,
        })
    }
}

/// A certificate with the signature of its issuer. Whether that holds, and counts, is for
/// [`Trust::judge`](crate::Trust::judge).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedCertificate {
    certificate: Certificate,
    sealed: Sealed,
}

impl SignedCertificate {
    /// Reads [`SignedCertificate::to_bytes`]. Exactly one form of bytes is taken for what a certificate says.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "certificate";
        let (sealed, mut reader) = Sealed::decode(what, bytes, limits::CERTIFICATE_BYTES_MAX)?;
        let certificate = Certificate::decode(sealed.database, &mut reader)?;
        reader.finish()?;
        let invalid = DecodeError::Invalid { what, at: 0 };
        certificate.check().map_err(|_| invalid.clone())?;
        // Whatever a decoder of values may pass, nobody can give a second form to what was signed.
        let mut again = sealed.body[..HEAD_BYTES].to_vec();
        certificate.encode(&mut again);
        match *again == *sealed.body {
            true => Ok(Self {
                certificate,
                sealed,
            }),
            false => Err(invalid),
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.sealed.to_bytes()
    }

    /// What it says, whoever said it.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Who claims to have issued it.
    pub fn issuer(&self) -> AuthorityKey {
        self.sealed.issuer
    }

    /// Whether the issuer that it names signed it. Costs a verification.
    pub fn signature_holds(&self) -> bool {
        self.sealed.holds(Domain::Certificate)
    }
}

/// Version, database, issuer.
const HEAD_BYTES: usize = 1 + 16 + 32;
